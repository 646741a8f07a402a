"""One timing of a network as a value. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from convscale.prediction.workload import Workload


@dataclass(frozen=True)
class Timing:
    """One timing of a network: what it runs, and how long a step of a batch takes.

    Args:
        network: The network's name.
        family: What is left out together, such as the name of timm's module.
        workload: The operators of one image.
        batch_size: Images a step.
        seconds: Of a step.
        resolution: Input side in px, where it is known.

    Example:
        >>> from convscale.prediction.workload import workload
        >>> Timing("timm:resnet50", "resnet", workload([]), 256, 0.1).images_per_second
        2560.0
    """

    network: str
    family: str
    workload: Workload
    batch_size: int
    seconds: float
    resolution: int | None = None

    @property
    def images_per_second(self) -> float:
        """The throughput."""
        return self.batch_size / self.seconds
