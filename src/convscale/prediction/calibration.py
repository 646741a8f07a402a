"""Fit a profile to a table of timings: record, exclude by rule, fit, predict what is left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from convscale.errors import ConvscaleError, InputError
from convscale.prediction.execution import Execution
from convscale.prediction.fitting import FitOptions, fit_stack, predicted_seconds
from convscale.prediction.fusion import executed
from convscale.prediction.heldout import Errors as Missed
from convscale.prediction.heldout import baseline, fitted, left_out
from convscale.prediction.interval import COVERAGES, covered, intervals
from convscale.prediction.profile import Band, Condition, Errors, Excluded, Profile, seen_in
from convscale.prediction.records import is_known, record_of
from convscale.prediction.stack import Stack
from convscale.prediction.tables import Table, TableRow, read_table
from convscale.prediction.timing import Timing

Floats = npt.NDArray[np.float64]
Report = Callable[[int, int], None]
_FEWEST = 8  # timings that a fit needs
_BASELINES = {
    "flops": ("flops",),
    "acts": ("acts",),
    "flops + acts + constant": ("flops", "acts", "constant"),
}
# Params of a table are rounded to hundredths of a million; ours differ by no more than that.
_ROUNDED, _PART = 0.0051, 1e-3


@dataclass(frozen=True)
class Selection:
    """The timings of a table that a fit is made of, and those that it is not.

    Args:
        timings: The timings.
        excluded: Convolutional networks left out, each with the reason.
        unknown: How many rows have networks that timm does not have.
        others: How many rows have networks that are not convolutional.
    """

    timings: tuple[Timing, ...]
    excluded: tuple[Excluded, ...]
    unknown: int
    others: int


def select(table: Table, execution: Execution, *, progress: Report | None = None) -> Selection:
    """Record the networks of a table, and keep those that are convolutional and were timed so.

    A network is excluded by a rule that does not look at its time: it cannot be run at the
    table's resolution, or its params differ from those that the table says were timed.
    """
    timings: list[Timing] = []
    excluded: list[Excluded] = []
    unknown = others = 0
    for done, row in enumerate(table.rows, start=1):
        if not is_known(row.architecture):
            unknown += 1
        else:
            found = _timing(row, execution)
            if isinstance(found, Timing):
                timings.append(found)
            elif found is None:
                others += 1
            else:
                excluded.append(found)
        if progress is not None:
            progress(done, len(table.rows))
    return Selection(tuple(timings), tuple(excluded), unknown, others)


def _timing(row: TableRow, execution: Execution) -> Timing | Excluded | None:
    """Return a row's timing, why it is excluded, or None where it is not convolutional."""
    where = f"{row.architecture}@{row.resolution}"
    try:
        record = record_of(row.architecture, row.resolution)
    except ConvscaleError as error:
        return Excluded(where, f"cannot be recorded: {error.line}")
    if not record.convolutional:
        return None
    own = record.params / 1e6
    if row.params is not None and abs(own - row.params) > max(_ROUNDED, _PART * own):
        return Excluded(where, f"{own:.2f} M params, {row.params:g} M were timed")
    return Timing(
        network=row.architecture,
        family=record.family,
        workload=executed(record.work, execution),
        batch_size=row.batch_size,
        seconds=row.seconds,
        resolution=row.resolution,
    )


