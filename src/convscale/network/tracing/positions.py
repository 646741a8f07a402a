"""Lists of modules of which some were added or taken away, so that their names are in no row."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from typing import Any

from torch import nn


class Positions(nn.ModuleList):
    """A list of modules whose names tell more than their order: numbers are positions in it.

    What is added gets a free number for its name, and what goes leaves the names of others.

    Example:
        >>> blocks = nn.ModuleList([nn.Tanh(), nn.ReLU()])
        >>> blocks._modules = {"0": blocks[0], "0_1": nn.Tanh(), "1": blocks[1]}
        >>> by_position(blocks)
        >>> blocks[2], len(blocks[1:])
        (ReLU(), 2)
        >>> blocks.insert(1, nn.Sigmoid())
        >>> del blocks[2]
        >>> list(blocks._modules)
        ['0', '3', '1']
    """

    def __getitem__(self, index: Any) -> Any:
        chosen: Any = list(self._modules.values())[index]
        return nn.ModuleList(chosen) if isinstance(index, slice) else chosen

    def __setitem__(self, index: int, module: nn.Module) -> None:
        setattr(self, list(self._modules)[index], module)

    def __delitem__(self, index: int | slice) -> None:
        names = list(self._modules)
        for name in names[index] if isinstance(index, slice) else [names[index]]:
            delattr(self, name)

    def append(self, module: nn.Module) -> Positions:
        """Add a module at the end."""
        self.insert(len(self), module)
        return self

    def extend(self, modules: Iterable[nn.Module]) -> Positions:
        """Add modules at the end."""
        for module in list(modules):
            self.insert(len(self), module)
        return self

    def insert(self, index: int, module: nn.Module) -> None:
        """Add a module in front of the one at a position."""
        free = next(name for name in map(str, count(len(self))) if name not in self._modules)
        others = list(self._modules.items())
        self.add_module(free, module)
        others.insert(index, (free, module))
        self._modules = dict(others)

    def _get_name(self) -> str:
        return nn.ModuleList.__name__


def by_position(found: nn.Module) -> None:
    """Let numbers mean positions in a list of our own whose names are no longer all in a row.

    Example:
        >>> blocks = nn.ModuleList([nn.Tanh()])
        >>> by_position(blocks)
        >>> type(blocks) is nn.ModuleList
        True
    """
    if type(found) is nn.ModuleList and list(found._modules) != [*map(str, range(len(found)))]:
        found.__class__ = Positions
