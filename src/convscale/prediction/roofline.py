"""Rooflines of operators: what is multiplied and what is moved, by class and layout.

Every function here takes coefficients as numbers or as duals, and uses +, ·, / and powers only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from convscale.prediction.classes import ATTENTION, DENSE, DEPTHWISE, GROUPED, MOVING
from convscale.prediction.execution import Execution
from convscale.prediction.parts import Part, parts
from convscale.prediction.processor import processor_coefficients, processor_costs
from convscale.prediction.training import training_coefficients, training_costs
from convscale.prediction.workload import Workload

Floats = npt.NDArray[np.float64]
Positions = npt.NDArray[np.intp]
_NANO, _MICRO = 1e-9, 1e-6
_TILE, _TILE_ROWS, _ALIGNED, _ALIGNED_ROWS = 64.0, 256.0, 8.0, 64.0
_WIDE = 1024.0  # sizes of a product of which nothing is known
_IMAGE = 4.0  # as many channels are no reason to pad
_CACHE = 10.0  # megabytes
_NARROW = 112.0  # channels
_HUGE = 2.0**31  # elements, which no index of 32 bits tells apart
_FEW, _SMALL = 32.0, 49.0  # channels and positions, below which cuDNN has no depthwise kernel
_INSTANT = 1e-12  # nanoseconds
_THIN = 4.0  # channels of a group
_LANES = 32.0
_WITH_KERNELS = tuple(f"depthwise {side}{stride}" for side in "35" for stride in ("", " strided"))
_SERIAL = 5e5  # bytes that are moved elsewhere while one thread interpolates a position


def relative_coefficients(run: Execution) -> dict[str, float]:
    """Return the coefficients without a unit, with the values that a fit starts from.

    Example:
        >>> relative_coefficients(Execution())["memory.relu"]
        1.0
    """
    if run.work == "training":
        return training_coefficients()
    if run.hardware == "cpu":
        return processor_coefficients()
    found = {f"multiply.{name}": 1.0 for name in (*DENSE, *GROUPED, ATTENTION)}
    found |= {f"multiply.{name}": 30.0 for name in DEPTHWISE}  # not in matrix units
    found |= {f"memory.{name}": 1.0 for name in (*DENSE, *GROUPED, *DEPTHWISE, *MOVING)}
    found |= {  # without good kernels
        "memory.depthwise 3 strided last": 5.0,
        "multiply.linear": 0.8,
        "multiply.depthwise 5": 20.0,
        "multiply.depthwise 3 last": 20.0,
        "multiply.depthwise 5 last": 18.0,
        "multiply.attention": 0.7,
        "multiply.depthwise 7 last": 22.0,
        "multiply.depthwise larger last": 150.0,
        "multiply.depthwise 7": 45.0,
        "multiply.depthwise larger": 60.0,
        "memory.matrix product": 3.0,
        "memory.sum": 2.5,
        "memory.concatenation": 2.0,
        "memory.resizing": 4.0,
        "memory.group norm": 0.5,
        "memory.softmax": 0.7,
        "memory.layer norm": 0.7,
        "memory.padding": 1.5,
    }
    for name in (*DENSE, *GROUPED, ATTENTION):
        found |= {f"outs.{name}": 16.0, f"inner.{name}": 16.0, f"tile.{name}": 0.5}
        found |= {f"unaligned.{name}": 0.5, f"wave.{name}": 1.0}
    found |= {"rows.tile": 0.3, "rows.unaligned": 0.2, "inputs": 1.0}
    found |= {"transposed": 1.0, "transposed.unaligned": 0.3, "padded": 1.5, "bias": 2.0}
    found |= {"moved": 3.0, "mixed": 1.0, "window": 4.0}
    found |= {"broadcast": 0.3, "weights": 3.0, "cast": 1.0}
    found |= {"narrow": 1.3, "narrow.strided": 0.5, "huge": 2.5, "native": 2.0}
    found |= {"together": 1.0, "thin": 70.0, "parted": 1.5, "wide": 0.5}
    found |= {"serial": 1.0, "norm.tile": 0.2, "norm.full": 2.0, "single": 0.5}
    return found | {"cache": 2.0, "uncached": 0.65}


def prepared(
    work: Workload, run: Execution, batch_size: Floats | float
) -> Callable[[Mapping[str, Any]], Iterator[tuple[Positions, Any]]]:
    """Return the seconds of operators as a function of coefficients.

    What does not depend on them is computed once.

    Args:
        work: The operators.
        run: How they run.
        batch_size: Images, one number or one an operator.

    Returns:
        A function that yields, class by class, the operators' positions and their seconds for
        a batch, repeats included.

    Example:
        >>> from convscale.complexity.calls import OperatorCall
        >>> from convscale.prediction.form import coefficients_of
        >>> from convscale.prediction.workload import workload
        >>> run, work = Execution(), workload([OperatorCall("a", "aten.relu", "activation")])
        >>> values = {**coefficients_of(run), "launch": 3.0}
        >>> [seconds.tolist() for _, seconds in prepared(work, run, 1.0)(values)]
        [[3e-06]]
    """
    if run.work == "training":
        return training_costs(work, run, batch_size)
    if run.hardware == "cpu":
        return processor_costs(work, run, batch_size)
    own = parts(work, run, batch_size)

    def seconds(values: Mapping[str, Any]) -> Iterator[tuple[Positions, Any]]:
        for part in own:
            yield part.places, part_seconds(part, values)

    return seconds


def part_seconds(part: Part, values: Mapping[str, Any]) -> Any:
    """Return the seconds of a class's operators for a batch, repeats included.

    Args:
        part: The operators.
        values: The coefficients, as numbers or as duals.

    Example:
        >>> from convscale.complexity.calls import OperatorCall
        >>> from convscale.prediction.form import coefficients_of
        >>> from convscale.prediction.parts import parts
        >>> from convscale.prediction.workload import workload
        >>> run, work = Execution(), workload([OperatorCall("a", "aten.relu", "activation")])
        >>> values = {**coefficients_of(run), "launch": 3.0}
        >>> [part_seconds(part, values).tolist() for part in parts(work, run, 1.0)]
        [[3e-06]]
    """
    work = part.work
    moved = part.read + part.written
    found = _memory(part, moved, values) * _rate(part, values) + _rearranged(part, values)
    if part.name not in MOVING:
        multiplied = _multiplied(part, values)
        found = multiplied if part.name == ATTENTION else _overlapped(multiplied, found, values)
    if part.name in DEPTHWISE:
        single = 1.0 * (work.kernel <= 1.0)  # a filter of one position
        found = found * _slowness(part, values) * (single * values["single"] + 1.0)
    once = work.weights * part.item_once * values["weights"] * values["memory"]
    starting = work.launches * values["launch"] * _MICRO
    return ((found * part.batch + once) * _NANO + starting) * work.repeats


def _overlapped(multiplied: Any, moved: Any, c: Mapping[str, Any]) -> Any:
    """Return the nanoseconds of multiplying and moving, part of which go on at the same time.

    Nothing overlaps where `together` is 2; where it is less, equal times overlap most.
    """
    whole = multiplied + moved + _INSTANT
    return whole + multiplied * moved / whole * (c["together"] + -2.0)


def _slowness(part: Part, c: Mapping[str, Any]) -> Any:
    """Return how much slower a depthwise convolution is, by the kernel that its sizes get.

    With channels first, PyTorch leaves those of few channels or positions to a kernel of its own.
    """
    work = part.work
    if not part.name.endswith("last"):
        native = (work.outs < _FEW) | (work.rows < _SMALL)
        return native * c["native"] + ~native if part.name in _WITH_KERNELS else 1.0
    narrow = work.outs <= _NARROW
    if "strided" not in part.name:
        return narrow * c["narrow"] + ~narrow
    huge = np.maximum(work.read, work.written) * part.batch > _HUGE
    return (narrow * c["narrow.strided"] + ~narrow) * (huge * c["huge"] + ~huge)


def _rate(part: Part, c: Mapping[str, Any]) -> Any:
    """Return how much slower than others a class moves a byte."""
    rate = c[f"memory.{part.name}"] if part.name != ATTENTION else 1.0
    if part.name == "batch norm":
        channels = np.maximum(part.work.weights / 4.0, 1.0)  # four vectors of weights
        tile = part.channels_last * _waste(channels, _LANES) * c["norm.tile"]
        return rate * (tile + part.wide * c["norm.full"] + 1.0)
    if part.name == "average pooling":  # a value that is written takes those of its window
        return rate * (part.written / (part.read + part.written) * c["window"] + 1.0)
    if part.name != "elementwise":
        return rate
    # an operand that is not as large as the result is read again and again
    ratio = part.work.read / np.maximum(part.work.written, 1.0)
    return rate * (np.clip(2.0 - ratio, 0.0, 1.0) * c["broadcast"] + part.mixed * c["mixed"] + 1.0)


def _multiplied(part: Part, c: Mapping[str, Any]) -> Any:
    """Return the nanoseconds an image in multiplying: flops · rate · (1 + losses).

    Matrix units work on tiles: what does not fill them is lost, over outputs, over the
    products that are added up, and over positions where channels come first.
    """
    work, name = part.work, part.name
    found = work.flops * c["multiply"] * c[f"multiply.{name}"] * (part.wide * c["wide"] + 1.0)
    if name in DEPTHWISE:
        return found
    known = work.outs > 0  # else nothing is lost
    outs = np.where(known, work.outs / np.maximum(work.groups, 1.0), _WIDE)
    inner = np.where(known, work.inner, _WIDE)
    ins = inner / np.maximum(work.kernel, 1.0)
    rows = np.where(known, np.maximum(work.rows, 1.0), _WIDE)
    tiles = rows * np.where(known, work.outs, _WIDE) * part.batch / 1e6
    unaligned = 1.0 * ((outs % _ALIGNED > 0) | (ins % _ALIGNED > 0))
    lost = c[f"outs.{name}"] / outs + c[f"inner.{name}"] / inner + c["inputs"] / ins
    lost = lost + _waste(outs, _TILE) * c[f"tile.{name}"] + unaligned * c[f"unaligned.{name}"]
    if name in GROUPED:
        lost = lost + (outs < _THIN) * c["thin"]
        # with channels last, groups are put together to tiles where whole ones fit
        parted = (_TILE % outs > 0) & (outs % _TILE > 0) | (ins != outs)
        lost = lost + (1.0 - part.first) * parted * c["parted"]
    lost = lost + part.first * _waste(rows, _TILE_ROWS) * c["rows.tile"]
    lost = lost + part.first * (rows % _ALIGNED_ROWS > 0) * c["rows.unaligned"]
    return found * (lost + c[f"wave.{name}"] / tiles + 1.0)


def _waste(size: Floats, tile: float) -> Floats:
    """Return the part of whole tiles that is not used, over the part that is."""
    return np.asarray(np.ceil(size / tile) * tile / size - 1.0)


def _rearranged(part: Part, c: Mapping[str, Any]) -> Any:
    """Return the nanoseconds an image in copies that an operator needs.

    They are casts, channels brought to the other end, channels padded to whole vectors, and a
    bias that is added after the convolution.
    """
    work, name = part.work, part.name
    if name == "bilinear":  # a thread a position, for all channels and images
        serial = work.written / np.maximum(work.rows, 1.0) * (work.rows > 0) * _SERIAL
        return (serial * c["serial"] + part.cast * work.read * 6.0 * c["cast"]) * c["memory"]
    copied = part.cast * work.read * 6.0 * c["cast"] + part.moved * part.read * 2.0 * c["moved"]
    if not name.startswith(("convolution", "depthwise")):
        return copied * c["memory"]
    if name.startswith("convolution"):
        odd = part.first * (work.rows % _ALIGNED_ROWS > 0) * c["transposed.unaligned"] + part.first
        copied = copied + (part.read + part.written) * odd * c["transposed"]
        ins = work.inner / np.maximum(work.kernel, 1.0) * np.maximum(work.groups, 1.0)
        padded = part.read * ((ins % _ALIGNED > 0) & (ins > _IMAGE))
        copied = copied + (padded + part.written * (work.outs % _ALIGNED > 0)) * c["padded"]
    copied = copied * c["memory"]
    if name in DEPTHWISE and not name.endswith("last"):  # its kernel adds the bias itself
        return copied
    outs = np.maximum(work.outs, 1.0)
    bias = np.clip((work.weights - outs * work.inner) / outs, 0.0, 1.0)
    return copied + _memory(part, bias * part.written * 2.0, c) * c["bias"]


def _memory(part: Part, size: Floats, c: Mapping[str, Any]) -> Any:
    """Return nanoseconds an image for bytes: those of a batch that fit a cache take less."""
    share = (size * part.batch / 1e6 + 1e-3) ** 2.0  # megabytes
    cached = (c["cache"] * _CACHE) ** 2.0
    return size * c["memory"] * (c["uncached"] * share / (share + cached) + 1.0)
