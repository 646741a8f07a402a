"""How well a network tells the classes of images: top-1 and top-5 error, in exact counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from convscale.errors import InputError
from convscale.training.outputs import main_output

TOP = 5


@dataclass(frozen=True)
class Errors:
    """What came of an evaluation.

    `wrong5` is None where there are five classes or fewer, among which every answer is right.

    Example:
        >>> Errors(images=8, wrong1=2, wrong5=0, loss_sum=4.0).top1_error_pct
        25.0
    """

    images: int
    wrong1: int
    wrong5: int | None
    loss_sum: float

    @property
    def top1_error_pct(self) -> float:
        """Share of images whose first answer is wrong (%)."""
        return 100 * self.wrong1 / self.images

    @property
    def top5_error_pct(self) -> float | None:
        """Share of images whose first five answers are all wrong (%)."""
        return None if self.wrong5 is None else 100 * self.wrong5 / self.images

    @property
    def loss(self) -> float:
        """Mean cross-entropy (nats)."""
        return self.loss_sum / self.images

    def as_document(self) -> dict[str, float | int | None]:
        """Return the errors for JSON."""
        return {
            "top1_error_pct": self.top1_error_pct,
            "top5_error_pct": self.top5_error_pct,
            "loss": self.loss,
            "images": self.images,
        }


def wrong(logits: Tensor, targets: Tensor, *, top: int) -> Tensor:
    """Count the images whose class is not among the first answers.

    A class that ties with others counts as behind them, and no number at all is wrong.

    Example:
        >>> logits = torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
        >>> [int(wrong(logits, torch.tensor([1, 0]), top=k)) for k in (1, 2)]
        [1, 0]
    """
    own = logits.gather(1, targets[:, None])
    ahead = (logits >= own).sum(1) - 1  # itself
    return ((ahead >= top) | ~own[:, 0].isfinite()).sum()


@torch.no_grad()
def evaluate(
    module: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    classes: int,
    device: torch.device | str = "cpu",
    casting: Callable[[], AbstractContextManager[Any]] = nullcontext,
    memory_format: torch.memory_format = torch.contiguous_format,
    total: Callable[[Tensor], Tensor] = lambda sums: sums,
    seen: Callable[[int], None] | None = None,
) -> Errors:
    """Judge a network by images; its mode is given back as it was.

    Args:
        module: The network.
        batches: Images and the numbers of their classes.
        classes: How many classes there are.
        device: Where the network is.
        casting: Gives the context of automatic casts, if any.
        memory_format: How images are laid out.
        total: Adds up the sums of all processes.
        seen: Told how many images each batch has.

    Raises:
        InputError: If there are no images.

    Example:
        >>> batch = (torch.eye(2)[:, :, None, None], torch.tensor([0, 1]))
        >>> evaluate(nn.Flatten(), [batch], classes=2).top1_error_pct
        0.0
    """
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    sums = torch.zeros(4, dtype=torch.float64)  # exact up to 2**53 images
    for images, targets in batches:
        images = images.to(device, memory_format=memory_format, non_blocking=True)
        targets = targets.to(device, non_blocking=True)
        with casting():
            logits = main_output(module(images))
        logits = logits.float()
        loss = cross_entropy(logits, targets, reduction="sum")
        own = [loss, *(wrong(logits, targets, top=top) for top in (1, TOP))]
        sums += torch.tensor([len(targets), *map(float, own)], dtype=torch.float64)
        if seen is not None:
            seen(len(targets))
    for part, training in modes:
        part.training = training
    images_seen, loss_sum, wrong1, wrong5 = total(sums).tolist()
    if not images_seen:
        raise InputError("There is no image to judge by: none could be read.")
    return Errors(
        int(images_seen), int(wrong1), int(wrong5) if classes > TOP else None, float(loss_sum)
    )