def calibrate(
    table: str | Path,
    *,
    name: str,
    dtype: str,
    layout: str = "nchw",
    mode: str = "eager",
    hardware: str = "gpu",
    work: str | None = None,
    held_out: bool = True,
    conditions: Mapping[str, Condition] | None = None,
    progress: Callable[[str], Report] | None = None,
) -> Profile:
    """Fit a profile to a table of timings in timm's CSV format.

    Args:
        table: The CSV file.
        name: The profile's name.
        dtype: `amp`, `float32`, `float16` or `bfloat16`.
        layout: `nchw` or `nhwc`.
        mode: `eager` or `compiled`.
        hardware: `gpu` or `cpu`.
        work: `inference` or `training`; by default what the table has.
        held_out: Whether errors on families that are left out are computed, which takes a fit
            a family; without them intervals come from the networks that were fitted.
        conditions: What else the times hold for.
        progress: Given the title of a piece of work, returns what takes its steps.

    Raises:
        InputError: If the table cannot be read, or has too few timings that can be used.

    Example:
        >>> calibrate("none.csv", name="mine", dtype="amp")
        Traceback (most recent call last):
        convscale.errors.InputError: There is no file none.csv. Name a CSV file with timings.
    """
    found = read_table(Path(table), work=work)
    execution = Execution(hardware, layout, mode, found.work, dtype)
    chosen = select(found, execution, progress=progress and progress("Recording networks"))
    if len(chosen.timings) < _FEWEST:
        raise InputError(
            f"{table} has {len(chosen.timings)} timings of convolutional networks that timm "
            f"knows; a fit needs {_FEWEST}. {len(found.rows)} rows: {chosen.unknown} unknown to "
            f"timm, {chosen.others} not convolutional, {len(chosen.excluded)} excluded."
        )
    counted: dict[str, Condition] = {
        "rows": len(found.rows),
        "rows unknown to timm": chosen.unknown,
        "rows not convolutional": chosen.others,
    }
    return profile_from(
        name,
        execution,
        chosen.timings,
        excluded=chosen.excluded,
        held_out=held_out,
        conditions={"source": Path(table).name, **counted, **(conditions or {})},
        progress=progress,
    )


def profile_from(
    name: str,
    execution: Execution,
    timings: Sequence[Timing],
    *,
    excluded: Sequence[Excluded] = (),
    groups: Mapping[str, Sequence[str]] | None = None,
    held_out: bool = True,
    conditions: Mapping[str, Condition] | None = None,
    options: FitOptions | None = None,
    predicted: Mapping[str, Floats] | None = None,
    progress: Callable[[str], Report] | None = None,
) -> Profile:
    """Fit a profile to timings, with errors on groups that are left out.

    Args:
        name: The profile's name.
        execution: How the networks ran.
        timings: The timings; compiled ones by kernels.
        excluded: Networks that were left out.
        groups: Protocols beside that of families: the group of every timing.
        held_out: Whether groups are left out.
        conditions: What the times hold for.
        options: How the fit weighs what.
        predicted: By protocol, what is predicted for groups left out, where that is known.
        progress: Given the title of a piece of work, returns what takes its steps.
    """
    stack = Stack.of(timings)
    coefficients = fit_stack(stack, execution, options=options)
    misses = np.log(predicted_seconds(stack, coefficients, execution) / stack.seconds)
    errors: list[Errors] = []
    protocols = {"families": stack.families, **(groups or {})} if held_out else {}
    for protocol, own in protocols.items():
        if len(set(own)) < 2:
            continue
        if predicted is not None and protocol in predicted:
            unseen = predicted[protocol]
        else:
            report = progress(f"Leaving out {protocol}") if progress is not None else None
            unseen = left_out(stack, own, fitted(execution, options), progress=report)
        errors.append(_errors(protocol, stack, own, unseen))
        if protocol == "families":
            misses = np.log(unseen / stack.seconds)
    return Profile(
        name=name,
        execution=execution,
        coefficients=coefficients,
        seen=seen_in(
            [timing.workload for timing in timings],
            [timing.batch_size for timing in timings],
            [float(timing.resolution or 1) for timing in timings],
        ),
        bands=tuple(Band(each, *ends) for each, ends in intervals(misses).items()),
        conditions=dict(conditions or {}),
        errors=tuple(errors),
        excluded=tuple(excluded),
    )


def _errors(protocol: str, stack: Stack, groups: Sequence[str], predicted: Floats) -> Errors:
    """Return the errors of predictions beside those of the baselines, by one protocol."""
    count = len(set(groups))
    found = Missed.of(predicted / stack.images, stack.seconds / stack.images, groups=count)
    beside = {
        label: Missed.of(left_out(stack, groups, baseline(*names)), stack.seconds, groups=count)
        for label, names in _BASELINES.items()
    }
    misses = np.log(predicted / stack.seconds)
    return Errors(
        protocol=protocol,
        mape_pct=found.mape,
        within_10_pct=found.within_10,
        spearman=found.spearman,
        networks=found.networks,
        groups=found.groups,
        covered_pct={
            f"{each:g}": round(100.0 * share, 2)
            for each, share in covered(misses, groups, COVERAGES).items()
        },
        baselines_mape_pct={label: own.mape for label, own in beside.items()},
    )
