"""Smooth rooflines of training steps: forward, backward and the optimizer's pass, by class.

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
    Positions,
    classes_by_size,
)
from convscale.prediction.workload import Workload

Floats = npt.NDArray[np.float64]

_MOVING = (
    "norm",
    "layer norm",
    "relu",
    "activation",
    "elementwise",
    "reduction",
    "pooling",
    "concatenation",
    "resizing",
    "copy",
)
_ALIKE = {
    "convolution transposed": KXK,
    "convolution deformable": KXK,
    "fused attention": MATRIX,
    "recurrent": LINEAR,
    "other product": MATRIX,
    "without a rule": MATRIX,
    "softmax": "activation",
    **dict.fromkeys(("padding", "lookup", "constant", "other"), "copy"),
}
_NAMED = {
    "native_layer_norm": "layer norm",
    "native_group_norm": "layer norm",
    "relu": "relu",
}
_ALIGNED = 8.0  # channels of which units for matrices take a multiple
_SHARPNESS = 2.0  # of the p-norm that joins multiplying and moving
_OVERLAP = 4.0  # of the p-norm that joins running and launching
_NANO, _MICRO = 1e-9, 1e-6


def training_coefficients() -> dict[str, float]:
    """Return the coefficients without a unit, with the values that a fit starts from.

    `multiply` and `memory` with a class say how much slower that class is, forward and backward
    together; `weights` is what a byte of weights takes a step, in casts, gradients and the
    optimizer's pass, as a multiple of a byte moved. `outs` and `inner` are the outputs and the
    products with which a product runs at half its rate; `narrow` is the width with which groups
    do, `statistics` what a norm takes more for its own statistics.

    Example:
        >>> training_coefficients()["multiply.convolution stem"]
        0.7
    """
    found = {
        "weights": 8.0,
        "outs": 16.0,
        "inner": 16.0,
        "unaligned": 0.5,
        "narrow": 8.0,
        "few": 1.0,
        "wide": 1.0,
    }
    found |= {"small kernel": 1.0, "strided kernel": 1.0}
    for name in (*DENSE, *SPATIAL):
        found |= {f"{quantity}.{name}": 1.0 for quantity in ("multiply", "memory", "launch")}
    for name in SPATIAL:
        found[f"multiply.{name}"] = 20.0  # no units for matrices
    for name in DENSE:
        found |= {f"{quantity}.{name}": 1.0 for quantity in ("outs", "inner", "unaligned")}
    for name in _MOVING:
        found |= {f"memory.{name}": 1.0, f"launch.{name}": 1.0}
    # no gradient by the image; groups one after the other; statistics, and the rest of a norm
    return found | {"multiply.convolution stem": 0.7, "multiply.convolution grouped": 4.0}


@dataclass(frozen=True)
class _Part:
    """The operators of one class, and what does not depend on coefficients: for a batch."""

    name: str
    work: Workload
    flops: Floats
    moved: Floats  # bytes, forward
    weights: Floats  # bytes


def training_classes(work: Workload) -> dict[str, Positions]:
    """Return the positions of the operators of a training step by class.

    Example:
        >>> from convscale.complexity.calls import OperatorCall
        >>> from convscale.prediction.workload import workload
        >>> training_classes(workload([OperatorCall("a", "aten.relu", "activation")]))
        {'relu': array([0])}
    """
    return classes_by_size(work, named=_NAMED, alike=_ALIKE)


def training_costs(
    work: Workload, run: Execution, batch_size: Floats | float
) -> Callable[[Mapping[str, Any]], Iterator[tuple[Positions, Any]]]:
    """Return the seconds that operators add to a training step as a function of coefficients.

    Returns:
        A function that yields, class by class, the operators' positions and their seconds for
        a batch, repeats included.

    Example:
        >>> from convscale.complexity.calls import OperatorCall
        >>> from convscale.prediction.form import coefficients_of
        >>> from convscale.prediction.workload import workload
        >>> run = Execution(work="training")
        >>> work = workload([OperatorCall("a", "aten.relu", "activation")])
        >>> [len(places) for places, _ in training_costs(work, run, 1.0)(coefficients_of(run))]
        [1]
    """
    parts = [
        (places, _part(name, work.only(places), places, run, batch_size))
        for name, places in training_classes(work).items()
    ]

    def seconds(values: Mapping[str, Any]) -> Iterator[tuple[Positions, Any]]:
        for places, part in parts:
            running = (_memory if part.name in _MOVING else _product)(part, values)
            starting = part.work.launches * values["launch"] * values[f"launch.{part.name}"]
            found = _norm(running, starting * (_MICRO / _NANO), _OVERLAP)
            yield places, found * (part.work.repeats * _NANO)

    return seconds


def _part(
    name: str, own: Workload, places: Positions, run: Execution, batch_size: Floats | float
) -> _Part:
    batch = batch_size[places] if isinstance(batch_size, np.ndarray) else batch_size
    read, written = _item_bytes(own, run)
    return _Part(
        name=name,
        work=own,
        flops=own.flops * batch,
        moved=(own.read * read + own.written * written) * batch,
        weights=own.weights * 4.0,
    )


def _item_bytes(own: Workload, run: Execution) -> tuple[Floats | float, Floats | float]:
    """Return the bytes of an element read and of one written."""
    if run.dtype != "amp":
        each = 4.0 if run.dtype == "float32" else 2.0
        return each, each
    if own.flow is None:
        return 2.0, 2.0
    shape = (own.operators,) + (1,) * (own.read.ndim - 1)
    full = own.flow.full_read, own.flow.full_written
    read, written = (2.0 + 2.0 * share.reshape(shape) for share in full)
    return read, written


def _product(part: _Part, c: Mapping[str, Any]) -> Any:
    """Return the nanoseconds of a product and of its gradients by input and by weight."""
    multiplied = _spatial(part, c) if part.name in SPATIAL else _dense(part, c)
    return _norm(multiplied, _memory(part, c), _SHARPNESS)


def _dense(part: _Part, c: Mapping[str, Any]) -> Any:
    work, name = part.work, part.name
    known = work.outs > 0  # else nothing is lost
    outs = np.where(known, work.outs / np.maximum(work.groups, 1.0), np.inf)
    inner = np.where(known, work.inner, np.inf)
    ins = np.where(known, work.inner / np.maximum(work.kernel, 1.0), _ALIGNED)
    unaligned = 1.0 * ((ins % _ALIGNED > 0) | (np.where(known, outs, 8.0) % _ALIGNED > 0))
    found = part.flops * c["multiply"] * c[f"multiply.{name}"]
    found = found * (c["outs"] * c[f"outs.{name}"] / outs + 1.0)
    found = found * (c["inner"] * c[f"inner.{name}"] / inner + 1.0)
    found = found * (unaligned * c["unaligned"] * c[f"unaligned.{name}"] + 1.0)
    if name == GROUPED:
        few = 8.0 / np.maximum(work.groups, 1.0)
        found = found * (c["narrow"] / ins + few * c["few"] + ins / 64.0 * c["wide"] + 1.0)
    if name == KXK:
        strided = work.stride > 1
        found = found * (1.0 * strided * c["strided kernel"] + 1.0 * ~strided)
    return found


def _spatial(part: _Part, c: Mapping[str, Any]) -> Any:
    found = part.flops * c["multiply"] * c[f"multiply.{part.name}"]
    return found * (c["small kernel"] * 9.0 / np.maximum(part.work.kernel, 1.0) + 1.0)


def _memory(part: _Part, c: Mapping[str, Any]) -> Any:
    """Return the nanoseconds in moving, images and weights."""
    once = part.weights * c["memory"] * c["weights"]
    return part.moved * c["memory"] * c[f"memory.{part.name}"] + once


def _norm(one: Any, other: Any, power: float) -> Any:
    return (one**power + other**power + 1e-30) ** (1.0 / power)
