"""Widths on both sides of a block that a run holds and a variant does not.

An added block takes one width and may put out another: one that was made for it, or one that is put
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

from convscale.network.channels import Channels, Composition, Sizes
from convscale.network.stages import join
from convscale.network.trace import Trace
from convscale.scaling.plan import DepthEdit, flat

Place = tuple[str, str]  # a container, and after what of it


@dataclass(frozen=True)
class Joint:
    """A group that stands `times` for others, and has their size, where a block does not stand.

    Example:
        >>> Joint(("layer1", "2"), 0, 2, ((1, 1), (2, 3))).times
        2
    """

    place: Place
    group: int
    times: int
    like: Composition


@dataclass(frozen=True)
class Joints:
    """The groups that are as large as others in a variant.

    Example:
        >>> found = Joints((Joint(("layer1", "2"), 0, 2, ((1, 1), (2, 3))),))
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
    trace: Trace, models: tuple[DepthEdit, ...], channels: Channels
) -> tuple[Joint, ...]:
    """Return the groups that are as large as others where blocks of a run do not stand.

    Of the two sides the one that fewer tensors have follows the other, unless it is fixed.

    Args:
        trace: The run.
        models: What made it from the base network.
        channels: The channels of the run, under the control.

    Example:
        >>> from convscale.network import resolve_base
        >>> from convscale.scaling.blueprint import Blueprint
        >>> net = Blueprint(resolve_base("timm:fastvit_sa12").build("meta"), 256)
        >>> found = net.variant((1, 3, 2, 2, 6, 2), 256)  # no block more in the first stage
        >>> joints = find_joints(found.trace, found.traced.edits, found.channels)
        >>> len(open_joints(joints, found.edits).all)
        1
    """
    pairs = [
        pair
        for pair in _pairs(trace, models, channels)
        if pair[1] != pair[2] and 1 in map(len, pair[1:])
    ]
    if not pairs:
        return ()
    uses = Counter(
        group
        for axes in trace.tensors
        for units in axes.units
        if units is not None
        for group, _ in channels.composition(units)
    )
    return tuple(_joint(*pair, uses, channels) for pair in pairs)


def open_joints(found: Iterable[Joint], edits: tuple[DepthEdit, ...]) -> Joints:
    """Return those whose block does not stand in a variant, or several times.

    Args:
        found: Those of a run.
        edits: What makes the variant from the base network.

    Example:
        >>> more = DepthEdit("layer1", added=("2",), after="1", template=("0",))
        >>> open_joints((Joint(("layer1", "1"), 0, 1, ((1, 1),)),), (more,)).all
        ()
    """
    stands = {
        (edit.container, edit.after)
        for edit in flat(edits)
        if edit.added and (edit.repetition is not None or edit.more < 2)
    }  # several copies of a block read each other
    return Joints(tuple(joint for joint in found if joint.place not in stands))


def _pairs(
    trace: Trace, models: tuple[DepthEdit, ...], channels: Channels
) -> Iterator[tuple[Place, Composition, Composition]]:
    """Yield the places of blocks of a run with what they read and put out."""
    for edit in flat(models):
        if edit.mode == "dense":
            continue
        for name in edit.added:
            border = trace.borders.get(join(edit.container, name))
            if border is None or border.input_units is None or border.output_units is None:
                continue
            if edit.repetition is None and border.input_shape != border.output_shape:
                continue
            units = (border.input_units, border.output_units)
            before, after = (channels.composition(own) for own in units)
            yield (edit.container, edit.after), before, after


def _joint(
    place: Place, before: Composition, after: Composition, uses: Counter[int], channels: Channels
) -> Joint:
    def follows(side: Composition) -> tuple[bool, bool, int]:
        group = side[0][0]
        return len(side) == 1, not channels.fixed[group], -uses[group]

    own, other = (before, after) if follows(before) >= follows(after) else (after, before)
    return Joint(place, *own[0], other)
