"""Integers inside of what attributes hold: lists, dictionaries, plain objects, nested at will.

A width is often kept in a configuration: `self.cfg["width"]`, `self.args.widths[2]`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from enum import Enum
from typing import Any

import torch
from torch import nn

Keys = tuple[int | str, ...]
_LISTS: tuple[type, ...] = (list, tuple)
_DICTS: tuple[type, ...] = (dict, OrderedDict)
_DEPTH = 4  # of nesting: deeper, and a structure is data rather than a configuration
_LENGTH = 256  # of a list, likewise
_FOREIGN = ("torch", "torchvision", "numpy", "builtins", "collections", "functools", "typing")


def replaced(value: Any, new: Callable[[int, Keys], int], keys: Keys = ()) -> Any:
    """Replace the integers in a container of our own; return it, or another where it is a tuple.

    Args:
        value: What an attribute holds.
        new: Gives the replacement of an integer, which keys lead to.
        keys: What leads to the value.

    Example:
        >>> replaced({"widths": [8, (16, "s")]}, lambda n, keys: n + len(keys))
        {'widths': [10, (19, 's')]}
    """
    if type(value) is int:
        return new(value, keys)
    if len(keys) >= _DEPTH:
        return value
    if type(value) in _LISTS:
        if len(value) > _LENGTH:
            return value
        entries = [replaced(entry, new, (*keys, i)) for i, entry in enumerate(value)]
        if all(entry is old for entry, old in zip(entries, value, strict=True)):
            return value
        if type(value) is tuple:
            return tuple(entries)
        value[:] = entries
    elif (held := _held(value)) is not None:
        for key, entry in list(held.items()):
            if type(key) is str and not key.startswith("_"):
                held[key] = replaced(entry, new, (*keys, key))
    return value


def with_entry(value: Any, keys: Keys, new: Any) -> Any:
    """Write an entry that keys lead to; return the container, another where it is a tuple.

    Example:
        >>> with_entry([(8, 16), 4], (0, 1), 24)
        [(8, 24), 4]
    """
    if not keys:
        return new
    held: Any = value if type(value) in _LISTS else _held(value)
    entry = with_entry(held[keys[0]], keys[1:], new)
    if type(value) is tuple:
        at = int(keys[0])
        return (*value[:at], entry, *value[at + 1 :])
    held[keys[0]] = entry
    return value


def _held(value: Any) -> dict[str, Any] | None:
    """Return what a dictionary or a plain object holds by name; None of anything else."""
    if type(value) in _DICTS:
        return value  # type: ignore[no-any-return]
    kind = type(value)
    ours = kind.__module__.partition(".")[0] not in _FOREIGN
    plain = not isinstance(value, nn.Module | torch.Tensor | Enum | type) and not callable(value)
    return vars(value) if ours and plain and hasattr(value, "__dict__") else None
