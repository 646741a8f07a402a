"""Widths on both sides of a block that a run holds and a variant does not.

A block takes one width and may put out another: one that was made for it, or one that is put
together from parts of other widths. Where it does not stand, what it would read goes to what would
read it, so that both have one width; so have both where it stands several times.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from convscale.network.channels.channels import Channels, Composition, Sizes
from convscale.network.stages.stages import Stage, join
from convscale.network.tracing.trace import Trace
from convscale.scaling.plans.plan import DepthEdit, flat

_Block = tuple[str, str, bool]
Sides = tuple[Composition, Composition]


@dataclass(frozen=True)
class Joint:
    """A group that stands `times` for others, and has their size, where a block does not stand.

    Of a block that is the base network's own, `name` is its first module's; of one that a run has
    besides, that of the block which it is added after.

    Example:
        >>> Joint("layer1", "2", True, 0, 2, ((1, 1), (2, 3))).times
        2
    """

    container: str
    name: str
    own: bool
    group: int
    times: int
    like: Composition


@dataclass(frozen=True)
class Joints:
    """The groups that are as large as others in a variant.

    Example:
        >>> found = Joints((Joint("layer1", "2", True, 0, 2, ((1, 1), (2, 3))),))
        >>> found.settled(np.array([0, 8, 4])).tolist()
        [10, 8, 4]
    """

    all: tuple[Joint, ...] = ()

    @cached_property
    def _arrays(self) -> tuple[npt.NDArray[np.int64], ...]:
        """The groups, how often they stand; the others, how often, and where each sum begins."""
        lengths = np.array([len(joint.like) for joint in self.all])
        others = np.array([pair for joint in self.all for pair in joint.like])
        return (
            np.array([joint.group for joint in self.all]),
            np.array([joint.times for joint in self.all]),
            others[:, 0],
            others[:, 1],
            np.cumsum(lengths) - lengths,
        )

    def settled(self, sizes: Sizes) -> Sizes:
        """Return sizes of all groups with those of these groups from the sizes of the others."""
        if not self.all:
            return sizes
        sizes = sizes.copy()
        groups, times, others, often, starts = self._arrays
        for _ in self.all:  # one may follow another
            sums = np.add.reduceat(np.trunc(sizes[others]) * often, starts)
            new = np.rint(sums / times).astype(sizes.dtype)
            if np.array_equal(new, sizes[groups]):
                break
            sizes[groups] = new
        return sizes


def find_joints(
    trace: Trace, models: tuple[DepthEdit, ...], stages: tuple[Stage, ...], channels: Channels
) -> tuple[Joint, ...]:
    """Return the groups that are as large as others where blocks of a run do not stand.

    Of the two sides the one that fewer tensors have follows the other, unless it is fixed. Where
    both are put together from several groups, those of one size are paired.

    Args:
        trace: The run.
        models: What made it from the base network.
        stages: The stages, whose blocks may be taken away.
        channels: The channels of the run, under the control.

    Example:
        >>> from convscale.network import resolve_base
        >>> from convscale.scaling.search.blueprint import Blueprint
        >>> net = Blueprint(resolve_base("timm:fastvit_sa12").build("meta"), 256)
        >>> found = net.variant((1, 3, 2, 2, 6, 2), 256)  # no block more in the first stage
        >>> joints = find_joints(found.trace, found.traced.edits, net.stages, found.channels)
        >>> len(open_joints(joints, found.edits).all)
        1
    """
    sides = [*_added(trace, models, channels), *_own(trace, stages, channels)]
    differ = [
        (block, pairs)
        for block, before, after in sides
        if (pairs := paired(before, after, channels))
    ]
    if not differ:
        return ()
    uses = Counter(
        group
        for axes in trace.tensors
        for units in axes.units
        if units is not None
        for group, _ in channels.composition(units)
    )
    return tuple(
        Joint(*block, *_following(*pair, uses, channels))
        for block, pairs in differ
        for pair in pairs
    )


def open_joints(found: Iterable[Joint], edits: tuple[DepthEdit, ...]) -> Joints:
    """Return those whose block does not stand in a variant, or stands there several times.

    Args:
        found: Those of a run.
        edits: What makes the variant from the base network.

    Example:
        >>> more = DepthEdit("layer1", added=("2",), after="1", template=("0",))
        >>> open_joints((Joint("layer1", "1", False, 0, 1, ((1, 1),)),), (more,)).all
        ()
    """
    every = tuple(flat(edits))
    gone = {(edit.container, name, True) for edit in every for name in edit.removed}
    stands = {
        (edit.container, edit.after, False)
        for edit in every
        if edit.added and (edit.repetition is not None or edit.more < 2)
    }  # several copies of a block read each other
    return Joints(
        tuple(
            joint
            for joint in found
            for key in [(joint.container, joint.name, joint.own)]
            if (key in gone if joint.own else key not in stands)
        )
    )


def paired(before: Composition, after: Composition, channels: Channels) -> tuple[Sides, ...]:
    """Return what must be of one size on two sides that are; nothing where they are the same.

    Nothing either where no groups of both can be paired: then no group can follow.

    Example:
        >>> sizes = np.array([8, 4, 4, 8])
        >>> channels = Channels(sizes, np.zeros(4, bool), np.zeros(24, int), ())
        >>> paired(((0, 1), (1, 1)), ((2, 1), (3, 1)), channels)
        ((((1, 1),), ((2, 1),)), (((0, 1),), ((3, 1),)))
    """
    if before == after:
        return ()
    if 1 in (len(before), len(after)):
        return ((before, after),)

    def by_size(side: Composition) -> list[tuple[int, tuple[int, int]]]:
        return sorted((int(channels.sizes[group]) * times, (group, times)) for group, times in side)

    if len(before) != len(after) or _shared(before, after):
        return ()  # shuffled channels: the whole has a width of its own
    pairs = list(zip(by_size(before), by_size(after), strict=True))
    if any(left[0] != right[0] for left, right in pairs):
        return ()
    return tuple(((left[1],), (right[1],)) for left, right in pairs if left[1] != right[1])


def can_meet(before: Composition, after: Composition, channels: Channels) -> bool:
    """Tell whether two sides of one size stay so, whatever the widths.

    So do shuffled channels, of which both have some: the whole has a width of its own.

    Example:
        >>> channels = Channels(np.array([8, 4, 4]), np.zeros(3, bool), np.zeros(16, int), ())
        >>> can_meet(((1, 1), (2, 1)), ((0, 1),), channels)
        True
    """
    return _shared(before, after) or bool(paired(before, after, channels))


def _shared(before: Composition, after: Composition) -> bool:
    return not {group for group, _ in before}.isdisjoint(group for group, _ in after)


def _added(
    trace: Trace, models: tuple[DepthEdit, ...], channels: Channels
) -> Iterator[tuple[_Block, Composition, Composition]]:
    """Yield the blocks that a run has besides the base network's, with what they read and give."""
    for edit in flat(models):
        if edit.mode == "dense":
            continue
        for name in edit.added:
            sides = _sides(
                trace, edit.container, (name,), channels, any_shape=edit.repetition is not None
            )
            if sides is not None:
                yield (edit.container, edit.after, False), *sides


