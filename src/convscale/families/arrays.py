"""Arrays of numbers as users give them: read, or refused in a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from convscale.errors import InputError
from convscale.families.regnet import Floats, Ints

LARGEST = 2**62
_T = TypeVar("_T", bound=np.generic)


def spread(array: npt.NDArray[_T], shape: tuple[int, ...], what: str) -> npt.NDArray[_T]:
    """Broadcast an array to a shape.

    Raises:
        InputError: If it does not fit.

    Example:
        >>> spread(np.array([1, 2]), (3, 2), "widths").shape
        (3, 2)
    """
    try:
        return np.broadcast_to(array, shape)
    except ValueError as error:
        raise InputError(
            f"The {what} of candidates have the shape {array.shape}, which does not fit "
            f"{shape}, that of the depths."
        ) from error


def read_integers(values: npt.ArrayLike, what: str) -> Ints:
    """Read an array of integers.

    Raises:
        InputError: If it is none.

    Example:
        >>> read_integers([1, 2], "depths").tolist()
        [1, 2]
    """
    array = _array(values, what, None)
    if array.dtype.kind not in "iu":
        raise InputError(f"The {what} of candidates are {array.dtype}; they must be integers.")
    if (most := int(np.max(array, initial=1))) > LARGEST:
        raise InputError(f"The {what} of candidates reach {most}; they must fit 63 bits.")
    return array


def read_reals(values: npt.ArrayLike, what: str) -> Floats:
    """Read an array of numbers.

    Raises:
        InputError: If it is none.

    Example:
        >>> read_reals([1, 2], "multipliers").tolist()
        [1.0, 2.0]
    """
    return _array(values, what, np.float64)


def _array(values: npt.ArrayLike, what: str, dtype: Any) -> npt.NDArray[Any]:
    try:
        return np.asarray(values, dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"The {what} of candidates are no array of numbers: {error}.") from error


def kind_name(given: object) -> str:
    """Say what came in place of a description.

    Example:
        >>> kind_name(3), kind_name(None)
        ('an int', 'a NoneType')
    """
    name = type(given).__name__
    return f"an {name}" if name[:1].upper() in "AEIOU" else f"a {name}"


def distinct(columns: Sequence[Ints]) -> tuple[Ints, Ints]:
    """Return where each distinct row of some columns stands first, and for each row which it is.

    Example:
        >>> first, which = distinct([np.array([8, 8, 16, 8]), np.array([1, 2, 1, 1])])
        >>> first.tolist(), which.tolist()
        ([0, 1, 2], [0, 1, 2, 0])
    """
    key, above = np.zeros(len(columns[0]), np.int64), 1
    for column in columns:
        low, high = (int(end) for end in (column.min(initial=LARGEST), column.max(initial=0)))
        radix = max(1, high - low + 1)
        if above * radix > LARGEST:  # what came so far becomes small numbers
            key = np.unique(key, return_inverse=True)[1].astype(np.int64)
            above = len(key)
        if radix > 1:
            key = key * radix + (column - low)
            above *= radix
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    return first, inverse
