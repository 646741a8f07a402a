"""A measurement as a value: all repeats, their spread, and the conditions. No torch here."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from convscale.quantities import Resolution

# Below this share of the wall time, processor time a thread no longer explains it.
_EXPLAINED = 0.6
_WIDE = 0.2

# Times outside of this range are written with an exponent.
_PLAIN_FROM_MS, _PLAIN_BELOW_MS = 1e-3, 1e6


@dataclass(frozen=True)
class Spread:
    """The median and the interquartile range of repeats, in the unit of the repeats.

    lower is the first quartile where it is known; the third is lower + iqr.

    Example:
        >>> Spread(median=12.5, iqr=0.4, repeats=15).as_document()
        {'median': 12.5, 'iqr': 0.4, 'repeats': 15}
    """

    median: float
    iqr: float
    repeats: int
    lower: float | None = field(default=None, repr=False)

    def as_document(self) -> dict[str, object]:
        """Return median, iqr and repeats as the command line's JSON has them."""
        return {"median": self.median, "iqr": self.iqr, "repeats": self.repeats}

    @property
    def arms(self) -> tuple[float, float]:
        """How far the quartiles lie below and above the median; half and half if not known."""
        below = self.iqr / 2 if self.lower is None else self.median - self.lower
        return below, self.iqr - below

    @property
    def wide(self) -> bool:
        """Whether half of the repeats scatter over more than a fifth of the median."""
        return self.iqr > _WIDE * self.median


def spread(values: Sequence[float]) -> Spread:
    """Summarise repeats, which must not be empty, by median and interquartile range.

    Quartiles interpolate linearly between the repeats, as numpy's do by default.

    Example:
        >>> spread([4.0, 1.0, 2.0, 3.0, 100.0])
        Spread(median=3.0, iqr=2.0, repeats=5)
        >>> spread([7.0])
        Spread(median=7.0, iqr=0.0, repeats=1)
    """
    if len(values) == 1:
        return Spread(values[0], 0.0, 1, lower=values[0])
    lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, upper - lower, len(values), lower=lower)


def format_ms(value: float, *, digits: int = 3) -> str:
    """Write milliseconds to a few significant digits, however small or large they are.

    Example:
        >>> format_ms(4.1234), format_ms(61.27), format_ms(1234.5), format_ms(61.27, digits=2)
        ('4.12', '61.3', '1230', '61')
        >>> format_ms(0.01234), format_ms(0.000001), format_ms(0.0)
        ('0.0123', '1.00e-06', '0')
    """
    if value == 0:
        return "0"
    # Rounding first: 9.999 has one digit before the point, and 10.0 has two.
    rounded = float(f"{value:.{digits - 1}e}")
    if not _PLAIN_FROM_MS <= abs(rounded) < _PLAIN_BELOW_MS:
        return f"{value:.{digits - 1}e}"
    decimals = digits - 1 - math.floor(math.log10(abs(rounded)))
    return f"{rounded:.{max(0, decimals)}f}"


@dataclass(frozen=True)
class Conditions:
    """Where and how a latency was measured; without them it means nothing.

    load_average is the machine's one-minute load when measuring began, null where the
    system does not tell it. rounds says how often each network was visited, and details
    holds what only this kind of device has.

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

    def as_document(self) -> dict[str, object]:
        """Return the fields as the command line's JSON has them."""
        return asdict(self)


@dataclass(frozen=True)
class Measurement:
    """All timed forward passes of one network, and the conditions they were timed under.

    wall_s and processor_s hold seconds a forward pass of the whole batch, in the order of
    the repeats; processor_s sums over all threads and is empty on accelerators.
    peak_memory_bytes is the device allocator's peak, weights and input included, or null
    where the device has no such counter.

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

    @property
    def latency_ms(self) -> Spread:
        """Wall time of a forward pass, in milliseconds."""
        return spread([1e3 * seconds for seconds in self.wall_s])

    @property
    def processor_ms(self) -> Spread | None:
        """Processor time of a forward pass over all threads, in milliseconds."""
        if not self.processor_s:
            return None
        return spread([1e3 * seconds for seconds in self.processor_s])

    @property
    def busy_share(self) -> float | None:
        """Share of the wall time that the threads ran, 1 where they always did.

        A pass that keeps its threads busy takes wall time x threads of processor time.
        """
        if not self.processor_s:
            return None
        usable = min(self.conditions.threads, self.conditions.processors)
        return statistics.median(self.processor_s) / usable / statistics.median(self.wall_s)

    @property
    def contended(self) -> bool:
        """Whether processor time lies grossly below what the wall time would allow."""
        share = self.busy_share
        return share is not None and share < _EXPLAINED

    @property
    def images_per_second(self) -> float:
        """Images a second at the median wall time."""
        return self.batch_size / statistics.median(self.wall_s)

    def as_document(self) -> dict[str, object]:
        """Return the JSON document of the command line."""
        processor = self.processor_ms
        return {
            "schema_version": 1,
            "network": self.network,
            "resolution": self.resolution,
            "batch_size": self.batch_size,
            "mode": self.mode,
            "conditions": self.conditions.as_document(),
            "latency_ms": self.latency_ms.as_document(),
            "processor_ms": processor.as_document() if processor else None,
            "images_per_second": self.images_per_second,
            "peak_memory_bytes": self.peak_memory_bytes,
            "wall_s": list(self.wall_s),
            "processor_s": list(self.processor_s),
            "notes": list(self.notes),
        }
