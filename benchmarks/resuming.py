"""Kill a training run at random moments, and compare its end with that of an undisturbed one.

`python -m benchmarks.resuming` trains a network by the recipe strong (with an average of the
weights, RandAugment and mixup) from the command line twice: once undisturbed, and once with SIGKILL
twenty times, at moments drawn evenly from the start of the process on, so that some hit the
imports, some a step and some a checkpoint. What must be the same bit for bit: weights, their
average, the optimiser's state, the losses of all steps, and the errors of all epochs. The exit
status is 1 where anything differs.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

_TIMES = ("seconds", "images_per_second", "data_wait_share")
_FIXED = (
    "precision=fp32",
    "channels_last=false",
    "checkpoint_steps=2",
    "batch_size=64",
    "ema=0.99",
)


@dataclass(frozen=True)
class Spent:
    """How long an undisturbed run took until its first checkpoint, and from there on.

    Example:
        >>> Spent(start_s=5.0, training_s=20.0).latest_s(times=20)
        5.5
    """

    start_s: float
    training_s: float

    def latest_s(self, times: int) -> float:
        """Return the latest moment of a kill with which so many fit into a run, and half of it."""
        return self.start_s + self.training_s / (2 * times)


def command(network: str, folder: Path, asked: argparse.Namespace) -> list[str]:
    """Return the command line of a run.

    Example:
        >>> asked = argparse.Namespace(data="digits", resolution=32, epochs=2, workers=0)
        >>> command("resnet18", Path("run"), asked)[3:5]
        ['train', 'resnet18']
    """
    words = [sys.executable, "-m", "convscale.cli.main", "train", network, "--data", asked.data]
    words += ["--resolution", str(asked.resolution), "--epochs", str(asked.epochs)]
    words += ["--recipe", "strong", "--device", "cpu", "--out", str(folder)]
    for knob in (*_FIXED, f"workers={asked.workers}"):
        words += ["--set", knob]
    return words


def undisturbed(words: list[str], folder: Path) -> Spent:
    """Train to the end, and say how long it took."""
    begun, first = time.monotonic(), None
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            if first is None and list((folder / "state").glob("checkpoint-*")):
                first = time.monotonic()
            time.sleep(0.05)
    if process.returncode or first is None:
        sys.exit(f"The undisturbed run has ended with status {process.returncode}.")
    return Spent(first - begun, time.monotonic() - first)


def killed(words: list[str], spent: Spent, times: int, choose: random.Random) -> int:
    """Train to the end with kills on the way, and count these."""
    for kills in range(times):
        with subprocess.Popen(words, stdout=subprocess.DEVNULL) as process:
            try:
                process.wait(choose.uniform(0, spent.latest_s(times)))
            except subprocess.TimeoutExpired:
                process.kill()
                continue
        return kills  # it has ended before
    subprocess.run(words, stdout=subprocess.DEVNULL, check=True)
    return times


def contents(folder: Path) -> dict[str, object]:
    """Return what must be the same of two runs, by what it is called."""
    state = max((folder / "state").glob("checkpoint-*"))
    files = [*state.glob("*.safetensors"), *folder.glob("*.safetensors"), folder / "steps.csv"]
    found: dict[str, object] = {str(path.relative_to(folder)): path.read_bytes() for path in files}
    with (folder / "history.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    found["history.csv"] = [
        {name: value for name, value in row.items() if name not in _TIMES} for row in rows
    ]
    result = json.loads((folder / "result.json").read_text())
    found["result.json"] = [result[name] for name in ("top1_error_pct", "ema", "best", "steps")]
    return found


def main() -> int:
    """Run the comparison and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=["resnet18@w:0.25"])
    parser.add_argument("--data", default="digits")
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    differing = 0
    for network in asked.networks:
        with tempfile.TemporaryDirectory() as place:
            whole, cut = Path(place, "whole"), Path(place, "killed")
            spent = undisturbed(command(network, whole, asked), whole)
            words = command(network, cut, asked)
            kills = killed(words, spent, asked.times, random.Random(asked.seed))
            one, other = contents(whole), contents(cut)
            differ = sorted(
                key for key in one.keys() | other.keys() if one.get(key) != other.get(key)
            )
        said = f"differ: {', '.join(differ)}" if differ else f"{len(one)} files are the same"
        print(f"{network} on {asked.data}, killed {kills} times: {said}", flush=True)
        differing += bool(differ)
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
