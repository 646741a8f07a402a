"""Borrow a module and the process for measuring, and give both back as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

_CUDNN_FLAGS = ("benchmark", "deterministic", "allow_tf32", "enabled")


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
def process_state(threads: int, device: str = "cpu") -> Iterator[int]:
    """Give torch this many threads in the process, and yield how many it has.

    Afterwards their number, the random states of processor and device, the default dtype and
    the flags of cuDNN are as before.

    Example:
        >>> with process_state(1) as threads:
        ...     threads
        1
    """
    import torch

    before, dtype = torch.get_num_threads(), torch.get_default_dtype()
    flags = {name: getattr(torch.backends.cudnn, name) for name in _CUDNN_FLAGS}
    kind, _, index = device.partition(":")
    devices = [int(index or 0)] if kind == "cuda" else []
    # fork_rng asks a device for its state by index, which MPS does not take.
    drawn = torch.mps.get_rng_state() if kind == "mps" else None
    with torch.random.fork_rng(devices=devices):
        try:
            torch.set_num_threads(threads)
            yield torch.get_num_threads()
        finally:
            torch.set_num_threads(before)
            if drawn is not None:
                torch.mps.set_rng_state(drawn)
            torch.set_default_dtype(dtype)
            for name, value in flags.items():
                if getattr(torch.backends.cudnn, name) != value:
                    setattr(torch.backends.cudnn, name, value)
