"""What a training step is made of: the loss, the optimizer, and checkpoints of blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from convscale.complexity.liveness import BACKWARD, Liveness
from convscale.errors import InputError
from convscale.network.channels.ties import tensors_in
from convscale.network.running.feeding import Feed
from convscale.network.stages.schemes import Schemes
from convscale.network.stages.stages import Stage, join
from convscale.network.tracing.trace import trace_module

Parameters = Iterable[nn.Parameter]

OPTIMIZERS: dict[str, Callable[[Parameters], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-4),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=0.05),
}


class Loss:
    """The sum of the cross-entropies of everything that a network puts out.

    The classes are along axis 1, as in scores and in maps of scores; the targets, integers, are
    made once and kept, as those that a loader gives.

    Example:
        >>> loss = Loss()
        >>> float(loss({"out": torch.zeros(2, 1, 4, 4)})), loss.targets[0].shape
        (0.0, torch.Size([2, 4, 4]))
    """

    def __init__(self) -> None:
        self._targets: dict[tuple[int, ...], torch.Tensor] = {}

    @property
    def targets(self) -> list[torch.Tensor]:
        """The targets that the outputs so far asked for."""
        return list(self._targets.values())

    def __call__(self, output: Any) -> torch.Tensor:
        """Return the loss of an output, a scalar.

        Raises:
            InputError: If nothing in the output has an axis of classes.
        """
        scores = [t for t in tensors_in(output) if t.is_floating_point() and t.dim() > 1]
        if not scores:
            raise InputError(
                "The network puts out nothing with an axis of classes, of which a loss could be "
                "taken. Leave training out: --optimizer none, or optimizer=None in Python."
            )
        losses = [nn.functional.cross_entropy(each, self._target(each)) for each in scores]
        return sum(losses[1:], start=losses[0])

    def _target(self, scores: torch.Tensor) -> torch.Tensor:
        shape = (scores.shape[0], *scores.shape[2:])
        if shape not in self._targets:
            self._targets[shape] = torch.zeros(shape, dtype=torch.long, device=scores.device)
        return self._targets[shape]


def make_optimizer(name: str, module: nn.Module) -> torch.optim.Optimizer:
    """Make an optimizer of the module's trainable parameters.

    Raises:
        InputError: If none is trainable.

    Example:
        >>> make_optimizer("sgd", nn.Linear(2, 3)).defaults["momentum"]
        0.9
    """
    trainable = [p for p in module.parameters() if p.requires_grad]
    if not trainable:
        raise InputError(
            "No parameter of the network is trainable. Leave training out: --optimizer none, or "
            "optimizer=None in Python."
        )
    return OPTIMIZERS[name](trainable)


def state_tensors(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    """Return what an optimizer keeps between steps.

    Example:
        >>> state_tensors(make_optimizer("sgd", nn.Linear(2, 3)))
        []
    """
    return [tensor for state in optimizer.state.values() for tensor in tensors_in(state)]


def checkpoint_paths(module: nn.Module, feed: Feed) -> tuple[str, ...]:
    """Return the paths of the blocks of all stages, each of which gets a checkpoint.

    Raises:
        InputError: If the network has no blocks that are modules.

    Example:
        >>> net = nn.Sequential(*(nn.Sequential(nn.Conv2d(3, 3, 1)) for _ in range(3)))
        >>> checkpoint_paths(net, Feed(8))
        ('0', '1', '2')
    """
    size = feed.asked or feed.sides(module) or ()
    trace = trace_module(module, size, in_chans=feed.in_chans, given=feed.given)
    schemes = Schemes(module, trace)
    sets = chain(schemes.first(), schemes.spread())
    paths = next((found for stages in sets if (found := _block_paths(stages))), ())
    if not paths:
        raise InputError(
            "The network has no blocks that are modules of their own, so that there is nothing to "
            "put checkpoints around. Leave --checkpointing out."
        )
    return paths


def _block_paths(stages: Iterable[Stage]) -> tuple[str, ...]:
    """Return the paths of blocks that are a single module each; none if any is not."""
    members = [stage.modules(block) for stage in stages for block in stage.blocks]
    if any(len(names) != 1 for names in members):
        return ()
    return tuple(join(stage.container, block) for stage in stages for block in stage.blocks)


def add_checkpoints(module: nn.Module, paths: Iterable[str], seen: Liveness) -> None:
    """Put a checkpoint around the forward pass of each block: it is run again backwards.

    Example:
        >>> from convscale.complexity.liveness import Whereabouts
        >>> net = nn.Sequential(nn.ReLU())
        >>> add_checkpoints(net, ["0"], Liveness(Whereabouts()))
        >>> net(torch.ones(1))
        tensor([1.])
    """
    for path in paths:
        block = module.get_submodule(path)
        vars(block)["forward"] = _checkpointed(block.forward, path, seen)


def _checkpointed(forward: Callable[..., Any], path: str, seen: Liveness) -> Callable[..., Any]:
    def body(*args: Any, **kwargs: Any) -> Any:
        with seen.where.inside(path, again=seen.phase == BACKWARD):
            return forward(*args, **kwargs)

    def outer(*args: Any, **kwargs: Any) -> Any:
        # a dense block goes on filling the list that it gives: what runs again must not see that
        taken = [list(value) if isinstance(value, list) else value for value in args]
        return checkpoint(body, *taken, use_reentrant=False, **kwargs)

    return outer
