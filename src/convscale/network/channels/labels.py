"""Labels: which unit of which axis of which parameter an element of a tensor belongs to.

A *unit* is one index along one axis of a parameter, a buffer or the input: output channel 7 of
a convolution's weight, say. A *label* of a tensor is an integer array that broadcasts to the
tensor's shape and holds the unit of every element; it has size 1 along the dimensions on which
the unit does not depend. A feature map has one label, along its channels; a weight has one for
each of its axes. Reshaping, slicing or joining tensors does the same to their labels, so a label
says after any number of operations where each channel came from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Label = npt.NDArray[np.int64]
Labels = tuple[Label, ...]


def varying(label: Label) -> frozenset[int]:
    """Return the dimensions along which a label varies.

    Example:
        >>> sorted(varying(np.arange(6).reshape(1, 6, 1)))
        [1]
    """
    return _longer_than_one(label.shape)


@lru_cache(maxsize=1 << 16)
def _longer_than_one(shape: tuple[int, ...]) -> frozenset[int]:
    return frozenset(dim for dim, size in enumerate(shape) if size > 1)


def distinct(label: Label) -> Label:
    """Return the units that stand in a label, each once and in order.

    `numpy.unique` says the same; of versions that find it by a table of hashes it takes many
    times as long.

    Example:
        >>> distinct(np.array([[3, 1], [1, 3]]))
        array([1, 3])
    """
    units = np.sort(label, axis=None)
    first = np.ones(units.size, dtype=np.bool_)
    np.not_equal(units[1:], units[:-1], out=first[1:])
    found: Label = units[first]
    return found


def compressed(label: Label) -> Label:
    """Shrink to size 1 the dimensions along which a label is constant.

    Example:
        >>> compressed(np.broadcast_to(np.arange(3)[:, None], (3, 5))).shape
        (3, 1)
    """
    spread = tuple(slice(None if stride else 1) for stride in label.strides)
    label = label[spread]  # broadcast dimensions first: comparing is left for few elements then
    for dim, size in enumerate(label.shape):
        if size > 1:
            before = (slice(None),) * dim
            first, last = label[(*before, slice(1))], label[(*before, slice(-1, None))]
            if bool((first == last).all()) and bool((label == first).all()):
                label = first
    return label


def aligned(label: Label, ndim: int) -> Label:
    """Prepend dimensions of size 1, as broadcasting does.

    Example:
        >>> aligned(np.arange(3), 2).shape
        (1, 3)
    """
    return label.reshape((1,) * (ndim - label.ndim) + label.shape)


def along(label: Label, dim: int) -> Label | None:
    """Return the units along one dimension as a vector, if the label varies there only.

    Example:
        >>> along(np.arange(3).reshape(1, 3, 1), 1)
        array([0, 1, 2])
    """
    return label.reshape(-1) if varying(label) == {dim} else None


def find_along(labels: Labels, dim: int, size: int) -> Label | None:
    """Return the units of the first label that varies along one dimension only, or None.

    Example:
        >>> find_along((np.arange(3).reshape(1, 3),), 1, 3)
        array([0, 1, 2])
    """
    for label in labels:
        units = along(label, dim)
        if units is not None and len(units) == size:
            return units
    return None


def vector(units: Label, dim: int, ndim: int) -> Label:
    """Lay units along one dimension of a label.

    Example:
        >>> vector(np.arange(3), 1, 4).shape
        (1, 3, 1, 1)
    """
    shape = [1] * ndim
    shape[dim] = len(units)
    return units.reshape(shape)


def reshaped(label: Label, old: Sequence[int], new: Sequence[int]) -> Label:
    """Follow a tensor from one shape to another with the same elements in the same order.

    Only the groups of dimensions on which the label depends are expanded.

    Example:
        >>> channels = np.arange(4).reshape(1, 4, 1, 1)
        >>> reshaped(channels, (1, 4, 7, 7), (1, 2, 2, 49)).shape
        (1, 2, 2, 1)
    """
    depends = varying(label)
    expanded, target = list(label.shape), []
    for old_dims, new_dims in _groups(old, new):
        touched = bool(depends.intersection(old_dims))
        for dim in old_dims:
            expanded[dim] = old[dim] if touched else 1
        target += [new[dim] if touched else 1 for dim in new_dims]
    return compressed(np.broadcast_to(label, expanded).reshape(target))


def _groups(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Match runs of old and new dimensions with the same number of elements."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        left: list[int] = []
        right: list[int] = []
        left_size = right_size = 1
        while not (left or right) or left_size != right_size:
            if (left_size <= right_size and i < len(old)) or j >= len(new):
                left_size *= old[i]
                left.append(i)
                i += 1
            else:
                right_size *= new[j]
                right.append(j)
                j += 1
        groups.append((left, right))
    return groups


def viewed(
    label: Label, shape: Sequence[int], operation: Callable[[torch.Tensor], Any]
) -> list[Label]:
    """Apply a structural operation to a label as it was applied to the tensor.

    Args:
        label: The label of the tensor.
        shape: The shape of the tensor.
        operation: What was done to the tensor: a slice, a permutation, a split…

    Returns:
        The label of each output.

    Example:
        >>> halves = viewed(np.arange(4), (4,), lambda tensor: tensor.chunk(2))
        >>> halves[1]
        array([2, 3])
    """
    tensor = torch.from_numpy(np.array(label)).expand(tuple(shape))
    outputs = operation(tensor)
    if isinstance(outputs, torch.Tensor):
        outputs = (outputs,)
    return [compressed(output.numpy()) for output in outputs]
