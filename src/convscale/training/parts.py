"""The parts of a training run, made from its recipe: timm's, and PyTorch's loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from timm.data.mixup import Mixup
from timm.loss.cross_entropy import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2  # type: ignore[attr-defined]
from timm.scheduler.cosine_lr import CosineLRScheduler
from timm.scheduler.scheduler import Scheduler
from timm.scheduler.step_lr import StepLRScheduler
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn

from convscale.errors import InputError
from convscale.training.recipe import Recipe

Loss = Callable[[Tensor, Tensor], Tensor]
Mix = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def make_loss(recipe: Recipe) -> Loss:
    """Return the loss of scores and targets; where images are mixed, targets are shares.

    Example:
        >>> float(make_loss(Recipe())(torch.zeros(2, 4), torch.tensor([0, 3]))) # log 4
        1.386294...
    """
    if recipe.mixes:
        return SoftTargetCrossEntropy()  # type: ignore[no-untyped-call]
    if recipe.label_smoothing:
        return LabelSmoothingCrossEntropy(recipe.label_smoothing)  # type: ignore[no-untyped-call]
    return nn.CrossEntropyLoss()


def make_mix(recipe: Recipe, *, classes: int, batch_size: int) -> Mix:
    """Return what mixes the images of a batch and their targets, each of them with another.

    Raises:
        InputError: If the batch of a process is odd, so that its images make no pairs.

    Example:
        >>> mix = make_mix(Recipe(mixup=0.2), classes=3, batch_size=4)
        >>> mix(torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 2, 0]))[1].sum(1)
        tensor([1., 1., 1., 1.])
    """
    if not recipe.mixes:
        return lambda images, targets: (images, targets)
    if batch_size % 2:
        raise InputError(
            f"Mixup and cutmix need an even batch in every process, not {batch_size}. Change "
            "batch_size, or set mixup and cutmix to 0."
        )
    return Mixup(  # type: ignore[no-untyped-call]
        mixup_alpha=recipe.mixup,
        cutmix_alpha=recipe.cutmix,
        label_smoothing=recipe.label_smoothing,
        num_classes=classes,
    )


def make_optimizer(recipe: Recipe, module: nn.Module) -> torch.optim.Optimizer:
    """Return the optimiser; weights of norm layers and biases do not decay unless they shall.

    Raises:
        InputError: If no parameter is trainable.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        >>> [g["weight_decay"] for g in make_optimizer(Recipe(), net).param_groups]
        [0.0, 5e-05]
    """
    if not any(weight.requires_grad for weight in module.parameters()):
        raise InputError("No parameter of the network is trainable.")
    made: torch.optim.Optimizer = create_optimizer_v2(
        module,
        opt=recipe.optimizer,
        lr=recipe.peak_lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        filter_bias_and_bn=not recipe.decay_norms_and_biases,
    )
    return made


def make_schedule(recipe: Recipe, optimizer: torch.optim.Optimizer, *, steps: int) -> Scheduler:
    """Return the learning rate as a function of the update: a warm-up, then half a cosine.

    Args:
        recipe: The recipe.
        optimizer: Whose learning rate is set.
        steps: Updates of an epoch.

    Example:
        >>> recipe = Recipe(epochs=4, warmup_epochs=1.0, lr=1.0, lr_batch=None)
        >>> schedule = make_schedule(recipe, make_optimizer(recipe, nn.Linear(2, 3)), steps=10)
        >>> [round(learning_rate(schedule, update), 3) for update in (0, 10, 25, 40)]
        [0.1, 1.0, 0.5, 0.0]
    """
    warm = min(round(recipe.warmup_epochs * steps), recipe.epochs * steps)
    shared: dict[str, Any] = {
        "warmup_t": warm,
        "warmup_lr_init": recipe.warmup_start * recipe.peak_lr,
        "t_in_epochs": False,
    }
    rest = max(2, recipe.epochs * steps - warm)  # timm warns of 1; beyond the end nothing is read
    if recipe.schedule == "constant":
        return StepLRScheduler(optimizer, decay_t=recipe.epochs * steps + 1, **shared)
    return CosineLRScheduler(
        optimizer,
        t_initial=rest,
        lr_min=recipe.lr_end * recipe.peak_lr,
        warmup_prefix=True,
        **shared,
    )


def learning_rate(schedule: Scheduler, update: int | None = None) -> float:
    """Return the highest learning rate now, or after it is set for an update.

    Example:
        >>> recipe = Recipe(warmup_epochs=0.0, schedule="constant", lr=0.5, lr_batch=None)
        >>> optimizer = make_optimizer(recipe, nn.Linear(2, 3))
        >>> learning_rate(make_schedule(recipe, optimizer, steps=10), update=99)
        0.5
    """
    if update is not None:
        schedule.step_update(update)
    return max(float(group["lr"]) for group in schedule.optimizer.param_groups)


def make_average(recipe: Recipe, module: nn.Module) -> ModelEmaV3 | None:
    """Return the moving average of the weights, None where the recipe has none.

    Its decay grows to that of the recipe, so that a short run does not remember its start.

    Example:
        >>> make_average(Recipe(), nn.Linear(2, 3)) is None
        True
        >>> make_average(Recipe(ema=0.9), nn.Linear(2, 3)).decay
        0.9
    """
    if recipe.ema is None:
        return None
    return ModelEmaV3(module, decay=recipe.ema, use_warmup=True)
