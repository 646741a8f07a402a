"""Measure the best series on this machine, interleaved, and choose by what was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from convscale.errors import BudgetError, ConvscaleError
from convscale.runtime import Measurement, Outcome, Setting, check_setting
from convscale.selection.constraints import Constraint
from convscale.selection.series import Line, equals
from convscale.study.correction import Correction
from convscale.study.finalists import key_of
from convscale.study.finals import Finals
from convscale.study.measured import Finalist
from convscale.study.measured_choice import (
    SPARE,
    measured,
    missed_limits,
    network_of,
    setting_of,
    subject_of,
)
from convscale.study.measuring_notes import measuring_notes
from convscale.study.network_series import MeasuredLine, MeasuredSeries, NetworkSeries
from convscale.study.request import Request
from convscale.study.trials import Progress
from convscale.study.zoo_selection import Entry

_BATCHES = 3  # how often series are looked for, if none keeps all budgets

ChooseSeries = Callable[[Correction], NetworkSeries]


def choose_measured_series(
    choose: ChooseSeries,
    request: Request,
) -> NetworkSeries:
    """Measure the networks of the best series, and take the best that keeps all budgets so.

    Of series that are equal within the uncertainty that with the fastest networks is taken. Where
    none keeps all budgets, predictions are corrected by what was measured for each budget, and
    others are tried.

    Args:
        choose: Makes the choice with predicted times corrected.
        request: What was asked for, with how many series are measured, and how.

    Raises:
        BudgetError: If no series that was measured keeps all budgets.
        InputError: If none can be built and run.
    """
    finals, borrowed, limits = request.finals, request.borrowed, request.limits
    assert finals is not None
    setting, note = setting_of(request.how, finals, borrowed)
    check_setting(setting)
    correction, nearest = Correction(), ""
    for _ in range(_BATCHES):
        try:
            found = choose(correction)
        except BudgetError as error:
            raise BudgetError(f"{nearest} {error.line}".strip()) from error
        lines = list(_candidates(found))[: finals.count]
        entries = [one for _, own in lines for one in own]
        outcomes = _outcomes(entries, setting, finals, request.progress)
        told = [_line(found, one, own, outcomes, limits, correction) for one, own in lines]
        row = _decided(found, lines, told)
        if row is not None:
            by = tuple(_ratio(one, correction) for one in told[row].members)
            notes = (*_on_budgets(found, by), *_notes(told, limits, note, finals))
            batch = request.how.batch_size
            known = MeasuredSeries(tuple(told), row, batch, by, notes, borrowed)
            return _taken(found, lines[row], known)
        nearest = _nearest(told)
        learned = [one for one in told[0].members if one is not None and one.ratio is not None]
        if not any(one.missed for one in learned):
            break
        correction = Correction.of(_taken_to_be(one, correction) for one in learned)
    raise BudgetError(nearest)


def _ratio(one: Finalist | None, correction: Correction) -> float:
    """Return by what the prediction of a network was multiplied when it was looked for."""
    known = None if one is None else one.predicted_ms
    return 1.0 if known is None else float(correction.ratio(known))


def _taken_to_be(one: Finalist, before: Correction) -> tuple[float, float]:
    """Return what must be predicted of a network in its place, and what that is taken to be.

    It was found because it was taken to keep the budget: what takes its place is taken to be as
    long, by its own ratio. Where it missed the budget, that is what was measured and some spare;
    where it kept it no more than before.
    """
    predicted, ratio = one.predicted_ms, one.ratio
    assert predicted is not None
    assert ratio is not None
    known = _ratio(one, before)
    by = SPARE * max(ratio, known) if one.missed else min(SPARE * ratio, known)
    taken = known * predicted
    return taken / by, taken


def _on_budgets(found: NetworkSeries, ratios: Sequence[float]) -> Iterator[str]:
    """Say by what predictions were corrected for each budget."""
    if all(one == 1 for one in ratios):
        return
    own = zip(found.choice.budgets, ratios, strict=True)
    told = ", ".join(f"{ratio:.3g} for {one.metric.show(one.limit)}" for one, ratio in own)
    yield (
        "No series kept all budgets at first: predictions were multiplied by what was measured "
        f"for each budget ({told}), and the next ones were measured."
    )


def _candidates(found: NetworkSeries) -> Iterator[tuple[Line | None, tuple[Entry, ...]]]:
    """Yield the chosen series and the best of others; what is chosen one by one is one, too."""
    yield found.choice.chosen, found.members
    yield from found.others


def _outcomes(
    entries: Sequence[Entry], setting: Setting, finals: Finals, progress: Progress | None
) -> dict[object, Outcome | str]:
    """Measure each network once, together; by its key the outcome, or why it was not built."""
    known: dict[object, Outcome | str] = {}
    subjects = {}
    for key, entry in {key_of(one): one for one in entries}.items():
        try:
            subjects[key] = subject_of(network_of(entry), entry.network)
        except ConvscaleError as error:
            known[key] = f"{entry.network}: {error.line}"
    outcomes = measured(list(subjects.values()), setting, finals, progress) if subjects else []
    return {**known, **dict(zip(subjects, outcomes, strict=True))}


def _line(
    found: NetworkSeries,
    line: Line | None,
    entries: Sequence[Entry],
    outcomes: dict[object, Outcome | str],
    limits: Sequence[Constraint],
    correction: Correction,
) -> MeasuredLine:
    choice = found.choice
    places = choice.places if line is None else line.places
    made: list[Finalist | None] = []
    for at, (place, entry) in enumerate(zip(places, entries, strict=True)):
        own, outcome = choice.own[at], outcomes[key_of(entry)]
        if isinstance(outcome, str):
            made.append(None)
            continue
        times = own.pool.values.get("latency_ms")
        given = np.nan if times is None else float(times[place])
        known = None if np.isnan(given) else correction.predicted(given)
        held = (*limits, choice.budgets[at])
        missed = missed_limits(outcome, held) if isinstance(outcome, Measurement) else ()
        shown = own.objective.show(float(own.estimate.error[place]))
        made.append(Finalist(entry, shown, known, outcome, missed))
    why = [outcome for outcome in outcomes.values() if isinstance(outcome, str)]
    return MeasuredLine("" if line is None else line.name, tuple(made), tuple(why))


def _decided(
    found: NetworkSeries,
    lines: Sequence[tuple[Line | None, tuple[Entry, ...]]],
    told: Sequence[MeasuredLine],
) -> int | None:
    """Return which series is taken; None where none keeps all budgets."""
    fits = [at for at, one in enumerate(told) if one.fits]
    if not fits:
        return None
    own = found.choice.own[0]
    known = {at: line for at in fits for line in [lines[at][0]] if line is not None}
    if not known:
        return fits[0]
    best = min(known.values(), key=lambda one: (one.error, one.name))
    equal = [at for at, line in known.items() if line is best or equals(line, best, own)]
    return min(equal, key=lambda at: (told[at].mean_log_ms, known[at].error, known[at].name))


def _taken(
    found: NetworkSeries, taken: tuple[Line | None, tuple[Entry, ...]], known: MeasuredSeries
) -> NetworkSeries:
    """Return the series that was chosen by measuring in the place of that by prediction."""
    line, members = taken
    choice = found.choice
    if line is None or choice.chosen is None or line is choice.chosen:
        return replace(found, measured=known)
    others = [(choice.chosen, found.members), *found.others]
    others = [one for one in others if one[0] is not line]
    chosen = replace(choice, chosen=line, others=tuple(one for one, _ in others))
    return replace(found, choice=chosen, members=members, others=tuple(others), measured=known)


def _notes(
    told: Sequence[MeasuredLine],
    limits: Sequence[Constraint],
    note: str | None,
    finals: Finals,
) -> tuple[str, ...]:
    batch = [one for line in told for one in line.members if one is not None]
    skipped = list(dict.fromkeys(why for line in told for why in line.failed))
    own = measuring_notes(batch, limits, note, skipped, 1.0, finals.rounds)
    return tuple(dict.fromkeys(own))


def _nearest(told: Sequence[MeasuredLine]) -> str:
    """Say that no series keeps all budgets, and what the first of them misses."""
    first = told[0]
    many = "the series that was" if len(told) == 1 else f"the {len(told)} series that were"
    missed = [
        f"{one.entry.network}: {'; '.join(one.missed) or one.outcome.failed}"
        for one in first.members
        if one is not None and not one.fits
    ]
    why = "; ".join([*missed, *first.failed])
    which = f"Of {first.name} these do not" if first.name else "These do not"
    return f"None of {many} measured keeps all budgets. {which}: {why}."
