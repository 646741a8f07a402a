"""Time against each predictor: a colour a base network, a symbol a strategy."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convscale.errors import InputError
from convscale.quantities import format_count
from convscale.report.frames import BASE
from convscale.report.look import COLOURS, log_axis, log_ticks
from convscale.report.sentences import format_r, scaled_by

if TYPE_CHECKING:
    import pandas as pd

FORMATS = (".html", ".png", ".svg", ".pdf")
_COLUMNS = 2
# The same forms in plotly's and in matplotlib's names; the first is of base networks.
_SYMBOLS = (
    ("star", "*"),
    ("circle", "o"),
    ("square", "s"),
    ("diamond", "D"),
    ("triangle-up", "^"),
    ("triangle-down", "v"),
    ("cross", "P"),
    ("x", "X"),
)


def plot_file(text: str) -> Path:
    """Return the path of a plot, whose ending says what it is.

    Raises:
        InputError: If the ending is none of those that can be drawn.

    Example:
        >>> plot_file("runtime.gif")
        Traceback (most recent call last):
        convscale.errors.InputError: Cannot draw 'runtime.gif'. End the name in .html, .png, .svg
        or .pdf.
    """
    path = Path(text)
    if path.suffix.lower() not in FORMATS:
        endings = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        raise InputError(f"Cannot draw {text!r}. End the name in {endings}.")
    return path


def write_scatter(
    frame: pd.DataFrame, r: Mapping[str, float | None], path: Path, *, time: str
) -> None:
    """Draw the lines of `scatter_frame` into a file, whole or not at all.

    Args:
        frame: The lines of `scatter_frame`.
        r: Pearson's r of the logarithms of each predictor, for the titles.
        path: Where to; its ending says what is drawn.
        time: What the times are, such as wall time.

    Raises:
        InputError: If nothing was measured, or the system refuses.

    Example:
        >>> import pandas as pd
        >>> columns = ["network", "strategy", "factor", "predictor", "value", "time_ms", "iqr_ms"]
        >>> frame = pd.DataFrame([("net", "w", 2.0, "acts", 7e6, 5.0, 0.1)], columns=columns)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_scatter(frame, {"acts": None}, Path(folder, "a.svg"), time="wall time")
        ...     [file.name for file in Path(folder).iterdir()]
        ['a.svg']
    """
    if not len(frame):
        raise InputError("Nothing was measured, so that there is nothing to draw.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            beside = Path(folder, path.name)
            if path.suffix.lower() == ".html":
                page = scatter_figure(frame, r, time=time)
                page.write_html(beside, include_plotlyjs=True)
            else:
                drawn = scatter_drawing(frame, r, time=time)
                drawn.savefig(beside, dpi=150, bbox_inches="tight", metadata=_undated(path))
            os.replace(beside, path)
    except OSError as error:
        raise InputError(f"Cannot write {str(path)!r}: {error.strerror or error}.") from error


def _undated(path: Path) -> dict[str, None]:
    """Leave the date out, so that equal tables give equal files."""
    return {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix.lower(), {})


def series(frame: pd.DataFrame) -> Iterator[tuple[int, str, str, str, pd.DataFrame]]:
    """Yield what is drawn: panel, label, colour, strategy and lines of each base and strategy.

    Example:
        >>> import pandas as pd
        >>> columns = ["network", "strategy", "factor", "predictor", "value", "time_ms", "iqr_ms"]
        >>> frame = pd.DataFrame([("net", "w", 2.0, "acts", 7e6, 5.0, 0.1)], columns=columns)
        >>> [(panel, label, strategy) for panel, label, _, strategy, _ in series(frame)]
        [(0, 'net, w', 'w')]
    """
    predictors, networks = (list(dict.fromkeys(frame[name])) for name in ("predictor", "network"))
    for (predictor, network, strategy), lines in frame.groupby(
        ["predictor", "network", "strategy"], sort=False
    ):
        colour = COLOURS[networks.index(network) % len(COLOURS)]
        yield predictors.index(predictor), f"{network}, {strategy}", colour, str(strategy), lines


def _symbols(frame: pd.DataFrame) -> dict[str, tuple[str, str]]:
    others = [name for name in dict.fromkeys(frame["strategy"]) if name != BASE]
    shapes = _SYMBOLS[1:]
    chosen = {name: shapes[index % len(shapes)] for index, name in enumerate(others)}
    return {BASE: _SYMBOLS[0], **chosen}


def _titles(frame: pd.DataFrame, r: Mapping[str, float | None]) -> list[str]:
    return [f"{name}, r = {format_r(r.get(name))}" for name in dict.fromkeys(frame["predictor"])]


def scatter_figure(frame: pd.DataFrame, r: Mapping[str, float | None], *, time: str) -> Any:
    """Draw the lines of `scatter_frame` with plotly, a panel a predictor, both axes logarithmic.

    Example:
        >>> import pandas as pd
        >>> columns = ["network", "strategy", "factor", "predictor", "value", "time_ms", "iqr_ms"]
        >>> frame = pd.DataFrame([("net", "w", 2.0, "acts", 7e6, 5.0, 0.1)], columns=columns)
        >>> drawn = scatter_figure(frame, {"acts": 0.98}, time="wall time")
        >>> drawn.data[0].name, drawn.layout.annotations[0].text
        ('net, w', 'acts, r = 0.980')
    """
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    titles, symbols = _titles(frame, r), _symbols(frame)
    columns = min(_COLUMNS, len(titles))
    rows = -(-len(titles) // columns)
    figure = make_subplots(rows, columns, subplot_titles=titles)
    for panel, label, colour, strategy, lines in series(frame):
        figure.add_trace(
            go.Scatter(
                x=lines["value"],
                y=lines["time_ms"],
                mode="markers",
                name=label,
                legendgroup=label,
                showlegend=panel == 0,
                marker={"color": colour, "symbol": symbols[strategy][0], "size": 9},
                text=[_hover(line) for line in lines.to_dict("records")],
                hovertemplate="%{text}<extra></extra>",
            ),
            row=panel // columns + 1,
            col=panel % columns + 1,
        )
    for panel, name in enumerate(dict.fromkeys(frame["predictor"])):
        where = (panel // columns + 1, panel % columns + 1)
        values = frame[frame["predictor"] == name]["value"]
        log_axis(figure.update_xaxes, values, _tick, *where, title=_axis(name))
        log_axis(figure.update_yaxes, frame["time_ms"], _tick, *where, title=f"{time} (ms)")
    return figure.update_layout(height=440 * rows, template="plotly_white")


def scatter_drawing(frame: pd.DataFrame, r: Mapping[str, float | None], *, time: str) -> Any:
    """Draw the same with matplotlib, for papers.

    Example:
        >>> import pandas as pd
        >>> columns = ["network", "strategy", "factor", "predictor", "value", "time_ms", "iqr_ms"]
        >>> frame = pd.DataFrame([("net", "w", 2.0, "acts", 7e6, 5.0, 0.1)], columns=columns)
        >>> [axes.get_title() for axes in scatter_drawing(frame, {}, time="wall time").axes]
        ['acts, r = –']
    """
    from matplotlib.figure import Figure

    titles, symbols = _titles(frame, r), _symbols(frame)
    columns = min(_COLUMNS, len(titles))
    rows = -(-len(titles) // columns)
    figure = Figure(figsize=(4.6 * columns, 3.7 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).flat
    for panel, _, colour, strategy, lines in series(frame):
        panels[panel].plot(
            lines["value"],
            lines["time_ms"],
            symbols[strategy][1],
            color=colour,
            markersize=8 if strategy == BASE else 5.5,
            markeredgecolor="white",
            markeredgewidth=0.5,
        )
    for panel, name in enumerate(dict.fromkeys(frame["predictor"])):
        axes = panels[panel]
        axes.set(xscale="log", yscale="log", title=titles[panel], xlabel=_axis(name))
        axes.grid(visible=True, which="major", color="#e4e7eb")
        _mark(axes.xaxis, frame[frame["predictor"] == name]["value"])
        _mark(axes.yaxis, frame["time_ms"])
        if panel % columns == 0:
            axes.set_ylabel(f"{time} (ms)")
    for panel in range(len(titles), rows * columns):
        panels[panel].set_axis_off()
    figure.legend(handles=_legend(frame, symbols), loc="outside lower center", ncols=5, fontsize=8)
    return figure


def _mark(axis: Any, values: Iterable[float]) -> None:
    """Give a logarithmic axis ticks that read as 2G and 5G."""
    known = list(values)
    ticks = log_ticks(min(known) / 1.25, max(known) * 1.25)
    axis.set_ticks(ticks, labels=[_tick(tick) for tick in ticks])
    axis.set_ticks([], minor=True)


def _legend(frame: pd.DataFrame, symbols: dict[str, tuple[str, str]]) -> list[Any]:
    """Return an entry a colour and an entry a symbol."""
    from matplotlib.lines import Line2D

    def entry(name: str, colour: str, symbol: str) -> Any:
        return Line2D([], [], color=colour, marker=symbol, linestyle="", label=name)

    networks = dict.fromkeys(frame["network"])
    used = dict.fromkeys(frame["strategy"])
    return [
        *(entry(name, COLOURS[i % len(COLOURS)], "o") for i, name in enumerate(networks)),
        *(entry(name, "#6b7280", symbols[name][1]) for name in symbols if name in used),
    ]


def _axis(predictor: str) -> str:
    return "fitted time (ms)" if " + " in predictor else predictor


def _tick(value: float) -> str:
    """Write 2.00G as 2G, and 0.5 as it is."""
    if value < 1000:
        return f"{value:g}"
    text = format_count(value)
    return f"{float(text[:-1]):g}{text[-1]}"


def _hover(line: dict[Any, Any]) -> str:
    scaled = BASE if line["strategy"] == BASE else scaled_by(line["strategy"], line["factor"])
    return f"{line['network']} {scaled}: {line['time_ms']:.3g} ms (IQR {line['iqr_ms']:.2g} ms)"
