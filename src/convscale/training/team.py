"""Threads that do the parts of a work side by side."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor

from convscale.errors import ConvscaleError

_Found = TypeVar("_Found")


class UnevenPartsError(ConvscaleError):
    """Say that the parts of a batch ask for each other's statistics not equally often."""


class Team:
    """Threads that do the parts of a work side by side, and can wait for what the others give.

    The processor's threads are shared among them, each of which has one at least.

    Args:
        size: How many there are.

    Example:
        >>> team = Team(2)
        >>> team.run(lambda part: [int(t) for t in team.gather(torch.tensor(part))])
        [[0, 1], [0, 1]]
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.threads = max(1, torch.get_num_threads() // size)
        # two, as the next may be given while some still read these
        self._given: tuple[list[Any], list[Any]] = ([None] * size, [None] * size)
        self._barrier = threading.Barrier(size)
        self._own = threading.local()
        self._pool = ThreadPoolExecutor(
            size, initializer=torch.set_num_threads, initargs=(self.threads,)
        )

    def gather(self, own: Tensor) -> list[Tensor]:
        """Return what all threads give, in their order; every one of them must ask."""
        return self._gathered(own, f"a tensor of {tuple(own.shape)}")

    def run(self, work: Callable[[int], _Found]) -> list[_Found]:
        """Do a work for each part, and return what was found.

        Raises:
            Exception: What the first part that failed raised.
        """
        self._barrier.reset()
        futures = [self._pool.submit(self._do, work, part) for part in range(self.size)]
        errors = [error for future in futures if (error := future.exception()) is not None]
        for error in errors:
            if not isinstance(error, threading.BrokenBarrierError):
                raise error
        return [future.result() for future in futures]

    def _do(self, work: Callable[[int], _Found], part: int) -> _Found:
        self._own.part, self._own.turn = part, 0
        try:
            found = work(part)
            self._gathered(None, "the end")
        except BaseException:
            self._barrier.abort()  # nobody waits for this part any more
            raise
        return found

    def _gathered(self, own: Any, what: str) -> list[Any]:
        given = self._given[self._own.turn % 2]
        given[self._own.part] = (what, own)
        self._own.turn += 1
        self._barrier.wait()
        if {said for said, _ in given} != {what}:
            raise UnevenPartsError("The parts of a batch do not run the same. Leave out `parts`.")
        return [found for _, found in given]
