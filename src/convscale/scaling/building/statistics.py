"""Buffers that hold statistics: those that a network changes itself while it is trained."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from convscale.network.running.execution import ForwardError, Observer, run
from convscale.network.sources.inputs import Inputs

# Operands of batch norms, whose schemas do not say that they are written.
_UNSAID = frozenset(("running_mean", "running_var"))


def statistics_of(module: nn.Module, inputs: Inputs) -> frozenset[str]:
    """Return the names of the buffers that a forward pass in training writes, or replaces.

    Args:
        module: A module of our own, on the meta device.
        inputs: What its forward pass takes, of a batch of two or more.

    Returns:
        The names; none where it does not run in training.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).to("meta")
        >>> net.register_buffer("scale", torch.ones(4, device="meta"))
        >>> sorted(statistics_of(net, Inputs((torch.empty(2, 3, 8, 8, device="meta"),))))
        ['1.num_batches_tracked', '1.running_mean', '1.running_var']
    """
    before = _places(module)
    writes = _Writes()
    try:
        run(module, inputs.args, writes, keywords=inputs.kwargs, training=True)
    except ForwardError:
        return frozenset()  # nothing tells them
    after = _places(module)
    return frozenset(
        name
        for name, place in before.items()
        if place in writes.places or after.get(name, place) != place
    )


def _places(module: nn.Module) -> dict[str, int]:
    """Return the storage of each buffer, by its identity."""
    return {name: _place(buffer) for name, buffer in module.named_buffers()}


def _place(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


class _Writes(Observer):
    """Note the storages that operators write to, whatever view of them they are given."""

    def __init__(self) -> None:
        self.places: set[int] = set()

    def visit(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any, path: str
    ) -> None:
        del output, path
        named = dict(zip((own.name for own in func._schema.arguments), args, strict=False))
        named |= kwargs
        for own in func._schema.arguments:
            value = named.get(own.name)
            written = own.alias_info is not None and own.alias_info.is_write
            if written or own.name in _UNSAID:
                values = value if isinstance(value, list | tuple) else (value,)
                self.places |= {_place(v) for v in values if isinstance(v, torch.Tensor)}
