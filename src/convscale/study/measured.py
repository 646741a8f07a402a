"""Finalists with what was measured of them, as a value and document. No torch here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from convscale.quantities import format_ms
from convscale.runtime.measurement import Conditions, Failure, Measurement, Outcome

if TYPE_CHECKING:
    from convscale.study.zoo_selection import Entry


@dataclass(frozen=True)
class Finalist:
    """A candidate that was measured, or could not be.

    Args:
        entry: The candidate.
        error: Its error, as it is shown.
        predicted_ms: Its latency as it was predicted, or as the table tells it.
        outcome: The measurement, or why there is none.
        missed: The limits of times that it misses as measured.

    Example:
        >>> Finalist.__name__
        'Finalist'
    """

    entry: Entry
    error: str
    predicted_ms: float | None
    outcome: Outcome
    missed: tuple[str, ...] = ()

    @property
    def measured_ms(self) -> float | None:
        """The measured median; None where it could not be run."""
        own = self.outcome
        return own.latency_ms.median if isinstance(own, Measurement) else None

    @property
    def fits(self) -> bool:
        """Whether it ran, and keeps all limits of times."""
        return isinstance(self.outcome, Measurement) and not self.missed

    @property
    def ratio(self) -> float | None:
        """The measured latency over the predicted one."""
        if self.measured_ms is None or self.predicted_ms is None:
            return None
        return self.measured_ms / self.predicted_ms

    def as_document(self) -> dict[str, object]:
        """Return what the JSON document says of it."""
        own = self.outcome
        ran = own if isinstance(own, Measurement) else None
        processor = None if ran is None else ran.processor_ms
        return {
            "network": self.entry.network,
            "resolution": self.entry.resolution,
            "line": self.entry.line,
            "predicted_ms": self.predicted_ms,
            "latency_ms": None if ran is None else ran.latency_ms.as_document(),
            "processor_ms": None if processor is None else processor.as_document(),
            "images_per_second": None if ran is None else ran.images_per_second,
            "ratio": self.ratio,
            "peak_memory_bytes": None if ran is None else ran.peak_memory_bytes,
            "fits": self.fits,
            "misses": list(self.missed),
            "failed": own.failed if isinstance(own, Failure) else None,
        }


@dataclass(frozen=True)
class Borrowed:
    """What is said of a profile that stands in for one of this machine.

    Args:
        profile: Its name.
        ratio: By what its times were multiplied.
        note: What there is to mind.

    Example:
        >>> Borrowed("rtx3090-amp-nchw", 2.5, "").ratio
        2.5
    """

    profile: str
    ratio: float
    note: str


def borrowed_document(own: Borrowed | None) -> dict[str, object]:
    """Return what the JSON document says of a borrowed profile: nothing without one.

    Example:
        >>> borrowed_document(Borrowed("a", 2.0, ""))
        {'borrowed': {'profile': 'a', 'ratio': 2.0}}
    """
    return {} if own is None else {"borrowed": {"profile": own.profile, "ratio": own.ratio}}


@dataclass(frozen=True)
class Measured:
    """What was measured, and what it decided.

    Args:
        finalists: All that were measured, in the order in which they were taken.
        chosen: The place of the chosen one among them.
        first: The place of the one that would have been chosen without measuring.
        at: The place of the chosen one among the candidates.
        conditions: Of the measurements.
        batch_size: Images in a pass.
        ratio: By what predictions were corrected when the chosen one was looked for; 1 at first.
        notes: What there is to mind.
        borrowed: The profile of another device by which finalists were looked for, where none was
            given, and by what its times were multiplied.

    Example:
        >>> Measured.__name__
        'Measured'
    """

    finalists: tuple[Finalist, ...]
    chosen: int
    first: int
    at: int
    conditions: Conditions
    batch_size: int
    ratio: float = 1.0
    notes: tuple[str, ...] = ()
    borrowed: Borrowed | None = None

    @property
    def swapped(self) -> tuple[int, int]:
        """How many pairs of finalists are in another order than predicted, and of how many."""
        return swapped_pairs(self.finalists)

    def as_document(self) -> dict[str, object]:
        """Return what the JSON document says of it."""
        swapped, pairs = self.swapped
        return {
            "chosen": self.finalists[self.chosen].entry.network,
            "by_prediction": self.finalists[self.first].entry.network,
            "changed": self.chosen != self.first,
            "order_changed": swapped > 0,
            "pairs_swapped": swapped,
            "pairs": pairs,
            "corrected_by": self.ratio,
            **borrowed_document(self.borrowed),
            "batch_size": self.batch_size,
            "conditions": self.conditions.as_document(),
            "finalists": [one.as_document() for one in self.finalists],
            "notes": list(self.notes),
        }


def swapped_pairs(finalists: Sequence[Finalist]) -> tuple[int, int]:
    """Return how many pairs have measured and predicted latencies in opposite orders.

    Returns:
        Their number, and that of all pairs with both latencies.

    Example:
        >>> swapped_pairs([])
        (0, 0)
    """
    known = [
        (one.predicted_ms, one.measured_ms)
        for one in finalists
        if one.predicted_ms is not None and one.measured_ms is not None
    ]
    signs = [(a[0] - b[0]) * (a[1] - b[1]) for a, b in combinations(known, 2)]
    return sum(sign < 0 for sign in signs), len(signs)


def measured_reason(found: Measured) -> str:
    """Return why a network was chosen by what was measured, in sentences.

    Example:
        >>> measured_reason.__name__
        'measured_reason'
    """
    return " ".join(_sentences(found))


def _sentences(found: Measured) -> Iterator[str]:
    chosen, first = found.finalists[found.chosen], found.finalists[found.first]
    where = f"{found.conditions.device} ({found.conditions.hardware})"
    fit = sum(one.fits for one in found.finalists)
    many = "finalist was" if len(found.finalists) == 1 else "finalists were"
    yield (
        f"{len(found.finalists)} {many} measured on {where}, batch size {found.batch_size}: {fit} "
        f"{'keeps' if fit == 1 else 'keep'} all limits as measured. Of these "
        f"{chosen.entry.network} is chosen: {chosen.error} at {times_text(chosen)}."
    )
    if found.chosen == found.first:
        yield "It would have been chosen by prediction, too."
    else:
        own = first.outcome.failed or "; ".join(first.missed)
        why = own or f"{first.error} at {times_text(first)}"
        yield f"By prediction {first.entry.network} would have been chosen: {why.rstrip('.')}."
    swapped, pairs = found.swapped
    if pairs:
        order = f"{swapped} of {pairs} pairs are the other way round" if swapped else "as predicted"
        yield f"Their order by latency: {order}."


def times_text(one: Finalist) -> str:
    """Write the measured latency of a finalist with its spread, beside the predicted one.

    Example:
        >>> times_text.__name__
        'times_text'
    """
    own = one.outcome
    assert isinstance(own, Measurement)
    told = "" if one.predicted_ms is None else f", predicted {format_ms(one.predicted_ms)}"
    spread = own.latency_ms
    return f"latency {format_ms(spread.median)} (interquartile range {format_ms(spread.iqr)}{told})"
