"""Adapters: what the author of a layer says about channels that its operators do not show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from convscale.errors import InputError
from convscale.network.channels.labels import Label, find_along, vector
from convscale.network.channels.ties import Ties

Role = Literal["in", "out"]
ATTRIBUTE = "convscale_adapter"
_ROLES = ("in", "out")


@dataclass(frozen=True)
class Adapter:
    """Say which sizes of a layer are its input channels, its output channels, or stay.

    A class of modules carries it as its attribute `convscale_adapter`. Its layers take one
    tensor and give one. It is for what cannot be read off a run: an operator from outside
    PyTorch, arithmetic in NumPy, a size that is kept in a string.

    Args:
        tensors: For each parameter and buffer by name, what each axis counts: "in", "out", or
            None for what stays.
        attributes: What integer attributes hold: "in" or "out".
        keeps: Whether as many channels come out as go in, each for itself.
        dim: The dimension of the channels, in what it takes and in what it gives.

    Raises:
        InputError: If an axis or an attribute counts something else.

    Example:
        >>> class Shift(nn.Module):
        ...     convscale_adapter = Adapter(attributes={"channels": "in"}, keeps=True)
        >>> adapter_of(Shift()).keeps
        True
    """

    tensors: Mapping[str, tuple[Role | None, ...]] = field(default_factory=dict)
    attributes: Mapping[str, Role] = field(default_factory=dict)
    keeps: bool = False
    dim: int = 1

    def __post_init__(self) -> None:
        for name, roles in self.tensors.items():
            if not isinstance(roles, tuple | list) or not all(r in (*_ROLES, None) for r in roles):
                raise InputError(
                    f"An adapter cannot say {roles!r} of the tensor {name!r}. Write what each axis "
                    'counts, "in", "out" or None, as in ("out", "in", None, None).'
                )
        for name, role in self.attributes.items():
            if role not in _ROLES:
                raise InputError(
                    f"An adapter cannot say {role!r} of the attribute {name!r}. "
                    'Write "in" or "out".'
                )


def adapter_of(module: nn.Module) -> Adapter | None:
    """Return the adapter that a module's class carries, if any.

    Raises:
        InputError: If it carries something else under that name.

    Example:
        >>> adapter_of(nn.ReLU()) is None
        True
    """
    found = getattr(type(module), ATTRIBUTE, None)
    if found is None or isinstance(found, Adapter):
        return found
    raise InputError(
        f"{type(module).__name__}.{ATTRIBUTE} is {found!r}; it must be a convscale.Adapter."
    )


def tie_adapted(
    ties: Ties,
    adapter: Adapter,
    path: str,
    module: nn.Module,
    inputs: tuple[Any, ...],
    output: Any,
) -> dict[str, Label]:
    """Tie the channels of a layer as its adapter says.

    Returns:
        The units that each attribute counts.

    Raises:
        InputError: If the layer is not as the adapter says.

    Example:
        >>> layer, x = nn.PReLU(4), torch.zeros(1, 4, 2)
        >>> ties = Ties()
        >>> ties.set_labels(x, (vector(ties.fresh(4), 1, 3),))
        >>> adapter = Adapter({"weight": ("in",)}, {"num_parameters": "in"}, keeps=True)
        >>> ties.set_labels(layer.weight, (ties.fresh(4),))
        >>> tie_adapted(ties, adapter, "act", layer, (x,), x)
        {'num_parameters': array([0, 1, 2, 3])}
    """
    tensors = [value for value in inputs if isinstance(value, torch.Tensor)]
    if len(tensors) != 1 or not isinstance(output, torch.Tensor):
        raise InputError(
            f"The adapter of {path or 'the network'} is for layers that take one tensor and give "
            f"one; it took {len(tensors)} and gave {type(output).__name__}."
        )
    axes = min(tensors[0].ndim, output.ndim)
    if not -axes <= adapter.dim < axes:
        raise InputError(
            f"The adapter of {path or 'the network'} says that dimension {adapter.dim} holds the "
            f"channels; what it takes or gives has {axes} dimensions."
        )
    taken = _units(ties, tensors[0], adapter.dim)
    given = taken if adapter.keeps else ties.fresh(output.shape[adapter.dim])
    ties.produced.append(given)
    units: dict[Role, Label] = {"in": taken, "out": given}
    for name, roles in adapter.tensors.items():
        tensor = _tensor(path, module, name, len(roles))
        for axis, role in enumerate(roles):
            own = find_along(ties.labels(tensor), axis, tensor.shape[axis])
            if role is not None and own is not None:
                _check(path, f"axis {axis} of {name}", role, tensor.shape[axis], units[role])
                ties.tie(own, units[role])
    for name, role in adapter.attributes.items():
        _check(path, name, role, getattr(module, name, None), units[role])
    ties.set_labels(output, (vector(given, adapter.dim % output.ndim, output.ndim),))
    return {name: units[role] for name, role in adapter.attributes.items()}


def _units(ties: Ties, tensor: torch.Tensor, dim: int) -> Label:
    """Return the units of a tensor's channels; where none are known, their number stays."""
    units = find_along(ties.labels(tensor), dim % tensor.ndim, tensor.shape[dim])
    if units is None:
        units = ties.fresh(tensor.shape[dim])
        ties.pin(units)
    return units


def _tensor(path: str, module: nn.Module, name: str, axes: int) -> torch.Tensor:
    tensor = getattr(module, name, None)
    if not isinstance(tensor, torch.Tensor) or tensor.ndim != axes:
        shape = list(tensor.shape) if isinstance(tensor, torch.Tensor) else None
        raise InputError(
            f"The adapter of {path or type(module).__name__} tells of a tensor {name!r} with "
            f"{axes} axes; it has {f'the shape {shape}' if shape else 'no such tensor'}."
        )
    return tensor


def _check(path: str, what: str, role: Role, size: object, units: Label) -> None:
    if size != len(units):
        raise InputError(
            f"The adapter of {path or 'the network'} says that {what} counts its {role}put "
            f"channels, which are {len(units)}; it is {size}."
        )
