"""Tables of timings in the format of timm's benchmark script. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from convscale.errors import InputError, few
from convscale.reading import csv_lines

_SHOWN = 12  # mistakes that a message lists
_WORKS = {"inference": "infer", "training": "train"}


@dataclass(frozen=True)
class TableRow:
    """One timing of a table.

    Args:
        line: Its line in the file.
        model: The network's name there.
        resolution: Input side in px.
        batch_size: Images a step.
        seconds: Of a step.
        params: Millions of parameters of what was timed, where the table has them.

    Example:
        >>> TableRow(2, "resnet50.a1_in1k", 224, 256, 0.1).architecture
        'resnet50'
    """

    line: int
    model: str
    resolution: int
    batch_size: int
    seconds: float
    params: float | None = None

    @property
    def architecture(self) -> str:
        """The name without the tag of its weights."""
        return self.model.split(".", 1)[0]


@dataclass(frozen=True)
class Table:
    """The timings of a file.

    Args:
        work: `inference` or `training`.
        rows: The timings.
        empty: Names of networks that the table has no numbers of.
    """

    work: str
    rows: tuple[TableRow, ...]
    empty: tuple[str, ...] = ()


def read_table(path: Path, *, work: str | None = None) -> Table:
    r"""Read timings: `model`, and image size, batch size and throughput with the work's prefix.

    Args:
        path: A CSV file.
        work: `inference` (columns `infer_…`) or `training` (`train_…`); by default the first
            of them that the file has.

    Raises:
        InputError: If there is no such file, or columns are missing, or fields are no numbers;
            all of them at once.

    Example:
        >>> import tempfile
        >>> text = "model,infer_img_size,infer_batch_size,infer_samples_per_sec\nresnet50,224,256,x"
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "mine.csv")
        ...     _ = file.write_text(text)
        ...     read_table(file)
        Traceback (most recent call last):
        convscale.errors.InputError: ... line 2: infer_samples_per_sec is 'x', not a number. ...
    """
    header, rows = csv_lines(path, "timings")
    work = work or _work_of(header)
    columns = _columns(path, header, work)
    found: list[TableRow] = []
    empty: list[str] = []
    wrong: list[str] = []
    for line, fields in rows:
        if len(fields) > len(header):
            wrong.append(f"line {line}: {len(fields)} fields, the header has {len(header)}")
            continue
        own = dict(zip(header, (field.strip() for field in fields), strict=False))
        if own.get("model") and not any(own.get(columns[each]) for each in _NEEDED):
            empty.append(own["model"])
            continue
        row, mistakes = _row(line, own, columns)
        wrong += mistakes
        if row is not None:
            found.append(row)
    if wrong:
        raise InputError(
            f"{path} cannot be read: {few(wrong, limit=_SHOWN, by='; ')}. Correct these fields, or "
            "leave the rows out."
        )
    if not found:
        raise InputError(f"{path} has no timings. Give a row for each network that was timed.")
    return Table(work, tuple(found), tuple(empty))


_NEEDED = ("img_size", "batch_size", "samples_per_sec")


def _work_of(header: Sequence[str]) -> str:
    for work, prefix in _WORKS.items():
        if any(name.startswith(f"{prefix}_") for name in header):
            return work
    return "inference"


def _columns(path: Path, header: Sequence[str], work: str) -> Mapping[str, str]:
    """Return the columns that a row is read from, by what they hold."""
    if work not in _WORKS:
        raise InputError(f"Unknown work {work!r}. Use {', '.join(_WORKS)}.")
    columns = {name: f"{_WORKS[work]}_{name}" for name in _NEEDED}
    apart = next((each for each in (";", "\t", "|") if len(header) == 1 and each in header[0]), "")
    if apart:
        raise InputError(
            f"{path} cannot be read: its fields are separated by {apart!r}. Separate them by "
            "commas, and write numbers with a point."
        )
    twice = sorted({name for name in header if name and header.count(name) > 1})
    missing = [name for name in ("model", *columns.values()) if name not in header]
    wrong = [f"the column {name} is missing" for name in missing]
    wrong += [f"the column {name} stands twice" for name in twice]
    if wrong:
        needed = ", ".join(("model", *columns.values()))
        raise InputError(
            f"{path} cannot be read: {'; '.join(wrong)}. A table of {work} has the columns "
            f"{needed}."
        )
    return columns


def _row(
    line: int, own: Mapping[str, str], columns: Mapping[str, str]
) -> tuple[TableRow | None, list[str]]:
    """Return a timing, or what is wrong with it."""
    wrong = [] if own.get("model") else [f"line {line}: model is empty"]
    numbers: dict[str, float] = {}
    wanted = {**columns, "params": "param_count"}
    for name, column in wanted.items():
        text = own.get(column, "")
        if name == "params" and not text:
            continue
        value = _number(text)
        said = f"line {line}: {column} is {text!r}" if text else f"line {line}: {column} is empty"
        if value is None:
            wrong.append(f"{said}, not a number" if text else said)
        elif not isfinite(value) or value <= 0:
            wrong.append(f"{said}, not a positive number")
        elif name in ("img_size", "batch_size") and value != int(value):
            wrong.append(f"{said}, not a whole number")
        else:
            numbers[name] = value
    if wrong:
        return None, wrong
    batch = int(numbers["batch_size"])
    seconds = batch / numbers["samples_per_sec"]
    row = TableRow(
        line, own["model"], int(numbers["img_size"]), batch, seconds, numbers.get("params")
    )
    return row, []


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
