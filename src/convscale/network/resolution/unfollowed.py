"""What of a network does not follow its input size: the tensor or size that a call fails on."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from convscale.network.channels.shaping import SHAPING
from convscale.network.channels.ties import tensors_in
from convscale.network.running.execution import ForwardError, Observer, run
from convscale.network.sources.inputs import Inputs


def unfollowed(module: nn.Module, inputs: Inputs) -> str:
    """Say which tensor of its own, or which size, a network fails on; empty where nothing tells.

    Args:
        module: A module of our own, on the meta device.
        inputs: What it does not run on.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(16, 2)).to("meta")
        >>> unfollowed(net, Inputs((torch.empty(1, 3, 4, 4, device="meta"),)))
        'What does not follow is 2.weight (2x16), which linear reads in 2.'
    """
    watch = _Watch(module)
    try:
        run(module, inputs.args, watch, keywords=inputs.kwargs, handle=watch.handle)
    except ForwardError:
        return watch.told()
    return ""


class _Watch(Observer):
    """Follow what is computed from tensors of the network's own alone, and the calls at work."""

    def __init__(self, module: nn.Module) -> None:
        tensors = (*module.named_parameters(), *module.named_buffers())
        self._own: dict[int, tuple[str, ...]] = {id(tensor): (name,) for name, tensor in tensors}
        self._shapes = {name: tuple(tensor.shape) for name, tensor in tensors}
        self._kept: list[torch.Tensor] = []  # keeps identities unique
        self._calls: list[tuple[str, tuple[Any, ...], str]] = []

    def handle(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], path: str) -> Any:
        """Make a call; one that fails stays among those at work."""
        self._calls.append((getattr(func, "__name__", ""), (*args, *kwargs.values()), path))
        output = func(*args, **kwargs)
        self._calls.pop()
        return output

    def visit(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any, path: str
    ) -> None:
        del func, path
        given = tensors_in((args, kwargs))
        if given and all(id(tensor) in self._own for tensor in given):
            names = tuple(dict.fromkeys(n for tensor in given for n in self._own[id(tensor)]))
            for made in tensors_in(output):
                self._own[id(made)] = names
                self._kept.append(made)

    def told(self) -> str:
        """Say what the innermost call at work reads that does not follow."""
        if not self._calls:
            return ""
        function, args, path = self._calls[-1]
        where = path or "the network"
        name = {"__getitem__": "a slice"}.get(function, function.strip("_"))
        read = [n for tensor in tensors_in(args) for n in self._own.get(id(tensor), ())]
        axes = max((len(self._shapes[one]) for one in read), default=0)
        tables = [one for one in dict.fromkeys(read) if len(self._shapes[one]) == axes]
        if tables:
            listed = ", ".join(
                f"{one} ({'x'.join(map(str, self._shapes[one]))})" for one in tables[:2]
            )
            return f"What does not follow is {listed}, which {name} reads in {where}."
        if function in SHAPING and (sizes := _sizes(args[1:])):
            asked = ", ".join(map(str, sizes))
            return f"What does not follow are the sizes that {name} names in {where}: {asked}."
        return ""


def _sizes(args: Any) -> list[int]:
    """Return the whole numbers among arguments, in tuples and lists too."""
    found: list[int] = []
    for value in args:
        if isinstance(value, list | tuple):
            found += _sizes(value)
        elif isinstance(value, int) and not isinstance(value, bool):
            found.append(int(value))
    return found
