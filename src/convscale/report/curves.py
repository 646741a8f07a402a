"""The course of a training run: a table of its epochs, and the figure drawn from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from convscale.report.look import COLOURS

if TYPE_CHECKING:
    import pandas as pd

CURVES = "curves.png"
COLUMNS = ["epoch", "panel", "curve", "value"]
# What is drawn of an epoch: the panel, the name of the curve, and the column of history.csv.
_CURVES = (
    ("loss", "training", "train_loss"),
    ("loss", "validation", "validation_loss"),
    ("top-1 error (%)", "weights", "top1_error_pct"),
    ("top-1 error (%)", "their average (EMA)", "ema_top1_error_pct"),
    ("learning rate", "learning rate", "lr"),
)
_COLOURS = dict(zip(dict.fromkeys(name for _, name, _ in _CURVES), COLOURS, strict=False))
_FEW = 25  # epochs up to which each has a mark
_ROOM, _LOW = 1.06, 0.1  # what the axis goes beyond the highest value; what is low on it
_STYLE: Any = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}


def curves_frame(rows: Sequence[Mapping[str, float | int | None]]) -> pd.DataFrame:
    """Return a line for each epoch and curve; a curve of which nothing is known has none.

    Args:
        rows: The lines of history.csv.

    Example:
        >>> rows = [{"epoch": 1, "train_loss": 2.0, "top1_error_pct": 90.0}]
        >>> curves_frame(rows).values.tolist()
        [[1, 'loss', 'training', 2.0], [1, 'top-1 error (%)', 'weights', 90.0]]
    """
    import pandas as pd

    lines = [
        (int(row["epoch"] or 0), panel, name, float(value))
        for panel, name, column in _CURVES
        for row in rows
        if (value := row.get(column)) is not None
    ]
    return pd.DataFrame(lines, columns=COLUMNS)


def curves_figure(frame: pd.DataFrame, title: str) -> Any:
    """Draw the curves, a panel for losses, errors and the learning rate.

    Args:
        frame: The lines of `curves_frame`.
        title: What is written over it.

    Example:
        >>> rows = [{"epoch": e, "train_loss": 2.0 / e, "lr": 0.1} for e in (1, 2)]
        >>> figure = curves_figure(curves_frame(rows), "net on digits")
        >>> [panel.get_ylabel() for panel in figure.axes]
        ['loss', 'learning rate']
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    names = list(dict.fromkeys(frame["panel"]))
    with rc_context(_STYLE):
        figure = Figure(figsize=(3.6 * max(1, len(names)), 3.3), layout="constrained")
        panels = figure.subplots(1, max(1, len(names)), squeeze=False)[0]
        for panel, name in zip(panels, names, strict=False):
            _draw(panel, frame[frame["panel"] == name])
            panel.set_xlabel("epoch")
            panel.set_ylabel(name)
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
            panel.grid(axis="y", color="#e4e7eb", linewidth=0.8)
        figure.suptitle(title, fontsize=10)
    return figure


def _draw(panel: Any, frame: pd.DataFrame) -> None:
    known = [value for value in frame["value"] if math.isfinite(value)]
    top = _ROOM * max(known, default=0.0) or 1.0
    panel.set_ylim(0, top)
    for name, own in frame.groupby("curve", sort=False):
        few = len(own) <= _FEW
        panel.plot(
            own["epoch"],
            own["value"],
            color=_COLOURS[str(name)],
            marker="o" if few else None,
            markersize=3,
            linewidth=1.6,
            label=name,
        )
        if frame["panel"].iloc[0].startswith("top-1"):
            _mark_lowest(panel, own, _COLOURS[str(name)], top)
    if frame["curve"].nunique() > 1:
        panel.legend(frameon=False)


def _mark_lowest(panel: Any, own: pd.DataFrame, colour: str, top: float) -> None:
    """Write the lowest error below where it is; above where there is no room, as there is for 0."""
    value, epoch = min(zip(own["value"], own["epoch"], strict=True))
    panel.annotate(
        f"{value:.3g}",
        (epoch, value),
        textcoords="offset points",
        xytext=(2, 5 if value < _LOW * top else -11),
        ha="left" if epoch == own["epoch"].min() else "right",
        fontsize=8,
        color=colour,
    )
