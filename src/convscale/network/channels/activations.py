"""What bends between layers: activations by their functions, as modules that do the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn

from convscale.network.channels.labels import Labels

# The settings that a function takes by name are those of its module.
_MODULES: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "celu": nn.CELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "hardswish": nn.Hardswish,
    "hardsigmoid": nn.Hardsigmoid,
    "hardtanh": nn.Hardtanh,
    "softplus": nn.Softplus,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
}
_PLAIN = (bool, int, float, str)


@dataclass(frozen=True)
class Bend:
    """An activation: the name of its function, and the settings it is called with.

    Example:
        >>> Bend("leaky_relu", (("negative_slope", 0.2),)).module()
        LeakyReLU(negative_slope=0.2)
    """

    function: str
    settings: tuple[tuple[str, bool | float | str], ...] = ()

    def module(self) -> nn.Module:
        """Return a module that does the same.

        Raises:
            KeyError: If there is none.
        """
        return _MODULES[self.function](**dict(self.settings))


class Read(NamedTuple):
    """A call of a function of PyTorch: its name, what maps it reads, and how it bends them.

    Example:
        >>> Read("conv2d", ()).function
        'conv2d'
    """

    function: str
    labels: Labels
    bend: Bend | None = None


def bend_of(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Bend | None:
    """Return the activation that a call is; None if it is another function.

    Args:
        name: The name of the function.
        args: Its arguments, the map first.
        kwargs: Those given by name. None is told where a setting has no name.

    Example:
        >>> bend_of("relu_", (torch.zeros(1),), {}), bend_of("conv2d", (), {})
        (Bend(function='relu', settings=()), None)
    """
    plain = name.removesuffix("_")
    if plain not in _MODULES or len(args) != 1 or not isinstance(args[0], torch.Tensor):
        return None
    given = {key: value for key, value in kwargs.items() if key != "inplace"}
    if not all(isinstance(value, _PLAIN) for value in given.values()):
        return None
    return Bend(plain, tuple(given.items()))
