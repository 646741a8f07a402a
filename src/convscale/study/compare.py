"""Scale networks by strategies and factors, count them, and measure them if asked."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from convscale.errors import InputError
from convscale.quantities import Resolution
from convscale.runtime import (
    Failure,
    Limits,
    Measurement,
    Outcome,
    Setting,
    check_setting,
    measure_together,
)
from convscale.strategy import Strategy
from convscale.study.comparison import Comparison, Row
from convscale.study.trials import Progress, Trial, plan_of, scale_all

if TYPE_CHECKING:
    from convscale.network import NetworkLike
    from convscale.prediction.store import ProfileLike
    from convscale.scaling.latency import Timing


def compare(
    networks: Sequence[NetworkLike],
    *,
    strategies: Sequence[str | Strategy],
    factors: Sequence[float],
    resolution: Resolution | None = None,
    measure: bool = False,
    batch_size: int = 1,
    device: str = "cpu",
    threads: int | None = None,
    rounds: int = 15,
    time_limit_s: float = 75.0,
    progress: Progress | None = None,
    num_classes: int | None = None,
    in_chans: int | None = None,
    seed: int = 0,
    profile: ProfileLike | None = None,
) -> Comparison:
    """Compare strategies and factors on networks by flops, params, acts and latency.

    Args:
        networks: Names or modules; what stands twice is compared once.
        strategies: Names or strategies.
        factors: Scale factors s of the flops.
        resolution: The base networks' input side in px; by default their own.
        measure: Whether to measure latencies, all networks interleaved.
        batch_size: Images in one forward pass that is measured or predicted.
        device: cpu, cuda, cuda:1 or mps.
        threads: Threads of the processor; one by default, which repeats best.
        rounds: Timed passes of each network; twelve times as many of one below 50 ms.
        time_limit_s: Stop measuring after this time, but not before three rounds.
        progress: Called with steps done and steps in all: a network scaled is a step, and
            so is each forward pass.
        num_classes: Classes of networks made from a name.
        in_chans: Input channels of networks made from a name.
        seed: For the weights, the inputs and the order of the measurements.
        profile: The name, the file or the value of a profile that predicts latencies.

    Returns:
        For each network a base row and a row a strategy and factor. A combination that
        cannot be scaled is left out and named in the notes.

    Raises:
        InputError: If a list is empty or a value cannot be used.
        UnscalableNetworkError: If no combination can be scaled.

    Example:
        >>> found = compare(["resnet18"], strategies=["w", "dWr"], factors=[2.0], resolution=64)
        >>> [(row.strategy, row.factor) for row in found.rows]
        [(None, 1.0), ('w', 2.0), ('dWr', 2.0)]
    """
    timing = _timing(profile, batch_size)
    if measure:
        # Refuse what cannot be measured before minutes are spent on scaling.
        check_setting(Setting(batch_size=batch_size, device=device, threads=threads))
        Limits(rounds, time_limit_s=time_limit_s)
    plan = plan_of(
        networks,
        strategies=strategies,
        factors=factors,
        resolution=resolution,
        weights=measure,
        seed=seed,
        options={"num_classes": num_classes, "in_chans": in_chans},
        timing=timing,
    )
    steps = _Steps(progress or _silent, total=plan.size * (1 + (rounds if measure else 0)))
    notes = scale_all(plan, steps.built)
    trials = steps.trials
    counted = Comparison(tuple(trial.row for trial in trials), plan.strategies, notes=notes)
    if not measure:
        return counted
    measured = measure_together(
        [trial.subject for trial in trials if trial.subject is not None],
        batch_size=batch_size,
        device=device,
        threads=threads,
        rounds=rounds,
        time_limit_s=time_limit_s,
        progress=steps.measuring,
        seed=seed,
    )
    return _with_times(counted, measured, asked=rounds)


def _timing(profile: ProfileLike | None, batch_size: int) -> Timing | None:
    from convscale.scaling.latency import timing_of

    return None if profile is None else timing_of(profile, None, batch_size)


@dataclass
class _Steps:
    """Scaling and measuring as one row of steps for the progress callback."""

    report: Progress
    total: int
    done: int = 0
    trials: list[Trial] = field(default_factory=list)

    def built(self, trial: Trial | None) -> None:
        """Keep and report one more network."""
        if trial is not None:
            self.trials.append(trial)
        self.done += 1
        self.report(self.done, self.total)

    def measuring(self, done: int, total: int) -> None:
        """Report passes as steps after those of building."""
        self.report(self.done + done, self.done + total)


def _silent(done: int, total: int) -> None:
    """Report nothing."""


def _with_times(counted: Comparison, outcomes: Sequence[Outcome], *, asked: int) -> Comparison:
    """Add to each row the times of the measurement in its place; say what could not run."""
    measured = [found for found in outcomes if isinstance(found, Measurement)]
    failed = [found.failed for found in outcomes if isinstance(found, Failure)]
    if not measured:
        raise InputError(failed[0])
    return replace(
        counted,
        rows=tuple(_timed(row, found) for row, found in zip(counted.rows, outcomes, strict=True)),
        conditions=measured[0].conditions,
        batch_size=measured[0].batch_size,
        notes=(*counted.notes, *failed, *_time_notes(measured, asked=asked)),
    )


def _time_notes(measured: Sequence[Measurement], *, asked: int) -> Iterator[str]:
    """Say what makes the latencies fewer or less certain than asked for, once for all rows."""
    total, rounds = len(measured), measured[0].conditions.rounds
    if rounds < asked:
        yield f"Stopped after {rounds} of {asked} rounds: the time limit was reached."
    contended = [found.busy_share for found in measured if found.contended]
    if contended:
        share = statistics.median(share for share in contended if share is not None)
        yield (
            f"{len(contended)} of {total} networks ran for only about {100 * share:.0f} % of their "
            "wall time: the machine is shared, or they use few threads. Compare processor times."
        )
    wide = sum(found.latency_ms.wide for found in measured)
    if wide:
        yield (
            f"{wide} of {total} latencies have an interquartile range above a fifth of their "
            "median. Other work may be running: compare again on a quiet machine."
        )


def _timed(row: Row, found: Outcome) -> Row:
    if isinstance(found, Failure):
        return row
    return replace(row, latency=found.latency_ms, processor=found.processor_ms)
