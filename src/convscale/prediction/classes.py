"""Which class of the runtime model an operator is of: those of a class share coefficients."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from convscale.complexity.calls import (
    CONVOLUTIONS,
    FUSED_ATTENTION,
    KINDS,
    LINEAR,
    MATRIX_PRODUCT,
    OTHER_PRODUCT,
    RECURRENT,
    WITHOUT_RULE,
)
from convscale.prediction.workload import Workload

DENSE = ("convolution 1x1", "convolution kxk", LINEAR, MATRIX_PRODUCT)
GROUPED = ("convolution grouped",)
ATTENTION = "attention"  # both products of it, and nothing between them is moved
DEPTHWISE = tuple(
    f"depthwise {kernel}{layout}"
    for kernel in ("3", "3 strided", "5", "5 strided", "7", "7 strided", "larger", "oblong")
    for layout in ("", " last")
)
MOVING = (
    "batch norm",
    "layer norm",
    "group norm",
    "relu",
    "activation",
    "hard activation",
    "gelu",
    "softmax",
    "max pooling",
    "average pooling",
    "reduction",
    "sum",
    "elementwise",
    "concatenation",
    "resizing",
    "bilinear",
    "padding",
    "lookup",
    "copy",
    "other",
)
CLASSES = (*DENSE, *GROUPED, ATTENTION, *DEPTHWISE, *MOVING)

# Parts of another operator's kernel.
FUSED = frozenset(("bias", "_safe_softmax"))
_LIKE = {
    "convolution transposed": "convolution kxk",
    "convolution deformable": "convolution kxk",
    FUSED_ATTENTION: ATTENTION,
    RECURRENT: LINEAR,
    OTHER_PRODUCT: MATRIX_PRODUCT,
    WITHOUT_RULE: MATRIX_PRODUCT,
    "norm": "batch norm",
    "pooling": "max pooling",
    "constant": "other",
}
_NAMED = {
    "native_layer_norm": "layer norm",
    "native_group_norm": "group norm",
    "relu": "relu",
    "gelu": "gelu",
    **dict.fromkeys(("hardtanh", "hardswish", "hardsigmoid", "leaky_relu"), "hard activation"),
    "sum": "sum",
    "max_pool2d_with_indices": "max pooling",
    "upsample_bilinear2d": "bilinear",
    "attention": ATTENTION,
}


def classes_of(work: Workload, layout: str = "nchw") -> dict[str, npt.NDArray[np.intp]]:
    """Return the positions of the operators of each class that there is.

    What is a part of another operator's kernel is of no class: it takes no time of its own.

    Args:
        work: The operators.
        layout: Of the network's input, `nchw` or `nhwc`.

    Example:
        >>> from convscale.complexity.calls import OperatorCall
        >>> from convscale.prediction.workload import workload
        >>> calls = [OperatorCall("a", "aten.relu", "activation"), OperatorCall("b", "x", "norm")]
        >>> {name: places.tolist() for name, places in classes_of(workload(calls)).items()}
        {'batch norm': [1], 'relu': [0]}
    """
    flow = work.flow
    names = flow.names if flow is not None else ("",) * work.operators
    last = np.zeros(work.operators) + (layout == "nhwc")
    if flow is not None:
        last = flow.last if layout == "nchw" else 1.0 - flow.first_nhwc
    kernel, stride = _first(work.kernel), _first(work.stride)
    found: dict[str, list[int]] = {}
    for place, (kind, name) in enumerate(zip(work.kind.tolist(), names, strict=True)):
        own = _class_of(KINDS[kind], name, kernel[place], stride[place])
        if own.startswith("depthwise") and last[place]:
            own = f"{own} last"
        if name not in FUSED:
            found.setdefault(own, []).append(place)
    return {name: np.array(found[name], dtype=np.intp) for name in CLASSES if name in found}


def _class_of(kind: str, name: str, kernel: float, stride: float) -> str:
    if kind == "convolution depthwise":
        if round(kernel**0.5) ** 2 != kernel:
            return "depthwise oblong"
        side = next((name for most, name in _SIDES.items() if kernel <= most), "larger")
        return f"depthwise {side}{' strided' if stride > 1 and side != 'larger' else ''}"
    if kind in CONVOLUTIONS:
        return _LIKE.get(kind, kind)
    if kind == "pooling" and "avg" in name:
        return "average pooling"
    return _NAMED.get(name) or _LIKE.get(kind, kind)


# A depthwise convolution over so many positions at most has a kernel of its own.
_SIDES = {9: "3", 25: "5", 49: "7"}


def _first(array: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return an array of operators: what a kernel is does not change between candidates."""
    return array.reshape(len(array), -1)[:, 0] if array.size else array
