"""From images to batches: seeded image by image, broken ones counted, by loaders with workers."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image as PillowImage
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from convscale.errors import InputError
from convscale.quantities import Resolution
from convscale.training.datasets import Data
from convscale.training.images import BrokenImageError, Images
from convscale.training.recipe import Recipe
from convscale.training.seeding import Batches, Draw, seed_image
from convscale.training.transforms import training_transform, validation_transform

_MOST_WORKERS = 8
Broken = tuple[str, str]  # a name and what is wrong
Sample = tuple[Tensor, int, list[Broken]]


@dataclass
class BrokenImages:
    """The images that could not be read so far, each once, and how many may be.

    `alone` tells whether this process has all images: of several, none knows what the others have
    found, and `check` waits until they have told one another.

    Example:
        >>> broken = BrokenImages(limit=1)
        >>> broken.add([("a.png", "it is empty"), ("a.png", "it is empty")])
        >>> broken.found
        {'a.png': 'it is empty'}
    """

    limit: int
    found: dict[str, str] = field(default_factory=dict)
    alone: bool = True
    none_left: bool = False

    def add(self, entries: Sequence[Broken], *, of: int | None = None) -> None:
        """Count images, of so many that there are to train on.

        Raises:
            InputError: If there are more than the limit or none else, in a process alone.
        """
        self.found.update(entries)
        self.none_left |= len(dict(entries)) == of
        if self.alone:
            self.check()

    def check(self) -> None:
        """Refuse more images than the limit, and to train on none.

        Raises:
            InputError: If there are more, or those to train on are all among them.
        """
        name, reason = next(iter(self.found.items()), ("", ""))
        if self.none_left:
            raise InputError(
                f"No image to train on can be read. The first is {name} ({reason}). Repair them, "
                "or give other data."
            )
        if len(self.found) > self.limit:
            raise InputError(
                f"{len(self.found)} images cannot be read; broken_limit is {self.limit}. The first "
                f"is {name} ({reason}). Repair or remove them, or raise broken_limit."
            )


class TrainingImages(Dataset[Sample]):
    """Images as training sees them: augmented as the seed, the epoch and the image say.

    An image that cannot be read is replaced by the next one that can be, and where there is none,
    or more than the limit are broken, by a black one, so that batches stay full until the run ends.

    Example:
        >>> from convscale.training.datasets import read_data
        >>> data = read_data("digits")
        >>> images = TrainingImages(data.train, training_transform(Recipe(), data.traits, 16), 0)
        >>> images[Draw(0, 5)][0].shape, torch.equal(images[Draw(0, 5)][0], images[Draw(0, 5)][0])
        (torch.Size([3, 16, 16]), True)
    """

    def __init__(self, images: Images, transform: Any, seed: int, most_broken: int = 10) -> None:
        self._images, self._transform, self._seed = images, transform, seed
        self._most = most_broken

    def __getitems__(self, draws: Sequence[Draw]) -> list[Sample]:
        """Return the samples of a batch: what a loader asks for where it can."""
        with _own_randomness():
            return [self._sample(draw) for draw in draws]

    def __getitem__(self, draw: Draw) -> Sample:
        with _own_randomness():
            return self._sample(draw)

    def _sample(self, draw: Draw) -> Sample:
        targets, broken = self._images.targets, list[Broken]()
        for step in range(min(self._most + 1, len(targets))):
            index = (draw.index + step) % len(targets)
            try:
                image = self._images.read(index)
            except BrokenImageError as error:
                broken.append((error.name, error.reason))
                continue
            seed_image(self._seed, draw)
            return self._transform(image), targets[index], broken
        black = PillowImage.new("RGB", (1, 1))  # none is left, or more than the limit: the run ends
        return self._transform(black), targets[draw.index], broken


class ValidationImages(Dataset[Sample]):
    """Images as evaluation sees them; one that cannot be read is left out.

    Example:
        >>> from convscale.training.datasets import read_data
        >>> data = read_data("digits")
        >>> images = ValidationImages(
        ...     data.validation, validation_transform(Recipe(), data.traits, 16)
        ... )
        >>> len(images), images[0][1]
        (359, 4)
    """

    def __init__(self, images: Images, transform: Any) -> None:
        self._images, self._transform = images, transform

    def __len__(self) -> int:
        return len(self._images.targets)

    def __getitem__(self, index: int) -> Sample:
        try:
            image = self._images.read(index)
        except BrokenImageError as error:
            return torch.empty(0), 0, [(error.name, error.reason)]
        return self._transform(image), self._images.targets[index], []


class Batched:
    """A loader's batches as (images, targets), the broken images counted on the way.

    `of` is how many images there are to train on: a batch in which all of them are broken is black.

    Example:
        >>> batches = Batched([(torch.zeros(1, 3, 8, 8), torch.zeros(1), [])], BrokenImages(0))
        >>> [len(batch) for batch in batches]
        [2]
    """

    def __init__(self, loader: Any, broken: BrokenImages, *, of: int | None = None) -> None:
        self._loader, self.broken, self._of = loader, broken, of

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for images, targets, broken in self._loader:
            self.broken.add(broken, of=self._of)
            if len(images):
                yield images, targets


def training_loader(
    data: Data,
    recipe: Recipe,
    batches: Batches,
    *,
    resolution: Resolution,
    in_chans: int = 3,
    broken: BrokenImages | None = None,
    pin_memory: bool = False,
) -> Batched:
    """Load the batches of a run, from the update it begins with to its end.

    Args:
        data: The data set.
        recipe: How images are augmented, by how many workers they are loaded.
        batches: Which images, in which order: the sampler of one process.
        resolution: Input side, or height and width, in px.
        in_chans: Channels: 3, or 1 for grey images.
        broken: Where images that cannot be read are counted.
        pin_memory: Whether batches are put where a GPU fetches them faster.

    Example:
        >>> from convscale.training.datasets import read_data
        >>> from convscale.training.seeding import Order
        >>> order = Order(images=1438, batch_size=8, epochs=1, seed=0)
        >>> loader = training_loader(read_data("digits"), Recipe(workers=0), Batches(order),
        ...                          resolution=16)
        >>> images, targets = next(iter(loader))
        >>> images.shape, targets.shape
        (torch.Size([8, 3, 16, 16]), torch.Size([8]))
    """
    transform = training_transform(recipe, data.traits, resolution, in_chans=in_chans)
    images = TrainingImages(data.train, transform, recipe.seed, recipe.broken_limit)
    loader = _loader(images, recipe, pin_memory, batch_sampler=batches)
    counted = BrokenImages(recipe.broken_limit) if broken is None else broken
    return Batched(loader, counted, of=len(data.train.targets))


def validation_loader(
    data: Data,
    recipe: Recipe,
    *,
    resolution: Resolution,
    in_chans: int = 3,
    world: int = 1,
    rank: int = 0,
    broken: BrokenImages | None = None,
    pin_memory: bool = False,
) -> Batched:
    """Load the images to judge by, those of one process.

    Args:
        data: The data set.
        recipe: How images are cropped, and how many are in a batch.
        resolution: Input side, or height and width, in px.
        in_chans: Channels: 3, or 1 for grey images.
        world: How many processes share the images.
        rank: Which of them this is, from 0.
        broken: Where images that cannot be read are counted.
        pin_memory: Whether batches are put where a GPU fetches them faster.

    Example:
        >>> from convscale.training.datasets import read_data
        >>> loader = validation_loader(read_data("digits"), Recipe(workers=0), resolution=16)
        >>> sum(len(targets) for _, targets in loader)
        359
    """
    transform = validation_transform(recipe, data.traits, resolution, in_chans=in_chans)
    images = ValidationImages(data.validation, transform)
    loader = _loader(
        images,
        recipe,
        pin_memory,
        sampler=range(rank, len(images), world),
        batch_size=max(1, recipe.batch_size // world),
    )
    return Batched(loader, BrokenImages(recipe.broken_limit) if broken is None else broken)


def _loader(images: Any, recipe: Recipe, pin_memory: bool, **how: Any) -> Any:
    workers = _workers(recipe)
    return DataLoader(
        images,
        num_workers=workers,
        collate_fn=_collated,
        pin_memory=pin_memory,
        worker_init_fn=_prepare_worker,
        prefetch_factor=4 if workers else None,
        persistent_workers=workers > 0,
        **how,
    )


def _prepare_worker(_: int) -> None:
    torch.set_num_threads(1)
    # what asks all processes of a group to stop is for the training to heed, which ends its workers
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _workers(recipe: Recipe) -> int:
    """Return how many processes load: half of the processors, the other half being for training."""
    if recipe.workers != "auto":
        return recipe.workers
    world = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(_MOST_WORKERS, -(-_processors() // (2 * world)) if _processors() > 1 else 0)


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _collated(samples: list[Sample]) -> tuple[Tensor, Tensor, list[Broken]]:
    broken = [entry for _, _, entries in samples for entry in entries]
    whole = [(image, target) for image, target, _ in samples if image.numel()]
    if not whole:
        return torch.empty(0), torch.empty(0, dtype=torch.long), broken
    images, targets = zip(*whole, strict=True)
    return torch.stack(images), torch.tensor(targets), broken


@contextmanager
def _own_randomness() -> Iterator[None]:
    """Give back the random state that code elsewhere in the process goes on with."""
    if get_worker_info() is not None:  # nothing else draws there
        yield
        return
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
