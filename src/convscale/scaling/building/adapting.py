"""Let layers take their input width from the tensor that arrives.

Where a block is added to others that read all that was put out before (dense blocks), everything
behind it takes more channels. One run on the meta device tells each layer how many.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from convscale.network.modules.walking import walk
from convscale.network.running.execution import run
from convscale.network.sources.inputs import Inputs
from convscale.scaling.building.resizing import follow

_CONVOLUTIONS = frozenset(("conv1d", "conv2d", "conv3d"))
_TRANSPOSED = frozenset(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"))
# What a convolution takes, in order, and what it does where that is not given.
_ORDER = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_DEFAULTS = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
# Position of the normalised tensors among the arguments, by function.
_NORMS = {
    "batch_norm": (1, 2, 3, 4),
    "instance_norm": (1, 2, 3, 4),
    "group_norm": (2, 3),
    "layer_norm": (2, 3),
}


def adapt(module: nn.Module, inputs: Inputs) -> Any:
    """Run a module of our own on the meta device; its layers take what arrives.

    Returns:
        What it puts out.

    Raises:
        ForwardError: If a layer cannot take what arrives.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(8, 2, 1)).to("meta")
        >>> adapt(net, Inputs((torch.empty(1, 3, 8, 8, device="meta"),))).shape
        torch.Size([1, 2, 8, 8])
        >>> net[1].in_channels
        4
    """
    adapter = _Adapter(module)
    output = run(module, inputs.args, keywords=inputs.kwargs, handle=adapter.handle)
    for _, part in walk(module):
        follow(part)
        if isinstance(part, nn.LayerNorm) and part.weight is not None:
            part.normalized_shape = tuple(part.weight.shape)
    return output


def _placed(
    name: str, given: list[Any], kwargs: dict[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a convolution by position, as far as they are given by name."""
    order = _ORDER if name in _CONVOLUTIONS else _ORDER[:3] if name == "linear" else ()
    named = [key for key in order if key in kwargs]
    for position, key in enumerate(order[: order.index(named[-1]) + 1] if named else ()):
        if position >= len(given):
            given.append(kwargs.get(key, _DEFAULTS.get(key)))
    return given, {key: value for key, value in kwargs.items() if key not in named}


class _Adapter:
    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._places: dict[int, list[tuple[dict[str, Any], str]]] = {}
        self._kept: list[torch.Tensor] = []  # keeps identities unique
        for _, part in walk(module):
            for store in (part._parameters, part._buffers):
                for name, tensor in store.items():
                    if tensor is not None:
                        self._places.setdefault(id(tensor), []).append((store, name))

    def handle(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], path: str) -> Any:
        """Make a call with weights that fit its input."""
        name = getattr(func, "__name__", "")
        given, kwargs = _placed(name, list(args), kwargs)
        if len(given) > 1 and isinstance(given[1], torch.Tensor) and name in _CONVOLUTIONS:
            given = self._convolved(given, path)
        elif len(given) > 1 and isinstance(given[1], torch.Tensor) and name in _TRANSPOSED:
            groups = given[6] if len(given) > 6 else 1
            if groups == 1:
                given[1] = self._fitting(given[1], 0, given[0].shape[1])
        elif len(given) > 1 and isinstance(given[1], torch.Tensor) and name == "linear":
            given[1] = self._fitting(given[1], 1, given[0].shape[-1])
        elif name in _NORMS and isinstance(given[0], torch.Tensor):
            given, kwargs = self._normed(name, given, kwargs)
        return func(*given, **kwargs)

    def _convolved(self, given: list[Any], path: str) -> list[Any]:
        x, weight = given[0], given[1]
        groups = given[6] if len(given) > 6 else 1
        if groups == 1 or weight.shape[1] > 1:
            given[1] = self._computed(weight, 1, x.shape[1] // groups, path)
        elif x.shape[1] != groups:  # depthwise: each input channel makes as many as before
            out = weight.shape[0] // groups * x.shape[1]
            given[1] = self._fitting(weight, 0, out)
            if given[2] is not None:
                given[2] = self._fitting(given[2], 0, out)
            given[6] = self._module.get_submodule(path).groups = x.shape[1]
        return given

    def _computed(self, tensor: torch.Tensor, dim: int, size: int, path: str) -> torch.Tensor:
        """Return a weight that fits; what it is computed from is what has its shape in the layer.

        So do weights that are standardised, or masked by another tensor.
        """
        if id(tensor) in self._places or tensor.shape[dim] in (1, size):
            return self._fitting(tensor, dim, size)
        part = self._module.get_submodule(path)
        own = [
            one
            for one in (*part._parameters.values(), *part._buffers.values())
            if one is not None and one.shape == tensor.shape
        ]
        for one in own:
            self._fitting(one, dim, size)
        shape = [size if d == dim else n for d, n in enumerate(tensor.shape)]
        return torch.empty(shape, dtype=tensor.dtype, device=tensor.device) if own else tensor

    def _normed(
        self, name: str, given: list[Any], kwargs: dict[str, Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        size = given[0].shape[-1 if name == "layer_norm" else 1]
        for position in _NORMS[name]:
            if position < len(given) and isinstance(given[position], torch.Tensor):
                given[position] = self._fitting(given[position], 0, size)
        named = {
            key: self._fitting(value, 0, size)
            for key, value in kwargs.items()
            if isinstance(value, torch.Tensor)
        }
        if name == "layer_norm" and len(given) > 1 and len(given[1]) == 1:
            given[1] = (size,)
        return given, {**kwargs, **named}

    def _fitting(self, tensor: torch.Tensor, dim: int, size: int) -> torch.Tensor:
        """Return the tensor with another size along one axis, registered in its place."""
        if tensor.shape[dim] == size or id(tensor) not in self._places or tensor.shape[dim] == 1:
            return tensor
        shape = [size if d == dim else n for d, n in enumerate(tensor.shape)]
        new = torch.empty(shape, dtype=tensor.dtype, device=tensor.device)
        if isinstance(tensor, nn.Parameter):
            new = nn.Parameter(new, requires_grad=tensor.requires_grad)
        self._kept.append(tensor)
        self._places[id(new)] = self._places[id(tensor)]
        for store, name in self._places[id(new)]:
            store[name] = new
        return new
