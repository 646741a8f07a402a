"""The operators of a forward pass as arrays: what a runtime model reads. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from convscale.complexity.calls import KINDS, OperatorCall
from convscale.prediction.flow import Flow, flow

Floats = npt.NDArray[np.float64]
# The arrays of a workload that may have an axis of candidates.
QUANTITIES = (
    "repeats",
    "flops",
    "read",
    "written",
    "weights",
    "rows",
    "inner",
    "outs",
    "groups",
    "kernel",
    "stride",
    "elements",
    "launches",
)
_NO_PRODUCT = (0.0, 0.0, 0.0, 1.0, 1.0, 1.0)  # of `_product`: nothing is multiplied


@dataclass(frozen=True)
class Workload:
    """The operators of a forward pass of one image, an array a quantity.

    The first axis of every array are the operators; further ones, where there are any, are
    candidates, and an array may have length 1 along them. `kind` has the operators alone: the
    positions of their kinds among `KINDS`.

    Args:
        kind: The kinds, integers, shape (operators,).
        repeats: How often each operator runs.
        flops: Multiply-adds.
        read: Elements read, weights apart.
        written: Elements written.
        weights: Elements of weights read, and those written that are computed from weights
            alone; a batch of images moves them once.
        rows: Positions at which weights are applied, or to which a map is resized; else 0.
        inner: Products added up for an output, c_in / groups · ∏k.
        outs: Output channels.
        groups: Groups of a convolution.
        kernel: Positions of the kernel, ∏k.
        stride: Input positions an output position, ∏stride.
        elements: Elements computed, whether or not they are written to memory.
        launches: Kernels started: 1, or 0 where the operator is part of another's kernel.
        sources: For each operator, those that wrote what it reads; empty where not known.
        flow: How the tensors are held; where it is not known, all in half precision under
            autocast, in the layout of the network's input.

    Example:
        >>> call = OperatorCall("a", "aten.relu", "activation", bytes_read=64, bytes_written=64)
        >>> found = workload([call], item_bytes=4)
        >>> float(found.read[0]), float(found.written[0]), found.operators
        (16.0, 16.0, 1)
    """

    kind: npt.NDArray[np.intp]
    repeats: Floats
    flops: Floats
    read: Floats
    written: Floats
    weights: Floats
    rows: Floats
    inner: Floats
    outs: Floats
    groups: Floats
    kernel: Floats
    stride: Floats
    elements: Floats
    launches: Floats
    sources: tuple[tuple[int, ...], ...] = ()
    flow: Flow | None = None

    @property
    def operators(self) -> int:
        """The length of the first axis."""
        return len(self.kind)

    def only(self, which: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> Workload:
        """Return some of the operators; what wrote their inputs is no longer known.

        Example:
            >>> found = workload([OperatorCall("a", "aten.relu", "activation")] * 2)
            >>> found.only(np.array([True, False])).operators
            1
        """
        rows = as_slice(which)
        arrays: dict[str, Any] = {name: getattr(self, name)[rows] for name in QUANTITIES}
        flow = self.flow.only(which) if self.flow is not None else None
        return Workload(**arrays, kind=self.kind[which], flow=flow)


def as_slice(
    places: npt.NDArray[np.bool_] | npt.NDArray[np.intp],
) -> npt.NDArray[np.bool_] | npt.NDArray[np.intp] | slice:
    """Return places that follow each other as a slice, which copies nothing.

    Example:
        >>> as_slice(np.array([2, 3, 4])), as_slice(np.array([1, 3])).tolist()
        (slice(2, 5, None), [1, 3])
    """
    if places.dtype == np.bool_ or not len(places):
        return places
    first = int(places[0])
    follow = np.array_equal(places, np.arange(first, first + len(places)))
    return slice(first, first + len(places)) if follow else places


def workload(calls: Sequence[OperatorCall], *, item_bytes: int = 1) -> Workload:
    """Put the calls of a forward pass of one image into arrays.

    Args:
        calls: The calls.
        item_bytes: Bytes of a floating element in them.

    Example:
        >>> from convscale.complexity.calls import Geometry
        >>> stem = Geometry(3, 64, rows=112 * 112, kernel=(7, 7), stride=(2, 2))
        >>> call = OperatorCall("conv1", "aten.convolution", "convolution kxk", geometry=stem)
        >>> found = workload([call])
        >>> [float(found.inner[0]), float(found.kernel[0]), float(found.stride[0])]
        [147.0, 49.0, 4.0]
    """
    products = _array([_product(call) for call in calls]).reshape(-1, len(_NO_PRODUCT))
    rows, inner, outs, groups, kernel, stride = np.ascontiguousarray(products.T)
    moved = [(call.bytes_read, call.bytes_written, call.weight_bytes) for call in calls]
    read, written, weights = np.ascontiguousarray(_array(moved).reshape(-1, 3).T) / item_bytes
    once = read == weights  # what is computed from weights alone is written once a batch
    return Workload(
        kind=np.array([_POSITION[call.kind] for call in calls], dtype=np.intp),
        repeats=np.ones(len(calls)),
        flops=_array([call.flops for call in calls]),
        read=read - weights,
        written=np.where(once, 0.0, written),
        weights=np.where(once, weights + written, weights),
        rows=rows,
        inner=inner,
        outs=outs,
        groups=groups,
        kernel=kernel,
        stride=stride,
        elements=np.where(once, 0.0, written),
        launches=np.ones(len(calls)),
        sources=tuple(call.sources for call in calls),
        flow=flow(calls),
    )


_POSITION = {kind: position for position, kind in enumerate(KINDS)}


def _product(call: OperatorCall) -> tuple[float, ...]:
    """Return rows, inner, outs, groups, kernel and stride of what an operator multiplies.

    Where it resizes, the rows are the positions at which it interpolates.
    """
    own = call.geometry
    if own is None:
        resizes = call.kind == "resizing" and call.output_shapes
        if resizes and len(call.output_shapes[0]) > 2:
            return prod(call.output_shapes[0][2:]), *_NO_PRODUCT[1:]
        return _NO_PRODUCT
    kernel, groups = prod(own.kernel), own.groups
    inner = own.in_channels // groups * kernel
    return own.rows, inner, own.out_channels, groups, kernel, prod(own.stride)


def _array(values: Sequence[float] | Sequence[Sequence[float]]) -> Floats:
    return np.array(values, dtype=np.float64)
