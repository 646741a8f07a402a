"""How long a training takes and what energy, from the time of a step: numbers or arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from convscale.prediction.profile import Profile

Times = TypeVar("Times", float, npt.NDArray[np.float64])
_MS_PER_HOUR = 3.6e6


@dataclass(frozen=True)
class Schedule:
    """A training whose step a profile predicts; `TrainingPlan` says what is taken for granted.

    Args:
        profile: The profile of training.
        images: Images of one epoch.
        epochs: How often all are seen.
        batch_size: Images on each device in a step.
        devices: Devices that train together.
        efficiency: What is left of a device's speed beside the others.
        power_w: Power of each device; None where it is not known.

    Example:
        >>> from convscale.prediction.form import Execution
        >>> from convscale.prediction.profile import Seen
        >>> work = Execution("gpu", "nhwc", "eager", "training", "amp")
        >>> mine = Profile("mine", work, {}, Seen((1, 1), (224, 224), (1, 1), (8, 8), ()), ())
        >>> run = Schedule(mine, 1_000_000, 90, batch_size=250, devices=8, power_w=300.0)
        >>> run.hours(400.0), run.energy_kwh(run.hours(400.0))
        (5.0, 12.0)
    """

    profile: Profile
    images: int
    epochs: int
    batch_size: int
    devices: int = 1
    efficiency: float = 1.0
    power_w: float | None = None

    @property
    def steps(self) -> int:
        """Steps in all."""
        return self.epochs * -(-self.images // (self.batch_size * self.devices))

    def hours(self, step_ms: Times) -> Times:
        """Return the hours of all steps, from the time of one (ms)."""
        return step_ms * (self.steps / self.efficiency / _MS_PER_HOUR)

    def energy_kwh(self, hours: Times) -> Times:
        """Return the energy of all devices at their power, from the hours."""
        return hours * (self.devices * (self.power_w or 0.0) / 1e3)
