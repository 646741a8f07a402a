"""Rounding of depths, widths, group widths and resolutions as the authors' code does it.

Source: arXiv 2103.06877 and its public reference code; for the rule of EfficientNet, arXiv
1905.11946 and its public code.
"""

from __future__ import annotations

from math import ceil, lcm

from convscale.quantities import Resolution, like, sides


def reference_depth(value: float) -> int:
    """Round a depth to the nearest integer, half to even, at least 1.

    Example:
        >>> reference_depth(2.5), reference_depth(0.2)
        (2, 1)
    """
    return max(1, round(value))


def reference_width(value: float) -> int:
    """Round a width to the nearest multiple of 8, at least 8.

    Example:
        >>> reference_width(90.5), reference_width(2.0)
        (88, 8)
    """
    return max(1, round(value / 8)) * 8


def reference_group_width(value: float) -> int:
    """Round a group width to 1, 2, 4 or a multiple of 8.

    Example:
        >>> [reference_group_width(value) for value in (0.3, 2.4, 3.0, 5.4, 6.0, 22.6)]
        [1, 2, 4, 4, 8, 24]
    """
    group = max(1, round(value))
    if group <= 2:
        return group
    return 4 if group <= 5 else round(group / 8) * 8


def reference_resolution(value: float) -> int:
    """Round an input side to the nearest multiple of 4 px, at least 4.

    Example:
        >>> reference_resolution(224 * 2**0.5)
        316
    """
    return max(1, round(value / 4)) * 4


def efficientnet_width(value: float) -> int:
    """Round a width to the nearest multiple of 8 that is not below 0.9 of it, at least 8.

    Example:
        >>> efficientnet_width(16 * 1.1), efficientnet_width(11.0)
        (16, 16)
    """
    width = max(8, int(value + 4) // 8 * 8)
    return width + 8 if width < 0.9 * value else width


def efficientnet_depth(value: float) -> int:
    """Round a depth up; what exceeds an integer by rounding errors only is that integer.

    Example:
        >>> efficientnet_depth(2.2), efficientnet_depth(2.0 + 1e-12)
        (3, 2)
    """
    return max(1, ceil(value - 1e-9))


def compatible(width: int, multiplier: float, group_width: int) -> tuple[int, int]:
    """Return the width and group width nearest to those given that fit each other.

    The inner width v = w·b becomes a multiple of the group width, and of b where b > 1.

    Example:
        >>> compatible(264, 1.0, 48), compatible(360, 0.25, 88)
        ((288, 48), (352, 88))
    """
    inner = int(max(1, width * multiplier))
    group = int(min(group_width, inner))
    multiple = lcm(group, int(multiplier)) if multiplier > 1 else group
    inner = max(multiple, int(round(inner / multiple) * multiple))
    return int(inner / multiplier), group


def rescaled(resolution: Resolution, factor: float, *, step: int) -> Resolution:
    """Return a resolution times a factor, each side to the nearest multiple of a step (px).

    Example:
        >>> rescaled(224, 2**0.5, step=4), rescaled((256, 128), 2**0.5, step=1)
        (316, (362, 181))
    """
    height, width = (max(1, round(side * factor / step)) * step for side in sides(resolution))
    return like(resolution, (height, width))
