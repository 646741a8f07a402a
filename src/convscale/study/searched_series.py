"""Choose a series of scaled networks: search for all budgets, select, build what was chosen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import log

from convscale.errors import BudgetError, ConvscaleError
from convscale.selection.constraints import Constraint
from convscale.selection.rays import margin
from convscale.selection.series import SeriesChoice, select_series
from convscale.strategy import Step
from convscale.study.costed import notes_on_times
from convscale.study.network_series import NetworkSeries
from convscale.study.request import Request
from convscale.study.scaled_source import Found
from convscale.study.searching import (
    ErrorModel,
    checked_version,
    none_found,
    note_on_strategies,
    pool_of,
    searches_of,
    strategies_left_out,
)
from convscale.study.series_search import SeriesSearch
from convscale.study.space import options_of
from convscale.study.trials import Progress
from convscale.study.zoo_selection import Entry, LeftOut, ScaledVersion

_FAR = log(1.5)  # beyond the loosest limit


def search_series(
    request: Request, budgets: Sequence[Constraint], errors: ErrorModel
) -> NetworkSeries:
    """Choose the best series of networks that one base and one strategy give, a network a budget.

    Args:
        request: What was asked for; each network must keep its limits.
        budgets: The budgets, the tightest first.
        errors: What tells the errors of candidates.

    Raises:
        BudgetError: If no candidate keeps a budget, or no strategy has a network for each.
        InputError: If something is wrong or missing.
        UnscalableNetworkError: If no network can be scaled.
    """
    given, progress = request.limits, request.progress
    loosest = replace(request, limits=(*given, budgets[-1]), progress=None)
    searches = [
        SeriesSearch(one.source, replace(one.question, limits=given), tuple(budgets))
        for one in searches_of(loosest, errors)
    ]
    total = sum(one.total for one in searches)
    before = 0
    for one in searches:
        one.report = _shared(progress, before, total)
        one.run()
        before += one.total
    if progress is not None:
        progress(total, total)
    return _chosen(searches, request, errors.notes)


def _shared(progress: Progress | None, before: int, total: int) -> Progress | None:
    if progress is None:
        return None
    return lambda done, _: progress(before + done, total)


@dataclass(frozen=True)
class _Row:
    """A candidate, and the base that it is scaled from."""

    search: SeriesSearch
    found: Found

    def entry(self, options: tuple[str, ...]) -> Entry:
        own = self.found
        scaled = ScaledVersion(self.search.source, own.ask, options)
        return Entry(None, own.label, own.resolution, own.notes, scaled)


def _chosen(
    searches: Sequence[SeriesSearch], request: Request, notes: tuple[str, ...]
) -> NetworkSeries:
    """Select from all that was found, and build the networks: each must count as planned."""
    how, options = request.how, options_of(request.space)
    question, budgets = searches[0].question, searches[0].budgets
    left_out = strategies_left_out([one for own in searches for one in own.searches])
    refused: set[tuple[str, object]] = set()
    while True:
        rows = _rows(searches, refused)
        if not rows:
            raise none_found(left_out)
        several = len(searches) > 1
        pool = pool_of([one.found for one in rows], how, [_series(one, several) for one in rows])
        lines = _lines(searches, rows)
        choice = select_series(
            pool,
            question.objective,
            question.limits,
            budgets,
            {name: list(own) for name, own in lines.items()},
            cost=question.cost,
        )
        choice = _of_names(choice, searches)
        members = _members(choice, lines)
        wrong = _wrong([*members, *(rows[own.chosen] for own in choice.own)])
        if wrong is None:
            break
        row, said = wrong
        left_out.append(LeftOut(None, row.found.label, said))
        refused.add((row.search.source.name, row.found.key))
    told = [note for one in members for note in one.search.source.notes(one.found)]
    return NetworkSeries(
        None,
        choice,
        tuple(one.entry(options) for one in rows),
        tuple(one.entry(options) for one in members),
        tuple(
            (line, tuple(lines[line.name][at].entry(options) for at in line.places))
            for line in choice.others
        ),
        tuple(left_out),
        None if how.profile is None else how.profile.name,
        how.batch_size,
        tuple(dict.fromkeys([*notes, *notes_on_times(how), *told, *note_on_strategies(left_out)])),
        bases=tuple(one.source.name for one in searches),
        train_profile=None if how.schedule is None else how.schedule.profile.name,
    )


def _rows(searches: Sequence[SeriesSearch], refused: set[tuple[str, object]]) -> list[_Row]:
    """Return the candidates: all that does not miss the loosest budget by far."""
    rows = [
        _Row(one, found)
        for one in searches
        for key, found in one.found.items()
        if (one.source.name, key) not in refused
    ]
    loosest = (*searches[0].question.limits, searches[0].budgets[-1])
    near = [row for row in rows if margin(loosest, row.found.held) <= _FAR]
    return near or rows


def _series(row: _Row, several: bool) -> str:
    series = row.found.ask.series
    return f"{row.search.source.name} {series}" if several else series


def _lines(searches: Sequence[SeriesSearch], rows: Sequence[_Row]) -> dict[str, dict[int, _Row]]:
    """Return by strategy the places of its candidates, with each as the strategy names it.

    The base is on the line of every strategy that takes a factor: it is that of 1.
    """
    places = {(row.search.source.name, row.found.key): at for at, row in enumerate(rows)}
    lines: dict[str, dict[int, _Row]] = {}
    for search in searches:
        base, known = search.source.name, search.lines
        first = known.pop("base", {})
        known = known or {"base": first}  # where no strategy gave anything
        for name, own in known.items():
            steps = any(isinstance(one.ask.strategy, Step) for one in own.values())
            whole = own if steps else {**own, **first}
            lines[f"{base} {name}" if len(searches) > 1 else name] = {
                places[base, key]: _Row(search, one)
                for key, one in whole.items()
                if (base, key) in places
            }
    return lines


def _of_names(choice: SeriesChoice, searches: Sequence[SeriesSearch]) -> SeriesChoice:
    """Leave the exponents that have no name to the chosen series and the best of the others.

    Most of them were not tried for all budgets.

    Raises:
        BudgetError: If no strategy has a network for each budget.
    """
    named = {
        f"{own.source.name} {name}" if len(searches) > 1 else name
        for own in searches
        for name in [
            *own.question.series,
            *(one.name.partition("@")[0] for one in own.question.strategies),
        ]
    }
    lacking = tuple(one for one in choice.lacking if one[0] in named)
    if choice.chosen is None:
        count = len(choice.budgets)
        said = "; ".join(f"{name} for {held} of {count}" for name, held in lacking[:5])
        raise BudgetError(
            f"Each budget can be kept, but no strategy has a network for all {count} of them: "
            f"{said}. Try other strategies, or budgets that are nearer to each other."
        )
    others = tuple(one for at, one in enumerate(choice.others) if at == 0 or one.name in named)
    return replace(choice, others=others, lacking=lacking)


def _members(choice: SeriesChoice, lines: dict[str, dict[int, _Row]]) -> list[_Row]:
    assert choice.chosen is not None
    own = lines[choice.chosen.name]
    return [own[at] for at in choice.places]


def _wrong(rows: Sequence[_Row]) -> tuple[_Row, str] | None:
    """Build networks; return the first that is not what was planned, and why."""
    return next(_failures(rows), None)


def _failures(rows: Sequence[_Row]) -> Iterator[tuple[_Row, str]]:
    for row in {(one.search.source.name, one.found.key): one for one in rows}.values():
        try:
            checked_version(row.found, row.search.source)
        except ConvscaleError as error:
            yield row, error.line
