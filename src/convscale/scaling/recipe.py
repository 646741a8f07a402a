"""How a base network is scaled, everything but the target: what searches for a target try."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from convscale.network.sources.network import Network
from convscale.scaling.family import scale_family
from convscale.scaling.plans.control import Control
from convscale.scaling.results.scaled import ScaledNetwork
from convscale.scaling.scaler import Refine, Scaler, with_weights
from convscale.strategy import Strategy


@dataclass(frozen=True)
class Recipe:
    """A base network, a strategy, and how it is rounded and kept.

    Args:
        base: The base network.
        strategy: How the factor is shared.
        scaler: What scales it; None for paper families by their authors' rule.
        axes: The axes that stay.
        control: What else stays, and the factors of single stages.
        rounding: The rounding rule that was asked for, if any.
        width_multiple: The multiple that widths keep.
        convention: The convention of counts.
        seed: Seed of fresh weights.
        strict: Whether a target that is missed is an error.

    Example:
        >>> from convscale.network import resolve_base
        >>> from convscale.strategy import parse_strategy
        >>> base = resolve_base("timm:resnet18")
        >>> recipe = Recipe(base, parse_strategy("w"), Scaler(base))
        >>> recipe.made({"factor": 4.0}).requested
        {'factor': 4.0}
    """

    base: Network
    strategy: Strategy
    scaler: Scaler | None
    axes: tuple[str, ...] = ()
    control: Control = Control()  # noqa: RUF009 - it is a frozen value
    rounding: str | None = None
    width_multiple: int = 8
    convention: str = "default"
    seed: int = 0
    strict: bool = False

    @property
    def base_flops(self) -> int:
        """The flops of the base network."""
        if self.scaler is None:
            return self.made({"factor": 1.0}).base.flops
        return self.scaler.base.flops

    def at(self, factor: float, weights: bool) -> ScaledNetwork:
        """Return the network of a factor, as it is told to the user."""
        found = replace(self, strict=False)  # the factor is not what the user asks for
        return found.made({"factor": factor}, weights=weights, final=True)

    def made(
        self,
        targets: Mapping[str, float | None],
        *,
        weights: bool = False,
        final: bool = False,
        refine: Refine | None = None,
    ) -> ScaledNetwork:
        """Return the network of one target.

        Args:
            targets: Exactly one of factor, flops, params and acts.
            weights: Whether the module gets weights; on the meta device if not.
            final: Whether the target is the user's, a miss of which is told or refused.
            refine: How far a network lies off something else that single stages are moved for.
        """
        if self.scaler is None:
            return self._by_rule(targets, weights=weights, final=final)
        return self.scaler.scale(
            self.strategy,
            **targets,
            keep=(*self.axes, *self.control.keep),
            rounding=self.rounding,
            freeze=self.control.freeze,
            stage_depth=self.control.stage_depth,
            stage_width=self.control.stage_width,
            seed=self.seed,
            strict=self.strict and final,
            weights=weights,
            misses=final,
            refine=refine,
            record=None,
        )

    def weighted(self, scaled: ScaledNetwork, targets: Mapping[str, float | None]) -> ScaledNetwork:
        """Return a network that was made without weights for a target with them."""
        if self.scaler is None:
            return self.made(targets, weights=True)
        return with_weights(scaled, seed=self.seed)

    def _by_rule(
        self, targets: Mapping[str, float | None], *, weights: bool, final: bool
    ) -> ScaledNetwork:
        """Scale by the authors' rule, which moves no single stages."""
        assert self.rounding is not None
        return scale_family(
            self.base,
            self.strategy,
            dict(targets),
            rounding=self.rounding,
            keep=self.axes,
            control=self.control,
            width_multiple=self.width_multiple,
            convention=self.convention,
            seed=self.seed,
            strict=self.strict and final,
            weights=weights,
            misses=final,
        )
