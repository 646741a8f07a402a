"""Points in cost and error, drawn alike with plotly and with matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

from convscale.files import write_whole
from convscale.quantities import format_count
from convscale.report.exports import plot_form
from convscale.report.look import log_axis, log_ticks
from convscale.report.paper import rendered
from convscale.selection.metrics import metric

MUTED = "#9aa5b1"
_LIMIT, _GRID, _POINTS_A_PX = "#1f2933", "#e4e7eb", 0.8
_DASHES = {"-": "solid", ":": "dot"}  # of matplotlib and of plotly
_SYMBOLS = {"o": "circle", "*": "star", "D": "diamond"}


@dataclass(frozen=True)
class Points:
    """Points of one kind, with a line along them or without.

    Args:
        title: What they are.
        across: Where they lie.
        up: Where they lie.
        labels: Their names, which a page shows.
        colour: Their colour.
        symbol: "o", "*" or "D"; none by default.
        filled: Whether the symbol is.
        size: Of the symbol (px).
        line: "-" or ":"; none by default.
        steps: Whether the line goes in steps: across, and then up or down.

    Example:
        >>> Points("fits", [1.0], [2.0], ["a"], "red", "o").symbol
        'o'
    """

    title: str
    across: Sequence[float]
    up: Sequence[float]
    labels: Sequence[str]
    colour: str
    symbol: str = ""
    filled: bool = True
    size: float = 6.0
    line: str = ""
    steps: bool = False

    def trace(self) -> dict[str, Any]:
        """Return them as a trace of plotly.

        Example:
            >>> Points("fits", [1.0], [2.0], ["a"], "red", "o").trace()["mode"]
            'markers'
        """
        parts = [*(["lines"] if self.line else []), *(["markers"] if self.symbol else [])]
        found: dict[str, Any] = {
            "x": self.across,
            "y": self.up,
            "name": self.title,
            "mode": "+".join(parts),
            "text": self.labels,
            "hovertemplate": "%{text}<br>%{x:.4g}, %{y:.4g}<extra></extra>",
        }
        if self.line:
            shape = "hv" if self.steps else "linear"
            found["line"] = {"color": self.colour, "dash": _DASHES[self.line], "shape": shape}
        if self.symbol:
            symbol = _SYMBOLS[self.symbol] + ("" if self.filled else "-open")
            found["marker"] = {"color": self.colour, "symbol": symbol, "size": self.size}
        return found

    def draw(self, axes: Any) -> None:
        """Draw them on axes of matplotlib."""
        axes.plot(
            self.across,
            self.up,
            label=self.title,
            color=self.colour,
            linestyle=self.line,
            drawstyle="steps-post" if self.steps else "default",
            marker=self.symbol,
            markersize=_POINTS_A_PX * self.size,
            markerfacecolor=self.colour if self.filled else "none",
            markeredgewidth=0.8,
        )


@dataclass(frozen=True)
class Plane:
    """Points between two axes, with the limits that they are held to.

    Args:
        across: The title of the axis across, which is logarithmic.
        up: The title of the axis up.
        points: What is drawn, the last on top.
        limits: The limits of what is drawn across.
        ceilings: The limits of what is drawn up.
        log_up: Whether the axis up is logarithmic too.

    Example:
        >>> plane = Plane("latency (ms)", "error", (Points("a", [1.0], [2.0], ["a"], "red", "o"),))
        >>> plane.page().layout.xaxis.title.text
        'latency (ms)'
    """

    across: str
    up: str
    points: tuple[Points, ...]
    limits: Sequence[float] = field(default=())
    ceilings: Sequence[float] = field(default=())
    log_up: bool = False

    @property
    def _wide(self) -> list[float]:
        return [*(at for one in self.points for at in one.across), *self.limits]

    @property
    def _high(self) -> list[float]:
        return [*(at for one in self.points for at in one.up), *self.ceilings]

    def page(self) -> Any:
        """Draw it with plotly."""
        import plotly.graph_objects as go

        figure = go.Figure([go.Scatter(**one.trace()) for one in self.points])
        line = {"color": _LIMIT, "dash": "dash", "width": 1}
        for limit in self.limits:
            figure.add_vline(x=limit, line=line)
        for limit in self.ceilings:
            figure.add_hline(y=limit, line=line)
        log_axis(figure.update_xaxes, self._wide, _tick, title=self.across)
        if self.log_up:
            log_axis(figure.update_yaxes, self._high, _tick, title=self.up)
        else:
            figure.update_yaxes(title_text=self.up)
        return figure.update_layout(template="plotly_white", height=560)

    def draw(self, axes: Any) -> None:
        """Draw it on axes of matplotlib."""
        for one in self.points:
            one.draw(axes)
        for limit in self.limits:
            axes.axvline(limit, color=_LIMIT, linestyle="--", linewidth=0.8)
        for limit in self.ceilings:
            axes.axhline(limit, color=_LIMIT, linestyle="--", linewidth=0.8)
        axes.set(xscale="log", xlabel=self.across, ylabel=self.up)
        _ticks(axes.set_xticks, self._wide)
        if self.log_up:
            axes.set_yscale("log")
            _ticks(axes.set_yticks, self._high)
        axes.grid(visible=True, color=_GRID)
        axes.set_axisbelow(True)
        axes.legend(frameon=False, fontsize=8)


def title_of(quantity: str) -> str:
    """Return the title of an axis: the quantity with its unit.

    Example:
        >>> title_of("latency_ms"), title_of("flops")
        ('latency (ms)', 'flops')
    """
    own = metric(quantity)
    return f"{own.title} ({own.unit})" if own.unit.isalpha() else own.title


def write_plot(path: Path, page: Any, drawing: Any) -> Path:
    """Write a figure as a page or a picture, whole or not at all.

    Args:
        path: The file, which ends in .html, .png, .svg or .pdf.
        page: Draws it with plotly.
        drawing: Draws it with matplotlib.

    Raises:
        InputError: If it ends otherwise, or nothing can be written there.

    Example:
        >>> callable(write_plot)
        True
    """
    form = plot_form(path)
    if form == "html":
        return write_whole(path, page().to_html(include_plotlyjs=True))
    return write_whole(path, rendered(drawing(), form))


def _tick(value: float) -> str:
    text = format_count(value)
    return f"{value:g}" if value < 1000 else f"{float(text[:-1]):g}{text[-1]}"


def _ticks(setting: Any, values: Sequence[float]) -> None:
    known = [value for value in values if 0 < value < inf]
    ticks = log_ticks(min(known) / 1.25, max(known) * 1.25)
    setting(ticks, labels=[_tick(tick) for tick in ticks])
    setting([], minor=True)
