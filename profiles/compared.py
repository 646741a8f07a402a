"""Intervals that follow a network's doubt beside such that are alike, on families left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from convscale.prediction.heldout import splits
from convscale.prediction.interval import COVERAGES, factors
from convscale.prediction.stack import Stack
from convscale.prediction.unseen import Unseen

Floats = npt.NDArray[np.float64]
STATED = 0.9


@dataclass(frozen=True)
class Compared:
    """How good intervals are.

    Args:
        score: Mean interval score of logarithms over coverages (Gneiting and Raftery 2007): the
            width, and 2 / (1 - coverage) times by how much a time lies beyond an end.
        width: Mean width of the intervals of 90 %, in logarithms.
        thirds_pct: What intervals of 90 % cover in each third of the networks by doubt, percent.
        super_families_pct: What they cover of super-families left out, made of other families.
    """

    score: float
    width: float
    thirds_pct: tuple[float, float, float]
    super_families_pct: float


def compared(
    stack: Stack, families: Unseen, beyond: Unseen, groups: Sequence[str]
) -> dict[str, dict[str, object]]:
    """Compare both kinds of intervals.

    Args:
        stack: The timings.
        families: Predictions with the families left out.
        beyond: Those with the super-families left out.
        groups: The super-family of each timing.
    """
    third = np.argsort(np.argsort(families.doubt)) * 3 // stack.size
    alike = np.ones(stack.size)
    found = {}
    for name, own, other in (
        ("alike", alike, alike),
        ("by doubt", families.doubt**0.5, beyond.doubt**0.5),
    ):
        late = np.log(stack.seconds / families.seconds)
        scores = []
        for coverage in COVERAGES:
            low, high = _ends(late, own, stack.families, own, coverage)
            scores.append(_score(low, high, late, coverage))
        low, high = _ends(late, own, stack.families, own, STATED)
        inside = (late >= low) & (late <= high)
        thirds = [round(100 * float(inside[third == place].mean()), 1) for place in range(3)]
        width = float(np.mean(high - low))
        low, high = _ends(late, own, groups, other, STATED)
        late = np.log(stack.seconds / beyond.seconds)
        reached = round(100 * float(((late >= low) & (late <= high)).mean()), 1)
        first, second, last = thirds
        found[name] = asdict(
            Compared(float(np.mean(scores)), width, (first, second, last), reached)
        )
    return found


def _ends(
    late: Floats, widths: Floats, groups: Sequence[str], asked: Floats, coverage: float
) -> tuple[Floats, Floats]:
    """Return the ends of intervals made of the misses on other groups, in logarithms."""
    low, high = np.zeros((2, len(late)))
    for seen, new in splits(groups):
        ends = np.log(factors(-(late / widths)[seen], coverage))
        low[new], high[new] = min(ends[0], 0.0) * asked[new], max(ends[1], 0.0) * asked[new]
    return low - 1e-12, high + 1e-12


def _score(low: Floats, high: Floats, late: Floats, coverage: float) -> float:
    beyond = np.maximum(low - late, 0.0) + np.maximum(late - high, 0.0)
    return float(np.mean(high - low + 2.0 / (1.0 - coverage) * beyond))
