"""What measuring costs beside its repeats, and whether it agrees with PyTorch's own timer.

    python -m benchmarks.measuring [--seconds 2] [--rounds 15] [--blocks 40] [--block-seconds 0.1]

The first table sets the whole time of measuring one network (seating it, warming it up, repeating)
over the sum of the repeats that it reports, for some seconds of processor time of repeats; its
last line does so for all ten networks in interleaved rounds. The second times ten networks as
`measure` does and by `torch.utils.benchmark.Timer`, on the same input, in short blocks in turn,
one thread. It sets the medians of all times over each other, of wall time and of processor time,
which other work on the machine does not lengthen; and gives the 95 % interval of the median of the
blocks' ratios.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch.utils.benchmark import Timer

from convscale.runtime import Measurement, Subject, measure_together, open_device
from convscale.runtime.interval import Interval, median_interval
from convscale.runtime.measurement import Timings
from convscale.runtime.seating import seat
from convscale.runtime.sitting import Sitting
from convscale.scaling import resolve

NETWORKS = (
    "resnet18 resnet34 mobilenetv3_large_100 efficientnet_b0 regnety_004 regnetx_008 "
    "densenet121 convnext_atto ghostnet_100 mobilenetv2_100"
).split()
RESOLUTION = 160


@dataclass
class Times:
    """The repeats of one network by one timer, in seconds.

    Example:
        >>> times = Times([0.1, 0.3], [0.1, 0.1])
        >>> times.medians
        (0.2, 0.1)
    """

    wall_s: list[float] = field(default_factory=list)
    processor_s: list[float] = field(default_factory=list)

    @property
    def medians(self) -> tuple[float, float]:
        """The medians of wall time and of processor time."""
        return statistics.median(self.wall_s), statistics.median(self.processor_s)


def subject_of(name: str) -> Subject:
    """Build a network in evaluation mode.

    Example:
        >>> subject_of("resnet18").name
        'timm:resnet18'
    """
    found = resolve(name, resolution=RESOLUTION)
    return Subject(found.name, found.build("cpu").eval(), RESOLUTION)


@dataclass(frozen=True)
class Overhead:
    """What measuring took in all, over the sum of its repeats: wall and processor time.

    Example:
        >>> Overhead(wall=1.1, processor=1.05, repeats=40, seconds=2.0).repeats
        40
    """

    wall: float
    processor: float
    repeats: int
    seconds: float


def overhead(subject: Subject, *, seconds: float) -> Overhead:
    """Measure a network for some seconds of processor time, and set the whole over the repeats.

    Example:
        >>> overhead(subject_of("resnet18"), seconds=0.3).processor > 1
        True
    """
    rounds = _repeats(subject, seconds)
    wall, processor = time.perf_counter(), time.process_time()
    [found] = measure_together([subject], rounds=rounds, time_limit_s=60 * seconds)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    assert isinstance(found, Measurement)
    return Overhead(
        wall / sum(found.wall_s),
        processor / sum(found.processor_s),
        len(found.wall_s),
        sum(found.processor_s),
    )


def overhead_together(subjects: Sequence[Subject], *, rounds: int) -> Overhead:
    """Measure networks interleaved, and set the whole over the repeats of all.

    Example:
        >>> pair = [subject_of("resnet18"), subject_of("mobilenetv2_100")]
        >>> overhead_together(pair, rounds=3).processor > 1
        True
    """
    wall, processor = time.perf_counter(), time.process_time()
    outcomes = measure_together(subjects, rounds=rounds, time_limit_s=3600)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    found = [each for each in outcomes if isinstance(each, Measurement)]
    ran = sum(sum(each.processor_s) for each in found)
    repeats = sum(len(each.wall_s) for each in found)
    return Overhead(wall / sum(sum(each.wall_s) for each in found), processor / ran, repeats, ran)


def _repeats(subject: Subject, seconds: float) -> int:
    [sample] = measure_together([subject], rounds=5)
    assert isinstance(sample, Measurement)
    return max(4, round(seconds / statistics.median(sample.processor_s)))


def ours(sitting: Sitting, *, passes: int) -> Times:
    """Time a block by this package."""
    known = len(sitting.passes)
    sitting.visit(passes)
    timed = Timings.of(sitting.passes[known:], usable=1)
    return Times(list(timed.wall_s), list(timed.processor_s))


def theirs(sitting: Sitting, *, seconds: float) -> Times:
    """Time a block by PyTorch's timer, half of it on each clock."""
    clocks: tuple[Callable[[], float], ...] = (time.perf_counter, time.process_time)
    names = {"net": sitting.module, "x": sitting.images}
    with torch.inference_mode():
        found = [
            Timer("net(x)", globals=names, timer=clock, num_threads=1)
            .blocked_autorange(min_run_time=seconds / 2)
            .times
            for clock in clocks
        ]
    return Times(*found)


