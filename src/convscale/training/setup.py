"""What is known of a run before its first step: data, network, order of the images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from convscale.errors import InputError
from convscale.quantities import sides
from convscale.training.datasets import Data, read_data
from convscale.training.loading import BrokenImages
from convscale.training.outputs import over_outputs
from convscale.training.part_checks import check_parts
from convscale.training.parts import Loss, Mix, make_loss, make_mix
from convscale.training.processes import Processes
from convscale.training.recipe import Recipe
from convscale.training.request import TrainRequest
from convscale.training.run_files import Files
from convscale.training.seeding import Batches, Order, derived
from convscale.training.subject import Subject, prepare
from convscale.training.variants import check_precision


def _check_shared(data: Data, processes: Processes) -> None:
    """Refuse data of a process, perhaps on another machine, that are not those of the first."""
    own = data.fingerprint.digest.encode()
    if processes.shared(own if processes.is_first else None) != own:
        raise InputError(
            f"The images of {data.name} in process {processes.rank} are others than those in "
            "process 0, by name or size. All processes need the same."
        )


@dataclass(frozen=True)
class Setup:
    """A request that was looked into: its data are found, its network is built."""

    request: TrainRequest
    processes: Processes
    files: Files
    data: Data
    subject: Subject
    order: Order
    mix: Mix
    loss: Loss
    broken: BrokenImages

    @property
    def recipe(self) -> Recipe:
        """The recipe."""
        return self.request.recipe

    @property
    def module(self) -> nn.Module:
        """The network that is trained."""
        return self.subject.module

    @property
    def identity(self) -> dict[str, Any]:
        """What the run is known by when it goes on."""
        known = self.data.fingerprint.digest
        return self.request.identity(self.subject.name, self.order.images, known)

    def example(self, count: int) -> tuple[Tensor, Tensor]:
        """Return so many images and targets of the shape and kind that training has."""
        random = torch.Generator().manual_seed(derived(self.recipe.seed, "example"))
        shape = (count, self.subject.in_chans, *sides(self.subject.train_resolution))
        images = torch.randn(shape, generator=random)
        targets = torch.randint(self.subject.classes, (count,), generator=random)
        images, targets = self.mix(images, targets)
        return images.to(self.processes.device), targets.to(self.processes.device)


def set_up(request: TrainRequest, processes: Processes) -> Setup:
    """Find the data and build the network of a request, in all processes or none.

    Raises:
        InputError: If the request or the data are wrong.

    Example:
        >>> from pathlib import Path
        >>> request = TrainRequest("resnet10t", "digits", Path("run"), resolution=32)
        >>> set_up(request, Processes(torch.device("cpu"))).order.steps
        11
    """
    recipe = request.recipe
    with processes.agreeing():
        check_precision(recipe, processes.device.type)
        check_parts(recipe.parts, processes.world, processes.device.type)
        data = read_data(request.data)
        classes = len(data.classes)
        subject = prepare(
            request.network,
            recipe,
            classes=classes,
            resolution=request.resolution,
            num_classes=request.num_classes,
            in_chans=request.in_chans,
            parts=recipe.parts or processes.world,
        )
        order = Order(len(data.train.targets), recipe.batch_size, recipe.epochs, recipe.seed)
        Batches(order, world=processes.world)  # refuses a batch that cannot be parted
        mix = make_mix(recipe, classes=classes, batch_size=recipe.batch_size // processes.world)
    with processes.agreeing():
        _check_shared(data, processes)
    return Setup(
        request=request,
        processes=processes,
        files=Files(request.out),
        data=data,
        subject=subject,
        order=order,
        mix=mix,
        loss=over_outputs(make_loss(recipe), recipe.aux_weight),
        broken=BrokenImages(recipe.broken_limit, alone=processes.world == 1),
    )
