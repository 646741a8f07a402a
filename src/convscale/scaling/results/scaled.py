"""A scaled network: the module, what was asked, what was got, and what was left alone."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from convscale.complexity.complexity import METRICS, Complexity, Count
from convscale.complexity.memory import Memory
from convscale.families.rounding import rescaled
from convscale.network.sources.family_modules import FamilyNet, described
from convscale.network.sources.inputs import ExampleInputs, given_inputs
from convscale.network.sources.network import Network, Origin, from_module
from convscale.prediction.prediction import Prediction
from convscale.quantities import Resolution, sides
from convscale.scaling.plans.plan import Plan
from convscale.strategy import Factors, Strategy


def label_of(network: str, strategy: Strategy, factor: float) -> str:
    """Return the name of a scaled network, without its rounding.

    Example:
        >>> from convscale.strategy import parse_strategy
        >>> label_of("timm:resnet18", parse_strategy("dWr"), 2.0)
        'timm:resnet18@dWr:2'
    """
    return f"{network}@{strategy.name}:{factor:g}"


@dataclass(frozen=True)
class ScaledNetwork:
    """A base network scaled by a strategy.

    `network` is the base's resolved name; `resolution` the scaled input side in px, in the
    form the base's was given; `factor` the nominal scale factor s that was used, solved for
    where a budget was given; `factors` the continuous factors before rounding; `base` and
    `achieved` the complexities; `notes` say what was left alone and why; `source` is
    the base network as it was made for the resolution, to which `plan` was applied; `inputs` what
    its forward pass takes at the resolution, where that is other than one image.

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
    inputs: ExampleInputs | None = field(default=None, repr=False, compare=False)
    latency: Prediction | None = None  # these two where a profile was given
    base_latency: Prediction | None = None

    @property
    def ratio(self) -> dict[str, float | None]:
        """Achieved over base, metric by metric."""
        ratio = self.achieved.ratio_to(self.base)
        if self.latency is not None and self.base_latency is not None:
            ratio["latency_ms"] = self.latency.latency_ms / self.base_latency.latency_ms
        return ratio

    def as_network(self) -> Network:
        """Return the network as one that can be run at its resolution, under a name that scales it.

        Its weights are where the module's are.
        """
        rules = {} if self.source is None else self.source.rules
        return replace(
            from_module(self.module),
            name=label_of(self.network, self.strategy, self.factor),
            resolution=self.resolution,
            in_chans=self.in_chans,
            dims=self.dims,
            rules=rules,
            inputs=self.inputs,
        )

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
                **_times(self.base_latency),
            },
            "requested": self.requested,
            "achieved": {**self.achieved.as_dict(), **_times(self.latency)},
            "ratio": self.ratio,
            "notes": list(self.notes),
            **({} if self.inputs is None else {"inputs": self._shapes()}),
            "convention": self.base.convention,
            **({} if self.memory is None else {"memory": self.memory.as_document()}),
            **({} if self.latency is None else {"prediction": self.latency.as_document()}),
            **self._family(),
        }

    def _shapes(self) -> list[str]:
        """Return shapes and dtypes of what the forward pass takes."""
        return list(given_inputs(None, self.inputs).shapes)

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
        from convscale.scaling.results.storage import save

        return save(self, Path(folder))


def _times(latency: Prediction | None) -> dict[str, object]:
    """Return a predicted latency as it stands beside flops, params and acts."""
    if latency is None:
        return {}
    return {
        "latency_ms": latency.latency_ms,
        "latency_interval_ms": list(latency.interval_ms),
    }
