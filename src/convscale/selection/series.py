"""One strategy with a network a budget: the series that is best as a whole. No torch here.

Of each strategy, or line, the networks are taken that have the least error at each budget, so that
a larger budget never has fewer flops. The line with the least mean error over the budgets is the
best. Lines whose errors are at no budget worse than the best one's by the uncertainty equal it, and
that with the cheapest networks is chosen; these are at each budget the cheapest that equal its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from convscale.errors import BudgetError, InputError
from convscale.selection.constraints import Constraint, Floats
from convscale.selection.objective import Objective
from convscale.selection.pool import Pool
from convscale.selection.rays import limits_size
from convscale.selection.rising import rising_path
from convscale.selection.select import Selection, select

_NO_BUDGETS = frozenset(("resolution_px", "width_multiple"))
_SIZES = ("flops", "params", "acts")  # the first that is known tells which network is larger


@dataclass(frozen=True)
class Line:
    """The networks of one strategy, one for each budget.

    Args:
        name: The strategy, or the series of a table.
        places: For each budget the place of its candidate.
        error: The mean of their errors.
        cost: The mean of the logarithms of their costs.

    Example:
        >>> Line("dWr", (3, 7), 20.5, 1.2).places
        (3, 7)
    """

    name: str
    places: tuple[int, ...]
    error: float
    cost: float


@dataclass(frozen=True)
class SeriesChoice:
    """The series of one line, and for each budget what would be chosen for it alone.

    Args:
        budgets: The budgets, the tightest first.
        own: For each budget the choice among all candidates.
        chosen: The series; None where no line has a network for each budget.
        others: The best series of each other line, the best first.
        equal: How many lines are at no budget worse than the best by the uncertainty.
        lacking: Lines without a network for some budget, with how many budgets they have one for.
        tried: How many lines have a network for each budget.
    """

    budgets: tuple[Constraint, ...]
    own: tuple[Selection, ...]
    chosen: Line | None
    others: tuple[Line, ...] = ()
    equal: int = 1
    lacking: tuple[tuple[str, int], ...] = ()
    tried: int = 1

    @property
    def places(self) -> tuple[int, ...]:
        """Return for each budget the place of its network: of the series, or each by itself."""
        if self.chosen is None:
            return tuple(own.chosen for own in self.own)
        return self.chosen.places

    def gain(self, at: int) -> float:
        """Return how much less the error is if a budget has a strategy of its own."""
        own = self.own[at]
        return float(own.estimate.error[self.places[at]] - own.estimate.error[own.chosen])

    def same(self, at: int) -> bool:
        """Tell whether the gain at a budget is less than the uncertainty."""
        own, place = self.own[at], self.places[at]
        least = float(own.estimate.margin(own.chosen)[place])
        return place == own.chosen or abs(self.gain(at)) < least

    def cost_ratio(self, at: int) -> float:
        """Return the cost of a budget's own choice over that of its network in the series."""
        costs = self.own[at].costs()
        return float(costs[self.own[at].chosen] / costs[self.places[at]])


def ordered_budgets(
    budgets: Sequence[Constraint], others: Sequence[Constraint]
) -> list[Constraint]:
    """Return budgets, the tightest first, each once.

    Args:
        budgets: Limits of one quantity.
        others: The constraints that hold beside each of them.

    Raises:
        InputError: If they are none, of several quantities, limit no size, or are limited twice.

    Example:
        >>> from convscale.selection.constraints import parse_constraint
        >>> found = ordered_budgets([Constraint("flops", 2e9), Constraint("flops", 1e9)], [])
        >>> [str(one) for one in found]
        ['flops<=1000000000', 'flops<=2000000000']
    """
    if not budgets:
        raise InputError("The list of budgets is empty. Write at least one, as in 2ms,5ms.")
    kinds = list(dict.fromkeys((one.on, one.sense) for one in budgets))
    if len(kinds) > 1:
        named = " and ".join(dict.fromkeys(one.metric.title for one in budgets))
        raise InputError(
            f"The budgets are on {named}. Write budgets of one quantity, and limit others by their "
            "own constraints."
        )
    first = budgets[0]
    if first.on in _NO_BUDGETS or not limits_size(first):
        raise InputError(
            f"The {first.metric.title} is no budget: {first.sentence} does not limit what a "
            "network costs. Use latency, flops, params, acts, memory or another."
        )
    twice = next((one for one in others if one.on == first.on and limits_size(one)), None)
    if twice is not None:
        raise InputError(
            f"The {first.metric.title} is limited twice: by the budgets, and by {twice}. Leave one "
            "of them out."
        )
    once = list(dict.fromkeys(budgets))
    return sorted(once, key=lambda one: one.limit, reverse=first.sense == ">=")


