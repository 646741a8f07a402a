"""The largest batch that fits into memory, and batches that cannot fit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from convscale.errors import ConvscaleError, InputError
from convscale.quantities import format_bytes, format_resolution, sides
from convscale.runtime.devices import Device
from convscale.runtime.memory import available_bytes
from convscale.runtime.seating import seat
from convscale.runtime.setting import Setting
from convscale.runtime.subject import Subject

# The largest batch is found to this share of itself.
_NEAR = 1 / 32
# Probes before the line through them is followed: the first ones hold what is there once.
_FEWEST_PROBES = 4
# A pass is looked at before it is run where it may hold so many times its input (float32).
_TIMES_INPUT = {"inference": 100, "training": 400}
_FOUR_BYTES, _MUCH_BYTES = 4, 1 << 26
# A pass of so many images is timed by two small ones first, which cost a fifth of it.
_MANY, _SMALL = 256, (4, 16)


@dataclass(frozen=True)
class Probe:
    """One pass of a batch: its time, and the most memory that was held for it.

    Example:
        >>> Probe(8, wall_s=0.1, peak_bytes=1 << 30).batch_size
        8
    """

    batch_size: int
    wall_s: float
    peak_bytes: int


@dataclass(frozen=True)
class Largest:
    """The largest batch that fits, the pass that showed it, and what stopped the search.

    bound is memory or time.

    Example:
        >>> Largest(Probe(8, 0.1, 1 << 30), bound="memory", probes=5).bound
        'memory'
    """

    probe: Probe
    bound: str
    probes: int


def largest_batch(
    run: Callable[[int], Probe | None],
    *,
    budget_bytes: int | None,
    limit_s: float,
    first: int = 1,
) -> Largest | None:
    """Find the largest batch that fits, to one part in 32, or None where not even the first does.

    Batches are doubled until one does not fit, and the gap is halved. Where the memory that may
    be taken is known, the line through the last probes says which batch comes near it, so that
    none far beyond is tried.

    Args:
        run: Runs a pass of a batch, and returns None where memory is short.
        budget_bytes: The most memory that a pass may take; None where `run` finds it out.
        limit_s: The longest that a pass may take.
        first: The smallest batch to try.

    Example:
        >>> def run(batch):
        ...     return Probe(batch, wall_s=0.001 * batch, peak_bytes=1000 + 10 * batch)
        >>> largest_batch(run, budget_bytes=5000, limit_s=10).probe.batch_size
        400
    """
    good: list[Probe] = []
    bad, tries, wanted = math.inf, 0, first
    while True:
        tries += 1
        probe = run(wanted)
        if probe is None or (budget_bytes is not None and probe.peak_bytes > budget_bytes):
            bad = wanted
        else:
            good.append(probe)
        if not good:
            return None
        last = good[-1].batch_size
        fitting = min(bad - 1, _within(good, budget_bytes))
        quick = int(limit_s / (good[-1].wall_s / last))
        most = min(fitting, quick)
        if most <= last * (1 + _NEAR):
            return Largest(good[-1], "time" if quick < fitting else "memory", tries)
        if fitting == math.inf:
            wanted = int(min(quick, 2 * last))
        else:
            wanted = int(most if bad == math.inf else (last + most + 1) // 2)


def _within(good: list[Probe], budget_bytes: int | None) -> float:
    """Return the batch at which the line through the last two probes meets the budget."""
    if budget_bytes is None or len(good) < _FEWEST_PROBES:
        return math.inf
    a, b = good[-2:]
    slope = (b.peak_bytes - a.peak_bytes) / (b.batch_size - a.batch_size)
    if slope <= 0:
        return math.inf
    return b.batch_size + (budget_bytes - b.peak_bytes) // slope


def require_room(subject: Subject, device: Device, setting: Setting, limit_s: float) -> None:
    """Refuse a batch that needs more memory or time than there is, before it is run.

    On the processor a batch that does not fit would end the process, and no pass can be
    interrupted. Where a pass may hold much, its peak is predicted without running it; where it
    may take long, its time is extrapolated from two small batches.

    Raises:
        InputError: If the batch cannot fit.

    Example:
        >>> from torch import nn
        >>> from convscale.runtime import open_device
        >>> subject, cpu = Subject("conv", nn.Conv2d(3, 4, 1), 32), open_device("cpu")
        >>> require_room(subject, cpu, Setting(batch_size=8), 30)
        >>> require_room(subject, cpu, Setting(batch_size=10**12), 30)
        Traceback (most recent call last):
        convscale.errors.InputError: conv at resolution 32 needs about ... of memory with ...
    """
    batch, free = setting.batch_size, available_bytes()
    if device.kind != "cpu" or free is None:
        return
    assert isinstance(batch, int)
    pixels = math.prod(sides(subject.resolution, subject.dims)) * (subject.in_chans or 3)
    needed: int | None = batch * pixels * _FOUR_BYTES
    if needed is not None and needed <= free:
        much = needed > _MUCH_BYTES or needed * _TIMES_INPUT[setting.mode] > free / 2
        needed = predicted_bytes(subject, setting) if much else None
    if needed is not None and needed > free:
        raise InputError(
            f"{subject.name} at resolution {format_resolution(subject.resolution)} needs about "
            f"{format_bytes(needed)} of memory with batch size {batch}, and {format_bytes(free)} "
            "are free. Use a smaller batch size, or max."
        )
    if batch >= _MANY:
        _require_time(subject, device, setting, limit_s)


def predicted_bytes(subject: Subject, setting: Setting) -> int | None:
    """Return the peak of a pass as it is predicted, weights included; None where it cannot be.

    Example:
        >>> from torch import nn
        >>> net = nn.Conv2d(4, 4, 1, bias=False)  # 64 bytes of weights; input and output
        >>> predicted_bytes(Subject("net", net, 8), Setting())
        2112
    """
    from convscale.complexity.dryrun import DryRun
    from convscale.network import resolve_base

    assert isinstance(setting.batch_size, int)
    try:
        network = resolve_base(subject.build(), in_chans=None)
        run = DryRun(network, subject.resolution, batch_size=setting.batch_size)
        if setting.mode == "training":
            return run.training(setting.optimizer).peak_bytes
        return run.inference().peak_bytes
    except ConvscaleError:
        return None  # what does not run without memory says so when it is run


def _require_time(subject: Subject, device: Device, setting: Setting, limit_s: float) -> None:
    first, second = (_quickest_s(subject, device, replace(setting, batch_size=n)) for n in _SMALL)
    each_s = max(0.0, (second - first) / (_SMALL[1] - _SMALL[0]))
    assert isinstance(setting.batch_size, int)
    wall_s = second + each_s * (setting.batch_size - _SMALL[1])
    if wall_s > limit_s:
        raise InputError(
            f"One pass of {subject.name} with batch size {setting.batch_size} takes about "
            f"{wall_s:.3g} s, and the time limit is {limit_s:g} s. Raise the time limit, or use a "
            "smaller batch size."
        )


def _quickest_s(subject: Subject, device: Device, setting: Setting) -> float:
    """Time a small batch, by plain PyTorch whatever is to run the large one, once it is warm."""
    plain = replace(setting, backend="pytorch", compile=False, dtype=None)
    sitting = seat(subject, device, plain)
    try:
        sitting.warm_up(0.0, 0)
        sitting.visit(2, untimed=1)
        return min(timed.wall_s for timed in sitting.passes)
    finally:
        sitting.close()
