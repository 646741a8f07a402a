"""Smooth rooflines of operators: what is multiplied and what is moved, by class and layout.

Every function here takes coefficients as numbers or as duals, and uses +, ·, / and powers only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from convscale.prediction.classes import DENSE, DEPTHWISE, GROUPED, MOVING, classes_of
from convscale.prediction.execution import Execution
from convscale.prediction.processor import processor_coefficients, processor_costs
from convscale.prediction.workload import Workload

Floats = npt.NDArray[np.float64]
_NANO, _MICRO = 1e-9, 1e-6
_TILE, _ALIGNED, _WIDE = 64.0, 8.0, 1024.0
_SHARPNESS = 2.0  # of the p-norm that joins multiplying and moving


@dataclass(frozen=True)
class _Part:
    """The operators of one class, with what their tensors hold; all for one image."""

    work: Workload
    batch: Floats | float
    item_read: Floats  # bytes an element
    item_written: Floats
    cast: Floats
    first: Floats  # 1 where tensors have their channels first
    moved: Floats

    @property
    def read(self) -> Floats:
        return self.work.read * self.item_read

    @property
    def written(self) -> Floats:
        return self.work.written * self.item_written


def relative_coefficients(run: Execution) -> dict[str, float]:
    """Return the coefficients without a unit, with the values that a fit starts from.

    Example:
        >>> relative_coefficients(Execution())["memory.relu"]
        1.0
    """
    if run.hardware == "cpu":
        return processor_coefficients()
    multiplying = (*DENSE, *GROUPED, *DEPTHWISE)
    found = {f"multiply.{name}": 1.0 for name in multiplying}
    found |= {f"memory.{name}": 1.0 for name in (*multiplying, *MOVING)}
    for name in (*DENSE, *GROUPED):
        found |= {f"outs.{name}": 16.0, f"inner.{name}": 16.0, f"tile.{name}": 0.5}
        found |= {f"unaligned.{name}": 0.5, f"wave.{name}": 1.0}
    found |= {"inputs": 1.0, "broadcast": 1.0, "weights": 3.0, "cast": 1.0, "transposed": 1.0}
    return found | {"cache": 1.0, "uncached": 0.5}


def costs(
    work: Workload, values: Mapping[str, Any], run: Execution, batch_size: Floats | float
) -> Iterator[tuple[npt.NDArray[np.intp], Any]]:
    """Yield the seconds of the operators of each class, for a batch.

    Example:
        >>> from convscale.complexity.calls import OperatorCall
        >>> from convscale.prediction.form import coefficients_of
        >>> from convscale.prediction.workload import workload
        >>> run, work = Execution(), workload([OperatorCall("a", "aten.relu", "activation")])
        >>> [len(places) for places, _ in costs(work, coefficients_of(run), run, 1.0)]
        [1]
    """
    if run.hardware == "cpu":
        yield from processor_costs(work, values, run, batch_size)
        return
    for name, places in classes_of(work).items():
        part = _part(work, places, run, batch_size)
        seconds = _seconds(name, part, values)
        once = part.work.weights * _bytes_once(run) * values["memory"] * values["weights"] * _NANO
        starting = part.work.launches * values["launch"] * _MICRO
        yield places, seconds * part.batch + once + starting


def _seconds(name: str, part: _Part, c: Mapping[str, Any]) -> Any:
    if name in MOVING:
        return _moving(name, part, c) * _NANO
    if name in DEPTHWISE:
        multiplied = part.work.flops * c["multiply"] * c[f"multiply.{name}"]
    else:
        multiplied = _multiplied(name, part, c)
    moved = _memory(part, part.read + part.written, c) * c[f"memory.{name}"]
    return (_norm(multiplied, moved) + _rearranged(name, part, c)) * _NANO


def _multiplied(name: str, part: _Part, c: Mapping[str, Any]) -> Any:
    """Return the nanoseconds an image in multiplying matrices: flops · rate · losses."""
    work = part.work
    known = work.outs > 0  # else nothing is lost
    outs = np.where(known, work.outs / np.maximum(work.groups, 1.0), _WIDE)
    inner = np.where(known, work.inner, _WIDE)
    ins = inner / np.maximum(work.kernel, 1.0)
    waste = np.ceil(outs / _TILE) * _TILE / outs - 1.0
    unaligned = 1.0 * ((outs % _ALIGNED > 0) | (ins % _ALIGNED > 0))
    tiles = np.where(known, work.rows * work.outs, _WIDE**2) * part.batch / 1e6
    found = work.flops * c["multiply"] * c[f"multiply.{name}"]
    found = found * (c[f"outs.{name}"] / outs + 1.0) * (c[f"inner.{name}"] / inner + 1.0)
    found = found * (waste * c[f"tile.{name}"] + 1.0) * (unaligned * c[f"unaligned.{name}"] + 1.0)
    return found * (c["inputs"] / ins + 1.0) * (c[f"wave.{name}"] / tiles + 1.0)


def _rearranged(name: str, part: _Part, c: Mapping[str, Any]) -> Any:
    """Return the nanoseconds an image in casts, and in bringing channels to the other end."""
    work = part.work
    casts = part.cast * work.read * 6.0 * c["cast"]
    if name.startswith("convolution"):
        turned = part.first * (part.read + part.written) * c["transposed"]
    else:
        turned = part.moved * part.read * 2.0 * c["transposed"]
    return (casts + turned) * c["memory"]


def _moving(name: str, part: _Part, c: Mapping[str, Any]) -> Any:
    rate = c[f"memory.{name}"]
    if name == "elementwise":  # an operand that is not as large as the result is read again
        ratio = part.work.read / np.maximum(part.work.written, 1.0)
        rate = rate * (np.clip(2.0 - ratio, 0.0, 1.0) * c["broadcast"] + 1.0)
    return _memory(part, part.read + part.written, c) * rate + _rearranged(name, part, c)


def _memory(part: _Part, size: Floats, c: Mapping[str, Any]) -> Any:
    """Return nanoseconds an image for bytes: those of a batch that do not fit a cache take more."""
    share = size * part.batch / 1e6 + 1e-3  # megabytes
    return size * c["memory"] * (c["uncached"] * share / (share + c["cache"] * 10.0) + 1.0)


def _norm(one: Any, other: Any) -> Any:
    return (one**_SHARPNESS + other**_SHARPNESS + 1e-30) ** (1.0 / _SHARPNESS)


def _bytes_once(run: Execution) -> float:
    return 2.0 if run.dtype in ("float16", "bfloat16") else 4.0


def _part(
    work: Workload, places: npt.NDArray[np.intp], run: Execution, batch_size: Floats | float
) -> _Part:
    own = work.only(places)
    batch = batch_size[places] if isinstance(batch_size, np.ndarray) else batch_size
    zero = np.zeros(len(places))
    flow = own.flow
    extra = np.ndim(own.read) - 1
    full_read, full_written, cast, last, moved = (
        one.reshape(one.shape + (1,) * extra)
        for one in (
            (zero,) * 5
            if flow is None
            else (flow.full_read, flow.full_written, flow.cast, flow.last, flow.moved)
        )
    )
    if run.dtype != "amp":
        each = {"float32": 4.0}.get(run.dtype, 2.0)
        item_read, item_written, cast = each + 0 * last, each + 0 * last, 0 * cast
    else:
        item_read, item_written = 2.0 + 2.0 * full_read, 2.0 + 2.0 * full_written
    first = 1.0 - last if run.layout == "nchw" else 0.0 * last
    moved = moved if run.layout == "nchw" else 0.0 * moved
    return _Part(own, batch, item_read, item_written, cast, first, moved)
