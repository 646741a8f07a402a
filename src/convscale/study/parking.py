"""Networks whose weights take memory only while they are measured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

# Smaller tensors keep their values: norms, biases, tables.
_SMALL = 4096


@dataclass(frozen=True)
class _Weight:
    """A parameter, and what is needed to draw values like its own."""

    tensor: torch.Tensor
    mean: float
    deviation: float


class Parked:
    """A module that lends its weights' memory to others while it is not in use.

    Parking frees the memory of every large parameter and keeps its mean and standard
    deviation. In use, it has normal values with these, with which a pass takes as long as
    with its own, unless the network decides by values what it computes. Small parameters
    and all buffers stay. The module is changed; give one that nobody else uses.

    Example:
        >>> import torch
        >>> net = torch.nn.Conv2d(64, 64, 3, bias=False)
        >>> parked = Parked(net, seed=0)
        >>> net.weight.untyped_storage().nbytes()
        0
        >>> with parked.in_use() as module:
        ...     abs(float(module.weight.detach().std()) / (1 / (64 * 27) ** 0.5) - 1) < 0.02
        True
    """

    def __init__(self, module: nn.Module, *, seed: int = 0) -> None:
        self.module = module
        self._seed = seed
        self._weights = [_described(tensor) for tensor in _large(module)]
        storages = [weight.tensor.untyped_storage() for weight in self._weights]
        self._storages = {storage.data_ptr(): (storage, storage.nbytes()) for storage in storages}
        self._free()

    @property
    def bytes(self) -> int:
        """What the weights take while the module is in use, beyond what it always takes."""
        return sum(size for _, size in self._storages.values())

    @contextmanager
    def in_use(self) -> Iterator[nn.Module]:
        """Give the module with weights, then free their memory and their gradients' again."""
        import torch

        for storage, size in self._storages.values():
            storage.resize_(size)
        generator = torch.Generator().manual_seed(self._seed)
        with torch.no_grad():
            for weight in self._weights:
                weight.tensor.normal_(weight.mean, weight.deviation, generator=generator)
        try:
            yield self.module
        finally:
            self._free()

    def _free(self) -> None:
        for parameter in self.module.parameters():
            parameter.grad = None
        for storage, _ in self._storages.values():
            storage.resize_(0)


def _large(module: nn.Module) -> Iterator[torch.Tensor]:
    """Yield the large parameters on the processor whose memory can be given back."""
    for parameter in module.parameters():
        storage = parameter.untyped_storage()
        plain = parameter.device.type == "cpu" and parameter.is_floating_point()
        if plain and parameter.numel() > _SMALL and storage.resizable():
            yield parameter


def _described(tensor: torch.Tensor) -> _Weight:
    import torch

    with torch.no_grad():
        variance, mean = torch.var_mean(tensor.detach().float(), correction=0)
    return _Weight(tensor, float(mean), float(variance) ** 0.5)
