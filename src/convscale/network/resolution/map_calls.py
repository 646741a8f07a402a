"""Calls that name sizes of maps: pools by their windows, resizes by what they give, reshapes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from convscale.network.modules.numbers import Number, Size

Shape = tuple[int, ...]

# Functions with a window: for how many axes, and which of the arguments it is.
POOLS = {
    **{f"{kind}_pool{n}d": (n, 1) for kind in ("avg", "max") for n in (1, 2, 3)},
    **{f"max_pool{n}d_with_indices": (n, 1) for n in (1, 2, 3)},
    **{f"lp_pool{n}d": (n, 2) for n in (1, 2, 3)},  # the order of the norm stands before
}
# Functions that are told what they give: for how many axes (0: all), and under which name.
SIZED = {
    **{f"adaptive_avg_pool{n}d": (n, "output_size") for n in (1, 2, 3)},
    **{f"adaptive_max_pool{n}d": (n, "output_size") for n in (1, 2, 3)},
    **dict.fromkeys(("interpolate", "upsample", "upsample_bilinear"), (0, "size")),
    "upsample_nearest": (0, "size"),
    "fold": (2, "output_size"),
}
RESHAPES = frozenset(("view", "reshape", "expand"))
CONVOLUTIONS = {f"conv{n}d": n for n in (1, 2, 3)}
LARGE = 4  # a smaller window is as large as its map by chance: it is one among others


@dataclass(frozen=True)
class Call:
    """A call in the base network that names the size of a map, or sees a map whole.

    `sizes` are those named, by axis; `read` and `made` the map before and after it; `whole` tells
    of each axis whether a window spans it; `held` whether all that must follow is in attributes;
    `as_image` whether the map becomes as large as the image.

    Example:
        >>> Call("avg_pool2d", (7, 7), (7, 7), (1, 1), (True, True), True).spans
        True
    """

    function: str
    sizes: Shape
    read: Shape
    made: Shape
    whole: tuple[bool, ...]
    held: bool
    as_image: bool = False

    @property
    def spans(self) -> bool:
        """Whether a window as large as its map leaves one position of an axis."""
        return any(self.whole)

    @property
    def surely(self) -> bool:
        """Whether it follows in any case: a window so large is meant to see the whole map."""
        pairs = zip(self.sizes, self.whole, strict=True)
        large = self.spans and all(size >= LARGE for size, whole in pairs if whole)
        return large or self.as_image

    @property
    def resizes(self) -> bool:
        """Whether it gives a map of a size that it names, which is not the size it reads."""
        return self.function in SIZED and self.read != self.made


@dataclass(frozen=True)
class Slot:
    """Where a call has its sizes among its arguments; how many axes they are for, 0 for all.

    Example:
        >>> Slot(1, "size", 0).of(("map",), {"size": 8})
        8
    """

    position: int
    keyword: str
    axes: int
    stride: Slot | None = None

    def of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the sizes that a call names."""
        return args[self.position] if len(args) > self.position else kwargs.get(self.keyword)

    def put(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], value: Any
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of the call with other sizes."""
        if len(args) > self.position:
            return (*args[: self.position], value, *args[self.position + 1 :]), kwargs
        return args, {**kwargs, self.keyword: value}


def slot_of(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Slot | None:
    """Return where a call names a size; None where it names none.

    Example:
        >>> slot_of("interpolate", ("map",), {"scale_factor": 2}) is None
        True
    """
    if name in POOLS:
        axes, at = POOLS[name]
        slot = Slot(at, "kernel_size", axes, Slot(at + 1, "stride", axes))
    elif name in SIZED:
        axes, keyword = SIZED[name]
        slot = Slot(1, keyword, axes)
    elif name in RESHAPES:
        slot = Slot(1, "shape", 0)
    else:
        return None
    return None if slot.of(args, kwargs) is None else slot


def by_axis(given: Any, count: int) -> Shape | None:
    """Return sizes for each axis, 0 where none is named; None where they are no such sizes.

    Example:
        >>> by_axis(7, 2), by_axis((None, 7), 2)
        ((7, 7), (0, 7))
    """
    listed = list(given) if isinstance(given, list | tuple) else [given]
    listed = listed * count if len(listed) == 1 else listed
    if len(listed) != count or not all(isinstance(one, int | None) for one in listed):
        return None
    return tuple(0 if one is None else int(one) for one in listed)


def spanned(name: str, sizes: Shape, read: Shape, made: Shape) -> tuple[bool, ...]:
    """Tell of each axis whether a window is as large as the map, and leaves one position.

    Example:
        >>> spanned("avg_pool2d", (7, 1), (1, 8, 7, 7), (1, 8, 1, 7))
        (True, False)
    """
    count = len(sizes)
    if name not in POOLS:
        return (False,) * count
    maps = zip(sizes, read[-count:], made[-count:], strict=True)
    return tuple(1 < size == before and after == 1 for size, before, after in maps)


def in_attributes(given: Any, whole: tuple[bool, ...]) -> bool:
    """Tell whether the sizes that must follow came from attributes; where none must, whether any.

    Example:
        >>> in_attributes((7, 7), (True, True))
        False
    """
    listed = list(given) if isinstance(given, list | tuple) else [given]
    listed = listed * len(whole) if len(listed) == 1 else listed
    known = [is_held(one) for one in listed]
    if any(whole):
        return all(is_known for is_known, own in zip(known, whole, strict=True) if own)
    return any(known)


def is_held(size: Any) -> bool:
    """Tell whether a size came from an attribute.

    Example:
        >>> is_held(7)
        False
    """
    return isinstance(size, Number) and not isinstance(size, Size)


def would_move(given: Any, wanted: tuple[int | None, ...]) -> bool:
    """Tell whether a size that came from an attribute is not the one that is wanted.

    Example:
        >>> would_move((7, 7), (8, 8))
        False
    """
    listed = list(given) if isinstance(given, list | tuple) else [given] * len(wanted)
    return any(
        size is not None and is_held(own) and own != size
        for own, size in zip(listed, wanted, strict=False)
    )
