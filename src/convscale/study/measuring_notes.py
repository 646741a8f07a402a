"""What there is to mind about finalists that were measured, in sentences. No torch here."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

import numpy as np

from convscale.errors import BudgetError, ConvscaleError, InputError
from convscale.quantities import format_ms
from convscale.runtime import (
    Failure,
    Interval,
    Measurement,
)
from convscale.selection.constraints import Constraint
from convscale.study.costed import PREDICTED
from convscale.study.measured import Finalist

_FASTER = 0.8  # measured over predicted, below which larger networks are likely to fit


def measuring_notes(
    batch: Sequence[Finalist],
    limits: Sequence[Constraint],
    elsewhere: str | None,
    skipped: Sequence[str],
    ratio: float,
    rounds: int,
) -> Iterator[str]:
    """Say what makes the measurements, or the choice by them, less certain.

    Args:
        batch: The finalists.
        limits: The constraints.
        elsewhere: What is to be said of a profile of another device.
        skipped: What could not be built, and why.
        ratio: By what predictions were multiplied.
        rounds: The rounds that were asked for.

    Example:
        >>> callable(measuring_notes)
        True
    """
    if elsewhere is not None:
        yield elsewhere
    if ratio > 1:
        yield (
            f"No finalist kept the limits at first: predictions were taken as {ratio:.3g} times as "
            "long, as measured, and the next ones were measured."
        )
    elif ratio < 1:
        yield (
            f"Predictions were taken as {ratio:.3g} times as long, so that what seemed too slow "
            "was measured too."
        )
    yield from _skipped(skipped)
    failed = [one.outcome.failed for one in batch if isinstance(one.outcome, Failure)]
    yield from failed
    ran = [one.outcome for one in batch if isinstance(one.outcome, Measurement)]
    done = ran[0].conditions.rounds
    if done < rounds:
        yield f"Stopped after {done} of {rounds} rounds: the time limit was reached."
    wide = sum(one.latency_ms.wide for one in ran)
    if wide:
        yield (
            f"{wide} of {len(ran)} latencies have an interquartile range above a fifth of their "
            "median. Other work may be running: measure again on a quiet machine."
        )
    contended = sum(one.contended for one in ran)
    if contended:
        yield (
            f"{contended} of {len(ran)} networks waited for others for much of their time: the "
            "machine is shared, and wall times are longer than they would be alone."
        )
    yield from _room(batch, limits, min(ratio, 1.0))


def _room(batch: Sequence[Finalist], limits: Sequence[Constraint], by: float) -> Iterator[str]:
    """Say where all finalists are far faster than predicted, so that larger ones may fit."""
    ratio = ratio_of(batch)
    if ratio is not None and ratio < _FASTER * by and any(one.on in PREDICTED for one in limits):
        yield (
            f"The finalists take {100 * ratio:.0f} % of what was predicted, so that larger "
            "networks may fit here: calibrate a profile of this machine, or raise the limit."
        )


def doubts_of(
    chosen: Finalist, batch: Sequence[Finalist], limits: Sequence[Constraint]
) -> Iterator[str]:
    """Say where the spread of measurements is wider than what the choice rests on.

    Args:
        chosen: The one that was chosen.
        batch: All that were measured with it.
        limits: The constraints.

    Example:
        >>> callable(doubts_of)
        True
    """
    own = chosen.outcome
    assert isinstance(own, Measurement)
    times = own.latency_ms
    name = chosen.entry.network
    rate = 1e3 * own.batch_size / (times.median + times.iqr)
    held = {"latency_ms": times.median + times.iqr, "images_per_second": rate}
    for one in limits:
        if one.on in held and float(one.excess(np.array([held[one.on]]))[0]) > 0:
            yield (
                f"{name} lies nearer to the limit of the {one.metric.title} than its interquartile "
                f"range ({format_ms(times.iqr)}), so that it may miss it."
            )
    alike = [
        one.entry.network
        for one in batch
        if one is not chosen and isinstance(one.outcome, Measurement)
        if _overlap(times.interval, one.outcome.latency_ms.interval)
    ]
    if alike:
        yield (
            f"The latency of {name} cannot be told from that of {_joined(alike)}: their 95 % "
            "intervals overlap."
        )


def _overlap(one: Interval | None, other: Interval | None) -> bool:
    return one is not None and other is not None and one.low <= other.high and other.low <= one.high


def _joined(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _skipped(skipped: Sequence[str]) -> Iterator[str]:
    if skipped:
        many = "candidate" if len(skipped) == 1 else "candidates"
        yield f"{len(skipped)} {many} could not be built and measured. {skipped[0]}"


def ratio_of(batch: Sequence[Finalist]) -> float | None:
    """Return by what measured latencies are longer than predicted ones; None if nothing ran.

    Example:
        >>> ratio_of([]) is None
        True
    """
    known = [one.ratio for one in batch if one.ratio is not None]
    return statistics.median(known) if known else None


def none_fits(
    done: Sequence[Finalist], skipped: Sequence[str], limits: Sequence[Constraint]
) -> ConvscaleError:
    """Return the error that says which finalist comes nearest, or that none ran.

    Example:
        >>> none_fits([], ["mynet: There is no such network."], []).line
        'None of the best candidates can be run here. mynet: There is no such network.'
    """
    ran = [one for one in done if one.measured_ms is not None]
    if not ran:
        failed = [one.outcome.failed for one in done if isinstance(one.outcome, Failure)]
        why = [*failed, *skipped]
        return InputError(f"None of the best candidates can be run here. {why[0] if why else ''}")
    near = min(ran, key=lambda one: _worst(one, limits))
    asked = " and ".join(one.sentence for one in limits if one.on in PREDICTED)
    said = (
        f"None of the {len(ran)} finalists that were measured keeps {asked}."
        if len(ran) > 1
        else f"The finalist that was measured does not keep {asked}."
    )
    return BudgetError(
        f"{said} The nearest is {near.entry.network}: {'; '.join(near.missed)}. Raise the limit, "
        "or let smaller networks be candidates."
    )


def _worst(one: Finalist, limits: Sequence[Constraint]) -> float:
    """Return by what share of its limit a finalist misses the worst."""
    assert isinstance(one.outcome, Measurement)
    held = {
        "latency_ms": one.outcome.latency_ms.median,
        "images_per_second": one.outcome.images_per_second,
    }
    return max(
        float(limit.relative(np.array([held[limit.on]]))[0]) for limit in limits if limit.on in held
    )
