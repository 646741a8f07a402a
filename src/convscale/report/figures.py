"""Figures for the page, each drawn from a table. plotly is imported only to draw."""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING, Any

from convscale.complexity.complexity import METRICS
from convscale.quantities import format_count
from convscale.report.frames import BASE
from convscale.report.look import INK, Palette, finish, linear_ticks, log_axis, marker_of, thread
from convscale.report.sentences import format_r, format_ratio, scaled_by
from convscale.runtime.spread import format_ms

if TYPE_CHECKING:
    import pandas as pd

_LETTER_PX = 9  # a generous width of a letter in an annotation


def latency_figure(frame: pd.DataFrame, r: dict[str, float | None], palette: Palette) -> Any:
    """Draw latency against each metric, both logarithmic, a panel each, r in its title.

    Args:
        frame: The lines of `latency_frame`.
        r: Pearson's r of each metric, for the titles.
        palette: Colours and symbols.

    Example:
        >>> from convscale.report.frames import latency_frame
        >>> from convscale.runtime.spread import Spread
        >>> from convscale.study import Comparison, Row
        >>> row = Row("net", None, 1.0, 8, 200, 20, 7, latency=Spread(5.0, 1.0, 9))
        >>> r = {"flops": 0.9, "params": None, "acts": 0.99}
        >>> drawn = latency_figure(latency_frame(Comparison((row,))), r, Palette([], ["net"]))
        >>> [title.text for title in drawn.layout.annotations]
        ['flops, r = 0.900', 'params, r = –', 'acts, r = 0.990']
    """
    from plotly.subplots import make_subplots

    titles = [f"{metric}, r = {format_r(r[metric])}" for metric in METRICS]
    figure = make_subplots(
        1, len(METRICS), shared_yaxes=True, subplot_titles=titles, horizontal_spacing=0.05
    )
    for column, metric in enumerate(METRICS, start=1):
        panel = frame[frame["metric"] == metric]
        for trace in _latency_traces(panel, palette):
            figure.add_trace(trace, row=1, col=column)
        log_axis(figure.update_xaxes, panel["value"], _short, 1, column, title=metric)
    log_axis(figure.update_yaxes, frame["latency_ms"], _plain, 1, 1, title="latency (ms)")
    for column in range(2, len(METRICS) + 1):
        log_axis(figure.update_yaxes, frame["latency_ms"], _plain, 1, column)
    return finish(figure, palette, height=500)


def _latency_traces(panel: pd.DataFrame, palette: Palette) -> list[Any]:
    """Join each network's base with its rows of one strategy, then mark every row."""
    import plotly.graph_objects as go

    traces = []
    for network, rows in panel.groupby("network", sort=False):
        base = rows[rows["strategy"] == BASE]
        for strategy, own in rows.groupby("strategy", sort=False):
            colour = palette.colour(str(strategy))
            if strategy != BASE:
                line = _concatenated(base, own).sort_values("factor")
                traces.append(thread(line["value"], line["latency_ms"], colour))
            traces.append(
                go.Scatter(
                    x=own["value"],
                    y=own["latency_ms"],
                    error_y={
                        "array": own["above_ms"],
                        "arrayminus": own["below_ms"],
                        "color": colour,
                        "thickness": 1,
                        "width": 3,
                    },
                    mode="markers",
                    marker=marker_of(palette, str(network), str(strategy), own["factor"]),
                    text=[_hover(row) for row in own.to_dict("records")],
                    hovertemplate="%{text}<extra></extra>",
                    showlegend=False,
                )
            )
    return traces


