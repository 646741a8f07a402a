"""Workloads of timm's networks, recorded once and kept in the user's cache."""

from __future__ import annotations

import contextlib
import hashlib
import os
import zipfile
import zlib
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convscale.complexity.calls import CONVOLUTIONS, KINDS, LINEAR
from convscale.prediction.flow import Flow
from convscale.prediction.workload import QUANTITIES, Workload, workload

if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDER = "CONVSCALE_CACHE"
_FORMAT = 4  # raised when a workload holds other things


@dataclass(frozen=True)
class Record:
    """What a network of timm's runs at a resolution.

    Args:
        family: The name of timm's module that defines it.
        params: Its parameters.
        work: The operators of one image.
    """

    family: str
    params: int
    work: Workload

    @property
    def convolutional(self) -> bool:
        """Whether half of the multiply-adds are convolutions', or all others linear layers'.

        Linear layers are pointwise convolutions, where no matrices are multiplied that are
        computed.

        Example:
            >>> from convscale.complexity.calls import OperatorCall
            >>> call = OperatorCall("a", "aten.convolution", "convolution kxk", flops=8)
            >>> Record("nets", 1, workload([call])).convolutional
            True
        """
        flops = dict.fromkeys(KINDS, 0.0)
        for kind, own in zip(self.work.kind, self.work.flops * self.work.repeats, strict=True):
            flops[KINDS[kind]] += float(own)
        own = sum(flops[kind] for kind in CONVOLUTIONS)
        others = {kind for kind, each in flops.items() if each} - {*CONVOLUTIONS, LINEAR}
        return own > 0 and (not others or own >= 0.5 * sum(flops.values()))


def cache_folder() -> Path:
    """Return the folder of recorded workloads: CONVSCALE_CACHE, or one in the user's cache.

    Example:
        >>> cache_folder().name
        'workloads'
    """
    given = os.environ.get(FOLDER, "")
    if given.strip():
        return Path(given).expanduser() / "workloads"
    cache = os.environ.get("XDG_CACHE_HOME", "")
    home = Path(cache) if os.path.isabs(cache) else Path.home() / ".cache"
    return home / "convscale" / "workloads"


def record_of(architecture: str, resolution: int) -> Record:
    """Return what a network of timm's runs at a resolution, from the cache where it is there.

    Raises:
        InputError: If it cannot be made or run at that size.

    Example:
        >>> import os, tempfile
        >>> from unittest import mock
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with mock.patch.dict(os.environ, {"CONVSCALE_CACHE": folder}):
        ...         first, again = (record_of("resnet18", 64) for _ in range(2))
        >>> first.family, first.params == again.params, first.work.operators
        ('resnet', True, 68)
    """
    path = _path(architecture, resolution)
    found = _read(path)
    if found is None:
        found = _recorded(architecture, resolution)
        _write(found, path)
    return found


def is_recorded(architecture: str, resolution: int) -> bool:
    """Tell whether the cache has a network at a resolution.

    Example:
        >>> is_recorded("no_such_net", 224)
        False
    """
    return _path(architecture, resolution).is_file()


def _path(architecture: str, resolution: int) -> Path:
    return cache_folder() / f"{architecture}@{resolution}-{_versions()}.npz"


def _recorded(architecture: str, resolution: int) -> Record:
    import timm

    from convscale.complexity.operators import record_network
    from convscale.network import resolve_base

    network = resolve_base(f"timm:{architecture}")
    # an element is a byte
    operators = record_network(network, resolution=resolution, dtype="float8", autocast=True)
    family = timm.models.model_entrypoint(architecture).__module__.rsplit(".", 1)[-1]
    return Record(family, operators.params, workload(operators.calls))


@cache
def _versions() -> str:
    """Return a short name of all versions that a record depends on."""
    from importlib.metadata import version

    parts = [f"{name} {version(name)}" for name in ("torch", "timm", "convscale")]
    return hashlib.sha256(f"{_FORMAT} {parts}".encode()).hexdigest()[:12]


def _write(record: Record, path: Path) -> None:
    """Write a record whole or not at all; without a place to write, it is made anew next time."""
    work, flow = record.work, record.work.flow
    arrays: dict[str, Any] = {name: getattr(work, name) for name in ("kind", *QUANTITIES)}
    arrays |= {"family": np.array(record.family), "params": np.array(record.params)}
    arrays["readers"] = np.array([len(own) for own in work.sources], dtype=np.intp)
    arrays["writers"] = np.array([one for own in work.sources for one in own], dtype=np.intp)
    if flow is not None:
        arrays["names"] = np.array(flow.names, dtype=np.str_)
        arrays |= {f"flow_{entry.name}": getattr(flow, entry.name) for entry in fields(flow)[1:]}
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            np.savez_compressed(file, **arrays)
        beside.replace(path)
    except OSError:  # a cache is a help: what is asked for is at hand all the same
        with contextlib.suppress(OSError):
            beside.unlink()


def _read(path: Path) -> Record | None:
    """Return a record; None where there is none, or its file is damaged and is made anew."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return _record({name: arrays[name] for name in arrays.files})
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error):
        return None


def _record(arrays: Mapping[str, Any]) -> Record:
    ends = np.cumsum(arrays["readers"])
    sources = tuple(
        tuple(map(int, own)) for own in np.split(arrays["writers"], ends[:-1]) if len(ends)
    )
    held = [arrays[f"flow_{entry.name}"] for entry in fields(Flow)[1:]]
    work = Workload(
        **{name: arrays[name] for name in ("kind", *QUANTITIES)},
        sources=sources,
        flow=Flow(tuple(map(str, arrays["names"])), *held),
    )
    return Record(str(arrays["family"]), int(arrays["params"]), work)
