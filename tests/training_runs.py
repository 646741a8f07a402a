"""Tiny training runs for the tests of training: a network that takes seconds, kills, processes.

Runs in processes of their own are forked from one that has imported everything
(`tests.forking`). `python -m tests.training_runs FOLDER` trains, for torchrun to start.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from timm.layers import BatchNormAct2d, ScaledStdConv2d
from torch import nn

from convscale.cli.main import run as command
from convscale.errors import ConvscaleError
from convscale.training.outcome import TrainResult
from convscale.training.processes import open_processes
from convscale.training.recipe import Recipe
from convscale.training.request import TrainRequest
from convscale.training.running import train
from convscale.training.syncing import SyncedBatchNorm
from tests.forking import PIPE, ended, forked

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


class Grouped(Tiny):
    """The same network, with normalisation of groups of channels: no image sees the others."""

    def __init__(self) -> None:
        super().__init__()
        self.stem[1], self.body[1] = nn.GroupNorm(4, 16), nn.GroupNorm(4, 32)


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


def run(folder: Path, watch=None, *, network=None, resolution=8, **knobs) -> TrainResult:
    """Train the tiny network, or one by its name, on the digits, with the same first weights."""
    torch.manual_seed(0)
    network = network() if isinstance(network, type) else network or Tiny()
    request = TrainRequest(
        network, "digits", folder, short(**knobs), resolution=resolution, device="cpu"
    )
    return train(request, watch or Silent())


def run_with(folder: Path, knobs: dict) -> None:
    """Train with the knobs of `run`."""
    run(folder, **knobs)


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


def run_without_chance(folder: Path) -> None:
    """Train the tiny networks for 22 steps without dropout."""
    run(folder / "batches", dropout=0.0, augment="none", lr=0.02)
    run(folder / "groups", network=Grouped, dropout=0.0)


def by_torchrun(folder: Path) -> subprocess.CompletedProcess:
    """Train without dropout in two processes that torchrun starts."""
    words = ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    return subprocess.run(
        [sys.executable, "-m", *words, "tests.training_runs", str(folder)],
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
    )


class Telling(Silent):
    """A watch that tells every update and epoch at once."""

    def __init__(self, pipe) -> None:
        super().__init__()
        self.pipe = pipe

    def on_update(self, tick):
        self.pipe.send_bytes(b"update")

    def on_epoch(self, row):
        self.pipe.send_bytes(b"epoch")


def run_telling(folder: Path, pipe, knobs: dict) -> None:
    """Train, and tell every update and epoch on a pipe."""
    run(folder, Telling(pipe), **knobs)


def kill_at_random(folder: Path, *, seed: int, times: int, knobs: dict) -> int:
    """Train in FOLDER/whole, and in FOLDER/killed with SIGKILL at random moments; count them."""
    choose, killed = random.Random(seed), 0
    began = time.monotonic()
    assert ended(forked(run_with, folder / "whole", knobs)) == 0
    updates = len((folder / "whole" / "steps.csv").read_text().splitlines()) - 1
    a_moment = (time.monotonic() - began) / updates
    while True:
        told, telling = PIPE(duplex=False)
        child = forked(run_telling, folder / "killed", telling, knobs)
        telling.close()
        if killed < times:
            with contextlib.suppress(EOFError):  # it has ended before
                for _ in range(choose.randint(1, updates // times)):
                    told.recv_bytes()
            time.sleep(choose.uniform(0, a_moment / 4))
            child.kill()
        status = ended(child)
        told.close()
        if status != -signal.SIGKILL:
            assert status == 0, f"a run that was killed {killed} times ended with {status}"
            return killed
        killed += 1


class Dying(Silent):
    """A watch with which the second process kills itself after some updates."""

    def on_update(self, tick):
        super().on_update(tick)
        if os.environ["RANK"] == "1" and len(self.losses) == 5:
            os.kill(os.getpid(), signal.SIGKILL)


def run_dying(folder: Path, knobs: dict) -> None:
    """Train until the second process dies, and say what the others say."""
    try:
        run(folder, Dying(), **knobs)
    except ConvscaleError as error:
        sys.exit(error.line)


def run_command(words: list[str]) -> None:
    """Run a command line as the program does."""
    sys.exit(command(words))


def norms() -> dict[str, nn.Module]:
    """Return layers with batch normalisation, in double precision and with weights that differ."""
    torch.manual_seed(1)
    found = {
        "plain": nn.BatchNorm2d(4),
        "without weights": nn.BatchNorm2d(4, affine=False),
        "cumulative": nn.BatchNorm2d(4, momentum=None),
        "timm's": BatchNormAct2d(4),
        "without shifts": nn.BatchNorm2d(4),
        "of weights": ScaledStdConv2d(4, 4, 3),
    }
    found["without shifts"].register_parameter("bias", None)
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


def write_norms(folder: Path) -> None:
    """Write what batch normalisation over the batch of all processes gives."""
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
    with open_processes("cpu"):  # once for both runs: processes that part cannot join again
        run_without_chance(Path(sys.argv[1]))