@dataclass
class Agreement:
    """Blocks of times of one network by two timers, pair by pair.

    Example:
        >>> pair = Times([0.11], [0.10]), Times([0.10], [0.10])
        >>> Agreement([pair, pair]).ratios
        (1.1, 1.0)
    """

    pairs: list[tuple[Times, Times]] = field(default_factory=list)

    @property
    def ratios(self) -> tuple[float, ...]:
        """The median of all our times over that of all theirs: wall, processor."""
        whole = [Times(), Times()]
        for pair in self.pairs:
            for kept, block in zip(whole, pair, strict=True):
                kept.wall_s += block.wall_s
                kept.processor_s += block.processor_s
        return tuple(round(a / b, 6) for a, b in zip(*(w.medians for w in whole), strict=True))

    @property
    def interval(self) -> Interval | None:
        """The 95 % interval of the median of the blocks' ratios of processor time."""
        return median_interval([a.medians[1] / b.medians[1] for a, b in self.pairs])


def compared(
    subjects: Sequence[Subject], *, blocks: int, seconds: float
) -> Iterator[tuple[str, Agreement]]:
    """Time every network by both, in blocks that take turns and change who is first."""
    for subject in subjects:
        passes, found = _repeats(subject, seconds), Agreement()
        sitting = seat(subject, open_device("cpu"))
        try:
            sitting.warm_up(math.inf, 0)
            for block in range(blocks):
                if block % 2:
                    first = ours(sitting, passes=passes)
                    found.pairs.append((first, theirs(sitting, seconds=seconds)))
                else:
                    second = theirs(sitting, seconds=seconds)
                    found.pairs.append((ours(sitting, passes=passes), second))
        finally:
            sitting.close()
        yield subject.name, found


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--blocks", type=int, default=40)
    parser.add_argument("--block-seconds", type=float, default=0.1)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    subjects = [subject_of(name) for name in NETWORKS]
    print(f"{'network':32} {'wall':>8} {'processor':>10} {'repeats':>8} {'their s':>8}   overhead")
    for subject in subjects:
        _print_overhead(subject.name, overhead(subject, seconds=asked.seconds))
    _print_overhead("all ten, in rounds", overhead_together(subjects, rounds=asked.rounds))
    print(f"\n{'network':32} {'wall':>8} {'processor':>10} {'95 % interval':>14}   over PyTorch's")
    for name, found in compared(subjects, blocks=asked.blocks, seconds=asked.block_seconds):
        wall, processor = found.ratios
        between = found.interval
        ends = "–" if between is None else f"{between.low:.3f}–{between.high:.3f}"
        print(f"{name:32} {wall:8.3f} {processor:10.3f} {ends:>14}", flush=True)


def _print_overhead(name: str, o: Overhead) -> None:
    print(f"{name:32} {o.wall:8.3f} {o.processor:10.3f} {o.repeats:8} {o.seconds:8.2f}", flush=True)


if __name__ == "__main__":
    main()
