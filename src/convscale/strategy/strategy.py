"""A strategy: how a flops scale factor is shared between depth, width and resolution."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

from convscale.errors import InputError
from convscale.quantities import check_positive
from convscale.strategy.rules import Rules

AXES = ("d", "w", "r")


@dataclass(frozen=True)
class Factors:
    """Continuous factors of one scaling step, before anything is rounded.

    Example:
        >>> Factors(depth=2.0, width=1.0, group_width=1.0, resolution=1.0).depth
        2.0
    """

    depth: float
    width: float
    group_width: float
    resolution: float


@dataclass(frozen=True)
class Growth:
    """Exponents of s with which a plain network's params and acts grow; flops grow as s.

    Example:
        >>> Growth(params=0.9, acts=0.6).acts
        0.6
    """

    params: float
    acts: float


@dataclass(frozen=True)
class Strategy:
    """Share a flops scale factor s between depth d, width w and resolution r.

    With exponents e_d + e_w + e_r = 1, the factors

        depth s^e_d,    width s^(e_w / 2),    resolution s^(e_r / 2)

    multiply to d·w²·r² = s, the growth of the flops of a plain convolution stage
    (k²·w²·r²·d). Its params k²·w²·d grow as s^(e_d + e_w) and its acts w·r²·d as
    s^(e_d + e_w/2 + e_r). In networks of n spatial dimensions (`dims`) maps have rⁿ positions:
    the law is d·w²·rⁿ = s, the factor of resolution s^(e_r / n), and flops, params and acts
    grow as they do with two. Group width follows width, unless a share of its own is named:
    its factor is then s^(e_g / 2), which takes no part in the sum. Source: Dollár, Singh,
    Girshick, "Fast and Accurate Model Scaling", arXiv 2103.06877, sections 3 and 4. `rules`
    hold what the strategy fixes beside its factors.

    Raises:
        InputError: If an exponent is negative or they do not sum to 1.

    Example:
        >>> fast = Strategy("dWr", depth=0.1, width=0.8, resolution=0.1)
        >>> f = fast.factors(4.0)
        >>> round(f.depth * f.width**2 * f.resolution**2, 12)
        4.0
        >>> fast.growth
        Growth(params=0.9, acts=0.6)
    """

    name: str
    depth: float
    width: float
    resolution: float
    group_width: float | None = None  # named in the notation; None where it is not
    rules: Rules = field(default_factory=Rules)
    dims: int = 2

    def __post_init__(self) -> None:
        exponents = (self.depth, self.width, self.resolution)
        if min(exponents) < 0 or abs(sum(exponents) - 1) > 1e-9:
            raise InputError(
                f"The exponents of {self.name!r} are {exponents}; depth, width and resolution "
                "take shares of at least 0 that sum to 1."
            )
        if self.group_width is not None and self.group_width < 0:
            raise InputError(
                f"The group width's share of {self.name!r} is {self.group_width}; it must be at "
                "least 0."
            )

    def factors(self, scale: float) -> Factors:
        """Return the factors that multiply flops by the scale factor s.

        Raises:
            InputError: If the scale factor is not positive and finite.

        Example:
            >>> Strategy("w", depth=0, width=1, resolution=0).factors(4.0).width
            2.0
        """
        s = check_positive(scale, what="factor")
        group_width = self.width if self.group_width is None else self.group_width
        return Factors(
            depth=s**self.depth,
            width=s ** (self.width / 2),
            group_width=s ** (group_width / 2),
            resolution=s ** (self.resolution / self.dims),
        )

    def named_only(self) -> Strategy:
        """Return the strategy that scales group width only where its notation names it.

        Example:
            >>> Strategy("w", depth=0, width=1, resolution=0).named_only().factors(4).group_width
            1.0
        """
        return self if self.group_width is not None else replace(self, group_width=0.0)

    def in_dims(self, dims: int) -> Self:
        """Return the strategy for networks of a number of spatial dimensions; shares stay.

        Example:
            >>> rule = Strategy("r", depth=0, width=0, resolution=1)
            >>> rule.in_dims(1).factors(8.0).resolution, rule.in_dims(3).factors(8.0).resolution
            (8.0, 2.0)
        """
        return replace(self, dims=dims)

    @property
    def law(self) -> str:
        """The law that the factors follow, as it is written: d·w²·r² = s for images."""
        power = {1: "", 2: "²", 3: "³"}[self.dims]
        return f"d·w²·r{power} = s"

    @property
    def growth(self) -> Growth:
        """Exponents of s for params and acts of a plain convolutional network."""
        return Growth(
            params=round(self.depth + self.width, 12),
            acts=round(self.depth + self.width / 2 + self.resolution, 12),
        )


def fast(alpha: float) -> Strategy:
    """Return fast compound scaling, which gives the share α to width.

    Depth and resolution share the rest equally: e_w = α, e_d = e_r = (1 − α)/2.
    Source: arXiv 2103.06877, section 4 (α = 0.8 by default there).

    Raises:
        InputError: If α lies outside [0, 1].

    Example:
        >>> fast(0.8).growth
        Growth(params=0.9, acts=0.6)
        >>> fast(1 / 3).growth.acts == round(5 / 6, 12)
        True
    """
    if not 0 <= alpha <= 1:
        raise InputError(
            f"α is {alpha:g} in 'dWr@{alpha:g}'; it must lie in [0, 1], as in dWr@0.8."
        )
    name = "dWr" if alpha == 0.8 else f"dWr@{alpha:g}"
    rest = (1 - alpha) / 2
    return Strategy(name, depth=rest, width=alpha, resolution=rest)
