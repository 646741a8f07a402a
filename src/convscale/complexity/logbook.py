"""The log of a training step: what comes and goes, part by part of the network."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from convscale.complexity.liveness import OPTIMIZER, Liveness, Whereabouts
from convscale.complexity.memory import ACTIVATIONS, WEIGHTS
from convscale.network.channels.ties import tensors_in


@dataclass(frozen=True)
class Event:
    """A storage that comes, or goes.

    Args:
        sign: 1 where it comes, -1 where it goes.
        item: Bytes of an element; of all, where the storage is not that of one tensor alone.
        shape: The shape of the tensor that it came with.
        owner: The part of the network in which it came, or that it is a weight of.

    Example:
        >>> Event(1, 4, (8, 3), "head").nbytes
        96
    """

    sign: int
    item: int
    shape: tuple[int, ...]
    owner: str

    @property
    def nbytes(self) -> int:
        """How many bytes more live then."""
        found = self.sign * self.item
        for side in self.shape:
            found *= side
        return found


@dataclass(frozen=True)
class Run:
    """What happens while a part of the network runs, in the order in which it does.

    Example:
        >>> Run("head", (Event(1, 4, (8, 3), "head"),)).events[0].sign
        1
    """

    part: str
    events: tuple[Event, ...]


class Logbook(Liveness):  # type: ignore[no-untyped-call]
    """Follow the memory of a training step, and note which part of the network each event is of.

    Args:
        part: Returns the part that a module's path is in.
        weights: The paths of parameters and then of buffers, in the order of the module.

    Example:
        >>> book = Logbook(lambda path: path, [])
        >>> with book:
        ...     half = torch.zeros(8, 8, device="meta").sum(0)
        >>> [(run.part, [event.nbytes for event in run.events]) for run in book.runs()]
        [('', [256]), ('', [32, -256])]
    """

    def __init__(self, part: Callable[[str], str], weights: Sequence[str]) -> None:
        super().__init__(Whereabouts())
        self._part = part
        self._weights = list(weights)
        self._shapes: list[tuple[int, ...]] = []
        self._items: list[int] = []
        self._owners: list[str] = []
        self._starts: list[int] = []
        self._parts: list[tuple[str, str]] = []

    def note(self, tensor: torch.Tensor, kind: str = ACTIVATIONS) -> None:
        """Note the storage of a tensor, if it is new, with its owner."""
        count = len(self._sizes)
        super().note(tensor, kind)
        if len(self._sizes) == count:
            return
        whole = tensor.numel() * tensor.element_size() == self._sizes[-1]
        self._shapes.append(tuple(tensor.shape) if whole else ())
        self._items.append(tensor.element_size() if whole else self._sizes[-1])
        if kind == WEIGHTS and self._weights:
            self._owners.append(self._part(self._weights.pop(0)))
        else:
            self._owners.append(self._parts[-1][1] if self._parts else "")

    def hold(self, nbytes: int, kind: str) -> None:
        """Note memory that is there from the first moment on and never goes."""
        super().hold(nbytes, kind)
        self._shapes.append(())
        self._items.append(nbytes)
        self._owners.append("")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        here = self.phase, self._running(args)
        if not self._parts or self._parts[-1] != here:
            self._starts.append(self.moment + 1)
            self._parts.append(here)
        return super().__torch_dispatch__(func, types, args, kwargs)

    def _running(self, args: Any) -> str:
        """Return the part that runs; in an optimizer, that whose weights or the like are read."""
        if self.phase != OPTIMIZER:
            return self._part(self.where.path(self.phase))
        arrays = (t for t in tensors_in(args) if t.dim())  # a count of steps is made ahead
        places = (self._known.get(t.untyped_storage()._cdata) for t in arrays)
        owners = (self._owners[place] for place in places if place is not None)
        return next(owners, self._parts[-1][1])

    def runs(self) -> list[Run]:
        """Return what happened: first what is there from the beginning, then part by part."""
        moments: list[tuple[int, int, Event]] = []
        for place, (born, died) in enumerate(zip(self._born, self._died, strict=True)):
            item, shape, owner = self._items[place], self._shapes[place], self._owners[place]
            moments.append((born, place, Event(1, item, shape, owner)))
            if died is not None:
                moments.append((died, place, Event(-1, item, shape, owner)))
        sorted_events: list[list[Event]] = [[] for _ in range(len(self._starts) + 1)]
        for moment, _, event in sorted(moments, key=lambda each: each[:2]):
            sorted_events[bisect_right(self._starts, moment) if moment else 0].append(event)
        parts = ["", *(part for _, part in self._parts)]
        return [Run(part, tuple(events)) for part, events in zip(parts, sorted_events, strict=True)]
