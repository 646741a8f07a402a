"""A series of networks, one for each budget, for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from convscale.quantities import format_ms, format_resolution
from convscale.report.layout import add_row, noted, table_of, titled
from convscale.report.names import Names
from convscale.report.sentences import conditions_text
from convscale.runtime.measurement import Measurement
from convscale.selection.metrics import metric
from convscale.selection.series_reasons import budgets_text, gain_text, mean_text

if TYPE_CHECKING:
    from convscale.study.network_series import NetworkSeries

_QUANTITIES = ("flops", "params", "acts")
_MOST = 15  # strategies of the table


def series_parts(found: NetworkSeries) -> list[RenderableType]:
    r"""Show the networks of a series, what each budget would gain alone, and why.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from convscale.report.layout import plain_lines
        >>> from convscale.study.selecting import select_series
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "mine.csv")
        ...     _ = file.write_text("model,series,err,latency_ms\na,x,20,4\nb,x,18,9\nc,y,17,9\n")
        ...     found = select_series(table=file, error="err", budgets="5ms,10ms")
        >>> plain_lines(series_parts(found)[0])[:3]
        ['Take the series of x', 'For latency at most 5.00 ms and 10.0 ms',
        'budget network err latency']
    """
    choice = found.choice
    head = "Take a network for each" if found.strategy is None else _take(found)
    lines = [Text(head, style="bold"), *_names(found).said]
    first = Group(*lines, titled(f"For {budgets_text(choice)}", _networks(found)))
    parts: list[RenderableType] = [first]
    if found.measured is not None:
        conditions = conditions_text(
            found.measured.conditions, batch_size=found.measured.batch_size
        )
        title = "Series, measured on this machine"
        parts += [titled(title, _measured(found)), conditions, *noted(found.measured.notes)]
    if choice.chosen is not None:
        title = "What a strategy of its own for each budget would gain"
        parts.append(titled(title, _gains(found)))
    if found.others:
        parts.append(titled("Best series of each strategy", _others(found)))
    parts += [found.reason, *noted(found.notes)]
    if not found.commands:
        return parts
    return [*parts, "Build them:", *(f"  {command}" for command in found.commands)]


def _measured(found: NetworkSeries) -> Table:
    """Return a line a budget and series: what was measured beside what was predicted."""
    known, names = found.measured, _names(found)
    assert known is not None
    table = table_of("series", "budget<", "network", "predicted<", "measured<", "spread<", "")
    for row, line in enumerate(known.lines):
        for budget, one in zip(found.choice.budgets, line.members, strict=True):
            if one is None:
                continue
            own = one.outcome
            ran = own.latency_ms if isinstance(own, Measurement) else None
            add_row(
                table,
                line.name,
                budget.metric.show(budget.limit),
                names.short(one.entry.network),
                "" if one.predicted_ms is None else format_ms(one.predicted_ms),
                *(("", "") if ran is None else (format_ms(ran.median), format_ms(ran.iqr))),
                "kept" if one.fits else "not run" if ran is None else "too much",
                style="bold" if row == known.chosen else None,
            )
    return table


def _take(found: NetworkSeries) -> str:
    if found.bases:
        bases = {one.scaled.source.name for one in found.members if one.scaled is not None}
        base = next(iter(bases))
        strategy = (found.strategy or "").removeprefix(f"{base} ")
        return f"Take {base} scaled by {strategy}"
    return f"Take the series of {found.strategy}"


def _names(found: NetworkSeries) -> Names:
    return Names.of(found.bases, [one.network for one in (*found.members, *found.entries)])


def _networks(found: NetworkSeries) -> Table:
    choice, pool = found.choice, found.choice.own[0].pool
    budget = choice.budgets[0].on
    known = [*_QUANTITIES, choice.own[0].cost, budget]
    names = [one for one in dict.fromkeys(known) if one in pool.values]
    sides = any(one.resolution for one in found.members)
    error = [choice.own[0].objective.name] if found.has_errors else []
    heads = [*(f"{metric(name).title}<" for name in names)]
    table = table_of(
        "budget<", "network", *(["px<"] if sides else []), *(f"{e}<" for e in error), *heads
    )
    for at, entry in enumerate(found.members):
        own, place = choice.own[at], choice.places[at]
        limit = choice.budgets[at]
        told = own.objective.show(float(own.estimate.error[place]))
        add_row(
            table,
            limit.metric.show(limit.limit),
            _names(found).short(entry.network),
            *([format_resolution(entry.resolution) if entry.resolution else ""] if sides else []),
            *(told.removeprefix(f"{one} ") for one in error),
            *(metric(name).show(float(pool.values[name][place])) for name in names),
        )
    return table


def _gains(found: NetworkSeries) -> Table:
    choice, names = found.choice, _names(found)
    table = table_of("budget<", "network of its own", "gains", "")
    for at, own in enumerate(choice.own):
        limit = choice.budgets[at]
        told = gain_text(choice, at)
        equal = "equal" if choice.same(at) and told != "nothing" else ""
        label = "the same" if own.chosen == choice.places[at] else names.short(own.label)
        add_row(table, limit.metric.show(limit.limit), label, told, equal)
    return table


def _others(found: NetworkSeries) -> Table:
    choice = found.choice
    assert choice.chosen is not None
    objective = choice.own[0].objective
    mean = "mean" if found.has_errors else "geometric mean"
    table = table_of("strategy", f"{mean} of {objective.name}<", "")
    chosen = mean_text(choice, choice.chosen).removeprefix(f"{objective.name} ")
    add_row(table, choice.chosen.name, chosen, "chosen", style="bold")
    for line, _ in found.others[:_MOST]:
        loss = objective.show_loss(line.error, choice.chosen.error)
        told = mean_text(choice, line).removeprefix(f"{objective.name} ")
        add_row(table, line.name, told, loss.removeprefix(f"{objective.name} "))
    for name, held in choice.lacking[: max(_MOST - len(found.others), 0)]:
        add_row(table, name, "", f"fits {held} of {len(choice.budgets)} budgets")
    return table
