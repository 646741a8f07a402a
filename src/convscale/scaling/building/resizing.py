"""Give the tensors of a module new shapes, and its attributes the values that follow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from convscale.errors import UnscalableNetworkError
from convscale.network.modules.walking import walk

Fill = Callable[[str, torch.Tensor, tuple[int, ...]], torch.Tensor]


def resize(
    module: nn.Module,
    shapes: Mapping[str, tuple[int, ...]],
    groups: Mapping[str, int],
    normalized: Mapping[str, int],
    fill: Fill,
) -> None:
    """Change a module of our own in place.

    Args:
        module: The module, a copy of the base after its depth was changed.
        shapes: New shape of each parameter and buffer that changes, by name.
        groups: New number of groups of each convolution that changes it, by module path.
        normalized: New width of layer norms, by module path.
        fill: Makes the new tensor from its name, the old tensor and the new shape.

    Raises:
        UnscalableNetworkError: If the module has no such tensor.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3))
        >>> resize(net, {"0.weight": (5, 2)}, {}, {}, lambda name, old, shape: torch.zeros(shape))
        >>> net[0].out_features
        5
    """
    places, parts = _places(module), dict(walk(module))
    originals: list[torch.Tensor] = []  # keeps identities unique while tensors are replaced
    for name, shape in shapes.items():
        path, _, leaf = name.rpartition(".")
        owner = parts.get(path) or module.get_submodule(path)  # second names of shared modules
        store = owner._parameters if leaf in owner._parameters else owner._buffers
        old = store.get(leaf)
        if old is None:
            raise UnscalableNetworkError(f"The network has no tensor {name!r} to resize.")
        if tuple(old.shape) == shape:
            continue
        originals.append(old)
        new = _laid_as(old, fill(name, old, shape))
        if isinstance(old, nn.Parameter):
            new = nn.Parameter(new, requires_grad=old.requires_grad)
        for other, key in places[id(old)]:  # wherever the old one was registered
            other[key] = new
    for path, count in groups.items():
        module.get_submodule(path).groups = count  # type: ignore[assignment]
    for path, width in normalized.items():
        module.get_submodule(path).normalized_shape = (width,)  # type: ignore[assignment]
    for path, part in walk(module):
        follow(part, path)


_LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}


def _laid_as(old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    """Lay a kernel out in memory as the one that it replaces: channels last, where that one is."""
    layout = _LAYOUTS.get(old.ndim)
    if layout is None or old.is_contiguous() or not old.is_contiguous(memory_format=layout):
        return new
    return new.contiguous(memory_format=layout)


def _places(module: nn.Module) -> dict[int, list[tuple[dict[str, Any], str]]]:
    """Return where each tensor is registered, by its identity."""
    places: dict[int, list[tuple[dict[str, Any], str]]] = {}
    for _, part in walk(module):
        for store in (part._parameters, part._buffers):
            for name, tensor in store.items():
                if tensor is not None:
                    places.setdefault(id(tensor), []).append((store, name))
    return places


def _weight(part: nn.Module) -> torch.Tensor | None:
    """Return a layer's weight, or what it is computed from where it is (weight norm)."""
    weight = part._parameters.get("weight")
    if weight is not None:
        return weight
    computed = part._modules.get("parametrizations")
    sources = [part._parameters.get(name) for name in ("weight_orig", "weight_v")]
    if computed is not None and "weight" in computed._modules:
        sources += computed.get_submodule("weight")._parameters.values()
    known = [source for source in sources if source is not None]
    return max(known, key=lambda source: source.numel(), default=None)


def follow(part: nn.Module, path: str = "") -> None:
    """Set the attributes of a layer of PyTorch that repeat the shape of its weight.

    Example:
        >>> conv = nn.Conv2d(2, 3, 1)
        >>> conv.weight = nn.Parameter(torch.zeros(6, 4, 1, 1))
        >>> follow(conv)
        >>> conv.out_channels, conv.in_channels
        (6, 4)
    """
    weight = _weight(part)
    if isinstance(part, nn.modules.conv._ConvNd) and weight is not None:
        outer, inner = (1, 0) if part.transposed else (0, 1)
        part.out_channels = weight.shape[outer] * (part.groups if part.transposed else 1)
        part.in_channels = weight.shape[inner] * (1 if part.transposed else part.groups)
        if part.out_channels % part.groups or part.in_channels % part.groups:
            raise UnscalableNetworkError(
                f"The convolution {path} of {part.in_channels} to {part.out_channels} channels "
                f"cannot have {part.groups} groups. Keep its widths (--freeze {path!r}), or use a "
                "strategy without w."
            )
    elif isinstance(part, nn.Linear) and weight is not None:
        part.out_features, part.in_features = weight.shape
    elif isinstance(part, nn.Bilinear) and weight is not None:
        part.out_features, part.in1_features, part.in2_features = weight.shape
    elif isinstance(part, nn.modules.batchnorm._NormBase):
        tensor = weight if weight is not None else part._buffers.get("running_mean")
        part.num_features = part.num_features if tensor is None else tensor.shape[0]
    elif isinstance(part, nn.GroupNorm) and weight is not None:
        part.num_channels = weight.shape[0]
    elif isinstance(part, nn.LayerNorm) and weight is not None:
        part.normalized_shape = tuple(weight.shape)
    elif isinstance(part, nn.PReLU):
        part.num_parameters = part.weight.shape[0]
    elif isinstance(part, nn.RNNCellBase):
        part.input_size, part.hidden_size = part.weight_ih.shape[1], part.weight_hh.shape[1]
    elif isinstance(part, nn.RNNBase):
        _follow_recurrent(part)
    elif isinstance(part, nn.Embedding) and weight is not None:
        part.num_embeddings, part.embedding_dim = weight.shape


def _follow_recurrent(part: nn.RNNBase) -> None:
    """Set the widths that a recurrent layer checks its input and its state by."""
    taken, kept = part._parameters.get("weight_ih_l0"), part._parameters.get("weight_hh_l0")
    if taken is None or kept is None:
        return
    gates = {"LSTM": 4, "GRU": 3}.get(part.mode, 1)
    part.input_size, part.hidden_size = taken.shape[1], kept.shape[0] // gates
    if part.proj_size:
        part.proj_size = kept.shape[1]
