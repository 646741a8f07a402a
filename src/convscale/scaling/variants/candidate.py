"""A scaled network that can be built, before it is."""

from __future__ import annotations

from dataclasses import dataclass

from convscale.complexity.complexity import Complexity
from convscale.quantities import Resolution
from convscale.scaling.variants.variant import Variant
from convscale.scaling.widths.widths import Widths
from convscale.strategy import Factors


@dataclass(frozen=True)
class Candidate:
    """A network that can be built: a variant of the base with new widths.

    `step` and `uneven` are those of the sides that were found for it (`Near`).

    Example:
        >>> from convscale.network import resolve_base
        >>> from convscale.scaling.search.blueprint import Blueprint
        >>> from convscale.scaling.search.search import candidate_at
        >>> from convscale.strategy import parse_strategy
        >>> base = Blueprint(resolve_base("timm:resnet18").build("meta"), 224)
        >>> candidate_at(base, parse_strategy("d"), 2.0).variant.depths
        (4, 4, 4, 4)
    """

    factor: float
    factors: Factors
    variant: Variant
    widths: Widths
    step: int
    complexity: Complexity
    uneven: Resolution | None = None

    def value(self, metric: str) -> int:
        """Return one metric of the complexity."""
        return self.complexity.as_dict()[metric]
