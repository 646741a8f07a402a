"""A table of networks to choose from: any CSV file with a network a line. No torch here."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite, nan
from pathlib import Path

from convscale.errors import InputError, few, near_names
from convscale.quantities import Resolution, format_resolution, parse_resolution
from convscale.reading import csv_lines
from convscale.selection.metrics import METRICS, Metric, metric

_MODEL = ("model", "network", "name", "architecture")
_RESOLUTION = ("resolution", "resolution_px", "img_size", "infer_img_size", "train_img_size")
_SERIES = ("series", "strategy", "family")
_SHOWN = 8  # mistakes that a message lists
_THOUSANDS = re.compile(r"\d{1,3}(,\d{3})+(\.\d*)?")  # 1,014.45, as public tables write it
_FEWEST = 1e4  # below, a count is one in thousands or millions


@dataclass(frozen=True)
class Column:
    """A column that holds a quantity, and the unit of its cells where they have none.

    Example:
        >>> parse_column("params=param_count:M")
        Column(on='params', name='param_count', unit='M')
    """

    on: str
    name: str
    unit: str = ""


def parse_column(text: str, *, on: str | None = None) -> Column:
    """Read QUANTITY=COLUMN:UNIT; the quantity may be known, and the unit left out.

    Raises:
        InputError: If it is none.

    Example:
        >>> parse_column("step_s:s", on="latency_ms"), parse_column("latency=ms").on
        (Column(on='latency_ms', name='step_s', unit='s'), 'latency_ms')
    """
    if on is None:
        on, found, text = text.partition("=")
        if not found:
            raise InputError(
                f"Cannot read {on!r} as a column of a quantity. Write QUANTITY=COLUMN or "
                "QUANTITY=COLUMN:UNIT, as in params=param_count:M."
            )
    name, _, unit = text.partition(":")
    if not name.strip():
        raise InputError(f"The name of the column of {on} is empty. Write it, as in {on}=mine.")
    return Column(metric(on.strip()).name, name.strip(), unit.strip())


@dataclass(frozen=True)
class ZooRow:
    """A network of a table.

    Args:
        line: Its line in the file.
        model: Its name.
        resolution: Its input side, where the table tells it.
        series: The series that it is of.
        error: Its error; NaN where there is none.
        values: The quantities that the table tells; NaN where a cell is empty.
        repeated: Whether the network stands in the table more than once, as trials do.

    Example:
        >>> ZooRow(2, "resnet50", 224).label
        'resnet50 (224 px)'
    """

    line: int
    model: str
    resolution: Resolution | None = None
    series: str = ""
    error: float = nan
    values: Mapping[str, float] = field(default_factory=dict)
    repeated: bool = False

    @property
    def label(self) -> str:
        """The name of the candidate."""
        side = [f"{format_resolution(self.resolution)} px"] if self.resolution else []
        line = [f"line {self.line}"] if self.repeated else []
        return f"{self.model} ({', '.join(side + line)})" if side or line else self.model


@dataclass(frozen=True)
class ZooColumns:
    """Which columns of a table hold what; what is None is found by the usual names.

    Example:
        >>> ZooColumns(error="top1_err").model is None
        True
    """

    model: str | None = None
    resolution: str | None = None
    series: str | None = None
    error: str | None = None
    quantities: tuple[Column, ...] = ()


def columns_of(given: ZooColumns | Mapping[str, str] | None) -> ZooColumns:
    """Return which columns hold what, of names: "model", "series", "resolution", or a quantity.

    Raises:
        InputError: If there is no such quantity, or two names stand for one.

    Example:
        >>> columns_of({"series": "family", "params": "param_count:M"}).quantities
        (Column(on='params', name='param_count', unit='M'),)
    """
    if given is None or isinstance(given, ZooColumns):
        return given or ZooColumns()
    if not isinstance(given, Mapping):
        raise InputError(
            f"The columns are {given!r}. Write which column holds what, as in "
            "{'latency': 'step_ms', 'params': 'param_count:M'}."
        )
    named = {name: given[name] for name in ("model", "resolution", "series") if name in given}
    quantities = [parse_column(text, on=on) for on, text in given.items() if on not in named]
    check_once(quantities)
    return ZooColumns(**named, quantities=tuple(quantities))


def check_once(quantities: Sequence[Column]) -> None:
    """Refuse two columns for one quantity.

    Raises:
        InputError: If there are.

    Example:
        >>> check_once([Column("params", "a"), Column("flops", "b")])
    """
    names = [one.on for one in quantities]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"Two columns were named for {twice}. Name one.")


def read_zoo(path: Path, columns: ZooColumns | None = None) -> tuple[ZooRow, ...]:
    r"""Read the networks of a CSV file.

    A column that is called as a quantity, such as latency_ms or params, is read as it.

    Args:
        path: The file.
        columns: Which columns hold what.

    Raises:
        InputError: If there is no such file or column, or fields cannot be read: all at once.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "mine.csv")
        ...     _ = file.write_text("model,img_size,top1_err\nresnet50,224,19.6\n")
        ...     read_zoo(file, ZooColumns(error="top1_err"))[0].error
        19.6
    """
    header, rows = csv_lines(path, "networks")
    asked = columns or ZooColumns()
    places = _places(path, header, asked)
    found: list[ZooRow] = []
    wrong: list[str] = []
    for line, fields in rows:
        if len(fields) > len(header):
            wrong.append(f"line {line}: {len(fields)} fields, the header has {len(header)}")
            continue
        own = dict(zip(header, (cell.strip() for cell in fields), strict=False))
        row, mistakes = _row(line, own, places)
        found.append(row)
        wrong += mistakes
    if wrong:
        raise InputError(
            f"{path} cannot be read: {few(wrong, limit=_SHOWN, by='; ')}. Correct these fields, or "
            "leave the rows out."
        )
    if not found:
        raise InputError(f"{path} has no networks. Give a line for each.")
    return _told_apart(found)


def _places(path: Path, header: Sequence[str], asked: ZooColumns) -> ZooColumns:
    """Return the columns by their names in the file."""
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise InputError(f"{path} cannot be read: the column {twice[0]} stands twice.")

    def of(name: str | None, usual: Iterable[str], *, option: str = "") -> str | None:
        if name is not None:
            return _known(path, header, name)
        found = next((one for one in usual if one in header), None)
        if found is None and option:
            raise InputError(
                f"{path} has no column {' or '.join(usual)}. Name the one with the networks by "
                f"{option}: it has {', '.join(header)}."
            )
        return found

    given = {column.on for column in asked.quantities}
    own = [
        Column(entry.name, entry.name)
        for entry in METRICS
        if entry.name in header and entry.name not in given and entry.name != "resolution_px"
    ]
    for column in asked.quantities:
        _known(path, header, column.name)
    return ZooColumns(
        of(asked.model, _MODEL, option="--model-column"),
        of(asked.resolution, _RESOLUTION),
        of(asked.series, _SERIES),
        of(asked.error, ()),
        (*asked.quantities, *own),
    )


def _known(path: Path, header: Sequence[str], name: str) -> str:
    if name not in header:
        raise InputError(
            f"{path} has no column {name!r}. It has {', '.join(header)}.{near_names(name, header)}"
        )
    return name


def _row(line: int, own: Mapping[str, str], at: ZooColumns) -> tuple[ZooRow, list[str]]:
    """Return the network of a line, and what is wrong with it."""
    wrong: list[str] = []

    def cell(name: str | None) -> str:
        return "" if name is None else own.get(name, "")

    if not cell(at.model):
        wrong.append(f"line {line}: {at.model} is empty")
    values = {one.on: _value(one, cell(one.name), line, wrong) for one in at.quantities}
    side = _side(cell(at.resolution), f"line {line}: {at.resolution}", wrong)
    error = _number(cell(at.error), f"line {line}: {at.error}", wrong)
    return ZooRow(line, cell(at.model), side, cell(at.series), error, values), wrong


def _value(column: Column, text: str, line: int, wrong: list[str]) -> float:
    """Return a quantity in the unit of its name; NaN where the cell is empty."""
    if not text:
        return nan
    own = metric(column.on)
    plain = text.replace(",", "") if _THOUSANDS.fullmatch(text) else text
    try:
        bare = plain[-1].isdigit() or plain[-1] == "."
        value = own.read(plain + (column.unit or _usual(own)) if bare else plain)
    except InputError as error:
        wrong.append(f"line {line}: {column.name} is {text!r}: {error.line}")
        return nan
    if bare and not column.unit and own.name in ("flops", "params", "acts") and value < _FEWEST:
        wrong.append(
            f"line {line}: {column.name} is {text}, which are too few: say the unit, as in "
            f"--column {own.name}={column.name}:M"
        )
    return value


def _usual(own: Metric) -> str:
    """Return the unit of cells of a column that names none."""
    return "ms" if own.name == "latency_ms" else ""


def _side(text: str, what: str, wrong: list[str]) -> Resolution | None:
    if not text:
        return None
    try:
        return parse_resolution(text.removesuffix(".0"))
    except InputError:
        wrong.append(f"{what} is {text!r}, not a resolution")
        return None


def _number(text: str, what: str, wrong: list[str]) -> float:
    if not text:
        return nan
    try:
        value = float(text)
    except ValueError:
        wrong.append(f"{what} is {text!r}, not a number")
        return nan
    if not isfinite(value) or value < 0:
        wrong.append(f"{what} is {text!r}, not a number of at least 0")
        return nan
    return value


def _told_apart(rows: Sequence[ZooRow]) -> tuple[ZooRow, ...]:
    """Mark the rows whose network stands in the table more than once, as trials do."""
    many = Counter(row.label for row in rows)
    return tuple(replace(row, repeated=many[row.label] > 1) for row in rows)
