"""The figure along a network for papers: PNG, SVG or PDF by matplotlib."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from convscale.complexity.complexity import METRICS
from convscale.quantities import format_count
from convscale.report.along import SHADE, bar_width, colour_of, groups_of, short
from convscale.report.bands import bands, labels
from convscale.report.look import linear_ticks

if TYPE_CHECKING:
    import pandas as pd

FORMATS = ("png", "svg", "pdf")
_STYLE: Any = {  # matplotlib's own type names every parameter
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "svg.hashsalt": "convscale",  # equal figures are equal files
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
}


def paper_figure(frame: pd.DataFrame, title: str) -> Any:
    """Draw a bar for each call: its flops, params and acts, a panel each, stages shaded.

    Args:
        frame: The lines of `convscale.report.along.along_frame`.
        title: What is written over it.

    Example:
        >>> import pandas as pd
        >>> from convscale.report.along import COLUMNS
        >>> line = (1, "a", "stem", "linear", "linear", 8, 4, 2)
        >>> figure = paper_figure(pd.DataFrame([line], columns=COLUMNS), "net")
        >>> [int(panel.patches[0].get_height()) for panel in figure.axes]
        [8, 4, 2]
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    with rc_context(_STYLE):
        figure = Figure(figsize=(8.0, 5.2), layout="constrained")
        panels = figure.subplots(len(METRICS), 1, sharex=True)
        for panel, metric in zip(panels, METRICS, strict=True):
            _draw(panel, frame, metric)
        found = bands(frame)
        for middle, name in labels(found):
            panels[0].annotate(
                name,
                (middle, 1.02),
                xycoords=("data", "axes fraction"),
                ha="center",
                va="bottom",
                fontsize=8,
            )
        panels[-1].set_xlabel("operators in the order of execution")
        panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
        panels[-1].set_xlim(0.4, len(frame) + 0.6)
        figure.suptitle(title, fontsize=10)
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=4, frameon=False)
    return figure


def _draw(panel: Any, frame: pd.DataFrame, metric: str) -> None:
    width = bar_width(len(frame))
    for group in groups_of(frame):
        own = frame[frame["group"] == group]
        panel.bar(own["position"], own[metric], width=width, color=colour_of(group), label=group)
    for band in bands(frame)[1::2]:
        panel.axvspan(band.first - 0.5, band.last + 0.5, color=SHADE, zorder=0, linewidth=0)
    top = 1.08 * max(1.0, float(frame[metric].max()))
    ticks = linear_ticks(top)
    panel.set_yticks(ticks, [short(tick) for tick in ticks])
    panel.set_ylim(0, top)
    panel.set_ylabel(f"{metric} ({format_count(int(frame[metric].sum()))})")
    panel.grid(axis="y", color="#e4e7eb", linewidth=0.8)


def rendered(figure: Any, form: str) -> bytes:
    """Return a figure as the bytes of a file; equal figures give equal bytes.

    Args:
        figure: The figure of `paper_figure`.
        form: png, svg or pdf.

    Example:
        >>> from matplotlib.figure import Figure
        >>> rendered(Figure(), "pdf")[:5]
        b'%PDF-'
    """
    from matplotlib import rc_context

    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}
    stream = io.BytesIO()
    with rc_context(_STYLE):
        figure.savefig(stream, format=form, dpi=200, metadata=dates[form])
    return stream.getvalue()
