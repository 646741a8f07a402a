"""What was chosen from a table of networks, or among scaled versions, for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from convscale.quantities import format_resolution
from convscale.report.finalists import finalist_parts
from convscale.report.layout import add_row, noted, table_of, titled
from convscale.report.names import Names
from convscale.selection.constraints import Floats
from convscale.selection.metrics import Metric, metric
from convscale.selection.reasons import closest

if TYPE_CHECKING:
    from convscale.study.zoo_selection import ZooSelection

_MOST = 25  # lines of the front


def selection_parts(found: ZooSelection) -> list[RenderableType]:
    r"""Show the Pareto front with the chosen network, and why it was chosen.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from convscale.report.layout import plain_lines
        >>> from convscale.study.selecting import select
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "mine.csv")
        ...     _ = file.write_text("model,top1_err,latency_ms\na,20,4\nb,18,9\n")
        ...     found = select(table=file, error="top1_err", limits=["latency<=5ms"])
        >>> plain_lines(selection_parts(found)[0])[:3]
        ['Take a', 'Pareto front of error and latency (2 of 2 candidates)',
        'network top1_err latency']
    """
    own = found.found
    what = "error" if found.has_errors else "flops"
    title = f"Pareto front of {what} and {metric(own.cost).title}"
    size = f"({len(own.front)} of {len(own.pool)} candidates)"
    side = found.chosen.resolution
    take = f"Take {found.chosen.network}" + (f" at {format_resolution(side)} px" if side else "")
    names = _names(found)
    head: list[RenderableType] = [Text(take, style="bold"), *names.said]
    front = titled(f"{title} {size}", _front(found))
    parts: list[RenderableType] = [Group(*head, front)]
    if found.measured is not None:
        parts = [Group(*head, *finalist_parts(found.measured, names)), front]
    if found.bases:
        parts += [titled("Best of each strategy", _strategies(found))]
    if len(found.alpha_curve) > 1:
        parts += [titled("Along α, the share of width", _alphas(found))]
    parts += [found.reason, *noted(found.notes)]
    return parts if found.command is None else [*parts, f"Build it: {found.command}"]


def _names(found: ZooSelection) -> Names:
    return Names.of(found.bases, [entry.network for entry in found.entries])


def shown(found: ZooSelection) -> list[int]:
    """Return the places of the front that are shown: around the chosen one, with it.

    Example:
        >>> callable(shown)
        True
    """
    own = found.found
    places = list(own.front)
    if found.at not in places:  # equal in error to one of the front, and cheaper by the rules
        places.append(found.at)
        places.sort(key=lambda at: float(own.costs()[at]))
    middle = places.index(found.at)
    start = max(0, min(middle - _MOST // 2, len(places) - _MOST))
    return places[start : start + _MOST]


def _strategies(found: ZooSelection) -> Table:
    """Return a line for the best of each series, or the nearest where none of it fits."""
    own = found.found
    names = _quantities(found)
    table = table_of(*_heads(found, names, sides=True, series=True))
    chosen = _cells(found, own.chosen, names, sides=True, series=True)
    mark = "chosen" if found.at == own.chosen else "by prediction"
    add_row(table, *chosen, mark, style="bold")
    for rival in closest(own):
        error = own.estimate.error
        loss = own.objective.show_loss(float(error[rival.at]), float(error[own.chosen]))
        said = loss.removeprefix(f"{own.objective.name} ")
        if rival.missed is not None:
            by = float(
                rival.missed.relative(own.pool.held(rival.missed)[rival.at : rival.at + 1])[0]
            )
            said = f"{rival.missed.metric.title} misses by {100 * by:.1f} %"
        add_row(table, *_cells(found, rival.at, names, sides=True, series=True), said)
    return table


def _alphas(found: ZooSelection) -> Table:
    """Return a line for each α: what is best under the same constraints."""
    names = _quantities(found)
    table = table_of("α>", *_heads(found, names, sides=True, series=False))
    for point in found.alpha_curve:
        chosen = point.at == found.found.chosen
        mark = "chosen" if chosen else "" if point.fits else "too much"
        if found.at != found.found.chosen:  # measuring decided
            mark = "by prediction" if chosen else "chosen" if point.at == found.at else mark
        cells = _cells(found, point.at, names, sides=True, series=False)
        add_row(table, f"{point.alpha:.2f}", *cells, mark, style="bold" if chosen else None)
    return table


def _quantities(found: ZooSelection) -> list[str]:
    """Return the quantities that are shown: the cost, and what is limited."""
    own = found.found
    asked = [one.on for one in own.constraints]
    names = [name for name in dict.fromkeys([own.cost, *asked]) if name != "resolution_px"]
    return names if found.has_errors else [name for name in names if name != "flops"]


def _heads(found: ZooSelection, names: Sequence[str], *, sides: bool, series: bool) -> list[str]:
    heads = ["network", *(["px<"] if sides else []), *(["series"] if series else [])]
    quantities = (f"{title}<" for title, _, _ in _columns(found, names))
    return [*heads, f"{found.found.objective.name}<", *quantities, ""]


def _columns(found: ZooSelection, names: Sequence[str]) -> Iterator[tuple[str, Metric, Floats]]:
    """Yield the columns of quantities, and beside predicted ones what is held to the limits."""
    pool = found.found.pool
    for name in names:
        own = metric(name)
        yield own.title, own, pool.values[name]
        if name in pool.bounds and pool.confidence > 0.5:
            yield f"at {100 * pool.confidence:g} %", own, pool.bounds[name]


def _front(found: ZooSelection) -> Table:
    own = found.found
    names = _quantities(found)
    series = any(own.pool.series)
    sides = any(entry.resolution for entry in found.entries)
    table = table_of(*_heads(found, names, sides=sides, series=series))
    for at in shown(found):
        chosen = at == found.at
        mark = "chosen" if chosen else "" if own.fits[at] else "too much"
        cells = _cells(found, at, names, sides=sides, series=series)
        add_row(table, *cells, mark, style="bold" if chosen else None)
    return table


def _cells(
    found: ZooSelection, at: int, names: Sequence[str], *, sides: bool, series: bool
) -> list[str]:
    own, entry = found.found, found.entries[at]
    error = own.objective.show(float(own.estimate.error[at]))
    return [
        _names(found).short(entry.network),
        *([format_resolution(entry.resolution) if entry.resolution else ""] if sides else []),
        *([own.pool.series[at]] if series else []),
        error.removeprefix(f"{own.objective.name} "),
        *(one.show(float(column[at])) for _, one, column in _columns(found, names)),
    ]
