"""Lists of modules of which some were added or taken away, so that their names are in no row."""

from __future__ import annotations

from typing import Any

from torch import nn


class Positions(nn.ModuleList):
    """A list of modules whose names tell more than their order: numbers are positions in it.

    Example:
        >>> blocks = nn.ModuleList([nn.Tanh(), nn.ReLU()])
        >>> blocks._modules = {"0": blocks[0], "0_1": nn.Tanh(), "1": blocks[1]}
        >>> by_position(blocks)
        >>> blocks[2], len(blocks[1:])
        (ReLU(), 2)
    """

    def __getitem__(self, index: Any) -> Any:
        chosen: Any = list(self._modules.values())[index]
        return nn.ModuleList(chosen) if isinstance(index, slice) else chosen

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
