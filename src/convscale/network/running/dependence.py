"""Say what a network does that cannot follow from shapes alone, by how the meta device fails."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from pathlib import Path

import torch

_NUMBER = "takes a number out of a tensor, as .item() and an if on its values do"
_SEARCH = "asks which elements of a tensor are not zero, as nonzero() and an index by a mask do"
_VALUES = "reads the values of a tensor, as .tolist() and .cpu() do"

# What the meta device says -> what the network does. Without that, the operator's name.
_SIGNS = (
    (r"item\(\) cannot be called on meta tensors|_local_scalar_dense", _NUMBER),
    (r"nonzero\(\)|::nonzero", _SEARCH),
    (r"_unique", "asks which values a tensor has, as unique() does"),
    (r"convert meta device type tensor to numpy", "turns a tensor into an array of NumPy"),
    (r"Cannot copy out of meta tensor", _VALUES),
    (r"^([\w:]+)[\w.]*: (?:attempted to run this operator with Meta|We could not find)", None),
    (r"no fake impl registered for <\w+\(([\w:]+)\)>", None),
    (r"Could not run '([\w:]+)[\w.]*' with arguments from the", None),
)
_FOREIGN = str(Path(torch.__file__).parent)
_OURS = str(Path(__file__).parents[2])


def dependence(error: Exception) -> str | None:
    """Return what a module did that follows from the values of tensors; None where none shows.

    Example:
        >>> try:
        ...     bool(torch.zeros(1, device="meta").sum() > 0)
        ... except Exception as error:
        ...     print(dependence(error))
        takes a number out of a tensor, as .item() and an if on its values do
    """
    return next((does for _, does in _found(error) if does is not None), None)


def without_meta(error: Exception) -> str | None:
    """Return the operator that a module called and the meta device does not have, or None.

    Example:
        >>> without_meta(NotImplementedError("Could not run 'my::op' with arguments from the ..."))
        'my::op'
    """
    return next((found[1] for found, does in _found(error) if does is None), None)


def _found(error: Exception) -> Iterator[tuple[re.Match[str], str | None]]:
    """Yield the first sign in what a failure says."""
    if not isinstance(error, RuntimeError | TypeError):  # NotImplementedError is one
        return
    for sign, does in _SIGNS:
        found = re.search(sign, str(error))
        if found is not None:
            yield found, does
            return


def place(error: Exception) -> str | None:
    """Return the line of the network's code in which an error arose: net.py:12.

    Example:
        >>> place(ValueError("never raised")) is None
        True
    """
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        path = frame.f_code.co_filename
        if not path.startswith((_FOREIGN, _OURS, "<")):
            return f"{Path(path).name}:{line}"
    return None
