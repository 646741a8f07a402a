"""Fragments: what shuffles and splits cut widths into, so that no layer puts one out alone.

Each grows in proportion to the width it is cut from. Where a shuffle mixes widths that round
differently, that does not add up: the parts of an equal split come out unequal. Fragments then
move, by as little as can be, until they do. Where no sizes of fragments can do it, the widths
themselves are related: those relations are sums as of any other parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from convscale.network.channels.channels import Channels, Composition, Sizes
from convscale.scaling.widths.sums import Sum, Width

_NEAR = 1e-6  # of a channel: what a sum is off by at most if it is met


class Place(NamedTuple):
    """What fragments stand in together, and the width that it has, None where any will do.

    Example:
        >>> Place(((0, 1), (1, 1)), Width(58)).width.base
        58
    """

    composition: Composition
    width: Width | None


class Fragments(NamedTuple):
    """The channel groups that are fragments, their sizes in the base, and the places they fill.

    Example:
        >>> halves = Fragments((0, 1), (24, 34), (Place(((0, 1), (1, 1)), Width(58)),))
        >>> halves.settled(np.array([32.0, 48.1]), {Width(58): 82}).sum()
        np.float64(82.0)
    """

    groups: tuple[int, ...] = ()
    base: tuple[int, ...] = ()
    places: tuple[Place, ...] = ()

    def settled(
        self, sizes: npt.NDArray[np.float64], widths: Mapping[Width, int]
    ) -> npt.NDArray[np.float64]:
        """Return sizes of all groups at which every place has its width.

        Places without a width of their own come to the nearest integer. Sizes stay as they are
        where they add up already, and where no sizes do.
        """
        known = [place for place in self.places if place.width in widths]
        first = self._moved(sizes, known, [widths[w] for _, w in known if w is not None])
        if first is sizes:
            return sizes
        wanted = [round(_size(place.composition, first)) for place in self.places]
        return self._moved(first, self.places, wanted)

    def relations(self) -> tuple[Sum, ...]:
        """Return what the widths of places must obey, whatever the sizes of fragments are.

        A combination of places in which all channel groups cancel is one of widths too.

        Example:
            >>> cut = [Place(((0, 1), (1, 1)), Width(6)), Place(((0, 1),), Width(2)),
            ...        Place(((1, 1),), Width(4))]
            >>> Fragments((0, 1), (2, 4), tuple(cut)).relations()
            (Sum(whole=Width(base=6, share=1.0), parts=((Width(base=2, share=1.0), 1), \
(Width(base=4, share=1.0), 1)), fixed=0, chunks=0),)
        """
        known = [place for place in self.places if place.width is not None]
        widths = sorted({width for _, width in known if width is not None})
        times = _times([place.composition for place in known])
        of = np.array([[width == place.width for width in widths] for place in known], float)
        left = _eliminated(times, of.reshape(len(known), len(widths)))
        left = _eliminated(left[:, ::-1], np.zeros((len(left), 0)), kept=True)[:, ::-1]
        return tuple(sorted(found for row in left if (found := _as_sum(row, widths)) is not None))

    def _moved(
        self,
        sizes: npt.NDArray[np.float64],
        places: Iterable[Place],
        wanted: Iterable[int],
    ) -> npt.NDArray[np.float64]:
        """Return the sizes nearest to those given, in ratios, at which places are as wanted."""
        column = {group: index for index, group in enumerate(self.groups)}
        compositions = [place.composition for place in places]
        off = np.array(list(wanted), float) - [_size(c, sizes) for c in compositions]
        if not np.abs(off).max(initial=0.0) > _NEAR:
            return sizes
        times = np.zeros((len(compositions), len(self.groups)))
        for row, composition in enumerate(compositions):
            for group, count in composition:
                if group in column:
                    times[row, column[group]] += count
        scale = np.sqrt(np.array(self.base, float))
        moves = scale * np.linalg.lstsq(times * scale, off, rcond=None)[0]
        moved = sizes.copy()
        moved[list(self.groups)] += moves
        met = np.abs(times @ moves - off).max() < _NEAR and bool((moved >= 0).all())
        return moved if met else sizes


NO_FRAGMENTS = Fragments()


def find_fragments(
    channels: Channels, splits: Sequence[tuple[Composition, ...]], widths: Mapping[int, Width]
) -> Fragments:
    """Find the fragments of equal splits, and where they stand.

    Args:
        channels: The channel groups of the network.
        splits: The parts of equal splits, which mix channel groups.
        widths: The width that each channel group stands for.

    Example:
        >>> halves = (((0, 1), (1, 1)), ((2, 1),))
        >>> channels = Channels(np.array([24, 34, 58]), np.zeros(3, bool), np.zeros(116, int), ())
        >>> find_fragments(channels, [halves], {0: Width(24), 1: Width(58), 2: Width(58)}).groups
        (0, 1)
    """
    parts = {part for split in splits for part in split}
    mixed = {part for part in parts if len(part) > 1}
    inside = {group for part in mixed for group, _ in part if not channels.fixed[group]}
    groups = tuple(sorted(inside & widths.keys()))
    known = set(widths.values())
    cut = {part for split in splits if not mixed.isdisjoint(split) for part in split}
    weighed = (*channels.produced, *channels.axes)
    places = cut | {place for place in weighed if not inside.isdisjoint(dict(place))}
    beside = {group for place in places for group, _ in place} - inside
    places |= {
        ((group, 1),) for group in beside & widths.keys() if _has(widths[group], channels, group)
    }
    return Fragments(
        groups,
        tuple(int(channels.sizes[group]) for group in groups),
        tuple(
            Place(place, width if width in known else None)
            for place in sorted(places)
            for width in [_width(place, channels, widths)]
        ),
    )


def _width(place: Composition, channels: Channels, widths: Mapping[int, Width]) -> Width:
    """Return the width of a place, in the stage of its widest group."""
    own = [(int(channels.sizes[g]) * n, widths[g].share) for g, n in place if g in widths]
    return Width(round(_size(place, channels.sizes)), max(own, default=(0, 1.0))[1])


def _has(width: Width, channels: Channels, group: int) -> bool:
    """Tell whether a group is as wide as the width that it stands for."""
    return width.base == int(channels.sizes[group])


def _times(compositions: Sequence[Composition]) -> npt.NDArray[np.float64]:
    """Return how often each group that stands anywhere stands in each place."""
    groups = sorted({group for composition in compositions for group, _ in composition})
    return np.array([[dict(c).get(group, 0) for group in groups] for c in compositions], float)


def _eliminated(
    matrix: npt.NDArray[np.float64], beside: npt.NDArray[np.float64], *, kept: bool = False
) -> npt.NDArray[np.float64]:
    """Reduce rows by Gauss and Jordan; return what stands beside rows of zeros, or pivots' rows."""
    rows, beside = matrix.copy(), beside.copy()
    free = list(range(len(rows)))
    pivots = []
    for column in range(rows.shape[1] if free else 0):
        pivot = max(free, key=lambda row: abs(rows[row, column]), default=None)
        if pivot is None or abs(rows[pivot, column]) < _NEAR:
            continue
        free.remove(pivot)
        pivots.append(pivot)
        beside[pivot] /= rows[pivot, column]
        rows[pivot] /= rows[pivot, column]
        for row in range(len(rows)):
            if row != pivot and rows[row, column]:
                beside[row] -= rows[row, column] * beside[pivot]
                rows[row] -= rows[row, column] * rows[pivot]
    return rows[pivots] if kept else beside[free]


def _as_sum(row: npt.NDArray[np.float64], widths: Sequence[Width]) -> Sum | None:
    """Read a relation as the widest of its widths being the sum of the others."""
    whole = int(np.abs(row).nonzero()[0].max(initial=-1))
    times = -np.round(row / row[whole]) if whole >= 0 else row
    if whole < 0 or np.abs(times + row / row[whole]).max() > _NEAR:
        return None
    parts = [
        (width, int(n))
        for width, n in zip(widths, times, strict=True)
        if n and width != widths[whole]
    ]
    return Sum(widths[whole], tuple(parts)) if parts else None


def _size(composition: Composition, sizes: Sizes) -> float:
    return sum(float(sizes[group]) * times for group, times in composition)
