"""Views of a forward pass for the terminal: what its parts cost, and what they move."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table

from convscale.complexity.complexity import METRICS
from convscale.quantities import format_count
from convscale.report.layout import Widest, add_row, noted, table_of, titled

if TYPE_CHECKING:
    from convscale.complexity.views import Operators, Part

_TITLES = {"stage": "By stage", "kind": "By kind of operator", "layer": "By layer"}


def view_table(found: Operators, view: str) -> RenderableType:
    """Show a view of a forward pass: its parts, what each costs and moves, and the total.

    Args:
        found: The operators.
        view: total, layer, stage, kind or operator.

    Example:
        >>> from convscale.complexity.calls import OperatorCall
        >>> from convscale.complexity.views import Operators
        >>> from convscale.report.layout import plain_lines
        >>> call = OperatorCall("0", "aten.relu", "activation", bytes_read=64, bytes_written=64)
        >>> plain_lines(view_table(Operators("net", 8, calls=(call,)), "kind"))[2]
        'activation 1 0 – 0 – 0 – 128 0 0.00'
    """
    if view == "total":
        return Group(moved_table(found), *noted(found.notes))
    if view == "operator":
        both = Widest(_calls_table(found, wide=True), _calls_table(found, wide=False))
        return Group(titled(f"Operators, {conditions(found)}", both), *noted(found.notes))
    parts, total = found.by(view), found.total
    both = Widest(_wide(view, parts, total), _narrow(view, parts, total))
    title = f"{_TITLES[view]}, {conditions(found)}"
    return Group(titled(title, both), *noted(found.notes))


def conditions(found: Operators) -> str:
    """Say for what a view holds.

    Example:
        >>> from convscale.complexity.views import Operators
        >>> conditions(Operators("net", 8, batch_size=4))
        'one forward pass of 4 images in float32'
    """
    images = "1 image" if found.batch_size == 1 else f"{found.batch_size} images"
    return f"one forward pass of {images} in {found.dtype}"


def moved_table(found: Operators) -> RenderableType:
    """Show the bytes that a whole forward pass moves, and its arithmetic intensity.

    Example:
        >>> from convscale.complexity.calls import OperatorCall
        >>> from convscale.complexity.views import Operators
        >>> from convscale.report.layout import plain_lines
        >>> call = OperatorCall("0", "aten.relu", "activation", bytes_read=64, bytes_written=64)
        >>> plain_lines(moved_table(Operators("net", 8, calls=(call,))))[2]
        'bytes read 64 64'
    """
    table, total = table_of("", "value<", "short<"), found.total
    for name, value in (
        ("bytes read", total.bytes_read),
        ("of them weights", total.weight_bytes),
        ("bytes written", total.bytes_written),
    ):
        add_row(table, name, f"{value:,}", format_count(value))
    intensity = total.flops_per_byte
    add_row(table, "flops/byte", "–" if intensity is None else f"{intensity:.4g}", "")
    return titled(f"Moved, {conditions(found)}", table)


def _narrow(view: str, parts: Sequence[Part], total: Part) -> Table:
    """Leave out the shares; and the number of calls where names of layers need the room."""
    counted = () if view == "layer" else ("calls<",)
    table = table_of(view, *counted, *(f"{m}<" for m in METRICS), "bytes<", "flops/byte<")
    for part in (*parts, total):
        values = (part.flops, part.params, part.acts, part.bytes_moved)
        _close(table, part, total)
        cells = [format_count(value) for value in values]
        calls = [str(part.calls)] if counted else []
        add_row(table, _name(part, total), *calls, *cells, _intensity(part))
    return table


def _wide(view: str, parts: Sequence[Part], total: Part) -> Table:
    heads = (head for metric in METRICS for head in (f"{metric}<", "%<"))
    table = table_of(view, "calls<", *heads, "bytes<", "weights<", "flops/byte<")
    for part in (*parts, total):
        cells = []
        for metric in METRICS:
            value, whole = getattr(part, metric), getattr(total, metric)
            cells += [format_count(value), f"{100 * value / whole:.1f}" if whole else "–"]
        moved = (format_count(part.bytes_moved), format_count(part.weight_bytes))
        _close(table, part, total)
        add_row(table, _name(part, total), str(part.calls), *cells, *moved, _intensity(part))
    return table


def _close(table: Table, part: Part, total: Part) -> None:
    if part is total and table.row_count:
        table.add_section()


def _name(part: Part, total: Part) -> str:
    return "total" if part is total else part.name or "the network itself"


def _intensity(part: Part) -> str:
    value = part.flops_per_byte
    return "–" if value is None else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _calls_table(found: Operators, *, wide: bool) -> Table:
    """Show a line a call; where the window is narrow without its output and its params."""
    metrics = [metric for metric in METRICS if wide or metric != "params"]
    output = ("output",) if wide else ()
    table = table_of("path", "kind", *output, *(f"{m}<" for m in metrics), "bytes<", "flops/byte<")
    for call, part in zip(found.calls, found.by("operator"), strict=True):
        first = next(iter(call.output_shapes), ())
        shape = ["x".join(map(str, first))] if wide else []
        values = (*(getattr(call, metric) for metric in metrics), call.bytes_moved)
        cells = (format_count(value) for value in values)
        path = call.path or "the network itself"
        add_row(table, path, call.kind, *shape, *cells, _intensity(part))
    return table
