"""What a comparison says, in sentences and short numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convscale.quantities import format_count
from convscale.runtime.spread import format_ms
from convscale.selection import Candidate, Choice, best_predictor
from convscale.strategy.registry import is_entry

if TYPE_CHECKING:
    from convscale.runtime.measurement import Conditions
    from convscale.runtime.spread import Spread
    from convscale.study import Comparison

# Correlations this near to each other do not tell two metrics apart.
_CLOSE = 0.005


def format_spread(spread: Spread | None) -> str:
    """Write a median and its interquartile range; a dash where not measured.

    Example:
        >>> from convscale.runtime.spread import Spread
        >>> format_spread(Spread(61.27, 1.34, 15)), format_spread(None)
        ('61.3 ± 1.3', '–')
    """
    return "–" if spread is None else f"{format_ms(spread.median)} {format_iqr(spread)}"


def format_iqr(spread: Spread) -> str:
    """Write an interquartile range, to two digits as is usual for an uncertainty.

    Example:
        >>> from convscale.runtime.spread import Spread
        >>> format_iqr(Spread(61.27, 1.34, 15))
        '± 1.3'
    """
    return f"± {format_ms(spread.iqr, digits=2)}"


def format_ratio(value: float | None) -> str:
    """Write a ratio to the base, with two digits at least; a dash where there is none.

    Example:
        >>> format_ratio(2.0312), format_ratio(0.00438), format_ratio(1829.4), format_ratio(None)
        ('2.03x', '0.0044x', '1829x', '–')
    """
    if value is None:
        return "–"
    if value >= 1000:
        return f"{value:.0f}x"
    return f"{value:.2f}x" if value >= 0.1 or value == 0 else f"{value:.2g}x"


def format_r(value: float | None) -> str:
    """Write a correlation to three decimals; a dash where there is none.

    Example:
        >>> format_r(0.98765), format_r(None)
        ('0.988', '–')
    """
    return "–" if value is None else f"{value:.3f}"


def scaling_label(row: Candidate) -> str:
    """Name a row within its base network's rows.

    Example:
        >>> from convscale.study import Row
        >>> scaling_label(Row("net", "dWr", 4.0, 224, 1, 1, 1))
        'dWr at 4x'
    """
    return "base" if row.strategy is None else scaled_by(row.strategy, row.factor)


def scaled_by(strategy: str, factor: float) -> str:
    """Name how a network is scaled; an entry of a table has factors of its own.

    Example:
        >>> scaled_by("w", 2.0), scaled_by("efficientnet-table@b3", 3.61607)
        ('w at 2x', 'efficientnet-table@b3')
    """
    return strategy if is_entry(strategy) else f"{strategy} at {factor:g}x"


def recommendation_sentence(choice: Choice) -> str:
    """Say in one sentence which network to build inside the budget.

    Example:
        >>> recommendation_sentence(Choice("net", None, budget_ms=8.0, reason="Nothing fits."))
        'No scaled network of net fits 8.00 ms.'
    """
    budget = format_ms(choice.budget_ms)
    row = choice.row
    if row is None:
        return f"No scaled network of {choice.network} fits {budget} ms."
    took = "" if row.latency is None else f" in {format_ms(row.latency.median)} ms"
    return (
        f"Within {budget} ms, build {choice.network} scaled by {scaling_label(row)}: "
        f"{format_count(row.flops)} flops{took}."
    )


def recommendation_text(choice: Choice) -> str:
    """Say which network to build inside the budget, and why it and not another.

    Example:
        >>> recommendation_text(Choice("net", None, budget_ms=8.0, reason="d takes 9.00 ms."))
        'No scaled network of net fits 8.00 ms. d takes 9.00 ms.'
    """
    return f"{recommendation_sentence(choice)} {choice.reason}"


def notes_of(comparison: Comparison) -> list[str]:
    """Return the notes of the comparison and of its rows, each once with those it is on.

    Example:
        >>> from convscale.study import Comparison, Row
        >>> rows = [Row("net", s, 2.0, 8, 1, 1, 1, notes=("A stage stays.",)) for s in ("d", "w")]
        >>> notes_of(Comparison(tuple(rows), notes=("One strategy is left out.",)))
        ['One strategy is left out.', 'net (d at 2x, w at 2x): A stage stays.']
    """
    noted: dict[str, dict[str, list[str]]] = {}
    for row in comparison.rows:
        for note in row.notes:
            noted.setdefault(note, {}).setdefault(row.network, []).append(scaling_label(row))
    own = [
        f"{', '.join(_among(network, labels) for network, labels in named.items())}: {note}"
        for note, named in noted.items()
    ]
    return [*comparison.notes, *own]


def _among(network: str, labels: list[str]) -> str:
    return network if labels == ["base"] else f"{network} ({', '.join(labels)})"


def prediction_sentence(comparison: Comparison) -> str:
    """Say which of the three metrics predicts the measured latency best.

    Example:
        >>> from convscale.study import Comparison
        >>> prediction_sentence(Comparison(()))
        'Latency is not measured, so that no metric can be compared with it.'
    """
    if not comparison.measured:
        return "Latency is not measured, so that no metric can be compared with it."
    known = {metric: r for metric, r in comparison.correlation.items() if r is not None}
    best = best_predictor(known)
    if best is None:
        return "No correlation is known: it takes three networks of different sizes."
    others = sorted(known.keys() - {best}, key=lambda metric: (-known[metric], metric))
    timed = sum(row.latency is not None for row in comparison.rows)
    rest = "".join(f"; {metric} {known[metric]:.3f}" for metric in others)
    lead = f"Over the {timed} networks measured here, {best} predict latency best"
    close = [metric for metric in others if known[best] - known[metric] < _CLOSE]
    caveat = f", with {' and '.join(close)} within {_CLOSE:g} of it" if close else ""
    return f"{lead} (r = {known[best]:.3f}{rest}){caveat}."


def conditions_text(conditions: Conditions, *, batch_size: int) -> str:
    """Describe the conditions of a measurement in one line.

    Example:
        >>> from convscale.runtime.measurement import Conditions
        >>> here = Conditions("cpu", "x86_64", 8, "float32", 2, "contiguous", "2.6.0", rounds=15)
        >>> print(conditions_text(here, batch_size=1))
        Measured on cpu (x86_64), 2 threads on 8 processors, batch size 1, float32, contiguous,
        15 rounds, torch 2.6.0.
    """
    c = conditions
    many = c.interleaved_networks > 1
    parts = [
        f"{c.device} ({c.hardware})",
        f"{_counted(c.threads, 'thread')} on {_counted(c.processors, 'processor')}",
        f"batch size {batch_size}",
        *_computed(c),
        _counted(c.rounds, "round")
        + (f" of {c.interleaved_networks} networks interleaved" if many else ""),
        f"torch {c.torch}",
    ]
    if c.timm:
        parts.append(f"timm {c.timm}")
    if c.load_average is not None:
        after = "" if c.load_average_after is None else f", {c.load_average_after:g} at the end"
        parts.append(f"load average {c.load_average:g} at the start{after}")
    return f"Measured on {', '.join(parts)}."


def _computed(c: Conditions) -> list[str]:
    """Say in what the network computes, and by what."""
    parts = [f"{c.dtype} under autocast" if c.autocast else c.dtype, c.memory_format]
    if c.compiled:
        parts.append("compiled")
    if c.backend != "pytorch":
        parts.append(" ".join([c.backend, c.versions.get(c.backend, "")]).strip())
    if c.optimizer:
        parts.append(f"optimizer {c.optimizer}")
    if c.isolated:
        parts.append("in a process of its own")
    return parts


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
