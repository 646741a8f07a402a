"""Numbers that remember which attribute of which module they came from.

Many networks keep a width in an attribute (a split size, a head width, a reshape argument), or in
a function in an attribute, which closes over it. While a network is traced, these integers are
replaced by numbers that keep their origin through arithmetic, so that a reshape shows which
attribute told its size.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from math import isqrt
from operator import add, floordiv, mul, sub
from types import MappingProxyType
from typing import Any

from torch import nn

from convscale.network.modules.functions import held_numbers, hold_number
from convscale.network.modules.holders import Keys, replaced, with_entry
from convscale.network.modules.walking import walk

FLOAT = "float"  # a question that is none: a float is made of a number
# Asked where a forward pass branches on a number: number, question (== or %), other, answer.
Index = int | str | Keys | None
Watch = Callable[["Number", str, Any, bool], bool]

# What a convolution holds that counts positions of its kernel, and no channels.
_GEOMETRY = frozenset(("kernel_size", "stride", "padding", "dilation", "output_padding"))
_OTHERS = frozenset((bool, float, str, type(None)))
_OPERATORS = {"+": add, "-": sub, "*": mul, "//": floordiv}


@dataclass(frozen=True)
class Place:
    """An attribute of a module, or what keys lead to in an attribute that holds more than one.

    Of an attribute that is a function the index is the name of a variable that it closes over,
    or of an argument that it has a value for; of a list an index, of anything nested the keys,
    indices and names one after the other.

    Example:
        >>> Place("attn", "head_dim", None).attribute
        'head_dim'
    """

    module: str
    attribute: str
    index: Index


class Number(int):
    """An integer with an origin: a place, or an operation on other numbers.

    Example:
        >>> heads = Number.at(8, Place("attn", "num_heads", None))
        >>> (64 // heads).solved(4).value
        16
    """

    place: Place | None
    parts: tuple[str, Any, Any] | None
    watch: Watch | None

    @classmethod
    def at(cls, value: int, place: Place, watch: Watch | None = None) -> Number:
        """Return a number that stands in a place."""
        number = cls(value)
        number.place, number.parts, number.watch = place, None, watch
        return number

    def _combined(self, operator: str, left: Any, right: Any, value: Any) -> Any:
        if value is NotImplemented or not isinstance(value, int):
            return value
        number = Number(value)
        number.place, number.parts, number.watch = None, (operator, left, right), self.watch
        return number

    def __add__(self, other: Any) -> Any:
        return self._combined("+", self, other, int.__add__(self, other))

    def __radd__(self, other: Any) -> Any:
        return self._combined("+", other, self, int.__radd__(self, other))

    def __sub__(self, other: Any) -> Any:
        return self._combined("-", self, other, int.__sub__(self, other))

    def __rsub__(self, other: Any) -> Any:
        return self._combined("-", other, self, int.__rsub__(self, other))

    def __mul__(self, other: Any) -> Any:
        return self._combined("*", self, other, int.__mul__(self, other))

    def __rmul__(self, other: Any) -> Any:
        return self._combined("*", other, self, int.__rmul__(self, other))

    def __floordiv__(self, other: Any) -> Any:
        return self._combined("//", self, other, int.__floordiv__(self, other))

    def __rfloordiv__(self, other: Any) -> Any:
        return self._combined("//", other, self, int.__rfloordiv__(self, other))

    def __mod__(self, other: Any) -> Any:
        return other.__rmod__(self) if isinstance(other, Number) else int.__mod__(self, other)

    def __float__(self) -> float:
        if self.watch is not None:
            self.watch(self, FLOAT, None, True)
        return int.__float__(self)

    def __pow__(self, other: Any, *modulus: Any) -> Any:
        if isinstance(other, float) or (isinstance(other, int) and int(other) < 0):
            return float(self) ** other  # a root, or what it is divided by
        return int.__pow__(self, other, *modulus)

    def __rtruediv__(self, other: Any) -> Any:
        return other / float(self)

    def __eq__(self, other: object) -> bool:
        equal = int.__eq__(self, other) if isinstance(other, int) else False
        if self.watch is not None and isinstance(other, int):
            return self.watch(self, "==", other, bool(equal))
        return bool(equal)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def _ordered(self, other: Any, answer: Any) -> Any:
        both = isinstance(other, Number) and self.place is not None and other.place is not None
        if self.watch is None or not both:
            return answer
        return self.watch(self, "<", other, answer)

    def __lt__(self, other: Any) -> Any:
        return self._ordered(other, int.__lt__(self, other))

    def __le__(self, other: Any) -> Any:
        return self._ordered(other, int.__le__(self, other))

    def __gt__(self, other: Any) -> Any:
        return self._ordered(other, int.__gt__(self, other))

    def __ge__(self, other: Any) -> Any:
        return self._ordered(other, int.__ge__(self, other))

    def __rmod__(self, other: Any) -> Any:
        rest = int.__rmod__(self, other)
        if self.watch is None or not isinstance(other, int):
            return rest
        return 0 if self.watch(self, "%", other, rest == 0) else rest

    __hash__ = int.__hash__

    def __reduce__(self) -> tuple[Any, ...]:
        return (int, (int(self),))

    def leaves(self) -> Iterator[Number]:
        """Yield the numbers with a place from which this one was computed."""
        if self.place is not None:
            yield self
        for part in self.parts[1:] if self.parts is not None else ():
            if isinstance(part, Number):
                yield from part.leaves()

    def adds_up(self, settled: Collection[Place] = ()) -> bool:
        """Tell whether this number is a sum of several attributes whose values may change.

        Args:
            settled: Places whose value is right already.

        Example:
            >>> one, two = (Number.at(8, Place("", "dims", index)) for index in (0, 1))
            >>> (one + two).adds_up(), (one * two).adds_up()
            (True, False)
        """
        if self.parts is None or self.parts[0] not in ("+", "-"):
            return False
        return len({leaf.place for leaf in self.leaves()}.difference(settled)) > 1

    def divisors(self, whole: int) -> Iterator[int]:
        """Yield what a size as large as a whole was divided by to make this number.

        Example:
            >>> quarter = Size.of(64, None) // 4
            >>> list((3 * quarter).divisors(64)), list(quarter.divisors(32))
            ([4], [])
        """
        operator, *operands = self.parts or ("",)
        if operator == "//" and int(operands[0]) == whole:
            yield int(operands[1])
        for part in operands:
            if isinstance(part, Number):
                yield from part.divisors(whole)

    def times(self, place: Place | None) -> int | None:
        """Return how many times the value of a place this number is, None if it is no multiple.

        Example:
            >>> width = Number.at(8, Place("", "width", None))
            >>> (2 * width).times(width.place), (width + 1).times(width.place)
            (2, None)
        """
        if self.place is not None:
            return 1 if self.place == place else None
        operator, *operands = self.parts or ("", 1, 1)
        found = [part.times(place) if isinstance(part, Number) else None for part in operands]
        if operator != "*" or (found[0] is None) == (found[1] is None):
            return None
        left, right = found
        return int(operands[0]) * right if right is not None else int(operands[1]) * (left or 0)

    def current(self, values: Mapping[Place, float]) -> int:
        """Return what this number would be with new values of its places."""
        if self.place is not None:
            return int(values.get(self.place, int(self)))
        if self.parts is None:
            return int(self)
        operator, left, right = self.parts
        left, right = (p.current(values) if isinstance(p, Number) else p for p in (left, right))
        return int(_OPERATORS[operator](left, right))

    def solved(
        self,
        target: int,
        settled: frozenset[Place] = frozenset(),
        values: Mapping[Place, float] = MappingProxyType({}),
    ) -> Solution | None:
        """Return the new value of one place that makes this number the target.

        Args:
            target: The value that is needed.
            settled: Places whose value is right already.
            values: New values of places.
        """
        if self.place is not None:
            return None if self.place in settled else Solution(self.place, target)
        if self.parts is None:
            return None
        operator, left, right = self.parts
        if operator == "*" and _is_square(left, right):
            root = isqrt(target)
            exact = root * root == target
            return left.solved(root, settled, values) if exact else None
        now = [p.current(values) if isinstance(p, Number) else int(p) for p in (left, right)]
        options = [
            (part, _inverse(operator, target, now[0], now[1], part is left))
            for part in (left, right)
            if isinstance(part, Number)
        ]
        # the factor that is a width is the larger one
        for part, needed in sorted(options, key=lambda option: -int(option[0])):
            found = part.solved(needed, settled, values) if needed is not None else None
            if found is not None and self.current({**values, found.place: found.value}) == target:
                return found  # a place that stands on both sides changes more than the part
        return None


class Size(Number):
    """A size that was read off a tensor: the units that it counts are known.

    Example:
        >>> size = Size.of(64, "the units")
        >>> (size // 8).parts[1].units
        'the units'
    """

    units: Any

    @classmethod
    def of(cls, value: int, units: Any) -> Size:
        """Return a size that counts units."""
        size = cls(value)
        size.place, size.parts, size.watch, size.units = None, None, None, units
        return size

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Number) and not isinstance(other, Size):
            return other == int(self)
        return bool(int.__eq__(self, other)) if isinstance(other, int) else False

    __hash__ = int.__hash__


@dataclass(frozen=True)
class Solution:
    """A new value for a place.

    Example:
        >>> Solution(Place("attn", "head_dim", None), 48).value
        48
    """

    place: Place
    value: int


def _is_square(left: Any, right: Any) -> bool:
    """Tell whether the factors of a product are one number."""
    numbers = isinstance(left, Number) and isinstance(right, Number)
    return numbers and left.place is not None and left.place == right.place


def _inverse(operator: str, target: int, left: int, right: int, for_left: bool) -> int | None:
    """Return what one operand must be for an operation to give the target."""
    other = right if for_left else left
    if operator == "+":
        return target - other
    if operator == "-":
        return target + other if for_left else other - target
    if operator == "*":
        return target // other if other and target % other == 0 else None
    if for_left:
        return target * other
    return other // target if target and other % target == 0 else None


def install(module: nn.Module, watch: Watch | None = None) -> None:
    """Replace the integers in the attributes of a module of our own by numbers.

    Example:
        >>> net = nn.Conv2d(3, 8, 1)
        >>> install(net)
        >>> net.out_channels.place.attribute
        'out_channels'
    """
    for path, part in walk(module):
        held = vars(part)
        spared = _GEOMETRY if isinstance(part, nn.modules.conv._ConvNd) else ()
        for name, value in list(held.items()):
            kind = type(value)
            if name in spared:
                continue
            if kind is int:
                held[name] = Number.at(value, Place(path, name, None), watch)
                continue
            if kind in _OTHERS or name[0] == "_":  # what holds several is modules' machinery
                continue
            if isinstance(value, Number):
                continue
            found = _numbered(value, path, name, watch)
            if found is not value:
                held[name] = found
            for variable, number in held_numbers(value).items() if callable(value) else ():
                place = Place(path, name, variable)
                hold_number(value, variable, Number.at(number, place, watch))


def _numbered(value: Any, path: str, name: str, watch: Watch | None) -> Any:
    """Return an attribute's value with numbers for the integers in it."""

    def number(entry: int, keys: Keys) -> Number:
        index: Index = keys if len(keys) > 1 else None
        if len(keys) == 1:
            index = keys[0] if isinstance(keys[0], int) else keys
        return Number.at(entry, Place(path, name, index), watch)

    return value if type(value) in (bool, float, str) else replaced(value, number)


def set_place(module: nn.Module, place: Place, value: Any) -> None:
    """Write a value to a place in a module of our own.

    Example:
        >>> net = nn.Sequential(nn.Identity())
        >>> net[0].sizes = (8, 8)
        >>> set_place(net, Place("0", "sizes", 1), 24)
        >>> net[0].sizes
        (8, 24)
    """
    owner = module.get_submodule(place.module)
    if place.index is None:
        setattr(owner, place.attribute, value)
        return
    if isinstance(place.index, str):
        hold_number(getattr(owner, place.attribute), place.index, int(value))
        return
    keys = place.index if isinstance(place.index, tuple) else (place.index,)
    held = getattr(owner, place.attribute)
    setattr(owner, place.attribute, with_entry(held, keys, value))
