"""What the parts of a network do to memory, of one network, and of others made of such parts.

A dry run is a row of runs of parts: a block's in the forward pass, again in the backward pass, and
while its weights are updated. Each brings storages and lets others go. In a network of other
widths, sides and depths, the parts bring and let go the same ones, of other sizes; and the size of
each is that of a tensor which the part reads or writes in one forward pass of one image. Which one,
the networks that are learned of tell: where several tensors of a part have the size, they all stay
possible until one network sets them apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Shape = tuple[int, ...]
Ints = npt.NDArray[np.int64]

_NUMBER = -1  # stands for a size that is a number, where else the place of a tensor stands


class UnlikeError(Exception):
    """Parts that were taken to be alike do not do the same."""


class UnnamedError(UnlikeError):
    """A part brings or lets go what is not of the size of any tensor that is known of."""


@dataclass(frozen=True)
class Change:
    """A storage that comes or goes.

    Args:
        sign: 1 where it comes, -1 where it goes.
        item: Bytes of an element.
        shape: Its shape; of a storage of which a tensor shows a part, the number of elements.
        left: Which it is of those that the turn before had left; None where it is another's.

    Example:
        >>> Change(-1, 4, (2, 3)).elements
        6
    """

    sign: int
    item: int
    shape: Shape
    left: int | None = None

    @property
    def elements(self) -> int:
        """How many elements it holds."""
        return prod(self.shape)

    @property
    def kind(self) -> tuple[int, int, int | None]:
        """What does not follow the sizes of a network."""
        return self.sign, self.item, self.left


@dataclass(frozen=True)
class Part:
    """What a part of one network does.

    Args:
        shapes: The tensors that it reads and writes in a forward pass of one image.
        runs: What comes and goes in each of its runs, the first of which stands for what there is
            from the beginning; in the last, what goes with the end of automatic casts.
        leaves: By run, the places of what comes in it and goes in the turn after it.
    """

    shapes: tuple[Shape, ...]
    runs: tuple[tuple[Change, ...], ...]
    leaves: tuple[tuple[int, ...], ...] = ()

    @property
    def kinds(self) -> tuple[object, ...]:
        """What does not follow the sizes of a network."""
        return self.leaves, tuple(tuple(change.kind for change in run) for run in self.runs)

    def with_shapes(self, shapes: Sequence[Shape]) -> Part:
        """Return the same with other tensors whose sizes may be those of what comes and goes."""
        return replace(self, shapes=tuple(shapes))


class Known(NamedTuple):
    """The bytes that come (below zero: go) in the runs of a part.

    Args:
        runs: The bytes, by run.
        leaves: By run, the places of what goes in the turn after it.
        awaits: By run, the places of what the turn before it had left.
    """

    runs: list[Ints]
    leaves: tuple[tuple[int, ...], ...]
    awaits: tuple[tuple[int, ...], ...]


class PartLog:
    """What a part does in every network that has it.

    Args:
        part: The part of one network.
        images: Images of a batch.

    Example:
        >>> changes = (Change(1, 4, (2, 8, 7, 7)),)
        >>> log = PartLog(Part(((1, 8, 7, 7), (8, 8, 3, 3)), ((), changes)), 2)
        >>> log.known(np.array([16 * 5 * 5, 16 * 16 * 3 * 3])).runs[1].tolist()
        [3200]
    """

    def __init__(self, part: Part, images: int) -> None:
        self._images = images
        self._kinds = part.kinds
        self._items = [change.sign * change.item for run in part.runs for change in run]
        self._counts = [len(run) for run in part.runs]
        self._leaves = part.leaves
        self._awaits = tuple(
            tuple(at for at, change in enumerate(run) if change.left is not None)
            for run in part.runs
        )
        self._labels = _labelled(part.shapes)
        self._known: dict[tuple[Shape, ...], None] = {part.shapes: None}
        by_shape: dict[Shape, int] = dict(zip(part.shapes, self._labels, strict=True))
        self._possible = [self._named(change, by_shape) for run in part.runs for change in run]

    def _named(self, change: Change, by_shape: Mapping[Shape, int]) -> list[tuple[int, int]]:
        """Return what the size of a storage may be: tensors with a multiple, or a number.

        What a turn lets go that the one before had left is told by that one.
        """
        if change.left is not None:
            return [(_NUMBER, 0)]
        images, own, elements = self._images, change.shape, change.elements
        shapes = {own: 1}
        if images > 1:
            for at, side in enumerate(own):
                if side % images == 0:
                    shapes[*own[:at], side // images, *own[at + 1 :]] = images
        found = [(by_shape[one], times) for one, times in shapes.items() if one in by_shape]
        if not found:
            found = [
                (label, times)
                for shape, label in by_shape.items()
                for times in {1, images}
                if times * prod(shape) == elements
            ]
        if elements in (1, images):
            found.append((_NUMBER, elements))
        if not found:
            raise UnnamedError(f"Nothing that a part reads or writes has the shape {own}.")
        return found

    def learn(self, part: Part) -> None:
        """Learn what the part does in another network.

        Raises:
            UnlikeError: If it does something else.
        """
        if part.kinds != self._kinds or len(part.shapes) != len(self._labels):
            raise UnlikeError("A part does not bring and let go the same in two networks.")
        changes = [
            change.elements if change.left is None else 0 for run in part.runs for change in run
        ]
        if part.shapes not in self._known:
            self._known[part.shapes] = None
            self._set_apart(part.shapes)
        sizes: dict[int, int] = dict(zip(self._labels, map(prod, part.shapes), strict=True))
        sizes[_NUMBER] = 1
        for at, (elements, possible) in enumerate(zip(changes, self._possible, strict=True)):
            left = [(label, times) for label, times in possible if times * sizes[label] == elements]
            if not left:
                raise UnnamedError("A part brings something that is not of the size of a tensor.")
            self._possible[at] = left
        vars(self).pop("_table", None)

    def _set_apart(self, shapes: Sequence[Shape]) -> None:
        """Give tensors that had one shape so far, and have several now, labels of their own."""
        new = _labelled(list(zip(self._labels, shapes, strict=True)))
        split: dict[int, set[int]] = {}
        for old, own in zip(self._labels, new, strict=True):
            split.setdefault(old, set()).add(own)
        self._possible = [
            [
                (own, times)
                for old, times in possible
                for own in ((old,) if old == _NUMBER else sorted(split[old]))
            ]
            for possible in self._possible
        ]
        self._labels = new

    @cached_property
    def _table(self) -> _Table:
        return _Table.of(self._labels, self._possible, self._items, self._counts)

    def known(self, elements: Ints) -> Known | None:
        """Return the bytes that come and go in each run, in a network.

        None where it is not known which tensor's size they have.

        Args:
            elements: How many elements the tensors of the part have in that network.
        """
        if len(elements) != len(self._labels):
            return None
        runs = self._table.at(np.append(elements, 1))
        return None if runs is None else Known(runs, self._leaves, self._awaits)


@dataclass(frozen=True)
class _Table:
    """What tells the sizes of storages: places of tensors, and which must have equal sizes."""

    places: Ints
    bytes_each: Ints
    equal: tuple[Ints, Ints, Ints, Ints]
    ends: list[int]

    @classmethod
    def of(
        cls,
        labels: Sequence[int],
        possible: Sequence[Sequence[tuple[int, int]]],
        items: Sequence[int],
        counts: Sequence[int],
    ) -> _Table:
        first: dict[int, int] = {_NUMBER: len(labels)}
        others: dict[int, list[int]] = {}
        for place, label in enumerate(labels):
            if label in first:
                others.setdefault(label, []).append(place)
            else:
                first[label] = place
        chosen = [names[0] for names in possible]
        used = {label for names in possible for label, _ in names}
        pairs = {
            (first[names[0][0]], names[0][1], first[label], times)
            for names in possible
            for label, times in names[1:]
        }
        pairs |= {(first[label], 1, at, 1) for label in used for at in others.get(label, ())}
        left, left_times, right, right_times = (
            np.array(sorted(pairs), np.int64).reshape(-1, 4).T.copy()
        )
        return cls(
            np.array([first[label] for label, _ in chosen], np.int64),
            np.array(items, np.int64) * np.array([times for _, times in chosen], np.int64),
            (left, left_times, right, right_times),
            np.cumsum(counts).tolist(),
        )

    def at(self, elements: Ints) -> list[Ints] | None:
        left, left_times, right, right_times = self.equal
        if (left_times * elements[left] != right_times * elements[right]).any():
            return None
        found = self.bytes_each * elements[self.places]
        return [
            found[start:end] for start, end in zip([0, *self.ends[:-1]], self.ends, strict=True)
        ]


def _labelled(values: Iterable[object]) -> list[int]:
    """Return numbers that are equal where values are."""
    known: dict[object, int] = {}
    return [known.setdefault(value, len(known)) for value in values]
