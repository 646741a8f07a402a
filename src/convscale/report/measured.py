"""A measurement for the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from convscale.quantities import format_bytes, format_resolution
from convscale.report.layout import add_row, noted, plain_lines, table_of, titled
from convscale.report.sentences import conditions_text
from convscale.runtime.spread import Spread, format_ms

if TYPE_CHECKING:
    from convscale.runtime import Measurement

__all__ = ["measurement_table", "plain_lines"]


def measurement_table(measurement: Measurement) -> RenderableType:
    """Show the times of a network, their spread and the conditions.

    Example:
        >>> from convscale.runtime import Conditions, Measurement
        >>> here = Conditions("cpu", "x86_64", 8, "float32", 2, "contiguous", "2.6.0")
        >>> measured = Measurement("net", 224, 1, "inference", here, wall_s=(0.02, 0.03))
        >>> plain_lines(measurement_table(measured))[:3]
        ['net at 224 px, batch size 1, inference', 'median interquartile range 95 % interval',
        'latency (ms) 25.0 5.00 –']
    """
    m = measurement
    table = table_of("", "median<", "interquartile range<", "95 % interval<")
    for name, times in _times(m):
        add_row(table, f"{name} (ms)", *_cells(times))
    title = f"{m.network} at {format_resolution(m.resolution)} px, batch size {m.batch_size}"
    return Group(
        titled(f"{title}, {m.mode}", table),
        Text(_totals(m)),
        Text(conditions_text(m.conditions, batch_size=m.batch_size)),
        *noted(m.notes),
    )


def _times(m: Measurement) -> Iterator[tuple[str, Spread]]:
    """Yield each kind of time, and after it those of the parts of a pass."""
    yield "latency", m.latency_ms
    for part in m.parts:
        yield f"  {part.name}", part.latency_ms
    if m.device_ms is not None:
        yield "device time", m.device_ms
    if m.processor_ms is not None:
        yield "processor time", m.processor_ms
    for part in m.parts:
        if part.processor_ms is not None:
            yield f"  {part.name}", part.processor_ms


def _cells(times: Spread) -> tuple[str, str, str]:
    ends = times.interval
    interval = f"{format_ms(ends.low)}–{format_ms(ends.high)}" if ends else "–"
    return format_ms(times.median), format_ms(times.iqr), interval


def _totals(m: Measurement) -> str:
    parts = [f"{m.images_per_second:.4g} images a second"]
    if m.peak_memory_bytes is not None:
        parts.append(f"peak memory {format_bytes(m.peak_memory_bytes)}")
    if m.process_memory_bytes is not None:
        parts.append(f"peak of the process {format_bytes(m.process_memory_bytes)}")
    if m.energy_joules_per_image is not None:
        parts.append(f"{m.energy_joules_per_image:.3g} J an image")
    if m.conditions.compile_s is not None:
        parts.append(f"compiled in {m.conditions.compile_s:.3g} s")
    repeats = f"{m.latency_ms.repeats} repeats, ended by the {_REASONS[m.stopped_by]}"
    if m.precision is not None:
        repeats += f": median of the {m.timings.decisive} within {100 * m.precision:.2g} %"
    return f"{', '.join(parts)}. {repeats}."


_REASONS = {
    "precision": "precision",
    "time limit": "time limit",
    "repeats": "number asked for",
}
