"""Tiny training runs for the tests of training: a network that takes seconds, and its kills.

`python -m tests.training_runs kills FOLDER SEED TIMES RECIPE` trains undisturbed in FOLDER/whole,
and in FOLDER/killed with SIGKILL at TIMES random moments; `... train FOLDER RECIPE` trains
in this process, or in those of torchrun; `... dies FOLDER RECIPE` likewise, but the second process
is killed after a few updates; `... norm FOLDER` writes what batch normalisation over the batch of
all processes gives. The kills are of forked children, so that libraries are imported once.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import torch
from safetensors.torch import save_file
from timm.layers import BatchNormAct2d
from torch import nn

from convscale.errors import ConvscaleError
from convscale.training.processes import open_processes
from convscale.training.recipe import Recipe
from convscale.training.request import TrainRequest
from convscale.training.running import TrainResult, train
from convscale.training.syncing import SyncedBatchNorm

ROOT = Path(__file__).parent.parent
SHORT = {
    "epochs": 2,
    "batch_size": 128,
    "warmup_epochs": 0.5,
    "lr": 0.1,
    "lr_batch": None,
    "dropout": 0.2,
    "workers": 0,
    "precision": "fp32",
    "channels_last": False,
}


class Tiny(nn.Module):
    """A network of the digits' size with all that a checkpoint has to bear: norms and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.body = nn.Sequential(
            nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU()
        )
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(32, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.dropout(self.body(self.stem(images)).mean((2, 3))))


class Silent:
    """A watch that remembers what it is shown."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.notes: list[str] = []

    def on_update(self, tick):
        self.losses.append(tick.loss)

    def on_epoch(self, row):
        pass

    def on_note(self, line):
        self.notes.append(line)


def short(**knobs) -> Recipe:
    return Recipe(**{**SHORT, **knobs})


def run(folder: Path, watch=None, **knobs) -> TrainResult:
    """Train the tiny network on the digits; the same weights at the start every time."""
    torch.manual_seed(0)
    request = TrainRequest(Tiny(), "digits", folder, short(**knobs), resolution=8, device="cpu")
    return train(request, watch or Silent())


def state_of(folder: Path) -> dict[str, bytes]:
    """Return the files that must be the same bit for bit: weights, their average, optimiser."""
    newest = max((folder / "state").glob("checkpoint-*"))
    found = {path.name: path.read_bytes() for path in newest.glob("*.safetensors")}
    return {**found, **{path.name: path.read_bytes() for path in folder.glob("*.safetensors")}}


def untimed(rows) -> list[dict]:
    """Return what came of the epochs, times aside."""
    times = ("seconds", "images_per_second", "data_wait_share")
    return [{name: value for name, value in row.items() if name not in times} for row in rows]


def rows_of(folder: Path) -> list[dict]:
    """Return the rows that the newest checkpoint of a run holds."""
    newest = max((folder / "state").glob("checkpoint-*"))
    state = json.loads(json.loads((newest / "state.json").read_text())["state"])
    return state["values"]["progress"]["rows"]


def assert_equal_runs(one: Path, other: Path) -> None:
    """Compare two runs: weights, states and losses bit for bit, epochs but for their times."""
    assert state_of(one) == state_of(other)
    assert untimed(rows_of(one)) == untimed(rows_of(other))
    assert (one / "steps.csv").read_text() == (other / "steps.csv").read_text()


def started(*words, processes: int = 1) -> subprocess.CompletedProcess:
    """Run this file in a process of its own, or in several by torchrun."""
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    run_by = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    by = run_by if processes > 1 else []
    return subprocess.run(
        [
            sys.executable,
            "-m",
            *(by if processes > 1 else []),
            "tests.training_runs",
            *map(str, words),
        ],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
    )


class Telling(Silent):
    """A watch that writes a byte for every update and epoch."""

    def __init__(self, pipe: int) -> None:
        super().__init__()
        self.pipe = pipe

    def on_update(self, tick):
        os.write(self.pipe, b"u")

    def on_epoch(self, row):
        os.write(self.pipe, b"e")


def _forked(folder: Path, knobs: dict) -> tuple[int, int]:
    """Train in a child; return it and the pipe on which it tells its updates."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    os.close(reading)
    torch.set_num_threads(1)
    status = 1
    try:
        run(folder, Telling(writing), **knobs)
        status = 0
    except Exception:
        traceback.print_exc()
        raise
    finally:
        os._exit(status)  # nothing of the parent's is to be ended here


def _kills(folder: Path, seed: int, times: int, knobs: dict) -> None:
    began, choose, killed = time.monotonic(), random.Random(seed), 0
    child, told = _forked(folder / "whole", knobs)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    updates = os.read(told, 10_000).count(b"u")
    a_moment = (time.monotonic() - began) / updates
    while True:
        child, told = _forked(folder / "killed", knobs)
        if killed < times:
            for _ in range(choose.randint(0, updates // times)):
                os.read(told, 1)
            time.sleep(choose.uniform(0, a_moment))
            os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.close(told)
        if status != -signal.SIGKILL:
            assert status == 0, f"a run that was killed {killed} times ended with {status}"
            break
        killed += 1
    sys.stdout.write(json.dumps({"killed": killed, "updates": updates}))


class Dying(Silent):
    """A watch with which the second process kills itself after some updates."""

    def on_update(self, tick):
        super().on_update(tick)
        if os.environ["RANK"] == "1" and len(self.losses) == 5:
            os.kill(os.getpid(), signal.SIGKILL)


def norms() -> dict[str, nn.Module]:
    """Return layers with batch normalisation, in double precision and with weights that differ."""
    torch.manual_seed(1)
    found = {
        "plain": nn.BatchNorm2d(4),
        "without weights": nn.BatchNorm2d(4, affine=False),
        "cumulative": nn.BatchNorm2d(4, momentum=None),
        "timm's": BatchNormAct2d(4),
    }
    for module in found.values():
        module.double()
        for weight in module.parameters():
            nn.init.normal_(weight)
    return found


def norm_images() -> tuple[torch.Tensor, torch.Tensor]:
    """Return a batch of two processes, and by what its normalised values are multiplied."""
    random = torch.Generator().manual_seed(2)
    made = torch.randn(2, 8, 4, 3, 5, generator=random, dtype=torch.float64)
    return made[0] * 3 + 1, made[1]


def _write_norms(folder: Path) -> None:
    with open_processes("cpu") as processes:
        part = slice(4 * processes.rank, 4 * processes.rank + 4)
        for name, module in norms().items():
            images, times = (tensor[part].clone() for tensor in norm_images())
            images.requires_grad_()
            with SyncedBatchNorm():
                output = module(images)
            (output * times).sum().backward()
            found = {"output": output, "images": images.grad, **dict(module.named_buffers())}
            found |= {f"gradient of {key}": w.grad for key, w in module.named_parameters()}
            save_file(
                {key: tensor.detach().clone() for key, tensor in found.items()},
                folder / f"{name} {processes.rank}.safetensors",
            )


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["kills", folder, seed, times, knobs]:
            _kills(Path(folder), int(seed), int(times), json.loads(knobs))
        case ["train", folder, knobs]:
            run(Path(folder), **json.loads(knobs))
        case ["dies", folder, knobs]:
            try:
                run(Path(folder), Dying(), **json.loads(knobs))
            except ConvscaleError as error:
                sys.exit(error.line)
        case ["norm", folder]:
            _write_norms(Path(folder))
