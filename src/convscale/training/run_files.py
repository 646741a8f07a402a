"""The files of a training run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Files:
    """Where a run writes: the weights, the losses, and the state to go on from.

    Example:
        >>> Files(Path("run")).state.name
        'state'
    """

    folder: Path

    @property
    def state(self) -> Path:
        """The folder of checkpoints."""
        return self.folder / "state"

    @property
    def steps(self) -> Path:
        """The loss of every step."""
        return self.folder / "steps.csv"

    def weights(self, name: str) -> Path:
        """Return the file of weights: best, last or ema."""
        return self.folder / f"{name}.safetensors"
