"""Classes of operators whose kernels are told apart by their sizes alone: CPUs, training steps."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from convscale.complexity.calls import KINDS
from convscale.prediction.workload import Workload

Floats = npt.NDArray[np.float64]
Positions = npt.NDArray[np.intp]

STEM, KXK, ONE = "convolution stem", "convolution kxk", "convolution 1x1"
GROUPED, LINEAR, MATRIX = "convolution grouped", "linear", "matrix product"
DEPTHWISE, STRIDED, LARGE = "depthwise", "depthwise strided", "depthwise large"
DENSE = (STEM, KXK, ONE, GROUPED, LINEAR, MATRIX)
SPATIAL = (DEPTHWISE, STRIDED, LARGE)
_IMAGE = 4  # channels of what a stem reads, at most
_SMALL = 25  # positions of a small kernel, at most


def classes_by_size(
    work: Workload, *, named: Mapping[str, str], alike: Mapping[str, str]
) -> dict[str, Positions]:
    """Return the positions of the operators of each class, in the order of their first.

    Candidates are of the classes of the first.

    Args:
        work: The operators.
        named: Classes by the name of the operator, before those by kind.
        alike: Classes by kind, where they differ from it.

    Example:
        >>> from convscale.complexity.calls import Geometry, OperatorCall
        >>> from convscale.prediction.workload import workload
        >>> stem = Geometry(3, 64, rows=112 * 112, kernel=(7, 7), stride=(2, 2))
        >>> call = OperatorCall("a", "aten.convolution", "convolution kxk", geometry=stem)
        >>> classes_by_size(workload([call]), named={}, alike={})
        {'convolution stem': array([0])}
    """
    names = work.flow.names if work.flow is not None else ("",) * work.operators
    kernel, stride, inner = (_first(array) for array in (work.kernel, work.stride, work.inner))
    found: dict[str, list[int]] = {}
    for place, (kind, name) in enumerate(zip(work.kind.tolist(), names, strict=True)):
        own = named.get(name) or alike.get(KINDS[kind], KINDS[kind])
        if own == "convolution depthwise":
            own = STRIDED if stride[place] > 1 else DEPTHWISE
            own = LARGE if kernel[place] > _SMALL and own == DEPTHWISE else own
        elif own == KXK and inner[place] <= _IMAGE * kernel[place]:
            own = STEM
        found.setdefault(own, []).append(place)
    return {name: np.array(places, dtype=np.intp) for name, places in found.items()}


def _first(array: Floats) -> Floats:
    return array.reshape(len(array), -1)[:, 0] if array.size else array
