"""Widths that are put together from others: a layer's channels that are split, or joined again.

A width of 64 that one layer puts out whole and another as 16 and 48 stays one width, whichever
way it is put together; the parts move, by as little as can be.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from fractions import Fraction
from math import log
from typing import NamedTuple

# How many steps around its request a whole is tried at.
_NEAR = 3
# What a part off its step costs, each time that the step must be halved, against one off by ratio.
_UNEVEN = 0.02
# A part that is off its request by more than this ratio is far off.
_FAR = 0.03


class Width(NamedTuple):
    """A width of the base network, and what its factor is multiplied by in its stage.

    Example:
        >>> Width(64).request(2.0), Width(64, 1.5).request(2.0)
        (128.0, 192.0)
    """

    base: int
    share: float = 1.0

    def request(self, factor: float) -> float:
        """Return the width that a factor asks for, before it is rounded."""
        return self.base * factor * self.share


class Steps(NamedTuple):
    """The step that each width moves by, and the one by which it can move if it must.

    Example:
        >>> Steps({Width(16): 8}, {Width(16): 1}).unevenness(Width(16), 12)
        1
    """

    own: Mapping[Width, int]
    least: Mapping[Width, int]

    def unevenness(self, width: Width, size: int) -> int:
        """Return how often a width's step must be halved to divide a size."""
        step, halved = self.own[width], 0
        while size % step:
            step, halved = max(1, step // 2), halved + 1
        return halved


class Sum(NamedTuple):
    """A width as a sum: pairs of a width and how often it stands in it, and what is fixed.

    That is a fraction of a width which stands in it in part: a quarter of it behind a shuffle.

    `chunks` is positive where the network itself cuts it into so many parts: all but the last,
    which comes first here, are of one size, the smallest with which that many parts suffice.

    Example:
        >>> Sum(Width(64), ((Width(16), 1), (Width(48), 1))).of({Width(16): 24, Width(48): 64})
        88
    """

    whole: Width
    parts: tuple[tuple[Width, int | Fraction], ...]
    fixed: int = 0
    chunks: int = 0

    def of(self, widths: Mapping[Width, int]) -> int | Fraction:
        """Return the sum for given widths; it is a fraction where parts of them are none whole."""
        value = self.fixed + sum(widths[part] * times for part, times in self.parts)
        return value.numerator if value.denominator == 1 else value

    def holds(self, widths: Mapping[Width, int]) -> bool:
        """Tell whether the parts are those of the whole, and of a chunk of it.

        Example:
            >>> whole = Sum(Width(64), ((Width(16), 1), (Width(48), 1)))
            >>> whole.holds({Width(16): 24, Width(48): 64, Width(64): 96})
            False
        """
        value = self.of(widths)
        cut = self.cut(int(value)).items() if self.chunks else ()
        return widths.get(self.whole, value) == value and all(
            widths[part] == size for part, size in cut
        )

    def cut(self, value: int) -> dict[Width, int]:
        """Return the parts that a chunk makes of a value.

        Example:
            >>> Sum(Width(8), ((Width(2), 1), (Width(3), 2)), chunks=3).cut(104)
            {Width(base=3, share=1.0): 35, Width(base=2, share=1.0): 34}
        """
        (last, _), (first, _) = self.parts
        size = -(-value // self.chunks)
        return {first: size, last: value - size * (self.chunks - 1)}


def reconciled(
    widths: Mapping[Width, int],
    sums: Iterable[Sum],
    steps: Steps,
    factor: float,
    held: Iterable[Width] = (),
) -> dict[Width, int]:
    """Return widths of which the sums are as they should be.

    They are met one after the other, the narrowest first. Where that leaves a part far off its
    request, it is done again with each part a step wider or narrower, and the best is taken.

    Args:
        widths: The widths, each rounded by itself.
        sums: The sums; those of one width must be equal.
        steps: The steps that widths move by.
        factor: The factor of widths, which says what every width is asked to be.
        held: Widths that must not move.

    Example:
        >>> parts = Sum(Width(40), ((Width(10), 1), (Width(30), 1)))
        >>> new = {Width(10): 14, Width(30): 40, Width(40): 56}
        >>> steps = {Width(10): 2, Width(30): 2, Width(40): 8}
        >>> list(reconciled(new, [parts], Steps(steps, steps), 2**0.5).values())
        [14, 42, 56]
    """
    ways = tuple(sums)
    new = _met(widths, ways, steps, factor, held)
    if not any(is_far(part, new, steps.own, factor) for way in ways for part, _ in way.parts):
        return new
    options = [new]
    for part in sorted({part for way in ways for part, _ in way.parts} - set(held)):
        for size in (widths[part] - steps.own[part], widths[part] + steps.own[part]):
            if size > 0:
                asked = {**widths, part: size}
                options.append(_met(asked, ways, steps, factor, [*held, part]))
    return min(options, key=lambda option: amiss(option, ways, factor))


def is_far(
    width: Width, widths: Mapping[Width, int], steps: Mapping[Width, int], factor: float
) -> bool:
    """Tell whether a width is off its request by more than its step, and by much.

    Example:
        >>> is_far(Width(256), {Width(256): 384}, {Width(256): 8}, 2**0.5)
        True
    """
    off = abs(widths[width] - width.request(factor))
    return off > max(steps[width], _FAR * width.request(factor))


def amiss(widths: Mapping[Width, int], sums: Iterable[Sum], factor: float) -> tuple[int, float]:
    """Return how many sums do not hold, and by how much widths are off their requests.

    Example:
        >>> amiss({Width(8): 16, Width(16): 32}, [Sum(Width(16), ((Width(8), 2),))], 2.0)
        (0, 0.0)
    """
    ways = list(sums)
    own = {part for way in ways for part, _ in way.parts} | {
        way.whole for way in ways if way.whole in widths
    }
    off = sum(w.base * abs(log(widths[w] / w.request(factor))) ** 2 for w in own)
    return sum(not way.holds(widths) for way in ways), off


def _met(
    widths: Mapping[Width, int],
    sums: Iterable[Sum],
    steps: Steps,
    factor: float,
    held: Iterable[Width],
) -> dict[Width, int]:
    """Meet the sums one after the other; what one has settled stays for the next."""
    new, settled = dict(widths), set(held)
    ways: dict[Width, list[Sum]] = defaultdict(list)
    for entry in sums:
        ways[entry.whole].append(entry)
    for whole in sorted(ways):
        new |= _Turn(new, steps, factor, frozenset(settled)).moves(whole, ways[whole])
        settled.update(part for way in ways[whole] for part, _ in way.parts)
        if whole in new:
            settled.add(whole)
    return new


class _Turn(NamedTuple):
    """What is known when the sums of one width are met: the widths, and those that stay."""

    widths: Mapping[Width, int]
    steps: Steps
    factor: float
    settled: frozenset[Width]

    def moves(self, whole: Width, ways: Sequence[Sum]) -> dict[Width, int]:
        """Return the moves after which all sums are one and the widths nearest to requests.

        There are none where nothing meets the sums.
        """
        found = []
        known = whole in self.widths
        parts = {part for way in ways for part, _ in way.parts} | ({whole} if known else set())
        for value in sorted(self._values(whole, ways)):
            moves = self._moves(value, ways)
            if moves is None or not self._near(moves, self.steps.own.get(whole, 1)):
                continue
            if known:
                moves[whole] = value
            after = {**self.widths, **moves}
            miss = 0.0 if known else whole.base * abs(log(value / whole.request(self.factor)))
            miss += sum(part.base * self._miss(part, after[part]) for part in parts)
            found.append((miss, value, moves))
        return min(found, key=lambda option: option[:2])[2] if found else {}

    def _miss(self, width: Width, size: int) -> float:
        """Return how far a size is off what is asked, by ratio, and off the width's steps."""
        off = abs(log(size / width.request(self.factor)))
        return off + _UNEVEN * self.steps.unevenness(width, size)

    def _near(self, moves: Mapping[Width, int], step: int) -> bool:
        """Tell whether moved widths are within a step of their requests, or the whole's step."""
        return all(
            abs(size - part.request(self.factor)) <= max(step, self.steps.own[part])
            for part, size in moves.items()
        )

    def _values(self, whole: Width, ways: Sequence[Sum]) -> set[int]:
        """Return what a whole may be."""
        if whole in self.settled:
            return {self.widths[whole]}
        own = self.steps.own
        step = own.get(whole) or min(own[part] for way in ways for part, _ in way.parts)
        middle = round(whole.request(self.factor) / step)
        near = {step * (middle + move) for move in range(-_NEAR, _NEAR + 1)}
        sums = (way.of(self.widths) for way in ways)
        values = near | {value for value in sums if isinstance(value, int)}
        free = whole not in self.widths
        return {value for value in values if value > 0 and (free or value % step == 0)}

    def _moves(self, value: int, ways: Sequence[Sum]) -> dict[Width, int] | None:
        """Return the parts that must move so that every sum has a value, one in each sum."""
        moves: dict[Width, int] = {}
        met: set[Width] = set()  # parts of sums that have the value
        for way in sorted(ways, key=lambda way: (-way.chunks, len(way.parts))):
            taken = self.settled | met
            current = {part: moves.get(part, self.widths[part]) for part, _ in way.parts}
            move = self._cut if way.chunks else self._one
            moved = move(way, value, current, taken)
            if moved is None:
                return None
            moves |= moved
            met.update(part for part, _ in way.parts)
        return moves

    def _cut(
        self, way: Sum, value: int, current: Mapping[Width, int], taken: Set[Width]
    ) -> dict[Width, int] | None:
        """Return the moves after which the parts are those that a chunk makes of a value."""
        cut = {part: size for part, size in way.cut(value).items() if size != current[part]}
        fit = all(
            size > 0 and size % self.steps.least[part] == 0 and part not in taken
            for part, size in cut.items()
        )
        return cut if fit else None

    def _one(
        self, way: Sum, value: int, current: Mapping[Width, int], taken: Set[Width]
    ) -> dict[Width, int] | None:
        """Return the move of one part after which a sum has a value."""
        missing = value - way.of(current)
        if not missing:
            return {}
        options = []
        for part, times in way.parts:
            size = current[part] + int(missing / times)
            fits = missing % times == 0 and size > 0 and size % self.steps.least[part] == 0
            if fits and part not in taken:
                options.append((self._miss(part, size), part, size))
        if not options:
            return None
        _, part, size = min(options)
        return {part: size}
