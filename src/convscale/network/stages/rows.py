"""Rows of layers that a forward pass calls by name: a convolution, and what runs behind it.

The activation may be a function, or a module that stands for all of a network's (`self.relu`): a
row that is added takes one of its own, for two convolutions in a row are no more than one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from torch import nn

from convscale.network.channels.activations import Bend
from convscale.network.stages.stages import Stage, join, keeps_shape, within
from convscale.network.tracing.chains import own_children, own_walk
from convscale.network.tracing.trace import Border, Trace

_ONCE = frozenset(("relu", "relu6", "hardtanh"))  # what changes nothing the second time
_HOLDERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_LINEAR = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._NormBase,
    nn.modules.dropout._DropoutNd,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.Identity,
)


def is_linear(layer: nn.Module) -> bool:
    """Tell whether a layer adds nothing to a convolution in front of it but scales and shifts.

    Example:
        >>> is_linear(nn.BatchNorm2d(8)), is_linear(nn.ReLU())
        (True, False)
    """
    return isinstance(layer, _LINEAR)


def bends_itself(module: nn.Module, stage: Stage, trace: Trace) -> bool:
    """Tell whether the blocks of a stage hold what bends, so that one may follow on another.

    Example:
        >>> from convscale.network.tracing.trace import trace_module
        >>> net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU())
        >>> trace = trace_module(net, 8)
        >>> [bends_itself(net, Stage("", (name,), "", name), trace) for name in ("0", "1")]
        [False, True]
    """
    names = stage.modules(stage.repeatable or stage.blocks[-1])
    paths = [join(stage.container, name) for name in names]
    parts = (part for path in paths for _, part in own_walk(module.get_submodule(path)))
    leaves = [part for part in parts if not any(True for _ in part.children())]
    if not all(map(is_linear, leaves)):
        return True
    reads = (reads for path, reads in trace.reads.items() if any(within(path, p) for p in paths))
    return any(read.bend is not None for own in reads for read in own)


def bends_stay(module: nn.Module, stage: Stage, trace: Trace) -> bool:
    """Tell whether code goes on bending what rows put out that were taken away, to something else.

    It does where the activation is in the code, and not one that changes nothing the second time.

    Example:
        >>> from convscale.network.tracing.trace import trace_module
        >>> net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU())
        >>> bends_stay(net, Stage("", ("0",), "", "0"), trace_module(net, 8))
        False
    """
    if stage.mode != "chained" or bends_itself(module, stage, trace):
        return False
    known = _bends(trace)
    ends = (trace.borders.get(join(stage.container, stage.modules(b)[-1])) for b in stage.blocks)
    found = (known.get(_key(end)) for end in ends if end is not None)
    return any(bend is not None and bend.function not in _ONCE for bend in found)


def row_stages(module: nn.Module, trace: Trace) -> Iterator[Stage]:
    """Find convolutions that modules hold by name, each with its norm and its activation.

    A stage is a row of them, of which each but the first keeps the shape of what the one before
    puts out. Layers on vectors (gates) and those that put out what the network does have none.

    Example:
        >>> from convscale.network.tracing.trace import trace_module
        >>> class Net(nn.Module):
        ...     def __init__(self) -> None:
        ...         super().__init__()
        ...         self.inner, self.outer = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1)
        ...
        ...     def forward(self, x: torch.Tensor) -> torch.Tensor:
        ...         return self.outer(self.inner(x).relu())
        >>> import torch
        >>> [stage.blocks for stage in row_stages(Net(), trace_module(Net(), 8))]
        [('inner',)]
    """
    bends = _bends(trace)
    for path, holder in own_walk(module):
        if isinstance(holder, _HOLDERS):
            continue
        stages: list[tuple[Bend | None, list[tuple[str, ...]]]] = []
        last: Border | None = None
        for unit in _units(holder, path, trace):
            first, end = (trace.borders[join(path, unit[at])] for at in (0, -1))
            linear = all(is_linear(holder.get_submodule(name)) for name in unit)
            bend = bends.get(_key(end)) if linear else None
            if (linear and bend is None) or not _deepens(first, trace):
                last = None
                continue
            linked = last is not None and hands_on(last, first, trace) and stages[-1][0] == bend
            if not linked or not keeps_shape(first.path, trace):
                stages.append((bend, []))
            stages[-1][1].append(unit)
            last = end
        for bend, members in stages:
            keeping = [unit[0] for unit in members if keeps_shape(join(path, unit[0]), trace)]
            yield Stage(
                path,
                tuple(unit[0] for unit in members),
                "Conv",
                keeping[-1] if keeping else None,
                mode="chained",
                members=tuple(members),
                bend=bend,
            )


def _deepens(border: Border, trace: Trace) -> bool:
    """Tell whether a convolution has maps of more than one position, of widths that scale."""
    units = border.output_units
    spread = any(side > 1 for side in border.output_shape[2:])
    return spread and units is not None and trace.channels.scalable(units)


def hands_on(before: Border, after: Border, trace: Trace) -> bool:
    """Tell whether a layer may take what was made of another's output.

    Example:
        >>> from convscale.network.tracing.trace import trace_module
        >>> trace = trace_module(nn.Sequential(nn.ReLU(), nn.Tanh(), nn.Conv2d(3, 8, 1)), 8)
        >>> first, second = trace.borders["0"], trace.borders["1"]
        >>> hands_on(first, second, trace), hands_on(second, first, trace)
        (True, False)
    """
    alike = trace.calls[before.path] == trace.calls[after.path]
    return alike and before.order < after.order and before.output_shape == after.input_shape


def _units(holder: nn.Module, path: str, trace: Trace) -> Iterator[tuple[str, ...]]:
    """Yield the convolutions of a module in the order in which they run, with what follows each."""
    own = {name: trace.borders.get(join(path, name)) for name, _ in own_children(holder)}
    known = {name: border for name, border in own.items() if border is not None}
    taking: dict[int, list[str]] = defaultdict(list)
    for name in sorted(known, key=lambda name: known[name].order):
        layer = holder.get_submodule(name)
        plain = not any(True for _ in own_children(layer)) and keeps_shape(join(path, name), trace)
        if plain and not isinstance(layer, nn.modules.conv._ConvNd):
            taking[known[name].input_id].append(name)
    for name in sorted(known, key=lambda name: known[name].order):
        if isinstance(holder.get_submodule(name), nn.modules.conv._ConvNd):
            unit = [name]
            while (after := _next(known[unit[-1]], taking, known, trace)) is not None:
                unit.append(after)
            yield tuple(unit)


def _next(
    last: Border, taking: dict[int, list[str]], known: dict[str, Border], trace: Trace
) -> str | None:
    """Return the one layer that takes what a layer puts out; it is called as often."""
    found = [name for name in taking[last.output_id] if known[name].order > last.order]
    alone = len(found) == 1 and trace.calls[known[found[0]].path] == trace.calls[last.path]
    return found[0] if alone else None


def _key(border: Border) -> bytes:
    return b"" if border.output_units is None else border.output_units.tobytes()


def _bends(trace: Trace) -> dict[bytes, Bend]:
    """Return what bends the maps of some units, in the order in which they have them."""
    found: dict[bytes, Bend] = {}
    for reads in trace.reads.values():
        for read in reads:
            if read.bend is not None:
                for label in read.labels:
                    found.setdefault(np.ascontiguousarray(label).tobytes(), read.bend)
    return found
