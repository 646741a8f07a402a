"""Many candidates of a family as arrays: read from what a user gives, taken apart in pieces."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from convscale.errors import InputError
from convscale.families.arrays import LARGEST, kind_name, read_integers, read_reals, spread
from convscale.families.description import GROUPED, AnyNet, Description, EfficientNet
from convscale.families.regnet import Floats, Ints
from convscale.quantities import Resolution, check_resolution, sides, whole


class Part(NamedTuple):
    """Some of the candidates, int64: stages first, shape (stages, n), or (n,).

    `ratios` are inner width over width; of an EfficientNet, over the width of a block's input.

    Example:
        >>> from convscale.families.registry import named
        >>> net = named("ResNet-18")
        >>> found = read_candidates(net, depths=[net.depths] * 3, widths=[net.widths] * 3,
        ...                         group_widths=[net.group_widths] * 3)
        >>> found.part(slice(0, 2)).depths.shape
        (4, 2)
    """

    depths: Ints
    widths: Ints
    inner: Ints
    groups: Ints
    ratios: Floats
    stem: Ints
    head: Ints
    height: Ints
    breadth: Ints

    def take(self, which: Ints) -> Part:
        """Return some of them, and only the stages that one of them has."""
        stages = int((self.depths[:, which] > 0).any(axis=1).sum())
        arrays: list[Any] = [array[:stages] if array.ndim == 2 else array for array in self]
        return Part(*(array[..., which] for array in arrays))


@dataclass(frozen=True, eq=False)
class Candidates:
    """Networks of one family, given stage by stage: arrays of the shape (n, stages), or (n,).

    What is around the stages, and the kind of block, are those of `like`. A candidate's last
    stages may have no blocks. `read_candidates` makes them, and checks them.

    Example:
        >>> from convscale.families.registry import named
        >>> net = named("ResNet-18")
        >>> found = read_candidates(net, depths=[net.depths, (1, 1, 1, 0)], widths=net.widths,
        ...                         group_widths=net.group_widths)
        >>> len(found), found.description(0) == net, found.description(1).depths
        (2, True, (1, 1, 1))
    """

    like: Description
    strides: tuple[int, ...]
    depths: Ints
    widths: Ints
    group_widths: Ints
    multipliers: Floats
    stem_widths: Ints
    head_widths: Ints
    heights: Ints
    breadths: Ints

    def __len__(self) -> int:
        return len(self.depths)

    def description(self, row: int) -> Description:
        """Return one of them."""
        blocks = tuple(int(depth) for depth in self.depths[row] if depth)
        stages = len(blocks)
        resolution = (int(self.heights[row]), int(self.breadths[row]))
        values: dict[str, Any] = {
            "depths": blocks,
            "widths": tuple(map(int, self.widths[row, :stages])),
            "strides": self.strides[:stages],
            "stem_width": int(self.stem_widths[row]),
            "head_width": int(self.head_widths[row]),
            "resolution": resolution if resolution[0] != resolution[1] else resolution[0],
        }
        ratios = tuple(map(float, self.multipliers[row, :stages]))
        if isinstance(self.like, EfficientNet):
            kernels = self.like.kernels[:stages]
            return replace(self.like, **values, expansion_ratios=ratios, kernels=kernels)
        groups = tuple(map(int, self.group_widths[row, :stages]))
        return replace(self.like, **values, bottleneck_multipliers=ratios, group_widths=groups)

    def part(self, rows: slice) -> Part:
        """Return some of them as a part.

        Raises:
            InputError: If group widths do not divide inner widths, or these are too large.
        """
        d, w, g = (
            np.ascontiguousarray(array[rows].T, dtype=np.int64)
            for array in (self.depths, self.widths, self.group_widths)
        )
        ratios = self.multipliers[rows].T
        if isinstance(self.like, EfficientNet):
            inner = _whole_widths(np.floor(w * ratios))
        else:
            inner = w if bool((ratios == 1).all()) else _whole_widths(np.rint(w * ratios))
            check_groups(self.like, d, inner, g, rows.start)
        around = (
            np.ascontiguousarray(array[rows], dtype=np.int64)
            for array in (self.stem_widths, self.head_widths, self.heights, self.breadths)
        )
        return Part(d, w, inner, g, ratios, *around)


def read_candidates(
    like: Description,
    *,
    depths: npt.ArrayLike,
    widths: npt.ArrayLike,
    group_widths: npt.ArrayLike | None = None,
    bottleneck_multipliers: npt.ArrayLike | None = None,
    strides: tuple[int, ...] | None = None,
    stem_widths: npt.ArrayLike | None = None,
    head_widths: npt.ArrayLike | None = None,
    resolution: Resolution | npt.NDArray[np.integer[Any]] | None = None,
) -> Candidates:
    """Read networks given stage by stage, shape (n, stages) each.

    Args:
        like: What is around the stages, the kind of block, the strides and the input side.
        depths: Blocks; a candidate's last stages may have none.
        widths: Widths.
        group_widths: Group widths, which must divide the inner widths; for bottleneck blocks.
        bottleneck_multipliers: Inner width over width, 1 by default; of an EfficientNet the
            expansion ratios, by default its own.
        strides: Strides of the stages; those of `like` by default.
        stem_widths: Widths of the stem, shape (n,); that of `like` by default.
        head_widths: Widths of the last 1×1 convolution, where `like` has one; as in `like`.
        resolution: Input side, or all sides, in px; or an array of sides, shape (n,) or
            (n, 2), one for each candidate. That of `like` by default.

    Raises:
        InputError: If arrays do not fit each other, or are no networks.

    Example:
        >>> from convscale.families.registry import named
        >>> net = named("EfficientNet-B0")
        >>> found = read_candidates(net, depths=[net.depths] * 2, widths=[net.widths] * 2,
        ...                         stem_widths=[32, 40])
        >>> found.description(1).stem_width
        40
    """
    if not isinstance(like, AnyNet | EfficientNet):
        raise InputError(
            f"like is {kind_name(like)}; it must be an AnyNet (.anynet() of a RegNet) or an "
            "EfficientNet."
        )
    blocks = np.atleast_2d(read_integers(depths, "depths"))
    if blocks.ndim != 2:
        raise InputError(f"The depths have the shape {blocks.shape}; it must be (n, stages).")
    shape = blocks.shape
    if isinstance(like, EfficientNet) and len(like.kernels) != shape[1]:
        raise InputError(
            f"The candidates have {shape[1]} stages, but like has {len(like.kernels)} kernels."
        )
    wide = spread(read_integers(widths, "widths"), shape, "widths")
    factor = spread(_multipliers(like, bottleneck_multipliers), shape, "multipliers")
    groups = spread(_groups(like, group_widths, wide), shape, "group widths")
    steps = _strides(like.strides if strides is None else strides, shape[1])
    _check_stages(blocks, wide, groups, factor)
    _check_multipliers(like, factor)
    heights, breadths = _sides(like.resolution if resolution is None else resolution, shape[0])
    return Candidates(
        like,
        steps,
        blocks,
        wide,
        groups,
        factor,
        _border(like.stem_width, stem_widths, shape[0], "stem"),
        _border(like.head_width, head_widths, shape[0], "head"),
        heights,
        breadths,
    )


def _multipliers(like: Description, given: npt.ArrayLike | None) -> Floats:
    own = like.expansion_ratios if isinstance(like, EfficientNet) else 1.0
    return read_reals(own if given is None else given, "bottleneck multipliers")


def _groups(like: Description, given: npt.ArrayLike | None, widths: Ints) -> Ints:
    if isinstance(like, EfficientNet):
        if given is not None:
            raise InputError("EfficientNets have no group widths. Leave them out.")
        return np.ones((1, 1), np.int64)
    if given is None:
        if like.block in GROUPED:
            raise InputError(f"Candidates of {like.block} blocks need group widths.")
        return widths
    found = read_integers(given, "group widths")
    return found if like.block in GROUPED else widths


def _check_multipliers(like: Description, multipliers: Floats) -> None:
    """Refuse multipliers that the kind of block does not have."""
    if isinstance(like, EfficientNet):
        if bool((multipliers < 1).any()):
            raise InputError("Expansion ratios of candidates must be at least 1.")
    elif like.block not in GROUPED and bool((multipliers != 1).any()):
        raise InputError(f"Candidates of {like.block} blocks have bottleneck multipliers of 1.")


def _sides(given: Any, count: int) -> tuple[Ints, Ints]:
    """Return heights and widths of inputs (px), one for each candidate."""
    if not isinstance(given, np.ndarray):
        height, breadth = sides(check_resolution(given, dims=2))
        return np.broadcast_to(height, count), np.broadcast_to(breadth, count)
    array = read_integers(given, "resolutions")
    shape = (count, 2)
    pairs = spread(array[:, None] if array.ndim == 1 else array, shape, "resolutions")
    if count and not 1 <= int(pairs.min()) <= int(pairs.max()) <= 1 << 24:
        raise InputError("Resolutions of candidates must be sides of 1 to 2^24 px.")
    return pairs[:, 0], pairs[:, 1]


def _border(own: int, given: npt.ArrayLike | None, count: int, what: str) -> Ints:
    """Return widths of the stem or the head, one for each candidate."""
    array = read_integers(own if given is None else given, f"{what} widths")
    try:
        widths = np.broadcast_to(array, count)
    except ValueError as error:
        raise InputError(
            f"The {what} widths of candidates have the shape {array.shape}; it must be ({count},)."
        ) from error
    if count and given is not None and (int(widths.min()) < 1 or own == 0):
        told = "like has no head convolution" if own == 0 else "they must be at least 1"
        raise InputError(f"The {what} widths of candidates came, but {told}.")
    return widths


def _strides(given: Any, stages: int) -> tuple[int, ...]:
    steps = tuple(given) if isinstance(given, tuple | list | np.ndarray) else (given,)
    if len(steps) != stages:
        raise InputError(
            f"The candidates have {stages} stages, but {len(steps)} strides came. "
            "Give a stride a stage."
        )
    found = [step for step in map(whole, steps) if step is not None and step >= 1]
    if len(found) != stages:
        raise InputError(f"The strides are {steps}; they must be integers of at least 1.")
    return tuple(found)


def _whole_widths(exact: Floats) -> Ints:
    if float(exact.max(initial=1.0)) > LARGEST:
        raise InputError(
            f"The inner widths of candidates reach {float(exact.max()):.3g}; they must fit 63 bits."
        )
    return exact.astype(np.int64)


def _check_stages(depths: Ints, widths: Ints, groups: Ints, multipliers: Floats) -> None:
    if not depths.size:
        return
    if int(depths.min()) < 0 or int(depths[:, 0].min()) < 1:
        raise InputError("Depths of candidates must be at least 0, and 1 in the first stage.")
    if bool(((depths[:, 1:] > 0) & (depths[:, :-1] == 0)).any()):
        raise InputError("A candidate has blocks after a stage without any. Leave the stage out.")
    positive = bool((multipliers > 0).all()) and bool(np.isfinite(multipliers).all())
    if min(int(widths.min()), int(groups.min())) < 1 or not positive:
        raise InputError(
            "Widths, group widths and multipliers of candidates must be positive and finite, also "
            "where a stage has no blocks."
        )


def check_groups(
    like: Any, depths: Ints, inner: Ints, groups: Ints, start: int, first: int = 1
) -> None:
    """Refuse what a description refuses: inner widths of 0, or that groups do not divide.

    Args:
        like: What says the kind of block.
        depths: Blocks, shape (stages, n), as the others.
        inner: Inner widths.
        groups: Group widths.
        start: The number of the first candidate.
        first: The number of the first stage.

    Raises:
        InputError: If there are such.

    Example:
        >>> from convscale.families.registry import named
        >>> one = np.array([[1]])
        >>> check_groups(named("ResNet-50"), one, 64 * one, 24 * one, 0)
        Traceback (most recent call last):
        convscale.errors.InputError: The group width 24 of stage 1 of candidate 0 does not ...
    """
    if like.block not in GROUPED:
        return
    wrong = (((inner % groups) != 0) | (inner < 1)) & (depths > 0)
    if bool(wrong.any()):
        stage, row = (int(place[0]) for place in np.nonzero(wrong))
        raise InputError(
            f"The group width {groups[stage, row]} of stage {stage + first} of candidate "
            f"{start + row} does not divide its inner width {inner[stage, row]}."
        )