def select_series(
    pool: Pool,
    objective: Objective,
    constraints: Sequence[Constraint],
    budgets: Sequence[Constraint],
    lines: Mapping[str, Sequence[int]],
    *,
    cost: str | None = None,
) -> SeriesChoice:
    """Choose the line that has the best networks for all budgets, and a network for each alone.

    Args:
        pool: The candidates.
        objective: The model of the error.
        constraints: What each network must keep.
        budgets: Limits of one quantity, each for one network of the series.
        lines: By strategy the places of its candidates; one may be on several lines.
        cost: The quantity that tells what is cheaper.

    Raises:
        BudgetError: If no candidate keeps one of the budgets.
        InputError: If a value that is needed is not known.

    Example:
        >>> from convscale.selection.objective import FlopsStandIn
        >>> values = {"flops": np.array([1.0, 2.0, 0.9, 2.1]), "acts": np.array([1.0, 2.0] * 2)}
        >>> pool = Pool(tuple("abcd"), ("",) * 4, values)
        >>> limits = [Constraint("acts", 1.0), Constraint("acts", 2.0)]
        >>> lines = {"w": [0, 1], "d": [2, 3]}
        >>> found = select_series(pool, FlopsStandIn(0.001), [], limits, lines)
        >>> found.chosen.name, found.places, [one.label for one in found.own]
        ('w', (0, 1), ['a', 'd'])
    """
    ordered = ordered_budgets(budgets, constraints)
    own = [_own(pool, objective, constraints, one, len(ordered), cost) for one in ordered]
    fits = np.stack([one.fits for one in own])
    sizes = _sizes(pool, ordered[0])
    best: dict[str, Line] = {}
    lacking: list[tuple[str, int]] = []
    for name, places in lines.items():
        at = np.asarray(places, dtype=np.intp)
        path = _path(own[0], at, fits[:, at], sizes[at], by_error=True)
        if path is None:
            lacking.append((name, int(fits[:, at].any(axis=1).sum())))
        else:
            best[name] = _line(name, path, own[0])
    ranked = sorted(best.values(), key=lambda one: (one.error, one.cost, one.name))
    lacking.sort(key=lambda one: (-one[1], one[0]))
    if not ranked:
        return SeriesChoice(tuple(ordered), tuple(own), None, lacking=tuple(lacking))
    equal = [one for one in ranked if equals(one, ranked[0], own[0])]
    cheap = [_cheapest(one, ranked[0], lines[one.name], own[0], fits, sizes) for one in equal]
    chosen = min(cheap, key=lambda one: (one.cost, one.error, one.name))
    return SeriesChoice(
        tuple(ordered),
        tuple(own),
        chosen,
        tuple(one for one in ranked if one.name != chosen.name),
        len(equal),
        tuple(lacking),
        len(ranked),
    )


def _own(
    pool: Pool,
    objective: Objective,
    constraints: Sequence[Constraint],
    budget: Constraint,
    of: int,
    cost: str | None,
) -> Selection:
    try:
        return select(pool, objective, [*constraints, budget], cost=cost)
    except BudgetError as error:
        which = f"The budget of {budget.sentence} cannot be kept: " if of > 1 else ""
        raise BudgetError(f"{which}{error.line}") from error


def _sizes(pool: Pool, budget: Constraint) -> Floats:
    """Return what tells which network is larger: flops, where they are known."""
    for name in _SIZES:
        own = pool.values.get(name)
        if own is not None and not np.isnan(own).any():
            return own
    held = pool.held(budget)
    return -held if budget.metric.at_least else held


def _logs(own: Selection) -> Floats:
    return np.asarray(np.log(np.maximum(own.costs(), np.finfo(float).tiny)))


def _path(
    own: Selection,
    at: np.ndarray[tuple[int], np.dtype[np.intp]],
    allowed: np.ndarray[tuple[int, ...], np.dtype[np.bool_]],
    sizes: Floats,
    *,
    by_error: bool,
) -> tuple[int, ...] | None:
    """Return the places of the best path along a line, or of the cheapest one."""
    if not len(at):
        return None
    error, cost = own.estimate.error[at], _logs(own)[at]
    first, second = (error, cost) if by_error else (cost, error)
    names = np.array(own.pool.labels, dtype=np.str_)[at]
    path = rising_path(allowed, first, second, sizes, names)
    return None if path is None else tuple(int(at[one]) for one in path)


def _line(name: str, path: tuple[int, ...], own: Selection) -> Line:
    places = list(path)
    error, cost = own.estimate.error[places], _logs(own)[places]
    return Line(name, path, float(error.mean()), float(cost.mean()))


def equals(line: Line, best: Line, own: Selection) -> bool:
    """Tell whether a line equals the best one: at no budget is it worse by the uncertainty.

    Args:
        line: The line.
        best: The best one.
        own: The choice of any budget, for the errors and their uncertainty.

    Example:
        >>> callable(equals)
        True
    """
    error = own.estimate.error
    pairs = zip(line.places, best.places, strict=True)
    return all(
        error[place] <= error[first]
        or error[place] - error[first] < own.estimate.margin(first)[place]
        for place, first in pairs
    )


def _cheapest(
    line: Line,
    best: Line,
    places: Sequence[int],
    own: Selection,
    fits: np.ndarray[tuple[int, ...], np.dtype[np.bool_]],
    sizes: Floats,
) -> Line:
    """Return the cheapest networks of a line that equal those of the best one."""
    at = np.asarray(places, dtype=np.intp)
    error = own.estimate.error
    allowed = fits[:, at].copy()
    for row, first in enumerate(best.places):
        worse = error[at] - error[first]
        allowed[row] &= (worse < own.estimate.margin(first)[at]) | (worse <= 0)
    path = _path(own, at, allowed, sizes[at], by_error=False)
    assert path is not None  # its own best path is one
    return _line(line.name, path, own)
