"""Candidates in cost and error, with the front, the limit and the chosen one, as a figure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convscale.files import write_whole
from convscale.quantities import format_count
from convscale.report.exports import plot_form
from convscale.report.look import COLOURS, log_axis, log_ticks
from convscale.report.paper import rendered
from convscale.selection.metrics import metric

if TYPE_CHECKING:
    import pandas as pd

    from convscale.study.zoo_selection import ZooSelection

_MUTED, _FITS, _FRONT, _CHOSEN = "#9aa5b1", COLOURS[0], COLOURS[2], COLOURS[1]
_ALPHA, _MANY = COLOURS[3], 300  # candidates from which on marks are smaller
_KINDS = {  # by the order of drawing: what is drawn, its colour, symbols of plotly and matplotlib
    "does not fit": (_MUTED, "circle-open", "o", 6),
    "fits": (_FITS, "circle", "o", 6),
    "chosen": (_CHOSEN, "star", "*", 15),
}


def plot_frame(found: ZooSelection) -> pd.DataFrame:
    """Return what is drawn: for each candidate its label, cost, error, kind and place on the front.

    Example:
        >>> callable(plot_frame)
        True
    """
    import pandas as pd

    own = found.found
    height = own.estimate.error if found.has_errors else own.pool.values["flops"]
    kinds = np.where(own.fits, "fits", "does not fit").astype(object)
    kinds[found.at] = "chosen"
    on = np.zeros(len(own.pool), dtype=bool)
    on[list(own.front)] = True
    frame = pd.DataFrame(
        {
            "label": own.pool.labels,
            "cost": own.costs(),
            "error": height,
            "kind": kinds,
            "front": on,
        }
    )
    return frame.sort_values(["cost", "error", "label"], ignore_index=True)


def write_selection_plot(found: ZooSelection, path: Path) -> Path:
    r"""Draw a selection as a page or a picture, whole or not at all.

    Args:
        found: The selection.
        path: The file, which ends in .html, .png, .svg or .pdf.

    Raises:
        InputError: If it ends otherwise, or nothing can be written there.

    Example:
        >>> import tempfile
        >>> from convscale.study.selecting import select
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "mine.csv")
        ...     _ = file.write_text("model,top1_err,latency_ms\na,20,4\nb,18,9\n")
        ...     found = select(table=file, error="top1_err", limits=["latency<=5ms"])
        ...     write_selection_plot(found, Path(folder, "a.svg")).read_bytes()[:5]
        b'<?xml'
    """
    form = plot_form(path)
    if form == "html":
        return write_whole(path, selection_page(found).to_html(include_plotlyjs=True))
    return write_whole(path, rendered(selection_drawing(found), form))


def alpha_frame(found: ZooSelection) -> pd.DataFrame:
    """Return the curve along α that is drawn: for each α cost and error of its best network.

    Example:
        >>> callable(alpha_frame)
        True
    """
    import pandas as pd

    own = found.found
    height = own.estimate.error if found.has_errors else own.pool.values["flops"]
    rows = [(one.alpha, own.costs()[one.at], height[one.at]) for one in found.alpha_curve]
    return pd.DataFrame(rows, columns=["alpha", "cost", "error"])


def _smaller(frame: pd.DataFrame, kind: str) -> float:
    """Return what marks are multiplied by where there are many."""
    return 0.5 if len(frame) > _MANY and kind != "chosen" else 1.0


def _alpha_panel(found: ZooSelection, curve: pd.DataFrame, axes: Any) -> None:
    """Draw error and cost of the best network of each α, under the same constraints."""
    across, up = _axes(found)
    axes.plot(curve["alpha"], curve["error"], color=_FITS, marker="o", markersize=4, label=up)
    axes.set(xlabel="α, the share of width", ylabel=up)
    other = axes.twinx()
    other.plot(
        curve["alpha"],
        curve["cost"],
        color=_ALPHA,
        marker="D",
        markersize=4,
        linestyle="--",
        label=across,
    )
    other.set_ylabel(across)
    lines = [*axes.get_lines(), *other.get_lines()]
    axes.legend(lines, [line.get_label() for line in lines], frameon=False, fontsize=8)
    axes.grid(visible=True, color="#e4e7eb")


def _alpha_traces(found: ZooSelection, figure: Any) -> None:
    """Add a panel below with error and cost of the best network of each α."""
    curve, (across, up) = alpha_frame(found), _axes(found)
    for name, column, axis, look in (
        (up, "error", "y2", {"color": _FITS}),
        (across, "cost", "y3", {"color": _ALPHA, "dash": "dash"}),
    ):
        figure.add_scatter(
            x=curve["alpha"],
            y=curve[column],
            name=f"{name} along α",
            mode="lines+markers",
            line=look,
            xaxis="x2",
            yaxis=axis,
            hovertemplate="α %{x:.2f}<br>%{y:.4g}<extra></extra>",
        )
    figure.update_layout(
        height=880,
        yaxis={"domain": [0.42, 1.0]},
        xaxis2={"anchor": "y2", "title": {"text": "α, the share of width"}},
        yaxis2={"domain": [0.0, 0.3], "anchor": "x2", "title": {"text": up}},
        yaxis3={"overlaying": "y2", "side": "right", "anchor": "x2", "title": {"text": across}},
    )


def _limits(found: ZooSelection) -> list[float]:
    own = found.found
    return [one.limit for one in own.constraints if one.on == own.cost and one.sense == "<="]


def _tick(value: float) -> str:
    text = format_count(value)
    return f"{value:g}" if value < 1000 else f"{float(text[:-1]):g}{text[-1]}"


def _axes(found: ZooSelection) -> tuple[str, str]:
    own = metric(found.found.cost)
    unit = f" ({own.unit})" if own.unit.isalpha() and own.unit else ""
    return f"{own.title}{unit}", found.found.objective.name


def selection_page(found: ZooSelection) -> Any:
    """Draw a selection with plotly; the cost is logarithmic.

    Example:
        >>> callable(selection_page)
        True
    """
    import plotly.graph_objects as go

    frame, figure = plot_frame(found), go.Figure()
    across, up = _axes(found)
    front = frame[frame["front"]]
    figure.add_trace(
        go.Scatter(
            x=front["cost"],
            y=front["error"],
            mode="lines",
            line={"color": _FRONT, "shape": "hv"},
            name="Pareto front",
            hoverinfo="skip",
        )
    )
    for kind, (colour, symbol, _, size) in _KINDS.items():
        own = frame[frame["kind"] == kind]
        figure.add_trace(
            go.Scatter(
                x=own["cost"],
                y=own["error"],
                mode="markers",
                name=kind,
                marker={"color": colour, "symbol": symbol, "size": size * _smaller(frame, kind)},
                text=own["label"],
                hovertemplate="%{text}<br>%{x:.4g}, %{y:.4g}<extra></extra>",
            )
        )
    for limit in _limits(found):
        figure.add_vline(x=limit, line={"color": "#1f2933", "dash": "dash", "width": 1})
    log_axis(figure.update_xaxes, [*frame["cost"], *_limits(found)], _tick, title=across)
    figure.update_yaxes(title_text=up, type="linear" if found.has_errors else "log")
    figure.update_layout(template="plotly_white", height=560)
    if len(found.alpha_curve) > 1:
        _alpha_traces(found, figure)
    return figure


def selection_drawing(found: ZooSelection) -> Any:
    """Draw the same with matplotlib, for papers.

    Example:
        >>> callable(selection_drawing)
        True
    """
    from matplotlib.figure import Figure

    frame = plot_frame(found)
    across, up = _axes(found)
    curve = alpha_frame(found)
    panels = 1 + (len(curve) > 1)
    figure = Figure(figsize=(3.2 + 3.2 * panels, 4.4), layout="constrained")
    axes, *others = figure.subplots(1, panels, squeeze=False)[0]
    for other in others:
        _alpha_panel(found, curve, other)
    front = frame[frame["front"]]
    axes.step(
        front["cost"], front["error"], where="post", color=_FRONT, label="Pareto front", zorder=4
    )
    for kind, (colour, _, symbol, size) in _KINDS.items():
        own = frame[frame["kind"] == kind]
        inside = "none" if kind == "does not fit" else colour
        axes.scatter(
            own["cost"],
            own["error"],
            s=4.0 * size * _smaller(frame, kind),
            marker=symbol,
            edgecolors=colour,
            facecolors=inside,
            linewidths=0.8,
            label=kind,
            zorder=5 if kind == "chosen" else 2,
        )
    for limit in _limits(found):
        axes.axvline(limit, color="#1f2933", linestyle="--", linewidth=0.8)
    axes.set(xscale="log", xlabel=across, ylabel=up)
    if not found.has_errors:
        axes.set_yscale("log")
    ends = [*frame["cost"], *_limits(found)]
    ticks = log_ticks(min(ends) / 1.25, max(ends) * 1.25)
    axes.set_xticks(ticks, labels=[_tick(tick) for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.grid(visible=True, color="#e4e7eb")
    axes.set_axisbelow(True)
    axes.legend(frameon=False, fontsize=8)
    return figure
