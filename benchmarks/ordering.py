"""See whether ten networks are put in the right order on a machine that others use.

Ten networks whose times differ by 10 % each (ResNet-18 at ten input sides) are measured while
processes come and go in bursts: interleaved in rounds as `measure_together` does, and one after
another with as many passes. A run is right where all ten are in order.

    python -m benchmarks.ordering --runs 10 --out ordering.json
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.load import bursts
from convscale.network.sources.naming import NetworkLike
from convscale.runtime import Measurement, Subject, measure_together
from convscale.scaling import resolve

NETWORK, NETWORKS, STEP = "resnet18", 10, 1.10
_SIDES = range(144, 292, 4)

Columns = list[tuple[float, ...]]


@dataclass(frozen=True)
class Ladder:
    """The sides of the input, rising, and the processor time of each when calibrated."""

    sides: tuple[int, ...]
    milliseconds: tuple[float, ...]


def subjects(sides: Sequence[int], network: NetworkLike = NETWORK) -> list[Subject]:
    """Return one network at several sides, each under a name of its own.

    Example:
        >>> [subject.name for subject in subjects([64, 96])]
        ['resnet18 at 64', 'resnet18 at 96']
    """
    module = resolve(network).build("cpu")
    return [Subject(f"{network} at {side}", module, side, 3) for side in sides]


def calibrated(rounds: int) -> Ladder:
    """Choose sides whose times differ by 10 % each, by the least processor time of many rounds."""
    found = _measured(subjects(_SIDES), rounds=rounds, seed=1)
    least = {side: 1e3 * min(one.processor_s) for side, one in zip(_SIDES, found, strict=True)}
    return ladder(least)


def ladder(times: dict[int, float]) -> Ladder:
    """Choose rising sides, each 10 % slower than the last as nearly as can be.

    Example:
        >>> ladder({side: float(side) for side in range(100, 300)}).sides[:4]
        (100, 110, 121, 133)
    """
    first = min(times)
    sides, wanted = [first], times[first]
    while len(sides) < NETWORKS:
        wanted *= STEP
        rest = [side for side in times if side > sides[-1]]
        sides.append(min(rest, key=lambda side: abs(times[side] - wanted)))
    return Ladder(tuple(sides), tuple(times[side] for side in sides))


def _measured(asked: Sequence[Subject], *, rounds: int, seed: int) -> list[Measurement]:
    found = measure_together(asked, rounds=rounds, time_limit_s=3600, threads=1, seed=seed)
    assert all(isinstance(one, Measurement) for one in found)
    return [one for one in found if isinstance(one, Measurement)]


def in_rounds(asked: Sequence[Subject], *, rounds: int, seed: int) -> list[Measurement]:
    """Measure all together: each round visits each network once."""
    return _measured(asked, rounds=rounds, seed=seed)


def one_after_another(asked: Sequence[Subject], *, rounds: int, seed: int) -> list[Measurement]:
    """Measure each with as many passes before the next, in a random order."""
    order = random.Random(seed).sample(range(len(asked)), len(asked))
    found = {index: _measured([asked[index]], rounds=rounds, seed=seed)[0] for index in order}
    return [found[index] for index in range(len(asked))]


WAYS: dict[str, Callable[..., list[Measurement]]] = {
    "rounds": in_rounds,
    "one after another": one_after_another,
}


def medians(times: Columns) -> list[float]:
    """Estimate each network's time by its median.

    Example:
        >>> medians([(1.0, 2.0, 9.0), (3.0, 3.0, 3.0)])
        [2.0, 3.0]
    """
    return [statistics.median(column) for column in times]


def lower_quartiles(times: Columns) -> list[float]:
    """Estimate each network's time by its lower quartile.

    Example:
        >>> lower_quartiles([(1.0, 2.0, 3.0, 4.0, 5.0)])
        [2.0]
    """
    return [statistics.quantiles(column, n=4, method="inclusive")[0] for column in times]


def least(times: Columns) -> list[float]:
    """Estimate each network's time by its least.

    Example:
        >>> least([(1.0, 2.0, 9.0)])
        [1.0]
    """
    return [min(column) for column in times]


def paired(times: Columns) -> list[float]:
    """Estimate each network's time by the median of its shares of the rounds' medians.

    Example:
        >>> paired([(1.0, 10.0, 1.0), (2.0, 20.0, 2.0), (3.0, 30.0, 3.0)])
        [0.5, 1.0, 1.5]
    """
    middles = [statistics.median(each) for each in zip(*times, strict=True)]
    return [
        statistics.median(t / m for t, m in zip(column, middles, strict=True)) for column in times
    ]


ESTIMATORS = {
    "median": medians,
    "lower quartile": lower_quartiles,
    "least": least,
    "paired": paired,
}


def swapped(estimates: Sequence[float]) -> int:
    """Count the pairs in the wrong order, of a ladder that should rise.

    Example:
        >>> swapped([1.0, 3.0, 2.0, 4.0]), swapped([1.0, 2.0])
        (1, 0)
    """
    return sum(
        estimates[i] >= estimates[j]
        for i in range(len(estimates))
        for j in range(i + 1, len(estimates))
    )


def run(asked: Sequence[Subject], *, rounds: int, seed: int) -> list[dict[str, object]]:
    """Measure in both ways and return the wrong pairs of each way, time and estimator."""
    lines: list[dict[str, object]] = []
    for way, measured in WAYS.items():
        found = measured(asked, rounds=rounds, seed=seed)
        columns = {"wall": [m.wall_s for m in found], "processor": [m.processor_s for m in found]}
        busy = statistics.median(m.busy_share or 1.0 for m in found)
        for time, times in columns.items():
            for name, estimated in ESTIMATORS.items():
                wrong = swapped(estimated(times))
                line = {"seed": seed, "way": way, "time": time, "estimator": name}
                lines.append({**line, "swapped": wrong, "busy_share": busy})
    return lines


def table(lines: Sequence[dict[str, object]]) -> str:
    """Write how many runs were right, and how many pairs were wrong on average, in Markdown."""
    rows = ["| way | time | estimator | runs right | pairs wrong (of 45) |"]
    rows.append("| --- | --- | --- | ---: | ---: |")
    keys = dict.fromkeys((line["way"], line["time"], line["estimator"]) for line in lines)
    for key in keys:
        own = [
            line["swapped"]
            for line in lines
            if (line["way"], line["time"], line["estimator"]) == key
        ]
        wrong = [value for value in own if isinstance(value, int)]
        right = f"{sum(value == 0 for value in wrong)} of {len(wrong)}"
        rows.append(f"| {' | '.join(map(str, key))} | {right} | {statistics.mean(wrong):.1f} |")
    return "\n".join(rows)


def main() -> None:
    """Calibrate, load the machine, measure run by run, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--load", type=int, default=2, help="processes that come and go")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=None, help="all results as JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    before = os.getloadavg()[0]
    found = calibrated(options.rounds)
    steps = [b / a for a, b in zip(found.milliseconds, found.milliseconds[1:], strict=False)]
    print(f"sides {found.sides}, processor time {found.milliseconds[0]:.1f} ms and up, steps")
    print(" ".join(f"{step:.3f}" for step in steps), f"load before {before:.1f}", flush=True)
    asked, lines = subjects(found.sides), []
    for seed in range(options.seed, options.seed + options.runs):
        with bursts(options.load, seed=seed):
            lines += run(asked, rounds=options.rounds, seed=seed)
        print(f"run {seed}: load {os.getloadavg()[0]:.1f}", flush=True)
        if options.out is not None:
            document: dict[str, object] = {
                "options": {**vars(options), "out": None},
                "sides": found.sides,
                "milliseconds": found.milliseconds,
                "load_before": before,
                "runs": lines,
            }
            options.out.write_text(json.dumps(document, indent=1) + "\n")
    print(table(lines))


if __name__ == "__main__":
    main()
