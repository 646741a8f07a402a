"""The input sides to try for a scaled network: the nearest on a step, the smallest step first."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

from convscale.quantities import Resolution, like, sides

_POWERS = (1, 2, 4, 8, 16, 32, 64, 128)


@dataclass(frozen=True)
class Near:
    """The resolution nearest to what was asked for at which a network can be run.

    Args:
        resolution: Its sides in px.
        step: The step (px) on which they lie.
        uneven: Nearer sides, at which the network runs, but outputs that have the image's sides
            in the base have others; None where there are none.

    Example:
        >>> Near(44, 4, uneven=45).step
        4
    """

    resolution: Resolution
    step: int
    uneven: Resolution | None = None


def steps_of(resolution: Resolution) -> tuple[int, ...]:
    """Return the steps (px) to try for a base resolution, the smallest first.

    A network that accepts few sizes accepts multiples of a power of two, or of its own side.

    Example:
        >>> steps_of(224), steps_of(32)
        ((1, 2, 4, 8, 16, 32, 64, 112, 128, 224), (1, 2, 4, 8, 16, 32))
    """
    own = gcd(*sides(resolution))
    powers = {step for step in _POWERS if step <= max(sides(resolution))}
    return tuple(sorted({*powers, own, max(1, own // 2)}))


def nearest(resolution: Resolution, factor: float, step: int) -> Resolution:
    """Return the multiples of a step nearest to the sides times a factor (px).

    Example:
        >>> nearest(224, 1.41, 8), nearest((256, 128), 1.41, 1)
        (312, (361, 180))
    """
    near = [max(1, round(side * factor / step)) * step for side in sides(resolution)]
    return like(resolution, near)


def beside(resolution: Resolution, step: int) -> list[Resolution]:
    """Return the resolutions one step above and below another (px).

    Example:
        >>> beside(224, 32), beside((64, 32), 32)
        ([256, 192], [(96, 64), (32, 32)])
    """
    longest = max(sides(resolution))
    return [
        nearest(resolution, new / longest, step)
        for new in (longest + step, longest - step)
        if new > 0
    ]
