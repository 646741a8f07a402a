"""The sections of the page that are text and tables."""

from __future__ import annotations

import html
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from convscale.complexity.complexity import METRICS
from convscale.quantities import format_count, format_resolution
from convscale.report.frames import correlation_frame
from convscale.report.markup import Cell, bullets, definitions, section, table, tag
from convscale.report.sentences import (
    format_iqr,
    format_r,
    format_ratio,
    notes_of,
    scaling_label,
)
from convscale.runtime.spread import format_ms
from convscale.strategy.registry import is_entry

if TYPE_CHECKING:
    from convscale.prediction.prediction import Prediction
    from convscale.runtime.measurement import Conditions
    from convscale.runtime.spread import Spread
    from convscale.selection import Choice
    from convscale.study import Comparison, Row

_READ = (
    "flops are multiply-adds (one multiply-accumulate counts once), params are learnable scalars, "
    "and acts are the elements in the outputs of the operators whose flops are counted. All are "
    "for one image and one forward pass.",
    "A strategy says how the scale factor s of the flops is shared: w puts it into width alone, "
    "dwr evenly into depth, width and resolution, dWr mostly into width. A factor is what was "
    "asked for; the numbers with an x behind them are what came out of rounding to sizes that can "
    "be built, over the base network's.",
    "Latency is the median of the repeats, ± their interquartile range: half of the repeats lie "
    "in a range of that width.",
    "r is Pearson's correlation of the logarithms: at 1, latency is a power of the metric. "
    "It describes the networks measured here, on this device.",
    "In the plots a colour is a strategy, a symbol a base network, and a larger mark is scaled "
    "further. Hover a mark for its numbers; drag to zoom, double-click to go back.",
)


def cards(choices: Sequence[Choice], comparison: Comparison) -> str:
    """Write what to build, a card a base network.

    Example:
        >>> from convscale.selection import Choice
        >>> from convscale.study import Comparison
        >>> none = Choice("net", None, budget_ms=8.0, reason="Nothing fits.")
        >>> "No scaled network fits" in cards([none], Comparison(()))
        True
    """
    inner = "".join(_card(choice, comparison) for choice in choices)
    return f'<div class="cards">{inner}</div>'


def _card(choice: Choice, comparison: Comparison) -> str:
    budget = f"{format_ms(choice.budget_ms)} ms"
    row = next((row for row in comparison.of(choice.network) if choice.takes(row)), None)
    if row is None:
        name = tag("p", choice.network, classes="card-name")
        title = tag("p", f"No scaled network fits {budget}", classes="card-title")
        return f"<section>{name}{title}{tag('p', choice.reason)}</section>"
    numbers = [(metric, getattr(row, metric), row.ratio.get(metric)) for metric in METRICS]
    facts = [_number(name, format_count(value), format_ratio(x)) for name, value, x in numbers]
    if row.latency is not None:
        took = f"{format_ms(row.latency.median)} ms"
        facts.append(_number("latency", took, format_iqr(row.latency)))
    name = f"{row.network}, budget {budget}"
    title = f"Build it scaled by {scaling_label(row)}, input {format_resolution(row.resolution)} px"
    base = comparison.of(choice.network)[0]
    return "".join(
        (
            '<section class="feasible">',
            tag("p", name, classes="card-name"),
            tag("p", title, classes="card-title"),
            f'<dl class="numbers">{"".join(facts)}</dl>',
            tag("p", choice.reason),
            _command(row, base),
            "</section>",
        )
    )


def _command(row: Row, base: Row) -> str:
    """Write the command that builds the row; a module or a value in hand has none."""
    if row.network.startswith(("module:", "description:")):
        return ""
    strategy = str(row.strategy)
    factor = () if is_entry(strategy) else (("--factor", f"{row.factor:g}"),)
    options = (
        ("convscale", "scale"),
        (row.network,),
        ("--strategy", strategy),
        *factor,
        ("--resolution", format_resolution(base.resolution)),
        ("--out", "scaled/"),
    )
    # A line breaks between options and not within.
    spans = " ".join(tag("span", shlex.join(words)) for words in options)
    return f"<pre><code>{spans}</code></pre>"


def _number(name: str, value: str, small: str) -> str:
    behind = f" <small>{html.escape(small)}</small>" if small else ""
    return f"<div>{tag('dt', name)}<dd>{html.escape(value)}{behind}</dd></div>"


