"""Search the scaled versions of a base network for those at which constraints bind.

First the strategies that have a name, then a coarse lattice of exponents, then what lies around
the best: along each, factors are tried until the constraints bind. All that was tried is a
candidate. The order is fixed, so that the same question has the same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, inf, isnan, log, nan

import numpy as np

from convscale.errors import BudgetError
from convscale.selection.constraints import Constraint
from convscale.selection.lattice import Exponents, around, exponents_of, lattice
from convscale.selection.objective import Objective
from convscale.selection.pool import Pool
from convscale.selection.rays import Ray, margin
from convscale.selection.select import select
from convscale.strategy import Step, Strategy, parse_strategy
from convscale.study.scaled_source import Ask, Failed, Found, Missed, Source

EXPONENTS = "exponents"  # the series of what no name stands for
_DENSE = (-0.06, -0.04, -0.02, -0.01, 0.01, 0.02, 0.04)
_FRONT = tuple(-0.2 * step for step in range(1, 11))  # where many candidates cost nothing
_STEPS = (5, 2, 1)  # of the exponents around the best, in parts of 40
_MANY = 2000  # candidates from which on a lattice is fine, and the front is filled
_ROUNDED = 1.4  # how far rounding may take flops from what they should be
_MOST, _DEAR = 7, 4  # factors along a strategy, and where each depth takes a run
_FREE = 12  # where many candidates cost nothing
_FIRST = log(64.0)  # a factor that is not begun beyond
_FROM_FAR = 9  # factors along a strategy that is begun where another budget's networks point to
_ENTRIES = (0.25, 1.3)  # flops of a table's entries beside the most that fit

Report = Callable[[int, int], None]
Place = tuple[Strategy, float, str]  # a strategy, the logarithm of a factor, and the series
PoolOf = Callable[[Sequence[Found]], Pool]


@dataclass(frozen=True)
class Question:
    """What a search is to find.

    Args:
        limits: The constraints.
        strategies: The strategies that have a name.
        series: The names of those that are series of their own.
        exponents: Whether exponents between them are tried too.
        objective: The model of the error.
        pool_of: Makes candidates of what was found.
        cost: What tells the cheaper.
        candidates: The most candidates; what is usual for the base by default.
        factors: The least and the most factor.
    """

    limits: tuple[Constraint, ...]
    strategies: tuple[Strategy, ...]
    series: frozenset[str]
    exponents: bool
    objective: Objective
    pool_of: PoolOf
    cost: str | None = None
    candidates: int | None = None
    factors: tuple[float, float] = (1 / 256, 256.0)


@dataclass
class Search:
    """One search, from one base.

    Args:
        source: The base.
        question: What is to be found.
        report: Called with candidates found and the most there will be.
        starts: By strategy the logarithm of the factor to begin with, where it is known.
    """

    source: Source
    question: Question
    report: Report | None = None
    starts: Mapping[str, float] = field(default_factory=dict)
    found: dict[Hashable, Found] = field(default_factory=dict)
    asked: dict[str, dict[Hashable, Found]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    _rays: dict[str, tuple[Strategy, Ray]] = field(default_factory=dict)
    _margin: float = 0.0

    def run(self) -> None:
        """Try what there is to try."""
        base = self._ask([Ask(None)])
        self._margin = base[0] or 0.0
        self._follow([(one, nan, self.series_of(one)) for one in self._named()])
        self._entries([one for one in self.question.strategies if isinstance(one, Step)])
        if self.question.exponents:
            self._explore()
        self._around(self.best(16 if self._many else 4), _DENSE)
        if self._many:
            ends = [
                (one, ray.low[0] if ray.low else ray.start, self.series_of(one))
                for one, ray in self._rays.values()
            ]
            self._around(ends, _FRONT)

    def _named(self) -> list[Strategy]:
        """Return the strategies to follow: where each depth takes a run, no mere points of α."""
        dear = "d" not in self.source.between
        return [
            one
            for one in self.question.strategies
            if not isinstance(one, Step)
            and not (dear and one.depth and self.series_of(one) == EXPONENTS)
        ]

    @property
    def most(self) -> int:
        """The most candidates."""
        asked = self.question.candidates
        return self.source.usual if asked is None else asked

    @property
    def _many(self) -> bool:
        return self.most >= _MANY

    def _left(self) -> int:
        return self.most - len(self.found)

    def series_of(self, strategy: Strategy) -> str:
        """Return the series that what is scaled by a strategy is of."""
        return strategy.name if strategy.name in self.question.series else EXPONENTS

    # ---- asking --------------------------------------------------------------------------------

    def _ask(
        self, asks: Sequence[Ask], flops: tuple[float, float] = (0.0, inf)
    ) -> list[float | None]:
        """Ask for networks; return their margins, None for those that cannot be made."""
        margins: list[float | None] = []
        for answer in self.source.answers(asks[: max(self._left(), 0)], flops=flops):
            name = answer.ask.strategy.name if answer.ask.strategy else ""
            if isinstance(answer, Found):
                self.found.setdefault(answer.key, answer)
                self.asked.setdefault(name, {}).setdefault(answer.key, answer)
                margins.append(self._over(answer))
            elif isinstance(answer, Missed):
                margins.append(answer.margin)
            else:
                assert isinstance(answer, Failed)
                self.failed.setdefault(name, answer.reason)
                margins.append(None)
        if self.report is not None:
            self.report(len(self.found), self.most)
        return margins

    def _over(self, found: Found) -> float:
        return margin(self.question.limits, found.held)

    def _around(self, places: Sequence[Place], steps: Sequence[float]) -> None:
        """Try factors around places, all of them at once."""
        low, high = self.question.factors
        asks = {
            (strategy.name, factor): Ask(strategy, factor, series)
            for strategy, at, series in places
            for factor in (rounded(exp(at + step)) for step in steps)
            if low <= factor <= high
        }
        self._ask(list(asks.values()))

    # ---- along strategies ----------------------------------------------------------------------

    def _follow(self, places: Sequence[Place]) -> None:
        """Try factors along strategies until constraints bind, all of them side by side.

        Args:
            places: Strategies with the logarithms of the factors to begin with, NaN where the
                base tells, and their series.
        """
        rays = {one.name: (one, series, self._ray(one, at)) for one, at, series in places}
        while rays and self._left() > 0:
            steps = {name: ray.next() for name, (_, _, ray) in rays.items()}
            for name, at in steps.items():
                if at is None:
                    strategy, _, ray = rays.pop(name)
                    self._rays[name] = (strategy, ray)
            asks = [
                Ask(strategy, rounded(exp(steps[name] or 0.0)), series)
                for name, (strategy, series, _) in rays.items()
            ]
            for ask, over in zip(asks, self._ask(asks), strict=False):
                assert ask.strategy is not None
                assert ask.factor is not None
                strategy, series, ray = rays[ask.strategy.name]
                at = log(ask.factor)
                ray = ray.without(at) if over is None else ray.with_margin(at, over)
                rays[strategy.name] = (strategy, series, ray)
        self._rays |= {name: (strategy, ray) for name, (strategy, _, ray) in rays.items()}

    def _ray(self, strategy: Strategy, start: float) -> Ray:
        """Return the ray of a strategy, which begins at the base or where one like it ended."""
        low, high = (log(s) for s in self.question.factors)
        slope = min(max(0.5 + strategy.growth.acts / 2, 0.3), 1.0)
        if isnan(start) and strategy.name in self.starts:
            begun = self.starts[strategy.name]
            return Ray(floor=low, ceiling=high, slope=slope, start=begun, most=_FROM_FAR)
        dear = strategy.depth > 0 and "d" not in self.source.between
        if isnan(start):
            start = min(-self._margin / slope, _FIRST)
            most = _DEAR if dear else _FREE if self._many else _MOST
            return Ray(floor=low, ceiling=high, slope=slope, start=start, most=most)
        return Ray(floor=low, ceiling=high, slope=slope, start=start, most=5)

    def _entries(self, entries: Sequence[Step]) -> None:
        """Try the entries of tables that come near the largest network that fits.

        All of them where no strategy was followed, which tells how large it may be.
        """
        fitting = [
            one.values["flops"]
            for one in self.found.values()
            if self._rays and self._over(one) <= 0
        ]
        most = max(fitting, default=inf)
        ends = (_ENTRIES[0] * most, _ENTRIES[1] * most) if fitting else (0.0, inf)
        base = next((one for one in self.found.values() if one.ask.strategy is None), None)
        low, high = self.question.factors
        asks = [
            Ask(one, None, one.name.partition("@")[0])
            for one in entries
            if low <= one.scale <= high
            if base is None or _may_lie(base.values["flops"] * one.scale, ends)
        ]
        self._ask(asks, flops=ends)

    # ---- exponents -----------------------------------------------------------------------------

    def _explore(self) -> None:
        """Try a lattice of exponents, and then finer and finer what lies around the best."""
        axes = self.source.between
        coarse = axes if self._many else axes - {"g"}
        self._follow(list(self._new(lattice(10 if self._many else 4, axes=coarse), nan)))
        self._refine(_STEPS)

    def _refine(self, steps: Sequence[int]) -> None:
        """Try what lies around the best, in finer and finer steps of the exponents."""
        axes = self.source.between
        for step in steps:
            near: dict[str, Place] = {}
            for strategy, at, _ in self.best(12 if self._many else 3):
                if strategy.depth and "d" not in axes:
                    continue
                point = exponents_of(strategy, follows=self.source.follows)
                for place in self._new(around(point, step, axes=axes), at):
                    near.setdefault(place[0].name, place)
            self._follow(list(near.values()))

    def _new(self, points: Iterator[Exponents], start: float) -> Iterator[Place]:
        """Yield the strategies of points that were not tried before."""
        follows = self.source.follows
        known = {exponents_of(one, follows=follows) for one, _ in self._rays.values()}
        for point in points:
            if point not in known:
                known.add(point)
                yield parse_strategy(point.notation(follows=follows)), start, EXPONENTS

    def best(self, count: int) -> list[Place]:
        """Return the strategies of the best candidates, with the logarithms of their factors."""
        found = list(self.found.values())
        if not found:
            return []
        chosen: dict[str, Place] = {}
        for at in self._ranked(found):
            ask = found[at].ask
            if ask.strategy is None or isinstance(ask.strategy, Step) or ask.factor is None:
                continue
            chosen.setdefault(ask.strategy.name, (ask.strategy, log(ask.factor), ask.series))
            if len(chosen) == count:
                break
        return list(chosen.values())

    def _ranked(self, found: Sequence[Found]) -> list[int]:
        """Return places, the best first: what would be chosen, its equals, and then by error."""
        pool, question = self.question.pool_of(found), self.question
        try:
            choice = select(pool, question.objective, question.limits, cost=question.cost)
        except BudgetError:
            most = pool.violations(question.limits).max(axis=0)
            return [int(at) for at in np.argsort(most, kind="stable")]
        error = choice.estimate.error
        rest = sorted(np.flatnonzero(choice.fits), key=lambda at: (error[at], pool.labels[at]))
        return list(dict.fromkeys([*choice.equal, *map(int, rest)]))


def _may_lie(nominal: float, ends: tuple[float, float]) -> bool:
    """Tell whether what should have some flops may lie between ends, as far as rounding goes."""
    return ends[0] / _ROUNDED <= nominal <= ends[1] * _ROUNDED


def rounded(factor: float) -> float:
    """Return a factor to four digits, as names of candidates write it.

    Example:
        >>> rounded(3.141592)
        3.142
    """
    return float(f"{factor:.4g}")
