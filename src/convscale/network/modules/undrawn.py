"""Build networks on the meta device without drawing weights, which have no values there."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

# What constructors change the values of weights by, and nothing else.
_DRAWS = frozenset("normal_ uniform_ erfinv_ clamp_ fill_ zero_".split())
_SCALES = frozenset("mul_ add_ div_ sub_".split())


class Undrawn(TorchFunctionMode):
    """Leave tensors on the meta device as they are where their values alone would change.

    PyTorch decomposes such operators there, which takes a millisecond for each.

    Example:
        >>> with Undrawn():
        ...     torch.nn.Linear(2, 3, device="meta").weight.shape
        torch.Size([3, 2])
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if args and (name in _DRAWS or (name in _SCALES and isinstance(args[-1], int | float))):
            tensor = args[0]
            if isinstance(tensor, torch.Tensor) and tensor.is_meta:
                return tensor
        return func(*args, **(kwargs or {}))