def correlation_section_table(comparison: Comparison) -> str:
    """Write r of each metric, over all networks and within each, the best one marked.

    Example:
        >>> from convscale.study import Comparison
        >>> "<tbody></tbody>" in correlation_section_table(Comparison(()))
        True
    """
    rows = []
    for line in correlation_frame(comparison).to_dict("records"):
        cells = [
            Cell(str(line["rows"]), classes=""),
            Cell("wall time" if line["time"] == "latency" else "processor time", classes=""),
            Cell(str(line["networks"])),
        ]
        for metric in METRICS:
            best = "number best" if metric == line["best"] else "number"
            value = line[metric]
            cells.append(Cell(format_r(None if value != value else value), classes=best))
        rows.append(("", cells))
    heads = ["over", "with", "networks<", *(f"{metric}<" for metric in METRICS)]
    return table(heads, rows, caption="Pearson's r of the logarithms; the highest in bold.")


def rows_table(comparison: Comparison, choices: Sequence[Choice]) -> str:
    """Write all rows, with what they are over the base's, and how they fare in the budget.

    Example:
        >>> from convscale.study import Comparison, Row
        >>> "timm:net" in rows_table(Comparison((Row("timm:net", None, 1.0, 8, 1, 1, 1),)), [])
        True
    """
    heads = ["network", "scaled by", "px<", *(f"{metric}<" for metric in METRICS)]
    if comparison.predicted:
        heads.append("predicted (ms)<")
    if comparison.measured:
        heads.append("latency (ms)<")
    timed = any(row.processor for row in comparison.rows)
    if timed:
        heads.append("processor time (ms)<")
    if choices:
        heads.append("against the budget")
    by_network = {choice.network: choice for choice in choices}
    rows = []
    for row in comparison.rows:
        choice = by_network.get(row.network)
        chosen = choice is not None and choice.takes(row)
        kind = "base group" if row.strategy is None else "chosen" if chosen else ""
        cells = [
            Cell(row.network, classes=""),
            Cell(scaling_label(row), classes=""),
            Cell(format_resolution(row.resolution)),
            *(_metric(row, metric) for metric in METRICS),
        ]
        if comparison.predicted:
            cells.append(_predicted(row.predicted))
        if comparison.measured:
            cells.append(_time(row.latency))
        if timed:
            cells.append(_time(row.processor))
        if choices:
            cells.append(Cell(_verdict(row, choice), classes=""))
        rows.append((kind, cells))
    return table(heads, rows, classes="wide")


def _metric(row: Row, metric: str) -> Cell:
    small = "" if row.strategy is None else format_ratio(row.ratio.get(metric))
    return Cell(format_count(getattr(row, metric)), small=small)


def _predicted(found: Prediction | None) -> Cell:
    if found is None:
        return Cell("–")
    low, high = (format_ms(end) for end in found.interval_ms)
    return Cell(format_ms(found.latency_ms), small=f"{low}–{high}")


def _time(spent: Spread | None) -> Cell:
    if spent is None:
        return Cell("–")
    return Cell(format_ms(spent.median), small=format_iqr(spent))


def _verdict(row: Row, choice: Choice | None) -> str:
    if choice is None or row.latency is None:
        return ""
    over = row.latency.median - choice.budget_ms
    if row.strategy is None:
        return "over" if over > 0 else "fits"
    if choice.takes(row):
        return "recommended"
    return f"{format_ms(over)} ms over" if over > 0 else "fits, fewer flops"


def reading_section() -> str:
    """Explain how to read the page.

    Example:
        >>> "multiply-adds" in reading_section()
        True
    """
    return section("How to read it", bullets(_READ))


def notes_section(comparison: Comparison) -> str:
    """Write the notes of the comparison and of its rows; nothing if there are none.

    Example:
        >>> from convscale.study import Comparison
        >>> notes_section(Comparison((), notes=("One strategy is left out.",)))
        '<section><h2>Notes</h2><ul><li>One strategy is left out.</li></ul></section>'
    """
    texts = notes_of(comparison)
    return section("Notes", bullets(texts)) if texts else ""


def conditions_section(conditions: Conditions | None, *, batch_size: int) -> str:
    """Write under which conditions the latencies hold.

    Example:
        >>> "not measured" in conditions_section(None, batch_size=1)
        True
    """
    if conditions is None:
        return section("Conditions", tag("p", "Latency is not measured."))
    c = conditions
    load = "not known" if c.load_average is None else f"{c.load_average:g}"
    pairs = [
        ("device", f"{c.device}, {c.hardware}"),
        ("threads", f"{c.threads} on {c.processors} processors"),
        ("batch size", str(batch_size)),
        ("mode", "inference, evaluation mode, random normal input"),
        ("dtype, memory format", f"{c.dtype}, {c.memory_format}"),
        ("order", f"{c.interleaved_networks} networks interleaved, {c.rounds} rounds"),
        ("load average at the start", load),
        ("software", f"torch {c.torch}, timm {c.timm or 'none'}, Python {c.python}, {c.system}"),
        ("started", c.started),
        *((name.replace("_", " "), str(value)) for name, value in c.details.items()),
    ]
    return section("Conditions of the measurement", definitions(pairs, classes="conditions"))
