"""The IDX format of MNIST and its relatives: bytes with their shape in front, perhaps gzipped.

A file is 0, 0, a code of the type (8: bytes without sign), the number of dimensions, each
dimension as four bytes, the highest first, and the values row by row.
"""

from __future__ import annotations

import gzip
import zlib
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convscale.errors import InputError

if TYPE_CHECKING:
    import numpy as np

_BYTES = 0x08
_MOST_BYTES = 2**32


def read_idx(path: Path, *, dims: int) -> np.ndarray[Any, Any]:
    r"""Read an IDX file of bytes.

    Args:
        path: The file; gzipped where its first bytes say so.
        dims: How many dimensions it must have: 3 for images, 1 for labels.

    Raises:
        InputError: If it cannot be read, is cut off, or holds something else.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "labels")
        ...     _ = file.write_bytes(b"\0\0\x08\x01" + b"\0\0\0\x02" + b"\x07\x09")
        ...     read_idx(file, dims=1).tolist()
        [7, 9]
    """
    import numpy as np

    data = _content(path)
    if len(data) < 4 or data[:3] != bytes((0, 0, _BYTES)):
        begins = f"begins with {data[:4].hex()}" if data else "is empty"
        raise InputError(f"{path} is no IDX file of bytes: it {begins}.")
    start = 4 + 4 * data[3]
    shape = tuple(int.from_bytes(data[at : at + 4], "big") for at in range(4, start, 4))
    if data[3] != dims or len(data) < start:
        raise InputError(f"{path} has {data[3]} dimensions; here an IDX file of {dims} is needed.")
    if len(data) != start + prod(shape):
        raise InputError(
            f"{path} holds {len(data) - start} bytes of values; its shape "
            f"{'x'.join(map(str, shape))} needs {prod(shape)}. It is cut off or damaged."
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def find_idx(folder: Path, name: str) -> Path | None:
    """Return the IDX file of a name in a folder, gzipped or not; also as train-images.idx3-ubyte.

    Example:
        >>> find_idx(Path("no such folder"), "train-images-idx3-ubyte") is None
        True
    """
    forms = (name, name.replace("-idx", ".idx"))
    paths = (folder / f"{form}{end}" for form in forms for end in ("", ".gz"))
    return next((path for path in paths if path.is_file()), None)


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        if not packed:
            return path.read_bytes()
        with gzip.open(path) as unpacked:
            return unpacked.read(_MOST_BYTES)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path} is cut off or damaged: {error}.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
