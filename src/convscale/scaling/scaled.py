"""A scaled network: the module, what was asked, what was got, and what was left alone."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from convscale.complexity.complexity import METRICS, Complexity, Count
from convscale.complexity.memory import Memory
from convscale.families.rounding import rescaled
from convscale.network.family_modules import FamilyNet, described
from convscale.network.sources import Network, Origin
from convscale.quantities import Resolution, sides
from convscale.scaling.plan import Plan
from convscale.strategy import Factors, Strategy


@dataclass(frozen=True)
class ScaledNetwork:
    """A base network scaled by a strategy.

    `network` is the base's resolved name; `resolution` the scaled input side in px, in the
    form the base's was given; `factor` the nominal scale factor s that was used, solved for
    where a budget was given; `factors` the continuous factors before rounding; `base` and
    `achieved` the complexities; `notes` say what was left alone and why; `source` is
    the base network as it was made for the resolution, to which `plan` was applied.

    Example:
        >>> import convscale as cs
        >>> scaled = cs.scale("timm:resnet18", strategy="w", factor=4, weights=False)
        >>> scaled.requested, scaled.factors.width, scaled.resolution
        ({'factor': 4.0}, 2.0, 224)
    """

    network: str
    module: nn.Module = field(repr=False)
    resolution: Resolution
    strategy: Strategy
    factor: float
    factors: Factors
    base: Count
    base_resolution: Resolution
    requested: dict[str, float]
    achieved: Complexity
    notes: tuple[str, ...]
    in_chans: int | None
    origin: Origin = field(repr=False)  # these two say the network size by size
    plan: Plan = field(repr=False)
    dims: int = 2  # spatial dimensions
    source: Network | None = field(default=None, repr=False, compare=False)
    memory: Memory | None = None  # where memory was the target

    @property
    def ratio(self) -> dict[str, float | None]:
        """Achieved over base, metric by metric."""
        return self.achieved.ratio_to(self.base)

    def as_document(self) -> dict[str, Any]:
        """Return the JSON document of the command line."""
        return {
            "schema_version": 1,
            "network": self.network,
            "strategy": self.strategy.name,
            "factor": self.factor,
            "factors": asdict(self.factors),
            "resolution": self.resolution,
            "base": {
                "resolution": self.base_resolution,
                **{name: getattr(self.base, name) for name in METRICS},
            },
            "requested": self.requested,
            "achieved": self.achieved.as_dict(),
            "ratio": self.ratio,
            "notes": list(self.notes),
            "convention": self.base.convention,
            **({} if self.memory is None else {"memory": self.memory.as_document()}),
            **self._family(),
        }

    def _family(self) -> dict[str, Any]:
        """Describe a network of a paper family, stage by stage."""
        if not isinstance(self.module, FamilyNet):
            return {}
        net = self.module.description
        times = sides(net.test_resolution)[0] / sides(net.resolution)[0]
        return {
            "architecture": described(self.module).architecture(),
            "test_resolution": rescaled(self.resolution, times, step=1),
        }

    def save(self, folder: str | Path) -> Path:
        """Write the description (JSON) and the weights (safetensors) to a new folder.

        Returns:
            The folder.

        Raises:
            InputError: If the folder exists, or the module has no weights (meta device).
        """
        from convscale.scaling.storage import save

        return save(self, Path(folder))
