"""Layers that a forward pass never calls: it computes with their weights itself, or not at all."""

from __future__ import annotations

from collections.abc import Container

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from convscale.network.channels.shaping import along_dimension
from convscale.network.channels.ties import Ties
from convscale.network.modules.walking import walk


def let_grow(
    ties: Ties, module: nn.Module, called: Container[str], untouched: Container[int]
) -> None:
    """Let what such layers put out have any number of channels, as that of those called does.

    Where a kernel is made of two, the channels between them are in no map: no operator that
    runs puts them out.

    Args:
        ties: What a run said about units.
        module: The network that ran.
        called: Paths of the modules that were called.
        untouched: Identities of the tensors that no operator took.

    Example:
        >>> ties, layer = Ties(), nn.Conv2d(1, 4, 3)
        >>> ties.set_labels(layer.weight, (ties.fresh(4).reshape(4, 1, 1, 1),))
        >>> let_grow(ties, nn.Sequential(layer), (), ())
        >>> ties.produced[0].tolist()
        [0, 1, 2, 3]
    """
    for path, part in walk(module):
        if isinstance(part, (_ConvNd, nn.Linear)) and path not in called:
            weight = part._parameters.get("weight")
            if weight is None or id(weight) in untouched:
                continue
            units = along_dimension(ties, weight, int(isinstance(part, _ConvTransposeNd)))
            if units is not None:
                ties.produced.append(units)


def idle_layers(module: nn.Module, untouched: Container[int]) -> tuple[str, ...]:
    """Return the layers whose weights no operator takes.

    Args:
        module: The network that ran.
        untouched: Identities of the tensors that none took.

    Example:
        >>> layer = nn.Linear(2, 3)
        >>> idle_layers(nn.Sequential(layer), {id(layer.weight)})
        ('0',)
    """
    names = (
        name for name, own in module.named_parameters() if id(own) in untouched and _is_wide(own)
    )
    return tuple(dict.fromkeys(name.rpartition(".")[0] for name in names))


def _is_wide(weight: torch.Tensor) -> bool:
    """Tell whether a tensor is what a layer multiplies by: it has outputs and inputs."""
    return weight.ndim > 1 and max(weight.shape[:2]) > 1
