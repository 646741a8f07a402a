"""The networks of a table as candidates: what it tells, and what is found out of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import isnan, nan
from typing import TYPE_CHECKING

import numpy as np

from convscale.complexity.calls import ITEM_BYTES
from convscale.errors import ConvscaleError, InputError
from convscale.quantities import Resolution
from convscale.selection.constraints import Constraint
from convscale.selection.error_law import fit_error_law
from convscale.selection.metrics import METRICS, metric
from convscale.selection.objective import NEAR_FLOPS, FlopsStandIn, Objective, TableErrors
from convscale.selection.pool import Pool
from convscale.selection.select import NO_COSTS
from convscale.selection.zoo import ZooColumns, ZooRow
from convscale.study.costed import (
    Conditions,
    Costs,
    check_can_tell,
    costs_of,
    notes_on_times,
    side_of,
)
from convscale.study.trials import Progress
from convscale.study.zoo_selection import Entry, LeftOut

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class TablePlan:
    """What must be known of the rows of a table, and what of it must be found out.

    Args:
        rows: The rows.
        limits: The constraints.
        cost: The quantity that tells what is cheaper, where one was named.
        columns: Which columns hold what.
        law: Whether a law is fitted to the errors.
        how: The conditions.

    Example:
        >>> from convscale.selection.zoo import ZooRow
        >>> rows = (ZooRow(2, "resnet18", values={"params": 11.7e6}),)
        >>> limits = (Constraint("params", 40e6), Constraint("flops", 4e9))
        >>> sorted(TablePlan(rows, limits, None, ZooColumns(), False, Conditions()).wanted)
        ['flops']
    """

    rows: tuple[ZooRow, ...]
    limits: tuple[Constraint, ...]
    cost: str | None
    columns: ZooColumns
    law: bool
    how: Conditions

    @cached_property
    def told(self) -> frozenset[str]:
        """The quantities that the table tells."""
        held = set(self.rows[0].values)
        if self.how.profile is not None:
            explicit = {column.on for column in self.columns.quantities}
            if "latency_ms" in explicit:
                raise InputError(
                    "The latency is in a column and a profile predicts it. Give one of them."
                )
            held -= {"latency_ms", "images_per_second"} - explicit
        if all(row.resolution is not None for row in self.rows):
            held.add("resolution_px")
        if "params" in held:
            held.add("download_bytes")
        return frozenset(held)

    @cached_property
    def needed(self) -> frozenset[str]:
        """The quantities without which nothing can be chosen."""
        held = {limit.on for limit in self.limits}
        held |= {self.cost} if self.cost is not None else set()
        held |= {"flops"} if self.columns.error is None else set()
        held |= {"acts"} if self.law else set()
        if self.how.profile is not None or "latency_ms" in self.told:
            held.add("latency_ms")
        if not (held | self.told) - NO_COSTS:
            held.add("flops")
        return frozenset(held)

    @property
    def wanted(self) -> frozenset[str]:
        """What is to be counted or predicted."""
        return self.needed - self.told

    def values(self, row: ZooRow) -> dict[str, float]:
        """Return what the table tells of a row."""
        found = {name: value for name, value in row.values.items() if name in self.told}
        if row.resolution is not None:
            found["resolution_px"] = side_of(row.resolution)
        if "params" in found and "download_bytes" not in found:
            found["download_bytes"] = found["params"] * ITEM_BYTES[self.how.dtype]
        return found


Candidates = tuple[Pool, list[Entry], Objective, list[LeftOut]]


def candidates_of(
    plan: TablePlan, uncertainty: float | None, progress: Progress | None = None
) -> Candidates:
    """Return the candidates of a table as columns and entries, with the model of their error.

    Args:
        plan: What must be known of them.
        uncertainty: Errors that differ by less are equal.
        progress: Called with networks done and in all.

    Returns:
        The pool, its entries, the model of the error, and what is left out.

    Raises:
        InputError: If something that is needed is not known of any network.

    Example:
        >>> candidates_of.__name__
        'candidates_of'
    """
    check_can_tell(plan.wanted, plan.how)
    entries, costs, left_out = costed_rows(plan, progress)
    pool = _pool(plan, entries, costs)
    objective = _objective(plan, pool, entries, uncertainty)
    if plan.law:
        pool, entries, more = _with_laws(pool, entries, objective)
        left_out += more
    return pool, entries, objective, left_out


def costed_rows(
    plan: TablePlan, progress: Progress | None
) -> tuple[list[Entry], list[Costs], list[LeftOut]]:
    """Return the candidates with what they cost, and those that cannot be any.

    Raises:
        InputError: If none can be a candidate.

    Example:
        >>> costed_rows.__name__
        'costed_rows'
    """
    entries: list[Entry] = []
    costs: list[Costs] = []
    left_out: list[LeftOut] = []
    counted: dict[tuple[str, Resolution | None], Costs] = {}
    for done, row in enumerate(plan.rows, start=1):
        try:
            found = _costs(plan, row, counted)
        except ConvscaleError as error:
            left_out.append(LeftOut(row.line, row.label, error.line))
        else:
            entries.append(Entry(row, found.network, found.resolution, found.notes))
            costs.append(found)
        if progress is not None and plan.wanted:
            progress(done, len(plan.rows))
    if not entries:
        first = left_out[0]
        raise InputError(
            f"No network of the table can be a candidate. Line {first.line}, {first.model}: "
            f"{first.reason}"
        )
    return entries, costs, left_out


def _costs(
    plan: TablePlan, row: ZooRow, counted: dict[tuple[str, Resolution | None], Costs]
) -> Costs:
    """Return what the table and the network tell.

    Raises:
        InputError: If something that is needed is not known.
    """
    if plan.columns.error is not None and not plan.law and isnan(row.error):
        raise InputError(f"It has no {plan.columns.error}.")
    values = plan.values(row)
    for name in sorted(plan.needed & plan.told):
        if isnan(values.get(name, nan)):
            raise InputError(f"The table does not tell its {metric(name).title}.")
    if not plan.wanted:
        return Costs(row.model, row.resolution, values)
    key = (row.model, row.resolution)
    if key not in counted:
        counted[key] = costs_of(row.model, row.resolution, plan.wanted, plan.how)
    found = counted[key]
    missing = sorted(plan.wanted - set(found.values))
    if missing:
        raise InputError(f"Its {metric(missing[0]).title} is not known.")
    bounds = {name: value for name, value in found.bounds.items() if name not in plan.told}
    return replace(found, values={**found.values, **values}, bounds=bounds)


def _pool(plan: TablePlan, entries: Sequence[Entry], costs: Sequence[Costs]) -> Pool:
    names = [one.name for one in METRICS if any(one.name in own.values for own in costs)]
    rows = [entry.row for entry in entries if entry.row is not None]
    bounds = {name for own in costs for name in own.bounds} if plan.how.confidence > 0.5 else set()
    return Pool(
        tuple(row.label for row in rows),
        tuple(row.series for row in rows),
        {name: np.array([own.values.get(name, nan) for own in costs]) for name in names},
        {name: np.array([own.bounds[name] for own in costs]) for name in sorted(bounds)},
        plan.how.confidence,
    )


def _objective(
    plan: TablePlan, pool: Pool, entries: Sequence[Entry], uncertainty: float | None
) -> Objective:
    name = plan.columns.error
    if name is None:
        return FlopsStandIn(NEAR_FLOPS if uncertainty is None else uncertainty)
    errors = tuple(entry.row.error for entry in entries if entry.row is not None)
    if plan.law:
        return fit_error_law(pool, errors, name=name)
    return TableErrors(name, errors, uncertainty or 0.0)


def _with_laws(
    pool: Pool, entries: list[Entry], objective: Objective
) -> tuple[Pool, list[Entry], list[LeftOut]]:
    """Leave out the candidates of series that no error is known of."""
    known = ~np.isnan(objective.estimate(pool).error)
    left_out = [
        LeftOut(
            entry.row.line,
            entry.row.label,
            f"No {objective.name} of its series {entry.row.series!r} is known.",
        )
        for entry, held in zip(entries, known, strict=True)
        if not held and entry.row is not None
    ]
    kept = [int(at) for at in np.flatnonzero(known)]
    return pool.only(kept), [entries[at] for at in kept], left_out


def notes_of_table(chosen: Entry, how: Conditions, left_out: Sequence[LeftOut]) -> tuple[str, ...]:
    """Return what there is to mind about a choice from a table.

    Example:
        >>> notes_of_table(Entry(None, "resnet18", 224), Conditions(), [])
        ()
    """
    return (*chosen.notes, *notes_on_times(how), *note_on_left_out(left_out))


def note_on_left_out(left_out: Sequence[LeftOut]) -> tuple[str, ...]:
    """Say how many networks of a table are left out, and why the first is.

    Example:
        >>> note_on_left_out([LeftOut(7, "mynet", "it has no top1_err.")])
        ('1 network is left out, the first in line 7, mynet: it has no top1_err.',)
    """
    if not left_out:
        return ()
    first = left_out[0]
    many = "network is" if len(left_out) == 1 else "networks are"
    return (
        f"{len(left_out)} {many} left out, the first in line {first.line}, {first.model}: "
        f"{first.reason}",
    )
