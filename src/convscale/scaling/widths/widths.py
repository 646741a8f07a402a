"""New widths: a function of the old width, so that equal widths stay equal."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from math import ceil, floor, gcd, lcm, log

import numpy as np

from convscale.network.channels.channels import Channels, Composition, Sizes
from convscale.network.channels.grids import Grid, completed
from convscale.network.channels.norms import is_roomy, nearestgcd
from convscale.scaling.widths.fillers import Filler, find_fillers
from convscale.scaling.widths.fragments import NO_FRAGMENTS, Fragments, find_fragments
from convscale.scaling.widths.sums import Steps, Sum, Width, amiss, is_far, reconciled

# What a group width off its request costs, against a width that is off by the same ratio.
_GROUP_WEIGHT = 0.3
# A number of norm groups stays where a width with it is off its request by no more than this.
_OFF = 0.1
# How often the steps of widths that are sums of others are halved, where they are far off.
_HALVINGS = 3
# They are halved no more where all of these widths are off by no more than this ratio, or number.
_CLOSE, _FEW = 0.03, 3
# Group widths from _FINE are chosen from multiples of _COARSE, all at most _SWEEPS times.
_FINE, _COARSE, _SWEEPS = 64, 8, 6


@dataclass(frozen=True)
class Widths:
    """New widths by old width, the step each can move by, and new group widths by old.

    `groups` is what numbers of groups grow by: 1 where group width follows width. `own` holds
    the sizes of channel groups that do not follow their width.

    Example:
        >>> Widths({Width(64): 88}, {Width(64): 8}, {}).with_width(Width(64), 96).of
        {Width(base=64, share=1.0): 96}
    """

    of: dict[Width, int]
    steps: dict[Width, int]
    group_widths: dict[Width, int]
    groups: float = 1.0
    factor: float = 1.0
    least: dict[Width, int] = field(default_factory=dict, repr=False)
    own: dict[int, int] = field(default_factory=dict, repr=False)

    def with_width(self, width: Width, new: int) -> Widths:
        """Return these widths with another value for one of them."""
        return replace(self, of={**self.of, width: new})


@dataclass(frozen=True)
class WidthRule:
    """The widths of one network that can change, and the multiples they come in.

    `multiples[c]` is the least amount by which a width c of the base can change: as much of
    the asked multiple as the base width has itself, and what heads and norm groups require.
    `group_widths[c]` are the group widths of convolutions on that width; a new width is also
    a multiple of the new group width. `natural[group]` says which width a channel group
    stands for, and how often it stands in it; `inner[group]` which group width. Grouped
    convolutions whose input and output are not one width are `irregular`: their number of
    groups becomes the nearest one that divides both. `sums` holds the widths that a layer puts
    out in parts, and `least` the steps by which parts can change at all; `fillers` are the groups
    that fill up a width, `grids` those that multiply others; `norms` the numbers of groups that
    norms over a width have, which may change, `counts` those of irregular convolutions from and
    to it; `fragments` the groups that widths are cut into.

    Example:
        >>> thin, wide = Width(64), Width(128)
        >>> rule = WidthRule({thin: 8, wide: 8}, {wide: {Width(4)}}, {0: (thin, 1)}, {})
        >>> rule.widths(2**0.5).of[wide], rule.widths(2**0.5).group_widths[Width(4)]
        (192, 6)
    """

    multiples: dict[Width, int]
    group_widths: dict[Width, set[Width]]
    natural: dict[int, tuple[Width, float]]
    inner: dict[int, Width]
    irregular: tuple[tuple[Composition, Composition, int], ...] = ()
    sums: tuple[Sum, ...] = ()
    least: dict[Width, int] = field(default_factory=dict)
    fillers: tuple[tuple[Width, Filler], ...] = ()
    grids: tuple[Grid, ...] = ()
    norms: dict[Width, set[int]] = field(default_factory=dict)
    counts: dict[Width, set[int]] = field(default_factory=dict)
    fragments: Fragments = NO_FRAGMENTS

    def widths(self, factor: float, group_factor: float | None = None) -> Widths:
        """Return the new widths nearest to the old ones times a factor, and group widths.

        Args:
            factor: The factor of widths.
            group_factor: The factor of group widths; that of widths by default.
        """
        own = factor if group_factor is None else group_factor
        chosen = self._grouped(factor, own)
        least = self._steps(chosen, factor, self.least)
        new, steps = self._rounded(chosen, factor, least)
        return Widths(new, steps, chosen, factor / own, factor, least)

    def _rounded(
        self, chosen: Mapping[Width, int], factor: float, least: Mapping[Width, int]
    ) -> tuple[dict[Width, int], dict[Width, int]]:
        """Round the widths and meet the sums; return the widths, and the steps they move by.

        Widths that are twice each other, one after the other, move together: where that brings
        them far off what is asked, those in sums move by half of their steps, and half again. So
        do those beside channels that stay, where these leave no width that is nearest to it.
        """
        multiples = dict(self.multiples)
        summed = {w for way in self.sums for w in (way.whole, *dict(way.parts))} & multiples.keys()
        fixed = summed & {way.whole for way in self.sums if way.fixed}
        found: list[tuple[dict[Width, int], dict[Width, int]]] = []
        for _ in range(1 + _HALVINGS):
            steps = self._steps(chosen, factor, multiples)
            new = {width: nearest(width.request(factor), step) for width, step in steps.items()}
            new = reconciled(new, self.sums, Steps(steps, least), factor)
            found.append((new, steps))
            if len(found) == 1 and not any(is_far(own, new, steps, factor) for own in summed):
                half = {own: step // 2 for own, step in steps.items()}
                if not any(is_far(own, new, half, factor) for own in fixed):
                    return found[0]
            if all(_is_close(new[own], own.request(factor)) for own in summed):
                return found[-1]
            multiples |= {width: _halved(multiples[width], least[width]) for width in summed}
        return min(found, key=lambda option: amiss(option[0], self.sums, factor))

    def _steps(
        self, chosen: Mapping[Width, int], factor: float, own: Mapping[Width, int]
    ) -> dict[Width, int]:
        """Return the step that each width moves by."""
        return {
            width: self._counted(width, self._step(width, chosen, own), factor)
            for width in self.multiples
        }

    def moved(self, widths: Widths, width: Width, new: int) -> Widths:
        """Return widths with another value for one of them; those it is a part of follow."""
        steps = Steps(widths.steps, widths.least)
        asked = {**widths.of, width: new}
        return replace(widths, of=reconciled(asked, self.sums, steps, widths.factor, [width]))

    def _step(
        self, width: Width, chosen: Mapping[Width, int], own: Mapping[Width, int] | None = None
    ) -> int:
        """Return the step that a width moves by under chosen group widths.

        Where a width is put out as so many parts of one width, the parts together meet its step.
        """
        own = self.multiples if own is None else own
        step = lcm(own.get(width, 1), *(chosen[g] for g in self.group_widths.get(width, ())))
        for total, times in self._totals.get(width, ()):
            whole = self._step(total, chosen, own)
            step = lcm(step, whole // gcd(whole, times))
        return step

    def _normed(self, width: Width, step: int, factor: float) -> int:
        """Return the step with which norms keep their groups, or else the channels of a group."""
        counts = self.norms.get(width)
        if not counts:
            return step
        request = width.request(factor)
        keep = lcm(step, *counts)
        other = lcm(step, *(width.base // groups for groups in counts))
        off, else_off = (abs(nearest(request, own) - request) for own in (keep, other))
        roomy = all(is_roomy(width.base, own, nearest(request, keep)) for own in counts)
        return keep if roomy and off <= max(_OFF * request, else_off) else other

    def _counted(self, width: Width, step: int, factor: float) -> int:
        """Return the step with which irregular convolutions keep their groups, if one is near."""
        step = self._normed(width, step, factor)
        keep = lcm(step, *self.counts.get(width, ()))
        request = width.request(factor)
        off = abs(nearest(request, keep) - request)
        return keep if off <= max(_OFF * request, step / 2) else step

    @cached_property
    def _totals(self) -> dict[Width, list[tuple[Width, int]]]:
        """The widths that are so many times a width, by that width."""
        totals: dict[Width, list[tuple[Width, int]]] = defaultdict(list)
        for total, parts, *_ in self.sums:
            part, times = parts[0]
            if len(parts) == 1 and total in self.multiples and isinstance(times, int):
                totals[part].append((total, times))
        return totals

    def _grouped(self, factor: float, own: float) -> dict[Width, int]:
        """Return the group widths that fit their requests and the widths they divide best.

        Several may divide one width, so each is chosen while the others stay, in turn, until
        none changes. One that need not change stays.
        """
        on: dict[Width, list[Width]] = defaultdict(list)
        for width, groups in self.group_widths.items():
            for group in groups:
                on[group].append(width)
        chosen = {group: max(1, round(group.request(own))) for group in sorted(on)}
        free = [group for group in chosen if group.request(own) != group.base]
        for _ in range(_SWEEPS):
            before = dict(chosen)
            for group in free:
                chosen[group] = self._group_width(group, on[group], chosen, factor, own)
            if chosen == before:
                break
        return chosen

    def _group_width(
        self, group: Width, on: list[Width], chosen: dict[Width, int], factor: float, own: float
    ) -> int:
        """Return the best value of one group width while the others stay."""
        ideal = group.request(own)
        touched = list(on)
        for width in touched:  # and the parts that these are put together from
            touched += [w for w, totals in self._totals.items() if (width in dict(totals))]

        def miss(option: int) -> float:
            total = _GROUP_WEIGHT * len(on) * abs(log(option / ideal))
            trial = {**chosen, group: option}
            for width in touched:
                request = width.request(factor)
                step = self._normed(width, self._step(width, trial), factor)
                total += abs(log(nearest(request, step) / request))
            return total

        return min(_options(ideal), key=miss)

    def sizes(self, base: Sizes, widths: Widths) -> Sizes:
        """Return the new sizes of the channel groups for new widths."""
        sizes = base.astype(np.float64)
        for group, (width, times) in self.natural.items():
            sizes[group] = widths.of[width] / times
        for group, size in widths.own.items():
            sizes[group] = size
        for group, width in self.inner.items():
            sizes[group] = widths.group_widths.get(width, width.base)
        for whole, filler in self.fillers:
            sizes[filler.group] = filler.size(widths.of[whole], sizes)
        sizes = self.fragments.settled(sizes, widths.of)
        for inputs, outputs, group in self.irregular:
            ins, outs = (_size(place, sizes) for place in (inputs, outputs))
            groups = _size(inputs, base) / self.inner[group].base * widths.groups
            sizes[group] = ins // nearestgcd(gcd(ins, outs), groups)
        return completed(self.grids, sizes)


def _size(composition: Composition, sizes: Sizes) -> int:
    return round(sum(float(sizes[group]) * times for group, times in composition))


def _is_close(width: int, request: float) -> bool:
    return abs(width - request) <= max(_CLOSE * request, _FEW)


def _halved(step: int, least: int) -> int:
    """Return half of a step, where it is a multiple of another; else the step."""
    return step // 2 if step % (2 * least) == 0 else step


def _options(ideal: float) -> range:
    """Return the group widths to choose from: not all numbers where these are large."""
    stride = 1 if ideal < _FINE else _COARSE
    low, high = floor(ideal / 1.5 / stride), ceil(ideal * 1.5 / stride)
    return range(max(1, low) * stride, (high + 1) * stride, stride)


def nearest(value: float, step: int) -> int:
    """Return the multiple of a step nearest to a value, at least one step.

    Example:
        >>> nearest(90.5, 8), nearest(2.0, 8)
        (88, 8)
    """
    return max(1, floor(value / step + 0.5)) * step


def width_rule(
    channels: Channels, *, width_multiple: int = 8, shares: Mapping[int, float] | None = None
) -> WidthRule:
    """Find which widths a network has and in which steps they can change.

    A channel group has the width of the narrowest axis of a weight that it makes up alone;
    one that always stands together with others has its own size as its width.

    Args:
        channels: The channel groups of the network.
        width_multiple: The multiple to keep, as far as the base width has it.
        shares: What the factor is multiplied by, for channel groups of some stages.

    Example:
        >>> import numpy as np
        >>> channels = Channels(np.array([64]), np.array([False]), np.zeros(64, int), (((0, 1),),))
        >>> width_rule(channels).multiples
        {Width(base=64, share=1.0): 8}
    """
    inner = {
        group: Width(int(channels.sizes[group]))
        for *_, composition in channels.grouped
        for group, _ in composition
    }
    fillers = find_fillers(channels)
    filling = {filler.group for filler in fillers} | {grid.group for grid in channels.grids}
    known: dict[int, tuple[int, float]] = {
        group: _natural(group, channels)
        for group in range(len(channels.sizes))
        if not channels.fixed[group] and group not in inner and group not in filling
    }
    _meet(known, channels)
    _equalise(known, channels)
    parts = _divide(known, channels)
    _share(known, channels)
    _proportion(known, channels)
    _narrow(known, channels)
    natural = {
        group: (Width(width, (shares or {}).get(group, 1.0)), times)
        for group, (width, times) in known.items()
    }
    times_of: dict[Width, set[int]] = defaultdict(set)
    for width, times in natural.values():
        times_of[width].add(times if isinstance(times, int) else 1)
    for group, groups in channels.steps:
        if group in natural:
            width, times = natural[group]
            times_of[width].add(groups * (times if isinstance(times, int) else 1))
    for group, count in parts.items():
        times_of[natural[group][0]].add(count)
    filled = tuple(
        (Width(filler.whole, (shares or {}).get(filler.group, 1.0)), filler) for filler in fillers
    )
    for width, _ in filled:
        times_of[width].add(1)
    multiples = {
        width: _multiple(width.base, width_multiple, times)
        for width, times in sorted(times_of.items())
    }
    group_widths: dict[Width, set[Width]] = defaultdict(set)
    counts: dict[Width, set[int]] = defaultdict(set)
    irregular = []
    for inputs, outputs, composition in channels.grouped:
        whole = _whole_width(inputs, natural, channels)
        if whole is not None and whole == _whole_width(outputs, natural, channels):
            for group, _ in composition:
                inner[group] = Width(int(channels.sizes[group]), whole.share)
                group_widths[whole].add(inner[group])
        else:
            irregular += [(inputs, outputs, group) for group, _ in composition]
            _count(counts, multiples, (inputs, outputs, composition), channels.sizes)
    fragments = find_fragments(
        channels,
        [split for split in channels.equal if not _heads(split)],
        {group: width for group, (width, _) in natural.items()},
    )
    norms: dict[Width, set[int]] = defaultdict(set)
    for composition, count in channels.normed:
        whole = _whole_width(composition, natural, channels)
        if whole is not None:
            norms[whole].add(count)
    return WidthRule(
        multiples,
        dict(group_widths),
        natural,
        inner,
        tuple(irregular),
        tuple(sorted({*_sums(natural, channels), *fragments.relations()})),
        {width: lcm(*times) for width, times in times_of.items()},
        filled,
        channels.grids,
        dict(norms),
        dict(counts),
        fragments,
    )


def _count(
    counts: dict[Width, set[int]],
    multiples: Mapping[Width, int],
    places: tuple[Composition, Composition, Composition],
    sizes: Sizes,
) -> None:
    """Note the number of groups of a convolution at the widths that it takes and puts out."""
    inputs, outputs, inner = (_size(place, sizes) for place in places)
    groups = inputs // inner
    for width in multiples:
        if width.base in (inputs, outputs) and 1 < groups < min(inputs, outputs):
            counts[width].add(groups)


def _sums(natural: dict[int, tuple[Width, float]], channels: Channels) -> tuple[Sum, ...]:
    """Return the widths that some place has as a sum of others.

    A place whose size the code needs elsewhere may be a sum of parts of widths, too; then that of
    the other place is one.
    """
    strict = {composition for pair in channels.same for composition in pair}
    joined = {_size(pair[0], channels.sizes) for pair in channels.same if max(map(len, pair)) > 1}
    widths = {width for width, _ in natural.values()}
    found: dict[Sum, None] = {}
    chunks = {
        (first, last): count
        for *ends, count in channels.chunked
        for first, last in [[_whole_width(end, natural, channels) for end in ends]]
    }
    for composition in (*channels.produced, *strict):
        shares_of: dict[Width, Fraction] = defaultdict(Fraction)
        fixed, whole = 0, True
        for group, times in composition:
            if channels.fixed[group]:
                fixed += int(channels.sizes[group]) * times
                continue
            width, _ = natural.get(group, (Width(1), 1))
            whole &= group in natural
            shares_of[width] += Fraction(int(channels.sizes[group]) * times, width.base)
        parts = {
            width: share.numerator if share.denominator == 1 else share
            for width, share in shares_of.items()
        }
        whole &= composition in strict or all(type(times) is int for times in parts.values())
        shares = {width.share for width in parts}
        if not whole or len(shares) != 1:
            continue
        size = fixed + sum(width.base * times for width, times in parts.items())
        total = Width(int(size), *shares)
        needed = total in widths or (composition in strict and total.base in joined)
        if total not in parts and (needed or len(parts) > 1):
            known = tuple(sorted(parts.items()))
            last, first = (width for width, _ in (known[0], known[-1]))
            count = chunks.get((first, last), 0)
            cut = not fixed and known == ((last, 1), (first, count - 1))
            found[Sum(total, known, fixed, count if cut else 0)] = None
    return tuple(sorted(found))


def _whole_width(
    composition: Composition, natural: dict[int, tuple[Width, float]], channels: Channels
) -> Width | None:
    """Return the width that a place has if one group makes it up and stands for just it."""
    (group, times), *others = composition
    width, _ = natural.get(group, (Width(0), 0))
    return width if not others and width.base == int(channels.sizes[group]) * times else None


def _natural(group: int, channels: Channels) -> tuple[int, int]:
    """Return the width that a group stands for, and how often it stands in that width.

    It is the narrowest axis that the group makes up alone.
    """
    alone: set[int] = set()
    shared: set[int] = set()
    for composition in channels.axes or channels.produced:
        for member, times in composition:
            if member == group:
                (alone if len(composition) == 1 else shared).add(times)
    times = min(alone) if alone else gcd(*shared) or 1
    return int(channels.sizes[group]) * times, times


def _meet(natural: dict[int, tuple[int, float]], channels: Channels) -> None:
    """Let a group stand for a wider axis that it makes up, where heads share that width.

    A width that heads divide must be met by whatever else has that width. What is cut into maps
    of a width of their own is put together from these.
    """
    divided = {width for width, times in natural.values() if times > 1}
    maps = {part[0][0] for parts in channels.equal for part in parts if part[0][1] == 1}
    for composition in sorted(channels.axes):
        (group, times), *others = composition or ((-1, 0),)
        width = int(channels.sizes[group]) * times
        apart = not others and group in natural and group not in maps
        if apart and width in divided and width > natural[group][0]:
            natural[group] = (width, times)


def _narrow(natural: dict[int, tuple[int, float]], channels: Channels) -> None:
    """Let groups stand for the width of a place where another place is of the same size."""
    for pair in channels.same:
        if any(len(composition) > 1 for composition in pair):
            continue
        for (group, times), *_ in pair:
            width = int(channels.sizes[group]) * times
            if group in natural and width < natural[group][0]:
                natural[group] = (width, times)
        groups = [composition[0][0] for composition in pair]
        if any(channels.fixed[group] for group in groups):
            for group in groups:
                natural.pop(group, None)  # what is of the size of something fixed stays


def _divide(natural: dict[int, tuple[int, float]], channels: Channels) -> dict[int, int]:
    """Let parts whose size the code computes from a width stand for it, and say by what it divides.

    A width that a layer puts out is divided; its parts, a quarter and the rest, are as much of it
    as they were. So is what is joined to such a part in a place that is as wide.
    """
    found: dict[int, int] = {}
    produced = set(channels.produced)
    wholes = [(_size(whole, channels.sizes), whole, by) for whole, by in channels.divided]
    for width, whole, count in sorted(wholes, reverse=True):  # of several the narrowest
        if whole not in produced or not natural.keys() >= dict(whole).keys():
            continue
        parts = set(dict(whole))
        for place in channels.axes:
            if not parts.isdisjoint(dict(place)) and _size(place, channels.sizes) == width:
                parts |= dict(place).keys() & natural.keys()
        for group in parts:
            size = int(channels.sizes[group])
            natural[group] = (width, width // size if width % size == 0 else width / size)
            found[group] = lcm(count, found.get(group, 1))
    return found


def _share(natural: dict[int, tuple[int, float]], channels: Channels) -> None:
    """Let parts that are so many times one attribute stand for the width of the least of them."""
    for parts in channels.shared:
        groups = [part[0][0] for part in parts]
        if any(len(part) > 1 for part in parts):
            continue
        least, *others = sorted(dict.fromkeys(groups), key=lambda own: int(channels.sizes[own]))
        for group in others:
            if least not in natural:
                natural.pop(group, None)  # what is so many times something fixed stays
            elif group in natural:
                width, times = natural[least]
                share = times * int(channels.sizes[least]) / int(channels.sizes[group])
                natural[group] = (width, int(share) if share.is_integer() else share)


def _proportion(natural: dict[int, tuple[int, float]], channels: Channels) -> None:
    """Let fragments of equal splits grow in proportion to the width they are cut from.

    Channels that are shuffled and split again and again are cut into ever smaller fragments,
    which cannot be rounded one by one; the widths that are put out, and the parts, can.
    """
    parts = [part for split in channels.equal if not _heads(split) for part in split]
    mixed = [part for part in parts if len(part) > 1 or part[0][1] > 1]
    family = {group for part in mixed for group, _ in part}
    places = [*channels.produced, *mixed]
    size = {c: sum(int(channels.sizes[g]) * n for g, n in c) for c in places}
    for composition in sorted(places, key=size.__getitem__, reverse=True):
        for group, _ in composition:
            if group in family and group in natural:
                width = size[composition]
                natural[group] = (width, width / int(channels.sizes[group]))


def _heads(parts: tuple[Composition, ...]) -> int:
    """Return of how many heads every part of a split is made, 0 where parts are not alike.

    Example:
        >>> _heads((((0, 2),), ((0, 2),), ((1, 2),)))
        2
    """
    first = parts[0][0][1]
    groups = {part[0][0] for part in parts}
    alike = all(len(part) == 1 and part[0][1] == first for part in parts)
    return first if alike and len(groups) < len(parts) else 0


def _equalise(natural: dict[int, tuple[int, float]], channels: Channels) -> None:
    """Let groups that are parts of one equal split stand for one width."""
    for parts in channels.equal:
        if (heads := _heads(parts)) > 1:
            for group in {part[0][0] for part in parts} & natural.keys():
                if natural[group][1] % heads == 0:  # of queries and keys one part, not the pair
                    natural[group] = (int(channels.sizes[group]) * heads, heads)
            continue
        groups = {part[0][0] for part in parts if len(part) == 1 and part[0][1] == 1}
        free = [group for group in groups if group in natural]
        same = len({int(channels.sizes[group]) for group in free}) == 1
        if len(free) > 1 and same and len(groups) == len(free):
            held = Counter(part[0][0] for part in parts)  # queries and keys stand there as one
            times = lcm(*(_shared(int(natural[group][1]), held[group]) for group in free))
            for group in free:
                natural[group] = (int(channels.sizes[group]) * times, times)


def _shared(times: int, parts: int) -> int:
    """Return how often a group stands in a width for each of the parts that it is."""
    return times // parts if times % parts == 0 else times


def _multiple(width: int, multiple: int, times: set[int]) -> int:
    """Return the least amount by which a width changes: what its parts need, and the multiple.

    The multiple gives way where both together are more than half of the width.
    """
    own = gcd(width, multiple)
    while own > 1 and 2 * lcm(own, *times) > width:
        own //= 2
    return lcm(own, *times)
