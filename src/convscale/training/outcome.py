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

    `rows` has an entry for each epoch, `best` the epoch with the lowest top-1 error. Seconds are
    those of all parts of a run that was cut off and went on.
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
