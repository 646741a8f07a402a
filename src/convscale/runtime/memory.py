"""The memory that a pass takes on the processor, and what the machine has left."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_LOG_LEVEL = "KINETO_LOG_LEVEL"


@dataclass(frozen=True)
class Allocations:
    """What a piece of work allocated, in bytes: its peak, and what it left behind.

    Example:
        >>> Allocations(peak_bytes=100, left_bytes=0).peak_bytes
        100
    """

    peak_bytes: int
    left_bytes: int


def allocations(work: Callable[[], object]) -> Allocations:
    """Run work once and add up what PyTorch's processor allocator gave and took back.

    The record is that of PyTorch's profiler. Memory that kernel libraries take by themselves,
    as oneDNN's workspaces are, is not in it.

    Example:
        >>> import torch
        >>> kept = []
        >>> allocations(lambda: kept.append(torch.zeros(256).exp()))
        Allocations(peak_bytes=2048, left_bytes=1024)
    """
    from torch.autograd.profiler import profile

    with _unlogged(), profile(profile_memory=True, use_kineto=False) as record:
        work()
    assert record.kineto_results is not None
    changes = [event for event in record.kineto_results.events() if event.name() == "[memory]"]
    changes.sort(key=lambda event: event.start_ns())
    held = list(itertools.accumulate((event.nbytes() for event in changes), initial=0))
    return Allocations(max(held), held[-1])


@contextmanager
def _unlogged() -> Iterator[None]:
    """Keep the profiler from logging that it begins and ends."""
    before = os.environ.get(_LOG_LEVEL)
    os.environ[_LOG_LEVEL] = "99"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_LOG_LEVEL]
        else:
            os.environ[_LOG_LEVEL] = before


def repeated_peak(parts: Sequence[Allocations]) -> int:
    """Return the peak of a second pass from the allocations of the parts of the first.

    What the first pass leaves (the optimizer's state, which its last part makes) is held
    throughout every later one.

    Example:
        >>> repeated_peak([Allocations(100, 80), Allocations(50, 20), Allocations(40, 10)])
        240
    """
    left = sum(part.left_bytes for part in parts)
    held, peaks = left, []
    for part in parts[:-1]:
        peaks.append(held + part.peak_bytes)
        held += part.left_bytes
    # The last part of the first pass made the state itself: it is in that part's peak.
    peaks.append(held - left + parts[-1].peak_bytes)
    return max(peaks)


def available_bytes() -> int | None:
    """Return the memory that can be had without swapping, None where nothing tells it.

    On Linux it is what the kernel calls available, and not more than the control group of the
    process leaves.

    Example:
        >>> (available_bytes() or 1) > 0
        True
    """
    described = Path("/proc/meminfo")
    if not described.is_file():
        return None
    lines = dict(line.split(":", 1) for line in described.read_text().splitlines() if ":" in line)
    available = int(lines["MemAvailable"].split()[0]) * 1024
    return min([available, *_group_limits()])


def _group_limits() -> list[int]:
    """Return what control groups leave, of either version."""
    found = []
    for most, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        ),
    ):
        limit, now = _number(most), _number(used)
        if limit is not None and now is not None:
            found.append(max(0, limit - now))
    return found


def _number(path: str) -> int | None:
    file = Path(path)
    if not (file.is_file() and os.access(file, os.R_OK)):
        return None
    text = file.read_text().strip()
    return int(text) if text.isdecimal() else None


def process_peak_bytes() -> int | None:
    """Return the most memory that this process has held, since its start or the last restart.

    Example:
        >>> (process_peak_bytes() or 1) > 0
        True
    """
    if sys.platform == "win32":
        return None
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def restart_process_peak() -> None:
    """Let the peak of this process start from now, where the system can (Linux).

    Example:
        >>> restart_process_peak()
    """
    restart = Path("/proc/self/clear_refs")
    if restart.is_file() and os.access(restart, os.W_OK):
        restart.write_text("5")
