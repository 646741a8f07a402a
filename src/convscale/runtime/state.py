"""Borrow a module and the process for measuring, and give both back as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn


@contextmanager
def undisturbed(module: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode, then restore each submodule's mode and buffers.

    Gradients and parameters are not touched: passes run in inference mode. A buffer that
    a forward pass changes, or replaces, gets its old values back.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Dropout(), nn.ReLU().eval())
        >>> with undisturbed(net):
        ...     [child.training for child in net]
        [False, False]
        >>> [child.training for child in net]
        [True, False]
    """
    training = {part: part.training for part in module.modules()}
    buffers = {part: _copies(part) for part in training if part._buffers}
    module.eval()
    try:
        yield
    finally:
        for part, flag in training.items():
            part.training = flag
        for part, kept in buffers.items():
            _put_back(part, kept)


def _copies(part: nn.Module) -> dict[str, tuple[torch.Tensor | None, torch.Tensor | None]]:
    return {
        name: (buffer, None if buffer is None else buffer.detach().clone())
        for name, buffer in part._buffers.items()
    }


def _put_back(
    part: nn.Module, kept: dict[str, tuple[torch.Tensor | None, torch.Tensor | None]]
) -> None:
    import torch

    for name, (buffer, values) in kept.items():
        part._buffers[name] = buffer
        if buffer is not None and values is not None and not torch.equal(buffer, values):
            with torch.no_grad():
                buffer.copy_(values)


@contextmanager
def process_threads(count: int) -> Iterator[int]:
    """Give torch this many threads in the process, and yield how many it has.

    Afterwards their number and the random state are as before.

    Example:
        >>> with process_threads(1) as threads:
        ...     threads
        1
    """
    import torch

    before = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        try:
            torch.set_num_threads(count)
            yield torch.get_num_threads()
        finally:
            torch.set_num_threads(before)
