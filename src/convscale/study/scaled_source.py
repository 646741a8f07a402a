"""What a search asks of a base network, and what it is answered. No torch here.

A `Source` is a base network that answers how much scaled versions of it cost. The search, and
whatever builds on it, knows a base only so: `FamilySource` answers in closed form, `TracedSource`
by one trace, from which candidates are planned and built.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Protocol

from convscale.quantities import Resolution
from convscale.selection.constraints import Constraint
from convscale.strategy import Strategy

if TYPE_CHECKING:
    from convscale.network.sources.network import Network
    from convscale.scaling.results.scaled import ScaledNetwork


Ends = tuple[float, float]
ANY: Ends = (0.0, inf)


@dataclass(frozen=True)
class Ask:
    """A scaled version of a base: by a strategy and a factor, an entry of a table, or the base.

    Args:
        strategy: How the factor is shared; None for the base itself.
        factor: The scale factor; None for the base, and for an entry of a table.
        series: What it is shown as: the strategy's name, or what its exponents belong to.

    Example:
        >>> Ask(None).series
        'base'
    """

    strategy: Strategy | None
    factor: float | None = None
    series: str = "base"


@dataclass(frozen=True)
class Found:
    """A scaled network with what it costs.

    Args:
        ask: What was asked for.
        label: The name by which it can be built.
        key: Equal for two that are the same network.
        resolution: Its input side, or all sides, in px.
        values: What it costs, by quantity.
        bounds: What predicted times keep with the confidence.
        notes: What there is to mind.
    """

    ask: Ask
    label: str
    key: Hashable
    resolution: Resolution
    values: Mapping[str, float]
    bounds: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def held(self) -> dict[str, float]:
        """What constraints are held to."""
        return {**self.values, **self.bounds}


@dataclass(frozen=True)
class Missed:
    """A scaled network that misses limits by far by what was counted; nothing was predicted."""

    ask: Ask
    margin: float


@dataclass(frozen=True)
class Failed:
    """A scaled network that cannot be made, and why."""

    ask: Ask
    reason: str


Answer = Found | Missed | Failed


class Source(Protocol):
    """A base network whose scaled versions are candidates."""

    @property
    def name(self) -> str:
        """The base network's resolved name."""

    @property
    def resolution(self) -> Resolution:
        """The base's input side, or all sides, in px."""

    @property
    def axes(self) -> frozenset[str]:
        """Which of d, w, g and r can change."""

    @property
    def between(self) -> frozenset[str]:
        """Which of them change in exponents between strategies."""

    @property
    def follows(self) -> bool:
        """Whether group width follows width where a strategy does not name it."""

    @property
    def rounding(self) -> str | None:
        """What stands behind the factor in names; None where it is the default."""

    @property
    def usual(self) -> int:
        """How many candidates are tried if nothing is said."""

    def answers(self, asks: Sequence[Ask], *, flops: Ends = ANY) -> list[Answer]:
        """Say what scaled versions cost, in the order of the asks.

        Args:
            asks: The scaled versions.
            flops: Outside of these flops nothing need be found out that takes long.
        """

    def under(self, limits: Sequence[Constraint]) -> Source:
        """Return the same base under other limits; what is known of candidates is shared."""

    def built(self, ask: Ask) -> ScaledNetwork:
        """Build a scaled version on the meta device."""

    def network(self, ask: Ask) -> Network:
        """Return a scaled version, or the base, as a network that can be built with weights."""

    def notes(self, found: Found) -> tuple[str, ...]:
        """Return what there is to mind about a candidate."""
