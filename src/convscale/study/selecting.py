"""Choose a network from a table, or among scaled versions: count, predict, select with reasons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import isnan, nan
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from convscale.complexity.calls import ITEM_BYTES
from convscale.errors import ConvscaleError, InputError
from convscale.prediction.profile import Profile
from convscale.prediction.store import ProfileLike, profile_of
from convscale.quantities import Resolution, check_count, check_positive
from convscale.selection.confidence import check_confidence, one_sided
from convscale.selection.constraints import Constraint, parse_constraint
from convscale.selection.error_law import fit_error_law
from convscale.selection.metrics import METRICS, metric
from convscale.selection.objective import NEAR_FLOPS, FlopsStandIn, Objective, TableErrors
from convscale.selection.pool import Pool
from convscale.selection.select import NO_COSTS
from convscale.selection.select import select as select_from
from convscale.selection.zoo import ZooColumns, ZooRow, read_zoo
from convscale.study.costed import (
    Conditions,
    Costs,
    check_can_tell,
    costs_of,
    notes_on_times,
    side_of,
)
from convscale.study.schedules import Training, schedule_of, training_of
from convscale.study.searching import Space, search_networks
from convscale.study.trial_law import law_of_trials
from convscale.study.trials import Progress
from convscale.study.zoo_selection import Entry, LeftOut, ZooSelection

if TYPE_CHECKING:
    from convscale.network import NetworkLike
    from convscale.strategy import Strategy

Limit = Constraint | str


def select(
    networks: NetworkLike | Sequence[NetworkLike] | None = None,
    *,
    table: str | Path | None = None,
    limits: Sequence[Limit] = (),
    error: str | None = None,
    law: bool = False,
    uncertainty: float | None = None,
    profile: ProfileLike | None = None,
    batch_size: int = 1,
    confidence: float | None = None,
    cost: str | None = None,
    columns: ZooColumns | None = None,
    dtype: str = "float32",
    optimizer: str = "sgd",
    precision: str | None = None,
    train_profile: ProfileLike | None = None,
    images: int | None = None,
    epochs: int | None = None,
    devices: int | None = None,
    train_batch_size: int | None = None,
    efficiency: float | None = None,
    power_w: float | None = None,
    strategies: Sequence[str | Strategy] | None = None,
    exponents: bool | None = None,
    candidates: int | None = None,
    factors: tuple[float, float] | None = None,
    resolution: Resolution | None = None,
    rounding: str | None = None,
    num_classes: int | None = None,
    in_chans: int | None = None,
    progress: Progress | None = None,
) -> ZooSelection:
    r"""Choose among scaled versions of networks, or from a table, the best one under constraints.

    Scaled versions are searched over all strategies, exponents between them, and factors. What a
    table does not tell is counted by the networks' names, each once, or predicted.

    Args:
        networks: One or several networks whose scaled versions are the candidates.
        table: A CSV file with a network a line: the candidates, or beside networks the trials that
            a law is fitted to.
        limits: Constraints, such as "latency<=5ms" or "params<=40M".
        error: The column with the errors; without it flops stand in for accuracy.
        law: Whether a law of acts is fitted to the errors, for each series.
        uncertainty: Errors that differ by less are equal; of flops, a share.
        profile: Predicts latency and throughput.
        batch_size: Images in a pass.
        confidence: The probability with which predicted times are kept; 0.5 by default.
        cost: The quantity that tells what is cheaper; by default latency, where it is known.
        columns: Which columns hold what.
        dtype: Of the weights, for the download size.
        optimizer: sgd or adamw, for the memory of training.
        precision: Of the memory, as `memory` takes it.
        train_profile: A profile of training, for training time and energy.
        images: Images of one epoch of that training.
        epochs: How often all are seen.
        devices: Devices that train together; 1 by default.
        train_batch_size: Images on each device in a step; 256, or the nearest that was seen.
        efficiency: What is left of a device's speed beside the others; 1 by default.
        power_w: Power of each device (W), for the energy.
        strategies: Those that are tried, by name; all of the registry by default.
        exponents: Whether exponents between them are tried too; by default if none are named.
        candidates: The most that are tried from a network; by default 200 of one that is traced
            and 10,000 of a paper family.
        factors: The least and the most scale factor.
        resolution: The networks' input side in px before they are scaled.
        rounding: As `scale` takes it; reference by default for paper families.
        num_classes: Classes of networks made from a name.
        in_chans: Input channels of networks made from a name.
        progress: Called with networks done and in all.

    Raises:
        BudgetError: If no network keeps every constraint.
        InputError: If the table cannot be read, or what is needed is not known.

    Example:
        >>> found = select("RegNetY-4.0GF", limits=["flops<=8G", "params<=40M"])
        >>> chosen = found.found.pool.values["flops"][found.found.chosen]
        >>> bool(7.5e9 < chosen <= 8e9)
        True
    """
    given = [parse_constraint(one) if isinstance(one, str) else one for one in limits]
    asked = replace(columns or ZooColumns(), error=error)
    bases = _networks(networks)
    _check_errors(bases, table, error, law, uncertainty)
    if uncertainty:
        uncertainty = check_positive(uncertainty, what="uncertainty")
    own = None if profile is None else profile_of(profile)
    training = training_of(
        train_profile,
        images,
        epochs,
        devices=devices,
        batch_size=train_batch_size,
        efficiency=efficiency,
        power_w=power_w,
    )
    space = Space(
        None if strategies is None else tuple(strategies),
        exponents,
        candidates,
        factors,
        resolution,
        rounding,
        num_classes,
        in_chans,
    )
    how = _conditions(own, batch_size, confidence, dtype, optimizer, precision, training)
    name = None if cost is None else metric(cost).name
    if not bases:
        assert table is not None
        if space != Space():
            raise InputError(
                "Strategies, factors and the like say which scaled versions are candidates. Name "
                "the networks that are scaled, or leave them out."
            )
        plan = _Plan(read_zoo(Path(table), asked), tuple(given), name, asked, law, how)
        return _from_table(plan, str(table), uncertainty, progress)
    if table is None:
        flops = FlopsStandIn(NEAR_FLOPS if uncertainty is None else uncertainty)
        return search_networks(
            bases, given, how, space, lambda _: flops, cost=name, progress=progress
        )
    assert error is not None
    counting = replace(how, profile=None, confidence=0.5, schedule=None)
    plan = _Plan(read_zoo(Path(table), asked), (), None, asked, True, counting)
    trials, costs, left_out = _costed(plan, progress)
    return search_networks(
        bases,
        given,
        how,
        space,
        law_of_trials(trials, costs, error, several=len(bases) > 1),
        cost=name,
        progress=progress,
        notes=_left_out(left_out),
        needs=frozenset(("acts",)),
    )


def _networks(networks: NetworkLike | Sequence[NetworkLike] | None) -> list[NetworkLike]:
    if networks is None:
        return []
    if isinstance(networks, list | tuple):
        return list(networks)
    return [cast("NetworkLike", networks)]


def _check_errors(
    bases: Sequence[object],
    table: object,
    error: str | None,
    law: bool,
    uncertainty: float | None,
) -> None:
    """Refuse what does not say what the errors of the candidates are."""
    if not bases and table is None:
        raise InputError(
            "Nothing to choose from was given. Name the networks whose scaled versions are "
            "candidates, or a table of networks: --table models.csv."
        )
    if bases and table is None and (error is not None or law):
        raise InputError(
            "Errors are those of a table. Name the one that holds the trials: --table trials.csv."
        )
    if bases and table is not None and not law:
        raise InputError(
            "Networks and a table were given: the errors of the table are those of its own "
            "networks. Fit a law to them for scaled ones by --law, or leave out one of both."
        )
    if error is None and law:
        raise InputError("A law is fitted to errors. Name the column that holds them: --error.")
    if uncertainty is not None and law:
        raise InputError("A law tells its own uncertainty. Leave --uncertainty or --law out.")


def _from_table(
    plan: _Plan, table: str, uncertainty: float | None, progress: Progress | None
) -> ZooSelection:
    """Choose from the networks of a table."""
    how = plan.how
    check_can_tell(plan.wanted, how)
    entries, costs, left_out = _costed(plan, progress)
    pool = _pool(plan, entries, costs)
    objective = _objective(plan, pool, entries, uncertainty)
    if plan.law:
        pool, entries, more = _with_laws(pool, entries, objective)
        left_out += more
    found = select_from(pool, objective, plan.limits, cost=plan.cost)
    notes = _notes(entries[found.chosen], how, left_out)
    profile = None if how.profile is None else how.profile.name
    return ZooSelection(
        table,
        found,
        tuple(entries),
        tuple(left_out),
        profile,
        how.batch_size,
        notes,
        train_profile=None if how.schedule is None else how.schedule.profile.name,
    )


def _conditions(
    profile: Profile | None,
    batch_size: int,
    confidence: float | None,
    dtype: str,
    optimizer: str,
    precision: str | None,
    training: Training | None,
) -> Conditions:
    from convscale.complexity.memory import MemoryBudget
    from convscale.scaling.memory import check_budget

    check_budget(MemoryBudget(1, check_count(batch_size, what="batch size"), optimizer, precision))
    if dtype not in ITEM_BYTES:
        raise InputError(f"Unknown dtype {dtype!r}. Use {', '.join(ITEM_BYTES)}.")
    schedule = None if training is None else schedule_of(training)
    if confidence is not None and profile is None and schedule is None:
        raise InputError(
            "A confidence is that of predicted times. Give a profile that predicts them, or leave "
            "the confidence out."
        )
    level = check_confidence(0.5 if confidence is None else confidence)
    for one in (profile, None if schedule is None else schedule.profile):
        if one is not None:
            one_sided(one, level)  # refused before networks are counted
    return Conditions(profile, batch_size, level, dtype, optimizer, precision, schedule)


@dataclass(frozen=True)
class _Plan:
    """What must be known of the rows of a table, and what of it must be found out."""

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


def _costed(
    plan: _Plan, progress: Progress | None
) -> tuple[list[Entry], list[Costs], list[LeftOut]]:
    """Return the candidates with what they cost, and those that cannot be any."""
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


def _costs(plan: _Plan, row: ZooRow, counted: dict[tuple[str, Resolution | None], Costs]) -> Costs:
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


def _pool(plan: _Plan, entries: Sequence[Entry], costs: Sequence[Costs]) -> Pool:
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
    plan: _Plan, pool: Pool, entries: Sequence[Entry], uncertainty: float | None
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


def _notes(chosen: Entry, how: Conditions, left_out: Sequence[LeftOut]) -> tuple[str, ...]:
    return (*chosen.notes, *notes_on_times(how), *_left_out(left_out))


def _left_out(left_out: Sequence[LeftOut]) -> tuple[str, ...]:
    """Say how many networks of a table are left out, and why the first is."""
    if not left_out:
        return ()
    first = left_out[0]
    many = "network is" if len(left_out) == 1 else "networks are"
    return (
        f"{len(left_out)} {many} left out, the first in line {first.line}, {first.model}: "
        f"{first.reason}",
    )
