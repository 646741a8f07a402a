"""A batch in parts that one process computes side by side, as so many processes would.

Rounding in a sum over a batch depends on how the batch is shared, and training lets it grow. Where
one process shares a batch as several processes do, the sums are the same: every part runs in a
thread and a graph of its own, statistics of batch normalisation are those of all parts, and
gradients are added in the order of the parts.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.utils import _pytree as pytree

from convscale.errors import InputError
from convscale.network.channels.ties import tensors_in
from convscale.network.modules.copies import converted_copy
from convscale.training.syncing import SyncedBatchNorm
from convscale.training.team import Team


class Parted(nn.Module):
    """A network that computes a batch in parts while it trains; its weights are the network's.

    Args:
        module: The network, on the processor. What it counts in buffers goes on in it.
        parts: How many parts a batch has.
        context: The context of a forward pass, of its precision.
        synced: Whether batch normalisation takes the statistics of all parts.

    Raises:
        InputError: If the network cannot be copied, or has hooks on weights.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train()
        >>> parted, images = Parted(net, parts=2), torch.rand(4, 3, 2, 2)
        >>> parted(images).square().sum().backward()
        >>> torch.allclose(parted(images), net(images), atol=1e-6), net[0].weight.grad is None
        (True, False)
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        parts: int,
        context: Callable[[], AbstractContextManager[object]] = nullcontext,
        synced: bool = True,
    ) -> None:
        super().__init__()
        if any(weight._backward_hooks for weight in module.parameters()):
            raise InputError(
                "The network has hooks on weights, which would see the gradients of all parts, and "
                "in several processes those of one. Set parts to null."
            )
        self.module = module
        self.context, self.synced = context, synced
        self.team = Team(parts)
        self.copies = tuple(_sharing_weights(module) for _ in range(parts))
        self.own = [weight for weight in module.parameters() if weight.requires_grad]
        self.leaves = [
            [weight for weight in copied.parameters() if weight.requires_grad]
            for copied in self.copies
        ]

    def train(self, mode: bool = True) -> Parted:
        """Set the mode of the network and its copies."""
        super().train(mode)
        for copied in self.copies:
            copied.train(mode)
        return self

    def forward(self, images: Tensor) -> Any:
        """Return the outputs for all images.

        Raises:
            InputError: If the network does what parts cannot share: it draws random numbers,
                replaces weights, changes the shape of buffers, or puts out other than tensors with
                a row for each image.
            UnevenPartsError: If the parts run otherwise than one another.
        """
        if not self.module.training:
            return self.module(images)
        _give_buffers(self.module, self.copies)
        drawn = _drawn()
        found = self.team.run(lambda part: self._forward(part, images))
        if drawn != _drawn():
            raise InputError(
                "The network has drawn random numbers, and parts would draw others in several "
                "processes. Set parts to null."
            )
        self._check_weights()
        _give_buffers(self.copies[0], [self.module])
        leaves, structure = zip(*map(pytree.tree_flatten, found), strict=True)
        places = _places(leaves[0], len(images) // self.team.size)
        outputs = [[own[place] for place in places.values()] for own in leaves]
        whole = dict(zip(places, _Joined.apply(self, outputs, *self.own), strict=True))
        return pytree.tree_unflatten(
            [whole.get(id(leaf), leaf) for leaf in leaves[0]], structure[0]
        )

    def _check_weights(self) -> None:
        """Refuse a network that puts other tensors in the place of its weights as it runs."""
        for part in self.leaves:
            for (name, own), leaf in zip(self._named(), part, strict=True):
                if leaf.data_ptr() != own.data_ptr():
                    raise InputError(
                        f"The network replaces its weight {name} while it runs, which parts would "
                        "not share. Set parts to null."
                    )

    def _named(self) -> list[tuple[str, nn.Parameter]]:
        named = self.module.named_parameters()
        return [(name, weight) for name, weight in named if weight.requires_grad]

    def _forward(self, part: int, images: Tensor) -> Any:
        own = images.chunk(self.team.size)[part].clone()
        with self.context(), _synced(self):
            return self.copies[part](own)

    def backward(self, outputs: Sequence[Sequence[Tensor]], given: Sequence[Tensor]) -> list[Any]:
        """Return the gradients of the weights, from those of the outputs of all parts."""

        def backward(part: int) -> list[Tensor | None]:
            # each part's loss is the mean over its own images, as a process has it
            gradients = [one.chunk(self.team.size)[part] * self.team.size for one in given]
            pairs = [
                (output, gradient)
                for output, gradient in zip(outputs[part], gradients, strict=True)
                if output.requires_grad
            ]
            ends, gradients = map(list, zip(*pairs, strict=True))
            torch.autograd.backward(ends, gradients)
            found = [weight.grad for weight in self.leaves[part]]
            for weight in self.leaves[part]:
                weight.grad = None
            return found

        found = self.team.run(backward)
        _give_buffers(self.copies[0], [self.module])  # layers may have run again
        columns = zip(self.own, zip(*found, strict=True), strict=True)
        return [self._mean(weight, gradients) for weight, gradients in columns]

    def _mean(self, weight: Tensor, gradients: Sequence[Tensor | None]) -> Tensor | None:
        """Return the mean of gradients; parts that do not use a weight have none, which is 0."""
        if all(one is None for one in gradients):
            return None
        total, *others = (torch.zeros_like(weight) if g is None else g for g in gradients)
        for other in others:  # as `in_order` adds, in the memory of the first
            total += other
        return total.div_(self.team.size)


class _Joined(torch.autograd.Function):
    """The outputs of all parts as those of a batch; backwards, every part goes through its own."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, parted: Parted, outputs: list[list[Tensor]], *weights: Tensor
    ) -> tuple[Tensor, ...]:
        del weights  # they are there for their gradients
        ctx.parted, ctx.outputs = parted, outputs  # type: ignore[attr-defined]
        return tuple(torch.cat([one.detach() for one in own]) for own in zip(*outputs, strict=True))

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the weights."""
        found = ctx.parted.backward(ctx.outputs, gradients)  # type: ignore[attr-defined]
        del ctx.outputs  # type: ignore[attr-defined]  # the graphs are used up
        return (None, None, *found)


def _sharing_weights(module: nn.Module) -> nn.Module:
    """Copy a network with the same weights in memory, so that they change with it."""

    def convert(tensor: Tensor) -> Tensor:
        if isinstance(tensor, nn.Parameter):
            return nn.Parameter(tensor.detach(), requires_grad=tensor.requires_grad)
        return tensor.detach().clone()

    return converted_copy(module, convert)


@torch.no_grad()
def _give_buffers(module: nn.Module, others: Sequence[nn.Module]) -> None:
    """Give others the values of a network's buffers.

    Raises:
        InputError: If there are more or larger ones than before.
    """
    for other in others:
        own, theirs = (dict(one.named_buffers()) for one in (module, other))
        for name in own.keys() | theirs.keys():
            before, after = theirs.get(name), own.get(name)
            if before is None or after is None or before.shape != after.shape:
                raise InputError(
                    f"The network changes the shape of its buffer {name} while it runs, which "
                    "parts would not share. Set parts to null."
                )
            before.copy_(after)


def _synced(parted: Parted) -> AbstractContextManager[object]:
    return SyncedBatchNorm(parted.team.gather) if parted.synced else nullcontext()


def _drawn() -> tuple[object, ...]:
    """Return the states of the generators of random numbers that threads have in common."""
    others = tuple(np.asarray(one).tobytes() for one in np.random.get_state())
    return torch.get_rng_state().numpy().tobytes(), random.getstate(), others


def _places(leaves: Sequence[Any], count: int) -> dict[int, int]:
    """Return where the tensors of an output stand first, by their identities.

    Raises:
        InputError: If one is not of so many images, or hidden in something else.
    """
    places: dict[int, int] = {}
    for place, leaf in enumerate(leaves):
        if isinstance(leaf, Tensor) and leaf.dim() and len(leaf) == count:
            places.setdefault(id(leaf), place)
        elif tensors_in(leaf):
            raise InputError(
                f"The network puts out a {type(leaf).__name__} that parts cannot be put together "
                "to: tensors with a row for each image can, in tuples, lists and dictionaries. Set "
                "parts to null."
            )
    return places
