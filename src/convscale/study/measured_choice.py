"""Measure the best candidates on this machine, interleaved, and choose by what was measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from convscale.errors import BudgetError, ConvscaleError
from convscale.network.sources.network import Network
from convscale.prediction.profile import Profile
from convscale.runtime import (
    Measurement,
    Outcome,
    Setting,
    Subject,
    check_setting,
    measure_together,
)
from convscale.selection.constraints import Constraint
from convscale.selection.select import preferred
from convscale.study.costed import Conditions
from convscale.study.finalists import finalists, key_of, quickest
from convscale.study.finals import Finals
from convscale.study.measured import Borrowed, Finalist, Measured
from convscale.study.measuring_notes import doubts_of, measuring_notes, none_fits, ratio_of
from convscale.study.request import Request
from convscale.study.trials import Progress
from convscale.study.zoo_selection import Entry, ZooSelection

_BATCHES = 3  # how often finalists are looked for, if none fits
_CLOSE = 0.9  # of a correction, below which what it left out is looked for again
_OPTIMISTIC = 0.25  # what a borrowed profile's times are multiplied by where none fits by it
SPARE = 1.03  # what predictions are corrected by beyond what was measured

Choose = Callable[[float], ZooSelection]


def choose_measured(
    choose: Choose,
    request: Request,
) -> ZooSelection:
    """Measure the finalists of a choice, and choose among them.

    Limits of latency and throughput are held to the measured medians, and of those whose errors
    are equal the fastest is chosen, if no other cost was named. Where no finalist keeps the limits,
    predictions are corrected by what was measured, and the next ones are tried.

    Args:
        choose: Makes the choice with predicted times multiplied by a number.
        request: What was asked for, with how finalists are measured.

    Raises:
        BudgetError: If none of the finalists keeps all constraints.
        InputError: If none can be built or run, or the device is not there.
    """
    finals, borrowed, limits = request.finals, request.borrowed, request.limits
    assert finals is not None
    setting, note = setting_of(request.how, finals, borrowed)
    check_setting(setting)
    found, order, ratio = _begun(choose, borrowed)
    taken = ratio
    done: list[Finalist] = []
    skipped: list[str] = []
    best: _Decided | None = None
    for _ in range(_BATCHES):
        places, subjects = _built(found, finals.count, done, skipped, order)
        if not places:
            break
        outcomes = measured(subjects, setting, finals, request.progress)
        batch = [
            _finalist(found, at, outcome, limits, taken)
            for at, outcome in zip(places, outcomes, strict=True)
        ]
        row = _decided(found, places, batch, request.cost or "latency_ms")
        if row is not None:
            made = _Decided(found, places[row], row, tuple(batch), len(done), ratio)
            best = made if best is None or made.error < best.error else best
        done += batch
        corrected = ratio_of(batch)
        if best is not None and (row is None or not _has_room(ratio, corrected, borrowed)):
            break
        if corrected is not None:
            ratio = SPARE * (max(corrected, ratio) if best is None else corrected)
            try:
                found, order, taken = choose(ratio), None, ratio
            except BudgetError:  # by prediction nothing fits any more: the fastest are tried
                order = quickest(found)
    if best is None:
        raise none_fits(done, skipped, limits)
    notes = [
        *measuring_notes(best.batch, limits, note, skipped, best.ratio, finals.rounds),
        *doubts_of(best.batch[best.row], best.batch, limits),
    ]
    told = _told(done, best.before + best.row, best.at, best.ratio, notes, borrowed)
    return replace(best.found, measured=told)


def _begun(
    choose: Choose, borrowed: Borrowed | None
) -> tuple[ZooSelection, list[int] | None, float]:
    """Return the first choice, in which order to measure, and what predictions it multiplied.

    A borrowed profile alone refuses nothing: where by it nothing fits, the fastest are tried.
    """
    try:
        return choose(1.0), None, 1.0
    except BudgetError as error:
        if borrowed is None:
            raise
        first = error
    try:
        found = choose(_OPTIMISTIC)
    except BudgetError:
        raise BudgetError(f"{first.line} {borrowed.note}") from first
    return found, quickest(found), _OPTIMISTIC


@dataclass(frozen=True)
class _Decided:
    """A choice among finalists, and where they stand."""

    found: ZooSelection
    at: int
    row: int
    batch: tuple[Finalist, ...]
    before: int
    ratio: float

    @property
    def error(self) -> float:
        return float(self.found.found.estimate.error[self.at])


def _has_room(ratio: float, corrected: float | None, borrowed: Borrowed | None) -> bool:
    """Tell whether predictions were corrected by far more than what was measured then."""
    rough = ratio > 1 or borrowed is not None
    return rough and corrected is not None and SPARE * corrected < _CLOSE * ratio


def plain_setting(how: Conditions, finals: Finals) -> Setting:
    """Return how finalists are run where no profile of this device tells it.

    Example:
        >>> plain_setting(Conditions(batch_size=8), Finals(5)).dtype
    """
    return Setting(
        batch_size=how.batch_size,
        device=finals.device,
        threads=finals.threads,
        optimizer=how.optimizer,
    )


def setting_of(
    how: Conditions, finals: Finals, borrowed: Borrowed | None = None
) -> tuple[Setting, str | None]:
    """Return how finalists are run: as the profile tells if it is of this device, else plainly.

    Args:
        how: The conditions of the choice.
        finals: How finalists are measured.
        borrowed: What is said of the profile, where it was not given.

    Returns:
        The setting, and a note where the profile is of another device.

    Example:
        >>> setting_of(Conditions(batch_size=8), Finals(5))[0].batch_size
        8
    """
    plain = plain_setting(how, finals)
    if how.profile is None or borrowed is not None:
        return plain, None if borrowed is None else borrowed.note
    own, profile = how.profile.execution, how.profile
    plain = replace(plain, mode=own.work)
    hardware = check_setting(plain).hardware
    if profile.conditions.get("device") != hardware:
        return plain, _elsewhere(profile, finals.device, hardware)
    threads, autocast = profile.conditions.get("threads"), profile.conditions.get("autocast")
    return (
        replace(
            plain,
            dtype=autocast if isinstance(autocast, str) else None,
            channels_last=own.layout == "nhwc",
            compile=own.mode == "compiled",
            threads=threads
            if finals.threads is None and isinstance(threads, int)
            else plain.threads,
        ),
        None,
    )


def _elsewhere(profile: Profile, device: str, hardware: str) -> str:
    own = profile.execution
    return (
        f"The profile {profile.name} predicts for {profile.conditions.get('device') or 'a device'} "
        f"({own.dtype}, {own.layout}, {own.mode}); the finalists ran on {device} ({hardware}), in "
        "float32 and eager. Limits of latency and throughput are held to what was measured here."
    )


def _built(
    found: ZooSelection,
    count: int,
    done: Sequence[Finalist],
    skipped: list[str],
    order: Sequence[int] | None,
) -> tuple[list[int], list[Subject]]:
    """Build the next finalists with their weights; what cannot be built is skipped and noted."""
    places: list[int] = []
    subjects: list[Subject] = []
    for at in finalists(found, {key_of(one.entry) for one in done}, order):
        entry = found.entries[at]
        try:
            subjects.append(subject_of(network_of(entry), entry.network))
        except ConvscaleError as error:
            skipped.append(f"{entry.network}: {error.line}")
            continue
        places.append(at)
        if len(places) == count:
            break
    return places, subjects


def subject_of(network: Network, name: str | None = None) -> Subject:
    """Build a network with its weights, to be timed.

    Args:
        network: The network.
        name: What it is called; by its own name by default.

    Example:
        >>> from convscale.scaling import resolve
        >>> subject_of(resolve("resnet10t", resolution=64)).resolution
        64
    """
    from convscale.network.running.feeding import known_resolution

    module = network.build("cpu")
    size = known_resolution(network, None)
    return Subject(name or network.name, module, size, network.in_chans, network.dims or 2)


def network_of(entry: Entry) -> Network:
    """Return a candidate as a network that can be built with weights.

    Example:
        >>> network_of(Entry(None, "resnet10t", 64)).name
        'timm:resnet10t'
    """
    from convscale.scaling import resolve

    if entry.scaled is not None:
        return entry.scaled.source.network(entry.scaled.ask)
    return resolve(entry.network, resolution=entry.resolution)


def measured(
    subjects: Sequence[Subject], setting: Setting, finals: Finals, progress: Progress | None
) -> list[Outcome]:
    """Measure networks interleaved.

    Args:
        subjects: The networks.
        setting: How they are run.
        finals: The rounds, and the limit of time.
        progress: Called with steps done and steps in all.

    Example:
        >>> callable(measured)
        True
    """
    return measure_together(
        subjects,
        rounds=finals.rounds,
        time_limit_s=finals.time_limit_s,
        progress=progress,
        mode=setting.mode,
        batch_size=setting.batch_size,
        device=setting.device,
        dtype=setting.dtype,
        channels_last=setting.channels_last,
        compile=setting.compile,
        threads=setting.threads,
        optimizer=setting.optimizer,
    )


def _finalist(
    found: ZooSelection, at: int, outcome: Outcome, limits: Sequence[Constraint], ratio: float
) -> Finalist:
    """Return a finalist; the predictions of the choice were multiplied by the ratio."""
    own = found.found
    predicted = own.pool.values.get("latency_ms")
    known = None if predicted is None or np.isnan(predicted[at]) else float(predicted[at]) / ratio
    shown = own.objective.show(float(own.estimate.error[at]))
    missed = missed_limits(outcome, limits) if isinstance(outcome, Measurement) else ()
    return Finalist(found.entries[at], shown, known, outcome, missed)


def missed_limits(outcome: Measurement, limits: Sequence[Constraint]) -> tuple[str, ...]:
    """Say which limits of times a measured network misses.

    Args:
        outcome: The measurement.
        limits: The limits.

    Example:
        >>> callable(missed_limits)
        True
    """
    held = {
        "latency_ms": outcome.latency_ms.median,
        "images_per_second": outcome.images_per_second,
    }
    return tuple(
        f"measured {one.miss(held[one.on])}"
        for one in limits
        if one.on in held and float(one.excess(np.array([held[one.on]]))[0]) > 0
    )


def _decided(
    found: ZooSelection, places: Sequence[int], batch: Sequence[Finalist], cost: str
) -> int | None:
    """Return which finalist is chosen by what was measured; None where none fits."""
    own = found.found
    times = np.full(len(own.pool), np.nan)
    fits = np.zeros(len(own.pool), dtype=bool)
    for at, one in zip(places, batch, strict=True):
        times[at] = np.nan if one.measured_ms is None else one.measured_ms
        fits[at] = one.fits
    if not fits.any():
        return None
    pool = replace(own.pool, values={**own.pool.values, "latency_ms": times})
    at, _ = preferred(replace(own, pool=pool, fits=fits, cost=cost), fits)
    return list(places).index(at)


def _told(
    finalists: Sequence[Finalist],
    chosen: int,
    at: int,
    ratio: float,
    notes: Sequence[str],
    borrowed: Borrowed | None,
) -> Measured:
    outcome = finalists[chosen].outcome
    assert isinstance(outcome, Measurement)
    return Measured(
        tuple(finalists),
        chosen,
        0,
        at,
        outcome.conditions,
        outcome.batch_size,
        ratio,
        tuple(notes),
        borrowed,
    )
