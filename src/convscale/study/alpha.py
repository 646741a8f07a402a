"""What the share of width is worth: fast compound scaling at several α, under the same limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from convscale.selection.select import Selection, preferred
from convscale.strategy import Step, Strategy
from convscale.strategy.rules import Rules
from convscale.study.scaled_source import Found
from convscale.study.search import Search

ALPHAS = ("dWr@0.2", "dWr@0.4", "dWr@0.6")  # beside dr (0), dwr (1/3), dWr (0.8) and w (1)


@dataclass(frozen=True)
class AlphaPoint:
    """The best network of one α, or the nearest where none fits.

    Args:
        alpha: The share of width.
        at: The place of the candidate.
        fits: Whether it keeps all constraints.

    Example:
        >>> AlphaPoint(0.8, 3, True).alpha
        0.8
    """

    alpha: float
    at: int
    fits: bool


def alpha_of(strategy: Strategy) -> float | None:
    """Return the α of a strategy that depth and resolution share the rest of; else None.

    Example:
        >>> from convscale.strategy import parse_strategy
        >>> alpha_of(parse_strategy("dWr")), alpha_of(parse_strategy("d"))
        (0.8, None)
    """
    if isinstance(strategy, Step) or strategy.rules != Rules():
        return None
    if abs(strategy.depth - strategy.resolution) > 1e-9:
        return None
    return round(strategy.width, 9)


def alpha_curve(
    search: Search, found: Sequence[Found], choice: Selection
) -> tuple[AlphaPoint, ...]:
    """Return for each α that was asked for the best candidate under the same constraints.

    Of the α of the chosen network that is the chosen one itself.

    Args:
        search: The search of the base of the chosen network.
        found: The candidates.
        choice: The selection from them.
    """
    place = {id(one): at for at, one in enumerate(found)}
    points = []
    for strategy in search.question.strategies:
        alpha = alpha_of(strategy)
        keys = [key for key in search.asked.get(strategy.name, ()) if key in search.found]
        own = [place[id(search.found[key])] for key in keys if id(search.found[key]) in place]
        if alpha is None or not own:
            continue
        among = np.zeros(len(choice.pool), dtype=bool)
        among[own] = True
        at, fits = (choice.chosen, True) if among[choice.chosen] else preferred(choice, among)
        points.append(AlphaPoint(alpha, at, fits))
    return tuple(sorted(points, key=lambda one: one.alpha))
