"""Slices of channels that the code writes out: where widths change, they take other ones."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import torch

from convscale.network.tracing.trace import Trace

Written = tuple[str, int, int]  # the path of a module, the number of its call, and of its size


@dataclass(frozen=True)
class _Part:
    """What a slice took in the base network: how many channels, and by which size of its call."""

    size: int
    taken: Written


class Slices:
    """The slices of a run of a widened network that take other channels than the widths ask for.

    Args:
        trace: The trace of the base network.

    Example:
        >>> from convscale.network import trace_module
        >>> from torch import nn
        >>> Slices(trace_module(nn.Conv2d(3, 8, 1, device="meta"), 8)).written()
        ()
    """

    def __init__(self, trace: Trace) -> None:
        self._shaped = trace.shaped
        self._sliced: dict[int, torch.Tensor] = {}  # keeps identities unique
        self._parts: dict[int, set[_Part]] = defaultdict(set)
        self._moved: dict[int, set[_Part]] = defaultdict(set)
        self._written: set[Written] = set()

    def note(
        self, x: torch.Tensor, at: tuple[str, int], place: int, entry: slice, moved: bool
    ) -> None:
        """Note a slice.

        Args:
            x: What is sliced.
            at: The module in the trace, and the number of its call that names sizes.
            place: Which of the slices of the call it is.
            entry: The slice as the code writes it.
            moved: Whether it takes other channels than the widths ask for.
        """
        path, position = at
        call = self._shaped[path][position]
        if call is None or call.dims[2 * place + 1] is None:  # of positions
            return
        self._sliced[id(x)] = x
        part = _Part(call.sizes[2 * place + 1], (path, position, 2 * place + 1))
        self._parts[id(x)].add(part)
        if not moved:
            return
        self._moved[id(x)].add(part)
        if entry.start is not None and int(entry.start) >= 0:
            self._written.add((path, position, 2 * place))
        if entry.stop is not None or int(entry.start) < 0:
            self._written.add(part.taken)

    def written(self) -> tuple[Written, ...]:
        """Return the sizes that the code writes out, and those of parts that are as large.

        Parts of one map that are of one size stay so.
        """
        found = set(self._written)
        for own, moved in self._moved.items():
            sizes = {part.size for part in moved if part.taken in self._written}
            found |= {part.taken for part in self._parts[own] if part.size in sizes}
        return tuple(sorted(found))
