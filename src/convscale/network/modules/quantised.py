"""Weights of quantised layers: packed in objects of PyTorch's, they are no parameters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn


def is_quantised(part: nn.Module) -> bool:
    """Tell whether a module itself holds weights packed.

    Example:
        >>> is_quantised(nn.Linear(2, 3))
        False
    """
    return any(map(_is_packed, vars(part).values()))


def _is_packed(value: object) -> bool:
    return isinstance(value, torch.ScriptObject) and hasattr(value, "unpack")


def unpacked(value: Any) -> tuple[torch.Tensor, torch.Tensor | None] | None:
    """Return the weight and the bias that a packed object holds, None for other values.

    Example:
        >>> unpacked(torch.zeros(1)) is None
        True
    """
    if not _is_packed(value):
        return None
    found = value.unpack()
    weight, bias = found if isinstance(found, tuple) and len(found) == 2 else (None, None)
    return (weight, bias) if isinstance(weight, torch.Tensor) else None


def packed_weight(values: Iterable[object]) -> torch.Tensor:
    """Return the weight of the one packed object among the arguments of an operator.

    Raises:
        StopIteration: If there is none.

    Example:
        >>> packed_weight([1])
        Traceback (most recent call last):
        StopIteration
    """
    return next(found[0] for found in map(unpacked, values) if found is not None)


def packed_elements(part: nn.Module) -> int:
    """Return how many elements of weights and biases a module itself holds packed.

    Example:
        >>> packed_elements(nn.Linear(2, 3))
        0
    """
    return sum(tensor.numel() for tensor in _packed(part))


def packed_bytes(part: nn.Module) -> int:
    """Return the bytes of the weights and biases that a module itself holds packed.

    Example:
        >>> packed_bytes(nn.Linear(2, 3))
        0
    """
    return sum(tensor.numel() * tensor.element_size() for tensor in _packed(part))


def _packed(part: nn.Module) -> Iterator[torch.Tensor]:
    held = (unpacked(value) for value in vars(part).values())
    tensors = (tensor for pair in held if pair is not None for tensor in pair)
    return (tensor for tensor in tensors if tensor is not None)
