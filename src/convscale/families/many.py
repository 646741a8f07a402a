"""Costs of many candidates at once: exact integers, in bounded memory, on one core."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import log, prod
from typing import Any

import numpy as np
import numpy.typing as npt

from convscale.errors import InputError
from convscale.families.arrays import LARGEST, kind_name, read_integers, read_reals
from convscale.families.candidates import Candidates, Part, check_groups, read_candidates
from convscale.families.closed_form import (
    Cost,
    Number,
    Stage,
    anynet_cost,
    check_closed_form,
    efficientnet_cost,
)
from convscale.families.description import GROUPED, AnyNet, Description, EfficientNet
from convscale.families.regnet import MOST_BLOCKS, WIDTH_MULTIPLE, Floats, Ints, RegNet, stages
from convscale.quantities import Resolution, check_resolution, sides

CHUNK = 8192  # candidates whose intermediate arrays stay in the cache


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
    if not isinstance(like, AnyNet):
        raise InputError(
            f"like is {kind_name(like)}; it must be an AnyNet (.anynet() of a RegNet)."
        )
    found = read_candidates(
        like,
        depths=depths,
        widths=widths,
        group_widths=group_widths,
        bottleneck_multipliers=bottleneck_multipliers,
        strides=strides,
        resolution=resolution,
    )
    return count_many(found, convention=convention)


def count_many(candidates: Candidates, *, convention: str = "default") -> Costs:
    """Count many networks of a family.

    Args:
        candidates: The networks.
        convention: default or pycls.

    Returns:
        The costs, exact.

    Raises:
        InputError: If a group width does not divide an inner width, or a count would not fit
            63 bits.

    Example:
        >>> from convscale.families import count, named
        >>> net = named("EfficientNet-B0")
        >>> many = count_many(read_candidates(net, depths=[net.depths], widths=[net.widths]))
        >>> int(many.flops[0]) == count(net).flops
        True
    """
    check_closed_form(convention)
    out = np.empty((3, len(candidates)), np.int64)
    for rows in chunks(len(candidates), CHUNK):
        part = candidates.part(rows)
        found, size = _stages(candidates, part), (_one_of(part.height), _one_of(part.breadth))
        border = {"stem_width": _one_of(part.stem), "head_width": _one_of(part.head)}
        check_largest(candidates.like, found, size, **border)
        out[:, rows] = _cost(candidates.like, found, size, **border).total(convention)
    return Costs(*out)


def chunks(total: int, size: int) -> Iterator[slice]:
    """Cut rows into pieces.

    Example:
        >>> list(chunks(5, 3))
        [slice(0, 3, None), slice(3, 5, None)]
    """
    return (slice(start, min(start + size, total)) for start in range(0, total, size))


def _stages(candidates: Candidates, part: Part) -> tuple[tuple[Any, ...], ...]:
    """Return the stages as the closed form of the family has them."""
    sizes: tuple[npt.NDArray[Any], ...] = (part.depths, part.widths, part.inner, part.groups)
    if isinstance(candidates.like, EfficientNet):
        sizes = (part.depths, part.widths, part.ratios)
    return tuple(zip(*sizes, candidates.strides, strict=True))


def _cost(like: Description, found: tuple[Any, ...], size: Any, **border: Number) -> Cost:
    if isinstance(like, EfficientNet):
        return efficientnet_cost(like, found, size, **border)
    return anynet_cost(like, found, size, **border)


def _one_of(values: Ints) -> Number:
    """Return the number that all of them are, where they are one."""
    return int(values[0]) if len(values) and bool((values == values[0]).all()) else values


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
    spread = _parameters(like, depth, w0, wa, wm, group_width, bottleneck_multiplier)

    def chunk(rows: slice) -> tuple[Stage, ...]:
        d, first, groups = (np.ascontiguousarray(a[rows], dtype=np.int64) for a in spread[:3])
        slope, base, factor = (np.ascontiguousarray(a[rows]) for a in spread[3:])
        _check_parameters(d, first, groups, slope, base, factor)
        found = fitted_stages(like, *stages(d, first, slope, base), groups, factor)
        if not bool((factor == 1).all()):  # at 1 the inner width is made a multiple of the group's
            for number, (blocks, _, inner, group, _) in enumerate(found, start=1):
                check_groups(like, blocks[None], inner[None], group[None], rows.start, number)
        return found

    deepest = int(spread[0].max(initial=1))
    size = max(1, CHUNK * 64 // max(64, min(deepest, MOST_BLOCKS)))
    return _in_chunks(like.anynet(), chunk, len(spread[0]), resolution, convention, size)


def read_regnets(
    like: RegNet,
    *,
    depth: npt.ArrayLike,
    w0: npt.ArrayLike,
    wa: npt.ArrayLike,
    wm: npt.ArrayLike,
    group_width: npt.ArrayLike,
    bottleneck_multiplier: npt.ArrayLike = 1.0,
    resolution: Resolution | None = None,
) -> Candidates:
    """Read many RegNets given by their parameters, as `count_regnets` does.

    Raises:
        InputError: If parameters are out of range.

    Example:
        >>> from convscale.families.registry import regnet
        >>> net = regnet("RegNetX-400MF")
        >>> found = read_regnets(net, depth=22, w0=24, wa=24.48, wm=2.54, group_width=[16, 24])
        >>> found.description(0) == net.anynet(), found.description(1).group_widths
        (True, (24, 24, 24, 24))
    """
    spread = _parameters(like, depth, w0, wa, wm, group_width, bottleneck_multiplier)
    d, first, groups = (np.ascontiguousarray(array, dtype=np.int64) for array in spread[:3])
    slope, base, factor = map(np.ascontiguousarray, spread[3:])
    _check_parameters(d, first, groups, slope, base, factor)
    found = fitted_stages(like, *stages(d, first, slope, base), groups, factor)
    blocks, widths, _, own = (np.stack(each, axis=1) for each in list(zip(*found, strict=True))[:4])
    return read_candidates(
        like.anynet(),
        depths=blocks,
        widths=widths,
        group_widths=own,
        bottleneck_multipliers=factor[:, None],
        strides=(like.stride,) * len(found),
        resolution=resolution,
    )


def _parameters(
    like: RegNet, depth: Any, w0: Any, wa: Any, wm: Any, group_width: Any, multiplier: Any
) -> tuple[npt.NDArray[Any], ...]:
    """Return depths, first widths, group widths, slopes, bases and multipliers, one length."""
    if not isinstance(like, RegNet):
        raise InputError(
            f"like is {kind_name(like)}; it must be a RegNet, as families.regnet() gives."
        )
    counted = (("depth", depth), ("w0", w0), ("group_width", group_width))
    given: list[npt.NDArray[Any]] = [read_integers(values, what) for what, values in counted]
    real = (("wa", wa), ("wm", wm), ("bottleneck multipliers", multiplier))
    given += [read_reals(values, what) for what, values in real]
    try:
        return tuple(np.broadcast_arrays(*map(np.atleast_1d, given)))
    except ValueError as error:
        shapes = ", ".join(str(array.shape) for array in given)
        raise InputError(f"The parameters of candidates have the shapes {shapes}.") from error


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
    grouped = like.block in GROUPED
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
        if not grouped:
            found.append((depth, wide, wide, wide, like.stride))
            continue
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
    size: int = CHUNK,
) -> Costs:
    """Count chunk by chunk, so that memory is bounded by the answer."""
    check_closed_form(convention)
    side = check_resolution(like.resolution if resolution is None else resolution, dims=2)
    out = np.empty((3, total), np.int64)
    for start in range(0, total, size):
        rows = slice(start, min(start + size, total))
        found = chunk(rows)
        check_largest(like, found, side)
        out[:, rows] = _totals(like, found, side, convention)
    return Costs(*out)


def _totals(
    like: AnyNet, found: tuple[Stage, ...], side: Resolution, convention: str
) -> tuple[Number, Number, Number]:
    return anynet_cost(like, found, side).total(convention)


def check_largest(
    like: Description, found: tuple[tuple[Any, ...], ...], size: Any, **border: Number
) -> None:
    """Refuse candidates whose counts might not fit: bounded by one that is larger than all.

    Args:
        like: What is around the stages.
        found: The stages, as the closed form of the family has them.
        size: Input side, or all sides, in px.
        border: `stem_width` and `head_width`; those of `like` by default.

    Raises:
        InputError: If they might not.

    Example:
        >>> from convscale.families import named
        >>> check_largest(named("ResNet-50"), ((1, 1 << 60, 64, 64, 1),), 224)
        Traceback (most recent call last):
        convscale.errors.InputError: The flops of some candidates may exceed 63 bits. ...
    """
    bound = tuple((*map(_most, stage[:-1]), stage[-1]) for stage in found)
    largest = tuple(map(_most, sides(size)))
    own = {"stem_width": like.stem_width, "head_width": like.head_width}
    around = {name: _most(width) for name, width in (own | border).items()}
    # beside it, what depends on the candidate: projections, and the map that the head sees
    widths = (around["stem_width"], *(stage[1] for stage in bound))
    pairs = [before * after for before, after in pairwise(widths)]
    beside = (sum(pairs) + max(widths) * around["head_width"]) * prod(largest)
    if beside + max(_cost(like, bound, largest, **around).total("pycls")) >= LARGEST:
        raise InputError(
            "The flops of some candidates may exceed 63 bits. Count them one at a time, or give "
            "smaller widths."
        )


def _most(values: Number) -> Any:
    """Return the largest: an integer, or for ratios a number."""
    return np.max(values, initial=1).item()


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
    if not mistakes and _too_wide(depth, w0, wa, wm, multiplier):
        mistakes.append("widths must fit 63 bits")
    if mistakes:
        raise InputError(f"These are no RegNets: {'; '.join(mistakes)}.")


def _too_wide(depth: Ints, w0: Ints, wa: Floats, wm: Floats, multiplier: Floats) -> bool:
    """Tell whether a width, quantised up, or the least common multiple on it may not fit."""
    with np.errstate(over="ignore"):  # infinity is too wide as well
        line = np.log1p(depth * wa / w0)
    up = np.minimum(line, np.log(wm) / 2)
    times = np.log(np.maximum(multiplier, 1))
    return bool((np.log(w0) + line + up + 2 * times > log(LARGEST / 4)).any())
