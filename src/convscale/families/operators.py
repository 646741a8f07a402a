"""The operators that networks of a family run, in the order of a forward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from convscale.complexity.calls import LINEAR
from convscale.families.description import GROUPED, AnyNet, EfficientNet
from convscale.families.terms import (
    IMAGE,
    ONCE,
    ONE,
    Extent,
    Form,
    Product,
    Symbol,
    Term,
    maps,
    stem_kind,
)

_IMAGE = -1  # the position of what no term wrote
_POOLED_ELEMENTS = 9  # max_pool2d puts out indices of 8 bytes beside every element
_ACTIVATIONS = {"relu": "relu", "relu6": "hardtanh", "silu": "silu", "gelu": "gelu"}
_NORM_VECTORS = 4  # scale, shift, mean and variance


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
    x = tape.stem()
    with tape.holding(x):
        position, width = len(maps(form.like, ())) - 1, ("stem", 0)
        for stage, stride in enumerate(form.strides):
            position += stride > 1
            with tape.holding(x):
                x = _stage(tape, x, _Block(stage, True, width, stride, position))
            width = ("width", stage)
    with tape.holding(x):
        tape.head(x)
    return tuple(tape.terms)


def _stage(tape: _Tape, x: _Map, block: _Block) -> _Map:
    tape.place = stage = block.stage
    x = tape.block(x, block)
    other = _Block(stage, False, ("width", stage), 1, block.position)
    if tape.form.rest[stage]:
        tape.times = ("rest", stage)
        x = tape.block(x, other)
        tape.times = ONCE
    last = stage == len(tape.form.strides) - 1
    return tape.block(x, other) if last and tape.form.deep else x


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
        self.place = -1
        self.image = _Map(Extent(("inputs", 0), IMAGE), None)
        self._held = [self.image]

    @contextmanager
    def holding(self, *held: _Map) -> Iterator[None]:
        """Keep tensors alive: those that a running module was given, or still has to use."""
        self._held += held
        yield
        del self._held[-len(held) :]

    def stem(self) -> _Map:
        kernel, stride = {"simple": (3, 2), "pooled": (7, 2), "small": (3, 1)}[
            stem_kind(self.form.like)
        ]
        positions: Symbol = ("map", int(stride > 1))
        product = Product(("inputs", 0), ("stem", 0), kernel=kernel, stride=stride)
        x = self._conv_norm(self.image, product, "convolution kxk", positions, active=True)
        if stem_kind(self.form.like) == "pooled":
            pooled = Extent(("stem", 0), ("map", 2))
            x = self._add(
                "max_pool2d_with_indices", "pooling", (x,), pooled, copies=_POOLED_ELEMENTS
            )
        return x

    def block(self, x: _Map, block: _Block) -> _Map:
        with self.holding(x):
            if isinstance(self.form.like, EfficientNet):
                return self._inverted(x, block)
            if self.form.like.block in GROUPED:
                return self._bottleneck(x, block)
            return self._basic(x, block)

    def head(self, x: _Map) -> None:
        self.place = len(self.form.strides)
        like, width = self.form.like, x.extent.channels
        if like.head_width:
            product = Product(width, ("head", 0))
            positions = x.extent.positions
            x = self._conv_norm(x, product, "convolution 1x1", positions, active=True)
            width = ("head", 0)
        x = self._add("mean", "reduction", (x,), Extent(width, ONE))
        classes: Symbol = ("classes", 0)
        product = Product(width, classes)
        self._add(
            "addmm", LINEAR, (x,), Extent(classes, ONE), product=product, vectors=(1, classes)
        )

    def _bottleneck(self, x: _Map, block: _Block) -> _Map:
        like = self.form.like
        in_1x1 = isinstance(like, AnyNet) and like.stride_in_1x1
        early, late = (block.stride, 1) if in_1x1 else (1, block.stride)
        plain, after = self.form.plain[block.stage], ("map", block.position)
        inner = ("width" if plain else "inner", block.stage)
        positions = after if in_1x1 else x.extent.positions
        product = Product(block.width, inner, stride=early)
        y = self._conv_norm(x, product, "convolution 1x1", positions, active=True)
        groups = (("group", block.stage), inner, ("groups", block.stage))
        kind = self.form.spatial[block.stage][not block.first]
        product = Product(*groups, kernel=3, stride=late)
        y = self._excited(self._conv_norm(y, product, kind, after, active=True), block)
        product = Product(inner, ("width", block.stage))
        y = self._conv_norm(y, product, "convolution 1x1", after)
        linear = isinstance(like, AnyNet) and like.block == "linear_bottleneck"
        y = self._shortcut(x, y, block, projected=not linear)
        return y if linear else self._active(y)

    def _basic(self, x: _Map, block: _Block) -> _Map:
        width, after = ("width", block.stage), ("map", block.position)
        first = Product(block.width, width, kernel=3, stride=block.stride)
        second = Product(width, width, kernel=3)
        y = self._conv_norm(x, first, "convolution kxk", after, active=True)
        y = self._conv_norm(y, second, "convolution kxk", after)
        with self.holding(y):
            return self._active(self._shortcut(x, y, block, projected=True))

    def _inverted(self, x: _Map, block: _Block) -> _Map:
        stage, after = block.stage, ("map", block.position)
        assert isinstance(self.form.like, EfficientNet)
        inner = ("first inner" if block.first else "inner", stage)
        y = x
        if self.form.expanded[stage]:
            product = Product(block.width, inner)
            positions = x.extent.positions
            y = self._conv_norm(x, product, "convolution 1x1", positions, active=True)
        else:
            inner = block.width
        depthwise = Product(ONE, inner, inner, self.form.like.kernels[stage], block.stride)
        kind = self.form.spatial[stage][not block.first]
        y = self._excited(self._conv_norm(y, depthwise, kind, after, active=True), block)
        product = Product(inner, ("width", stage))
        y = self._conv_norm(y, product, "convolution 1x1", after)
        return self._shortcut(x, y, block, projected=False)

    def _excited(self, x: _Map, block: _Block) -> _Map:
        """Weigh channels by squeeze-and-excitation, where the networks have it."""
        if not self.form.like.se_ratio:
            return x
        width = x.extent.channels
        narrow: Symbol = ("first squeeze" if block.first else "squeeze", block.stage)
        with self.holding(x):
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
            with self.holding(y):
                x = self._conv_norm(x, product, "convolution 1x1", positions)
        return self._add("add", "elementwise", (x, y), y.extent)

    def _conv(
        self, x: _Map, product: Product, kind: str, positions: Symbol, *, bias: bool = False
    ) -> _Map:
        writes, vectors = Extent(product.outs, positions), (int(bias), product.outs)
        return self._add("convolution", kind, (x,), writes, product=product, vectors=vectors)

    def _conv_norm(
        self, x: _Map, product: Product, kind: str, positions: Symbol, *, active: bool = False
    ) -> _Map:
        with self.holding(x):
            y = self._conv(x, product, kind, positions)
            vectors = (_NORM_VECTORS, product.outs)
            y = self._add("native_batch_norm", "norm", (y,), y.extent, vectors=vectors)
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
        held = (*self._held, *reads)
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
                tuple(sorted({_IMAGE if one.source is None else one.source for one in held})),
                self.place,
            )
        )
        return _Map(writes, len(self.terms) - 1)
