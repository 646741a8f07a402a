"""Write a file whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from convscale.errors import InputError


def write_whole(target: Path, content: str | bytes) -> Path:
    """Write a file beside its place and rename it, so that nobody meets half of it.

    Args:
        target: The file; folders above it are made, and an old file is replaced.
        content: Text, written as UTF-8 with its own line ends, or bytes.

    Raises:
        InputError: If nothing can be written there.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_whole(Path(folder, "new", "table.csv"), "a,b").read_text()
        'a,b'
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _replace(target, data)
    except OSError as error:
        raise InputError(f"Cannot write {target}: {error.strerror or error}.") from error
    return target


def _replace(target: Path, data: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    beside = Path(name)
    try:
        with open(handle, "wb") as stream:
            stream.write(data)
        beside.chmod(0o666 & ~_umask())
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
