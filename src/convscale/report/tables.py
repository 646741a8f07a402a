"""Tables for the terminal, as rich renderables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from convscale.complexity.complexity import METRICS
from convscale.quantities import format_count, format_resolution
from convscale.report.sentences import (
    conditions_text,
    format_r,
    format_ratio,
    format_spread,
    prediction_sentence,
    recommendation_sentence,
)
from convscale.runtime.measurement import format_ms

if TYPE_CHECKING:
    from convscale.complexity.complexity import Count
    from convscale.runtime import Measurement
    from convscale.scaling import ScaledNetwork
    from convscale.selection import Choice
    from convscale.strategy import Strategy
    from convscale.study import Comparison, Row


def count_table(count: Count, *, layers: bool = False) -> RenderableType:
    """Show the complexity of a network, layer by layer if asked, and what was not counted.

    Example:
        >>> from convscale.complexity.complexity import Count
        >>> plain_lines(count_table(Count(4_089_184_256, 25_557_032, 11_114_984, "net", 224)))[2]
        'flops 4,089,184,256 4.09G'
    """
    title = (
        f"{count.network} at {format_resolution(count.resolution)} px, "
        f"convention {count.convention}"
    )
    totals = _table("metric", "value<", "short<")
    for metric in METRICS:
        value = getattr(count, metric)
        _add(totals, metric, f"{value:,}", format_count(value))
    parts: list[RenderableType] = [_titled(title, totals)]
    if layers:
        parts.append(_layers_table(count))
    if count.uncounted:
        parts.append(_uncounted_table(count))
    return Group(*parts, *_notes(count.notes))


def _layers_table(count: Count) -> Group:
    table = _table("path", "kind", "output", "flops<", "params<", "acts<")
    for layer in count.layers:
        shape = "x".join(map(str, layer.output_shape))
        values = (layer.flops, layer.params, layer.acts)
        _add(table, layer.path, layer.kind, shape, *(f"{value:,}" for value in values))
    return _titled("Layers", table)


def _uncounted_table(count: Count) -> Group:
    table = _table("operator", "calls<", "first met in")
    for entry in count.uncounted:
        _add(table, entry.operator, str(entry.calls), entry.path or "the network itself")
    return _titled("Met and not counted", table)


def scaled_table(scaled: ScaledNetwork) -> RenderableType:
    """Show base, achieved and their ratio, the factors, and the notes of a scaled network.

    Example:
        >>> from convscale.scaling import scale
        >>> found = scale("resnet18", strategy="w", factor=4.0, weights=False)
        >>> plain_lines(scaled_table(found))[0]
        'timm:resnet18 scaled by w at 4x'
    """
    title = f"{scaled.network} scaled by {scaled.strategy.name} at {scaled.factor:.4g}x"
    table = _table("", "base<", "scaled<", "ratio<")
    for metric in METRICS:
        base, achieved = getattr(scaled.base, metric), getattr(scaled.achieved, metric)
        ratio = format_ratio(scaled.ratio[metric])
        _add(table, metric, format_count(base), format_count(achieved), ratio)
    before, after = scaled.base_resolution, scaled.resolution
    _add(table, "resolution (px)", format_resolution(before), format_resolution(after), "")
    asked = ", ".join(f"{name} {_number(value)}" for name, value in scaled.requested.items())
    f = scaled.factors
    factors = (
        f"Requested {asked}. Factors before rounding: depth {f.depth:.3f}, width {f.width:.3f}, "
        f"group width {f.group_width:.3f}, resolution {f.resolution:.3f}."
    )
    return Group(_titled(title, table), Text(factors), *_notes(scaled.notes))


def comparison_table(comparison: Comparison, choices: Sequence[Choice] = ()) -> RenderableType:
    """Show all rows, how well the metrics predict latency, and what to build.

    Example:
        >>> from convscale.study import Comparison, Row
        >>> plain_lines(comparison_table(Comparison((Row("net", None, 1.0, 8, 4000, 20, 7),))))[-1]
        'net base 1x 8 4.00K 20 7'
    """
    heads = ["network", "strategy", "s<", "px<", "flops<", "params<", "acts<"]
    if comparison.measured:
        heads += ["latency ms<"]
    chosen = {choice.row.label for choice in choices if choice.row is not None}
    table = _table(*heads)
    before = None
    for row in comparison.rows:
        if before not in (None, row.network):
            table.add_section()
        before = row.network
        cells = _row_cells(row)[: len(heads)]
        _add(table, *cells, style="bold green" if row.label in chosen else None)
    parts: list[RenderableType] = [table]
    if comparison.measured:
        parts += [correlation_table(comparison), Text(prediction_sentence(comparison))]
    parts += [
        Text(f"{recommendation_sentence(choice)} {choice.reason}", style="bold")
        for choice in choices
    ]
    noted = sum(bool(row.notes) for row in comparison.rows)
    if noted:
        parts.append(Text(f"Notes on {noted} of the networks are in the report and in the JSON."))
    return Group(*parts, *_notes(comparison.notes))


def _row_cells(row: Row) -> list[str]:
    return [
        row.network,
        row.strategy or "base",
        f"{row.factor:g}x",
        format_resolution(row.resolution),
        *(format_count(getattr(row, metric)) for metric in METRICS),
        format_spread(row.latency),
    ]


def correlation_table(comparison: Comparison) -> RenderableType:
    """Show r of each metric with the latency, over all networks and within each.

    Example:
        >>> from convscale.study import Comparison
        >>> plain_lines(correlation_table(Comparison(())))[0]
        "Pearson's r of the logarithms"
    """
    from convscale.report.frames import correlation_frame

    table = _table("rows", "with", "n<", *(f"{metric}<" for metric in METRICS))
    for line in correlation_frame(comparison).to_dict("records"):
        _add(
            table,
            str(line["rows"]),
            "wall time" if line["time"] == "latency" else "processor time",
            str(line["networks"]),
            *(format_r(line[metric]) for metric in METRICS),
        )
    return _titled("Pearson's r of the logarithms", table)


def measurement_table(measurement: Measurement) -> RenderableType:
    """Show the latency of a network, its spread and the conditions.

    Example:
        >>> from convscale.runtime import Conditions, Measurement
        >>> here = Conditions("cpu", "x86_64", 8, "float32", 2, "contiguous", "2.6.0")
        >>> measured = Measurement("net", 224, 1, "inference", here, wall_s=(0.02, 0.03))
        >>> plain_lines(measurement_table(measured))[0]
        'net at 224 px, batch size 1, inference'
    """
    m, here = measurement, measurement.conditions
    size = f"{format_resolution(m.resolution)} px, batch size {m.batch_size}"
    table = _table("", "value<")
    _add(table, "latency, median (ms)", format_ms(m.latency_ms.median))
    _add(table, "latency, interquartile range (ms)", format_ms(m.latency_ms.iqr))
    if m.processor_ms is not None:
        _add(table, "processor time, median (ms)", format_ms(m.processor_ms.median))
    _add(table, "images a second", f"{m.images_per_second:.4g}")
    _add(table, "repeats", str(m.latency_ms.repeats))
    if m.peak_memory_bytes is not None:
        _add(table, "peak memory (bytes)", f"{m.peak_memory_bytes:,}")
    title = f"{m.network} at {size}, {m.mode}"
    return Group(_titled(title, table), Text(conditions_text(here)), *_notes(m.notes))


def strategies_table(strategies: Iterable[Strategy]) -> RenderableType:
    """Show how each strategy shares s, and how params and acts grow with it.

    Example:
        >>> from convscale.strategy import parse_strategy
        >>> plain_lines(strategies_table([parse_strategy("dWr")]))[-1]
        'dWr s^0.1 s^0.4 s^0.05 s^0.9 s^0.6'
    """
    table = _table("strategy", "depth", "width", "resolution", "params", "acts")
    for strategy in strategies:
        exponents = (
            strategy.depth,
            strategy.width / 2,
            strategy.resolution / 2,
            strategy.growth.params,
            strategy.growth.acts,
        )
        _add(table, strategy.name, *(_power(exponent) for exponent in exponents))
    return _titled("Factors and growth where flops grow as s = d·w²·r²", table)


def _power(exponent: float) -> str:
    return "1" if exponent == 0 else "s" if exponent == 1 else f"s^{exponent:.3g}"


def _number(value: float) -> str:
    return format_count(value) if value >= 1000 else f"{value:g}"


def _table(*heads: str) -> Table:
    """Make a table; a head that ends in < is a column of numbers."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in heads:
        numeric = head.endswith("<")
        table.add_column(
            head.removesuffix("<"), justify="right" if numeric else "left", no_wrap=numeric
        )
    return table


def _titled(title: str, table: Table) -> Group:
    return Group(Text(title, style="bold"), table)


def _add(table: Table, *cells: str, style: str | None = None) -> None:
    """Add a row of plain text: brackets in names are no markup."""
    table.add_row(*(Text(cell) for cell in cells), style=style)


def _notes(notes: Iterable[str]) -> list[Text]:
    return [Text(f"Note: {note}") for note in notes]


def plain_lines(renderable: RenderableType, *, width: int = 160) -> list[str]:
    """Return the lines that a terminal of that width shows, without rules and padding.

    Example:
        >>> plain_lines(Text("some   text"))
        ['some text']
    """
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(renderable)
    lines = (" ".join(line.split()) for line in captured.get().splitlines())
    return [line for line in lines if line.strip("─ ")]
