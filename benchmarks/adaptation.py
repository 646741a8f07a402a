"""Predict a device from another's profile and few times: `make adaptation`.

For each pair of devices the profile of one is fitted to its table, and carried over to the other
by 10 (GPUs) or 20 (processors) of its times. The networks are those of the default list, those
that the program chooses, or drawn ones. Errors are on all networks that were not timed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convscale.cli.progress import progress
from convscale.prediction.adaptation import Moves, adapt
from convscale.prediction.design import Candidate, choose
from convscale.prediction.execution import Execution
from convscale.prediction.fitting import fit_stack, predicted_seconds
from convscale.prediction.known import label_of
from convscale.prediction.law import COSTS, law_of
from convscale.prediction.tables import read_table
from convscale.prediction.timing import Timing
from convscale.prediction.transfer import prior_of, stack_of, starting_from
from convscale.runtime import Setting
from convscale.study.calibrating import execution_of, timings_of
from convscale.study.default_networks import CANDIDATES, DEFAULT_SIDES
from convscale.study.study_file import read_study
from convscale.study.tabulated import tabulated
from convscale.study.timing import Side

ROOT = Path(__file__).parent.parent
GPU = Execution("gpu", "nhwc", "eager", "inference", "amp")
I7 = Execution("cpu", "nchw", "compiled", "inference", "float32")
TABLES = {
    "rtx3090 nhwc": ("benchmark-infer-amp-nhwc-pt240-cu124-rtx3090.csv", GPU),
    "rtx4090 nhwc": ("benchmark-infer-amp-nhwc-pt240-cu124-rtx4090.csv", GPU),
    "i7-12700h": ("benchmark-infer-fp32-nchw-pt240-cpu-i7_12700h-dynamo.csv", I7),
}
HERE = "here"
PAIRS = (("rtx3090 nhwc", "rtx4090 nhwc", 10), ("rtx4090 nhwc", "rtx3090 nhwc", 10))


@dataclass(frozen=True)
class Device:
    """Times of one device by network and side.

    Example:
        >>> Device("none", GPU, {}).timings
        {}
    """

    name: str
    execution: Execution
    timings: dict[str, Timing]


@dataclass(frozen=True)
class Transfer:
    """A source and a target, and how many of the target's networks are timed."""

    source: Device
    target: Device
    count: int

    @property
    def labels(self) -> list[str]:
        """Networks that the target was timed on."""
        return sorted(self.target.timings)


def device(name: str, folder: Path, listed: frozenset[str]) -> Device:
    """Read a table, and record the networks of the list."""
    file, execution = TABLES[name]
    table = read_table(folder / "data" / "timm" / file)
    rows = tuple(row for row in table.rows if row.architecture in listed)
    with progress(f"Recording {name}") as report:
        found = tabulated(type(table)(table.work, rows), progress=report)
    return Device(name, execution, _by_label(found.timings))


def here(file: Path) -> Device:
    """Read a study that `calibrate --timings` keeps."""
    study = read_study(file)
    names = ("mode", "batch_size", "device", "dtype", "channels_last", "compile", "threads")
    given: dict[str, Any] = {name: study.settings[name] for name in names}
    setting = Setting(**given)
    sides = [Side(one.row.network, one.row.resolution) for one in study.networks]
    return Device(HERE, execution_of(setting), _by_label(timings_of(study, sides, setting)))


def _by_label(timings: Sequence[Timing]) -> dict[str, Timing]:
    return {label_of(one.network, one.resolution): one for one in timings}


