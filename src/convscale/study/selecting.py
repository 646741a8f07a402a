"""Choose a network from a table, or among scaled versions: count, predict, select with reasons."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import isnan, nan
from pathlib import Path
from typing import TYPE_CHECKING, Unpack, cast

import numpy as np

from convscale.complexity.calls import ITEM_BYTES
from convscale.errors import ConvscaleError, InputError
from convscale.prediction.profile import Profile
from convscale.prediction.store import ProfileLike, profile_of
from convscale.quantities import Resolution, check_count, check_positive
from convscale.selection.budgets import parse_budgets
from convscale.selection.confidence import check_confidence, one_sided
from convscale.selection.constraints import Constraint, parse_constraint
from convscale.selection.error_law import fit_error_law
from convscale.selection.metrics import METRICS, metric
from convscale.selection.objective import NEAR_FLOPS, FlopsStandIn, Objective, TableErrors
from convscale.selection.pool import Pool
from convscale.selection.select import NO_COSTS
from convscale.selection.select import select as select_from
from convscale.selection.series import ordered_budgets
from convscale.selection.series import select_series as series_from
from convscale.selection.zoo import ZooColumns, ZooRow, read_zoo
from convscale.study.asked import Asked, Limit, SelectOptions
from convscale.study.costed import (
    Conditions,
    Costs,
    check_can_tell,
    costs_of,
    notes_on_times,
    side_of,
)
from convscale.study.network_series import NetworkSeries
from convscale.study.scaled_source import Source
from convscale.study.schedules import Training, schedule_of, training_of
from convscale.study.searched_series import search_series
from convscale.study.searching import Space, search_networks
from convscale.study.trial_law import law_of_trials
from convscale.study.trials import Progress
from convscale.study.zoo_selection import Entry, LeftOut, ZooSelection

if TYPE_CHECKING:
    from convscale.network import NetworkLike
    from convscale.strategy import Strategy


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
    request = _requested(
        networks,
        table=table,
        limits=limits,
        error=error,
        law=law,
        uncertainty=uncertainty,
        profile=profile,
        batch_size=batch_size,
        confidence=confidence,
        cost=cost,
        columns=columns,
        dtype=dtype,
        optimizer=optimizer,
        precision=precision,
        train_profile=train_profile,
        images=images,
        epochs=epochs,
        devices=devices,
        train_batch_size=train_batch_size,
        efficiency=efficiency,
        power_w=power_w,
        strategies=strategies,
        exponents=exponents,
        candidates=candidates,
        factors=factors,
        resolution=resolution,
        rounding=rounding,
        num_classes=num_classes,
        in_chans=in_chans,
        progress=progress,
    )
    if not request.bases:
        return _from_table(request)
    errors, notes, needs = _errors_of_bases(request)
    return search_networks(
        request.bases,
        request.limits,
        request.how,
        request.space,
        errors,
        cost=request.cost,
        progress=progress,
        notes=notes,
        needs=needs,
    )


def select_series(
    networks: NetworkLike | Sequence[NetworkLike] | None = None,
    *,
    budgets: str | Sequence[Limit],
    **options: Unpack[SelectOptions],
) -> NetworkSeries:
    """Choose a series of networks, one for each budget, from one base and one strategy.

    The strategy is that whose networks have the least mean error over the budgets; where flops
    stand in for accuracy, the largest geometric mean of flops. Beside each network stands what a
    strategy of its own for that budget would gain.

    Args:
        networks: One or several networks whose scaled versions are the candidates.
        budgets: Limits of one quantity: "2ms,5ms,12ms", "flops=1G,2G", or a list of such.
        options: As `select` takes them; the limits hold for each network.

    Raises:
        BudgetError: If no network keeps a budget, or no strategy has one for each.
        InputError: If a value cannot be used, or what is needed is not known.

    Example:
        >>> found = select_series("RegNetY-4.0GF", budgets="flops=2G,8G", candidates=200)
        >>> [member.resolution for member in found.members], len(found.commands)
        ([224, 224], 2)
    """
    request = _requested(networks, **options)
    ordered = tuple(ordered_budgets(parse_budgets(budgets), request.limits))
    if not request.bases:
        return _series_of_table(request, ordered)
    errors, notes, needs = _errors_of_bases(request)
    return search_series(
        request.bases,
        request.limits,
        ordered,
        request.how,
        request.space,
        errors,
        cost=request.cost,
        progress=request.progress,
        notes=notes,
        needs=needs,
    )


@dataclass(frozen=True)
class _Request:
    """What was asked for, checked."""

    bases: tuple[NetworkLike, ...]
    table: str | Path | None
    limits: tuple[Constraint, ...]
    columns: ZooColumns
    law: bool
    uncertainty: float | None
    how: Conditions
    cost: str | None
    space: Space
    progress: Progress | None

    def plan(self, *budgets: Constraint) -> _Plan:
        """Return what must be known of the table that holds the candidates."""
        assert self.table is not None
        rows = read_zoo(Path(self.table), self.columns)
        limits = (*self.limits, *budgets)
        return _Plan(rows, limits, self.cost, self.columns, self.law, self.how)


def _requested(
    networks: NetworkLike | Sequence[NetworkLike] | None, **options: Unpack[SelectOptions]
) -> _Request:
    """Read and check what was asked for.

    Raises:
        InputError: If a value cannot be used, or what is needed is not known.
    """
    ask = Asked(**options)
    limits = [parse_constraint(one) if isinstance(one, str) else one for one in ask.limits]
    bases = tuple(_networks(networks))
    _check_errors(bases, ask.table, ask.error, ask.law, ask.uncertainty)
    if ask.uncertainty:
        check_positive(ask.uncertainty, what="uncertainty")
    own = None if ask.profile is None else profile_of(ask.profile)
    training = training_of(
        ask.train_profile,
        ask.images,
        ask.epochs,
        devices=ask.devices,
        batch_size=ask.train_batch_size,
        efficiency=ask.efficiency,
        power_w=ask.power_w,
    )
    space = Space(
        None if ask.strategies is None else tuple(ask.strategies),
        ask.exponents,
        ask.candidates,
        ask.factors,
        ask.resolution,
        ask.rounding,
        ask.num_classes,
        ask.in_chans,
    )
    if not bases and space != Space():
        raise InputError(
            "Strategies, factors and the like say which scaled versions are candidates. Name the "
            "networks that are scaled, or leave them out."
        )
    how = _conditions(
        own, ask.batch_size, ask.confidence, ask.dtype, ask.optimizer, ask.precision, training
    )
    return _Request(
        bases,
        ask.table,
        tuple(limits),
        replace(ask.columns or ZooColumns(), error=ask.error),
        ask.law,
        ask.uncertainty,
        how,
        None if ask.cost is None else metric(ask.cost).name,
        space,
        ask.progress,
    )


def _errors_of_bases(
    request: _Request,
) -> tuple[Callable[[Sequence[Source]], Objective], tuple[str, ...], frozenset[str]]:
    """Return what makes the model of the error of scaled versions, notes on it, and its needs."""
    if request.table is None:
        flops = FlopsStandIn(NEAR_FLOPS if request.uncertainty is None else request.uncertainty)
        return lambda _: flops, (), frozenset()
    counting = replace(request.how, profile=None, confidence=0.5, schedule=None)
    asked = replace(request, limits=(), cost=None, law=True, how=counting)
    trials, costs, left_out = _costed(asked.plan(), request.progress)
    assert request.columns.error is not None
    law = law_of_trials(trials, costs, request.columns.error, several=len(request.bases) > 1)
    return law, _left_out(left_out), frozenset(("acts",))


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


def _from_table(request: _Request) -> ZooSelection:
    """Choose from the networks of a table."""
    how = request.how
    pool, entries, objective, left_out = _candidates(request, request.plan())
    found = select_from(pool, objective, request.limits, cost=request.cost)
    return ZooSelection(
        str(request.table),
        found,
        tuple(entries),
        tuple(left_out),
        None if how.profile is None else how.profile.name,
        how.batch_size,
        _notes(entries[found.chosen], how, left_out),
        train_profile=None if how.schedule is None else how.schedule.profile.name,
    )


def _series_of_table(request: _Request, budgets: tuple[Constraint, ...]) -> NetworkSeries:
    """Choose from a table a network for each budget, all of one of its series if it has some."""
    how = request.how
    pool, entries, objective, left_out = _candidates(request, request.plan(budgets[0]))
    lines: dict[str, list[int]] = {}
    for at, name in enumerate(pool.series):
        if name:
            lines.setdefault(name, []).append(at)
    choice = series_from(pool, objective, request.limits, budgets, lines, cost=request.cost)
    members = [entries[at] for at in choice.places]
    alone = (
        "No series of the table has a network for each budget: each is chosen by itself."
        if lines and choice.chosen is None
        else ""
    )
    notes = [note for one in members for note in _notes(one, how, left_out)]
    return NetworkSeries(
        str(request.table),
        choice,
        tuple(entries),
        tuple(members),
        tuple((line, tuple(entries[at] for at in line.places)) for line in choice.others),
        tuple(left_out),
        None if how.profile is None else how.profile.name,
        how.batch_size,
        tuple(dict.fromkeys([*([alone] if alone else []), *notes])),
        train_profile=None if how.schedule is None else how.schedule.profile.name,
    )


def _candidates(
    request: _Request, plan: _Plan
) -> tuple[Pool, list[Entry], Objective, list[LeftOut]]:
    """Return the candidates of a table, with the model of their error."""
    check_can_tell(plan.wanted, plan.how)
    entries, costs, left_out = _costed(plan, request.progress)
    pool = _pool(plan, entries, costs)
    objective = _objective(plan, pool, entries, request.uncertainty)
    if plan.law:
        pool, entries, more = _with_laws(pool, entries, objective)
        left_out += more
    return pool, entries, objective, left_out


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
