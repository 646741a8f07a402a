"""A predicted time as a value: with its interval, what it consists of, and what to mind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from convscale.prediction.form import Execution
from convscale.quantities import Resolution, format_resolution

if TYPE_CHECKING:
    import pandas as pd

OVERHEAD = "once a pass"  # the share of time that belongs to no operator


@dataclass(frozen=True)
class Prediction:
    """The time of one pass of a batch by a profile: an inference, or a step of training.

    `latency_ms` is that of the whole batch; `interval_ms` holds the measured time of a share
    `coverage` of the networks that the fit had not seen; `shares` are those of the kinds of
    operators, and of what is needed once a pass, and add up to 1.

    Example:
        >>> execution = Execution("gpu", "nchw", "eager", "inference", "amp")
        >>> found = Prediction("net", 224, 256, "mine", execution, 128.0, (112.0, 144.0), 0.9)
        >>> found.images_per_second
        2000.0
    """

    network: str
    resolution: Resolution | None
    batch_size: int
    profile: str
    execution: Execution
    latency_ms: float
    interval_ms: tuple[float, float]
    coverage: float
    shares: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def images_per_second(self) -> float:
        """Throughput: images of the batch over its time."""
        return 1e3 * self.batch_size / self.latency_ms

    @property
    def images_per_second_interval(self) -> tuple[float, float]:
        """The least and the most throughput of the interval."""
        low, high = self.interval_ms
        return 1e3 * self.batch_size / high, 1e3 * self.batch_size / low

    def kinds_ms(self) -> dict[str, float]:
        """Return the time (ms) of each kind of operator, the longest first."""
        order = sorted(self.shares.items(), key=lambda item: -item[1])
        return {kind: share * self.latency_ms for kind, share in order}

    def as_document(self) -> dict[str, object]:
        """Return the JSON document of the command line."""
        return {
            "schema_version": 1,
            "network": self.network,
            "resolution": self.resolution,
            "batch_size": self.batch_size,
            "profile": self.profile,
            "work": self.execution.work,
            "latency_ms": self.latency_ms,
            "interval_ms": list(self.interval_ms),
            "coverage": self.coverage,
            "images_per_second": self.images_per_second,
            "images_per_second_interval": list(self.images_per_second_interval),
            "shares": dict(sorted(self.shares.items(), key=lambda item: -item[1])),
            "notes": list(self.notes),
        }


def document_of(found: Sequence[Prediction]) -> dict[str, object]:
    """Return the JSON document of one prediction, or of several.

    Example:
        >>> document_of([])["predictions"]
        []
    """
    if len(found) == 1:
        return found[0].as_document()
    rows = [entry.as_document() for entry in found]
    for row in rows:
        del row["schema_version"]
    return {
        "schema_version": 1,
        "network": [entry.network for entry in found],
        "predictions": rows,
    }


def frame_of(found: Sequence[Prediction]) -> pd.DataFrame:
    """Return predictions as a table for pandas: a line each, the time of every kind a column.

    Example:
        >>> execution = Execution("gpu", "nchw", "eager", "inference", "amp")
        >>> found = Prediction("net", 224, 256, "mine", execution, 128.0, (112.0, 144.0), 0.9)
        >>> list(frame_of([found]).columns)[:3]
        ['network', 'resolution_px', 'batch_size']
    """
    import pandas as pd

    kinds = dict.fromkeys(kind for entry in found for kind in entry.shares)
    return pd.DataFrame([_line(entry, list(kinds)) for entry in found])


def _line(found: Prediction, kinds: Sequence[str]) -> dict[str, object]:
    low, high = found.interval_ms
    own = found.kinds_ms()
    return {
        "network": found.network,
        "resolution_px": found.resolution and format_resolution(found.resolution),
        "batch_size": found.batch_size,
        "profile": found.profile,
        "latency_ms": found.latency_ms,
        "latency_low_ms": low,
        "latency_high_ms": high,
        "coverage": found.coverage,
        "images_per_second": found.images_per_second,
        **{f"{kind} (ms)": own.get(kind, 0.0) for kind in kinds},
        "notes": " ".join(found.notes),
    }