class Study:
    """Adaptations of one source to one target, from any networks."""

    def __init__(self, transfer: Transfer) -> None:
        source, target = transfer.source, transfer.target
        known = stack_of(list(source.timings.values()), source.execution)
        coefficients = fit_stack(known, source.execution)
        missed = np.log(known.seconds / predicted_seconds(known, coefficients, source.execution))
        self.labels = transfer.labels
        self.target, self.count = target, transfer.count
        self.prior = prior_of(source.execution, target.execution)
        self.stack = stack_of([target.timings[label] for label in self.labels], target.execution)
        self.start = starting_from(coefficients, target.execution)
        by_label = dict(zip(source.timings, missed, strict=True))
        self.missed = np.array([by_label.get(label, 0.0) for label in self.labels])
        self.known = np.array([label in by_label for label in self.labels])

    def errors(self, timed: Sequence[int], *, reference: bool, families: bool = False) -> float:
        """Return the MAPE (%) on networks that were not timed, or on families that were not."""
        which = np.zeros(self.stack.size, dtype=bool)
        which[list(timed)] = True
        few = self.stack.only(which)
        residuals = self.missed[which] if reference else None
        law = law_of(few, self.target.execution)
        found = adapt(self.start, law, few.seconds, COSTS, residuals=residuals, prior=self.prior)
        predicted = predicted_seconds(self.stack, found.coefficients, self.target.execution)
        predicted = predicted * np.exp(found.shared * self.missed)
        others = ~which
        if families:
            seen = {self.stack.families[at] for at in timed}
            others &= np.array([family not in seen for family in self.stack.families])
        if reference:
            others &= self.known
        return 100 * float(np.abs(predicted / self.stack.seconds - 1)[others].mean())

    def chosen(self) -> list[int]:
        """Return the networks that the program chooses from its candidates."""
        allowed = {label_of(str(side.network), side.resolution) for side in CANDIDATES}
        may = [label in allowed for label in self.labels]
        if sum(may) < self.count:
            may = [True] * len(self.labels)
        _, slopes = law_of(self.stack, self.target.execution)(self.start)
        listed = [
            Candidate(label, "", family, 1.0)
            for label, family in zip(self.labels, self.stack.families, strict=True)
        ]
        moves = Moves(tuple(self.start), COSTS)
        return list(choose(listed, slopes, moves, self.count, allowed=may))

    def default(self) -> list[int]:
        """Return the first networks of the default list that the target was timed on."""
        at = {label: place for place, label in enumerate(self.labels)}
        listed = (label_of(str(side.network), side.resolution) for side in DEFAULT_SIDES)
        return [at[label] for label in listed if label in at][: self.count]

    def drawn(self, times: int) -> Iterator[list[int]]:
        """Yield random draws of as many networks."""
        rng = np.random.default_rng(0)
        for _ in range(times):
            yield sorted(rng.choice(self.stack.size, self.count, replace=False).tolist())


def lines(transfer: Transfer, draws: int) -> Iterator[str]:
    """Yield the rows of the table of one pair of devices."""
    study = Study(transfer)
    chosen, default, drawn = study.chosen(), study.default(), list(study.drawn(draws))
    pair = f"{transfer.source.name} → {transfer.target.name}"
    for reference, said in ((False, "profile alone"), (True, "source's timings too")):
        own = study.errors(chosen, reference=reference)
        new = study.errors(chosen, reference=reference, families=True)
        usual = study.errors(default, reference=reference)
        others = [study.errors(each, reference=reference) for each in drawn]
        yield (
            f"| {pair} | {transfer.count} | {said} | {own:.1f} | {new:.1f} | "
            f"{usual:.1f} | {np.mean(others):.1f} | {np.max(others):.1f} | "
            f"{study.stack.size - len(chosen)} |"
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared", help="the tables")
    parser.add_argument("--here", type=Path, help="times of this machine (calibrate --timings)")
    parser.add_argument("--draws", type=int, default=20)
    options = parser.parse_args()
    listed = (options.shared / "golden" / "timm_conv_architectures.txt").read_text().split()
    pairs = list(PAIRS) + ([("i7-12700h", HERE, 20)] if options.here else [])
    names = dict.fromkeys(name for pair in pairs for name in pair[:2])
    devices = {
        name: here(options.here)
        if name == HERE
        else device(name, options.shared, frozenset(listed))
        for name in names
    }
    print(
        "| source → target | timed | from | chosen % | of new families % | default list % "
        "| drawn % | worst % | on |"
    )
    print("|---|---:|---|---:|---:|---:|---:|---:|---:|")
    for source, target, count in pairs:
        for line in lines(Transfer(devices[source], devices[target], count), options.draws):
            print(line, flush=True)


if __name__ == "__main__":
    main()
