"""See whether a network looks up as many entries of a table as the table has.

On the meta device nothing tells the entries that are asked for: a table that is too short for the
positions of a larger map would show only when the network runs with values.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from convscale.network.modules.constants import tensors_among
from convscale.network.running.execution import Observer

# Operators that choose by values: the codes of a codebook, the best classes, the next words.
_CHOICES = frozenset("argmax argmin argsort max min multinomial sort topk".split())


def _chooses(func: Any, args: tuple[Any, ...]) -> bool:
    """Tell whether an operator gives indices that follow from the values of a map."""
    chooses = func.namespace == "aten" and func._opname in _CHOICES
    return chooses and args[0].is_floating_point()


class Lookups(Observer):
    """Note the tables of which a run looks up as many entries as there are: one a position.

    Indices that are given, or chosen by values (the nearest codes of a codebook), are none of
    positions: more of them ask for no longer table.

    Args:
        known: The modules that did so at the base resolution: if one looks up another number
            now, the run fails. None only notes.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from convscale.network.running.execution import run
        >>> class Placed(nn.Embedding):
        ...     def forward(self, x):
        ...         return x + super().forward(torch.arange(len(x)))
        >>> noted, net = Lookups(), Placed(4, 8, device="meta")
        >>> run(net, (torch.empty(4, 8, device="meta"),), noted).shape
        torch.Size([4, 8])
        >>> noted.positions
        {''}
    """

    def __init__(self, known: set[str] | None = None) -> None:
        self.positions: set[str] = set()
        self._known = known
        self._chosen: dict[int, torch.Tensor] = {}

    def enter(self, path: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """See what the network is given."""
        del module
        if not path:
            self._note(tensors_among(inputs))

    def visit(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any, path: str
    ) -> None:
        """See a lookup."""
        del kwargs
        if _chooses(func, args) or self._follows(args):
            self._note(tensors_among((output,)))
        if func._opname != "embedding" or self._follows(args[1:2]):
            return
        rows, asked = len(args[0]), args[1].numel()
        if rows == asked:
            self.positions.add(path)
        if self._known is not None and path in self._known and asked != rows:
            raise IndexError(f"{asked} positions are looked up in a table of {rows}")

    def _follows(self, args: tuple[Any, ...]) -> bool:
        """Tell whether an operator takes indices that are no positions."""
        return bool(self._chosen) and any(
            id(value) in self._chosen for value in tensors_among(args)
        )

    def _note(self, found: list[torch.Tensor]) -> None:
        """Keep integers, which lets nothing else have their identity."""
        self._chosen.update({id(x): x for x in found if not x.is_floating_point()})
