"""Shapes of the inputs of a network that takes other than one image. No torch here."""

from __future__ import annotations

import math
from dataclasses import dataclass

from convscale.errors import InputError, near_names
from convscale.quantities import MOST_POSITIONS, check_count

DTYPES = (
    "float32",
    "float16",
    "bfloat16",
    "float64",
    "complex64",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint8",
    "bool",
)
_FORM = "Write 3x224x224, 10:int64, scalar:int64 or NAME=10:int64, without the axis of the batch"


@dataclass(frozen=True)
class InputSize:
    """One input of a forward pass: its sizes without the batch, its dtype, and its keyword.

    A dtype of None is the network's own floating one; with a name the input is a keyword argument.

    Example:
        >>> InputSize((10,), "int64").sizes
        (10,)
    """

    sizes: tuple[int, ...]
    dtype: str | None = None
    name: str | None = None


def parse_input_size(text: str) -> InputSize:
    """Read the size of an input: [NAME=]SIZES[:DTYPE], the sizes joined by x; scalar for none.

    Raises:
        InputError: If it is anything else, or a size is below 1.

    Example:
        >>> parse_input_size("3x224x224")
        InputSize(sizes=(3, 224, 224), dtype=None, name=None)
        >>> parse_input_size("steps=scalar:int64")
        InputSize(sizes=(), dtype='int64', name='steps')
    """
    rest, colon, dtype = text.strip().partition(":")
    name, equals, shape = rest.rpartition("=")
    if (equals and not name.isidentifier()) or (colon and not dtype):
        raise InputError(f"Cannot read {text!r} as the size of an input. {_FORM}.")
    if colon and dtype not in DTYPES:
        near = near_names(dtype, DTYPES)
        raise InputError(f"Unknown dtype {dtype!r} of an input.{near} Use {', '.join(DTYPES)}.")
    return InputSize(_sizes(shape, text), dtype or None, name or None)


def _sizes(shape: str, text: str) -> tuple[int, ...]:
    if shape == "scalar":
        return ()
    try:
        sizes = [int(part) for part in shape.lower().split("x")]
    except ValueError:
        raise InputError(f"Cannot read {text!r} as the size of an input. {_FORM}.") from None
    if math.prod(check_count(size, what="size of an input") for size in sizes) > MOST_POSITIONS:
        raise InputError(f"The input {text} has more than 2^48 elements. Write smaller sizes.")
    return tuple(sizes)


def parse_input_sizes(texts: list[str] | None) -> tuple[InputSize, ...] | None:
    """Read the sizes of all inputs; None where none was given.

    Raises:
        InputError: If one cannot be read, or a keyword is given twice.

    Example:
        >>> [size.sizes for size in parse_input_sizes(["3x32x32", "10:int64"])]
        [(3, 32, 32), (10,)]
    """
    if not texts:
        return None
    found = tuple(parse_input_size(text) for text in texts)
    named = [size.name for size in found if size.name]
    twice = next((name for name in named if named.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"The input {twice!r} is given twice. Give each keyword once.")
    return found
