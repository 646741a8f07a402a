"""Channels that only fill up: zeros that pad a shortcut to the width of what it is added to.

They have no width of their own: there are as many as the whole needs beside the others.
"""

from __future__ import annotations

from typing import NamedTuple

from convscale.network.channels.channels import Channels, Composition, Sizes


class Filler(NamedTuple):
    """A channel group that fills a place up: how wide the place is, and what else stands there.

    Example:
        >>> Filler(group=1, whole=32, times=2, others=((0, 1),)).whole
        32
    """

    group: int
    whole: int
    times: int
    others: Composition

    def size(self, whole: int, sizes: Sizes) -> int:
        """Return the size of the group for a new width of the place and sizes of the others.

        Example:
            >>> import numpy as np
            >>> Filler(1, 32, 2, ((0, 1),)).size(48, np.array([24, 0]))
            12
        """
        others = sum(float(sizes[group]) * times for group, times in self.others)
        return max(0, int(whole - others) // self.times)


def find_fillers(channels: Channels) -> tuple[Filler, ...]:
    """Return the groups that fill places up, each with the narrowest place that it alone does.

    Example:
        >>> import numpy as np
        >>> sizes, fixed = np.array([16, 8]), np.array([False, False])
        >>> find_fillers(Channels(sizes, fixed, np.zeros(24, int), (((0, 1), (1, 2)),),
        ...                       filling=frozenset({1})))
        (Filler(group=1, whole=32, times=2, others=((0, 1),)),)
    """
    places = {*channels.produced, *channels.axes}
    alone = {composition[0][0] for composition in places if len(composition) == 1}
    open_groups = {g for g in channels.filling - alone if not channels.fixed[g]}
    found = []
    for whole, composition in sorted((_size(channels, place), place) for place in places):
        unknown = [pair for pair in composition if pair[0] in open_groups]
        if unknown:  # where there are several, all but the last have a width of their own
            group, times = unknown[-1]
            others = tuple(pair for pair in composition if pair[0] != group)
            found.append(Filler(group, whole, times, others))
            open_groups -= {pair[0] for pair in unknown}
    return tuple(found)


def _size(channels: Channels, composition: Composition) -> int:
    return sum(int(channels.sizes[group]) * times for group, times in composition)