def _own(
    trace: Trace, stages: tuple[Stage, ...], channels: Channels
) -> Iterator[tuple[_Block, Composition, Composition]]:
    """Yield the blocks of the base network that can be taken away, likewise."""
    for stage in stages:
        for block in stage.blocks if stage.mode != "dense" else ():
            names = stage.modules(block)
            sides = _sides(trace, stage.container, names, channels)
            if sides is not None:
                yield (stage.container, names[0], True), *sides


def _sides(
    trace: Trace,
    container: str,
    names: tuple[str, ...],
    channels: Channels,
    *,
    any_shape: bool = False,
) -> Sides | None:
    """Return what the modules of a block read and give; None where these have other shapes."""
    ends = [trace.border(join(container, name)) for name in (names[0], names[-1])]
    first, last = ends
    if first is None or last is None or first.input_units is None or last.output_units is None:
        return None
    if first.input_shape != last.output_shape and not any_shape:
        return None
    return channels.composition(first.input_units), channels.composition(last.output_units)


def _following(
    before: Composition, after: Composition, uses: Counter[int], channels: Channels
) -> tuple[int, int, Composition]:
    """Return the group that follows, how often it stands, and what it follows."""

    def follows(side: Composition) -> tuple[bool, bool, int]:
        group = side[0][0]
        return len(side) == 1, not channels.fixed[group], -uses[group]

    own, other = (before, after) if follows(before) >= follows(after) else (after, before)
    return (*own[0], other)
