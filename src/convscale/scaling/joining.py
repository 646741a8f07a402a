"""Widths on both sides of a block that a run holds and a variant does not.

An added block takes one width and may put out another: one that was made for it, or one that is put
together from parts of other widths. Where it does not stand, what it would read goes to what would
read it, so that both have one width; so have both where it stands several times.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from convscale.network.channels import Channels, Composition, Sizes
from convscale.network.stages import join
from convscale.network.trace import Trace
from convscale.scaling.plan import DepthEdit, flat


@dataclass(frozen=True)
class Joint:
    """A group of channels that stands `times` for others, which it has the size of.

    Example:
        >>> import numpy as np
        >>> Joint(0, 2, ((1, 1), (2, 3))).size(np.array([0, 8, 4]))
        10
    """

    group: int
    times: int
    like: Composition

    def size(self, sizes: Sizes) -> int:
        """Return the size of the group for the sizes of the others."""
        return round(sum(int(sizes[group]) * often for group, often in self.like) / self.times)


def joints(
    trace: Trace,
    models: tuple[DepthEdit, ...],
    edits: tuple[DepthEdit, ...],
    channels: Channels,
) -> tuple[Joint, ...]:
    """Return the groups that are as large as others where blocks of a run do not stand.

    Of the two sides the one that fewer tensors have follows the other, unless it is fixed.

    Args:
        trace: The run.
        models: What made it from the base network.
        edits: What makes the variant from the base network.
        channels: The channels of the run, under the control.

    Example:
        >>> from convscale.network import resolve_base
        >>> from convscale.scaling.blueprint import Blueprint
        >>> net = Blueprint(resolve_base("timm:fastvit_sa12").build("meta"), 256)
        >>> found = net.variant((1, 3, 2, 2, 6, 2), 256)  # no block more in the first stage
        >>> len(joints(found.trace, found.traced.edits, found.edits, found.channels))
        1
    """
    pairs = [
        pair
        for pair in _pairs(trace, models, edits, channels)
        if pair[0] != pair[1] and 1 in map(len, pair)
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
    return tuple(_joint(before, after, uses, channels) for before, after in pairs)


def _pairs(
    trace: Trace,
    models: tuple[DepthEdit, ...],
    edits: tuple[DepthEdit, ...],
    channels: Channels,
) -> Iterator[tuple[Composition, Composition]]:
    """Yield what blocks read and put out that do not stand in the variant."""
    stands = {
        (edit.container, edit.after)
        for edit in flat(edits)
        if edit.added and (edit.repetition is not None or edit.more < 2)
    }  # several copies of a block read each other
    for edit in flat(models):
        if edit.mode == "dense" or (edit.container, edit.after) in stands:
            continue
        for name in edit.added:
            border = trace.borders.get(join(edit.container, name))
            if border is None or border.input_units is None or border.output_units is None:
                continue
            if edit.repetition is None and border.input_shape != border.output_shape:
                continue
            units = (border.input_units, border.output_units)
            before, after = (channels.composition(own) for own in units)
            yield before, after


def _joint(
    before: Composition, after: Composition, uses: Counter[int], channels: Channels
) -> Joint:
    def follows(side: Composition) -> tuple[bool, bool, int]:
        group = side[0][0]
        return len(side) == 1, not channels.fixed[group], -uses[group]

    own, other = (before, after) if follows(before) >= follows(after) else (after, before)
    return Joint(*own[0], other)
