"""The devices that can be timed, behind one small interface."""

from __future__ import annotations

import itertools
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from convscale.errors import InputError

if TYPE_CHECKING:
    import torch


class MemoryCounter(Protocol):
    """What a device's allocator tells about its memory, in bytes."""

    def memory_allocated(self) -> int:
        """Return the bytes that tensors hold now."""

    def max_memory_allocated(self) -> int:
        """Return the most bytes that tensors held since the last reset."""

    def reset_peak_memory_stats(self) -> None:
        """Start a new peak."""


class Event(Protocol):
    """A moment on the device's own clock."""

    def record(self) -> None:
        """Ask the device to note the moment when all work before it is done."""

    def seconds_until(self, later: Event) -> float:
        """Return the seconds from this moment to a later one; both have come."""


@dataclass(frozen=True)
class PartTime:
    """The time of one part of a pass: the device's own where it has a clock, else wall time.

    Example:
        >>> PartTime(0.02, None).seconds
        0.02
    """

    seconds: float
    processor_s: float | None


@dataclass(frozen=True)
class Pass:
    """The cost of one pass; None where the device cannot tell.

    memory_bytes is what the pass held at its peak on top of what was held before. device_s is
    the time between two events of the device. parts are in the order of the work.

    Example:
        >>> Pass(wall_s=0.02, processor_s=0.04, memory_bytes=None).processor_s
        0.04
    """

    wall_s: float
    processor_s: float | None
    memory_bytes: int | None
    device_s: float | None = None
    parts: tuple[PartTime, ...] = ()


def _nothing() -> None:
    """Wait for nothing: the processor has finished when the call returns."""


@dataclass(frozen=True)
class Device:
    """A device and how to time it.

    synchronize waits until the device has finished; memory is its allocator's counter, and
    event makes an event on its clock, None where it has none.

    Example:
        >>> timed = open_device("cpu").time(lambda: sum(range(1000)))
        >>> timed.wall_s > 0, timed.memory_bytes
        (True, None)
    """

    name: str
    hardware: str
    synchronize: Callable[[], object] = _nothing
    counts_processor_time: bool = False
    memory: MemoryCounter | None = None
    details: dict[str, object] = field(default_factory=dict)
    event: Callable[[], Event] | None = None

    @property
    def kind(self) -> str:
        """The name without its index: cpu, cuda or mps."""
        return self.name.partition(":")[0]

    def time(self, *work: Callable[[], object]) -> Pass:
        """Run the parts of a pass once, from an idle device until the device is idle again.

        With several parts, the time at their borders is noted: by events where the device has
        them, which do not make it wait, else once the device is idle.
        """
        self.synchronize()
        held = self._start_peak()
        moments = [] if self.event is None else [self.event() for _ in range(len(work) + 1)]
        clocks = [_clock()]
        if moments:
            moments[0].record()
        for index, part in enumerate(work, start=1):
            part()
            if moments:
                moments[index].record()
            if index == len(work) or not moments:
                self.synchronize()
            clocks.append(_clock())
        peak = None if self.memory is None else self.memory.max_memory_allocated() - held
        return self._pass(clocks, moments, peak)

    def _pass(
        self, clocks: list[tuple[float, float]], moments: list[Event], peak: int | None
    ) -> Pass:
        wall = [later[0] - now[0] for now, later in itertools.pairwise(clocks)]
        ran = [later[1] - now[1] for now, later in itertools.pairwise(clocks)]
        own = [now.seconds_until(later) for now, later in itertools.pairwise(moments)]
        parts = (
            PartTime(seconds, each if self.counts_processor_time else None)
            for seconds, each in zip(own or wall, ran, strict=True)
        )
        return Pass(
            clocks[-1][0] - clocks[0][0],
            clocks[-1][1] - clocks[0][1] if self.counts_processor_time else None,
            peak,
            device_s=sum(own) if own else None,
            parts=tuple(parts) if len(wall) > 1 else (),
        )

    def _start_peak(self) -> int:
        if self.memory is None:
            return 0
        self.memory.reset_peak_memory_stats()
        return self.memory.memory_allocated()


def _clock() -> tuple[float, float]:
    """Return wall time and processor time."""
    return time.perf_counter(), time.process_time()


def open_device(name: str) -> Device:
    """Find a device by name: cpu, cuda, cuda:1 or mps.

    Raises:
        InputError: If the name is no device, or this machine has no such device.

    Example:
        >>> open_device("cpu").counts_processor_time
        True
    """
    kind, _, index = name.partition(":")
    opener = _OPENERS.get(kind)
    if opener is None or (":" in name and not index.isdecimal()):
        raise InputError(f"Unknown device {name!r}. Use cpu, cuda, cuda:1 (the second) or mps.")
    return opener(int(index or 0))


def _open_cpu(index: int) -> Device:
    if index:
        raise _absent(f"cpu:{index}")
    return Device("cpu", _processor_name(), counts_processor_time=True)


def _open_cuda(index: int) -> Device:
    import torch

    if not torch.cuda.is_available() or index >= torch.cuda.device_count():
        raise _absent(f"cuda:{index}" if index else "cuda")
    device = torch.device("cuda", index)
    details: dict[str, object] = {
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "tf32_convolutions": torch.backends.cudnn.allow_tf32,
        "tf32_products": torch.backends.cuda.matmul.allow_tf32,
    }
    return Device(
        f"cuda:{index}",
        torch.cuda.get_device_name(device),
        synchronize=lambda: torch.cuda.synchronize(device),
        memory=_CudaMemory(device),
        details=details,
        event=lambda: _CudaEvent(device),
    )


def _open_mps(index: int) -> Device:
    import torch

    if index or not torch.backends.mps.is_available():
        raise _absent(f"mps:{index}" if index else "mps")
    return Device("mps", platform.machine(), synchronize=torch.mps.synchronize)


_OPENERS: dict[str, Callable[[int], Device]] = {
    "cpu": _open_cpu,
    "cuda": _open_cuda,
    "mps": _open_mps,
}


@dataclass(frozen=True)
class _CudaMemory:
    device: torch.device

    def memory_allocated(self) -> int:
        import torch

        return torch.cuda.memory_allocated(self.device)

    def max_memory_allocated(self) -> int:
        import torch

        return torch.cuda.max_memory_allocated(self.device)

    def reset_peak_memory_stats(self) -> None:
        import torch

        torch.cuda.reset_peak_memory_stats(self.device)


class _CudaEvent:
    """An event on the current stream of a device."""

    def __init__(self, device: torch.device) -> None:
        import torch

        self._device = device
        self._event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]

    def record(self) -> None:
        import torch

        self._event.record(torch.cuda.current_stream(self._device))

    def seconds_until(self, later: Event) -> float:
        assert isinstance(later, _CudaEvent)
        return float(self._event.elapsed_time(later._event)) / 1e3


def _absent(name: str) -> InputError:
    return InputError(f"The device {name} is not available on this machine. Use cpu.")


def _processor_name() -> str:
    """Return the processor's name as the system tells it, or its architecture."""
    described = Path("/proc/cpuinfo")
    if described.is_file() and os.access(described, os.R_OK):
        for line in described.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return value.strip()
    return platform.processor() or platform.machine()
