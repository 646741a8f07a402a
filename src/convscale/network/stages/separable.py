"""Blocks of depthwise convolutions alone: with what follows each of them they are one block."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from convscale.network.tracing.chains import own_parameters

Unit = tuple[str, ...]  # the names of the modules that make up a block


def separable(container: nn.Module, units: Sequence[Unit]) -> list[Unit]:
    """Return units in a row, each that is depthwise together with the next one if that is not.

    A depthwise convolution filters every channel on its own, and mixes none: by the source of the
    name, a depthwise separable convolution is one with a pointwise convolution behind it.

    Args:
        container: The module that holds them.
        units: Names of the modules in it that are a block each so far, in the order in which
            they run.

    Example:
        >>> row = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 8, 1))
        >>> separable(row, [("0",), ("1",)])
        [('0', '1')]
    """
    filters = [_is_depthwise(container, unit) for unit in units]
    found: list[Unit] = []
    for place, unit in enumerate(units):
        follows = place > 0 and filters[place - 1] and not filters[place]
        if follows:
            found[-1] += unit
        else:
            found.append(unit)
    return found


def _is_depthwise(container: nn.Module, unit: Unit) -> bool:
    """Tell whether the kernels in a unit, of which there are some, read one channel each."""
    parts = [container.get_submodule(name) for name in unit]
    shapes = [own.shape for part in parts for _, own in own_parameters(part) if own.ndim > 1]
    return bool(shapes) and all(
        len(shape) > 2 and shape[:2] != (1, 1) and shape[1] == 1 for shape in shapes
    )
