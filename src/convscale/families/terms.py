"""Operators of many networks as terms: sizes are named, and stand for one network or for many.

A size is a channel count times a number of positions, each named by a `Symbol`. What networks of a
family have in common beside the sizes is their `Form`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from convscale.families.description import AnyNet, Description

Symbol = tuple[str, int]  # what, and of which stage or map
ONE: Symbol = ("one", 0)
IMAGE: Symbol = ("map", 0)
ONCE: Symbol = ("once", 0)


class Extent(NamedTuple):
    """The elements of a tensor: channels times positions.

    Example:
        >>> Extent(("width", 0), ("map", 1)).positions
        ('map', 1)
    """

    channels: Symbol
    positions: Symbol


class Product(NamedTuple):
    """What a convolution or a linear layer multiplies by; `stride` and `kernel` are sides.

    Example:
        >>> Product(("one", 0), ("width", 0), ("width", 0), kernel=3).kernel
        3
    """

    inputs: Symbol  # channels of a group
    outs: Symbol
    groups: Symbol = ONE
    kernel: int = 1
    stride: int = 1


class Term(NamedTuple):
    """One operator of every candidate.

    `vectors` are weights of one element a channel: how many, and of which channels.
    `sources` are the positions of the terms that wrote what it reads, `held` of those whose
    tensors live while it runs, beside what it writes; -1 is the image. `place` is the stage, -1
    in the stem, and the number of stages in the head.

    Example:
        >>> wide = Extent(("width", 0), ("map", 1))
        >>> Term("aten.relu", "activation", ONCE, (wide,), wide).copies
        1
    """

    operator: str  # its name in a recorded pass
    kind: str
    times: Symbol
    reads: tuple[Extent, ...]
    writes: Extent
    product: Product | None = None
    vectors: tuple[int, Symbol] = (0, ONE)
    copies: int = 1  # elements written for each element of `writes`
    sources: tuple[int, ...] = ()
    held: tuple[int, ...] = ()
    place: int = -1


@dataclass(frozen=True)
class Form:
    """What decides which operators a network of a family runs, beside the sizes.

    Args:
        like: What is around the stages, and the kind of block.
        strides: Strides of the stages' first blocks.
        alike: For each stage, whether its first block keeps the shape of its input.
        spatial: For each stage, the kinds of the spatial convolutions of its first block and
            of the others.
        expanded: For each stage, whether its blocks begin with a 1×1 convolution.
        deep: Whether the last stage has more than one block.
        plain: For each stage, whether its inner width is its width.
        rest: For each stage, whether it has blocks that are neither its first nor, in the last
            stage, its last.

    Example:
        >>> from convscale.families.registry import named
        >>> net = named("ResNet-18")
        >>> kinds, yes = (("convolution kxk", "convolution kxk"),) * 4, (True,) * 4
        >>> alike, rest = (True, False, False, False), (True, True, True, False)
        >>> form = Form(net, net.strides, alike, kinds, yes, True, yes, rest)
        >>> form.deep, form.rest
        (True, (True, True, True, False))
    """

    like: Description
    strides: tuple[int, ...]
    alike: tuple[bool, ...]
    spatial: tuple[tuple[str, str], ...]
    expanded: tuple[bool, ...]
    deep: bool
    plain: tuple[bool, ...]
    rest: tuple[bool, ...]


def maps(like: Description, strides: tuple[int, ...]) -> tuple[int, ...]:
    """Return the stride by which each map comes from the one before; 1 for the image.

    Stages of stride 1 have the map of what is before them.

    Example:
        >>> from convscale.families.registry import named
        >>> net = named("ResNet-50")
        >>> net.strides, maps(net, net.strides)
        ((1, 2, 2, 2), (1, 2, 2, 2, 2, 2))
    """
    stem = {"simple": (2,), "pooled": (2, 2), "small": ()}[stem_kind(like)]
    return (1, *stem, *(stride for stride in strides if stride > 1))


def stem_kind(like: Description) -> str:
    """Return the kind of a network's stem.

    Example:
        >>> from convscale.families.registry import named
        >>> stem_kind(named("ResNet-50")), stem_kind(named("EfficientNet-B0"))
        ('pooled', 'simple')
    """
    return like.stem if isinstance(like, AnyNet) else "simple"
