"""Along one strategy: which factors to try, so that the constraints bind. No torch here.

What a network costs rises with the factor. The margin of a network is the largest logarithm of
what it costs over its limit: 0 where a constraint binds. Factors are tried on a line through the
logarithms until the margin changes its sign within a few per cent. Rounding makes steps of the
line: from where one end has moved twice in a row, what is between them is halved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite, log

from convscale.selection.constraints import Constraint

_NEAR = 0.02  # factors so near to each other, in logarithms, are near enough
_STEP = log(8.0)  # how far factors move at a time while one side is open
_PAST = 0.01  # how far beyond the guess, so that both sides are seen
_LEAST = 0.05  # a slope that is taken where margins do not grow
_LIMITS = (log(1 / 256), log(256.0))


@dataclass(frozen=True)
class Ray:
    """What is known of the margins along one strategy; factors are logarithms.

    Args:
        start: The factor to begin with.
        low: The largest factor that keeps the constraints, and its margin.
        high: The smallest that does not, above it, and its margin.
        slope: How the margin grows.
        floor: The least factor.
        ceiling: The most.
        tried: How many factors were tried.
        most: How many are.
        streak: How often in a row the upper end moved between the two, and below 0 the lower one;
            from twice on it stays.

    Example:
        >>> ray = Ray().with_margin(0.0, -1.0)
        >>> round(ray.next(), 2), Ray(low=(0.0, -0.1), high=(0.01, 0.1), tried=2).next()
        (1.01, None)
    """

    start: float = 0.0
    low: tuple[float, float] | None = None
    high: tuple[float, float] | None = None
    slope: float = 1.0
    floor: float = _LIMITS[0]
    ceiling: float = _LIMITS[1]
    tried: int = 0
    most: int = 7
    streak: int = 0

    def next(self) -> float | None:
        """Return the factor to try next; None where the binding one is found, or there is none."""
        if not self.tried:
            return min(max(self.start, self.floor), self.ceiling)
        if self.tried >= self.most:
            return None
        if self.low is not None and self.high is not None:
            (left, below), (right, above) = self.low, self.high
            if right - left < _NEAR:
                return None
            halved = inf in (above, -below) or abs(self.streak) > 1
            share = 0.5 if halved else -below / (above - below)
            return left + min(max(share, 0.1), 0.9) * (right - left)
        if self.low is not None:
            at, margin = self.low
            new = min(at + min(-margin / self.slope + _PAST, _STEP), self.ceiling)
            return new if new > at + _NEAR / 4 else None
        if self.high is None:
            return None
        at, margin = self.high
        new = max(at - min(margin / self.slope + _PAST, _STEP), self.floor)
        return new if new < at - _NEAR / 4 else None

    def with_margin(self, at: float, margin: float) -> Ray:
        """Return the ray after a network was found at a factor."""
        before = self.low or self.high
        new = replace(self, tried=self.tried + 1, streak=self._streak(margin > 0))
        if before is not None and abs(before[0] - at) > 1e-6 and isfinite(margin - before[1]):
            slope = (margin - before[1]) / (at - before[0])
            new = replace(new, slope=min(max(slope, _LEAST), 2.0))
        if margin > 0:
            if self.high is None or at < self.high[0]:
                new = replace(new, high=(at, margin))
            if self.low is not None and at < self.low[0]:
                new = replace(new, low=None)  # rounding: a smaller factor may cost more
        elif self.low is None or at > self.low[0]:
            new = replace(new, low=(at, margin))
            if self.high is not None and at > self.high[0]:
                new = replace(new, high=None)
        return new

    def _streak(self, over: bool) -> int:
        if self.low is None or self.high is None or abs(self.streak) > 1:
            return self.streak
        return max(self.streak, 0) + 1 if over else min(self.streak, 0) - 1

    def without(self, at: float) -> Ray:
        """Return the ray after a factor for which nothing can be built."""
        new = replace(self, tried=self.tried + 1)
        if at > 0 if self.low is None else at > self.low[0]:
            return replace(new, ceiling=min(self.ceiling, at - 0.2))
        return replace(new, floor=max(self.floor, at + 0.2))


def limits_size(constraint: Constraint) -> bool:
    """Tell whether a constraint sets an upper limit to what networks cost.

    Example:
        >>> limits_size(Constraint("images_per_second", 100.0, ">="))
        True
    """
    if constraint.metric.at_least:
        return constraint.sense == ">="
    return constraint.sense == "<="


def margin(constraints: Sequence[Constraint], held: Mapping[str, float]) -> float:
    """Return the largest logarithm of what a network costs over its limit.

    Quantities that are not known are left out, and sides that are just at their limit, where
    strategies without r stay whatever the factor; without any the margin is −inf.

    Args:
        constraints: The constraints; those that set no upper limit are left out.
        held: By quantity, what constraints are held to.

    Example:
        >>> round(margin([Constraint("flops", 1e9)], {"flops": 2e9}), 3)
        0.693
        >>> margin([Constraint("resolution_px", 224.0)], {"resolution_px": 224.0})
        -inf
    """
    found = -inf
    for one in constraints:
        if limits_size(one) and one.on in held:
            ratio = held[one.on] / one.limit
            ratio = 1 / ratio if one.metric.at_least else ratio
            if one.on == "resolution_px" and ratio == 1:
                continue
            found = max(found, log(ratio) if ratio > 0 else -inf)
    return found
