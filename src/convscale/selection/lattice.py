"""Exponents of strategies as points of the simplex: a lattice, and what lies around a point."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations
from math import gcd

from convscale.errors import InputError
from convscale.strategy import Strategy

UNIT = 40  # the shares of depth, width and resolution are so many parts together


@dataclass(frozen=True)
class Exponents:
    """The shares of a strategy in parts of `UNIT`; that of group width has no part in the sum.

    Example:
        >>> fast = Exponents(4, 32, 4, group=32)
        >>> fast.notation(follows=True), fast.notation(follows=False)
        ('d1_w8_r1', 'd1_w8_g8_r1')
    """

    depth: int
    width: int
    resolution: int
    group: int

    def __post_init__(self) -> None:
        """Refuse shares that are negative or do not sum to the whole."""
        parts = (self.depth, self.width, self.resolution)
        if min(*parts, self.group) < 0 or sum(parts) != UNIT:
            raise InputError(f"The shares {parts} must be at least 0 and sum to {UNIT}.")

    def notation(self, *, follows: bool) -> str:
        """Write the shares as a strategy.

        Args:
            follows: Whether group width follows width where the notation does not name it.
        """
        own = self.group != (self.width if follows else 0)
        shares = {"d": self.depth, "w": self.width, "g": self.group, "r": self.resolution}
        if not own:
            del shares["g"]
        by = gcd(*shares.values())
        return "_".join(
            f"{axis}{share // by}" for axis, share in shares.items() if share or axis == "g"
        )


def exponents_of(strategy: Strategy, *, follows: bool) -> Exponents:
    """Return the point nearest to a strategy.

    Args:
        strategy: The strategy.
        follows: Whether group width follows width where the notation does not name it.

    Example:
        >>> from convscale.strategy import parse_strategy
        >>> exponents_of(parse_strategy("dWr"), follows=True)
        Exponents(depth=4, width=32, resolution=4, group=32)
    """
    depth, width = round(strategy.depth * UNIT), round(strategy.width * UNIT)
    share = strategy.group_width
    group = (strategy.width if follows else 0.0) if share is None else share
    return Exponents(depth, width, UNIT - depth - width, round(group * UNIT))


def lattice(parts: int, *, axes: frozenset[str]) -> Iterator[Exponents]:
    """Yield the points whose shares are multiples of 1 / parts, for the axes that can change.

    Where a network has groups, their width follows width, or half of it, or stays.

    Args:
        parts: How many steps a share has; a divisor of `UNIT`.
        axes: Those of d, w, g and r that can change.

    Example:
        >>> [one.notation(follows=True) for one in lattice(2, axes=frozenset("dw"))]
        ['w1', 'd1_w1', 'd1']
    """
    step = UNIT // parts
    for depth in range(parts + 1):
        for width in range(parts - depth, -1, -1):
            resolution = parts - depth - width
            used = {"d": depth, "w": width, "r": resolution}
            if any(share and axis not in axes for axis, share in used.items()):
                continue
            wide = width * step
            for group in dict.fromkeys((wide, wide // 2, 0) if "g" in axes else (wide,)):
                yield Exponents(depth * step, wide, resolution * step, group)


def around(point: Exponents, step: int, *, axes: frozenset[str]) -> Iterator[Exponents]:
    """Yield the points that differ by one step from one axis to another, or of group width.

    Args:
        point: The point.
        step: The step, in parts of `UNIT`.
        axes: Those of d, w, g and r that can change.

    Example:
        >>> near = around(Exponents(0, 40, 0, 40), 10, axes=frozenset("dwr"))
        >>> [one.notation(follows=True) for one in near]
        ['d1_w3', 'w3_r1']
    """
    shares = {"d": point.depth, "w": point.width, "r": point.resolution}
    for giver, taker in permutations("dwr", 2):
        if taker not in axes or shares[giver] == 0:
            continue
        moved = min(step, shares[giver])
        new = {**shares, giver: shares[giver] - moved, taker: shares[taker] + moved}
        apart = point.width > 0 and "g" in axes
        group = round(point.group * new["w"] / point.width) if apart else new["w"]
        yield Exponents(new["d"], new["w"], new["r"], group)
    if "g" in axes and point.width:
        for group in (point.group - step, point.group + step):
            if 0 <= group <= point.width:
                yield Exponents(point.depth, point.width, point.resolution, group)
