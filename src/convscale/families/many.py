"""Costs of many candidates at once: exact integers, in bounded memory, on one core."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from convscale.errors import InputError
from convscale.families.closed_form import CONVENTIONS, Number, Stage, anynet_cost
from convscale.families.description import GROUPED, AnyNet
from convscale.families.regnet import MOST_BLOCKS, WIDTH_MULTIPLE, Floats, Ints, RegNet, stages
from convscale.quantities import Resolution, check_resolution

CHUNK = 8192  # candidates whose intermediate arrays stay in the cache
_LARGEST = 2**62
_T = TypeVar("_T", bound=np.generic)


@dataclass(frozen=True)
class Costs:
    """Flops, params and acts of many candidates, an int64 array each, shape (n,).

    Example:
        >>> Costs(*(np.zeros(3, np.int64) for _ in range(3))).flops.shape
        (3,)
    """

    flops: Ints
    params: Ints
    acts: Ints


def count_stages(
    like: AnyNet,
    *,
    depths: npt.ArrayLike,
    widths: npt.ArrayLike,
    group_widths: npt.ArrayLike,
    bottleneck_multipliers: npt.ArrayLike = 1.0,
    strides: tuple[int, ...] | None = None,
    resolution: Resolution | None = None,
    convention: str = "default",
) -> Costs:
    """Count many networks given stage by stage, shape (n, stages) each.

    Args:
        like: What is around the stages, the kind of block, the strides and the input side.
        depths: Blocks; a candidate's last stages may have none.
        widths: Widths.
        group_widths: Group widths; they must divide the inner widths.
        bottleneck_multipliers: Inner width over width; anything that broadcasts to the shape.
        strides: Strides of the stages; those of `like` by default.
        resolution: Input side, or all sides, in px; that of `like` by default.
        convention: default or pycls.

    Returns:
        The costs, exact.

    Raises:
        InputError: If arrays do not fit each other, or a count would not fit 63 bits.

    Example:
        >>> from convscale.families import count, named
        >>> net = named("RegNetX-400MF")
        >>> many = count_stages(net, depths=[net.depths] * 3, widths=[net.widths] * 3,
        ...                     group_widths=[net.group_widths] * 3)
        >>> many.flops.tolist() == [count(net).flops] * 3
        True
    """
    blocks = np.atleast_2d(_integers(depths, "depths"))
    shape = blocks.shape
    wide = _spread(_integers(widths, "widths"), shape, "widths")
    groups = _spread(_integers(group_widths, "group widths"), shape, "group widths")
    factor = _spread(np.asarray(bottleneck_multipliers, np.float64), shape, "multipliers")
    steps = like.strides if strides is None else strides
    if len(steps) != shape[1]:
        raise InputError(
            f"The candidates have {shape[1]} stages, but {len(steps)} strides came. "
            "Give a stride a stage."
        )
    plain = bool((np.asarray(bottleneck_multipliers) == 1).all())
    _check_stages(blocks, wide, groups, factor)

    def chunk(rows: slice) -> tuple[Stage, ...]:
        d, w, g = (
            np.ascontiguousarray(array[rows].T, dtype=np.int64) for array in (blocks, wide, groups)
        )
        inner = w if plain else np.rint(w * factor[rows].T).astype(np.int64)
        _check_groups(like, d, inner, g, rows.start)
        return tuple(zip(d, w, inner, g, steps, strict=True))

    return _in_chunks(like, chunk, shape[0], resolution, convention)


def count_regnets(
    like: RegNet,
    *,
    depth: npt.ArrayLike,
    w0: npt.ArrayLike,
    wa: npt.ArrayLike,
    wm: npt.ArrayLike,
    group_width: npt.ArrayLike,
    bottleneck_multiplier: npt.ArrayLike = 1.0,
    resolution: Resolution | None = None,
    convention: str = "default",
) -> Costs:
    """Count many RegNets given by their parameters, shape (n,) each; quantises widths.

    Args:
        like: What is around the stages, the kind of block, the stride and the input side.
        depth: Blocks in all.
        w0: First widths, multiples of 8.
        wa: Slopes.
        wm: Bases of the quantisation.
        group_width: Group widths.
        bottleneck_multiplier: Inner width over width.
        resolution: Input side, or all sides, in px; that of `like` by default.
        convention: default or pycls.

    Returns:
        The costs, exact.

    Raises:
        InputError: If parameters are out of range, or a count would not fit 63 bits.

    Example:
        >>> from convscale.families import count
        >>> from convscale.families.registry import regnet
        >>> net = regnet("RegNetX-400MF")
        >>> many = count_regnets(net, depth=[22], w0=[24], wa=[24.48], wm=[2.54],
        ...                      group_width=[16])
        >>> int(many.flops[0]) == count(net.anynet()).flops
        True
    """
    whole = (("depth", depth), ("w0", w0), ("group_width", group_width))
    given = [_integers(values, what) for what, values in whole]
    given += [np.asarray(values, np.float64) for values in (wa, wm, bottleneck_multiplier)]
    try:
        spread = np.broadcast_arrays(*map(np.atleast_1d, given))
    except ValueError as error:
        shapes = ", ".join(str(array.shape) for array in given)
        raise InputError(f"The parameters of candidates have the shapes {shapes}.") from error

    def chunk(rows: slice) -> tuple[Stage, ...]:
        d, first, groups = (np.ascontiguousarray(a[rows], dtype=np.int64) for a in spread[:3])
        slope, base, factor = (np.ascontiguousarray(a[rows]) for a in spread[3:])
        _check_parameters(d, first, groups, slope, base, factor)
        return fitted_stages(like, *stages(d, first, slope, base), groups, factor)

    return _in_chunks(like.anynet(), chunk, len(spread[0]), resolution, convention)


def fitted_stages(
    like: RegNet, depths: Ints, widths: Ints, group_width: Ints, multiplier: Floats
) -> tuple[Stage, ...]:
    """Make the widths of many networks and their group widths fit each other.

    Args:
        like: The stride and the kind of block.
        depths: Blocks, shape (stages, n).
        widths: Widths before they are made to fit, shape (stages, n).
        group_width: Group widths asked for, shape (n,).
        multiplier: Bottleneck multipliers, shape (n,).

    Example:
        >>> from convscale.families.registry import regnet
        >>> one = fitted_stages(regnet("RegNetX-400MF"), np.array([[1]]), np.array([[24]]),
        ...                     np.array([16]), np.array([1.0]))
        >>> [int(value[0]) for value in one[0][:4]]
        [1, 32, 32, 16]
    """
    if like.block not in GROUPED:
        return tuple((d, w, w, w, like.stride) for d, w in zip(depths, widths, strict=True))
    plain = bool((multiplier == 1).all())
    found: list[Stage] = []
    for depth, width in zip(depths, widths, strict=True):
        wide = np.maximum(width, WIDTH_MULTIPLE)  # where there is no stage
        inner = wide if plain else np.maximum(1, wide * multiplier).astype(np.int64)
        group = np.minimum(group_width, inner)
        multiple = group
        if not plain:
            times = np.where(multiplier > 1, multiplier, 1).astype(np.int64)
            multiple = np.lcm(group, times)
        fitting = np.rint(inner / multiple).astype(np.int64) * multiple
        inner = np.maximum(multiple, fitting)
        wide = inner if plain else (inner / multiplier).astype(np.int64)
        # a block's inner width comes from its width again
        again = inner if plain else np.rint(wide * multiplier).astype(np.int64)
        found.append((depth, wide, again, group, like.stride))
    return tuple(found)


def _in_chunks(
    like: AnyNet,
    chunk: Callable[[slice], tuple[Stage, ...]],
    total: int,
    resolution: Resolution | None,
    convention: str,
) -> Costs:
    """Count chunk by chunk, so that memory is bounded by the answer."""
    if convention not in CONVENTIONS:
        raise InputError(f"Unknown convention {convention!r}. Use {', '.join(CONVENTIONS)}.")
    side = check_resolution(like.resolution if resolution is None else resolution, dims=2)
    out = np.empty((3, total), np.int64)
    for start in range(0, total, CHUNK):
        rows = slice(start, min(start + CHUNK, total))
        found = chunk(rows)
        _check_largest(like, found, side)
        out[:, rows] = _totals(like, found, side, convention)
    return Costs(*out)


def _totals(
    like: AnyNet, found: tuple[Stage, ...], side: Resolution, convention: str
) -> tuple[Number, Number, Number]:
    return anynet_cost(like, found, side).total(convention)


def _check_largest(like: AnyNet, found: tuple[Stage, ...], side: Resolution) -> None:
    """Refuse candidates whose counts might not fit: bounded by one that is larger than all."""
    bound: tuple[Stage, ...] = tuple(
        (_most(depth), _most(wide), _most(inner), _most(group), stride)
        for depth, wide, inner, group, stride in found
    )
    if anynet_cost(like, bound, side).flops >= _LARGEST:
        raise InputError(
            "The flops of some candidates may exceed 63 bits. Count them one at a time, or give "
            "smaller widths."
        )


def _spread(array: npt.NDArray[_T], shape: tuple[int, ...], what: str) -> npt.NDArray[_T]:
    try:
        return np.broadcast_to(array, shape)
    except ValueError as error:
        raise InputError(
            f"The {what} of candidates have the shape {array.shape}, which does not fit "
            f"{shape}, that of the depths."
        ) from error


def _most(values: Ints) -> int:
    return int(values.max(initial=1))


def _integers(values: npt.ArrayLike, what: str) -> Ints:
    array = np.asarray(values)
    if array.dtype.kind not in "iu":
        raise InputError(f"The {what} of candidates are {array.dtype}; they must be integers.")
    return array


def _check_stages(depths: Ints, widths: Ints, groups: Ints, multipliers: Floats) -> None:
    if not depths.size:
        return
    if int(depths.min()) < 0 or int(depths[:, 0].min()) < 1:
        raise InputError("Depths of candidates must be at least 0, and 1 in the first stage.")
    if bool(((depths[:, 1:] > 0) & (depths[:, :-1] == 0)).any()):
        raise InputError("A candidate has blocks after a stage without any. Leave the stage out.")
    if min(int(widths.min()), int(groups.min())) < 1 or not bool((multipliers > 0).all()):
        raise InputError(
            "Widths, group widths and multipliers of candidates must be positive, also where a "
            "stage has no blocks."
        )


def _check_groups(like: AnyNet, depths: Ints, inner: Ints, groups: Ints, start: int) -> None:
    if like.block not in GROUPED:
        return
    wrong = ((inner % groups) != 0) & (depths > 0)
    if bool(wrong.any()):
        stage, row = (int(place[0]) for place in np.nonzero(wrong))
        raise InputError(
            f"The group width {groups[stage, row]} of stage {stage + 1} of candidate {start + row} "
            f"does not divide its inner width {inner[stage, row]}."
        )


def _check_parameters(
    depth: Ints, w0: Ints, groups: Ints, wa: Floats, wm: Floats, multiplier: Floats
) -> None:
    if not len(depth):
        return
    mistakes = []
    if not 1 <= int(depth.min()) <= int(depth.max()) <= MOST_BLOCKS:
        mistakes.append(f"depths must lie in 1 to {MOST_BLOCKS}")
    if int(w0.min()) < 1 or bool((w0 % WIDTH_MULTIPLE).any()):
        mistakes.append(f"w0 must be positive multiples of {WIDTH_MULTIPLE}")
    if int(groups.min()) < 1:
        mistakes.append("group widths must be at least 1")
    if not bool((wa >= 0).all() and np.isfinite(wa).all()):
        mistakes.append("wa must be at least 0")
    if not bool((wm > 1).all() and np.isfinite(wm).all()):
        mistakes.append("wm must lie above 1")
    if not bool((multiplier > 0).all() and ((multiplier <= 1) | (multiplier % 1 == 0)).all()):
        mistakes.append("bottleneck multipliers must lie above 0 and be integers above 1")
    widest = log(_LARGEST)
    if not mistakes and bool((np.log(w0) + np.log1p(depth * wa / w0) > widest).any()):
        mistakes.append("widths must fit 63 bits")
    if mistakes:
        raise InputError(f"These are no RegNets: {'; '.join(mistakes)}.")
