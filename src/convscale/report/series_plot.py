"""A series along its budgets, beside what each budget would have alone, as a figure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from convscale.report.look import COLOURS
from convscale.report.points import MUTED, Plane, Points, title_of, write_plot

if TYPE_CHECKING:
    from convscale.study.network_series import NetworkSeries

_OWN, _SERIES = "own choice of each budget", "series"


@dataclass(frozen=True)
class _Axes:
    """What is drawn across and up, and on which of both the budgets lie."""

    across: str
    up: str
    title_across: str
    title_up: str
    log_up: bool

    @classmethod
    def of(cls, found: NetworkSeries) -> _Axes:
        budget, own = found.choice.budgets[0].on, found.choice.own[0]
        up = "error" if found.has_errors else "flops"
        across = own.cost if budget == up else budget
        return cls(across, up, title_of(across), own.objective.name, log_up=not found.has_errors)


def series_plot_frame(found: NetworkSeries) -> pd.DataFrame:
    """Return what is drawn: candidates, own choices and the series, with their labels.

    Example:
        >>> callable(series_plot_frame)
        True
    """
    axes, choice = _Axes.of(found), found.choice
    own = choice.own[0]
    x = own.pool.values[axes.across]
    y = own.estimate.error if found.has_errors else own.pool.values["flops"]
    alone = [one.chosen for one in choice.own]
    rows = [("candidate", own.pool.labels[at], x[at], y[at]) for at in range(len(own.pool))]
    rows += [(_OWN, own.pool.labels[at], x[at], y[at]) for at in alone]
    if choice.chosen is not None:
        pairs = zip(choice.places, found.members, strict=True)
        rows += [(_SERIES, entry.network, x[at], y[at]) for at, entry in pairs]
    return pd.DataFrame(rows, columns=["kind", "label", "across", "up"])


def write_series_plot(found: NetworkSeries, path: Path) -> Path:
    r"""Draw a series as a page or a picture, whole or not at all.

    Args:
        found: The series.
        path: The file, which ends in .html, .png, .svg or .pdf.

    Raises:
        InputError: If it ends otherwise, or nothing can be written there.

    Example:
        >>> import tempfile
        >>> from convscale.study.selecting import select_series
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "mine.csv")
        ...     _ = file.write_text("model,series,err,latency_ms\na,x,20,4\nb,x,18,9\n")
        ...     found = select_series(table=file, error="err", budgets="5ms,10ms")
        ...     write_series_plot(found, Path(folder, "a.svg")).read_bytes()[:5]
        b'<?xml'
    """
    return write_plot(path, lambda: series_page(found), lambda: series_drawing(found))


_LOOKS: dict[str, dict[str, Any]] = {  # by the order of drawing
    "candidate": {"colour": MUTED, "symbol": "o", "size": 4},
    _OWN: {"colour": COLOURS[2], "symbol": "D", "filled": False, "size": 10, "line": ":"},
    _SERIES: {"colour": COLOURS[1], "symbol": "*", "size": 13, "line": "-"},
}


def _plane(found: NetworkSeries) -> Plane:
    """Return candidates, own choices and the series, with the budgets as limits."""
    axes, frame = _Axes.of(found), series_plot_frame(found)
    titles = {"candidate": "candidates", _SERIES: f"series of {found.strategy}"}
    points = [
        Points(
            titles.get(kind, kind), [*own["across"]], [*own["up"]], [*own["label"]], **_LOOKS[kind]
        )
        for kind in _LOOKS
        for own in [frame[frame["kind"] == kind]]
        if len(own)
    ]
    limits = [one.limit for one in found.choice.budgets]
    upright = found.choice.budgets[0].on == axes.up
    return Plane(
        axes.title_across,
        axes.title_up,
        tuple(points),
        () if upright else limits,
        limits if upright else (),
        log_up=axes.log_up,
    )


def series_page(found: NetworkSeries) -> Any:
    """Draw a series with plotly.

    Example:
        >>> callable(series_page)
        True
    """
    return _plane(found).page()


def series_drawing(found: NetworkSeries) -> Any:
    """Draw the same with matplotlib, for papers.

    Example:
        >>> callable(series_drawing)
        True
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    _plane(found).draw(figure.subplots())
    return figure
