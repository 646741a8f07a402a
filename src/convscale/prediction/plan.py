"""A training run planned: steps, times, device-hours, memory and energy. No torch here."""

from __future__ import annotations

from dataclasses import dataclass

from convscale.complexity.memory import Memory
from convscale.prediction.prediction import Prediction
from convscale.quantities import Resolution

_S_PER_HOUR = 3600.0


@dataclass(frozen=True)
class TrainingPlan:
    """What a training takes on devices whose profile predicts its step.

    `step` is the prediction for the batch of one device. All devices take a step together and
    each keeps the share `efficiency` of its speed: a step takes step / efficiency, whatever the
    number of devices. The last step of an epoch counts as a whole one.

    Example:
        >>> from convscale.prediction.form import Execution
        >>> execution = Execution("gpu", "nhwc", "eager", "training", "amp")
        >>> step = Prediction("net", 224, 250, "mine", execution, 400.0, (360.0, 450.0), 0.9)
        >>> plan = TrainingPlan(step, images=1_000_000, epochs=90, devices=8, power_w=300.0)
        >>> plan.steps_per_epoch, plan.epoch_s, plan.device_hours, plan.energy_kwh
        (500, 200.0, 40.0, 12.0)
    """

    step: Prediction
    images: int
    epochs: int
    devices: int = 1
    efficiency: float = 1.0
    power_w: float | None = None
    memory: Memory | None = None
    notes: tuple[str, ...] = ()

    @property
    def steps_per_epoch(self) -> int:
        """Steps of all devices together, the last perhaps not full."""
        return -(-self.images // (self.step.batch_size * self.devices))

    @property
    def step_ms(self) -> float:
        """The time of one step (ms)."""
        return self.step.latency_ms / self.efficiency

    @property
    def epoch_s(self) -> float:
        """The time of one epoch (s)."""
        return self.steps_per_epoch * self.step_ms / 1e3

    @property
    def total_s(self) -> float:
        """The time of all epochs (s)."""
        return self.epochs * self.epoch_s

    @property
    def device_hours(self) -> float:
        """Hours of all devices together."""
        return self.devices * self.total_s / _S_PER_HOUR

    @property
    def energy_kwh(self) -> float | None:
        """Energy (kWh) of all devices at the stated power; None without one."""
        return None if self.power_w is None else self.device_hours * self.power_w / 1e3

    def interval(self, value: float) -> tuple[float, float]:
        """Return the interval of a time or an energy: as wide, by ratio, as that of the step."""
        low, high = self.step.interval_ms
        return value * low / self.step.latency_ms, value * high / self.step.latency_ms

    def as_document(self) -> dict[str, object]:
        """Return the JSON document of the command line."""
        amounts = {
            "step_ms": self.step_ms,
            "epoch_s": self.epoch_s,
            "total_s": self.total_s,
            "device_hours": self.device_hours,
            "energy_kwh": self.energy_kwh,
        }
        resolution: Resolution | None = self.step.resolution
        return {
            "schema_version": 1,
            "network": self.step.network,
            "resolution": resolution,
            "profile": self.step.profile,
            "images": self.images,
            "epochs": self.epochs,
            "devices": self.devices,
            "batch_size": self.step.batch_size,
            "global_batch_size": self.step.batch_size * self.devices,
            "efficiency": self.efficiency,
            "power_w": self.power_w,
            "steps_per_epoch": self.steps_per_epoch,
            "steps": self.steps_per_epoch * self.epochs,
            **amounts,
            "coverage": self.step.coverage,
            "intervals": {
                name: None if value is None else list(self.interval(value))
                for name, value in amounts.items()
            },
            "images_per_second": self.images / self.epoch_s,
            "memory": None if self.memory is None else self.memory.as_document(),
            "notes": list(self.notes),
        }
