"""Checkpoints in a folder: each whole or not there, the last two kept, none a pickle.

A checkpoint is a folder `checkpoint-00003` with tensors in safetensors files and `state.json`,
which holds all else and the size and hash of every file. It is written beside its place, brought
to the disk and renamed; reading takes the newest that is complete, and the next one written takes
the place of those that were not.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from convscale.errors import ConvscaleError, InputError

KEPT = 2
_VALUES, _VERSION, _PART = "state.json", 1, ".part"
_NAME = re.compile(r"checkpoint-(\d+)$")
Warn = Callable[[str], None]


class CheckpointError(ConvscaleError):
    """Say that a checkpoint cannot be written, and which is the last good one."""


@dataclass(frozen=True)
class Checkpoint:
    """What a run needs to go on: files of tensors by name, and values that JSON holds.

    `number` counts the checkpoints of a run from 1.

    Example:
        >>> Checkpoint(number=4, files={}, values={"update": 40}).values["update"]
        40
    """

    number: int
    files: Mapping[str, bytes] = field(repr=False)
    values: Mapping[str, Any] = field(repr=False)

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"checkpoint-{self.number:05d}"


def write_checkpoint(folder: Path, found: Checkpoint) -> Path:
    """Write a checkpoint to a folder of checkpoints and drop all but the last two.

    Raises:
        CheckpointError: If it cannot be written; those that were there are still there.

    Example:
        >>> import tempfile
        >>> place = Path(tempfile.mkdtemp())
        >>> for number in (1, 2, 3):
        ...     path = write_checkpoint(place, Checkpoint(number, {"model": b"..."}, {}))
        >>> sorted(path.name for path in place.iterdir())
        ['checkpoint-00002', 'checkpoint-00003']
    """
    target = folder / found.name
    partial = folder / f".{target.name}{_PART}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _clear(folder)
        partial.mkdir()
        for name, data in found.files.items():
            _write(partial / name, data)
        _write(partial / _VALUES, _description(found))
        _settle(partial)
        _replace(partial, target)
        _settle(folder)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)  # a full disk has room again
        raise CheckpointError(_unwritten(folder, target, error)) from error
    for path in _checkpoints(folder):
        if not found.number - KEPT < _number(path) <= found.number:
            shutil.rmtree(path, ignore_errors=True)  # what remains of it is known as incomplete
    return target


def read_checkpoint(folder: Path, *, warn: Warn) -> Checkpoint | None:
    """Return the newest complete checkpoint, None where there is none.

    Args:
        folder: The folder of checkpoints.
        warn: Takes a line on each checkpoint that is passed over, and why.

    Raises:
        InputError: If there are checkpoints and none of them is complete.

    Example:
        >>> import tempfile
        >>> place = Path(tempfile.mkdtemp())
        >>> read_checkpoint(place, warn=print)
        >>> _ = write_checkpoint(place, Checkpoint(1, {"model": b"abc"}, {"loss": 0.5}))
        >>> newest = write_checkpoint(place, Checkpoint(2, {"model": b"def"}, {"loss": 0.4}))
        >>> _ = (newest / "model").write_bytes(b"d")
        >>> read_checkpoint(place, warn=lambda line: print(line.split(": ", 1)[1])).number
        model has 1 of its 3 bytes. The one before it is taken.
        1
    """
    problems = []
    for path in _checkpoints(folder):
        try:
            found = _read(path)
        except _IncompleteError as error:
            problems.append(f"The checkpoint {path} is not complete: {error}.")
            continue
        for problem in problems:
            warn(f"{problem} The one before it is taken.")
        return found
    if problems:
        raise InputError(
            f"{' '.join(problems)} No checkpoint is left to go on from: remove {folder} to begin "
            "anew."
        )
    return None


def last_checkpoint(folder: Path) -> Path | None:
    """Return the folder of the newest checkpoint that is complete.

    Example:
        >>> last_checkpoint(Path("no such folder"))
    """
    return next((path for path in _checkpoints(folder) if _is_complete(path)), None)


class _IncompleteError(Exception):
    """A checkpoint lacks something that it says it has."""


def _is_complete(path: Path) -> bool:
    try:
        _read(path)
    except _IncompleteError:
        return False
    return True


def _checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, the newest first."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if _NAME.match(path.name)]
    return sorted(found, key=_number, reverse=True)


def _number(path: Path) -> int:
    return int(path.name.rpartition("-")[2])


def _clear(folder: Path) -> None:
    """Remove what a killed process left half-written."""
    for path in folder.glob(f".checkpoint-*{_PART}"):
        shutil.rmtree(path)


def _description(found: Checkpoint) -> bytes:
    body = {
        "schema_version": _VERSION,
        "number": found.number,
        "files": {
            name: {"bytes": len(data), "sha256": _hash(data)} for name, data in found.files.items()
        },
        "values": found.values,
    }
    text = json.dumps(body, ensure_ascii=False)
    return json.dumps({"sha256": _hash(text.encode()), "state": text}, ensure_ascii=False).encode()


def _read(path: Path) -> Checkpoint:
    try:
        outer = json.loads((path / _VALUES).read_bytes())
        text = outer["state"]
        if _hash(text.encode()) != outer["sha256"]:
            raise _IncompleteError(f"{_VALUES} has changed since it was written")
        body = json.loads(text)
        if body["schema_version"] != _VERSION:
            raise _IncompleteError(f"{_VALUES} is not of schema version {_VERSION}")
        if not isinstance(body["values"], dict):
            raise TypeError("the values have no names")
        files = {name: _read_file(path / name, entry) for name, entry in body["files"].items()}
        return Checkpoint(int(body["number"]), files, body["values"])
    except OSError as error:
        raise _IncompleteError(f"{_name_of(error)}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _IncompleteError(f"{_VALUES} cannot be read") from error


def _read_file(path: Path, entry: Mapping[str, Any]) -> bytes:
    data = path.read_bytes()
    if len(data) != entry["bytes"]:
        raise _IncompleteError(f"{path.name} has {len(data)} of its {entry['bytes']} bytes")
    if _hash(data) != entry["sha256"]:
        raise _IncompleteError(f"{path.name} has changed since it was written")
    return data


def _name_of(error: OSError) -> str:
    return Path(str(error.filename)).name


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _replace(partial: Path, target: Path) -> None:
    """Give a written folder its name; what stood there was of an earlier, broken try."""
    if target.is_dir():
        shutil.rmtree(target)
    target.unlink(missing_ok=True)
    os.rename(partial, target)


def _settle(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the system opens folders."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unwritten(folder: Path, target: Path, error: OSError) -> str:
    last = last_checkpoint(folder)
    good = (
        f"The last good one is {last}: make room and start the same command again to go on from it."
        if last
        else "There is none before it: make room and start the same command again."
    )
    return f"Cannot write the checkpoint {target}: {error.strerror or error}. {good}"
