"""Search scaled versions for several budgets at once: what one tells is where the others begin.

One budget is searched wholly. Another begins with the strategies that have a name and the best
that were tried, at the factors where what is known of them keeps it. At last the best strategies
of each budget are followed to all others, so that each can give a series.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import log, nan

from convscale.selection.constraints import Constraint
from convscale.selection.rays import margin
from convscale.strategy import Step
from convscale.study.scaled_source import Ask, Found, Source
from convscale.study.search import Place, Question, Search
from convscale.study.trials import Progress

_STEPS = (2, 1)  # of the exponents around the best, in parts of 40
_DENSE = (-0.06, -0.04, -0.02, -0.01, 0.01, 0.02, 0.04)
_FIRST = log(64.0)  # a factor that is not begun beyond
_LEAST = 0.05  # a slope that tells where to begin

Lines = Mapping[str, Mapping[Hashable, Found]]


@dataclass
class Further(Search):
    """A search for another budget, which begins with strategies that were tried before.

    Args:
        places: The strategies, with their series.
        limit: The most candidates.
        fine: Whether tables, and what lies around the best, are tried too.

    Example:
        >>> Further.__name__
        'Further'
    """

    places: Sequence[Place] = ()
    limit: int = 1
    fine: bool = True

    @property
    def most(self) -> int:
        """The most candidates."""
        return self.limit

    def run(self) -> None:
        """Follow the strategies, and try what lies around the best."""
        self._margin = self._ask([Ask(None)])[0] or 0.0
        self._follow(self.places)
        if not self.fine:
            self.dense(self.places)
            return
        self._entries([one for one in self.question.strategies if isinstance(one, Step)])
        if self.question.exponents:
            self._refine(_STEPS)
        self.dense(self.best(16 if self._many else 4))

    def dense(self, places: Sequence[Place]) -> None:
        """Try factors close to where the rays of strategies ended."""
        ends = [
            (one, ray.low[0] if ray.low else at, series)
            for one, at, series in places
            if one.name in self._rays
            for ray in [self._rays[one.name][1]]
        ]
        self._around(ends, _DENSE)


@dataclass
class SeriesSearch:
    """The searches of one base: for each budget, and to complete the best strategies.

    Args:
        source: The base.
        question: What is to be found, with the constraints that all networks keep.
        budgets: The budgets, the tightest first.
        report: Called with candidates found and the most there will be.
        searches: The searches that have run.

    Example:
        >>> SeriesSearch.__name__
        'SeriesSearch'
    """

    source: Source
    question: Question
    budgets: tuple[Constraint, ...]
    report: Progress | None = None
    searches: list[Search] = field(default_factory=list)

    @property
    def most(self) -> int:
        """The most candidates of the first search: of the others half, and a quarter at the end."""
        asked = self.question.candidates
        return self.source.usual if asked is None else asked

    @property
    def total(self) -> int:
        """The most candidates of all searches."""
        count = len(self.budgets)
        return self.most + (count - 1) * self._part(2) + (count > 1) * count * self._part(4)

    @property
    def lines(self) -> dict[str, dict[Hashable, Found]]:
        """By strategy what was found along it, as it is named there; a table is one strategy."""
        found: dict[str, dict[Hashable, Found]] = {}
        for search in self.searches:
            for own in search.asked.values():
                for key, one in own.items():
                    found.setdefault(line_of(one.ask), {}).setdefault(key, one)
        return found

    @property
    def found(self) -> dict[Hashable, Found]:
        """What was found, each network once."""
        found: dict[Hashable, Found] = {}
        for search in self.searches:
            for key, one in search.found.items():
                found.setdefault(key, one)
        return found

    def run(self) -> None:
        """Search for all budgets, and then complete the best strategies."""
        middle = len(self.budgets) // 2
        self._ran(Search(self._source(middle), self._asked(middle)))
        order = sorted(range(len(self.budgets)), key=lambda at: (abs(at - middle), at))
        for at in order[1:]:
            places = [*self._named(), *self._best()]
            self._ran(self._further(at, places, self._part(2)))
        if len(self.budgets) > 1:
            self._complete()

    def _complete(self) -> None:
        """Follow the best strategies of each budget to all budgets."""
        best = {place[0].name: place for place in self._best()}
        places = [(one, nan, series) for one, _, series in best.values()]
        for at in range(len(self.budgets)):
            self._ran(self._further(at, places, self._part(4), fine=False))

    def _part(self, of: int) -> int:
        return max(self.most // of, 1)

    def _source(self, at: int) -> Source:
        return self.source.under((*self.question.limits, self.budgets[at]))

    def _asked(self, at: int) -> Question:
        return replace(self.question, limits=(*self.question.limits, self.budgets[at]))

    def _ran(self, search: Search) -> None:
        before = sum(len(one.found) for one in self.searches)
        if self.report is not None:
            report, total = self.report, self.total
            search.report = lambda done, _: report(before + done, total)
        search.run()
        self.searches.append(search)

    def _further(
        self, at: int, places: Sequence[Place], limit: int, *, fine: bool = True
    ) -> Further:
        question = self._asked(at)
        starts = starts_of(self.lines, question.limits)
        known = {place[0].name: (place[0], nan, place[2]) for place in places}
        return Further(
            self._source(at),
            question,
            starts=starts,
            places=list(known.values()),
            limit=limit,
            fine=fine,
        )

    def _named(self) -> list[Place]:
        named = [one for one in self.question.strategies if not isinstance(one, Step)]
        first = self.searches[0]
        return [(one, nan, first.series_of(one)) for one in named]

    def _best(self) -> list[Place]:
        """Return the best strategies of each budget, those of all budgets by turns."""
        count = 12 if self.most >= 2000 else 4
        ranked = [one.best(count) for one in self.searches[: len(self.budgets)]]
        return [places[at] for at in range(count) for places in ranked if at < len(places)]


def line_of(ask: Ask) -> str:
    """Return the name of the strategy that a scaled version is of; all entries of a table share it.

    Example:
        >>> line_of(Ask(None))
        'base'
    """
    if ask.strategy is None or isinstance(ask.strategy, Step):
        return ask.series
    return ask.strategy.name


def starts_of(lines: Lines, limits: Sequence[Constraint]) -> dict[str, float]:
    """Return by strategy the logarithm of the factor at which limits bind, where two points tell.

    Args:
        lines: By strategy what was found along it.
        limits: The limits.

    Example:
        >>> from convscale.strategy import parse_strategy
        >>> w = parse_strategy("w")
        >>> own = {s: Found(Ask(w, s), "", s, 8, {"flops": 1e9 * s}) for s in (1.0, 2.0)}
        >>> round(starts_of({"w": own}, [Constraint("flops", 4e9)])["w"], 3) == round(log(4), 3)
        True
    """
    return {name: at for name, own in lines.items() for at in _start(own.values(), limits)}


def _start(found: Iterable[Found], limits: Sequence[Constraint]) -> Iterator[float]:
    """Yield where a line through the two points nearest to the limits meets them."""
    points = [
        (abs(over), log(one.ask.factor), over)
        for one in found
        if one.ask.factor is not None
        for over in [margin(limits, one.held)]
    ]
    points.sort()
    if len(points) < 2:
        return
    _, at, over = points[0]
    for _, other, beyond in points[1:]:
        slope = (beyond - over) / (other - at) if abs(other - at) > 1e-6 else 0.0
        if slope > _LEAST:
            yield min(max(at - over / slope, -_FIRST), _FIRST)
            return
