"""Choose a network from a table, or among scaled versions: count, predict, select with reasons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Unpack

from convscale.selection.budgets import parse_budgets
from convscale.selection.constraints import Constraint
from convscale.selection.objective import NEAR_FLOPS, FlopsStandIn
from convscale.selection.select import select as select_from
from convscale.selection.series import ordered_budgets
from convscale.selection.series import select_series as series_from
from convscale.study.asked import Limit, SelectOptions, spelled_out
from convscale.study.borrowed import with_profile
from convscale.study.correction import Correction
from convscale.study.measured_choice import Choose, choose_measured
from convscale.study.measured_series import ChooseSeries, choose_measured_series
from convscale.study.network_series import NetworkSeries
from convscale.study.request import Request, requested
from convscale.study.searched_series import search_series
from convscale.study.searching import ErrorModel, search_networks
from convscale.study.table_candidates import (
    Candidates,
    candidates_of,
    costed_rows,
    note_on_left_out,
    notes_of_table,
)
from convscale.study.trial_law import law_of_trials, notes_on_trials
from convscale.study.zoo_selection import ZooSelection

if TYPE_CHECKING:
    from convscale.network import NetworkLike


@spelled_out
def select(
    networks: NetworkLike | Sequence[NetworkLike] | None = None,
    **options: Unpack[SelectOptions],
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
        columns: Which columns hold what, as in {"latency": "step:s", "series": "family"}.
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
        measure: How many finalists are measured on this machine, which decides; none by default.
        device: Where they are measured: cpu (the default), cuda or mps.
        threads: Threads of the processor, for measuring.
        rounds: Visits to each finalist; 15 by default.
        time_limit_s: Stop measuring after this time, but not before three rounds; 75 by default.

    Raises:
        BudgetError: If no network keeps every constraint.
        InputError: If the table cannot be read, or what is needed is not known.

    Example:
        >>> found = select("RegNetY-4.0GF", limits=["flops<=8G", "params<=40M"])
        >>> chosen = found.found.pool.values["flops"][found.found.chosen]
        >>> bool(7.5e9 < chosen <= 8e9)
        True
    """
    request = with_profile(requested(networks, **options))
    choose = _choosing(request)
    return choose(1.0) if request.finals is None else choose_measured(choose, request)


@spelled_out
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
        >>> len(found.members), len(found.commands)
        (2, 2)
    """
    request = requested(networks, **options)
    ordered = tuple(ordered_budgets(parse_budgets(budgets), request.limits))
    request = with_profile(request, ordered)
    choose = _choosing_series(request, ordered)
    if request.finals is None:
        return choose(Correction())
    return choose_measured_series(choose, request)


def _choosing_series(request: Request, budgets: tuple[Constraint, ...]) -> ChooseSeries:
    """Return what chooses a series with predicted times corrected."""
    if not request.bases:
        candidates = candidates_of(request.plan(budgets[0]), request.uncertainty, request.progress)
        return lambda by: _series_of_table(request, budgets, _slower(candidates, by))
    errors = _errors_of_bases(request)
    return lambda by: search_series(_corrected(request, by), budgets, errors)


def _choosing(request: Request) -> Choose:
    """Return what chooses with predicted times multiplied by a number."""
    if not request.bases:
        plan = request.plan()
        candidates = candidates_of(plan, request.uncertainty, request.progress)
        return lambda ratio: _from_table(request, _slower(candidates, Correction.by(ratio)))
    errors = _errors_of_bases(request)
    return lambda ratio: search_networks(_corrected(request, Correction.by(ratio)), errors)


def _corrected(request: Request, correction: Correction) -> Request:
    """Return a request by which latencies are taken to be what a correction says."""
    return replace(request, how=replace(request.how, correction=correction))


def _slower(candidates: Candidates, correction: Correction) -> Candidates:
    """Return candidates of which all latencies are what a correction says."""
    pool, entries, objective, left_out = candidates
    if "latency_ms" not in pool.values:
        return candidates
    ratio = correction.ratio(pool.values["latency_ms"])
    by = {"latency_ms": ratio, "images_per_second": 1 / ratio}
    values, bounds = (
        {name: column * by.get(name, 1.0) for name, column in columns.items()}
        for columns in (pool.values, pool.bounds)
    )
    return replace(pool, values=values, bounds=bounds), entries, objective, left_out


def _errors_of_bases(request: Request) -> ErrorModel:
    """Return what makes the model of the error of scaled versions."""
    if request.table is None:
        flops = FlopsStandIn(NEAR_FLOPS if request.uncertainty is None else request.uncertainty)
        return ErrorModel(lambda _: flops)
    counting = replace(request.how, profile=None, confidence=0.5, schedule=None)
    asked = replace(request, limits=(), cost=None, law=True, how=counting)
    trials, costs, left_out = costed_rows(asked.plan(), request.progress)
    assert request.columns.error is not None
    law = law_of_trials(trials, costs, request.columns.error, several=len(request.bases) > 1)
    own = notes_on_trials(trials, request.columns.error, request.bases)
    return ErrorModel(law, (*own, *note_on_left_out(left_out)), frozenset(("acts",)))


def _from_table(request: Request, candidates: Candidates) -> ZooSelection:
    """Choose from the networks of a table."""
    how = request.how
    pool, entries, objective, left_out = candidates
    found = select_from(pool, objective, request.limits, cost=request.cost)
    return ZooSelection(
        str(request.table),
        found,
        tuple(entries),
        tuple(left_out),
        None if how.profile is None else how.profile.name,
        how.batch_size,
        notes_of_table(entries[found.chosen], how, left_out),
        train_profile=None if how.schedule is None else how.schedule.profile.name,
    )


def _series_of_table(
    request: Request, budgets: tuple[Constraint, ...], candidates: Candidates
) -> NetworkSeries:
    """Choose from a table a network for each budget, all of one of its series if it has some."""
    how = request.how
    pool, entries, objective, left_out = candidates
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
    notes = [note for one in members for note in notes_of_table(one, how, left_out)]
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
