"""What a wider network puts out: as many positions as its base; of maps alone other channels."""

from __future__ import annotations

from collections.abc import Iterable

from convscale.network.tracing.trace import Trace

Shapes = tuple[tuple[int, ...], ...]


def other_answer(shapes: Shapes, trace: Trace) -> str:
    """Say which output of a network has another shape; empty where none has.

    The channels of feature maps may be others.

    Args:
        shapes: The shapes of what it puts out at its new widths.
        trace: The trace of it at those of the base.

    Example:
        >>> from convscale.network.tracing.trace import trace_module
        >>> from torch import nn
        >>> other_answer(((1, 8, 5, 6),), trace_module(nn.Conv2d(3, 8, 3), 8))
        '1×8×5×6 in place of 1×8×6×6 (output 1)'
    """
    outputs = zip(shapes, trace.output_shapes, trace.features, strict=False)
    for place, (new, old, axis) in enumerate(outputs, start=1):
        if len(new) != len(old) or _others(new, axis) != _others(old, axis):
            return f"{_format(new)} in place of {_format(old)} (output {place})"
    return ""


def _others(shape: Iterable[int], axis: int | None) -> list[int]:
    return [size for place, size in enumerate(shape) if place != axis]


def _format(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
