"""Tell of modules that run whether what they compute reaches an output of the network."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from convscale.network.channels.ties import tensors_in
from convscale.network.running.execution import Observer
from convscale.network.stages.stages import upwards

_INPUT = 1  # the mark of what was made of the network's input


class Reach(Observer):
    """Follow what modules compute through a run, and see which of it reaches an output.

    Every tensor is marked with the modules that it was made in or of. Tensors that share memory
    share the mark, as what is written into one is read from the others.

    Args:
        paths: The modules.

    Example:
        >>> from convscale.network.running.execution import run
        >>> class Tapped(nn.Sequential):
        ...     def forward(self, x):
        ...         tap = self[0](x)
        ...         self[1](tap)
        ...         return tap
        >>> net = Tapped(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)).to("meta")
        >>> reach = Reach(["0", "1"])
        >>> _ = run(net, (torch.empty(1, 3, 8, 8, device="meta"),), reach)
        >>> reach.lost
        frozenset({'1'})
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self._bits = {path: 2 << place for place, path in enumerate(dict.fromkeys(paths))}
        self._inside: dict[str, int] = {}  # the marks of what a module computes
        self._marks: dict[int, int] = {}  # by what holds the elements of a tensor
        self._computed = self._reached = 0

    @property
    def lost(self) -> frozenset[str]:
        """The modules that computed something of which nothing reaches an output.

        None where the network's input seems to reach none, so that the run hides what it does.
        """
        if not self._reached & _INPUT:
            return frozenset()
        lost = self._computed & ~self._reached
        return frozenset(path for path, bit in self._bits.items() if bit & lost)

    def enter(self, path: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """See a module before it runs; of the network, its input."""
        del module
        if not path:
            self._marks |= dict.fromkeys(_stores(tensors_in(inputs)), _INPUT)

    def leave(self, path: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        """See a module after it ran; of the network, its outputs."""
        del module, inputs
        if not path:
            for store in _stores(tensors_in(output)):
                self._reached |= self._marks.get(store, 0)

    def visit(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any, path: str
    ) -> None:
        """See a call of an operator, and mark what it gives."""
        marks = self._marks
        inside = self._inside.get(path)
        if inside is None:
            inside = sum(self._bits.get(own, 0) for own in upwards(path))
            self._inside[path] = inside
        mark = inside
        given = _stores(args)
        if kwargs:
            given += _stores(kwargs.values())
        for store in given:
            mark |= marks.get(store, 0)
        if func._schema.is_mutable:
            for store in _stores(_written(func, args, kwargs)):
                marks[store] = marks.get(store, 0) | mark
                self._computed |= inside
        for store in _stores((output,)):
            if store not in given:  # a view computes nothing
                marks[store] = mark
                self._computed |= inside


def _stores(values: Iterable[Any]) -> list[int]:
    """Return what holds the elements of the tensors in arguments; it is asked at every call."""
    found = []
    for value in values:
        if isinstance(value, torch.Tensor):
            found.append(value.untyped_storage()._cdata)
        elif type(value) in (list, tuple):
            found += _stores(value)
    return found


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    """Return the arguments of an operator that it writes into."""
    declared = [own for own in func._schema.arguments if own.alias_info is not None]
    names = {own.name for own in declared if own.alias_info.is_write}
    by_place = zip(func._schema.arguments, args, strict=False)
    return [value for own, value in by_place if own.name in names] + [
        value for name, value in kwargs.items() if name in names
    ]
