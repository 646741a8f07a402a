"""The operators that networks of a family run, as terms: sizes by name, of one or of many.

Networks with the same form run the same operators in the same order; only sizes and repeats
differ. A size is a channel count times a number of positions, each named by a `Symbol`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from convscale.complexity.calls import LINEAR
from convscale.families.description import GROUPED, AnyNet, Description, EfficientNet

Symbol = tuple[str, int]  # what, and of which stage or map
ONE: Symbol = ("one", 0)
IMAGE: Symbol = ("map", 0)
ONCE: Symbol = ("once", 0)
# max_pool2d puts out indices of 8 bytes beside every element
_POOLED_ELEMENTS = 9
_ACTIVATIONS = {"relu": "relu", "relu6": "hardtanh", "silu": "silu", "gelu": "gelu"}
_NORM_VECTORS = 4  # scale, shift, mean and variance


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
    `sources` are the positions of the terms that wrote what it reads.

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
        >>> len(terms(form))  # 4 of the stem, 8 blocks of 7 or 9, 2 of the head
        68
    """

    like: Description
    strides: tuple[int, ...]
    alike: tuple[bool, ...]
    spatial: tuple[tuple[str, str], ...]
    expanded: tuple[bool, ...]
    deep: bool
    plain: tuple[bool, ...]
    rest: tuple[bool, ...]


def terms(form: Form) -> tuple[Term, ...]:
    """Return the operators of the networks of a form, in the order in which they run.

    A stage is its first block, one for its others, which ("rest", stage) counts, and in the
    last stage, if it has several, its last block: what follows reads that one alone.

    Example:
        >>> from convscale.families.registry import named
        >>> net = named("RegNetX-400MF")
        >>> kinds, no, yes = (("convolution grouped",) * 2,) * 4, (False,) * 4, (True,) * 4
        >>> found = terms(Form(net, net.strides, no, kinds, yes, True, yes, yes))
        >>> found[0].product
        Product(inputs=('inputs', 0), outs=('stem', 0), groups=('one', 0), kernel=3, stride=2)
    """
    tape = _Tape(form)
    x, position = tape.stem(), len(maps(form.like, ())) - 1
    width: Symbol = ("stem", 0)
    for stage, stride in enumerate(form.strides):
        position += stride > 1
        last = stage == len(form.strides) - 1
        tape.times = ONCE
        x = tape.block(x, _Block(stage, True, width, stride, position))
        width = ("width", stage)
        if form.rest[stage]:
            tape.times = ("rest", stage)
            x = tape.block(x, _Block(stage, False, width, 1, position))
        if last and form.deep:
            tape.times = ONCE
            x = tape.block(x, _Block(stage, False, width, 1, position))
    tape.head(x)
    return tuple(tape.terms)


def maps(like: Description, strides: tuple[int, ...]) -> tuple[int, ...]:
    """Return the stride by which each map comes from the one before; 1 for the image.

    Stages of stride 1 have the map of what is before them.

    Example:
        >>> from convscale.families.registry import named
        >>> net = named("ResNet-50")
        >>> net.strides, maps(net, net.strides)
        ((1, 2, 2, 2), (1, 2, 2, 2, 2, 2))
    """
    stem = {"simple": (2,), "pooled": (2, 2), "small": ()}[_stem_kind(like)]
    return (1, *stem, *(stride for stride in strides if stride > 1))


def _stem_kind(like: Description) -> str:
    return like.stem if isinstance(like, AnyNet) else "simple"


class _Map(NamedTuple):
    """A feature map and the term that wrote it, None for the image."""

    extent: Extent
    source: int | None


class _Block(NamedTuple):
    stage: int
    first: bool
    width: Symbol  # of its input
    stride: int
    position: int  # of its output among the maps


