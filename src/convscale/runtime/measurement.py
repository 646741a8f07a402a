"""A measurement as a value: all repeats, their spread, and the conditions. No torch here."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from convscale.quantities import Resolution
from convscale.runtime.devices import Pass
from convscale.runtime.interval import median_interval
from convscale.runtime.spread import Spread, spread

# Below this share of the wall time, processor time a thread no longer explains it.
_EXPLAINED = 0.6


@dataclass(frozen=True)
class Conditions:
    """Where and how a latency was measured; without them it means nothing.

    load_average is the machine's one-minute load when measuring began and load_average_after
    when it ended, null where the system does not tell it. rounds says how often each network
    was visited, and details holds what only this kind of device has. dtype is what the network
    computes in: under autocast not that of its weights. compile_s is the time from the first
    call to the end of the compilation, null where nothing was compiled; versions holds those of
    a backend other than PyTorch.

    Example:
        >>> Conditions("cpu", "x86_64", 8, "float32", 4, "contiguous", "2.6.0", "1.0.20").threads
        4
    """

    device: str
    hardware: str
    processors: int
    dtype: str
    threads: int
    memory_format: str
    torch: str
    timm: str | None = None
    python: str = ""
    system: str = ""
    load_average: float | None = None
    started: str = ""
    interleaved_networks: int = 1
    rounds: int = 1
    details: dict[str, object] = field(default_factory=dict)
    load_average_after: float | None = None
    autocast: bool = False
    backend: str = "pytorch"
    compiled: bool = False
    compile_s: float | None = None
    optimizer: str | None = None
    isolated: bool = False
    versions: dict[str, str] = field(default_factory=dict)

    def as_document(self) -> dict[str, object]:
        """Return the fields as the command line's JSON has them."""
        return asdict(self)


@dataclass(frozen=True)
class Timings:
    """Wall and processor times of repeats, in seconds, and what they say of each other.

    usable is the number of processors that the threads can use at once; processor_s sums over
    all threads, and is empty where nothing tells it.

    Example:
        >>> Timings((0.1, 0.1, 0.1), (0.05, 0.04, 0.03), usable=1).decisive
        'processor time'
    """

    wall_s: tuple[float, ...]
    processor_s: tuple[float, ...] = ()
    usable: int = 1

    @classmethod
    def of(cls, passes: Sequence[Pass], usable: int) -> Timings:
        """Take the times of passes.

        Example:
            >>> Timings.of([Pass(0.2, None, None)], 1).wall_s
            (0.2,)
        """
        ran = tuple(each.processor_s for each in passes if each.processor_s is not None)
        return cls(tuple(each.wall_s for each in passes), ran, usable)

    @property
    def busy_share(self) -> float | None:
        """Share of the wall time that the threads ran, 1 where they always did.

        A pass that keeps its threads busy takes wall time x threads of processor time.
        """
        if not self.processor_s:
            return None
        return statistics.median(self.processor_s) / self.usable / statistics.median(self.wall_s)

    @property
    def contended(self) -> bool:
        """Whether processor time lies grossly below what the wall time would allow."""
        share = self.busy_share
        return share is not None and share < _EXPLAINED

    @property
    def decisive(self) -> str:
        """Which of them is held against the precision that was asked for.

        Wall time is what is asked for. Where it is grossly longer than the threads ran, it is
        that of others as well as the network's own, and the processor time decides.
        """
        return "processor time" if self.contended else "wall time"

    @property
    def precision(self) -> float | None:
        """How far the farther end of the median's 95 % interval lies off, as a share of it."""
        values = self.processor_s if self.contended else self.wall_s
        interval = median_interval(values)
        return None if interval is None else interval.off(statistics.median(values))


@dataclass(frozen=True)
class Part:
    """The repeats of one part of a pass, such as backward, in seconds.

    seconds is wall time, and on CUDA the device's own; processor_s is empty on accelerators.

    Example:
        >>> Part("backward", (0.02, 0.04, 0.03)).latency_ms.median
        30.0
    """

    name: str
    seconds: tuple[float, ...]
    processor_s: tuple[float, ...] = ()

    @property
    def latency_ms(self) -> Spread:
        """The part's time, in milliseconds."""
        return _in_ms(self.seconds)

    @property
    def processor_ms(self) -> Spread | None:
        """The part's processor time over all threads, in milliseconds."""
        return _in_ms(self.processor_s) if self.processor_s else None

    def as_document(self) -> dict[str, object]:
        """Return the part as the command line's JSON has it."""
        processor = self.processor_ms
        return {
            "latency_ms": self.latency_ms.as_document(),
            "processor_ms": processor.as_document() if processor else None,
            "seconds": list(self.seconds),
            "processor_s": list(self.processor_s),
        }