def _concatenated(base: pd.DataFrame, own: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    return pd.concat([base, own]) if len(base) else own


def _hover(row: dict[Any, Any]) -> str:
    name = html.escape(str(row["network"]))
    base = row["strategy"] == BASE
    scaled = "base" if base else scaled_by(row["strategy"], row["factor"])
    value = f"{row['metric']} {format_count(row['value'])}"
    took = f"{format_ms(row['latency_ms'])} ms (IQR {format_ms(row['iqr_ms'])} ms)"
    return f"<b>{name}</b><br>{html.escape(scaled)}<br>{value}<br>{took}"


def growth_figure(frame: pd.DataFrame, laws: pd.DataFrame, palette: Palette) -> Any:
    """Draw how acts grow with flops, over the base's, and the law of each strategy.

    Args:
        frame: The lines of `growth_frame`.
        laws: The lines of `law_frame`.
        palette: Colours and symbols.

    Example:
        >>> from convscale.report.frames import growth_frame, law_frame
        >>> from convscale.strategy import parse_strategy
        >>> from convscale.study import Comparison, Row
        >>> grown = {"flops": 2.0, "params": 2.0, "acts": 1.4}
        >>> row = Row("net", "w", 2.0, 8, 200, 20, 7, ratio=grown)
        >>> laws = law_frame([parse_strategy("w")], lowest=1.0, highest=4.0)
        >>> drawn = growth_figure(growth_frame(Comparison((row,))), laws, Palette(["w"], ["net"]))
        >>> drawn.layout.annotations[0].text
        'w: s^0.5'
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    for name, law in laws.groupby("strategy", sort=False):
        figure.add_trace(thread(law["flops_ratio"], law["acts_ratio"], palette.colour(str(name))))
    for _, law in laws.groupby("exponent", sort=False):
        _name_law(figure, law, palette)
    for (network, strategy), own in frame.groupby(["network", "strategy"], sort=False):
        figure.add_trace(
            go.Scatter(
                x=own["flops_ratio"],
                y=own["acts_ratio"],
                mode="markers",
                marker=marker_of(palette, str(network), str(strategy), own["factor"]),
                text=[_growth_hover(row) for row in own.to_dict("records")],
                hovertemplate="%{text}<extra></extra>",
                showlegend=False,
            )
        )
    both = [*frame["flops_ratio"], *laws["flops_ratio"]]
    acts = [*frame["acts_ratio"], *laws["acts_ratio"]]
    log_axis(figure.update_xaxes, both, _times, title="flops over the base's")
    log_axis(figure.update_yaxes, acts, _times, title="acts over the base's")
    longest = max((len(note.text) for note in figure.layout.annotations), default=0)
    figure.update_layout(margin={"r": 24 + _LETTER_PX * longest, "t": 14})
    return finish(figure, palette, height=460)


def _name_law(figure: Any, law: pd.DataFrame, palette: Palette) -> None:
    """Write a law's exponent at the end of its line, once for all strategies that share it."""
    names = list(dict.fromkeys(law["strategy"]))
    end = law.iloc[-1]
    figure.add_annotation(
        x=math.log10(end["flops_ratio"]),
        y=math.log10(end["acts_ratio"]),
        text=f"{html.escape(', '.join(names))}: s^{end['exponent']:.2g}",
        font={"color": palette.colour(names[0]) if len(names) == 1 else INK, "size": 13},
        showarrow=False,
        xanchor="left",
        xshift=13,
    )


def _growth_hover(row: dict[Any, Any]) -> str:
    name = html.escape(f"{row['network']}, {scaled_by(row['strategy'], row['factor'])}")
    grown = ", ".join(f"{metric} {format_ratio(row[f'{metric}_ratio'])}" for metric in METRICS)
    return f"<b>{name}</b><br>{grown}"


def decision_figure(frame: pd.DataFrame, palette: Palette) -> Any:
    """Draw flops against latency with the budget, a panel a network, the chosen one ringed.

    Args:
        frame: The lines of `decision_frame`.
        palette: Colours and symbols.

    Example:
        >>> import pandas as pd
        >>> from convscale.report.frames import DECISION
        >>> line = ("net", "w", 2.0, 200, 5.0, 8.0, "recommended")
        >>> frame = pd.DataFrame([line], columns=DECISION)
        >>> drawn = decision_figure(frame, Palette(["w"], ["net"]))
        >>> [note.text for note in drawn.layout.annotations]
        ['net', 'budget 8.00 ms']
    """
    from plotly.subplots import make_subplots

    networks = list(dict.fromkeys(frame["network"]))
    columns = min(2, len(networks))
    lines = math.ceil(len(networks) / columns)
    figure = make_subplots(
        lines,
        columns,
        subplot_titles=[html.escape(network) for network in networks],
        horizontal_spacing=0.09,
        vertical_spacing=0.3 / lines,
    )
    for index, network in enumerate(networks):
        row, column = index // columns + 1, index % columns + 1
        _decision_panel(figure, frame[frame["network"] == network], palette, row, column)
    return finish(figure, palette, height=120 + 340 * lines)


def _decision_panel(
    figure: Any, panel: pd.DataFrame, palette: Palette, row: int, column: int
) -> None:
    import plotly.graph_objects as go

    for trace in _decision_traces(panel, palette):
        figure.add_trace(trace, row=row, col=column)
    best = panel[panel["verdict"] == "recommended"]
    ring = {"symbol": "circle-open", "size": 27, "color": INK, "line": {"width": 2.5}}
    figure.add_trace(
        go.Scatter(
            x=best["latency_ms"],
            y=best["flops"],
            mode="markers",
            marker=ring,
            hoverinfo="skip",
            showlegend=False,
        ),
        row=row,
        col=column,
    )
    limit = float(panel["budget_ms"].iloc[0])
    top = 1.15 * max(float(panel["latency_ms"].max()), limit)
    where = {"row": row, "col": column}
    figure.add_vrect(limit, top, fillcolor="#9ca3af", opacity=0.13, line_width=0, **where)
    figure.add_vline(
        limit,
        line={"color": INK, "width": 1.5, "dash": "dash"},
        annotation={
            "text": f"budget {format_ms(limit)} ms",
            "font": {"color": INK},
            "xanchor": "right",
            "xshift": -4,
        },
        annotation_position="bottom left",
        **where,
    )
    most = 1.15 * float(panel["flops"].max())
    ticks = linear_ticks(most)
    figure.update_xaxes(range=[0, top], title_text="latency (ms)", **where)
    texts = [_short(tick) for tick in ticks]
    figure.update_yaxes(
        range=[0, most], tickvals=ticks, ticktext=texts, title_text="flops", **where
    )


def _decision_traces(panel: pd.DataFrame, palette: Palette) -> list[Any]:
    import plotly.graph_objects as go

    traces = []
    base = panel[panel["strategy"] == BASE]
    for strategy, own in panel.groupby("strategy", sort=False):
        network, colour = str(own["network"].iloc[0]), palette.colour(str(strategy))
        if strategy != BASE:
            line = _concatenated(base, own).sort_values("factor")
            traces.append(thread(line["latency_ms"], line["flops"], colour))
        traces.append(
            go.Scatter(
                x=own["latency_ms"],
                y=own["flops"],
                mode="markers",
                marker=marker_of(palette, network, str(strategy), own["factor"]),
                text=[_decision_hover(row) for row in own.to_dict("records")],
                hovertemplate="%{text}<extra></extra>",
                showlegend=False,
            )
        )
    return traces


def _decision_hover(row: dict[Any, Any]) -> str:
    base = row["strategy"] == BASE
    scaled = "base" if base else scaled_by(row["strategy"], row["factor"])
    cost = f"{format_count(row['flops'])} flops, {format_ms(row['latency_ms'])} ms"
    return f"<b>{html.escape(scaled)}</b>: {row['verdict']}<br>{cost}"


def _short(value: float) -> str:
    """Write a tick as 5G and not as 5.00G."""
    text = format_count(value)
    digits, suffix = text.rstrip("KMGT"), text.lstrip("0123456789.")
    return f"{float(digits):g}{suffix}"


def _plain(value: float) -> str:
    return f"{value:g}"


def _times(value: float) -> str:
    return f"{value:g}x"
