"""A comparison of networks, strategies and factors as a value. No torch here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from convscale.complexity.complexity import METRICS
from convscale.prediction.prediction import Prediction
from convscale.quantities import Resolution, format_resolution
from convscale.runtime.measurement import Conditions
from convscale.runtime.spread import Spread
from convscale.selection import correlation
from convscale.strategy import Strategy
from convscale.strategy.registry import is_entry

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Row:
    """A base network (strategy None, factor 1) or one scaled by a strategy and a factor.

    flops are multiply-adds; ratio holds each metric over the base's, None where that is
    0; latency is wall time and processor is processor time, both in milliseconds a
    forward pass of the whole batch and None where not measured; predicted is the latency that
    a profile predicts.

    Example:
        >>> base = Row("timm:resnet50", None, 1.0, 224, 4_089_184_256, 25_557_032, 11_114_984)
        >>> base.label, base.latency
        ('timm:resnet50', None)
    """

    network: str
    strategy: str | None
    factor: float
    resolution: Resolution
    flops: int
    params: int
    acts: int
    ratio: dict[str, float | None] = field(default_factory=dict)
    latency: Spread | None = None
    processor: Spread | None = None
    notes: tuple[str, ...] = ()
    predicted: Prediction | None = None

    @property
    def label(self) -> str:
        """The name under which this network can be named again: resnet50@dWr:4."""
        if self.strategy is None:
            return self.network
        if is_entry(self.strategy):
            return f"{self.network}@{self.strategy}"
        return f"{self.network}@{self.strategy}:{self.factor:g}"

    def as_document(self) -> dict[str, object]:
        """Return the row as the command line's JSON has it; times only where measured."""
        document: dict[str, object] = {
            "network": self.network,
            "strategy": self.strategy,
            "factor": self.factor,
            "resolution": self.resolution,
            **{metric: getattr(self, metric) for metric in METRICS},
            "ratio": dict(self.ratio),
            "notes": list(self.notes),
        }
        if self.latency is not None:
            document["latency_ms"] = self.latency.as_document()
        if self.processor is not None:
            document["processor_ms"] = self.processor.as_document()
        if self.predicted is not None:
            document["predicted"] = predicted_document(self.predicted)
        return document


def predicted_document(found: Prediction) -> dict[str, object]:
    """Return a predicted latency as a row has it.

    Example:
        >>> from convscale.prediction.execution import Execution
        >>> found = Prediction("net", 224, 8, "mine", Execution(), 8.0, (7.0, 9.0), 0.9)
        >>> predicted_document(found)["interval_ms"]
        [7.0, 9.0]
    """
    own = ("profile", "batch_size", "latency_ms", "interval_ms", "coverage")
    document = found.as_document()
    return {name: document[name] for name in own}


@dataclass(frozen=True)
class Comparison:
    """The rows of all networks, and the conditions their latencies were measured under.

    Example:
        >>> rows = (Row("net", None, 1.0, 8, 100, 10, 5), Row("net", "w", 2.0, 8, 200, 20, 7))
        >>> comparison = Comparison(rows)
        >>> comparison.networks, comparison.measured, comparison.correlation["flops"]
        (('net',), False, None)
        >>> list(comparison.as_table()["strategy"])
        [None, 'w']
    """

    rows: tuple[Row, ...]
    strategies: tuple[Strategy, ...] = ()
    conditions: Conditions | None = None
    batch_size: int = 1
    notes: tuple[str, ...] = ()

    @property
    def networks(self) -> tuple[str, ...]:
        """The base networks' resolved names, in the order of the rows."""
        return tuple(dict.fromkeys(row.network for row in self.rows))

    @property
    def measured(self) -> bool:
        """Whether latencies were measured."""
        return any(row.latency is not None for row in self.rows)

    @property
    def predicted(self) -> bool:
        """Whether latencies were predicted."""
        return any(row.predicted is not None for row in self.rows)

    @property
    def correlation(self) -> dict[str, float | None]:
        """Pearson's r of the logarithms of each metric and the latency, over all rows."""
        return correlation(self.rows)

    def of(self, network: str) -> tuple[Row, ...]:
        """Return one network's rows, the base row first."""
        return tuple(row for row in self.rows if row.network == network)

    def as_document(self) -> dict[str, object]:
        """Return the JSON document of the command line."""
        names = list(self.networks)
        return {
            "schema_version": 1,
            "network": names[0] if len(names) == 1 else names,
            "rows": [row.as_document() for row in self.rows],
            "correlation": self.correlation if self.measured else None,
            "batch_size": self.batch_size if self.measured else None,
            "conditions": self.conditions.as_document() if self.conditions else None,
            "notes": list(self.notes),
        }

    def as_table(self) -> pd.DataFrame:
        """Return one line a row; times are NaN where not measured."""
        import pandas as pd

        table = pd.DataFrame([_line(row) for row in self.rows])
        # pandas would turn None, the base network's strategy, into NaN.
        table["strategy"] = pd.Series([row.strategy for row in self.rows], dtype=object)
        return table


def _line(row: Row) -> dict[str, object]:
    latency, processor = row.latency, row.processor
    missing = float("nan")
    return {
        "network": row.network,
        "strategy": row.strategy,
        "factor": row.factor,
        "resolution": format_resolution(row.resolution),
        **{metric: getattr(row, metric) for metric in METRICS},
        **{f"{metric}_ratio": row.ratio.get(metric) for metric in METRICS},
        "latency_ms": latency.median if latency else missing,
        "latency_iqr_ms": latency.iqr if latency else missing,
        "repeats": latency.repeats if latency else 0,
        "predicted_ms": row.predicted.latency_ms if row.predicted else missing,
        "processor_ms": processor.median if processor else missing,
        "processor_iqr_ms": processor.iqr if processor else missing,
    }
