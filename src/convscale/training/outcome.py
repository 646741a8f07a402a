"""What came of a training run."""

from __future__ import annotations

import resource
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from convscale.training.datasets import Data
from convscale.training.progress import Row
from convscale.training.request import TrainRequest
from convscale.training.subject import Subject
from convscale.training.variants import Choice


@dataclass(frozen=True)
class TrainResult:
    """What came of a run, or of the part of it until it was asked to stop (not `finished`).

    A run that was over already, and started `again`, has trained nothing.

    `rows` has an entry for each epoch, `best` the epoch with the lowest top-1 error. Seconds are
    those of all parts of a run that was cut off and went on.

    Example:
        >>> import tempfile
        >>> from torch import nn
        >>> from convscale.cli.watch import Silence
        >>> from convscale.training.recipe import Recipe
        >>> from convscale.training.running import train
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        ...                     nn.Linear(8, 10))
        >>> recipe = Recipe(epochs=1, warmup_epochs=0.0, batch_size=512, workers=0,
        ...                 precision="fp32", channels_last=False)
        >>> folder = Path(tempfile.mkdtemp())
        >>> request = TrainRequest(net, "digits", folder, recipe, resolution=8, device="cpu")
        >>> result = train(request, Silence())
        >>> result.finished, result.updates, len(result.rows), result.best["epoch"]
        (True, 2, 1, 1)
    """

    folder: Path
    subject: Subject
    data: Data
    request: TrainRequest
    finished: bool
    updates: int
    rows: tuple[Row, ...]
    best: dict[str, Any] | None
    choice: Choice
    processes: int
    threads: int
    device: str
    seconds: float
    training_seconds: float
    data_wait_seconds: float
    images_per_second: float | None
    peak_memory_bytes: int | None
    broken: tuple[str, ...]
    notes: tuple[str, ...]
    is_first: bool = True
    again: bool = False


def peak_memory(device: torch.device) -> int | None:
    """Return the most memory that the device's allocator, or else this process, has held.

    Example:
        >>> peak_memory(torch.device("cpu")) > 0
        True
    """
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
