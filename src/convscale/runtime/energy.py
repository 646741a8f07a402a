"""Joules that a device has taken, where something counts them: NVML, or RAPL on Linux."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from convscale.runtime.devices import Device

_POWERCAP = Path("/sys/class/powercap")
_MICRO, _MILLI = 1e-6, 1e-3


@dataclass(frozen=True)
class Meter:
    """Counters of joules, their name, and the value at which each starts again from 0, if any.

    Example:
        >>> Meter("made up", lambda: (3.0,)).between((1.0,), (3.0,))
        2.0
        >>> Meter("made up", lambda: (1.0,), wraps_at=(10.0,)).between((9.0,), (1.0,))
        2.0
    """

    name: str
    read: Callable[[], tuple[float, ...]]
    wraps_at: tuple[float, ...] = ()

    def between(self, before: tuple[float, ...], after: tuple[float, ...]) -> float:
        """Return the joules between two readings; a counter may have wrapped once."""
        wraps = self.wraps_at or (0.0,) * len(before)
        return sum(
            late - early if late >= early else late - early + wrap
            for early, late, wrap in zip(before, after, wraps, strict=True)
        )


def meter(device: Device, *, powercap: Path = _POWERCAP) -> Meter | None:
    """Find what counts the energy of a device; None where nothing can be read.

    RAPL counts whole processor packages, with all that runs on them.

    Example:
        >>> from convscale.runtime import open_device
        >>> meter(open_device("cpu"), powercap=Path("no-such-folder")) is None
        True
    """
    if device.kind == "cuda":
        return _nvml(int(device.name.partition(":")[2] or 0))
    return _rapl(powercap) if device.kind == "cpu" else None


def _rapl(powercap: Path) -> Meter | None:
    """Sum the packages: intel-rapl:0, intel-rapl:1 and so on, without the zones inside them."""
    zones = sorted(powercap.glob("intel-rapl:*")) if powercap.is_dir() else []
    packages = [zone for zone in zones if zone.name.count(":") == 1]
    counters = [zone / "energy_uj" for zone in packages]
    if not counters or not all(os.access(counter, os.R_OK) for counter in counters):
        return None
    wraps_at = tuple(_MICRO * _number(zone / "max_energy_range_uj") for zone in packages)
    return Meter("RAPL", lambda: tuple(_MICRO * _number(each) for each in counters), wraps_at)


def _number(file: Path) -> int:
    return int(file.read_text())


def _nvml(index: int) -> Meter | None:
    """Read the energy counter of an NVIDIA device (Volta and later)."""
    if importlib.util.find_spec("pynvml") is None:
        return None
    import pynvml
    import torch

    try:
        pynvml.nvmlInit()
        # Indices of NVML are not those of CUDA where some devices are hidden.
        identity = f"GPU-{torch.cuda.get_device_properties(index).uuid}"
        handle = pynvml.nvmlDeviceGetHandleByUUID(identity)
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError:
        return None
    return Meter(
        "NVML", lambda: (_MILLI * float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)),)
    )
