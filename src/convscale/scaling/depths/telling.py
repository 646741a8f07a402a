"""What is told of a run at another resolution without running it, and whether that is so."""

from __future__ import annotations

from convscale.complexity.likewise import CallsLikewise
from convscale.network.stages.likewise import Copies, Pair, likewise
from convscale.scaling.variants.variant import Traced


def traced_likewise(home: Traced, here: Traced, there: Traced, copies: Copies) -> Traced | None:
    """Return what a run with blocks added shows at another resolution; None where it is not told.

    Args:
        home: The run with blocks added, at the base network's resolution.
        here: The base network's run there.
        there: The base network's run at the other resolution.
        copies: What the added blocks are copies of.

    Example:
        >>> from convscale.network import resolve_base
        >>> from convscale.scaling.depths.runs import Runs
        >>> base = Runs(resolve_base("timm:resnet18").build("meta"), 64, records=True)
        >>> here, there = base.run((), 64, None), base.run((), 96, None)
        >>> shows_alike(traced_likewise(here, here, there, Copies({})), there)
        True
    """
    if home.sized is None or here.sized is None or there.sized is None:
        return None
    sized = CallsLikewise(here.sized, there.sized).of(home.sized, copies)
    trace = None if sized is None else likewise(home.trace, Pair(here.trace, there.trace), copies)
    if trace is None:
        return None
    form = home.form.with_scales(trace.terms)
    return Traced(trace, home.edits, form, None, sized, home.like or home)


def shows_alike(told: Traced, seen: Traced) -> bool:
    """Tell whether a run shows what was told of it.

    Args:
        told: What was told.
        seen: The run.

    Example:
        >>> from convscale.network import resolve_base
        >>> from convscale.scaling.depths.runs import Runs
        >>> base = Runs(resolve_base("timm:resnet18").build("meta"), 64, records=True)
        >>> shows_alike(base.run((), 64, None), base.run((), 96, None))
        False
    """
    if told.sized is None or seen.sized is None:
        return False
    sizes = told.trace.channels.sizes
    return _numbers(told) == _numbers(seen) and told.sized.at(sizes) == seen.sized.at(sizes)


def _numbers(traced: Traced) -> tuple[object, ...]:
    """Return all of a run that differs between resolutions."""
    trace = traced.trace
    return (
        trace.resolution,
        [(term.path, term.flops_scale, term.acts_scale) for term in trace.terms],
        {path: (one.input_shape, one.output_shape) for path, one in trace.borders.items()},
        trace.output_shapes,
        {
            path: [None if call is None else (call.function, call.sizes) for call in calls]
            for path, calls in trace.shaped.items()
        },
        trace.compared,
        [(one, one.flops) for one in trace.kept],
    )
