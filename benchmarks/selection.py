"""How good the choice from a table of networks is where latency is predicted, not known.

Candidates are the pairs of architecture and side that have both a public accuracy and a public
timing (of several weights, the best). Latency an image is predicted by fits that have not seen the
candidate's family, and its interval is made of the misses on other families; budgets are
log-spaced between percentiles of the true latency. The regret of a choice is its error minus that
of the best network that truly fits, or 0; a violation is a choice that truly takes over 5 % more
than the budget.

    python -m benchmarks.selection rtx3090-amp-nchw --shared ../shared
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from convscale.cli.progress import progress
from convscale.errors import BudgetError
from convscale.files import write_whole
from convscale.prediction.heldout import splits
from convscale.prediction.interval import factors
from convscale.prediction.profile import Profile
from convscale.prediction.store import profile_of
from convscale.prediction.tables import Table, read_table
from convscale.prediction.transfer import stack_of
from convscale.prediction.unseen import unseen
from convscale.selection.constraints import Constraint
from convscale.selection.objective import TableErrors
from convscale.selection.pool import Pool
from convscale.selection.select import select
from convscale.study.tabulated import tabulated

Floats = npt.NDArray[np.float64]
TABLES, ACCURACY = "data/timm", "results-imagenet.csv"
CONVOLUTIONAL = "golden/timm_conv_architectures.txt"
BUDGETS, LOW, HIGH = 30, 5, 95
OVER = 1.05
CONFIDENCES = (0.5, 0.9)
_FIELDS = ("architecture", "resolution", "family", "true_ms", "predicted_ms", "doubt")


@dataclass(frozen=True)
class Held:
    """A timing an image, what a fit without its family predicts, and how little it knows of it."""

    architecture: str
    resolution: int
    family: str
    true_ms: float
    predicted_ms: float
    doubt: float = 1.0


@dataclass(frozen=True)
class Score:
    """What the choices of one confidence came to."""

    confidence: float
    candidates: int
    choices: int
    nothing: int
    mean_regret: float
    worst_regret: float
    violations: float

    def line(self) -> str:
        """Write it as a line."""
        return (
            f"confidence {self.confidence:g}: {self.candidates} candidates, {self.choices} choices "
            f"({self.nothing} budgets without one), mean regret {self.mean_regret:.3f} points, "
            f"worst {self.worst_regret:.2f}, violations {100 * self.violations:.1f} %"
        )


def held_out(profile: Profile, shared: Path, folds: int) -> list[Held]:
    """Predict every timing of a profile's table by a fit without its family."""
    file, work = str(profile.conditions["table"]), profile.execution.work
    whole = read_table(shared / TABLES / file, work=work)
    listed = set((shared / CONVOLUTIONAL).read_text().split())
    table = Table(work, tuple(row for row in whole.rows if row.architecture in listed))
    with progress("Recording") as report:
        timings = tabulated(table, progress=report).timings
    stack = stack_of(timings, profile.execution)
    with progress("Families") as report:
        groups = folded(stack.families, folds)
        found = unseen(stack, groups, profile.execution, progress=report)
    return [
        Held(
            one.network.removeprefix("timm:"),
            one.resolution or 0,
            one.family,
            1e3 * one.seconds / one.batch_size,
            1e3 * float(predicted) / one.batch_size,
            float(doubt),
        )
        for one, predicted, doubt in zip(timings, found.seconds, found.doubt, strict=True)
    ]


def folded(families: Sequence[str], folds: int) -> list[str]:
    """Return groups of whole families, which are left out together: a fit for each group."""
    place = {name: at % folds for at, name in enumerate(sorted(set(families)))}
    return [str(place[name]) for name in families]


