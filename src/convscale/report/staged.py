"""Tables of stages, of one network and of two beside each other, as rich renderables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from convscale.complexity.complexity import METRICS, Complexity
from convscale.errors import few
from convscale.quantities import format_count, format_resolution
from convscale.report.layout import Widest, add_row, noted, table_of, titled
from convscale.report.sentences import format_ratio

if TYPE_CHECKING:
    from convscale.scaling import StageRow, StageTable
    from convscale.study import Difference


def stage_table(table: StageTable) -> RenderableType:
    """Show the stages of a network and their shares of its complexity.

    Example:
        >>> from convscale.report.layout import plain_lines
        >>> from convscale.scaling import stages
        >>> plain_lines(stage_table(stages("resnet18")))[0]
        'timm:resnet18 at 224 px'
    """
    shown = table_of(
        "stage", "blocks", "depth<", "deepened by", "width<", "px<", "stride<", *_shares()
    )
    for row in table.rows:
        groups = ",".join(map(str, row.group_widths))
        kinds = ", ".join(row.kinds) + (f" (group width {groups})" if groups else "")
        cells = (kinds, str(row.depth), _MEANS[row.repeats], _dash(row.width))
        size = "–" if row.resolution is None else short_sides(row.resolution)
        shares = _parts(row.complexity, table.total)
        add_row(shown, row.name, *cells, size, _dash(row.stride), *shares)
    add_row(shown, "outside", *[""] * 6, *_parts(table.outside, table.total))
    add_row(shown, "total", *[""] * 6, *(format_count(getattr(table.total, m)) for m in METRICS))
    title = f"{table.network} at {format_resolution(table.resolution)} px"
    return Group(titled(title, shown), *noted(table.notes))


_MEANS = {"repeated": "its block", "made": "a made block", "kept": "–"}


def short_sides(found: tuple[int, ...]) -> str:
    """Write sides in px; one where all are equal.

    Example:
        >>> short_sides((56, 56)), short_sides((56, 28)), short_sides((196,))
        ('56', '56x28', '196')
    """
    return str(found[0]) if len(set(found)) == 1 else "x".join(map(str, found))


def _shares() -> Iterable[str]:
    return (f"{metric}<" for metric in METRICS)


def _parts(own: Complexity, total: Complexity) -> list[str]:
    return ["–" if part is None else f"{part:.1%}" for part in own.ratio_to(total).values()]


def _dash(value: float | None) -> str:
    return "–" if value is None else f"{value:g}"


def difference_table(found: Difference) -> RenderableType:
    """Show two networks side by side, the ratio of the second to the first in each metric.

    Example:
        >>> from convscale.report.layout import plain_lines
        >>> from convscale.study import diff
        >>> plain_lines(difference_table(diff("resnet18", "resnet34")))[0]
        'timm:resnet18 at 224 px, and timm:resnet34 at 224 px'
    """
    title = ", and ".join(
        f"{table.network} at {format_resolution(table.resolution)} px"
        for table in (found.first, found.second)
    )
    notes = dict.fromkeys((*found.first.notes, *found.second.notes))
    only = [
        Text(f"Only in {table.network}: {few(paths, limit=12)}.")
        for table, paths in ((found.first, found.only_first), (found.second, found.only_second))
        if paths
    ]
    both = Widest(_pairs_table(found, wide=True), _pairs_table(found, wide=False))
    return Group(titled(title, both), *only, *noted(notes))


def _pairs_table(found: Difference, *, wide: bool) -> Table:
    """Set the stages side by side; the narrow table has of each metric the ratio alone."""
    grouped = wide or any(
        row is not None and row.group_widths
        for pair in found.pairs
        for row in (pair.first, pair.second)
    )
    heads = ["stage", "depth<", "width<", *(["group width<"] if grouped else []), "px<"]
    shown = table_of(*heads, *_shares())
    for pair in found.pairs:
        first, second = pair.first, pair.second
        add_row(
            shown,
            pair.name,
            _change(_of(first, "depth"), _of(second, "depth")),
            _change(_of(first, "width"), _of(second, "width")),
            *([_change(_groups(first), _groups(second))] if grouped else []),
            _change(_sides(first), _sides(second)),
            *_costs(
                None if first is None else first.complexity,
                None if second is None else second.complexity,
                wide=wide,
            ),
        )
    rest = [""] * (len(heads) - 1)
    add_row(shown, "outside", *rest, *_costs(found.first.outside, found.second.outside, wide=wide))
    add_row(shown, "total", *rest, *_costs(found.first.total, found.second.total, wide=wide))
    return shown


def _of(row: StageRow | None, name: str) -> str:
    return "–" if row is None else _dash(getattr(row, name))


def _groups(row: StageRow | None) -> str:
    return ",".join(map(str, row.group_widths)) if row and row.group_widths else "–"


def _sides(row: StageRow | None) -> str:
    return short_sides(row.resolution) if row and row.resolution else "–"


def _change(first: str, second: str) -> str:
    return first if first == second else f"{first} → {second}"


def _costs(first: Complexity | None, second: Complexity | None, *, wide: bool) -> list[str]:
    """Write what the second costs, and how often the first that is; or that alone."""
    cells = []
    for metric in METRICS:
        values = [None if one is None else getattr(one, metric) for one in (first, second)]
        before, after = values
        shown = " → ".join("–" if value is None else format_count(value) for value in values)
        ratio = format_ratio(after / before) if before and after else ""
        cells.append((f"{shown} ({ratio})" if wide else ratio) if ratio else shown)
    return cells
