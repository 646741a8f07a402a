"""Channels: the independent widths of a network, found from the ties between its units.

Units that are tied are one class. Classes that occur equally often in every place (every axis of
every weight, every operand of a product) cannot be told apart by the network: together they are
one *channel group*, the variable whose size scaling chooses. The size of any place is then a sum
of group sizes with whole multiplicities: a concatenation adds groups, a flatten repeats one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import gcd
from typing import Any

import numpy as np
import numpy.typing as npt

from convscale.network.channels.classes import Classes, find_classes
from convscale.network.channels.grids import Grid, meet, pin_lost
from convscale.network.channels.labels import Label, distinct
from convscale.network.channels.norms import Norm, groups_at, several_of, split_norms
from convscale.network.channels.ties import Ties

Sizes = npt.NDArray[np.int64] | npt.NDArray[np.float64]
Composition = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Channels:
    """The channel groups of a network: their sizes, and which of them cannot change.

    `produced` holds, for every axis that a layer puts out, its composition: pairs of a
    channel group and the number of times it stands there. `grouped` holds, for every grouped
    convolution, the compositions of its input, its output and its group width; `equal` the
    compositions of parts that must be of one size; `axes` those of all axes of weights; `same`
    pairs of compositions of one size, as the code reads it off one and gives it to the other;
    `chunked` the first and the last part of so many that a chunk of unequal parts gives;
    `divided` what the code takes parts of that it computes by division, and by what it divides;
    `shared` parts whose sizes are so many times one attribute;
    `filling` the groups of constants that the network pads its channels with; `classes`
    what is tied; `grids` the groups whose size is a product of others; `normed` the compositions
    that are normed in groups whose number may follow, and that number; `several` the numbers of
    groups that some norm has over more channels; `steps` the numbers of groups that must divide
    channel groups, by these, as a norm spans several of them, or as they are shuffled.

    Example:
        >>> group_of_unit, sizes = np.array([0, 0, 0]), np.array([3])
        >>> channels = Channels(sizes, np.array([False]), group_of_unit, ())
        >>> channels.size(np.array([0, 1, 2, 0, 1, 2]), np.array([5]))
        10
    """

    sizes: Sizes
    fixed: npt.NDArray[np.bool_]
    group_of_unit: npt.NDArray[np.int64]
    produced: tuple[Composition, ...]
    grouped: tuple[tuple[Composition, Composition, Composition], ...] = ()
    equal: tuple[tuple[Composition, ...], ...] = ()
    axes: tuple[Composition, ...] = ()
    same: tuple[tuple[Composition, Composition], ...] = ()
    chunked: tuple[tuple[Composition, Composition, int], ...] = ()
    divided: tuple[tuple[Composition, int], ...] = ()
    shared: tuple[tuple[Composition, ...], ...] = ()
    filling: frozenset[int] = frozenset()
    classes: Classes | None = field(default=None, repr=False)
    grids: tuple[Grid, ...] = ()
    normed: tuple[tuple[Composition, int], ...] = ()
    several: frozenset[int] = frozenset()
    steps: tuple[tuple[int, int], ...] = ()
    _known: dict[int, tuple[Label, Composition]] = field(default_factory=dict, repr=False)
    _alike: dict[int, Composition] = field(default_factory=dict, repr=False)

    def composition(self, units: Label) -> Composition:
        """Return which groups make up a set of units, and how often each stands in it."""
        known = self._known.get(id(units))
        if known is None:
            key = None if self.classes is None else self.classes.key(units)
            pairs = None if key is None else self._alike.get(key)
            if pairs is None:
                pairs = self._composed(units)
            if key is not None:
                self._alike[key] = pairs
            known = self._known[id(units)] = (units, pairs)
        return known[1]

    def _composed(self, units: Label) -> Composition:
        own = self.group_of_unit[units].reshape(-1)
        if own.size and bool((own == own[0]).all()):  # as most are
            return ((int(own[0]), int(own.size // self.sizes[own[0]])),)
        groups, counts = np.unique(own, return_counts=True)
        times = counts // self.sizes[groups]
        return tuple(zip(groups.tolist(), times.tolist(), strict=True))

    def size(self, units: Label, sizes: Sizes) -> int:
        """Return how many units a place has when the groups have the given sizes.

        Sizes of fragments may be fractions; those of places are whole.
        """
        return round(sum(float(sizes[group]) * times for group, times in self.composition(units)))

    def norm_groups(self, units: Label, groups: int, sizes: Sizes) -> int:
        """Return how many groups a norm over some units has when the groups have new sizes.

        Example:
            >>> own = Channels(np.array([8]), np.array([False]), np.zeros(8, int), ())
            >>> own.norm_groups(np.arange(8), 8, np.array([12]))
            12
            >>> own.norm_groups(np.arange(8), 4, np.array([12]))
            4
        """
        if all(times % groups == 0 for _, times in self.composition(units)):
            return groups  # whatever their sizes, all groups are alike
        if groups < len(units) or groups in self.several:
            return groups_at(len(units), groups, self.size(units, sizes))
        return self.size(units, sizes)

    def is_one(self, units: Label, axis: int) -> bool:
        """Tell whether units are all tied along one axis of a label, and not along the others.

        Example:
            >>> ties = Ties()
            >>> units = ties.fresh(4).reshape(2, 2)
            >>> ties.tie(units[:, :1], units[:, 1:])
            >>> tied = find_channels(ties, [units])
            >>> tied.is_one(units, 1), tied.is_one(units, 0)
            (True, False)
        """
        if self.classes is None:
            return False
        classes = self.classes.of_unit[units]
        first = classes.take([0], axis=axis)
        return bool((classes == first).all()) and len(distinct(first)) > 1

    def scalable(self, units: Label) -> bool:
        """Tell whether any group in a set of units can change."""
        return any(not self.fixed[group] for group, _ in self.composition(units))


def find_channels(ties: Ties, places: Sequence[Label], axes: Sequence[Label] = ()) -> Channels:
    """Find the channel groups from the ties of one run.

    Args:
        ties: What the run said about units. Units tied to none that a weighted layer puts
            out (kernel sizes, position tables) stay as they are.
        places: Every set of units whose size will be asked for.
        axes: Those of them that are axes of parameters.

    Example:
        >>> ties = Ties()
        >>> a, b = ties.fresh(4), ties.fresh(4)
        >>> ties.tie(a, b)
        >>> ties.produced.append(a)
        >>> find_channels(ties, [a, b]).sizes
        array([4])
    """
    channels = _settled(ties, places)
    produced = dict.fromkeys(channels.composition(units) for units in ties.produced)
    cut = {channels.composition(units) for units in ties.cut}  # elsewhere the rest is no such part
    equal = [
        parts
        for parts in dict.fromkeys(
            tuple(channels.composition(units) for units in parts) for parts in ties.equal
        )
        if parts[0] not in cut
    ]
    grouped = dict.fromkeys(
        (channels.composition(x), channels.composition(y), channels.composition(width))
        for x, y, width in ties.grouped
    )
    known = dict.fromkeys(channels.composition(units) for units in axes)
    chunked = [
        (channels.composition(first), channels.composition(last), count)
        for first, last, count in ties.chunked
    ]
    divided = dict.fromkeys((channels.composition(units), count) for units, count in ties.divided)
    same = dict.fromkeys((channels.composition(x), channels.composition(y)) for x, y in ties.same)
    return replace(
        channels,
        produced=tuple(produced),
        grouped=tuple(grouped),
        equal=tuple(equal),
        axes=tuple(known),
        same=tuple(pair for pair in same if pair[0] != pair[1]),
        chunked=tuple(dict.fromkeys(chunked)),
        divided=tuple(divided),
        shared=tuple(tuple(map(channels.composition, parts)) for parts in ties.shared),
        filling=frozenset(
            group for units in ties.filling for group, _ in channels.composition(units)
        ),
        grids=tuple(dict.fromkeys(_grids(ties, channels))),
        steps=tuple(sorted({*channels.steps, *_dealt(ties, channels)})),
    )


def _dealt(ties: Ties, channels: Channels) -> Iterator[tuple[int, int]]:
    """Yield channel groups that are laid out in parts, as in a shuffle, and by what they divide."""
    for units, count in ties.dealt:
        composition = channels.composition(units)
        if len(composition) == 1 and count > 1:
            group, times = composition[0]
            yield group, count // gcd(count, times)


def _settled(ties: Ties, places: Sequence[Label]) -> Channels:
    """Return the channel groups once the groups of norms are such as the widths can keep.

    A norm over a width of its own may have another number of groups. Of all others the number
    stays: it divides into each width of a concatenation, where it does so in the base network, and
    elsewhere (a width that heads cut) each group grows.
    """
    several = several_of(ties.norms)
    strict, free = split_norms([norm for norm in ties.norms if _counts(norm, several)])
    parted: list[Norm] = []
    while True:
        for norm in strict:
            ties.tie_groups(norm.units, norm.groups)
        channels = _from_classes(ties, places)
        own = [_is_own(norm.units, channels) for norm in free]
        others = [*parted, *(norm for norm, is_own in zip(free, own, strict=True) if not is_own)]
        free = [norm for norm, is_own in zip(free, own, strict=True) if is_own]
        whole = _wholes(channels, places) if others else frozenset()
        divided = [_is_parted(norm, channels, whole) for norm in others]
        parted = [norm for norm, is_divided in zip(others, divided, strict=True) if is_divided]
        strict = [norm for norm, is_divided in zip(others, divided, strict=True) if not is_divided]
        if not strict:
            break
    normed = (
        (channels.composition(norm.units), norm.groups)
        for norm in free
        if channels.scalable(norm.units)
    )
    steps = (
        (group, norm.groups) for norm in parted for group, _ in channels.composition(norm.units)
    )
    return replace(
        channels,
        normed=tuple(dict.fromkeys(normed)),
        several=several,
        steps=tuple(sorted(set(steps))),
    )


def _counts(norm: Norm, several: frozenset[int]) -> bool:
    """Tell whether the number of groups of a norm is more than that of its channels."""
    return not norm.alone or norm.groups in several


def _wholes(channels: Channels, places: Sequence[Label]) -> frozenset[int]:
    """Return the channel groups that are all of some place, or stay."""
    alone = {channels.composition(units) for units in places}
    groups = range(len(channels.sizes))
    return frozenset(own for own in groups if channels.fixed[own] or ((own, 1),) in alone)


def _is_parted(norm: Norm, channels: Channels, whole: frozenset[int]) -> bool:
    """Tell whether a norm spans a concatenation of widths that its groups each divide into."""
    return all(
        group in whole and int(channels.sizes[group]) % norm.groups == 0
        for group, _ in channels.composition(norm.units)
    )


def _is_own(units: Label, channels: Channels) -> bool:
    """Tell whether some units are a channel group as it is, or stay."""
    composition = channels.composition(units)
    return not channels.scalable(units) or [times for _, times in composition] == [1]


def _from_classes(ties: Ties, places: Sequence[Label]) -> Channels:
    """Return the channel groups that the ties make."""
    classes = find_classes(ties)
    while ties.laid and meet(ties, classes.of_unit):
        classes = find_classes(ties)
    pin_lost(ties, classes.of_unit)
    fixed = np.ones(classes.count, dtype=bool)
    grown = (laid.units for laid in ties.laid)
    growing = (*ties.produced, *ties.filling, *(w for *_, w in ties.grouped), *grown)
    for own in classes.distinct(growing):
        fixed[own] = False
    for own in classes.distinct(ties.pinned):
        fixed[own] = True
    laid_units = [units for laid in ties.laid for units in (laid.units, *laid.factors)]
    group_of_class = _groups(classes, fixed, [*places, *laid_units])
    sizes = np.bincount(group_of_class)
    group_fixed = np.zeros(len(sizes), dtype=bool)
    group_fixed[group_of_class[fixed]] = True
    return Channels(sizes, group_fixed, group_of_class[classes.of_unit], (), classes=classes)


def _grids(ties: Ties, channels: Channels) -> Iterator[Grid]:
    """Yield the groups that are grids, those that are factors of others first."""
    for laid in sorted(ties.laid, key=lambda laid: len(laid.units)):
        composition = channels.composition(laid.units)
        if channels.scalable(laid.units):
            (group, _), *_ = composition
            factors = tuple(channels.composition(factor) for factor in laid.factors)
            yield Grid(group, factors, laid.rest)


def _groups(
    classes: Classes, fixed: npt.NDArray[np.bool_], places: Sequence[Label]
) -> npt.NDArray[np.int64]:
    """Group classes that occur equally often in every place, by a random hash of the places."""
    rng = np.random.default_rng(0)
    grown, stays = rng.integers(1 << 62, size=2, dtype=np.uint64)
    signature = np.where(fixed, stays, grown)
    single = list({id(place): place for place in places}.values())
    marks = rng.integers(1 << 62, size=len(single), dtype=np.uint64)
    alike: dict[int, tuple[Label, int]] = {}
    for units, mark in zip(single, marks.tolist(), strict=True):
        key = classes.key(units)
        if key is None:
            np.add.at(signature, classes.of_unit[units], np.uint64(mark))
        else:
            alike[key] = (units, mark + alike.get(key, (units, 0))[1])
    for units, total in alike.values():
        np.add.at(signature, classes.of_unit[units], np.uint64(total % (1 << 64)))
    # classes of units that were made together stand together, and most have one signature
    starts = np.append(0, 1 + np.flatnonzero(signature[1:] != signature[:-1]))[: len(signature)]
    groups: npt.NDArray[Any] = np.unique(signature[starts], return_inverse=True)[1]
    return np.repeat(groups.reshape(-1), np.diff(starts, append=len(signature)))
