"""One module on one device with its input, while it is being timed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from convscale.errors import ConvscaleError, InputError
from convscale.quantities import format_resolution
from convscale.runtime.devices import Device, Pass
from convscale.runtime.energy import meter
from convscale.runtime.memory import Allocations, allocations, repeated_peak
from convscale.runtime.running import Runner
from convscale.runtime.setting import Setting

if TYPE_CHECKING:
    import torch
    from torch import nn

    from convscale.runtime.subject import Subject

_MOST_WARM_UPS = 5
# Counters of energy are read a few times a second.
_ENERGY_S = 3.0
# Warm-up has settled once a pass is no longer this much faster than the one before.
_SETTLED = 0.9


class MemoryShortageError(InputError):
    """Say that a pass of a network asked for more memory than there is."""


@dataclass(frozen=True)
class Facts:
    """How a seated network computes, and what it took to get there.

    compile_s is the first pass where it compiles; parts are the names of the parts of a pass.

    Example:
        >>> Facts("float32", "contiguous").autocast
        False
    """

    dtype: str
    memory_format: str
    autocast: bool = False
    compiled: bool = False
    compile_s: float | None = None
    optimizer: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    parts: tuple[str, ...] = ("forward",)


@dataclass
class Sitting:
    """A subject on the device, its input, and the passes timed so far.

    Example:
        >>> from torch import nn
        >>> from convscale.runtime import Subject, open_device
        >>> from convscale.runtime.seating import seat
        >>> sitting = seat(Subject("conv", nn.Conv2d(3, 4, 1), 8), open_device("cpu"))
        >>> sitting.visit()
        >>> len(sitting.passes), sitting.facts.dtype
        (1, 'float32')
    """

    subject: Subject
    device: Device
    setting: Setting
    module: nn.Module
    images: torch.Tensor
    runner: Runner
    facts: Facts
    held_bytes: int = 0
    passes: list[Pass] = field(default_factory=list)
    last_s: float = 0.0
    recorded_bytes: int | None = None
    stack: ExitStack = field(default_factory=ExitStack)

    process_memory_bytes: int | None = None

    @property
    def peak_memory_bytes(self) -> int | None:
        """The allocator's peak over all passes, or None where nothing tells it."""
        peaks = [timed.memory_bytes for timed in self.passes if timed.memory_bytes is not None]
        if peaks:
            return self.held_bytes + max(peaks)
        return None if self.recorded_bytes is None else self.held_bytes + self.recorded_bytes

    def warm_up(self, until: float, most: int) -> None:
        """Run until passes get no faster, five have run or the time has come.

        The first pass is slow by itself: it compiles, allocates and chooses kernels. The passes
        that show that they get no faster are as warm as any: they are repeats already, of
        which there are to be no more than most. Compiling takes none of the time.
        """
        before, warm = self._first(), list[Pass]()
        until += self.facts.compile_s or 0.0
        for _ in range(_MOST_WARM_UPS - 1):
            if time.monotonic() > until:
                return
            timed = self._run()
            if _settled(before, timed):
                self.passes += [*warm, timed][-most:] if most else []
                return
            before, warm = timed, [timed]

    def visit(self, passes: int = 1, *, untimed: int = 0) -> None:
        """Time passes, after some that are not timed."""
        for _ in range(untimed):
            self._run()
        for _ in range(passes):
            self.passes.append(self._run())

    def joules(self) -> float | None:
        """Return the energy of a pass, of some seconds of passes; None where nothing counts it."""
        found = meter(self.device)
        if found is None:
            return None
        passes, before, started = 0, found.read(), time.monotonic()
        while time.monotonic() - started < _ENERGY_S:
            self._run()
            passes += 1
        return found.between(before, found.read()) / passes

    def close(self) -> None:
        """Give the module back as it was, and what the backend took."""
        self.stack.close()

    def _first(self) -> Pass:
        """Run the pass that compiles, and the one whose allocations are recorded."""
        if self.facts.compiled:
            self.facts = replace(self.facts, compile_s=self._run().wall_s)
        if self.device.kind == "cpu" and self.setting.backend == "pytorch":
            return self._recorded()
        memory = self.device.memory
        before = 0 if memory is None else memory.memory_allocated()
        timed = self._run()
        # What a first pass leaves, as an optimizer's state, is held from then on.
        self.held_bytes += 0 if memory is None else memory.memory_allocated() - before
        return timed

    def _recorded(self) -> Pass:
        parts: list[Allocations] = []

        def work() -> None:
            parts.extend(allocations(part) for part in self.runner.parts.values())

        with self._refused():
            timed = self.device.time(work)
        self.recorded_bytes = repeated_peak(parts)
        self.last_s = timed.wall_s
        return timed

    def _run(self) -> Pass:
        with self._refused():
            timed = self.device.time(*self.runner.parts.values())
        self.last_s = timed.wall_s
        return timed

    @contextmanager
    def _refused(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise refusal(self.subject, len(self.images), error) from error


def _settled(before: Pass, now: Pass) -> bool:
    """Tell whether a pass is no faster than the one before, by either clock: one may be unquiet."""
    pairs = [(before.wall_s, now.wall_s)]
    if before.processor_s is not None and now.processor_s is not None:
        pairs.append((before.processor_s, now.processor_s))
    return any(later > _SETTLED * earlier for earlier, later in pairs)


def refusal(subject: Subject, batch_size: int, error: BaseException) -> InputError:
    """Say in one line which network does not run, and why.

    Example:
        >>> from torch import nn
        >>> from convscale.runtime import Subject
        >>> refusal(Subject("net", nn.ReLU(), 8), 4, ValueError("too small")).line
        'net does not run at resolution 8 with batch size 4: too small'
    """
    if isinstance(error, MemoryShortageError):
        return error
    if isinstance(error, ConvscaleError):
        return InputError(f"{subject.name}: {error.line}")
    said = str(error).strip().splitlines()
    reason = said[0] if said else type(error).__name__
    at = f"at resolution {format_resolution(subject.resolution)} with batch size {batch_size}"
    if _out_of_memory(error):
        return MemoryShortageError(
            f"{subject.name} runs out of memory {at}. Use a smaller batch size, or max."
        )
    if reason.startswith(f"{type(subject.module).__name__}.forward() missing"):
        reason += ". Wrap it in a module that makes its other inputs: what is timed takes images."
    return InputError(f"{subject.name} does not run {at}: {reason}")


def _out_of_memory(error: BaseException) -> bool:
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
