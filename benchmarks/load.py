"""Processes that load the machine in bursts, as another user's work does."""

from __future__ import annotations

import multiprocessing
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event

_MATRIX = 384  # rows of what is multiplied: it fits into no first-level cache


@contextmanager
def bursts(processes: int, *, seed: int, mean_s: float = 2.0) -> Iterator[None]:
    """Keep processes working and resting in turn, for times drawn from a seed.

    Args:
        processes: How many there are.
        seed: For the lengths of work and rest, which are exponential.
        mean_s: The mean of both.

    Example:
        >>> with bursts(0, seed=0):
        ...     pass
    """
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    workers = [
        context.Process(target=_work, args=(f"{seed}:{index}", mean_s, stop), daemon=True)
        for index in range(processes)
    ]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        stop.set()
        for worker in workers:
            worker.join()


def _work(seed: str, mean_s: float, stop: Event) -> None:
    import numpy as np
    import torch

    torch.set_num_threads(1)
    lengths = random.Random(seed)
    matrix = torch.from_numpy(np.random.default_rng(0).normal(size=(_MATRIX, _MATRIX)))
    while not stop.is_set():
        end = time.monotonic() + lengths.expovariate(1 / mean_s)
        while time.monotonic() < end and not stop.is_set():
            torch.mm(matrix, matrix)
        stop.wait(lengths.expovariate(1 / mean_s))
