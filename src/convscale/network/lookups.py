"""See whether a network looks up as many entries of a table as the table has.

On the meta device nothing tells the entries that are asked for: a table that is too short for the
positions of a larger map would show only when the network runs with values.
"""

from __future__ import annotations

from typing import Any

from convscale.network.execution import Observer


class Lookups(Observer):
    """Note the tables of which a run looks up as many entries as there are: one a position.

    Args:
        known: The modules that did so at the base resolution: if one looks up another number
            now, the run fails. None only notes.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from convscale.network.execution import run
        >>> noted, table = Lookups(), nn.Embedding(4, 8, device="meta")
        >>> run(table, (torch.empty(4, dtype=torch.long, device="meta"),), noted).shape
        torch.Size([4, 8])
        >>> noted.positions
        {''}
    """

    def __init__(self, known: set[str] | None = None) -> None:
        self.positions: set[str] = set()
        self._known = known

    def visit(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any, path: str
    ) -> None:
        """See a lookup."""
        del kwargs, output
        if func._opname != "embedding":
            return
        rows, asked = len(args[0]), args[1].numel()
        if rows == asked:
            self.positions.add(path)
        if self._known is not None and path in self._known and asked != rows:
            raise IndexError(f"{asked} positions are looked up in a table of {rows}")
