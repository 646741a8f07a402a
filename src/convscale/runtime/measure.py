"""Time the forward passes of networks, interleaved in rounds."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from convscale.errors import InputError
from convscale.quantities import Resolution, check_count, check_positive
from convscale.runtime.conditions import observe
from convscale.runtime.devices import open_device
from convscale.runtime.measurement import Conditions, Measurement
from convscale.runtime.sitting import Sitting, seat
from convscale.runtime.state import process_threads, undisturbed

if TYPE_CHECKING:
    from torch import nn

    from convscale.network.naming import NetworkLike

Progress = Callable[[int, int], None]

# However little time there is, a spread needs this many repeats.
_FEWEST_ROUNDS = 3
# Share of the time in which a network may run more than once to warm up.
_WARM_UP = 0.25


@dataclass(frozen=True)
class Subject:
    """A module to be timed at a resolution, and the name it is reported under.

    Without in_chans, the input channels are read from the module's first convolution. `dims` is
    the number of spatial dimensions, for a resolution that is one side.

    Example:
        >>> from torch import nn
        >>> Subject("tiny", nn.Conv2d(3, 4, 1), resolution=16).name
        'tiny'
    """

    name: str
    module: nn.Module
    resolution: Resolution
    in_chans: int | None = None
    dims: int = 2


def measure(
    network: NetworkLike,
    *,
    resolution: Resolution | None = None,
    batch_size: int = 1,
    device: str = "cpu",
    threads: int | None = None,
    repeats: int = 20,
    time_limit_s: float = 30.0,
    num_classes: int | None = None,
    in_chans: int | None = None,
    progress: Progress | None = None,
) -> Measurement:
    """Measure the latency of one network's forward pass in evaluation mode.

    Args:
        network: A name, a description of `convscale.families`, or a module, whose state is as
            before afterwards.
        resolution: Input side in px, or all sides; by default the network's own.
        batch_size: Images in one forward pass.
        device: cpu, cuda, cuda:1 or mps.
        threads: Threads of the processor; one by default, which repeats best.
        repeats: Timed passes, after the warm-up.
        time_limit_s: Stop after this time, but not before three timed passes.
        num_classes: Classes of a network made from a name.
        in_chans: Input channels of a network made from a name.
        progress: Called with passes done and passes in all.

    Raises:
        InputError: If a value cannot be used, or the network does not run.

    Example:
        >>> from torch import nn
        >>> tiny = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        >>> measured = measure(tiny, resolution=16, repeats=5)
        >>> measured.latency_ms.repeats, measured.latency_ms.median > 0, tiny.training
        (5, True, True)
    """
    check_count(repeats, what="number of repeats")
    check_setting(batch_size, threads, time_limit_s)
    open_device(device)
    from convscale.complexity.counting import known_resolution
    from convscale.scaling import resolve

    found = resolve(network, resolution=resolution, num_classes=num_classes, in_chans=in_chans)
    size, module = known_resolution(found, None), found.build("cpu")
    subject = Subject(found.name, module, size, found.in_chans, found.dims or 2)
    return measure_together(
        [subject],
        batch_size=batch_size,
        device=device,
        threads=threads,
        rounds=repeats,
        time_limit_s=time_limit_s,
        progress=progress,
    )[0]


def measure_together(
    subjects: Sequence[Subject],
    *,
    batch_size: int = 1,
    device: str = "cpu",
    threads: int | None = None,
    rounds: int = 15,
    time_limit_s: float = 90.0,
    progress: Progress | None = None,
    seed: int = 0,
) -> list[Measurement]:
    """Measure several networks interleaved, so that a busy spell hits all of them alike.

    Every subject is warmed up; then each round visits each subject once, in a random
    order. A short network runs once untimed at each visit, since its weights left the
    caches meanwhile. One thread is the default because its processor time repeats to a few
    per cent even where others use the machine; several threads wait for the slowest.

    Args:
        subjects: The modules; their state is as before afterwards.
        batch_size: Images in one forward pass.
        device: cpu, cuda, cuda:1 or mps.
        threads: Threads of the processor; one by default, which repeats best.
        rounds: Timed passes of each subject.
        time_limit_s: Stop after this time in all, but not before three rounds.
        progress: Called with passes done and passes in all; the latter may shrink when
            the time limit comes into view.
        seed: For the inputs and the order in the rounds.

    Returns:
        One measurement a subject, in the order of the subjects.

    Raises:
        InputError: If a value cannot be used, or a network does not run.

    Example:
        >>> from torch import nn
        >>> pair = [Subject(f"conv{w}", nn.Conv2d(3, w, 3), 16) for w in (4, 8)]
        >>> [m.latency_ms.repeats for m in measure_together(pair, rounds=3)]
        [3, 3]
    """
    check_count(rounds, what="number of rounds")
    check_setting(batch_size, threads, time_limit_s)
    target = open_device(device)
    started = time.monotonic()
    with ExitStack() as stack:
        count = stack.enter_context(process_threads(threads or 1))
        conditions = observe(target, threads=count, subjects=len(subjects))
        sittings = [seat(subject, target, batch_size=batch_size, seed=seed) for subject in subjects]
        for sitting in sittings:
            stack.enter_context(undisturbed(sitting.module))
        _warm_up(sittings, rounds, started + _WARM_UP * time_limit_s, progress or _silent)
        done = _run_rounds(
            sittings, rounds, started + time_limit_s, progress or _silent, random.Random(seed)
        )
        conditions = replace(conditions, rounds=done)
        return [_measurement(sitting, conditions, batch_size, asked=rounds) for sitting in sittings]


def check_setting(batch_size: int, threads: int | None, time_limit_s: float) -> None:
    """Refuse a setting that cannot be used, before anything is built.

    Raises:
        InputError: If a number is below 1.

    Example:
        >>> check_setting(1, None, 30.0)
    """
    check_count(batch_size, what="batch size")
    if threads is not None:
        check_count(threads, what="number of threads")
    if check_positive(time_limit_s, what="time limit") < 1:
        raise InputError(f"The time limit is {time_limit_s:g} s; it must be at least 1 s.")


def _silent(done: int, total: int) -> None:
    """Report nothing."""


def _warm_up(sittings: Sequence[Sitting], rounds: int, until: float, progress: Progress) -> None:
    for done, sitting in enumerate(sittings, start=1):
        sitting.warm_up(until)
        progress(done, len(sittings) * (rounds + 1))


def _run_rounds(
    sittings: Sequence[Sitting],
    rounds: int,
    deadline: float,
    progress: Progress,
    order: random.Random,
) -> int:
    """Run rounds until all are done or the time is over; return how many."""
    total = len(sittings) * (rounds + 1)
    fewest = min(rounds, _FEWEST_ROUNDS)
    for finished in range(rounds):
        started = time.monotonic()
        for index, sitting in enumerate(order.sample(sittings, len(sittings)), start=1):
            sitting.visit()
            progress(len(sittings) * (finished + 1) + index, total)
        now = time.monotonic()
        # A round that would end after the deadline is not begun.
        left = int((deadline - now) / max(now - started, 1e-9))
        planned = min(rounds, max(fewest, finished + 1 + max(left, 0)))
        total = len(sittings) * (planned + 1)
        if finished + 1 >= planned:
            break
    progress(total, total)
    return finished + 1


def _measurement(
    sitting: Sitting, conditions: Conditions, batch_size: int, *, asked: int
) -> Measurement:
    subject = sitting.subject
    wall_s = tuple(timed.wall_s for timed in sitting.passes)
    processor_s = tuple(p.processor_s for p in sitting.passes if p.processor_s is not None)
    own = replace(conditions, dtype=sitting.dtype, memory_format=sitting.memory_format)
    found = Measurement(
        subject.name,
        subject.resolution,
        batch_size,
        "inference",
        own,
        wall_s=wall_s,
        processor_s=processor_s,
        peak_memory_bytes=sitting.peak_memory_bytes,
    )
    return replace(found, notes=tuple(_notes(found, asked)))


def _notes(found: Measurement, asked: int) -> Iterator[str]:
    """Say what makes the repeats fewer or less certain than asked for."""
    if len(found.wall_s) < asked:
        yield f"Stopped after {len(found.wall_s)} of {asked} repeats: the time limit was reached."
    if found.contended and found.busy_share is not None:
        threads = found.conditions.threads
        ran = "Its thread ran" if threads == 1 else f"Its {threads} threads ran"
        why = "" if threads == 1 else ", or the network uses few threads"
        yield (
            f"{ran} for {100 * found.busy_share:.0f} % of the wall time: the machine is "
            f"shared{why}. Compare processor times."
        )
