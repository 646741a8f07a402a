"""Tell whether blocks that were added to a network run as those that they are copies of.

Then what is known of the one holds for the other, and the rest of the run is the network's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any, TypeVar

from convscale.network.tracing.rerun import Run

_Seen = TypeVar("_Seen")


def without_repeats(seen: Run, copies: Mapping[str, str]) -> Run | None:
    """Return what a run shows but for copies of blocks, which keep the shape of what they take.

    Args:
        seen: What the run showed.
        copies: For the path of each copy that of the block it is one of.

    Returns:
        The rest; None where a copy ran otherwise than its block, or changed a shape.

    Example:
        >>> from torch import nn
        >>> from convscale.network.running.feeding import Feed
        >>> net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1))
        >>> without_repeats(Run(net, Feed(8)), {"1": "0"}).calls
        {'0': 1, '': 1}
        >>> net[1].groups, net[1].weight = 3, nn.Parameter(net[1].weight[:, :1])
        >>> without_repeats(Run(net, Feed(8)), {"1": "0"}) is None
        True
    """
    for own, block in copies.items():
        taken, put_out = seen.shapes.get(own, ((), (1,)))
        if taken != put_out or _inside(seen, own) != _inside(seen, block):
            return None
    starts = tuple(f"{path}." for path in copies)
    rest = copy(seen)
    rest.script = [(path, func) for path, func in seen.script if not _lies(path, starts)]
    rest.products = [(path, own) for path, own in seen.products if not _lies(path, starts)]
    rest.shapes = _outside(seen.shapes, starts)
    rest.calls = _outside(seen.calls, starts)
    rest.functions = _outside(seen.functions, starts)
    rest.shaped = _outside(seen.shaped, starts)
    rest.compared = _outside(seen.compared, starts)
    rest.tensors = {
        names: shape
        for names, shape in seen.tensors.items()
        if not all(_lies(name, starts) for name in names)
    }
    return rest


def _lies(path: str, starts: tuple[str, ...]) -> bool:
    return f"{path}.".startswith(starts)


def _outside(found: dict[str, _Seen], starts: tuple[str, ...]) -> dict[str, _Seen]:
    return {path: value for path, value in found.items() if not _lies(path, starts)}


def _inside(seen: Run, block: str) -> dict[str, Any]:
    """Return what a run shows of a block, by paths inside of it."""
    start = f"{block}."

    def within(path: str) -> bool:
        return f"{path}.".startswith(start)

    def own(path: str) -> str:
        return path[len(block) :]

    return {
        "script": [(own(path), func) for path, func in seen.script if within(path)],
        "products": [(own(path), product) for path, product in seen.products if within(path)],
        "tensors": {
            tuple(own(name) if within(name) else f"outside {name}" for name in names): shape
            for names, shape in seen.tensors.items()
            if any(within(name) for name in names)
        },
        **{
            name: {own(path): value for path, value in getattr(seen, name).items() if within(path)}
            for name in ("shapes", "calls", "functions", "compared")
        },
        "shaped": {
            own(path): [None if call is None else (call.function, call.sizes) for call in calls]
            for path, calls in seen.shaped.items()
            if within(path)
        },
    }
