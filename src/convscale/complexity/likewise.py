"""The calls of a run with blocks added at another resolution, from the base network's there.

See `network.likewise`: a copy of a block calls what its block calls. Its maps have the sides that
those of the block have there, where they have those of the block here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from convscale.complexity.calls import OperatorCall
from convscale.complexity.shapes import Sized, SizedCall, SizedCalls
from convscale.network.stages.likewise import Copies

Numbers = tuple[int, ...]
Repeated = tuple[bool, ...]
_Sides = dict[tuple[Numbers, Repeated], tuple[Numbers, Repeated]]

_OF_SIDES = ("kind", "flops", "acts", "geometry")  # of calls whose products no rule tells again


class CallsLikewise:
    """Tell the calls of runs with blocks added from two runs of the base network.

    Args:
        here: Its calls at its own resolution.
        there: Its calls at another.

    Example:
        >>> import numpy as np
        >>> from torch import nn
        >>> from convscale.complexity.shapes import ShapeRecorder
        >>> from convscale.network import trace_module
        >>> net = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))).to("meta")
        >>> def calls(net, px):
        ...     recorder = ShapeRecorder(item_bytes=1)
        ...     channels = trace_module(net, px, watch=(recorder,)).channels
        ...     return recorder.sized(channels), channels.sizes
        >>> base, there, (deep, sizes) = calls(net[:2], 8)[0], calls(net[:2], 9)[0], calls(net, 8)
        >>> found = CallsLikewise(base, there).of(deep, Copies({"2": "1"}))
        >>> found.at(sizes) == calls(net, 9)[0].at(sizes)
        True
    """

    def __init__(self, here: SizedCalls, there: SizedCalls) -> None:
        self._here, self._there = here, there
        self._pairs: dict[tuple[str, Any], list[tuple[SizedCall, SizedCall]]] = {}
        for pair in zip(here.calls, there.calls, strict=True):
            self._pairs.setdefault((pair[0].call.path, pair[0].func), []).append(pair)

    def of(self, known: SizedCalls, copies: Copies) -> SizedCalls | None:
        """Return the calls of a run with blocks added; None where they are not told.

        Args:
            known: Its calls at the base network's resolution.
            copies: What the added blocks are copies of.
        """
        if not self._keeps_sides(copies):
            return None
        often: dict[tuple[str, Any], int] = {}
        made: dict[tuple[int, Numbers], Sized] = {}
        found = []
        for call in known.calls:
            key = (call.call.path, call.func)
            at = often.get(key, 0)
            often[key] = at + 1
            pairs = self._pairs.get((copies.own(key[0]), call.func), [])
            new = _likewise(call, *pairs[at], made) if at < len(pairs) else None
            if new is None:
                return None
            found.append(new)
        return known.told_by(found, (self._here, self._there))

    def _keeps_sides(self, copies: Copies) -> bool:
        """Tell whether all maps of one shape that a block handles have one shape there, too."""
        known: dict[tuple[str, Numbers], Numbers] = {}
        for (path, _), pairs in self._pairs.items():
            block = copies.block(path)
            if block is None:
                continue
            for here, there in pairs:
                for own, new in zip(here.tensors, there.tensors, strict=True):
                    numbers = _numbers(new)
                    if known.setdefault((block, _numbers(own)), numbers) != numbers:
                        return False
        return True


def _numbers(tensor: Sized) -> Numbers:
    return tuple([dim.number for dim in tensor.dims])


def _likewise(
    call: SizedCall,
    here: SizedCall,
    there: SizedCall,
    made: dict[tuple[int, Numbers], Sized],
) -> SizedCall | None:
    """Return a call of a copy with the sizes that those of its block have there."""
    sides = _sides(here, there)
    if sides is None or here.bound != there.bound or here.output != there.output:
        return None
    tensors = []
    for tensor in call.tensors:
        found = sides.get((_numbers(tensor), tensor.repeated))
        if found is None:
            return None
        key = (id(tensor), found[0])
        if key not in made:
            dims = zip(found[0], tensor.dims, strict=True)
            resized = tuple([dim._replace(number=number) for number, dim in dims])
            made[key] = Sized(resized, found[1], tensor.item_bytes, tensor.floating)
        tensors.append(made[key])
    own = call.call if call.bound is not None else _as_there(call.call, here.call, there.call)
    return None if own is None else replace(call, call=own, tensors=tuple(tensors))


def _sides(here: SizedCall, there: SizedCall) -> _Sides | None:
    """Return by the sides of tensors those that they have there; None where they have several."""
    found: _Sides = {}
    for own, new in zip(here.tensors, there.tensors, strict=True):
        sides = (_numbers(new), new.repeated)
        if found.setdefault((_numbers(own), own.repeated), sides) != sides:
            return None
    return found


def _as_there(own: OperatorCall, here: OperatorCall, there: OperatorCall) -> OperatorCall | None:
    """Return what a call that multiplies nothing has of its block's there."""
    new = {}
    for name in _OF_SIDES:
        before, after = getattr(here, name), getattr(there, name)
        if before != after:
            if getattr(own, name) != before:
                return None
            new[name] = after
    return replace(own, **new) if new else own
