"""What a description costs, in closed form: exact integers, for one or for many at once.

Everything here works on integers as well as on arrays of them, one entry a candidate: the
arithmetic that counts one network counts a million.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from convscale.complexity.complexity import Complexity
from convscale.errors import InputError
from convscale.families.description import GROUPED, AnyNet, Description, EfficientNet
from convscale.quantities import Resolution, check_resolution, sides

CONVENTIONS = ("default", "pycls")
Number = Any  # an integer, or an int64 array of them
Stage = tuple[Number, Number, Number, Number, int]


class Cost(NamedTuple):
    """Flops, params and acts; beside them what the convention `pycls` adds.

    `bias_flops` are one for each output of a layer with biases, `pool_acts` the outputs of
    max-pooling.

    Example:
        >>> Cost(8, 2, 1).plus(Cost(4, 1, 1)).times(2)
        Cost(flops=24, params=6, acts=4, bias_flops=0, pool_acts=0)
    """

    flops: Number
    params: Number
    acts: Number
    bias_flops: Number = 0
    pool_acts: Number = 0

    def plus(self, other: Cost) -> Cost:
        """Return the sum of two costs."""
        return Cost(*(mine + its for mine, its in zip(self, other, strict=True)))

    def times(self, count: Number) -> Cost:
        """Return the cost of so many."""
        return (
            self
            if isinstance(count, int) and count == 1
            else Cost(*(count * mine for mine in self))
        )

    def total(self, convention: str) -> tuple[Number, Number, Number]:
        """Return flops, params and acts in a convention."""
        if convention == "pycls":
            return self.flops + self.bias_flops, self.params, self.acts + self.pool_acts
        return self.flops, self.params, self.acts


def check_closed_form(convention: str) -> None:
    """Refuse a convention in which descriptions are not counted in closed form.

    Raises:
        InputError: If it is not default or pycls.

    Example:
        >>> check_closed_form("pycls")
    """
    if convention not in CONVENTIONS:
        raise InputError(
            f"The closed form of paper families does not count in the convention {convention!r}. "
            f"Use {' or '.join(CONVENTIONS)}, or count the network itself (convscale count)."
        )


def count(
    description: Description,
    *,
    resolution: Resolution | None = None,
    convention: str = "default",
) -> Complexity:
    """Count a description: flops (multiply-adds), params and acts of one image.

    Args:
        description: The network.
        resolution: Input side, or all sides, in px; the description's own by default.
        convention: default, or pycls, which adds biases to flops and max-pooling to acts.

    Raises:
        InputError: If the convention or the resolution is wrong.

    Example:
        >>> from convscale.families.registry import named
        >>> count(named("ResNet-50"))
        Complexity(flops=4089184256, params=25557032, acts=11114984)
    """
    check_closed_form(convention)
    side = check_resolution(description.resolution if resolution is None else resolution, dims=2)
    net = description
    if isinstance(net, EfficientNet):
        stages = zip(net.depths, net.widths, net.expansion_ratios, net.strides, strict=True)
        cost = efficientnet_cost(net, tuple(stages), side)
    else:
        cost = _anynet(net, side)
    return Complexity(*cost.total(convention))


def _anynet(net: AnyNet, resolution: Resolution) -> Cost:
    stages = zip(
        net.depths, net.widths, net.inner_widths, net.group_widths, net.strides, strict=True
    )
    return anynet_cost(net, tuple(stages), resolution)


def anynet_cost(
    net: AnyNet,
    stages: tuple[Stage, ...],
    resolution: Any,
    *,
    stem_width: Number | None = None,
    head_width: Number | None = None,
) -> Cost:
    """Return the cost of the network, or the networks, with other stages.

    Args:
        net: What is around the stages, and the kind of block.
        stages: Depth, width, inner width, group width and stride of each stage; last stages
            may have no blocks.
        resolution: Input side, or all sides, in px; a side may be an array as well.
        stem_width: Width of the stem; the network's own by default.
        head_width: Width of the last 1×1 convolution, where there is one; its own by default.

    Example:
        >>> from convscale.families.registry import named
        >>> net = named("RegNetX-400MF")
        >>> anynet_cost(net, ((1, 32, 32, 16, 2), (0, 64, 64, 16, 2)), 224).params > 32 * 1000
        True
    """
    width: Number = net.stem_width if stem_width is None else stem_width
    cost, size = _stem(net, width, resolution)
    for depth, new, inner, group, stride in stages:
        before, size = size, _strided(size, stride)
        first = _block(net, width, new, inner, group, before, size, stride)
        rest = _block(net, new, new, inner, group, size, size, 1)
        cost = cost.plus(first.times(_present(depth)))
        cost = cost.plus(rest.times(_beyond_first(depth)))
        width = _last(depth, new, width)
        if net.head_width:  # all that depends on the size of the last map
            size = (_last(depth, size[0], before[0]), _last(depth, size[1], before[1]))
    return cost.plus(_head(net, width, size, head_width))


def _stem(net: AnyNet, width: Number, resolution: Any) -> tuple[Cost, tuple[Number, Number]]:
    kernel, stride = {"simple": (3, 2), "pooled": (7, 2), "small": (3, 1)}[net.stem]
    size = _strided(sides(resolution), stride)
    cost = _conv(net.in_chans, width, _area(size), kernel=kernel)
    if net.stem == "pooled":
        size = _strided(size, 2)
        cost = cost.plus(Cost(0, 0, 0, pool_acts=width * _area(size)))
    return cost, size


def _block(
    net: AnyNet,
    width: Number,
    new: Number,
    inner: Number,
    group: Number,
    before: tuple[Number, Number],
    after: tuple[Number, Number],
    stride: int,
) -> Cost:
    """Return the cost of one block from a width to another."""
    area, early = _area(after), _area(after if net.stride_in_1x1 else before)
    if net.block in GROUPED:
        cost = _conv(width, inner, early).plus(_conv(group, inner, area, kernel=3))
        if net.se_ratio:
            cost = cost.plus(_excitation(inner, _rounded(net.se_ratio * width)))
        cost = cost.plus(_conv(inner, new, area))
    else:
        cost = _conv(width, new, area, kernel=3).plus(_conv(new, new, area, kernel=3))
    if net.block in ("linear_bottleneck", "vanilla"):
        return cost
    projected = 1 if stride != 1 else _differ(width, new)
    if isinstance(projected, int) and not projected:
        return cost
    return cost.plus(_conv(width, new, area).times(projected))


def _head(
    net: AnyNet | EfficientNet,
    width: Number,
    size: tuple[Number, Number],
    head_width: Number | None = None,
) -> Cost:
    cost = Cost(0, 0, 0)
    if net.head_width:
        head = net.head_width if head_width is None else head_width
        cost = _conv(width, head, _area(size))
        width = head
    return cost.plus(_conv(width, net.num_classes, 1, bias=True))


def efficientnet_cost(
    net: EfficientNet,
    stages: tuple[tuple[Number, Number, Any, int], ...],
    resolution: Any,
    *,
    stem_width: Number | None = None,
    head_width: Number | None = None,
) -> Cost:
    """Return the cost of the network, or the networks, with other stages.

    Args:
        net: What is around the stages, and the kernels.
        stages: Depth, width, expansion ratio and stride of each stage; last stages may have no
            blocks.
        resolution: Input side, or all sides, in px; a side may be an array as well.
        stem_width: Width of the stem; the network's own by default.
        head_width: Width of the last 1×1 convolution, where there is one; its own by default.

    Example:
        >>> from convscale.families.registry import named
        >>> efficientnet_cost(named("EfficientNet-B0"), ((1, 16, 1, 1),), 224).acts
        17060880
    """
    size = _strided(sides(resolution), 2)
    width: Number = net.stem_width if stem_width is None else stem_width
    cost = _conv(net.in_chans, width, _area(size), kernel=3)
    for (depth, new, ratio, stride), kernel in zip(stages, net.kernels, strict=False):
        before, size = size, _strided(size, stride)
        first = _inverted(net, width, new, ratio, kernel, before, size)
        rest = _inverted(net, new, new, ratio, kernel, size, size)
        cost = cost.plus(first.times(_present(depth))).plus(rest.times(_beyond_first(depth)))
        width = _last(depth, new, width)
        size = (_last(depth, size[0], before[0]), _last(depth, size[1], before[1]))
    return cost.plus(_head(net, width, size, head_width))


def _inverted(
    net: EfficientNet,
    width: Number,
    new: Number,
    ratio: Any,
    kernel: int,
    before: tuple[Number, Number],
    after: tuple[Number, Number],
) -> Cost:
    inner = _floored(width * ratio)
    expanded = np.not_equal(ratio, 1)
    cost = Cost(0, 0, 0)
    if bool(np.any(expanded)):
        times = 1 if bool(np.all(expanded)) else expanded.astype(np.int64)
        cost = _conv(width, inner, _area(before)).times(times)
    cost = cost.plus(_conv(1, inner, _area(after), kernel=kernel))
    if net.se_ratio:
        cost = cost.plus(_excitation(inner, _floored(net.se_ratio * width, least=1)))
    return cost.plus(_conv(inner, new, _area(after)))


def _excitation(width: Number, inner: Number) -> Cost:
    """Return the cost of two layers on pooled maps, with biases and without norms."""
    return _conv(width, inner, 1, bias=True).plus(_conv(inner, width, 1, bias=True))


def _conv(
    inputs: Number, width: Number, area: Number, *, kernel: int = 1, bias: bool = False
) -> Cost:
    """Return the cost of a convolution: k²·inputs·w weights, each used at every position.

    Args:
        inputs: Input channels of a group.
        width: Output channels.
        area: Output positions.
        kernel: Side of the kernel.
        bias: Whether it has biases; else a norm with a scale and a shift follows.
    """
    weights = inputs * width * (kernel * kernel)
    outputs = width * area
    params = weights + (width if bias else 2 * width)
    return Cost(weights * area, params, outputs, bias_flops=outputs if bias else 0)


def _strided(size: Sequence[Number], stride: int) -> tuple[Number, Number]:
    height, width = size
    return (height - 1) // stride + 1, (width - 1) // stride + 1


def _area(size: tuple[Number, Number]) -> Number:
    return size[0] * size[1]


def _rounded(value: Number) -> Number:
    """Round half to even, to at least 1."""
    if isinstance(value, np.ndarray):
        return np.maximum(np.rint(value), 1).astype(np.int64)
    return max(1, round(value))


def _floored(value: Number, *, least: int = 0) -> Number:
    if isinstance(value, np.ndarray):
        return np.maximum(np.floor(value), least).astype(np.int64)
    return max(least, int(value))


def _present(depth: Number) -> Number:
    if isinstance(depth, np.ndarray):
        return 1 if bool(depth.all()) else (depth > 0).astype(np.int64)
    return int(depth > 0)


def _beyond_first(depth: Number) -> Number:
    return np.maximum(depth - 1, 0) if isinstance(depth, np.ndarray) else max(depth - 1, 0)


def _last(depth: Number, new: Number, old: Number) -> Number:
    if isinstance(depth, np.ndarray):
        return new if bool(depth.all()) else np.where(depth > 0, new, old)
    return new if depth else old


def _differ(width: Number, new: Number) -> Number:
    found = width != new
    return found.astype(np.int64) if isinstance(found, np.ndarray) else int(found)
