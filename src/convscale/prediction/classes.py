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
DEPTHWISE = ("depthwise small", "depthwise strided", "depthwise large")
MOVING = (
    "batch norm",
    "layer norm",
    "group norm",
    "relu",
    "activation",
    "softmax",
    "max pooling",
    "average pooling",
    "reduction",
    "elementwise",
    "concatenation",
    "resizing",
    "padding",
    "lookup",
    "copy",
    "other",
)
CLASSES = (*DENSE, *GROUPED, *DEPTHWISE, *MOVING)

_LIKE = {
    "convolution transposed": "convolution kxk",
    "convolution deformable": "convolution kxk",
    FUSED_ATTENTION: MATRIX_PRODUCT,
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
    "max_pool2d_with_indices": "max pooling",
}


def classes_of(work: Workload) -> dict[str, npt.NDArray[np.intp]]:
    """Return the positions of the operators of each class that there is.

    Example:
        >>> from convscale.complexity.calls import OperatorCall
        >>> from convscale.prediction.workload import workload
        >>> calls = [OperatorCall("a", "aten.relu", "activation"), OperatorCall("b", "x", "norm")]
        >>> {name: places.tolist() for name, places in classes_of(workload(calls)).items()}
        {'batch norm': [1], 'relu': [0]}
    """
    names = work.flow.names if work.flow is not None else ("",) * work.operators
    kernel, stride = _first(work.kernel), _first(work.stride)
    found: dict[str, list[int]] = {}
    for place, (kind, name) in enumerate(zip(work.kind, names, strict=True)):
        own = _class_of(KINDS[kind], name, kernel[place], stride[place])
        found.setdefault(own, []).append(place)
    return {name: np.array(found[name], dtype=np.intp) for name in CLASSES if name in found}


def _class_of(kind: str, name: str, kernel: float, stride: float) -> str:
    if kind == "convolution depthwise":
        if kernel > _LARGE:
            return "depthwise large"
        return "depthwise strided" if stride > 1 else "depthwise small"
    if kind in CONVOLUTIONS or kind in DENSE:
        return _LIKE.get(kind, kind)
    if kind == "pooling" and "avg" in name:
        return "average pooling"
    return _NAMED.get(name) or _LIKE.get(kind, kind)


_LARGE = 25  # a kernel of more positions has no fast kernel for depthwise convolutions


def _first(array: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return an array of operators: what a kernel is does not change between candidates."""
    return array.reshape(len(array), -1)[:, 0] if array.size else array