@dataclass(frozen=True)
class Measurement:
    """All timed passes of one network, and the conditions they were timed under.

    wall_s and processor_s hold seconds a pass of the whole batch, in the order of the repeats;
    processor_s sums over all threads and is empty on accelerators. device_s is the time between
    two events of the device (CUDA), empty elsewhere. parts splits a training step.

    peak_memory_bytes is the peak of what PyTorch's allocator held for the network: weights,
    input, and all that a pass allocates (gradients and optimizer state too where it trains); on
    the CPU as the allocations of one untimed pass add up. It leaves out the workspaces that
    kernel libraries take elsewhere, and is null where nothing tells it. process_memory_bytes is
    the most memory that a process of the network's own was given, null without one.

    stopped_by says what ended the repeats: precision, time limit or repeats.

    Example:
        >>> here = Conditions("cpu", "x86_64", 8, "float32", 2, "contiguous", "2.6.0")
        >>> m = Measurement("net", 224, 4, "inference", here, wall_s=(0.02, 0.04, 0.03))
        >>> m.latency_ms
        Spread(median=30.0, iqr=10.0, repeats=3)
        >>> round(m.images_per_second, 6)
        133.333333
    """

    network: str
    resolution: Resolution
    batch_size: int
    mode: str
    conditions: Conditions
    wall_s: tuple[float, ...]
    processor_s: tuple[float, ...] = ()
    peak_memory_bytes: int | None = None
    notes: tuple[str, ...] = ()
    device_s: tuple[float, ...] = ()
    parts: tuple[Part, ...] = ()
    process_memory_bytes: int | None = None
    energy_joules_per_image: float | None = None
    stopped_by: str = "repeats"

    @property
    def failed(self) -> None:
        """Nothing: the network ran (see `Failure`)."""
        return None

    @property
    def latency_ms(self) -> Spread:
        """Wall time of a pass, in milliseconds."""
        return _in_ms(self.wall_s)

    @property
    def processor_ms(self) -> Spread | None:
        """Processor time of a pass over all threads, in milliseconds."""
        return _in_ms(self.processor_s) if self.processor_s else None

    @property
    def device_ms(self) -> Spread | None:
        """Time of a pass between two events of the device, in milliseconds."""
        return _in_ms(self.device_s) if self.device_s else None

    @property
    def timings(self) -> Timings:
        """The times by themselves."""
        usable = min(self.conditions.threads, self.conditions.processors)
        return Timings(self.wall_s, self.processor_s, usable)

    @property
    def busy_share(self) -> float | None:
        """Share of the wall time that the threads ran, 1 where they always did."""
        return self.timings.busy_share

    @property
    def contended(self) -> bool:
        """Whether processor time lies grossly below what the wall time would allow."""
        return self.timings.contended

    @property
    def precision(self) -> float | None:
        """How far the decisive median's interval reaches, as a share of the median."""
        return self.timings.precision

    @property
    def images_per_second(self) -> float:
        """Images a second at the median wall time."""
        return self.batch_size / statistics.median(self.wall_s)

    def as_document(self) -> dict[str, object]:
        """Return the JSON document of the command line."""
        processor, device = self.processor_ms, self.device_ms
        return {
            "schema_version": 1,
            "network": self.network,
            "resolution": self.resolution,
            "batch_size": self.batch_size,
            "mode": self.mode,
            "conditions": self.conditions.as_document(),
            "latency_ms": self.latency_ms.as_document(),
            "processor_ms": processor.as_document() if processor else None,
            "device_ms": device.as_document() if device else None,
            "images_per_second": self.images_per_second,
            "peak_memory_bytes": self.peak_memory_bytes,
            "process_memory_bytes": self.process_memory_bytes,
            "energy_joules_per_image": self.energy_joules_per_image,
            "stopped_by": self.stopped_by,
            "precision": self.precision,
            "precision_of": self.timings.decisive,
            "parts": {part.name: part.as_document() for part in self.parts},
            "wall_s": list(self.wall_s),
            "processor_s": list(self.processor_s),
            "device_s": list(self.device_s),
            "failed": None,
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Failure:
    """A network that could not be measured, why, and under which conditions.

    Example:
        >>> here = Conditions("cpu", "x86_64", 8, "float32", 2, "contiguous", "2.6.0")
        >>> Failure("net", 224, 4, "inference", here, "net ran out of memory.").failed
        'net ran out of memory.'
    """

    network: str
    resolution: Resolution
    batch_size: int
    mode: str
    conditions: Conditions
    failed: str

    def as_document(self) -> dict[str, object]:
        """Return the JSON document of the command line."""
        return {
            "schema_version": 1,
            "network": self.network,
            "resolution": self.resolution,
            "batch_size": self.batch_size,
            "mode": self.mode,
            "conditions": self.conditions.as_document(),
            "latency_ms": None,
            "failed": {"reason": self.failed},
            "notes": [],
        }


Outcome = Measurement | Failure


def _in_ms(seconds: Sequence[float]) -> Spread:
    return spread([1e3 * each for each in seconds])
