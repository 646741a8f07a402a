"""Where flops, params and acts sit along a network: the table, and a page with its figure."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from convscale.complexity.complexity import METRICS
from convscale.quantities import format_count, format_resolution
from convscale.report.bands import Band, bands, labels
from convscale.report.html import Figures, page
from convscale.report.look import INK, linear_ticks
from convscale.report.markup import Cell, section, table, tag
from convscale.report.views import conditions

if TYPE_CHECKING:
    import pandas as pd

    from convscale.complexity.views import Operators, Part

# Okabe and Ito's colours, which colour-blind readers can tell apart; grey for what multiplies not.
COLOURS = {
    "convolution 1x1": "#0072B2",
    "convolution kxk": "#D55E00",
    "convolution grouped": "#E69F00",
    "convolution depthwise": "#009E73",
    "convolution transposed": "#7A5C3A",
    "linear": "#CC79A7",
    "matrix product": "#56B4E9",
    "fused attention": "#8A6FBF",
}
OTHER, _OTHER_COLOUR = "other operators", "#6b7280"
COLUMNS = ["position", "path", "stage", "kind", "group", *METRICS]
SHADE = "#eef1f5"


def along_frame(found: Operators) -> pd.DataFrame:
    """Return a line for each call that has flops, params or acts, in the order of execution.

    `group` is the kind where it has a colour of its own, else `other operators`.

    Example:
        >>> from convscale.complexity.calls import OperatorCall
        >>> from convscale.complexity.views import Operators
        >>> calls = [OperatorCall(p, "aten.mm", "linear", flops=8, acts=2) for p in "ab"]
        >>> along_frame(Operators("net", 8, calls=tuple(calls), stages=())).values.tolist()[1]
        [2, 'b', 'network', 'linear', 'linear', 8, 0, 2]
    """
    import pandas as pd

    names = found.stage_names()
    shown = [
        (call, name)
        for call, name in zip(found.calls, names, strict=True)
        if call.flops or call.params or call.acts
    ]
    lines = [
        (
            position,
            call.path,
            name,
            call.kind,
            call.kind if call.kind in COLOURS else OTHER,
            call.flops,
            call.params,
            call.acts,
        )
        for position, (call, name) in enumerate(shown, start=1)
    ]
    return pd.DataFrame(lines, columns=COLUMNS)


def title_of(found: Operators) -> str:
    """Say what a figure shows.

    Example:
        >>> from convscale.complexity.views import Operators
        >>> title_of(Operators("timm:resnet18", 224))
        'timm:resnet18 at 224 px, convention default'
    """
    at = f" at {format_resolution(found.resolution)} px" if found.resolution else ""
    return f"{found.network}{at}, convention {found.convention}"


def along_figure(frame: pd.DataFrame) -> Any:
    """Draw a bar for each call: its flops, params and acts, a panel each, stages shaded.

    Args:
        frame: The lines of `along_frame`.

    Example:
        >>> import pandas as pd
        >>> line = (1, "a", "stem", "linear", "linear", 8, 4, 2)
        >>> figure = along_figure(pd.DataFrame([line], columns=COLUMNS))
        >>> [bars.y.tolist() for bars in figure.data]
        [[8], [4], [2]]
    """
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    figure = make_subplots(len(METRICS), 1, shared_xaxes=True, vertical_spacing=0.045)
    for row, metric in enumerate(METRICS, start=1):
        for group in groups_of(frame):
            own = frame[frame["group"] == group]
            figure.add_trace(
                go.Bar(
                    x=own["position"],
                    y=own[metric],
                    name=group,
                    legendgroup=group,
                    showlegend=row == 1,
                    width=bar_width(len(frame)),
                    marker={"color": colour_of(group), "line": {"width": 0}},
                    text=[_hover(line, metric) for line in own.to_dict("records")],
                    textposition="none",
                    hovertemplate="%{text}<extra></extra>",
                ),
                row=row,
                col=1,
            )
        _value_axis(figure, frame, metric, row)
    _shade(figure, bands(frame))
    return _dressed(figure, len(frame))


def groups_of(frame: pd.DataFrame) -> list[str]:
    """Return the groups of a table in the order of their colours.

    Example:
        >>> import pandas as pd
        >>> groups_of(pd.DataFrame({"group": ["other operators", "linear"]}))
        ['linear', 'other operators']
    """
    present = set(frame["group"])
    return [group for group in (*COLOURS, OTHER) if group in present]


def colour_of(group: str) -> str:
    """Return the colour of a group.

    Example:
        >>> colour_of("other operators")
        '#6b7280'
    """
    return COLOURS.get(group, _OTHER_COLOUR)


def bar_width(positions: int) -> float:
    """Return how wide a bar is, in positions; thin bars touch, lest they vanish.

    Example:
        >>> bar_width(40), bar_width(400)
        (0.88, 1.0)
    """
    return 0.88 if positions < 150 else 1.0


def short(value: float) -> str:
    """Write a tick as 5G and not as 5.00G.

    Example:
        >>> short(5e9), short(0)
        ('5G', '0')
    """
    text = format_count(value)
    digits, suffix = text.rstrip("KMGT"), text.lstrip("0123456789.")
    return f"{float(digits):g}{suffix}"


def _value_axis(figure: Any, frame: pd.DataFrame, metric: str, row: int) -> None:
    top = 1.08 * max(1.0, float(frame[metric].max()))
    ticks = linear_ticks(top)
    figure.update_yaxes(
        range=[0, top],
        tickvals=ticks,
        ticktext=[short(tick) for tick in ticks],
        title_text=f"{metric} ({format_count(int(frame[metric].sum()))})",
        row=row,
        col=1,
    )


def _shade(figure: Any, found: Sequence[Band]) -> None:
    """Shade every other run of positions, and write the names of stages above."""
    for band in found[1::2]:
        figure.add_vrect(
            band.first - 0.5,
            band.last + 0.5,
            fillcolor=SHADE,
            line_width=0,
            layer="below",
            row="all",
            col=1,
        )
    for middle, name in labels(found):
        figure.add_annotation(
            x=middle,
            y=1.0,
            yref="paper",
            yanchor="bottom",
            text=html.escape(name),
            showarrow=False,
            font={"size": 12, "color": INK},
        )


def _dressed(figure: Any, positions: int) -> Any:
    axis = {"linecolor": "#9aa5b1", "showline": True, "zeroline": False, "automargin": True}
    figure.update_xaxes(**axis, showgrid=False, range=[0.4, positions + 0.6])
    figure.update_xaxes(title_text="operators in the order of execution", row=len(METRICS), col=1)
    figure.update_yaxes(**axis, gridcolor="#e4e7eb")
    return figure.update_layout(
        height=680,
        barmode="overlay",
        margin={"l": 72, "r": 16, "t": 34, "b": 96},
        paper_bgcolor="white",
        plot_bgcolor="white",
        font={"family": "system-ui, Helvetica, Arial, sans-serif", "color": INK, "size": 13},
        legend={"orientation": "h", "y": -0.13, "yanchor": "top", "x": 0},
        hoverlabel={"bgcolor": "white"},
    )


def _hover(line: dict[Any, Any], metric: str) -> str:
    path = html.escape(line["path"] or "the network itself")
    value = f"{metric} {format_count(line[metric])}"
    return f"<b>{path}</b><br>{html.escape(line['stage'])}, {line['kind']}<br>{value}"


def along_page(found: Operators) -> str:
    """Return a page with the figure, and tables by stage and by kind.

    Example:
        >>> from convscale.complexity.calls import OperatorCall
        >>> from convscale.complexity.views import Operators
        >>> call = OperatorCall("a", "aten.mm", "linear", flops=8, acts=2)
        >>> "By kind" in along_page(Operators("net", 8, calls=(call,), stages=()))
        True
    """
    title = f"Where flops, params and acts sit along {found.network}"
    said = f"{title_of(found)}, {conditions(found)}."
    figure = Figures().html(along_figure(along_frame(found)), width=640)
    read = (
        "A bar is one operator that has flops, params or acts; shades part the stages. "
        "Params stand where they are used first. Hover a bar for its numbers; drag to zoom, "
        "double-click to go back."
    )
    return page(
        title,
        [
            f"<header>{tag('h1', title)}{tag('p', said)}</header>",
            section("Along the network", figure, tag("p", read)),
            section("By stage", _parts(found.by_stage(), found.total)),
            section("By kind of operator", _parts(found.by_kind(), found.total)),
            *([section("Notes", *(tag("p", note) for note in found.notes))] if found.notes else []),
        ],
    )


def _parts(parts: Sequence[Part], total: Part) -> str:
    heads = ["part", "calls<", *(f"{metric}<" for metric in METRICS)]
    heads += ["bytes read<", "bytes written<", "flops/byte<"]
    rows = []
    for part in (*parts, total):
        cells = [Cell("total" if part is total else part.name, classes=""), Cell(str(part.calls))]
        for metric in METRICS:
            value, whole = getattr(part, metric), getattr(total, metric)
            share = f"{value / whole:.1%}" if whole and part is not total else ""
            cells.append(Cell(format_count(value), small=share))
        cells += [Cell(format_count(part.bytes_read)), Cell(format_count(part.bytes_written))]
        intensity = part.flops_per_byte
        cells.append(Cell("–" if intensity is None else f"{intensity:.3g}"))
        rows.append(("base" if part is total else "", cells))
    return f'<div class="scroll">{table(heads, rows, classes="wide")}</div>'
