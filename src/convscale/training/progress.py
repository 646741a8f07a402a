"""How far a run is, and what it has found: all that a checkpoint holds beside tensors."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

Row = dict[str, float | int | None]


@dataclass
class Progress:
    """The state of a run between two updates; it changes as the run goes on.

    Args:
        updates: How many updates are made.
        epochs: How many epochs are over, their evaluation included.
        rows: What came of each epoch.
        best: The epoch with the lowest top-1 error so far, and which weights had it.
        loss_sum: The sum of the losses of this epoch's updates.
        training_s: The time of this epoch's updates, waiting for data included.
        waiting_s: The share of it that was spent waiting.
        total_s: The time of the run, all of its parts together.
        training_total_s: The time of all updates.
        waiting_total_s: The share of it that was spent waiting.

    Example:
        >>> Progress.from_document(Progress(updates=7).as_document()).updates
        7
    """

    updates: int = 0
    epochs: int = 0
    rows: list[Row] = field(default_factory=list)
    best: dict[str, Any] | None = None
    loss_sum: float = 0.0
    training_s: float = 0.0
    waiting_s: float = 0.0
    total_s: float = 0.0
    training_total_s: float = 0.0
    waiting_total_s: float = 0.0

    def as_document(self) -> dict[str, Any]:
        """Return the state as JSON takes it, every bit of its numbers."""
        return asdict(self)

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Progress:
        """Read what `as_document` wrote."""
        return cls(**document)

    def add_update(self, loss: float, *, training_s: float, waiting_s: float) -> None:
        """Count an update.

        Example:
            >>> progress = Progress()
            >>> progress.add_update(2.5, training_s=0.1, waiting_s=0.0)
            >>> progress.updates, progress.loss_sum
            (1, 2.5)
        """
        self.updates += 1
        self.loss_sum += loss
        self.training_s += training_s
        self.waiting_s += waiting_s

    def end_epoch(self, row: Row) -> None:
        """Keep what came of an epoch and begin the next.

        Example:
            >>> progress = Progress(loss_sum=3.0)
            >>> progress.end_epoch({"epoch": 1})
            >>> progress.epochs, progress.loss_sum
            (1, 0.0)
        """
        self.epochs += 1
        self.rows.append(row)
        self.training_total_s += self.training_s
        self.waiting_total_s += self.waiting_s
        self.loss_sum = self.training_s = self.waiting_s = 0.0
