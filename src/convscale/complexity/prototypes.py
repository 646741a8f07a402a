"""One network of a form whose sizes all differ, so that a size tells what it is the size of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import Any

from convscale.families.candidates import read_candidates
from convscale.families.description import GROUPED, MOST_SIDE, AnyNet, Description, EfficientNet
from convscale.families.forms import Sizes
from convscale.families.terms import IMAGE, ONE, Form, Symbol, maps

Shape = tuple[int, ...]
Measured = tuple[int, tuple[Symbol, ...]]  # a number times sizes

IMAGES: Symbol = ("images", 0)
BATCH = 11  # images; like the channels below, the side of no kernel or small number
REPEATED = (
    3  # blocks that are neither first nor last, of which the one in the middle stands for any
)
_INPUTS, _HEAD, _CLASSES = 13, 1511, 1913
_PARTS = (7, 11, 13, 77, 91, 143)  # numbers of groups, which divide all widths
_UNIT = 7 * 11 * 13
_STEM = 16 * _UNIT
_RATIO = 6  # of an EfficientNet whose blocks begin with a 1x1 convolution


@dataclass(frozen=True)
class Prototype:
    """A network with the names of its sizes.

    Args:
        net: The network.
        form: Its form, which decides what happens in a step of training.
        sizes: Its sizes.
        channels: By number of channels, the size that it is.
        maps: By sides, likewise.
        alike: Sizes that are one in every network of the form.

    Example:
        >>> from convscale.families import named
        >>> from convscale.families.candidates import read_candidates
        >>> from convscale.families.forms import forms
        >>> net = named("ResNet-18")
        >>> found = read_candidates(net, depths=[net.depths], widths=net.widths)
        >>> form, _ = next(forms(found, found.part(slice(0, 1))))
        >>> mine = prototype(form)
        >>> mine.measured((BATCH, mine.net.stem_width, *mine.side(1)))
        (1, (('images', 0), ('map', 1), ('stem', 0)))
    """

    net: Description
    form: Form
    sizes: Sizes
    channels: dict[int, Symbol]
    maps: dict[Shape, Symbol]
    alike: tuple[tuple[Symbol, Symbol], ...]

    def side(self, number: int) -> Shape:
        """Return the sides of a map."""
        return next(sides for sides, symbol in self.maps.items() if symbol == ("map", number))

    def measured(self, shape: Shape) -> Measured | None:
        """Return the elements of a tensor as a number times sizes; None if one has no name."""
        if 0 in shape:
            return 0, ()
        named: list[Symbol] = []
        rest = shape
        if shape and shape[0] == BATCH:
            named, rest = [IMAGES], shape[1:]
            if len(rest) == 3:
                if rest[1:] not in self.maps:
                    return None
                named, rest = [IMAGES, self.maps[rest[1:]]], rest[:1]
        wide = [side for side in rest[:2] if side > 1]
        if any(side not in self.channels for side in wide):
            return None
        named += [self.channels[side] for side in wide]
        return prod(rest[2:]), tuple(sorted(one for one in named if one != ONE))


def prototype(form: Form) -> Prototype:
    """Make a network of a form.

    Its stages have a first block, `REPEATED` more where there may be more, and the last stage one
    that is last.

    Example:
        >>> from convscale.families import named
        >>> from convscale.families.candidates import read_candidates
        >>> from convscale.families.forms import forms
        >>> net = named("RegNetY-400MF")
        >>> found = read_candidates(net, depths=[net.depths], widths=net.widths,
        ...                         group_widths=net.group_widths)
        >>> form, _ = next(forms(found, found.part(slice(0, 1))))
        >>> prototype(form).net.depths
        (4, 4, 4, 5)
    """
    net = replace(form.like, **_around(form), **_stages(form))
    grouped = isinstance(net, AnyNet)
    one = read_candidates(
        net,
        depths=[net.depths],
        widths=[net.widths],
        group_widths=[net.group_widths] if isinstance(net, AnyNet) else None,
        bottleneck_multipliers=[
            net.bottleneck_multipliers if isinstance(net, AnyNet) else net.expansion_ratios
        ],
    )
    sizes = Sizes(replace(form, like=net), one.part(slice(0, 1)))
    channels: dict[int, Symbol] = {}
    alike: list[tuple[Symbol, Symbol]] = []
    for symbol in _symbols(form, grouped=grouped):
        known = channels.setdefault(int(sizes.of(symbol)[0]), symbol)
        if known != symbol:
            alike.append((known, symbol))
    return Prototype(net, form, sizes, channels, _maps(net, form), tuple(alike))


def _symbols(form: Form, *, grouped: bool) -> Iterator[Symbol]:
    like = form.like
    yield from (("inputs", 0), ("classes", 0), ("stem", 0))
    if like.head_width:
        yield ("head", 0)
    names = ["width"]
    if not grouped or (isinstance(like, AnyNet) and like.block in GROUPED):
        names += ["inner", "group"] if grouped else ["inner", "first inner"]
        names += ["squeeze", "first squeeze"] if like.se_ratio else []
    yield from product(names, range(len(form.strides)))


def _around(form: Form) -> dict[str, Any]:
    least = 4 * prod(maps(form.like, form.strides))
    sides = min(least, MOST_SIDE), min(least, MOST_SIDE) - 1
    return {
        "in_chans": _INPUTS,
        "num_classes": _CLASSES,
        "stem_width": _STEM,
        "head_width": _HEAD if form.like.head_width else 0,
        "resolution": sides,
    }


def _stages(form: Form) -> dict[str, Any]:
    stages = len(form.strides)
    depths = [1 + REPEATED * form.rest[stage] for stage in range(stages)]
    depths[-1] += form.deep
    widths, before = [], _STEM
    for stage in range(stages):
        before = before if form.alike[stage] else _UNIT * (17 + 2 * stage)
        widths.append(before)
    found: dict[str, Any] = {
        "depths": tuple(depths),
        "widths": tuple(widths),
        "strides": form.strides,
    }
    if isinstance(form.like, EfficientNet):
        expansions = tuple(_RATIO if expanded else 1 for expanded in form.expanded)
        return {**found, "kernels": form.like.kernels[:stages], "expansion_ratios": expansions}
    if form.like.block not in GROUPED:
        return {**found, "group_widths": found["widths"], "bottleneck_multipliers": (1.0,) * stages}
    inner = [
        width if plain else _UNIT * (18 + 4 * stages + 2 * stage)
        for stage, (width, plain) in enumerate(zip(widths, form.plain, strict=True))
    ]
    groups: list[int] = []
    for width in inner:
        fresh = (width // part for part in _PARTS if width // part not in groups)
        groups.append(next(fresh, width))
    ratios = tuple(a / b for a, b in zip(inner, widths, strict=True))
    return {**found, "group_widths": tuple(groups), "bottleneck_multipliers": ratios}


def _maps(net: Description, form: Form) -> dict[Shape, Symbol]:
    """Return the sides of every map, from the image on."""
    assert isinstance(net.resolution, tuple)
    height, breadth = net.resolution
    found: dict[Shape, Symbol] = {(1, 1): ONE, (height, breadth): IMAGE}
    for number, stride in enumerate(maps(form.like, form.strides)[1:], start=1):
        if stride > 1:
            height, breadth = (height - 1) // stride + 1, (breadth - 1) // stride + 1
            found[height, breadth] = ("map", number)
    return found
