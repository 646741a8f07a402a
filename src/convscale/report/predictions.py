"""Predictions as tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from convscale.quantities import format_count, format_ms, format_resolution
from convscale.report.layout import Widest, add_row, noted, table_of, titled

if TYPE_CHECKING:
    from convscale.prediction.prediction import Prediction
    from convscale.prediction.profile import Profile

_MOST = 6  # kinds with columns of their own


def predictions_table(found: Sequence[Prediction], profile: Profile) -> RenderableType:
    """Show predicted times with their intervals, what they consist of, and what to mind.

    Args:
        found: The predictions, all by one profile.
        profile: The profile.

    Example:
        >>> from convscale.report.profiles import execution_text
        >>> execution_text.__name__
        'execution_text'
    """
    from convscale.report.profiles import execution_text

    first = found[0]
    images = "1 image" if first.batch_size == 1 else f"{first.batch_size} images"
    title = f"{first.execution.work.capitalize()} of {images} by {first.profile}"
    table = table_of("network", "px<", "ms<", f"{100 * first.coverage:g} % interval<", "images/s<")
    for entry in found:
        low, high = entry.interval_ms
        add_row(
            table,
            entry.network,
            "" if entry.resolution is None else format_resolution(entry.resolution),
            _ms(entry.latency_ms),
            f"{_ms(low)}–{_ms(high)}",
            format_count(entry.images_per_second),
        )
    parts: list[RenderableType] = [titled(title, table), titled("Share of time (%)", _kinds(found))]
    parts += [Text(f"{profile.device}: {execution_text(profile.execution)}.")]
    return Group(*parts, *noted(_notes(found)))


def _ms(value: float) -> str:
    return f"{value:.4g}" if value < 1e4 else f"{value:.0f}"


def _kinds(found: Sequence[Prediction]) -> RenderableType:
    """Show a line a kind and a column a network; where the window is narrow, a line a network."""
    kinds: dict[str, float] = {}
    for entry in found:
        for kind, share in entry.shares.items():
            kinds[kind] = max(kinds.get(kind, 0.0), share)
    order = sorted(kinds, key=lambda kind: -kinds[kind])
    by_kind = table_of("kind of operator", *(f"{entry.network}<" for entry in found))
    for kind in order:
        add_row(by_kind, kind, *(_pct(entry.shares.get(kind)) for entry in found))
    if len(found) == 1:
        return by_kind
    return Widest(by_kind, _by_network(found, order[:_MOST]))


def _by_network(found: Sequence[Prediction], kinds: Sequence[str]) -> Table:
    table = table_of("network", "where the time goes")
    for entry in found:
        own = [(kind, entry.shares[kind]) for kind in kinds if kind in entry.shares]
        told = ", ".join(f"{kind} {_pct(share)}" for kind, share in own)
        add_row(table, entry.network, told)
    return table


def _pct(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"


def _notes(found: Sequence[Prediction]) -> list[str]:
    """Return all notes; those of single networks with their names where there are several."""
    if len(found) == 1:
        return list(found[0].notes)
    every = [note for note in found[0].notes if all(note in entry.notes for entry in found)]
    single = [
        f"{entry.network}: {note}" for entry in found for note in entry.notes if note not in every
    ]
    return [*every, *single]


def latency_sentence(latency: Prediction) -> str:
    """Say what a scaled network is predicted to take.

    Example:
        >>> from convscale.prediction.form import Execution
        >>> from convscale.prediction.prediction import Prediction
        >>> execution = Execution("gpu", "nchw", "eager", "inference", "amp")
        >>> latency_sentence(Prediction("n", 224, 8, "mine", execution, 8.0, (7.1, 9.0), 0.9))
        'Predicted by mine at batch size 8: 8.00 ms, 90 % interval 7.10 ms to 9.00 ms.'
    """
    low, high = (format_ms(value) for value in latency.interval_ms)
    return (
        f"Predicted by {latency.profile} at batch size {latency.batch_size}: "
        f"{format_ms(latency.latency_ms)}, {100 * latency.coverage:g} % interval {low} to {high}."
    )
