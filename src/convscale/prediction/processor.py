"""Smooth rooflines of operators on CPUs: what is multiplied, moved and computed, by class.

Every function here takes coefficients as numbers or as duals, and uses +, ·, / and powers only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from convscale.prediction.execution import Execution
from convscale.prediction.sizes import (
    DENSE,
    GROUPED,
    KXK,
    LINEAR,
    MATRIX,
    SPATIAL,
    STEM,
    Positions,
    classes_by_size,
)
from convscale.prediction.workload import Workload

Floats = npt.NDArray[np.float64]

# What moves memory, and computes: from elements that need an addition to such that need a series.
_MOVING = (
    "norm",
    "layer norm",
    "activation",
    "exponential",
    "error function",
    "elementwise",
    "reduction",
    "pooling",
    "concatenation",
    "resizing",
    "copy",
)
_OF_PRODUCTS = ("multiply", "memory", "weights", "rows", "unaligned", "launch")
_OF_MOVING = ("memory", "weights", "compute", "launch")
_ALIKE = {
    "convolution transposed": KXK,
    "convolution deformable": KXK,
    "fused attention": MATRIX,
    "recurrent": LINEAR,
    "other product": MATRIX,
    "without a rule": MATRIX,
    "softmax": "exponential",
    **dict.fromkeys(("padding", "lookup", "constant", "other"), "copy"),
}
_NAMED = {
    "native_layer_norm": "layer norm",
    "native_group_norm": "layer norm",
    "gelu": "error function",
    **dict.fromkeys("silu sigmoid tanh mish elu softplus exp pow".split(), "exponential"),
}
_VECTOR = 8.0  # numbers that a vector instruction takes
_SHARPNESS = 3.0  # of the p-norm that joins multiplying and moving
_LEAST = 1e-3  # megabytes
_WORTH = 1e4  # elements for which half the threads are started
_NANO, _MICRO = 1e-9, 1e-6


def processor_coefficients() -> dict[str, float]:
    """Return the coefficients without a unit, with the values that a fit starts from.

    `multiply`, `memory` and `launch` with a class say how much slower that class is; `weights`
    is what a byte of weights takes and `compute` what an element computed takes, as a multiple
    of a byte moved. `outs`, `inner` and `rows` are the outputs, the products and the positions
    with which a product runs at half its rate; `unaligned` is the part of the waste of
    incomplete vectors that costs time; `parallel` says how soon work is shared out to threads.

    Example:
        >>> processor_coefficients()["compute.error function"]
        4.0
    """
    found = {"weights": 1.5, "compute": 2.0, "uncached": 1.0, "cache": 20.0, "parallel": 1.0}
    found |= {"outs": 4.0, "inner": 8.0, "rows": 8.0, "unaligned": 0.3, "narrow": 4.0}
    found |= {"small kernel": 1.0, "other kernel": 1.0, "strided kernel": 1.0}
    for name in (*DENSE, *SPATIAL):
        found |= {f"{quantity}.{name}": 1.0 for quantity in _OF_PRODUCTS}
    for name in SPATIAL:
        found[f"multiply.{name}"] = 4.0
    for name in DENSE:
        found |= {f"outs.{name}": 1.0, f"inner.{name}": 1.0}
    for name in _MOVING:
        found |= {f"{quantity}.{name}": 1.0 for quantity in _OF_MOVING}
    return found | {"compute.exponential": 2.0, "compute.error function": 4.0}


@dataclass(frozen=True)
class _Part:
    """The operators of one class, and what does not depend on coefficients: for a batch."""

    name: str
    work: Workload
    flops: Floats
    rows: Floats
    moved: Floats  # bytes
    weights: Floats  # bytes
    elements: Floats


def processor_classes(work: Workload) -> dict[str, Positions]:
    """Return the positions of the operators on a CPU by class.

    Example:
        >>> from convscale.complexity.calls import OperatorCall
        >>> from convscale.prediction.workload import workload
        >>> processor_classes(workload([OperatorCall("a", "aten.relu", "activation")]))
        {'activation': array([0])}
    """
    return classes_by_size(work, named=_NAMED, alike=_ALIKE)


def processor_costs(
    work: Workload, run: Execution, batch_size: Floats | float
) -> Callable[[Mapping[str, Any]], Iterator[tuple[Positions, Any]]]:
    """Return the seconds of operators on a CPU as a function of coefficients.

    Returns:
        A function that yields, class by class, the operators' positions and their seconds for
        a batch, repeats included.

    Example:
        >>> from convscale.complexity.calls import OperatorCall
        >>> from convscale.prediction.form import coefficients_of
        >>> from convscale.prediction.workload import workload
        >>> run = Execution("cpu", dtype="float32")
        >>> work = workload([OperatorCall("a", "aten.relu", "activation")])
        >>> [len(places) for places, _ in processor_costs(work, run, 1.0)(coefficients_of(run))]
        [1]
    """
    parts = [
        (places, _part(name, work.only(places), places, run, batch_size))
        for name, places in processor_classes(work).items()
    ]

    def seconds(values: Mapping[str, Any]) -> Iterator[tuple[Positions, Any]]:
        for places, part in parts:
            found = _moving(part, values) if part.name in _MOVING else _product(part, values)
            yield places, found * (part.work.repeats * _NANO)

    return seconds


def _part(
    name: str, own: Workload, places: Positions, run: Execution, batch_size: Floats | float
) -> _Part:
    batch = batch_size[places] if isinstance(batch_size, np.ndarray) else batch_size
    item = 2.0 if run.dtype in ("float16", "bfloat16") else 4.0
    return _Part(
        name=name,
        work=own,
        flops=own.flops * batch,
        rows=own.rows * batch,
        moved=(own.read + own.written) * item * batch,
        weights=own.weights * item,
        elements=own.elements * batch,
    )


def _product(part: _Part, c: Mapping[str, Any]) -> Any:
    """Return the nanoseconds of products: multiplying and moving side by side."""
    name = part.name
    multiplied = _spatial(part, c) if name in SPATIAL else _dense(part, c)
    rows = np.where(part.rows > 0, part.rows, np.inf)
    multiplied = multiplied * (c["rows"] * c[f"rows.{name}"] / rows + 1.0)
    moved = _memory(part, c) + _weights(part, c)
    starting = part.work.launches * c["launch"] * c[f"launch.{name}"] * (_MICRO / _NANO)
    return _norm(multiplied, moved) + starting


def _dense(part: _Part, c: Mapping[str, Any]) -> Any:
    """Return the nanoseconds in multiplying matrices: flops · rate · losses."""
    work, name = part.work, part.name
    known = work.outs > 0  # else nothing is lost
    outs = np.where(known, work.outs / np.maximum(work.groups, 1.0), np.inf)
    inner = np.where(known, work.inner, np.inf)
    ins = np.where(known, work.inner / np.maximum(work.kernel, 1.0), _VECTOR)
    waste = _waste(np.where(known, outs, _VECTOR)) * (1.0 if name == STEM else _waste(ins))
    found = part.flops * c["multiply"] * c[f"multiply.{name}"]
    found = found * (c["outs"] * c[f"outs.{name}"] / outs + 1.0)
    found = found * (c["inner"] * c[f"inner.{name}"] / inner + 1.0)
    lost = np.minimum(waste, _VECTOR) - 1.0
    found = found * (lost * c["unaligned"] * c[f"unaligned.{name}"] + 1.0)
    if name == KXK:
        usual, strided = work.kernel == 9, work.stride > 1
        found = found * (np.where(usual, 0.0, 1.0) * c["other kernel"] + 1.0 * usual)
        found = found * (1.0 * strided * c["strided kernel"] + 1.0 * ~strided)
    if name == GROUPED:  # groups that fill no vector
        found = found * ((c["narrow"] / ins) ** 2.0 + 1.0)
    return found


def _spatial(part: _Part, c: Mapping[str, Any]) -> Any:
    """Return the nanoseconds of depthwise convolutions: an output needs few products."""
    work, name = part.work, part.name
    found = part.flops * c["multiply"] * c[f"multiply.{name}"]
    found = found * (c["small kernel"] * 9.0 / np.maximum(work.kernel, 1.0) + 1.0)
    return found * ((_waste(work.outs) - 1.0) * c["unaligned"] * c[f"unaligned.{name}"] + 1.0)


def _waste(channels: Floats) -> Floats:
    """Return the factor by which channels grow when the last vector is filled up."""
    return np.asarray(np.ceil(channels / _VECTOR) * _VECTOR / np.maximum(channels, 1.0))


def _moving(part: _Part, c: Mapping[str, Any]) -> Any:
    """Return the nanoseconds of what only moves and computes element by element.

    Few elements are not worth starting threads for.
    """
    name = part.name
    computed = part.elements * c["memory"] * c["compute"] * c[f"compute.{name}"]
    share = (_WORTH / (part.elements + _WORTH / 10.0) / c["parallel"] + 1.0) ** -1.0
    starting = part.work.launches * c["launch"] * c[f"launch.{name}"] * share * (_MICRO / _NANO)
    return _memory(part, c) + computed + _weights(part, c) + starting


def _memory(part: _Part, c: Mapping[str, Any]) -> Any:
    """Return the nanoseconds in moving: what does not stay in a cache takes longer."""
    size = part.moved / 1e6 + _LEAST  # megabytes
    rate = c["memory"] * c[f"memory.{part.name}"]
    return part.moved * rate * (c["uncached"] / (c["cache"] / size + 1.0) + 1.0)


def _weights(part: _Part, c: Mapping[str, Any]) -> Any:
    """Return the nanoseconds in reading weights, once a batch, and in rearranging them."""
    return part.weights * c["memory"] * c["weights"] * c[f"weights.{part.name}"]


def _norm(one: Any, other: Any) -> Any:
    return (one**_SHARPNESS + other**_SHARPNESS + 1e-30) ** (1.0 / _SHARPNESS)
