"""Outputs that have the sides of the image: reconstructions, masks, noise that is taken away."""

from __future__ import annotations

from convscale.errors import few
from convscale.network.tracing.trace import Trace
from convscale.quantities import format_resolution, like, sides


def lost_sides(base: Trace, trace: Trace) -> tuple[int, ...]:
    """Return the outputs (from 0) with the image's sides in the base's run, and not in another.

    Args:
        base: The run of the base network.
        trace: Its run at another resolution.

    Example:
        >>> from torch import nn
        >>> from convscale.network.tracing.trace import trace_module
        >>> up = nn.ConvTranspose2d(8, 3, 3, 2, 1, output_padding=1)
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), up).to("meta")
        >>> [lost_sides(trace_module(net, 32), trace_module(net, side)) for side in (45, 46)]
        [(0,), ()]
    """
    places = range(min(len(base.output_shapes), len(trace.output_shapes)))
    return tuple(at for at in places if _is_as_large(base, at) and not _is_as_large(trace, at))


def say_lost(base: Trace, trace: Trace) -> str:
    """Say which outputs have the image's sides in the base's run, and not in another; or nothing.

    Args:
        base: The run of the base network.
        trace: Its run at another resolution.

    Example:
        >>> from torch import nn
        >>> from convscale.network.tracing.trace import trace_module
        >>> net = nn.AdaptiveAvgPool2d(32)
        >>> say_lost(trace_module(net, 32), trace_module(net, 45)).partition(". ")[0]
        'At 45 px outputs lose the sides of the input, which they have at 32 px: output 1 (32 px)'
    """
    told = [
        f"output {at + 1} ({format_resolution(like(trace.resolution, _sides(trace, at)))} px)"
        for at in lost_sides(base, trace)
    ]
    if not told:
        return ""
    own, there = (format_resolution(one.resolution) for one in (base, trace))
    return (
        f"At {there} px outputs lose the sides of the input, which they have at {own} px: "
        f"{few(told)}. No side near was found at which they keep them; a strategy without r does."
    )


def _is_as_large(trace: Trace, at: int) -> bool:
    """Tell whether an output is a map of as many positions along each side as the image has."""
    return not trace.vectors[at] and _sides(trace, at) == sides(trace.resolution)


def _sides(trace: Trace, at: int) -> tuple[int, ...]:
    """Return the last sizes of an output, as many as the image has sides, without channels."""
    shape, axis = trace.output_shapes[at], trace.features[at]
    rest = shape[1:] if axis is None else (*shape[1:axis], *shape[axis + 1 :])
    return rest[-len(sides(trace.resolution)) :]
