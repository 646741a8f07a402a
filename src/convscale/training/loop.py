"""The training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from timm.scheduler.scheduler import Scheduler
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn

from convscale.training.parts import Loss, Mix
from convscale.training.seeding import Order, seed_update


class Keeper(Protocol):
    """What follows a run: it may evaluate, write checkpoints, and end the run by raising."""

    def after_update(self, update: int, loss: Tensor) -> None:
        """Take the loss of the update that was the `update`-th made, counted from 1."""

    def after_epoch(self, epoch: int) -> None:
        """Know that all updates of an epoch, counted from 0, are made."""


@dataclass(frozen=True)
class Run:
    """All that the loop works with.

    `module` is the network itself, `model` what computes a batch by it, in one part or several;
    `batches` gives images and targets on the device, from the first update that is left;
    `forward` is the context of the forward pass (precision, statistics of all processes) and
    `accelerator` accelerate's, which knows the device, the precision and the processes.

    Example:
        >>> from pathlib import Path
        >>> from convscale.training.assembling import make_choice, make_run
        >>> from convscale.training.processes import open_processes
        >>> from convscale.training.recipe import Recipe
        >>> from convscale.training.request import TrainRequest
        >>> from convscale.training.setup import set_up
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        ...                     nn.Linear(8, 10))
        >>> recipe = Recipe(epochs=1, warmup_epochs=0.0, batch_size=512, workers=0,
        ...                 precision="fp32", channels_last=False)
        >>> request = TrainRequest(net, "digits", Path("run"), recipe, resolution=8)
        >>> with open_processes("cpu") as processes:
        ...     setup = set_up(request, processes)
        ...     choice = make_choice(setup, watch=None)
        ...     run = make_run(setup, choice, checkpoint=None, updates=0)
        >>> images, targets = next(run.batches)
        >>> images.shape, run.order.updates
        (torch.Size([512, 3, 8, 8]), 2)
    """

    module: nn.Module
    model: nn.Module
    loss: Loss
    mix: Mix
    optimizer: Any
    schedule: Scheduler
    average: ModelEmaV3 | None
    batches: Iterator[tuple[Tensor, Tensor]]
    forward: Callable[[], AbstractContextManager[object]]
    accelerator: Any
    order: Order
    rank: int = 0
    grad_clip: float | None = None


def fit(run: Run, keeper: Keeper, *, updates: int = 0, epochs: int = 0) -> None:
    """Train to the end of the last epoch.

    Args:
        run: What to train, and with what.
        keeper: What follows the run.
        updates: How many updates are made already.
        epochs: How many epochs are over already, their evaluation included.
    """
    for epoch in range(epochs, run.order.epochs):
        run.model.train()
        for update in range(updates, (epoch + 1) * run.order.steps):
            images, targets = next(run.batches)
            seed_update(run.order.seed, update, run.rank)
            images, targets = run.mix(images, targets)
            run.schedule.step_update(update)

            with run.forward():
                loss = run.loss(run.model(images), targets)
            run.optimizer.zero_grad()
            run.accelerator.backward(loss)
            if run.grad_clip is not None:
                run.accelerator.clip_grad_norm_(run.model.parameters(), run.grad_clip)
            run.optimizer.step()

            if run.average is not None:
                run.average.update(run.module, step=update + 1)
            keeper.after_update(update + 1, loss.detach())
        updates = (epoch + 1) * run.order.steps
        keeper.after_epoch(epoch)
