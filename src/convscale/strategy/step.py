"""A step: the fixed factors of one entry of a published table, such as EfficientNet-B3."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from math import log, log2
from typing import Self

from convscale.errors import InputError
from convscale.quantities import Resolution, format_resolution, sides
from convscale.strategy.rules import Rules
from convscale.strategy.strategy import Factors, Growth, Strategy


@dataclass(frozen=True)
class Step(Strategy):
    """A strategy with factors of its own, which no scale factor changes.

    Its factors need not follow one law: an axis may shrink while another grows. `depth`,
    `width` and `resolution` are the powers of 2 by which each multiplies the flops of a plain
    network, and `scale` is d·w²·r² of all three. `stage_depth` holds a factor for each stage
    where stages differ, and `side` is the input side (px) of the base that the table has.

    Example:
        >>> b1 = step("b1", depth=1.1, width=1.0, resolution=240 / 224)
        >>> round(b1.scale, 3), b1.factors(b1.scale).depth
        (1.263, 1.1)
    """

    own: Factors = field(default_factory=lambda: Factors(1.0, 1.0, 1.0, 1.0))
    stage_depth: tuple[float, ...] = ()
    side: int | None = None

    def __post_init__(self) -> None:
        """Accept what a table says: it is no share of one factor."""

    @property
    def scale(self) -> float:
        """The scale factor s = d·w²·r² of the step; rⁿ in n spatial dimensions."""
        return self.own.depth * self.own.width**2 * self.own.resolution**self.dims

    def factors(self, scale: float) -> Factors:
        """Return the step's own factors; its scale factor is the only one it takes.

        Raises:
            InputError: If another scale factor is asked for.
        """
        if abs(log(scale / self.scale)) > 1e-9:
            raise InputError(own_factors(self))
        return self.own

    @property
    def growth(self) -> Growth:
        """Powers of `scale` for params and acts of a plain network; 0 where it is 1."""
        total = self.depth + self.width + self.resolution
        if abs(total) < 1e-9:
            return Growth(0.0, 0.0)
        params = (self.depth + self.width) / total
        return Growth(params, (self.depth + self.width / 2 + self.resolution) / total)

    def named_only(self) -> Step:
        """Return the step that leaves group width alone: no table names it.

        Example:
            >>> step("half", width=0.5).named_only().own.group_width
            1.0
        """
        return replace(self, own=replace(self.own, group_width=1.0))

    def in_dims(self, dims: int) -> Self:
        """Return the step for networks of a number of spatial dimensions; its factors stay.

        Example:
            >>> step("fine", resolution=2.0).in_dims(3).scale
            8.0
        """
        return replace(self, dims=dims, resolution=dims * log2(self.own.resolution))

    def without(self, axes: Iterable[str]) -> Step:
        """Return the step with some axes left as they are.

        Example:
            >>> step("b1", depth=1.1, width=1.0, resolution=1.07).without("d").own.depth
            1.0
        """
        own, left = self.own, set(axes)
        changed = step(
            self.name,
            depth=1.0 if "d" in left else own.depth,
            width=1.0 if "w" in left else own.width,
            resolution=1.0 if "r" in left else own.resolution,
            rules=self.rules,
        ).in_dims(self.dims)
        return changed if "d" in left else replace(changed, stage_depth=self.stage_depth)


def step(
    name: str,
    *,
    depth: float = 1.0,
    width: float = 1.0,
    resolution: float = 1.0,
    rules: Rules | None = None,
    stage_depth: tuple[float, ...] = (),
    side: int | None = None,
) -> Step:
    """Return a step from its factors.

    Args:
        name: The name under which it is asked for.
        depth: Factor of the blocks; of the whole network where stages differ.
        width: Factor of the channels.
        resolution: Factor of the input side.
        rules: Rounding, what stays and caps.
        stage_depth: A factor for each stage, where they differ.
        side: Input side of the table's base (px), where it gives sides.

    Example:
        >>> step("half", width=0.5).growth
        Growth(params=1.0, acts=0.5)
    """
    return Step(
        name,
        depth=log2(depth),
        width=2 * log2(width),
        resolution=2 * log2(resolution),
        rules=rules or Rules(),
        own=Factors(depth, width, width, resolution),
        stage_depth=stage_depth,
        side=side,
    )


def from_other_side(found: Strategy, resolution: Resolution) -> tuple[str, ...]:
    """Say that a base has another input side than the one a table starts from.

    Example:
        >>> rs = step("rs@101-192", resolution=1.2, side=160)
        >>> from_other_side(rs, 160), from_other_side(rs, 224)
        ((), ('The sides of rs@101-192 are those of a base at 160 px; this one is at 224 px.',))
    """
    if not isinstance(found, Step) or found.side in (None, *sides(resolution)):
        return ()
    return (
        f"The sides of {found.name} are those of a base at {found.side} px; this one is at "
        f"{format_resolution(resolution)} px.",
    )


def own_factors(found: Step) -> str:
    """Say that a step takes no target.

    Example:
        >>> own_factors(step("mobilenet@0.5", width=0.5))
        "Strategy 'mobilenet@0.5' has factors of its own (depth 1, width 0.5, resolution 1): ..."
    """
    own = found.own
    return (
        f"Strategy {found.name!r} has factors of its own (depth {own.depth:.4g}, width "
        f"{own.width:.4g}, resolution {own.resolution:.4g}): leave out the factor or budget."
    )
