"""Finalists that were measured, for the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table

from convscale.quantities import format_ms, format_resolution
from convscale.report.layout import add_row, noted, table_of, titled
from convscale.report.names import Names
from convscale.report.sentences import conditions_text
from convscale.runtime.measurement import Failure, Measurement
from convscale.study.measured import Finalist, Measured


def finalist_parts(found: Measured, names: Names) -> list[RenderableType]:
    """Show what was measured of the finalists beside what was predicted, and the conditions.

    Args:
        found: The finalists.
        names: What is left out of their names.

    Example:
        >>> finalist_parts.__name__
        'finalist_parts'
    """
    title = "Finalists, measured on this machine"
    conditions = conditions_text(found.conditions, batch_size=found.batch_size)
    return [titled(title, _table(found, names)), conditions, *noted(found.notes)]


def _table(found: Measured, names: Names) -> Table:
    predicted = any(one.predicted_ms is not None for one in found.finalists)
    error = found.finalists[found.chosen].error.partition(" ")[0]
    heads = ["predicted<", "ratio<"] if predicted else []
    head, rest = heads[:1], heads[1:]
    table = table_of("network", "px<", f"{error}<", *head, "measured<", "spread<", *rest, "")
    for row, one in enumerate(found.finalists):
        cells = list(_cells(one, names, predicted=predicted))
        style = "bold" if row == found.chosen else None
        add_row(table, *cells, _mark(found, row), style=style)
    return table


def _cells(one: Finalist, names: Names, *, predicted: bool) -> Iterator[str]:
    own, side = one.outcome, one.entry.resolution
    yield names.short(one.entry.network)
    yield format_resolution(own.resolution if side is None else side)
    yield one.error.partition(" ")[2]
    if predicted:
        yield "" if one.predicted_ms is None else format_ms(one.predicted_ms)
    if isinstance(own, Measurement):
        yield format_ms(own.latency_ms.median)
        yield format_ms(own.latency_ms.iqr)
    else:
        yield from ("", "")
    if predicted:
        yield "" if one.ratio is None else f"{one.ratio:.2f}"


def _mark(found: Measured, row: int) -> str:
    one = found.finalists[row]
    said = "by prediction" if row == found.first != found.chosen else ""
    if row == found.chosen:
        said = "chosen"
    elif isinstance(one.outcome, Failure):
        said = f"{said}, not run" if said else "not run"
    elif not one.fits:
        said = f"{said}, too much" if said else "too much"
    return said
