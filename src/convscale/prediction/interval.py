"""Intervals of predictions, from the misses on families that a fit has not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil

import numpy as np
import numpy.typing as npt

from convscale.prediction.heldout import splits

Floats = npt.NDArray[np.float64]
COVERAGES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


def factors(misses: Floats, coverage: float) -> tuple[float, float]:
    """Return by what a prediction is multiplied for the ends of its interval.

    Split-conformal: as many misses lie beyond either end, and a further network counts as
    one of those seen.

    Args:
        misses: ln(predicted / timed) of networks that the fit has not seen.
        coverage: The share of networks whose time lies between the ends.

    Example:
        >>> misses = np.log([1.25, 1.0, 0.8] * 40)
        >>> [round(end, 2) for end in factors(misses, 0.9)]
        [0.8, 1.25]
    """
    ordered = np.sort(-misses)  # ln(timed / predicted)
    size = len(ordered)
    beyond = (1.0 - coverage) / 2.0
    high = min(ceil((size + 1) * (1.0 - beyond)), size) - 1
    low = max(size - 1 - high, 0)
    return float(np.exp(ordered[low])), float(np.exp(ordered[high]))


def intervals(
    misses: Floats, coverages: Sequence[float] = COVERAGES
) -> dict[float, tuple[float, float]]:
    """Return the factors of several coverages; a higher coverage has the wider interval.

    Example:
        >>> found = intervals(np.log([1.25, 1.0, 0.8] * 40), (0.5, 0.9))
        >>> [round(high, 2) for _, high in found.values()]
        [1.25, 1.25]
    """
    return {coverage: factors(misses, coverage) for coverage in coverages}


def covered(
    misses: Floats,
    groups: Sequence[str],
    coverages: Sequence[float] = COVERAGES,
    *,
    known: Floats | None = None,
) -> Mapping[float, float]:
    """Return the share of networks whose time lies in an interval made without their group.

    Args:
        misses: ln(predicted / timed) of networks, by fits that have not seen their group.
        groups: The group of each.
        coverages: What is stated.
        known: The misses of the same networks that intervals are made of, where these are
            others than the ones that are looked at.

    Example:
        >>> misses = np.log([1.25, 0.8] * 40)
        >>> covered(misses, ["a", "a", "b", "b"] * 20, [0.9])
        {0.9: 1.0}
    """
    found = {}
    known = misses if known is None else known
    for coverage in coverages:
        inside = np.zeros(len(misses), dtype=bool)
        for seen, new in splits(groups):
            low, high = factors(known[seen], coverage)
            ends = np.log([low, high]) + np.array([-1e-12, 1e-12])
            inside[new] = (-misses[new] >= ends[0]) & (-misses[new] <= ends[1])
        found[coverage] = float(inside.mean())
    return found
