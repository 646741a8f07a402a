"""A batch in parts that one process computes side by side, as so many processes would.

Rounding in a sum over a batch depends on how the batch is shared, and training lets it grow. Where
one process shares a batch as several processes do, the sums are the same: every part runs in a
thread and a graph of its own, statistics of batch normalisation are those of all parts, and
gradients are added in the order of the parts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.utils import _pytree as pytree

from convscale.errors import InputError
from convscale.network.copies import converted_copy
from convscale.training.syncing import SyncedBatchNorm, in_order
from convscale.training.team import Team


class Parted(nn.Module):
    """A network that computes a batch in parts while it trains; its weights are the network's.

    Args:
        module: The network, on the processor. What it counts in buffers goes on in it.
        parts: How many parts a batch has.
        context: The context of a forward pass, of its precision.
        synced: Whether batch normalisation takes the statistics of all parts.

    Raises:
        InputError: If the network cannot be copied.

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
            InputError: If the network draws random numbers, whose order in threads is chance.
            UnevenPartsError: If the parts run otherwise than one another.
        """
        if not self.module.training:
            return self.module(images)
        _give_buffers(self.module, self.copies)
        drawn = torch.get_rng_state()
        found = self.team.run(lambda part: self._forward(part, images))
        if not torch.equal(drawn, torch.get_rng_state()):
            raise InputError(
                "The network has drawn random numbers, and parts would draw others in several "
                "processes. Set parts to null."
            )
        _give_buffers(self.copies[0], [self.module])
        leaves, structure = zip(*map(pytree.tree_flatten, found), strict=True)
        whole = iter(_Joined.apply(self, _tensors(leaves), *self.own))
        return pytree.tree_unflatten(
            [next(whole) if isinstance(leaf, Tensor) else leaf for leaf in leaves[0]], structure[0]
        )

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
            return list(torch.autograd.grad(ends, self.leaves[part], gradients, allow_unused=True))

        found = self.team.run(backward)
        return [
            None if None in column else in_order(column) / self.team.size
            for column in map(list, zip(*found, strict=True))
        ]


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
    for other in others:
        for own, buffer in zip(module.buffers(), other.buffers(), strict=True):
            buffer.copy_(own)


def _synced(parted: Parted) -> AbstractContextManager[object]:
    return SyncedBatchNorm(parted.team.gather) if parted.synced else nullcontext()


def _tensors(leaves: Sequence[Sequence[Any]]) -> list[list[Tensor]]:
    return [[leaf for leaf in own if isinstance(leaf, Tensor)] for own in leaves]
