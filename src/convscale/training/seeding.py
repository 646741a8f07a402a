"""Randomness as a function of the seed and of what it is for, so that no state is kept of it.

The order of the images follows from (seed, epoch), the augmentation of one from (seed, epoch,
image), and dropout, stochastic depth and mixing from (seed, update, process). A run that goes on
in the middle of an epoch needs to know nothing but the number of updates that were made, and an
order is the same for any number of processes.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convscale.errors import InputError


@dataclass(frozen=True, slots=True)
class Draw:
    """One image of an epoch: what a data set for training is indexed by.

    Example:
        >>> Draw(epoch=3, index=17).index
        17
    """

    epoch: int
    index: int


@dataclass(frozen=True)
class Order:
    """The order in which a training run sees its images, whatever the number of processes.

    Every epoch is a permutation of its own, cut into whole batches; what is left over at the end
    of one is left out of it.

    Raises:
        InputError: If there are fewer images than a batch has.

    Example:
        >>> order = Order(images=10, batch_size=4, epochs=3, seed=0)
        >>> order.steps, order.updates
        (2, 6)
    """

    images: int
    batch_size: int
    epochs: int
    seed: int

    def __post_init__(self) -> None:
        if self.images < self.batch_size:
            raise InputError(
                f"A batch of {self.batch_size} is larger than the {self.images} images to train "
                f"on. Use a batch size of at most {self.images}."
            )

    @property
    def steps(self) -> int:
        """The updates of one epoch."""
        return self.images // self.batch_size

    @property
    def updates(self) -> int:
        """The updates of the whole run."""
        return self.epochs * self.steps

    def permutation(self, epoch: int) -> NDArray[np.int64]:
        """Return the indices of all images in the order of an epoch."""
        return np.random.default_rng(derived(self.seed, "order", epoch)).permutation(self.images)


@dataclass(frozen=True)
class Batches:
    """The batches of one process from an update to the end of the run, as a batch sampler.

    Each process takes its part of every batch: with all parts side by side, the batch is that of
    a single process.

    Args:
        order: The order of the images.
        first: The update to begin with.
        world: How many processes there are.
        rank: Which of them this is, from 0.

    Raises:
        InputError: If the batch cannot be parted evenly.

    Example:
        >>> order = Order(images=10, batch_size=4, epochs=3, seed=0)
        >>> whole = list(Batches(order))
        >>> parts = zip(Batches(order, world=2, rank=0), Batches(order, world=2, rank=1))
        >>> [a + b for a, b in parts] == whole, len(whole), len(Batches(order, first=4))
        (True, 6, 2)
    """

    order: Order
    first: int = 0
    world: int = 1
    rank: int = 0

    def __post_init__(self) -> None:
        if self.order.batch_size % self.world:
            raise InputError(
                f"A batch of {self.order.batch_size} cannot be parted evenly among {self.world} "
                f"processes. Use a multiple of {self.world}."
            )

    def __len__(self) -> int:
        return max(0, self.order.updates - self.first)

    def __iter__(self) -> Iterator[list[Draw]]:
        whole = self.order.batch_size
        own = whole // self.world
        begin, step = divmod(self.first, self.order.steps)
        for epoch in range(begin, self.order.epochs):
            indices = self.order.permutation(epoch).tolist()
            for start in range(step * whole, self.order.steps * whole, whole):
                part = indices[start + self.rank * own : start + (self.rank + 1) * own]
                yield [Draw(epoch, index) for index in part]
            step = 0


def derived(seed: int, *purpose: int | str) -> int:
    """Return a number of 48 bits that follows from a seed and what it is for.

    Example:
        >>> derived(0, "order", 1) == derived(0, "order", 1), derived(0, 1) == derived(0, 2)
        (True, False)
    """
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest(), "big")


def seed_generators(value: int) -> None:
    """Begin the random numbers of Python, numpy and PyTorch anew.

    Example:
        >>> import torch
        >>> seed_generators(7)
        >>> first = random.random(), float(torch.rand(1))
        >>> seed_generators(7)
        >>> (random.random(), float(torch.rand(1))) == first
        True
    """
    import torch

    random.seed(value)
    np.random.seed(value % 2**32)
    # torch.manual_seed notes a stack trace for every device that is not in use
    torch.default_generator.manual_seed(value)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(value)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(value)


def seed_image(seed: int, draw: Draw) -> None:
    """Begin the random numbers for the augmentation of one image in one epoch.

    Example:
        >>> seed_image(0, Draw(epoch=2, index=5))
        >>> drawn = random.random()
        >>> seed_image(0, Draw(epoch=2, index=5))
        >>> random.random() == drawn
        True
    """
    import torch

    value = derived(seed, "image", draw.epoch, draw.index)
    random.seed(value)
    np.random.seed(value % 2**32)
    torch.default_generator.manual_seed(value)  # no device but the CPU: ten times as fast


def seed_update(seed: int, update: int, rank: int = 0) -> None:
    """Begin the random numbers for mixing, dropout and stochastic depth of one update.

    Example:
        >>> seed_update(0, update=100)
        >>> drawn = random.random()
        >>> seed_update(0, update=101)
        >>> random.random() == drawn
        False
    """
    seed_generators(derived(seed, "update", update, rank))
