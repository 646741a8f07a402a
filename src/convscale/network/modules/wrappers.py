"""Modules that stand for another one: compiled, copied to several devices, scripted, sharded."""

from __future__ import annotations

import torch
from torch import nn

from convscale.errors import InputError
from convscale.network.modules.walking import walk

# The attribute in which a wrapper holds the module that it stands for, by the wrapper's class.
_HOLDERS = {
    "OptimizedModule": "_orig_mod",  # torch.compile
    "DataParallel": "module",
    "DistributedDataParallel": "module",
}
# Classes whose parameters are parts of those that the network has.
_SHARDED = {"FullyShardedDataParallel", "FSDPModule"}


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the module that a compiled or data-parallel one stands for; others as they are.

    Example:
        >>> net = nn.Conv2d(3, 8, 3)
        >>> unwrapped(nn.DataParallel(torch.compile(net))) is net
        True
    """
    while (holder := _HOLDERS.get(type(module).__name__)) is not None:
        inner = getattr(module, holder, None)
        if not type(module).__module__.startswith("torch.") or not isinstance(inner, nn.Module):
            break
        module = inner
    return module


def readable_parts(module: nn.Module) -> list[nn.Module]:
    """Return the modules of a network, each once, if their forward passes and parameters are shown.

    Raises:
        InputError: If it, or a part of it, is scripted or sharded.

    Example:
        >>> readable_parts(nn.Sequential(nn.ReLU()))[1:]
        [ReLU()]
    """
    parts = walk(module)
    kinds = {type(part) for _, part in parts}
    scripted = {kind for kind in kinds if issubclass(kind, torch.jit.ScriptModule)}
    sharded = {kind for kind in kinds if any(one.__name__ in _SHARDED for one in kind.__mro__)}
    for path, part in parts:
        if type(part) in scripted:
            what = f"Its part {path} is scripted: it" if path else "A scripted module"
            raise InputError(f"{what} cannot be traced. Give the nn.Module it was made from.")
        if type(part) in sharded or _is_spread(part):
            own = type(part).__name__
            what = f"Its part {path}, a {own}," if path else f"A {own}"
            raise InputError(
                f"{what} has its parameters spread over processes. Give the module as it was "
                "before it was sharded."
            )
    return [part for _, part in parts]


def _is_spread(part: nn.Module) -> bool:
    """Tell whether a module holds parts of tensors that several processes share."""
    tables = (part._parameters, part._buffers)
    return any(type(held).__name__ == "DTensor" for own in tables if own for held in own.values())
