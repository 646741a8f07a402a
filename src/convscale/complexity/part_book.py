"""The log of a dry run by the parts of the network, and the memory of others made of such parts."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from convscale.complexity.liveness import FORWARD, OPTIMIZER
from convscale.complexity.logbook import Logbook
from convscale.complexity.memory import ACTIVATIONS, COPIES
from convscale.complexity.part_log import Change, Ints, Known, Part, Shape

Turn = tuple[str, str]  # a phase, and the part that runs
END_OF_CASTS: Turn = (
    FORWARD,
    "end of casts",
)  # when copies of the weights of all parts go


@dataclass(frozen=True)
class PartedRun:
    """A dry run: which part runs when, what each does, and the most bytes that lived at once.

    Args:
        order: The turns of parts in which something comes or goes.
        parts: What each part does, a run for each of its turns, by its path; the rest is `""`.
        peak_bytes: The most that lived at once.
    """

    order: tuple[Turn, ...]
    parts: Mapping[str, Part]
    peak_bytes: int


class PartBook(Logbook):  # type: ignore[no-untyped-call]
    """Follow the memory of a pass or a step, and note which part of the network each event is of.

    Args:
        part: Returns the part that a module's path is in.
        weights: The paths of parameters and then of buffers, in the order of the module.

    Example:
        >>> book = PartBook(lambda path: path, [])
        >>> with book:
        ...     half = torch.zeros(8, 8, device="meta").sum(0)
        >>> found = book.parted({"": [(8, 8), (8,)]})
        >>> found.order, found.peak_bytes, [one.elements for one in found.parts[""].runs[1]]
        ((('forward', ''),), 288, [64, 8])
    """

    def note(self, tensor: torch.Tensor, kind: str = ACTIVATIONS) -> None:
        """Note the storage of a tensor, if it is new, with the size of its elements."""
        count = len(self._sizes)
        super().note(tensor, kind)
        item = tensor.element_size()
        if len(self._sizes) > count and self._items[-1] != item:  # another tensor shows the rest
            self._items[-1], self._shapes[-1] = item, (self._sizes[-1] // item,)

    def parted(self, shapes: Mapping[str, Sequence[Shape]]) -> PartedRun | None:
        """Return what each part did; None where casts end in the middle of something.

        Args:
            shapes: By part, the tensors that it reads and writes in a pass of one image.
        """
        found = _Parting(shapes)
        for moment, place, sign in self._moments():
            change = Change(sign, self._items[place], self._shapes[place])
            if not change.elements:
                continue
            if moment < self._starts[0]:
                found.begin(self._owners[place], change)
                continue
            turn = self._parts[bisect_right(self._starts, moment) - 1]
            if self._ends_cast(place, sign, turn):
                found.end_cast(self._owners[place], place, change)
            elif sign > 0:
                found.come(turn, place, change)
            else:
                found.go(turn, place, change)
        return found.parted(self.peak().total_bytes)

    def _moments(self) -> list[tuple[int, int, int]]:
        """Return moments, and which storage comes or goes then (sign 1 where it comes).

        What goes after the last has come does not matter.
        """
        found = [(born, place, 1) for place, born in enumerate(self._born)]
        last = max(self._born)
        ends = ((died, place) for place, died in enumerate(self._died) if died is not None)
        found += [(died, place, -1) for died, place in ends if died < last]
        return sorted(found)

    def _ends_cast(self, place: int, sign: int, turn: Turn) -> bool:
        """Tell whether a copy of weights goes that automatic casts kept, when they end."""
        if sign > 0 or self._kinds[place] != COPIES or turn[0] != FORWARD:
            return False
        return self._owners[place] != turn[1] or not turn[1]


class _Parting:
    """Take apart what happens in a run."""

    def __init__(self, shapes: Mapping[str, Sequence[Shape]]) -> None:
        self._shapes = shapes
        self._order: list[Turn] = []
        self._runs: dict[str, list[list[Change]]] = {part: [[]] for part in shapes}
        self._leaves: dict[str, list[list[int]]] = {part: [[]] for part in shapes}
        self._freed: dict[str, list[tuple[int, Change]]] = {}
        self._came: dict[int, tuple[int, int]] = {}  # the turn of a storage, and its place there

    def begin(self, part: str, change: Change) -> None:
        """Note what there is from the beginning."""
        self._runs[part][0].append(change)

    def end_cast(self, part: str, place: int, change: Change) -> None:
        """Note a copy of weights that goes as automatic casts end."""
        self._freed.setdefault(part, []).append((place, change))
        if not self._order or self._order[-1] != END_OF_CASTS:
            self._order.append(END_OF_CASTS)

    def come(self, turn: Turn, place: int, change: Change) -> None:
        """Note what comes."""
        self._turn(turn)
        self._came[place] = len(self._order) - 1, len(self._runs[turn[1]][-1])
        self._runs[turn[1]][-1].append(change)

    def go(self, turn: Turn, place: int, change: Change) -> None:
        """Note what goes; an optimizer lets go in a turn what it made for the weights before."""
        self._turn(turn)
        here = len(self._order) - 1
        came, at = self._came.get(place, (here, 0))
        if (
            turn[0] == OPTIMIZER
            and came == here - 1
            and (before := self._order[came])[1] != turn[1]
        ):
            leaves = self._leaves[before[1]][-1]
            change = replace(change, left=len(leaves))
            leaves.append(at)
        self._runs[turn[1]][-1].append(change)

    def _turn(self, turn: Turn) -> None:
        if not self._order or self._order[-1] != turn:
            self._order.append(turn)
            self._runs[turn[1]].append([])
            self._leaves[turn[1]].append([])

    def parted(self, peak: int) -> PartedRun | None:
        """Return what each part did; None where casts end in the middle of something."""
        if self._order.count(END_OF_CASTS) > 1:
            return None
        parts = {}
        for part, runs in self._runs.items():
            freed = tuple(change for _, change in sorted(self._freed.get(part, ()), key=_first))
            parts[part] = Part(
                tuple(self._shapes[part]),
                (*map(tuple, runs), freed),
                tuple(map(tuple, self._leaves[part])),
            )
        return PartedRun(tuple(self._order), parts, peak)


def _first(pair: tuple[int, Change]) -> int:
    return pair[0]


def most_bytes(order: Sequence[Turn], parts: Mapping[str, Known]) -> int | None:
    """Return the most bytes that live at once in a network; None where its parts do not fit.

    Args:
        order: The turns of its parts.
        parts: What comes and goes in its parts.

    Example:
        >>> first, then, end = np.array([8]), np.array([4, -4, 2]), np.array([], int)
        >>> most_bytes([("forward", "")], {"": Known([first, then, end], ((), ()), ((), ()))})
        12
    """
    begin, freed = (
        np.array([sum(int(own.runs[at].sum()) for own in parts.values())]) for at in (0, -1)
    )
    taken = dict.fromkeys(parts, 0)
    rows: list[Ints] = [begin]
    left: Ints = begin[:0]
    for turn in order:
        if turn == END_OF_CASTS:
            rows.append(freed)
            continue
        own = parts.get(turn[1])
        if own is None or taken[turn[1]] == len(own.leaves) - 1:
            return None
        taken[turn[1]] = at = taken[turn[1]] + 1
        row = own.runs[at]
        if len(own.awaits[at]) != len(left):
            return None
        if len(left):
            row = row.copy()
            row[list(own.awaits[at])] = -left
        left = row[list(own.leaves[at])]
        rows.append(row)
    if any(taken[part] != len(own.leaves) - 1 for part, own in parts.items()):
        return None
    return int(np.cumsum(np.concatenate(rows)).max())
