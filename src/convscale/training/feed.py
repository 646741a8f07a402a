"""Batches on their way to the device, and the time that training waits for them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor


class Feed:
    """Give batches on the device, in its memory format, and note how long they were waited for.

    Example:
        >>> feed = Feed([(torch.zeros(2, 3, 4, 4), torch.zeros(2))], torch.device("cpu"))
        >>> images, targets = next(feed)
        >>> images.shape, feed.waited_s >= 0
        (torch.Size([2, 3, 4, 4]), True)
    """

    def __init__(
        self,
        batches: Iterable[tuple[Tensor, Tensor]],
        device: torch.device,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> None:
        self._given = batches
        self._batches: Iterator[tuple[Tensor, Tensor]] | None = None
        self._device, self._format = device, memory_format
        self.waited_s = 0.0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self

    def __next__(self) -> tuple[Tensor, Tensor]:
        begun = time.perf_counter()
        if self._batches is None:  # workers start when the first batch is asked for
            self._batches = iter(self._given)
        images, targets = next(self._batches)
        self.waited_s += time.perf_counter() - begun
        images = images.to(self._device, memory_format=self._format, non_blocking=True)
        return images, targets.to(self._device, non_blocking=True)
