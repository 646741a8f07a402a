"""How the best candidates are measured, as it is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from convscale.quantities import check_count
from convscale.runtime import Limits


@dataclass(frozen=True)
class Finals:
    """How finalists are measured.

    Args:
        count: How many.
        device: Where: cpu, cuda or mps.
        threads: Threads of the processor; those of the profile if it is of this machine, else one.
        rounds: Visits to each, of one timed pass, or twelve of a short one.
        time_limit_s: Stop after this time, but not before three rounds.

    Example:
        >>> Finals(5).rounds
        15
    """

    count: int
    device: str = "cpu"
    threads: int | None = None
    rounds: int = 15
    time_limit_s: float = 75.0

    def __post_init__(self) -> None:
        """Refuse what cannot be used, before minutes are spent on searching."""
        check_count(self.count, what="number of finalists")
        Limits(self.rounds, time_limit_s=self.time_limit_s)
