"""A profile from somebody else's table of timings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from convscale.prediction.execution import Execution
from convscale.prediction.fitted import fitted_profile
from convscale.prediction.profile import Condition, Profile
from convscale.prediction.tables import Table, read_table
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
        hardware: `gpu` or `cpu`; by default a CPU where all batches are 1 and the dtype is
            float32.
        work: `inference` or `training`; by default what the table has.
        held_out: Whether families are left out for the errors and intervals, which takes a fit
            for each.
        conditions: What else the times hold for, such as device and versions.
        progress: Called with steps done and all: rows first, then families.

    Raises:
        InputError: If the table cannot be read, or has too few timings that can be used.

    Example:
        >>> calibrate("none.csv", name="mine", dtype="amp")
        Traceback (most recent call last):
        convscale.errors.InputError: There is no file none.csv. Name a CSV file with timings.
    """
    read = read_table(Path(table), work=work)
    execution = Execution(hardware or hardware_of(read, dtype), layout, mode, read.work, dtype)
    found = tabulated(read, progress=progress)
    known: dict[str, Condition] = {"device": name, "source": Path(table).name}
    return fitted_profile(
        found.timings,
        execution,
        name=name,
        conditions={**known, **skipped_conditions(found), **(conditions or {})},
        excluded=found.excluded,
        held_out=held_out,
        progress=progress,
    )


def hardware_of(table: Table, dtype: str) -> str:
    """Return what a table was timed on, which it does not say.

    Example:
        >>> from convscale.prediction.tables import TableRow
        >>> hardware_of(Table("inference", (TableRow(2, "resnet18", 224, 1, 0.01),)), "float32")
        'cpu'
    """
    single = all(row.batch_size == 1 for row in table.rows)
    return "cpu" if single and dtype == "float32" else "gpu"
