"""The interval of a median, without assuming a distribution."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95
# The binomial's mass more than so many standard deviations below its mean is below 1e-30.
_DEVIATIONS = 12.0


@dataclass(frozen=True)
class Interval:
    """The two ends of an interval of confidence, in the unit of the values.

    Example:
        >>> Interval(9.9, 10.2).within(0.02, of=10.0)
        True
    """

    low: float
    high: float

    def off(self, middle: float) -> float:
        """How far the farther end lies off, as a share of the middle."""
        return max(self.high - middle, middle - self.low) / middle if middle > 0 else math.inf

    def within(self, share: float, *, of: float) -> bool:
        """Whether both ends lie within a share of a value."""
        return self.off(of) <= share

    def as_document(self) -> dict[str, float]:
        """Return both ends as the command line's JSON has them."""
        return {"low": self.low, "high": self.high}


def median_interval(values: Sequence[float]) -> Interval | None:
    """Return the 95 % interval of the median by order statistics; None below six values.

    Among n independent values, the number below the true median is binomial with n and 1/2,
    whatever the distribution. So the k-th smallest and the k-th largest value enclose it with
    a probability of at least 95 % where P(B < k) is at most 2.5 %; k is the largest such
    number (W. J. Conover, Practical Nonparametric Statistics, 3rd ed., section 3.2;
    H. A. David and H. N. Nagaraja, Order Statistics, 3rd ed., section 7.1).

    Example:
        >>> median_interval([3.0, 1.0, 2.0, 6.0, 5.0, 4.0])
        Interval(low=1.0, high=6.0)
        >>> median_interval([1.0, 2.0, 3.0]) is None
        True
    """
    rank = interval_rank(len(values))
    if rank == 0:
        return None
    ordered = sorted(values)
    return Interval(ordered[rank - 1], ordered[-rank])


@functools.lru_cache(maxsize=1024)
def interval_rank(count: int) -> int:
    """Return the largest k with P(B < k) of at most 2.5 %, B binomial with count and 1/2.

    Example:
        >>> interval_rank(5), interval_rank(6), interval_rank(100)
        (0, 1, 40)
    """
    if count < 1:
        return 0
    tail = (1 - CONFIDENCE) / 2
    whole = math.lgamma(count + 1) - count * math.log(2)
    rank = max(0, int(count / 2 - _DEVIATIONS * math.sqrt(count) / 2))
    below = 0.0
    while True:
        below += math.exp(whole - math.lgamma(rank + 1) - math.lgamma(count - rank + 1))
        if below > tail:
            return rank
        rank += 1
