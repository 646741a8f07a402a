"""Candidates in cost and error, with the front, the limit and the chosen one, as a figure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convscale.quantities import format_count
from convscale.report.look import COLOURS
from convscale.report.points import MUTED, Plane, Points, title_of, write_plot

if TYPE_CHECKING:
    import pandas as pd

    from convscale.study.zoo_selection import ZooSelection

_FITS, _FRONT, _CHOSEN = COLOURS[0], COLOURS[2], COLOURS[1]
_ALPHA, _MANY = COLOURS[3], 300  # candidates from which on marks are smaller
_ALPHA_SYMBOLS = {"fits": "circle", "does not fit": "circle-open", "chosen": "star"}
_LOOKS: dict[str, dict[str, Any]] = {  # by the order of drawing
    "does not fit": {"colour": MUTED, "symbol": "o", "filled": False, "size": 6},
    "fits": {"colour": _FITS, "symbol": "o", "size": 6},
    "chosen": {"colour": _CHOSEN, "symbol": "*", "size": 15},
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
    return write_plot(path, lambda: selection_page(found), lambda: selection_drawing(found))


def alpha_frame(found: ZooSelection) -> pd.DataFrame:
    """Return the curve along α that is drawn: for each α cost and error of its best network.

    Its kind is fits, chosen, or does not fit: what comes nearest then.

    Example:
        >>> callable(alpha_frame)
        True
    """
    import pandas as pd

    own = found.found
    height = own.estimate.error if found.has_errors else own.pool.values["flops"]
    rows = [
        (
            one.alpha,
            own.costs()[one.at],
            height[one.at],
            "chosen" if one.at == found.at else "fits" if one.fits else "does not fit",
        )
        for one in found.alpha_curve
    ]
    return pd.DataFrame(rows, columns=["alpha", "cost", "error", "kind"])


def _plane(found: ZooSelection) -> Plane:
    """Return the candidates by kind with the front above them, and the limits of the cost."""
    own, frame = found.found, plot_frame(found)
    across, up = _titles(found)
    kinds = [(kind, frame[frame["kind"] == kind], look) for kind, look in _LOOKS.items()]
    front = frame[frame["front"]]
    line = ("Pareto front", front, {"colour": _FRONT, "line": "-", "steps": True})
    drawn = [*kinds[:-1], line, kinds[-1]]
    points = [
        Points(title, [*rows["cost"]], [*rows["error"]], [*rows["label"]], **look)
        for title, rows, look in drawn
    ]
    if len(frame) > _MANY:
        points = [replace(one, size=one.size / 2) if one.symbol == "o" else one for one in points]
    limits = [one.limit for one in own.constraints if one.on == own.cost and one.sense == "<="]
    return Plane(across, up, tuple(points), limits, log_up=not found.has_errors)


def _titles(found: ZooSelection) -> tuple[str, str]:
    return title_of(found.found.cost), found.found.objective.name


def _alpha_panel(found: ZooSelection, curve: pd.DataFrame, axes: Any) -> None:
    """Draw error and cost of the best network of each α, under the same constraints."""
    across, up = _titles(found)
    other = axes.twinx()
    lines = [
        _alpha_line(curve, "error", axes, color=_FITS, marker="o", label=up),
        _alpha_line(curve, "cost", other, color=_ALPHA, marker="D", linestyle="--", label=across),
    ]
    axes.set(xlabel=_alpha_title(curve), ylabel=up)
    other.set_ylabel(across)
    place = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "ncols": 2}  # beside no mark
    axes.legend(lines, [up, across], frameon=False, fontsize=8, **place)
    axes.grid(visible=True, color="#e4e7eb")


def _alpha_title(curve: pd.DataFrame) -> str:
    hollow = " (hollow: does not fit)" if (curve["kind"] == "does not fit").any() else ""
    return f"α, the share of width{hollow}"


def _alpha_line(curve: pd.DataFrame, name: str, axes: Any, **look: Any) -> Any:
    """Draw a line along α, with what misses constraints hollow and the choice as a star."""
    (line,) = axes.plot(curve["alpha"], curve[name], markersize=4, **look)
    out, best = (curve[curve["kind"] == kind] for kind in ("does not fit", "chosen"))
    hollow = {"marker": look["marker"], "markerfacecolor": "white", "color": look["color"]}
    axes.plot(out["alpha"], out[name], linestyle="", markersize=6, **hollow)
    axes.plot(best["alpha"], best[name], linestyle="", marker="*", markersize=12, color=_CHOSEN)
    if curve[name].max() >= 1000:  # read as 4.5G, as on the other panel
        axes.yaxis.set_major_formatter(lambda value, _: format_count(value))
    return line


def _alpha_traces(found: ZooSelection, figure: Any) -> None:
    """Add a panel below with error and cost of the best network of each α."""
    curve, (across, up) = alpha_frame(found), _titles(found)
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
            marker={"symbol": [*curve["kind"].map(_ALPHA_SYMBOLS)], "size": 8},
            text=curve["kind"],
            xaxis="x2",
            yaxis=axis,
            hovertemplate="α %{x:.2f}, %{text}<br>%{y:.4g}<extra></extra>",
        )
    figure.update_layout(
        height=880,
        yaxis={"domain": [0.42, 1.0]},
        xaxis2={"anchor": "y2", "title": {"text": _alpha_title(curve)}},
        yaxis2={"domain": [0.0, 0.3], "anchor": "x2", "title": {"text": up}},
        yaxis3={"overlaying": "y2", "side": "right", "anchor": "x2", "title": {"text": across}},
    )


def selection_page(found: ZooSelection) -> Any:
    """Draw a selection with plotly; the cost is logarithmic.

    Example:
        >>> callable(selection_page)
        True
    """
    figure = _plane(found).page()
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

    curve = alpha_frame(found)
    panels = 1 + (len(curve) > 1)
    figure = Figure(figsize=(3.2 + 3.2 * panels, 4.4), layout="constrained")
    axes, *others = figure.subplots(1, panels, squeeze=False)[0]
    for other in others:
        _alpha_panel(found, curve, other)
    _plane(found).draw(axes)
    return figure
