"""Observe the conditions under which a measurement begins."""

from __future__ import annotations

import functools
import os
import platform
from datetime import UTC, datetime
from importlib import metadata

from convscale.runtime.devices import Device
from convscale.runtime.measurement import Conditions


def observe(device: Device, *, threads: int, subjects: int) -> Conditions:
    """Return the conditions that hold for all networks measured together now.

    The dtype and the memory format are each network's own and are filled in later.

    Example:
        >>> from convscale.runtime.devices import open_device
        >>> observe(open_device("cpu"), threads=1, subjects=2).interleaved_networks
        2
    """
    return Conditions(
        device=device.name,
        hardware=device.hardware,
        processors=_usable_processors(),
        dtype="",
        threads=threads,
        memory_format="",
        torch=_version("torch") or "",
        timm=_version("timm"),
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        load_average=load_average(),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        interleaved_networks=subjects,
        details=dict(device.details),
    )


def _usable_processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.cache
def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def load_average() -> float | None:
    """Return the machine's load over the last minute, None where the system does not tell it.

    Example:
        >>> (load_average() or 0) >= 0
        True
    """
    if not hasattr(os, "getloadavg"):
        return None
    return round(os.getloadavg()[0], 2)
