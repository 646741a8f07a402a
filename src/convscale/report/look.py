"""What all figures share: colours, symbols, axes and the legend."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any

from convscale.report.frames import BASE

# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8A6FBF", "#7A5C3A")
_BASE_COLOUR = "#374151"
INK, _GRID, _MUTED = "#1f2933", "#e4e7eb", "#6b7280"
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "x", "pentagon")
_FONT = {"family": "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"}
_LEGEND_PX = 96
_FILLING = 0.25  # opacity inside the outline of a mark


class Palette:
    """The colour of each strategy and the symbol of each network, alike in all figures.

    Example:
        >>> palette = Palette(["w", "dWr"], ["net"])
        >>> palette.colour("base") == palette.colour("w"), palette.symbol("net")
        (False, 'circle')
    """

    def __init__(self, strategies: Iterable[str], networks: Iterable[str]) -> None:
        self.strategies = [name for name in dict.fromkeys(strategies) if name != BASE]
        self.networks = list(dict.fromkeys(networks))

    def colour(self, strategy: str) -> str:
        """Return the colour of a strategy, or of the base networks."""
        if strategy == BASE:
            return _BASE_COLOUR
        return COLOURS[self.strategies.index(strategy) % len(COLOURS)]

    def symbol(self, network: str) -> str:
        """Return the symbol of a network."""
        return _SYMBOLS[self.networks.index(network) % len(_SYMBOLS)]


def thread(x: Iterable[float], y: Iterable[float], colour: str) -> Any:
    """Return a thin line without marks that joins what belongs together.

    Example:
        >>> thread([1, 2], [3, 4], "#0072B2").mode
        'lines'
    """
    import plotly.graph_objects as go

    line = {"color": colour, "width": 1.5}
    return go.Scatter(
        x=list(x),
        y=list(y),
        mode="lines",
        line=line,
        opacity=0.45,
        hoverinfo="skip",
        showlegend=False,
    )


def marker_of(
    palette: Palette, network: str, strategy: str, factors: Iterable[float] = (1.0,)
) -> dict[str, object]:
    """Return how rows are marked: the further scaled, the larger.

    Marks are outlines around a pale filling, so that none hides another.

    Example:
        >>> marker_of(Palette(["w"], ["net"]), "net", "w", [1.0, 4.0])["size"]
        [10.0, 14.0]
    """
    sizes = [10 + 2 * min(3.0, abs(math.log2(factor))) for factor in factors]
    return _outlined(palette.colour(strategy), palette.symbol(network), sizes)


def _outlined(colour: str, symbol: str, size: float | list[float]) -> dict[str, object]:
    return {
        "color": _pale(colour),
        "symbol": symbol,
        "size": size,
        "opacity": 1.0,
        "line": {"color": colour, "width": 2},
    }


def _pale(colour: str) -> str:
    """Write a colour such as #0072B2 so that what lies behind it shines through."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{_FILLING})"


def linear_ticks(top: float) -> list[float]:
    """Return multiples of 1, 2 or 5 times a power of ten up to a positive top, three to six.

    Example:
        >>> linear_ticks(9.5)
        [0.0, 2.0, 4.0, 6.0, 8.0]
    """
    rough = top / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
    return [i * step for i in range(math.floor(top / step) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return round numbers in a range: three to eight of them where possible.

    Example:
        >>> log_ticks(0.9, 150.0)
        [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]
    """
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    ticks: list[float] = []
    for steps in ((1.0,), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)):
        ticks = [m * 10.0**p for p in powers for m in steps if low <= m * 10.0**p <= high]
        if len(ticks) > 3:
            break
    return ticks


def log_axis(
    update: Any, values: Iterable[float], write: Any, *where: int, title: str | None = None
) -> None:
    """Make an axis logarithmic around its values, with ticks that read as 2G and 5G.

    Args:
        update: The figure's update_xaxes or update_yaxes.
        values: What lies on the axis.
        write: Turns a tick into its text.
        where: Row and column of the panel, where there are several.
        title: The axis' title.

    Example:
        >>> from plotly.graph_objects import Figure
        >>> figure = Figure()
        >>> log_axis(figure.update_xaxes, [1e9, 4e9], lambda tick: f"{tick:.1e}")
        >>> figure.layout.xaxis.ticktext
        ('8.0e+08', '1.0e+09', '1.5e+09', '2.0e+09', '3.0e+09', '4.0e+09')
    """
    known = [value for value in values if value and value > 0]
    low, high = min(known) / 1.25, max(known) * 1.25
    ticks = log_ticks(low, high)
    place = {"row": where[0], "col": where[1]} if where else {}
    update(
        type="log",
        range=[math.log10(low), math.log10(high)],
        tickvals=ticks,
        ticktext=[write(tick) for tick in ticks],
        title_text=title,
        **place,
    )


def finish(figure: Any, palette: Palette, *, height: int) -> Any:
    """Give a figure its legend, below the panels, and the page's look.

    Example:
        >>> from plotly.graph_objects import Figure
        >>> drawn = finish(Figure(), Palette(["w"], ["net"]), height=400)
        >>> [trace.name for trace in drawn.data]
        ['w', 'base network', 'net']
    """
    for trace in _legend_traces(palette):
        figure.add_trace(trace)
    axis = {
        "gridcolor": _GRID,
        "linecolor": "#9aa5b1",
        "zeroline": False,
        "showline": True,
        "ticks": "outside",
        "tickcolor": "#9aa5b1",
        "title_standoff": 8,
        "automargin": True,
    }
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    figure.update_annotations(font_size=14)
    margin = figure.layout.margin
    top = 44 if margin.t is None else margin.t
    below = -(_LEGEND_PX - 34) / (height - top - _LEGEND_PX)
    return figure.update_layout(
        height=height,
        margin={"l": 64, "r": margin.r or 24, "t": top, "b": _LEGEND_PX},
        paper_bgcolor="white",
        plot_bgcolor="white",
        font={**_FONT, "color": INK, "size": 13},
        legend={
            "orientation": "h",
            "y": below,
            "yanchor": "top",
            "x": 0,
            "itemclick": False,
            "itemdoubleclick": False,
        },
        hoverlabel={"bgcolor": "white", "font": _FONT},
    )


def _legend_traces(palette: Palette) -> Sequence[Any]:
    """Return one entry a colour and one a symbol; they draw nothing themselves."""
    import plotly.graph_objects as go

    def entry(name: str, colour: str, symbol: str, mode: str = "markers") -> Any:
        return go.Scatter(
            x=[None],
            y=[None],
            mode=mode,
            name=html.escape(name),
            marker=_outlined(colour, symbol, 10),
            line={"color": colour, "width": 2},
        )

    return [
        *(
            entry(name, palette.colour(name), "circle", "lines+markers")
            for name in palette.strategies
        ),
        entry("base network", _BASE_COLOUR, "circle"),
        *(entry(name, _MUTED, palette.symbol(name)) for name in palette.networks),
    ]
