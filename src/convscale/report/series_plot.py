"""A series along its budgets, beside what each budget would have alone, as a figure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from convscale.files import write_whole
from convscale.quantities import format_count
from convscale.report.exports import plot_form
from convscale.report.look import COLOURS, log_axis, log_ticks
from convscale.report.paper import rendered
from convscale.selection.metrics import metric

if TYPE_CHECKING:
    from convscale.study.network_series import NetworkSeries

_MUTED, _LIMIT = "#9aa5b1", "#1f2933"
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
        about = metric(across)
        unit = f" ({about.unit})" if about.unit.isalpha() else ""
        return cls(
            across, up, f"{about.title}{unit}", own.objective.name, log_up=not found.has_errors
        )


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
    form = plot_form(path)
    if form == "html":
        return write_whole(path, series_page(found).to_html(include_plotlyjs=True))
    return write_whole(path, rendered(series_drawing(found), form))


def _kinds(found: NetworkSeries, frame: pd.DataFrame) -> list[tuple[str, str, pd.DataFrame]]:
    """Return what is drawn in its order, with its title and its rows."""
    title = f"series of {found.strategy}"
    kinds = [("candidate", "candidates"), (_OWN, _OWN), (_SERIES, title)]
    return [
        (kind, shown, frame[frame["kind"] == kind])
        for kind, shown in kinds
        if (frame["kind"] == kind).any()
    ]


def _tick(value: float) -> str:
    text = format_count(value)
    return f"{value:g}" if value < 1000 else f"{float(text[:-1]):g}{text[-1]}"


def series_page(found: NetworkSeries) -> Any:
    """Draw a series with plotly.

    Example:
        >>> callable(series_page)
        True
    """
    import plotly.graph_objects as go

    axes, frame, figure = _Axes.of(found), series_plot_frame(found), go.Figure()
    looks = {
        "candidate": {"mode": "markers", "marker": {"color": _MUTED, "size": 5}},
        _OWN: {
            "mode": "lines+markers",
            "line": {"color": COLOURS[2], "dash": "dot"},
            "marker": {"symbol": "diamond-open", "size": 11},
        },
        _SERIES: {
            "mode": "lines+markers",
            "line": {"color": COLOURS[1]},
            "marker": {"symbol": "star", "size": 12},
        },
    }
    for kind, title, own in _kinds(found, frame):
        figure.add_trace(
            go.Scatter(
                x=own["across"],
                y=own["up"],
                name=title,
                text=own["label"],
                hovertemplate="%{text}<br>%{x:.4g}, %{y:.4g}<extra></extra>",
                **looks[kind],
            )
        )
    limits = [one.limit for one in found.choice.budgets]
    line = {"color": _LIMIT, "dash": "dash", "width": 1}
    for limit in limits:
        if found.choice.budgets[0].on == axes.up:
            figure.add_hline(y=limit, line=line)
        else:
            figure.add_vline(x=limit, line=line)
    across = [] if found.choice.budgets[0].on == axes.up else limits
    log_axis(figure.update_xaxes, [*frame["across"], *across], _tick, title=axes.title_across)
    if axes.log_up:
        log_axis(figure.update_yaxes, [*frame["up"]], _tick, title=axes.title_up)
    else:
        figure.update_yaxes(title_text=axes.title_up)
    return figure.update_layout(template="plotly_white", height=560)


def series_drawing(found: NetworkSeries) -> Any:
    """Draw the same with matplotlib, for papers.

    Example:
        >>> callable(series_drawing)
        True
    """
    from matplotlib.figure import Figure

    axes, frame = _Axes.of(found), series_plot_frame(found)
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    plot = figure.subplots()
    looks: dict[str, dict[str, Any]] = {
        "candidate": {"linestyle": "", "marker": "o", "markersize": 2.5, "color": _MUTED},
        _OWN: {
            "linestyle": ":",
            "marker": "D",
            "markersize": 8,
            "markerfacecolor": "none",
            "color": COLOURS[2],
        },
        _SERIES: {"linestyle": "-", "marker": "*", "markersize": 10, "color": COLOURS[1]},
    }
    for kind, title, own in _kinds(found, frame):
        plot.plot(own["across"], own["up"], label=title, **looks[kind])
    for budget in found.choice.budgets:
        line = plot.axhline if budget.on == axes.up else plot.axvline
        line(budget.limit, color=_LIMIT, linestyle="--", linewidth=0.8)
    plot.set(xscale="log", xlabel=axes.title_across, ylabel=axes.title_up)
    _ticks(plot.set_xticks, frame["across"])
    if axes.log_up:
        plot.set_yscale("log")
        _ticks(plot.set_yticks, frame["up"])
    plot.grid(visible=True, color="#e4e7eb")
    plot.set_axisbelow(True)
    plot.legend(frameon=False, fontsize=8)
    return figure


def _ticks(setting: Any, values: pd.Series[float]) -> None:
    ticks = log_ticks(float(values.min()) / 1.25, float(values.max()) * 1.25)
    setting(ticks, labels=[_tick(tick) for tick in ticks])
    setting([], minor=True)
