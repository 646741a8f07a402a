"""The largest batch of a network that this machine can run, found in a process of its own."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from convscale.errors import InputError
from convscale.quantities import format_bytes
from convscale.runtime.batch import Largest, Probe, largest_batch
from convscale.runtime.devices import Device
from convscale.runtime.isolation import Lodger, lodge
from convscale.runtime.memory import available_bytes
from convscale.runtime.setting import Setting
from convscale.runtime.subject import Subject

# Share of the memory that is left which a batch may take; the rest is for what others do.
_SHARE = 0.9
# A batch is not looked for beyond passes of this share of the time limit: some are to be timed.
_PASS = 0.1


@dataclass(frozen=True)
class Fitted:
    """The batch size that was found, and how, in words.

    Example:
        >>> Fitted(8, "Batch size 8 is the largest.").batch_size
        8
    """

    batch_size: int
    note: str


def fitted_batch(
    subject: Subject,
    device: Device,
    setting: Setting,
    *,
    time_limit_s: float,
    memory_bytes: int | None = None,
) -> Fitted:
    """Find the largest batch that fits into the memory that is left, or into the given one.

    On the processor what counts is the memory that a process of its own is given by the system
    (its peak), against 90 % of what is available without swapping; on an accelerator its own
    allocator says when memory is short.

    Raises:
        InputError: If not even the smallest batch fits, or nothing tells the memory.

    Example:
        >>> from torch import nn
        >>> from convscale.runtime import open_device
        >>> subject, cpu = Subject("conv", nn.Conv2d(3, 4, 1), 8), open_device("cpu")
        >>> fitted_batch(subject, cpu, Setting(batch_size="max"), time_limit_s=10, memory_bytes=1)
        Traceback (most recent call last):
        convscale.errors.InputError: conv does not fit into memory: a pass of batch size 1 ...
    """
    budget = memory_bytes
    if budget is None and device.kind != "cuda":
        free = available_bytes()
        if free is None:
            raise InputError(
                "Nothing tells how much memory this machine has left. Write a batch size, or a "
                "memory limit."
            )
        budget = int(_SHARE * free)
    smallest = replace(setting, batch_size=1)
    prober = _Prober(subject, smallest, time_limit_s)
    started = time.monotonic()
    try:
        found = largest_batch(
            prober.run,
            budget_bytes=budget,
            limit_s=_PASS * time_limit_s,
            # One image has no statistics where a map has shrunk to one position.
            first=2 if setting.mode == "training" else 1,
        )
    finally:
        prober.close()
    if found is None:
        raise InputError(
            f"{subject.name} does not fit into memory{_why(prober.last, budget)}. "
            "Use a smaller resolution or network."
        )
    return Fitted(found.probe.batch_size, _note(found, budget, time.monotonic() - started))


@dataclass
class _Prober:
    """Runs passes in another process, and in a new one after it was ended for its memory."""

    subject: Subject
    setting: Setting
    time_limit_s: float
    lodger: Lodger | None = None
    last: Probe | None = None

    def run(self, batch_size: int) -> Probe | None:
        """Run a pass of a batch; None where memory is short."""
        if self.lodger is None:
            self.lodger = lodge(
                self.subject, self.setting, time_limit_s=self.time_limit_s, probing=True
            )
        try:
            self.last = self.lodger.probe(batch_size)
            return self.last
        except InputError:
            if not self.lodger.killed:
                raise
            self.close()
            return None

    def close(self) -> None:
        """End the process."""
        if self.lodger is not None:
            self.lodger.close()
            self.lodger = None


def _why(smallest: Probe | None, budget: int | None) -> str:
    if smallest is None or budget is None:
        return " at all"
    return (
        f": a pass of batch size {smallest.batch_size} holds {format_bytes(smallest.peak_bytes)}, "
        f"PyTorch included, and may hold {format_bytes(budget)}"
    )


def _note(found: Largest, budget: int | None, seconds: float) -> str:
    took = f"found in {seconds:.0f} s by {found.probes} passes"
    batch, held = found.probe.batch_size, format_bytes(found.probe.peak_bytes)
    if found.bound == "time":
        return (
            f"Batch size {batch} holds {held}; a larger one would fit, but take more than a tenth "
            f"of the time limit ({took}). Raise the time limit to look further."
        )
    of = "" if budget is None else f" of {format_bytes(budget)}"
    return f"Batch size {batch} is the largest that fits: it holds {held}{of} ({took})."
