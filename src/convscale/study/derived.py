"""Operators of candidates from the runs that they were planned by, checked against built ones."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from convscale.complexity.views import Operators
from convscale.prediction.predict import ELEMENTS
from convscale.quantities import like, sides
from convscale.strategy import Strategy

if TYPE_CHECKING:
    from convscale.scaling.scaler import Scaler
    from convscale.scaling.variants.candidate import Candidate


@dataclass
class Derived:
    """Derive what candidates run, once networks that were built have shown that it is that.

    A candidate differs from its base in several ways: a stage has a block more, or several, or
    fewer; widths or sides are larger or smaller. A candidate with a way that no built network had
    is to be built, and what it runs compared. Where one runs anything else than was derived,
    nothing is derived from there on.

    Args:
        scaler: The base network, whose runs are recorded.

    Example:
        >>> from convscale.network import resolve_base
        >>> from convscale.scaling.scaler import Scaler
        >>> from convscale.strategy import parse_strategy
        >>> known = Derived(Scaler(resolve_base("timm:resnet18"), records=True))
        >>> found = known.scaler.planned(parse_strategy("d"), 2.0)
        >>> operators = known.of(parse_strategy("d"), found)
        >>> known.is_proved(found), operators.total.flops
        (False, 3663761408)
    """

    scaler: Scaler
    _proved: set[Hashable] = field(default_factory=set)
    _holds: bool = True

    def of(self, strategy: Strategy, found: Candidate) -> Operators | None:
        """Return the operators of a candidate in elements; None where they cannot be derived.

        Args:
            strategy: What it is scaled by.
            found: The candidate.
        """
        from convscale.scaling.results.scaled import label_of
        from convscale.scaling.variants.deriving import derived_calls

        calls = derived_calls(found) if self._holds else None
        if calls is None:
            return None
        return Operators(
            label_of(self.scaler.network.name, strategy, found.factor),
            like(self.scaler.resolution, sides(found.variant.resolution)),
            dtype=ELEMENTS,
            params=found.complexity.params,
            calls=tuple(calls),
        )

    def is_proved(self, found: Candidate) -> bool:
        """Tell whether built networks had every way in which a candidate differs from its base."""
        return self._ways(found) <= self._proved

    def compare(self, found: Candidate, derived: Operators, built: Operators) -> None:
        """Note that a candidate was built, and whether it runs what was derived."""
        self._holds = self._holds and derived == built
        self._proved |= self._ways(found)

    def _ways(self, found: Candidate) -> set[Hashable]:
        variant, blueprint = found.variant, self.scaler.blueprint
        own = [stage.depth for stage in blueprint.stages]
        depths = own if variant.depths is None else variant.depths
        more = [max(-1, min(depth - at, 2)) for depth, at in zip(depths, own, strict=True)]
        sizes, before = variant.sizes(found.widths), variant.channels.sizes
        pairs = zip(sides(variant.resolution), sides(blueprint.resolution), strict=True)
        return {
            *(("depth", stage, change) for stage, change in enumerate(more) if change),
            *(("wider",) if (sizes > before).any() else ()),
            *(("narrower",) if ((sizes < before) & (sizes > 0)).any() else ()),
            *(("side", side > base) for side, base in pairs if side != base),
        }
