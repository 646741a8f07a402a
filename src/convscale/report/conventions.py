"""A network in every convention side by side, for people and as a document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table

from convscale.complexity.complexity import METRICS
from convscale.report.layout import add_row, noted, table_of, titled, where_run
from convscale.report.tables import layers_table, uncounted_parts

if TYPE_CHECKING:
    from convscale.complexity.complexity import Count


def conventions_table(counts: Mapping[str, Count], *, layers: bool = False) -> RenderableType:
    """Show a network's count in every convention, and what each of them adds.

    Args:
        counts: The count in each convention, by name; the first is the default's.
        layers: Whether the default's layers are shown too.

    Example:
        >>> from convscale.complexity.complexity import Count
        >>> from convscale.report.layout import plain_lines
        >>> counts = {"default": Count(6, 3, 2, "net", 8), "torch": Count(12, 3, 2, "net", 8)}
        >>> plain_lines(conventions_table(counts))[-1]
        'torch a multiply-add 2 flops 6 0'
    """
    from convscale.complexity.conventions import CONVENTIONS

    first = next(iter(counts.values()))
    totals = table_of("convention", *(f"{metric}<" for metric in METRICS), "as counted by")
    for name, count in counts.items():
        values = (f"{getattr(count, metric):,}" for metric in METRICS)
        add_row(totals, name, *values, CONVENTIONS[name].source)
    parts: list[RenderableType] = [
        titled(
            f"{first.network} {where_run(first.resolution, first.inputs)}, in every convention",
            totals,
        ),
        titled("What they add to the default", _differences(counts)),
    ]
    if layers:
        parts.append(layers_table(first))
    return Group(*parts, *uncounted_parts(first), *noted(first.notes))


def _differences(counts: Mapping[str, Count]) -> Table:
    table = table_of("convention", "what", "how much", "flops<", "acts<")
    for row in _rows(counts):
        numbers = (f"{row['flops']:,}", f"{row['acts']:,}")
        add_row(table, str(row["convention"]), str(row["what"]), str(row["amount"]), *numbers)
    return table


def conventions_document(counts: Mapping[str, Count], *, layers: bool = False) -> dict[str, object]:
    """Return the JSON document: that of the default, and every convention's figures.

    Args:
        counts: The count in each convention, by name; the first is the default's.
        layers: Whether the default's layers are listed too.

    Example:
        >>> from convscale.complexity.complexity import Count
        >>> counts = {"default": Count(6, 3, 2, "net", 8), "torch": Count(12, 3, 2, "net", 8)}
        >>> conventions_document(counts)["conventions"]["torch"]["adds"]
        [{'what': 'a multiply-add', 'amount': '2 flops', 'flops': 6, 'acts': 0}]
    """
    first = next(iter(counts.values()))
    rows = _rows(counts)
    every = {
        name: {
            **count.as_dict(),
            "adds": [
                {key: value for key, value in row.items() if key != "convention"}
                for row in rows
                if row["convention"] == name
            ],
        }
        for name, count in counts.items()
    }
    return {**first.as_document(layers=layers), "conventions": every}


def _rows(counts: Mapping[str, Count]) -> list[dict[str, str | int]]:
    """Return what each convention adds to the first, as they come, met or not."""
    from convscale.complexity.conventions import CONVENTIONS

    base = next(iter(counts.values())).flops
    rows: list[dict[str, str | int]] = []
    for name, count in counts.items():
        times = CONVENTIONS[name].flops_per_multiply_add
        if times != 1:
            more = {"flops": (times - 1) * base, "acts": 0}
            rows.append(
                {"convention": name, "what": "a multiply-add", "amount": f"{times} flops", **more}
            )
        met = {edge.what: (edge.flops, edge.acts) for edge in count.edges}
        for edge in CONVENTIONS[name].edges:
            flops, acts = met.get(edge.what, (0, 0))
            about = {"convention": name, "what": edge.what, "amount": edge.amount}
            rows.append({**about, "flops": flops, "acts": acts})
    return rows
