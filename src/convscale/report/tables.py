"""Tables for the terminal, as rich renderables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from convscale.complexity.complexity import METRICS
from convscale.quantities import format_bytes, format_count, format_ms, format_resolution
from convscale.report.layout import Widest, where_run
from convscale.report.layout import add_row as _add
from convscale.report.layout import noted as _notes
from convscale.report.layout import plain_lines as plain_lines
from convscale.report.layout import table_of as _table
from convscale.report.layout import titled as _titled
from convscale.report.memory import memory_sentence
from convscale.report.predictions import latency_sentence
from convscale.report.sentences import (
    conditions_text,
    format_r,
    format_ratio,
    format_spread,
    notes_of,
    prediction_sentence,
    recommendation_text,
)
from convscale.strategy import Step

if TYPE_CHECKING:
    from convscale.complexity.complexity import Count
    from convscale.scaling import ScaledNetwork
    from convscale.selection import Choice
    from convscale.strategy import Published, Rules, Strategy
    from convscale.strategy.fitting import Fit
    from convscale.study import Comparison, Row


def count_table(count: Count, *, layers: bool = False) -> RenderableType:
    """Show the complexity of a network, layer by layer if asked, and what was not counted.

    Example:
        >>> from convscale.complexity.complexity import Count
        >>> plain_lines(count_table(Count(4_089_184_256, 25_557_032, 11_114_984, "net", 224)))[2]
        'flops 4,089,184,256 4.09G'
    """
    where = where_run(count.resolution, count.inputs)
    title = f"{count.network} {where}, convention {count.convention}"
    totals = _table("metric", "value<", "short<")
    for metric in METRICS:
        value = getattr(count, metric)
        _add(totals, metric, f"{value:,}", format_count(value))
    parts: list[RenderableType] = [_titled(title, totals)]
    if layers:
        parts.append(layers_table(count))
    return Group(*parts, *uncounted_parts(count), *_notes(count.notes))


def layers_table(count: Count) -> Group:
    """Show what each layer executed and owns itself.

    Example:
        >>> from convscale.complexity.complexity import Count
        >>> plain_lines(layers_table(Count(1, 1, 1, "net", 8)))[0]
        'Layers'
    """
    table = _table("path", "kind", "output", "flops<", "params<", "acts<")
    for layer in count.layers:
        shape = "x".join(map(str, layer.output_shape))
        values = (layer.flops, layer.params, layer.acts)
        _add(table, layer.path, layer.kind, shape, *(f"{value:,}" for value in values))
    return _titled("Layers", table)


def uncounted_parts(count: Count) -> list[RenderableType]:
    """Show the operators that were met and not counted, and how to count them.

    Example:
        >>> from convscale.complexity.complexity import Count
        >>> uncounted_parts(Count(1, 1, 1, "net", 8))
        []
    """
    if not count.uncounted:
        return []
    table = _table("operator", "calls<", "first met in")
    for entry in count.uncounted:
        _add(table, entry.operator, str(entry.calls), entry.path or "the network itself")
    name = count.uncounted[0].operator.replace(".", "::")
    return [
        _titled("Met and not counted", table),
        Text(
            f'Rules count them: CONVSCALE_RULES = {{"{name}": rule}} in the file of the network, '
            f"or rules={{...}} in Python; rule(arguments, output) returns flops and acts."
        ),
    ]


def scaled_table(scaled: ScaledNetwork) -> RenderableType:
    """Show base, achieved and their ratio, the factors, and the notes of a scaled network.

    Example:
        >>> from convscale.scaling import scale
        >>> found = scale("resnet18", strategy="w", factor=4.0, weights=False)
        >>> plain_lines(scaled_table(found))[0]
        'timm:resnet18 scaled by w at 4x'
    """
    entry = isinstance(scaled.strategy, Step)  # it has factors of its own
    at = "" if entry else f" at {scaled.factor:.4g}x"
    title = f"{scaled.network} scaled by {scaled.strategy.name}{at}"
    if scaled.base.convention != "default":
        title += f", convention {scaled.base.convention}"
    table = _table("", "base<", "scaled<", "ratio<")
    for metric in METRICS:
        base, achieved = getattr(scaled.base, metric), getattr(scaled.achieved, metric)
        ratio = format_ratio(scaled.ratio[metric])
        _add(table, metric, format_count(base), format_count(achieved), ratio)
    if scaled.latency is not None and scaled.base_latency is not None:
        took = (scaled.base_latency.latency_ms, scaled.latency.latency_ms)
        _add(table, "latency", *map(format_ms, took), format_ratio(scaled.ratio["latency_ms"]))
    before, after = scaled.base_resolution, scaled.resolution
    _add(table, "resolution (px)", format_resolution(before), format_resolution(after), "")
    asked = ", ".join(_asked(name, value) for name, value in scaled.requested.items())
    if entry:
        asked = scaled.strategy.name
    f = scaled.factors
    factors = (
        f"Requested {asked}. Factors before rounding: depth {f.depth:.3f}, width {f.width:.3f}, "
        f"group width {f.group_width:.3f}, resolution {f.resolution:.3f}."
    )
    fitting = [] if scaled.memory is None else [Text(memory_sentence(scaled.memory))]
    fitting += [] if scaled.latency is None else [Text(latency_sentence(scaled.latency))]
    return Group(_titled(title, table), Text(factors), *fitting, *_notes(scaled.notes))


def comparison_table(comparison: Comparison, choices: Sequence[Choice] = ()) -> RenderableType:
    """Show all rows, how well the metrics predict latency, and what to build.

    Example:
        >>> from convscale.study import Comparison, Row
        >>> plain_lines(comparison_table(Comparison((Row("net", None, 1.0, 8, 4000, 20, 7),))))[-1]
        'net base 1x 8 4.00K 20 7'
    """
    parts: list[RenderableType] = [_rows_table(comparison, choices)]
    if comparison.conditions is not None:
        said = conditions_text(comparison.conditions, batch_size=comparison.batch_size)
        parts.append(Text(said))
    parts += _notes(notes_of(comparison))
    if comparison.measured:
        parts += [Text(), correlation_table(comparison), Text(prediction_sentence(comparison))]
    parts += [Text(recommendation_text(choice), style="bold") for choice in choices]
    return Group(*parts)


def _rows_table(comparison: Comparison, choices: Sequence[Choice]) -> RenderableType:
    """Show all rows; processor times too, where there are any and the window is wide enough."""
    heads = ["network", "strategy", "s<", "px<", "flops<", "params<", "acts<"]
    if comparison.predicted:
        heads += ["predicted ms<"]
    if comparison.measured:
        heads += ["latency ms<"]
    narrow = _filled(comparison, choices, heads)
    if not any(row.processor for row in comparison.rows):
        return narrow
    return Widest(_filled(comparison, choices, [*heads, "processor ms<"]), narrow)


def _filled(comparison: Comparison, choices: Sequence[Choice], heads: Sequence[str]) -> Table:
    chosen = {choice.row.label for choice in choices if choice.row is not None}
    table = _table(*heads)
    before = None
    for row in comparison.rows:
        if before not in (None, row.network):
            table.add_section()
        before = row.network
        cells = _row_cells(row, predicted=comparison.predicted)[: len(heads)]
        _add(table, *cells, style="bold green" if row.label in chosen else None)
    return table


def _row_cells(row: Row, *, predicted: bool) -> list[str]:
    latency = "" if row.predicted is None else f"{row.predicted.latency_ms:.4g}"
    return [
        row.network,
        row.strategy or "base",
        f"{row.factor:g}x",
        format_resolution(row.resolution),
        *(format_count(getattr(row, metric)) for metric in METRICS),
        *([latency] if predicted else []),
        format_spread(row.latency),
        format_spread(row.processor),
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


def fit_table(fit: Fit) -> RenderableType:
    """Show the exponents that trials tell, with their intervals, and the factors at s = 2.

    Example:
        >>> from convscale.strategy.fitting import Fit, Interval
        >>> e = Interval(1 / 3, 0.3, 0.4)
        >>> fit = Fit(e, e, e, level=0.95, trials=20, spread=0.01, inside=True)
        >>> plain_lines(fit_table(fit))[2]
        'depth 0.333 0.300 to 0.400 s^0.333 1.260'
    """
    table = _table("axis", "share of ln s<", f"{fit.level:.0%} interval", "factor", "at s = 2<")
    shares = (("depth", fit.depth, 1), ("width", fit.width, 2), ("resolution", fit.resolution, 2))
    for (name, share, power), factor in zip(shares, fit.factors(2.0), strict=True):
        between = f"{share.low:.3f} to {share.high:.3f}"
        exponent = _power(share.value / power)
        _add(table, name, f"{share.value:.3f}", between, exponent, f"{factor:.3f}")
    said = [
        f"{fit.trials} trials; their error lies {fit.spread:.2%} about the law.",
        f"Scale by it: --strategy {fit.notation}",
    ]
    if not fit.inside:
        said.append("Note: the best split lies on an edge: more of one axis would be better still.")
    if fit.cost is not None:
        d, w, r = fit.cost
        said.append(f"The flops of the trials grow as d^{d:.2f}, (w²)^{w:.2f} and (r²)^{r:.2f}.")
    return Group(
        _titled("The split with the least error under d·w²·r² = s", table), *map(Text, said)
    )


def published_table(strategies: Iterable[Published]) -> RenderableType:
    """Show the published strategies: how each is written, what it does, rounds, keeps and caps.

    Example:
        >>> from convscale.strategy import published
        >>> plain_lines(published_table([published("tinynet")]))[2]
        'tinynet@a, b, c, d, e scaling down: resolution and depth are kept ...'
    """
    table = _table("written", "what it does", "rounding, keeps, caps", "raises", "source")
    for found in strategies:
        names = ", ".join(found.entry_names)
        written = f"{found.name}@{names}" if names else f"{found.name}, with a factor or a budget"
        _add(table, written, found.summary, _rules(found.rules), found.raises, found.source)
    return _titled("Published strategies; an entry of a table has factors of its own", table)


def _rules(rules: Rules) -> str:
    parts = [rules.rounding]
    if rules.keep:
        parts.append(f"keeps {' and '.join(rules.keep)}")
    if rules.head_at_least is not None:
        parts.append(f"head at least {rules.head_at_least}")
    if rules.max_resolution is not None:
        parts.append(f"at most {rules.max_resolution} px")
    return "; ".join(parts)


def _power(exponent: float) -> str:
    return "1" if exponent == 0 else "s" if exponent == 1 else f"s^{exponent:.3g}"


def _asked(name: str, value: float) -> str:
    if name == "latency_ms":
        return f"latency {format_ms(value)}"
    if name == "factor":
        return f"factor {value:.10g}"
    return f"{name} {format_bytes(int(value)) if name == 'memory' else _number(value)}"


def _number(value: float) -> str:
    return format_count(value) if value >= 1000 else f"{value:g}"