class _Tape:
    """Writes down terms as a forward pass would run them."""

    def __init__(self, form: Form) -> None:
        self.form = form
        self.terms: list[Term] = []
        self.times = ONCE

    def stem(self) -> _Map:
        kernel, stride = {"simple": (3, 2), "pooled": (7, 2), "small": (3, 1)}[
            _stem_kind(self.form.like)
        ]
        image = _Map(Extent(("inputs", 0), IMAGE), None)
        positions: Symbol = ("map", int(stride > 1))
        product = Product(("inputs", 0), ("stem", 0), kernel=kernel, stride=stride)
        x = self._norm(self._conv(image, product, "convolution kxk", positions), active=True)
        if _stem_kind(self.form.like) == "pooled":
            pooled = Extent(("stem", 0), ("map", 2))
            x = self._add(
                "max_pool2d_with_indices", "pooling", (x,), pooled, copies=_POOLED_ELEMENTS
            )
        return x

    def block(self, x: _Map, block: _Block) -> _Map:
        if isinstance(self.form.like, EfficientNet):
            return self._inverted(x, block)
        grouped = self.form.like.block in GROUPED
        y = self._bottleneck(x, block) if grouped else self._basic(x, block)
        linear = self.form.like.block == "linear_bottleneck"
        y = self._shortcut(x, y, block, projected=not linear)
        return y if linear else self._active(y)

    def head(self, x: _Map) -> None:
        like, width = self.form.like, x.extent.channels
        if like.head_width:
            product = Product(width, ("head", 0))
            x = self._conv(x, product, "convolution 1x1", x.extent.positions)
            x = self._norm(x, active=True)
            width = ("head", 0)
        x = self._add("mean", "reduction", (x,), Extent(width, ONE))
        classes: Symbol = ("classes", 0)
        product = Product(width, classes)
        self._add(
            "addmm", LINEAR, (x,), Extent(classes, ONE), product=product, vectors=(1, classes)
        )

    def _bottleneck(self, x: _Map, block: _Block) -> _Map:
        in_1x1 = isinstance(self.form.like, AnyNet) and self.form.like.stride_in_1x1
        early, late = (block.stride, 1) if in_1x1 else (1, block.stride)
        plain, after = self.form.plain[block.stage], ("map", block.position)
        inner = ("width" if plain else "inner", block.stage)
        positions = after if in_1x1 else x.extent.positions
        product = Product(block.width, inner, stride=early)
        y = self._norm(self._conv(x, product, "convolution 1x1", positions), active=True)
        groups = (("group", block.stage), inner, ("groups", block.stage))
        kind = self.form.spatial[block.stage][not block.first]
        y = self._conv(y, Product(*groups, kernel=3, stride=late), kind, after)
        y = self._excited(self._norm(y, active=True), block)
        product = Product(inner, ("width", block.stage))
        return self._norm(self._conv(y, product, "convolution 1x1", after))

    def _basic(self, x: _Map, block: _Block) -> _Map:
        width, after = ("width", block.stage), ("map", block.position)
        first = Product(block.width, width, kernel=3, stride=block.stride)
        second = Product(width, width, kernel=3)
        y = self._norm(self._conv(x, first, "convolution kxk", after), active=True)
        return self._norm(self._conv(y, second, "convolution kxk", after))

    def _inverted(self, x: _Map, block: _Block) -> _Map:
        stage, after = block.stage, ("map", block.position)
        assert isinstance(self.form.like, EfficientNet)
        inner = ("first inner" if block.first else "inner", stage)
        y = x
        if self.form.expanded[stage]:
            product = Product(block.width, inner)
            y = self._conv(x, product, "convolution 1x1", x.extent.positions)
            y = self._norm(y, active=True)
        else:
            inner = block.width
        depthwise = Product(ONE, inner, inner, self.form.like.kernels[stage], block.stride)
        kind = self.form.spatial[stage][not block.first]
        y = self._norm(self._conv(y, depthwise, kind, after), active=True)
        y = self._excited(y, block)
        product = Product(inner, ("width", stage))
        y = self._norm(self._conv(y, product, "convolution 1x1", after))
        return self._shortcut(x, y, block, projected=False)

    def _excited(self, x: _Map, block: _Block) -> _Map:
        """Weigh channels by squeeze-and-excitation, where the networks have it."""
        if not self.form.like.se_ratio:
            return x
        width = x.extent.channels
        narrow: Symbol = ("first squeeze" if block.first else "squeeze", block.stage)
        y = self._add("mean", "reduction", (x,), Extent(width, ONE))
        y = self._conv(y, Product(width, narrow), "convolution 1x1", ONE, bias=True)
        y = self._active(y)
        y = self._conv(y, Product(narrow, width), "convolution 1x1", ONE, bias=True)
        y = self._active(y, "sigmoid")
        return self._add("mul", "elementwise", (x, y), x.extent)

    def _shortcut(self, x: _Map, y: _Map, block: _Block, *, projected: bool) -> _Map:
        """Add a block's input, where shapes match or a convolution makes them match."""
        if isinstance(self.form.like, AnyNet) and self.form.like.block == "vanilla":
            return y
        if block.first and not self.form.alike[block.stage]:
            if not projected:
                return y
            product = Product(block.width, ("width", block.stage), stride=block.stride)
            positions: Symbol = ("map", block.position)
            x = self._norm(self._conv(x, product, "convolution 1x1", positions))
        return self._add("add", "elementwise", (x, y), y.extent)

    def _conv(
        self, x: _Map, product: Product, kind: str, positions: Symbol, *, bias: bool = False
    ) -> _Map:
        writes, vectors = Extent(product.outs, positions), (int(bias), product.outs)
        return self._add("convolution", kind, (x,), writes, product=product, vectors=vectors)

    def _norm(self, x: _Map, *, active: bool = False) -> _Map:
        vectors = (_NORM_VECTORS, x.extent.channels)
        y = self._add("native_batch_norm", "norm", (x,), x.extent, vectors=vectors)
        return self._active(y) if active else y

    def _active(self, x: _Map, name: str | None = None) -> _Map:
        own = _ACTIVATIONS[self.form.like.activation]
        return self._add(name or own, "activation", (x,), x.extent)

    def _add(
        self,
        name: str,
        kind: str,
        reads: tuple[_Map, ...],
        writes: Extent,
        *,
        product: Product | None = None,
        vectors: tuple[int, Symbol] = (0, ONE),
        copies: int = 1,
    ) -> _Map:
        sources = sorted({read.source for read in reads if read.source is not None})
        self.terms.append(
            Term(
                f"aten.{name}",
                kind,
                self.times,
                tuple(read.extent for read in reads),
                writes,
                product,
                vectors,
                copies,
                tuple(sources),
            )
        )
        return _Map(writes, len(self.terms) - 1)
