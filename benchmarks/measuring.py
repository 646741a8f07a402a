"""What measuring costs beside its repeats, and whether it agrees with PyTorch's own timer.

    python -m benchmarks.measuring [--seconds 2] [--blocks 10] [--block-seconds 0.5]

The first table sets the whole time of measuring one network (seating it, warming it up, repeating)
over the sum of the repeats that it reports, for some seconds of processor time of repeats. The
second measures ten networks by `measure_together` and by `torch.utils.benchmark.Timer`, block by
block in turn, one thread, and sets the medians of all times over each other: of wall time, and of
processor time, which other work on the machine does not lengthen.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch.utils.benchmark import Timer

from convscale.runtime import Failure, Measurement, Subject, measure_together
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


def ours(subject: Subject, *, seconds: float) -> Times:
    """Time a block by this package."""
    found = measure_together([subject], rounds=_repeats(subject, seconds), time_limit_s=600)[0]
    if isinstance(found, Failure):
        raise RuntimeError(found.failed)
    return Times(list(found.wall_s), list(found.processor_s))


@functools.cache
def _repeats(subject: Subject, seconds: float) -> int:
    [sample] = measure_together([subject], rounds=5)
    assert isinstance(sample, Measurement)
    return max(4, round(seconds / statistics.median(sample.processor_s)))


def theirs(subject: Subject, *, seconds: float) -> Times:
    """Time a block by PyTorch's timer, half of it on each clock."""
    images = torch.randn(1, 3, RESOLUTION, RESOLUTION, generator=torch.Generator().manual_seed(0))
    clocks: tuple[Callable[[], float], ...] = (time.perf_counter, time.process_time)
    names = {"net": subject.build(), "x": images}
    with torch.inference_mode():
        found = [
            Timer("net(x)", globals=names, timer=clock, num_threads=1)
            .blocked_autorange(min_run_time=seconds / 2)
            .times
            for clock in clocks
        ]
    return Times(*found)


def compared(
    subjects: Sequence[Subject], *, blocks: int, seconds: float
) -> Iterator[tuple[str, Times, Times]]:
    """Time every network by both, in blocks that take turns and change who is first."""
    for subject in subjects:
        kept = Times(), Times()
        for block in range(blocks):
            pairs = list(zip((ours, theirs), kept, strict=True))
            for timed, times in pairs if block % 2 else reversed(pairs):
                found = timed(subject, seconds=seconds)
                times.wall_s += found.wall_s
                times.processor_s += found.processor_s
        yield subject.name, *kept


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--blocks", type=int, default=10)
    parser.add_argument("--block-seconds", type=float, default=0.5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    subjects = [subject_of(name) for name in NETWORKS]
    print(f"{'network':32} {'wall':>8} {'processor':>10} {'repeats':>8} {'their s':>8}   overhead")
    for subject in subjects:
        o = overhead(subject, seconds=asked.seconds)
        print(
            f"{subject.name:32} {o.wall:8.3f} {o.processor:10.3f} {o.repeats:8} {o.seconds:8.2f}",
            flush=True,
        )
    print(f"\n{'network':32} {'ms':>8} {'wall':>8} {'processor':>10}   over PyTorch's timer")
    for name, first, second in compared(subjects, blocks=asked.blocks, seconds=asked.block_seconds):
        wall, processor = (a / b for a, b in zip(first.medians, second.medians, strict=True))
        print(f"{name:32} {1e3 * first.medians[0]:8.2f} {wall:8.3f} {processor:10.3f}", flush=True)


if __name__ == "__main__":
    main()
