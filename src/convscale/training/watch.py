"""What a training run tells as it goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from convscale.training.progress import Row


@dataclass(frozen=True)
class Tick:
    """An update that was made: its number and those of the run, counted from 1, and its loss.

    Example:
        >>> Tick(update=1, updates=10, epoch=0, loss=2.3, lr=0.1, images=32).loss
        2.3
    """

    update: int
    updates: int
    epoch: int
    loss: float
    lr: float
    images: int


class Watch(Protocol):
    """What shows a run to a person."""

    def on_update(self, tick: Tick) -> None:
        """Take an update."""

    def on_epoch(self, row: Row) -> None:
        """Take what came of an epoch."""

    def on_note(self, line: str) -> None:
        """Take something to know."""
