"""A profile from somebody else's table of timings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from convscale.errors import InputError
from convscale.prediction.execution import Execution
from convscale.prediction.fitted import fitted_profile
from convscale.prediction.profile import Condition, Profile
from convscale.prediction.scope import IN_SAMPLE, INTERVALS
from convscale.prediction.store import ProfileLike, profile_of
from convscale.prediction.tables import Table, read_table
from convscale.prediction.timing import Timing
from convscale.prediction.transfer import check_work, transferred
from convscale.study.tabulated import skipped_conditions, tabulated


def calibrate(
    table: str | Path,
    *,
    name: str,
    dtype: str,
    layout: str = "nchw",
    mode: str = "eager",
    hardware: str | None = None,
    work: str | None = None,
    held_out: bool = True,
    adapt: ProfileLike | None = None,
    source_timings: str | Path | None = None,
    conditions: Mapping[str, Condition] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Profile:
    """Fit a profile to a table of timings in timm's CSV format.

    Args:
        table: The CSV file.
        name: The profile's name.
        dtype: `amp` (autocast), `float32`, `float16` or `bfloat16`.
        layout: `nchw`, or `nhwc` (channels last).
        mode: `eager` or `compiled`.
        hardware: `gpu` or `cpu`; by default that of the profile to start from, else a CPU where
            all batches are 1 and the dtype is float32.
        work: `inference` or `training`; by default what the table has.
        held_out: Whether families are left out for the errors and intervals, which takes a fit
            for each.
        adapt: The profile to start from, carried over to the table's times.
        source_timings: A table of times on the device of that profile.
        conditions: What else the times hold for, such as device and versions.
        progress: Called with steps done and all: networks and rows first, then families.

    Raises:
        InputError: If the table cannot be read, or has too few timings that can be used.

    Example:
        >>> calibrate("none.csv", name="mine", dtype="amp")
        Traceback (most recent call last):
        convscale.errors.InputError: There is no file none.csv. Name a CSV file with timings.
    """
    source = None if adapt is None else profile_of(adapt)
    if source is None and source_timings is not None:
        raise InputError(
            "Timings of a source are of the profile to start from, and none is named. Give it "
            "by adapt, or leave them out."
        )
    read = read_table(Path(table), work=work)
    if source is not None:
        check_work(source, read.work)  # before networks are recorded, which takes minutes
    known = None if source is None else source.execution.hardware
    hardware = hardware or known or hardware_of(read, dtype)
    execution = Execution(hardware, layout, mode, read.work, dtype)
    found = tabulated(read, progress=progress)
    told: dict[str, Condition] = {"device": name, "source": Path(table).name}
    told |= {**skipped_conditions(found), **(conditions or {})}
    if source is not None:
        reference = timings_of_table(source_timings, source.execution.work, progress=progress)
        profile = transferred(
            source, found.timings, execution, name=name, conditions=told, reference=reference
        )
        return replace(profile, excluded=found.excluded)
    return fitted_profile(
        found.timings,
        execution,
        name=name,
        conditions=told if held_out else {**told, INTERVALS: IN_SAMPLE},
        excluded=found.excluded,
        held_out=held_out,
        progress=progress,
    )


def timings_of_table(
    table: str | Path | None,
    work: str | None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Timing, ...]:
    """Return the timings of a table that a fit can use; none without one.

    Example:
        >>> timings_of_table(None, "inference")
        ()
    """
    if table is None:
        return ()
    return tabulated(read_table(Path(table), work=work), progress=progress).timings


def hardware_of(table: Table, dtype: str) -> str:
    """Return what a table was timed on, which it does not say.

    Example:
        >>> from convscale.prediction.tables import TableRow
        >>> hardware_of(Table("inference", (TableRow(2, "resnet18", 224, 1, 0.01),)), "float32")
        'cpu'
    """
    single = all(row.batch_size == 1 for row in table.rows)
    return "cpu" if single and dtype == "float32" else "gpu"
