"""Training speed beside a plain loop written by hand, on the same network, data and settings.

`python -m benchmarks.training` trains each network by convscale and by a plain PyTorch loop, which
take turns every few steps in one process, and prints the images a second of both. Each loop reads
the images by a loader of its own, in the process itself: no worker reads on while the other loop
has its turn. The limit holds for processor time, which other work on the machine disturbs least.
With `--parts 2` convscale computes its batches in parts, for which there is no limit. With `--wait`
it trains one epoch with workers instead, and prints the share of the time that training waits for
data. The exit status is 1 where a limit is missed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset

from convscale.training.datasets import Data, read_data
from convscale.training.progress import Row
from convscale.training.recipe import Recipe
from convscale.training.request import TrainRequest
from convscale.training.running import train
from convscale.training.subject import prepare
from convscale.training.transforms import training_transform
from convscale.training.watch import Tick

# What must hold: images a second over those of the plain loop; the share of time without data.
LEAST_RATIO, MOST_WAIT = 0.97, 0.05
NETWORKS = ("resnet18", "efficientnet_b0")
_VARIANTS = (("fp32", False), ("bf16", True))  # precision, and whether channels-last


@dataclass(frozen=True)
class Pace:
    """Images a second of both loops on one network: medians over the turns.

    `ratio` and `processor_ratio` are medians of the ratios of neighbouring turns, by wall time and
    by processor time.

    Example:
        >>> Pace("timm:resnet18", 1, "fp32, contiguous", 98.0, 100.0, 0.98, 0.99).ratio
        0.98
    """

    network: str
    threads: int
    variant: str
    ours: float
    plain: float
    ratio: float
    processor_ratio: float

    def __str__(self) -> str:
        """Return a line."""
        return (
            f"{self.network}, threads {self.threads}, {self.variant}: {self.ours:.1f} images/s, by "
            f"hand {self.plain:.1f}; ratio {self.ratio:.3f}, by processor time "
            f"{self.processor_ratio:.3f}"
        )


@dataclass(frozen=True)
class Spent:
    """Wall time and processor time.

    Example:
        >>> (Spent(3.0, 2.0) - Spent(1.0, 1.0)).wall_s
        2.0
    """

    wall_s: float
    processor_s: float

    @classmethod
    def now(cls) -> Spent:
        """Return the readings of both clocks."""
        return cls(time.perf_counter(), time.process_time())

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.wall_s - other.wall_s, self.processor_s - other.processor_s)


class Plain:
    """The loop that a person writes by hand: a data set, a loader, and the textbook.

    Example:
        >>> recipe = Recipe(batch_size=8, workers=0)
        >>> Plain("resnet10t", "digits", recipe, 32).steps(1).wall_s > 0
        True
    """

    def __init__(self, network: str, data: str, recipe: Recipe, resolution: int) -> None:
        found = read_data(data)
        subject = prepare(network, recipe, classes=len(found.classes), resolution=resolution)
        last = bool(recipe.channels_last)
        self.format = torch.channels_last if last else torch.contiguous_format
        self.model: nn.Module = subject.module.to(memory_format=self.format).train()
        self.lower = recipe.precision == "bf16"
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-5, nesterov=True
        )
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, 10_000)
        self.loader: DataLoader[tuple[Tensor, int]] = DataLoader(
            _Images(found, recipe, resolution), recipe.batch_size, shuffle=True, drop_last=True
        )
        self.batches = self._endless()
        self.losses: list[float] = []

    def _endless(self) -> Iterator[list[Tensor]]:
        while True:
            yield from self.loader

    def steps(self, count: int) -> Spent:
        """Train for some steps."""
        begun = Spent.now()
        for _ in range(count):
            images, targets = next(self.batches)
            images = images.to(memory_format=self.format)
            with torch.autocast("cpu", torch.bfloat16) if self.lower else nullcontext():
                loss = cross_entropy(self.model(images), targets)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            self.schedule.step()
            self.losses.append(loss.item())
        return Spent.now() - begun


class _Images(Dataset[tuple[Tensor, int]]):
    def __init__(self, data: Data, recipe: Recipe, resolution: int) -> None:
        self.data = data.train
        self.transform = training_transform(recipe, data.traits, resolution)

    def __len__(self) -> int:
        return len(self.data.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.data.read(index)), self.data.targets[index]


class _EnoughError(Exception):
    """All turns are taken."""


class Turns:
    """Watch a run, and let the plain loop have its turn after every few steps.

    Example:
        >>> turns = Turns(plain=None, steps=5, turns=3)
        >>> turns.ours
        []
    """

    def __init__(self, plain: Plain | None, *, steps: int, turns: int) -> None:
        self._plain, self._steps, self._turns = plain, steps, turns
        self.ours: list[Spent] = []
        self.plain: list[Spent] = []
        self._begun = Spent.now()

    def on_update(self, tick: Tick) -> None:
        """Note the turn that ends with this update, and give the plain loop its own."""
        if tick.update % self._steps:
            return
        self.ours.append(Spent.now() - self._begun)
        if self._plain is not None:
            self.plain.append(self._plain.steps(self._steps))
        if len(self.ours) > self._turns:
            raise _EnoughError
        self._begun = Spent.now()

    def on_epoch(self, _row: Row, /) -> None:
        """Leave the evaluation out of the turn."""
        self._begun = Spent.now()

    def on_note(self, line: str) -> None:
        """Show what is to be known."""
        print(line)


def measure(
    network: str, recipe: Recipe, *, data: str, resolution: int, steps: int, turns: int
) -> Pace:
    """Return the pace of both loops; the first turn of each warms up and does not count."""
    threads = torch.get_num_threads()
    watch = Turns(Plain(network, data, recipe, resolution), steps=steps, turns=turns)
    with tempfile.TemporaryDirectory() as folder:
        request = TrainRequest(
            network, data, Path(folder, "run"), recipe, resolution=resolution, device="cpu"
        )
        with suppress(_EnoughError):
            train(request, watch)
    ours, plain = watch.ours[1:], watch.plain[1:]
    images = steps * recipe.batch_size
    variant = f"{recipe.precision}, {'channels-last' if recipe.channels_last else 'contiguous'}"
    return Pace(
        network,
        threads,
        variant,
        images / statistics.median(turn.wall_s for turn in ours),
        images / statistics.median(turn.wall_s for turn in plain),
        statistics.median(b.wall_s / a.wall_s for a, b in zip(ours, plain, strict=True)),
        statistics.median(b.processor_s / a.processor_s for a, b in zip(ours, plain, strict=True)),
    )


def waiting(network: str, recipe: Recipe, *, data: str, resolution: int) -> float:
    """Return the share of the time of an epoch that training waits for data."""
    with tempfile.TemporaryDirectory() as folder:
        request = TrainRequest(
            network, data, Path(folder, "run"), recipe, resolution=resolution, device="cpu"
        )
        result = train(request, Turns(None, steps=10**9, turns=0))
    return result.data_wait_seconds / result.training_seconds


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--data", default="digits")
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=5, help="of a turn")
    parser.add_argument("--turns", type=int, default=12)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--parts", type=int, default=None, help="of convscale's batches, in fp32")
    parser.add_argument("--wait", action="store_true", help="the share of time without data")
    parser.add_argument("--workers", type=int, default=1, help="with --wait")
    return parser.parse_args()


def main() -> int:
    """Measure what the command line asks for; return 1 where a limit is missed."""
    asked, missed = _parsed(), False
    shared = {"data": asked.data, "resolution": asked.resolution}
    recipe = Recipe(batch_size=asked.batch_size, epochs=100, lr=0.01, lr_batch=None, workers=0)
    for network in asked.networks:
        if asked.wait:
            knobs = {"workers": asked.workers, "epochs": 1, "warmup_epochs": 0.0}
            share = waiting(network, recipe.model_copy(update=knobs), **shared)
            missed |= share > MOST_WAIT
            print(f"{network}: {100 * share:.1f} % of the time without data")
            continue
        for threads in asked.threads:
            torch.set_num_threads(threads)
            for precision, last in _VARIANTS[: 1 if asked.parts else None]:
                knobs = {"precision": precision, "channels_last": last, "parts": asked.parts}
                variant = recipe.model_copy(update=knobs)
                pace = measure(network, variant, steps=asked.steps, turns=asked.turns, **shared)
                missed |= asked.parts is None and pace.processor_ratio < LEAST_RATIO
                print(pace, flush=True)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
