"""Floats that remember which attribute of which module they came from, through products.

A run with them shows which attributes tensors are multiplied with, or divided by.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from convscale.network.modules.numbers import Place

_PRODUCTS = frozenset(("mul", "rmul", "imul", "multiply"))
_QUOTIENTS = frozenset(("div", "truediv", "rtruediv", "itruediv", "divide", "true_divide"))
_FUSED = "scaled_dot_product_attention"


class Real(float):
    """A float with the places that it was computed from.

    Example:
        >>> scale = Real.of(0.5, frozenset((Place("attn", "scale", None),)))
        >>> next(iter((2 * scale).places)).attribute
        'scale'
    """

    places: frozenset[Place]

    @classmethod
    def of(cls, value: float, places: frozenset[Place]) -> Real:
        """Return a float that was computed from places."""
        real = cls(value)
        real.places = places
        return real

    def _made(self, value: Any, other: Any = None) -> Any:
        if value is NotImplemented:
            return value
        more = other.places if isinstance(other, Real) else frozenset()
        return Real.of(value, self.places | more)

    def __mul__(self, other: Any) -> Any:
        return self._made(float.__mul__(self, other), other)

    def __rmul__(self, other: Any) -> Any:
        return self._made(float.__rmul__(self, other), other)

    def __truediv__(self, other: Any) -> Any:
        return self._made(float.__truediv__(self, other), other)

    def __rtruediv__(self, other: Any) -> Any:
        return self._made(float.__rtruediv__(self, other), other)

    def __neg__(self) -> Any:
        return self._made(float.__neg__(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return (float, (float(self),))


def mark(module: nn.Module, places: Iterable[Place]) -> None:
    """Let floats in attributes of a module of our own remember where they stand.

    Example:
        >>> net = nn.Dropout(0.5)
        >>> mark(net, [Place("", "p", None)])
        >>> net.p.places
        frozenset({Place(module='', attribute='p', index=None)})
    """
    for place in places:
        held = vars(module.get_submodule(place.module))
        held[place.attribute] = Real.of(float(held[place.attribute]), frozenset((place,)))


def factors_of(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[frozenset[Place], tuple[nn.Parameter, ...]]:
    """Return the places by which a call multiplies tensors, and the weights that it multiplies.

    Args:
        name: The name of a function of PyTorch.
        args: Its positional arguments.
        kwargs: Its keyword arguments.

    Example:
        >>> factors_of("mul", (nn.Parameter(), 3.0), {})
        (frozenset(), ())
    """
    if name == _FUSED:
        scale = kwargs.get("scale")
        return (scale.places if isinstance(scale, Real) else frozenset()), ()
    plain = name.strip("_")
    if plain not in _PRODUCTS and plain not in _QUOTIENTS:
        return frozenset(), ()
    given = (*args, *kwargs.values())
    places = [value.places for value in given if isinstance(value, Real)]
    if not places:
        return frozenset(), ()
    weights = (value for value in given if isinstance(value, nn.Parameter))
    return frozenset[Place]().union(*places), tuple(weights)
