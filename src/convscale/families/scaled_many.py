"""A description scaled in many ways at once: the rounding of `scaling.py`, on arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from convscale.errors import InputError
from convscale.families.arrays import read_reals
from convscale.families.candidates import Candidates, read_candidates
from convscale.families.description import GROUPED, AnyNet, Description
from convscale.families.regnet import Floats, Ints
from convscale.families.scaling import by_factors, check_size, rule_named
from convscale.quantities import sides
from convscale.strategy import Factors


@dataclass(frozen=True, eq=False)
class Scalings:
    """Networks scaled from one, with the factors that were asked for, shape (n,).

    Example:
        >>> from convscale.families.registry import named
        >>> found = scale_many(named("RegNetY-4.0GF"), [(0.1, 0.8, 0.1)], factor=[2, 4])
        >>> found.description(1).widths, len(found.candidates)
        ((224, 336, 896, 1904), 2)
    """

    base: Description
    candidates: Candidates
    depth: Floats
    width: Floats
    group_width: Floats
    resolution: Floats
    rounding: str

    def __len__(self) -> int:
        return len(self.candidates)

    def factors(self, row: int) -> Factors:
        """Return the factors of one of them."""
        arrays = (self.depth, self.width, self.group_width, self.resolution)
        return Factors(*(float(array[row]) for array in arrays))

    def description(self, row: int) -> Description:
        """Return one of them, as `families.scaled` gives it."""
        return by_factors(self.base, self.factors(row), rounding=self.rounding)


def scale_many(
    description: Description,
    shares: npt.ArrayLike,
    *,
    factor: npt.ArrayLike,
    rounding: str = "reference",
) -> Scalings:
    """Scale a description by many strategies: exponents and scale factors as arrays.

    With the shares e_d, e_w, e_r the factors are s^e_d of depth, s^(e_w/2) of width and
    s^(e_r/2) of resolution; group width follows width, or has a share of its own.

    Args:
        description: The base network.
        shares: Shares of depth, width, resolution, and of group width where a fourth is given,
            shape (n, 3) or (n, 4); the first three are at least 0 and sum to 1.
        factor: Scale factors s, shape (n,), or one for all.
        rounding: reference, the authors' rule, or efficientnet.

    Raises:
        InputError: If shares are none, or a network would be larger than what can be built.

    Example:
        >>> from convscale.families.many import count_many
        >>> from convscale.families.registry import named
        >>> found = scale_many(named("ResNet-50"), [(0, 0, 1)], factor=[1, 4])
        >>> (count_many(found.candidates).flops / 4_089_184_256).round(2).tolist()
        [1.0, 4.0]

    Source: arXiv 2103.06877 and its public reference code.
    """
    given = np.atleast_2d(read_reals(shares, "shares"))
    scale = np.atleast_1d(read_reals(factor, "factors"))
    _check_shares(given, scale)
    count = max(len(given), len(scale))
    if {len(given), len(scale)} - {1, count}:
        raise InputError(f"{len(given)} rows of shares came, and {len(scale)} factors.")
    given = np.broadcast_to(given, (count, given.shape[1]))
    s = np.broadcast_to(scale, count).tolist()
    depth, width, resolution = given[:, 0], given[:, 1] / 2, given[:, 2] / 2
    group = width if given.shape[1] == 3 else given[:, 3] / 2
    powers = (_powers(s, exponents) for exponents in (depth, width, group, resolution))
    return scale_by_factors(description, *powers, rounding=rounding)


def _check_shares(given: Floats, scale: Floats) -> None:
    if given.ndim != 2 or given.shape[1] not in (3, 4) or scale.ndim != 1:
        raise InputError(
            f"The shares have the shape {given.shape} and the factors {scale.shape}; write "
            "(n, 3), those of depth, width and resolution, or (n, 4) with that of group width, "
            "and (n,)."
        )
    sums = given[:, :3].sum(axis=1)
    wrong = ~(np.abs(sums - 1) <= 1e-9) | ~(given >= 0).all(axis=1)
    if bool(wrong.any()):
        row = int(np.flatnonzero(wrong)[0])
        raise InputError(
            f"The shares of candidate {row} are {tuple(given[row].tolist())}; those of depth, "
            "width and resolution must be at least 0 and sum to 1."
        )
    if not bool(((scale > 0) & np.isfinite(scale)).all()):
        raise InputError("Factors of candidates must be positive and finite.")


def _powers(bases: list[float], exponents: Floats) -> Floats:
    """Return powers as Python computes them: one by one, the last digit is the same."""
    return np.array([s**e for s, e in zip(bases, exponents.tolist(), strict=True)])


def scale_by_factors(
    description: Description,
    depth: npt.ArrayLike,
    width: npt.ArrayLike,
    group_width: npt.ArrayLike,
    resolution: npt.ArrayLike,
    *,
    rounding: str = "reference",
) -> Scalings:
    """Scale a description by arrays of factors, shape (n,) each, as `by_factors` does by one.

    Args:
        description: The base network.
        depth: Factors of depth.
        width: Factors of width.
        group_width: Factors of group width.
        resolution: Factors of the input side.
        rounding: reference, the authors' rule, or efficientnet.

    Raises:
        InputError: If a network would be larger than what can be built.

    Example:
        >>> from convscale.families.registry import named
        >>> net = named("EfficientNet-B0")
        >>> found = scale_by_factors(net, [1.0, 1.2], 1.1, 1.1, 1.15, rounding="efficientnet")
        >>> found.candidates.depths.tolist()
        [[1, 2, 2, 3, 3, 4, 1], [2, 3, 3, 4, 4, 5, 2]]
    """
    rule = rule_named(rounding)
    names = ("factors of depth", "of width", "of group width", "of resolution")
    given = [
        read_reals(array, name)
        for array, name in zip((depth, width, group_width, resolution), names, strict=True)
    ]
    d, w, g, r = np.broadcast_arrays(*map(np.atleast_1d, given))
    for name, array in zip(names, (d, w, g, r), strict=True):
        if array.ndim != 1 or not bool(((array > 0) & np.isfinite(array)).all()):
            raise InputError(f"The {name} must be positive and finite, of the shape (n,).")
    if len(d):
        check_size(description, Factors(*(float(array.max()) for array in (d, w, g, r))))
    limited = rounding == "efficientnet"
    sizes: dict[str, Any] = _sizes(description, w[:, None], g[:, None], limited)
    blocks = d[:, None] * np.array(description.depths)
    rounded = np.ceil(blocks - 1e-9) if limited else np.rint(blocks)
    side = np.array(sides(description.resolution)) * r[:, None]
    found = read_candidates(
        description,
        depths=np.maximum(rounded, 1).astype(np.int64),
        resolution=(np.maximum(np.rint(side / rule.step), 1) * rule.step).astype(np.int64),
        **sizes,
    )
    return Scalings(description, found, d, w, g, r, rounding)


def _sizes(net: Description, width: Floats, group: Floats, limited: bool) -> dict[str, Any]:
    wide = _widths(np.array(net.widths) * width, limited)
    if not isinstance(net, AnyNet):
        around: dict[str, Any] = {"stem_widths": _widths(net.stem_width * width[:, 0], limited)}
        if net.head_width:
            around["head_widths"] = _widths(net.head_width * width[:, 0], limited)
        return {"widths": wide, **around}
    multipliers = np.array(net.bottleneck_multipliers)
    if net.block not in GROUPED:
        return {"widths": wide, "group_widths": wide}
    groups = _group_widths(np.array(net.group_widths) * group)
    wide, groups = _compatible(wide, multipliers, groups)
    return {"widths": wide, "group_widths": groups, "bottleneck_multipliers": multipliers}


def _widths(exact: Floats, limited: bool) -> Ints:
    """Round as `reference_width`, or as `efficientnet_width` where limited."""
    if not limited:
        found = np.maximum(np.rint(exact / 8), 1) * 8
    else:
        found = np.maximum(np.floor(exact + 4) // 8 * 8, 8)
        found = found + 8 * (found < 0.9 * exact)
    widths: Ints = found.astype(np.int64)
    return widths


def _group_widths(exact: Floats) -> Ints:
    """Round as `reference_group_width`."""
    found = np.maximum(np.rint(exact), 1)
    wide = np.where(found <= 5, 4, np.rint(found / 8) * 8)
    return np.where(found <= 2, found, wide).astype(np.int64)


def _compatible(widths: Ints, multipliers: Floats, groups: Ints) -> tuple[Ints, Ints]:
    """Make widths and group widths fit each other as `compatible` does."""
    inner = np.maximum(widths * multipliers, 1).astype(np.int64)
    group = np.minimum(groups, inner)
    times = np.where(multipliers > 1, multipliers, 1).astype(np.int64)
    multiple = np.where(multipliers > 1, np.lcm(group, times), group)
    inner = np.maximum(multiple, (np.rint(inner / multiple) * multiple).astype(np.int64))
    return (inner / multipliers).astype(np.int64), group
