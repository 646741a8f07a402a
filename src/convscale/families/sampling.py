"""Draw networks from a design space of RegNets, under constraints, many at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import log, log2
from numbers import Real
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from convscale.errors import BudgetError, InputError
from convscale.families.candidates import Candidates
from convscale.families.closed_form import anynet_cost, check_closed_form
from convscale.families.description import MOST_CHANNELS
from convscale.families.many import check_largest, fitted_stages, read_regnets
from convscale.families.regnet import (
    WIDTH_MULTIPLE,
    Floats,
    Ints,
    RegNet,
    level_counts,
    level_widths,
    most_levels,
    packed,
)
from convscale.families.regnet import (
    stages as staged,
)
from convscale.quantities import Resolution, check_count, check_resolution, whole

Bools = npt.NDArray[np.bool_]
_T = TypeVar("_T")
Range = tuple[float, float]
_PROPOSALS = 16_384  # at once, so that arrays stay in the cache
_HOPELESS = 5_000_000  # proposals without one that is valid


@dataclass(frozen=True)
class Interval:
    """A closed interval of multiples of a step.

    Example:
        >>> Interval(8, 256, 8).step
        8
    """

    low: float
    high: float
    step: float

    def mistakes(self, name: str) -> list[str]:
        """Name what is wrong with it."""
        if not all(isinstance(value, Real) for value in (self.low, self.high, self.step)):
            return [f"{name} has the values {self.low!r}, {self.high!r} and {self.step!r}, they "
                    "must be numbers"]  # fmt: skip
        if not 0 < self.low <= self.high < float("inf") or not self.step > 0:
            return [f"{name} is [{self.low}, {self.high}] by {self.step}, it must be positive"]
        if self.high > MOST_CHANNELS:
            return [f"{name} ends at {self.high}, it must be at most {MOST_CHANNELS}"]
        ends = (self.low / self.step, self.high / self.step)
        if any(abs(end - round(end)) > 1e-6 for end in ends):
            return [f"the ends of {name}, {self.low} and {self.high}, are no multiples of its "
                    f"step {self.step}"]  # fmt: skip
        return []

    def draw(self, random: np.random.Generator, count: int) -> Floats:
        """Draw log-uniformly and round to multiples of the step."""
        drawn = np.exp(random.uniform(log(self.low), log(self.high), count))
        up, down = self._ratio()  # so that 0.1 gives 24.5 and not 24.500000000000004
        first, last = (round(end / self.step) for end in (self.low, self.high))
        multiple = np.clip(np.rint(drawn * down / up), first, last)
        found: Floats = multiple * up / down
        return found

    def _ratio(self) -> tuple[float, float]:
        """Return the step as a ratio: 3 and 10 for 0.3."""
        step = float(self.step)
        near = Fraction(step).limit_denominator(1_000_000)
        exact = near if abs(near - Fraction(step)) < 1e-12 * step else Fraction(step)
        return float(exact.numerator), float(exact.denominator)


@dataclass(frozen=True, kw_only=True)
class Space:
    """A design space of RegNets: depth uniform; w0, wa, wm and group width log-uniform.

    Depth is an interval of integers; bottleneck multipliers are the powers of two in an
    interval, each as likely. `like` says what is around the stages, the kind of block and
    the input side: with its `se_ratio` 0.25 it is a space of RegNetY.

    Raises:
        InputError: If intervals are empty or have other ends than multiples of their steps.

    Example:
        >>> Space(depth=(12, 28)).wm.high
        3.0

    Source: arXiv 2003.13678, section 3.4.
    """

    depth: tuple[int, int] = (12, 28)
    w0: Interval = Interval(8, 256, 8)
    wa: Interval = Interval(8, 256, 0.1)
    wm: Interval = Interval(2.0, 3.0, 0.001)
    group_width: Interval = Interval(8, 128, 8)
    bottleneck_multiplier: tuple[float, float] = (1.0, 1.0)
    like: RegNet = field(
        default_factory=lambda: RegNet(depth=16, w0=8, wa=8.0, wm=2.0, group_width=8)
    )

    def __post_init__(self) -> None:
        found: list[str] = []
        for name in ("w0", "wa", "wm", "group_width"):
            axis = getattr(self, name)
            given = isinstance(axis, Interval)
            found += axis.mistakes(name) if given else [
                f"{name} is {axis!r}, it must be an Interval(low, high, step)"
            ]  # fmt: skip
        if not found and (self.w0.step % WIDTH_MULTIPLE or self.group_width.step % 1):
            found.append("w0 must have steps of a multiple of 8, group_width of integers")
        if not found and self.wm.low <= 1:
            found.append(f"wm begins at {self.wm.low}, it must lie above 1")
        depth = _pair(self.depth, whole)
        if depth is None or not 1 <= depth[0] <= depth[1] <= 1024:
            found.append(f"depth is {self.depth}, it must be an interval within 1 and 1024")
        else:
            object.__setattr__(self, "depth", depth)
        ends = _pair(self.bottleneck_multiplier, _power_of_two)
        if ends is None or ends[0] > ends[1]:
            found.append("bottleneck_multiplier must be an interval between powers of two")
        if not isinstance(self.like, RegNet):
            found.append("like must be a RegNet, such as families.regnet('RegNetX-400MF')")
        if found:
            raise InputError(f"This is no design space: {'; '.join(found)}.")

    def multipliers(self, random: np.random.Generator, count: int) -> Floats:
        """Draw bottleneck multipliers."""
        low, high = (int(log2(end)) for end in self.bottleneck_multiplier)
        return np.exp2(random.integers(low, high + 1, count))


def _pair(given: object, read: Callable[[Any], _T | None]) -> tuple[_T, _T] | None:
    """Return the ends of an interval, None where it has not two or one cannot be read."""
    if not isinstance(given, tuple | list) or len(given) != 2:
        return None
    low, high = map(read, given)
    return None if low is None or high is None else (low, high)


def _power_of_two(value: object) -> float | None:
    if not isinstance(value, Real) or not 2.0**-20 <= float(value) <= MOST_CHANNELS:
        return None
    return float(value) if log2(float(value)) % 1 == 0 else None


@dataclass(frozen=True)
class Sample:
    """Networks drawn from a design space and their costs, an array each, shape (n,).

    Example:
        >>> found = sample(3, flops=(3e8, 5e8), seed=1)
        >>> found.regnet(0).depth == int(found.depth[0])
        True
    """

    space: Space
    depth: Ints
    w0: Ints
    wa: Floats
    wm: Floats
    group_width: Ints
    bottleneck_multiplier: Floats
    stages: Ints
    flops: Ints
    params: Ints
    acts: Ints

    def __len__(self) -> int:
        return len(self.depth)

    def candidates(self) -> Candidates:
        """Return the networks as candidates, given stage by stage."""
        names = ("depth", "w0", "wa", "wm", "group_width", "bottleneck_multiplier")
        return read_regnets(self.space.like, **{name: getattr(self, name) for name in names})

    def regnet(self, index: int) -> RegNet:
        """Return one of the networks."""
        return replace(
            self.space.like,
            depth=int(self.depth[index]),
            w0=int(self.w0[index]),
            wa=float(self.wa[index]),
            wm=float(self.wm[index]),
            group_width=int(self.group_width[index]),
            bottleneck_multiplier=float(self.bottleneck_multiplier[index]),
        )


@dataclass(frozen=True)
class _Wanted:
    stages: tuple[int, int]
    flops: Range
    params: Range
    acts: Range


def sample(
    count: int,
    *,
    space: Space | None = None,
    flops: Range | None = None,
    params: Range | None = None,
    acts: Range | None = None,
    stages: int | tuple[int, int] | None = None,
    resolution: Resolution | None = None,
    convention: str = "default",
    seed: int = 0,
) -> Sample:
    """Draw networks from a design space of RegNets, all of which meet the constraints.

    Networks are drawn from the whole space, and those that do not meet the constraints are
    dropped, so that the others keep their distribution.

    Args:
        count: How many.
        space: The design space.
        flops: Least and most flops (multiply-adds).
        params: Least and most params.
        acts: Least and most acts.
        stages: Number of stages, or least and most.
        resolution: Input side, or all sides, in px; that of the space by default.
        convention: default or pycls.
        seed: Of the random numbers; the same seed gives the same networks.

    Raises:
        InputError: If an argument is wrong.
        BudgetError: If millions of draws bring no network that meets the constraints.

    Example:
        >>> found = sample(100, flops=(3.6e8, 4.4e8), stages=4)
        >>> len(found), bool((found.flops <= 4.4e8).all()), set(found.stages.tolist())
        (100, True, {4})

    Source: arXiv 2003.13678, section 3.4.
    """
    count = check_count(count, what="number of networks")
    check_closed_form(convention)
    chosen = Space() if space is None else space
    side = check_resolution(chosen.like.resolution if resolution is None else resolution, dims=2)
    ranges = (
        _range(given, what)
        for given, what in ((flops, "flops"), (params, "params"), (acts, "acts"))
    )
    wanted = _Wanted(_stage_range(stages), *ranges)
    start = whole(seed)
    if start is None or start < 0:
        raise InputError(f"The seed is {seed!r}; it must be an integer of at least 0.")
    random = np.random.default_rng(start)
    size = max(1, min(_PROPOSALS, (1 << 20) // chosen.depth[1]))
    parts: list[tuple[npt.NDArray[np.generic], ...]] = []
    have = tried = 0
    for found in _draws(chosen, wanted, side, convention, random, size):
        parts.append(found)
        have += len(found[0])
        tried += size
        if have >= count:
            break
        if tried >= _HOPELESS * (1 + have):
            raise BudgetError(
                f"Of {tried:,} networks drawn, {have} meet the constraints. Widen them, or the "
                "design space."
            )
    columns = (np.concatenate(column)[:count] for column in zip(*parts, strict=True))
    return Sample(chosen, *columns)


def _draws(
    space: Space,
    wanted: _Wanted,
    side: Resolution,
    convention: str,
    random: np.random.Generator,
    size: int,
) -> Iterator[tuple[npt.NDArray[np.generic], ...]]:
    """Yield what is valid of one chunk of proposals after the other."""
    like = space.like.anynet()
    while True:
        depth = random.integers(space.depth[0], space.depth[1] + 1, size)
        w0 = space.w0.draw(random, size).astype(np.int64)
        wa, wm = (axis.draw(random, size) for axis in (space.wa, space.wm))
        rows, depths, wide = _staged(depth, w0, wa, wm, wanted.stages)
        group = space.group_width.draw(random, len(rows)).astype(np.int64)
        multiplier = space.multipliers(random, len(rows))
        found = fitted_stages(space.like, depths, wide, group, multiplier)
        check_largest(like, found, side)
        # where no network is left, no stage is, and the costs are numbers and no arrays
        total = anynet_cost(like, found, side).total(convention)
        costs = [np.broadcast_to(cost, len(rows)) for cost in total]
        number = (depths > 0).sum(axis=0)
        good = (number >= wanted.stages[0]) & (number <= wanted.stages[1])
        for cost, (low, high) in zip(
            costs, (wanted.flops, wanted.params, wanted.acts), strict=True
        ):
            good &= (cost >= low) & (cost <= high)
        for _, width, inner, _, _ in found:  # wider ones are no networks that can be described
            good &= np.maximum(width, inner) <= MOST_CHANNELS
        kept = rows[good]
        given = (depth[kept], w0[kept], wa[kept], wm[kept], group[good], multiplier[good])
        yield (*given, number[good], *(cost[good] for cost in costs))


def _staged(
    depth: Ints, w0: Ints, wa: Floats, wm: Floats, wanted: tuple[int, int]
) -> tuple[Ints, Ints, Ints]:
    """Return which networks may have as many stages, and the depths and widths of those."""
    if most_levels(depth, w0, wa, wm) > int(depth.max()):
        return np.arange(len(depth)), *staged(depth, w0, wa, wm)
    counts = level_counts(depth, w0, wa, wm)
    rows = np.flatnonzero(_may_have_stages(counts, w0, wm, wanted))
    widths = level_widths(w0[rows], wm[rows], len(counts))
    return rows, *packed(counts[:, rows], widths)


def _may_have_stages(counts: Ints, w0: Ints, wm: Floats, wanted: tuple[int, int]) -> Bools:
    """Tell which networks may have as many stages; neighbours of one width are joined later."""
    number = np.count_nonzero(counts, axis=0)
    apart = w0 * (wm - 1) > WIDTH_MULTIPLE  # levels then have widths of their own
    found: Bools = (number >= wanted[0]) & ((number <= wanted[1]) | ~apart)
    return found


def _range(given: Range | None, what: str) -> Range:
    if given is None:
        return 0.0, float("inf")
    try:
        low, high = map(float, given)
    except (TypeError, ValueError):
        low, high = float("nan"), float("nan")
    if not low <= high:
        raise InputError(f"The range of {what} is {given!r}; write (least, most).")
    return low, high


def _stage_range(given: int | tuple[int, int] | None) -> tuple[int, int]:
    if given is None:
        return 1, 1 << 30
    ends = _pair(given if isinstance(given, tuple | list) else (given, given), whole)
    if ends is None or not 1 <= ends[0] <= ends[1]:
        raise InputError(
            f"The number of stages is {given!r}; write an integer of at least 1, or (least, most)."
        )
    return ends