def kept(path: Path, profile: Profile, shared: Path, folds: int) -> list[Held]:
    """Return the predictions that a file keeps; make it where it is not there."""
    if not path.exists():
        rows = [
            ",".join(str(getattr(one, name)) for name in _FIELDS)
            for one in held_out(profile, shared, folds)
        ]
        write_whole(path, "\n".join([",".join(_FIELDS), *rows, ""]))
    with path.open(newline="") as file:
        return [
            Held(
                row["architecture"],
                int(row["resolution"]),
                row["family"],
                float(row["true_ms"]),
                float(row["predicted_ms"]),
                float(row["doubt"]),
            )
            for row in csv.DictReader(file)
        ]


def errors_of(shared: Path) -> dict[tuple[str, int], float]:
    """Return the least top-1 error (%) of each architecture and side."""
    found: dict[tuple[str, int], float] = {}
    with (shared / TABLES / ACCURACY).open(newline="") as file:
        for row in csv.DictReader(file):
            key = (row["model"].partition(".")[0], int(row["img_size"]))
            found[key] = min(float(row["top1_err"]), found.get(key, 100.0))
    return found


def upper(held: Sequence[Held], confidence: float) -> Floats:
    """Return the latency that is kept with the confidence, by misses on other families."""
    predicted = np.array([one.predicted_ms for one in held])
    if confidence == 0.5:
        return predicted
    # over the relative widths of intervals; what is typical makes no difference
    widths = np.sqrt([one.doubt for one in held])
    misses = np.log(predicted / np.array([one.true_ms for one in held])) / widths
    found = np.empty(len(held))
    for seen, new in splits([one.family for one in held]):
        high = factors(misses[seen], 2 * confidence - 1)[1]
        found[new] = predicted[new] * max(high, 1.0) ** widths[new]
    return found


def score(held: Sequence[Held], errors: dict[tuple[str, int], float], confidence: float) -> Score:
    """Choose for every budget and compare with what truly fits."""
    bounds = upper(held, confidence)
    both = [i for i, one in enumerate(held) if (one.architecture, one.resolution) in errors]
    own = [held[i] for i in both]
    true = np.array([one.true_ms for one in own])
    error = np.array([errors[one.architecture, one.resolution] for one in own])
    pool = Pool(
        tuple(f"{one.architecture} ({one.resolution} px)" for one in own),
        tuple(one.family for one in own),
        {"latency_ms": np.array([one.predicted_ms for one in own])},
        {"latency_ms": bounds[both]},
        confidence,
    )
    chosen = list(_choices(pool, error, true))
    made = [(at, budget) for at, budget in chosen if at is not None]
    regrets = [max(0.0, error[at] - error[true <= budget].min()) for at, budget in made]
    over = [bool(true[at] > OVER * budget) for at, budget in made]
    return Score(
        confidence,
        len(own),
        len(made),
        len(chosen) - len(made),
        float(np.mean(regrets)),
        float(np.max(regrets)),
        float(np.mean(over)),
    )


def _choices(pool: Pool, error: Floats, true: Floats) -> Iterator[tuple[int | None, float]]:
    objective = TableErrors("top1_err", tuple(map(float, error)))
    low, high = (float(np.percentile(true, at)) for at in (LOW, HIGH))
    for budget in np.geomspace(low, high, BUDGETS):
        try:
            found = select(pool, objective, [Constraint("latency_ms", float(budget))])
            yield found.chosen, float(budget)
        except BudgetError:
            yield None, float(budget)


def main() -> None:
    """Print regret and violations of the profiles that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("profiles", nargs="+")
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="the tables")
    parser.add_argument(
        "--kept", type=Path, default=Path("selection"), help="predictions, a file each"
    )
    parser.add_argument("--folds", type=int, default=10**6, help="groups of families left out")
    given = parser.parse_args()
    errors = errors_of(given.shared)
    for name in given.profiles:
        held = kept(given.kept / f"{name}.csv", profile_of(name), given.shared, given.folds)
        for confidence in CONFIDENCES:
            print(f"{name}: {score(held, errors, confidence).line()}")


if __name__ == "__main__":
    main()
