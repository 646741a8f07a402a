"""How well flops, params and acts tell the latency."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Literal, Protocol

from convscale.complexity.complexity import METRICS
from convscale.runtime.spread import Spread

Time = Literal["latency", "processor"]
TIMES: tuple[Time, ...] = ("latency", "processor")

_FEWEST_ROWS = 3


class Costed(Protocol):
    """What a row must tell to be correlated: its complexity, and its times in ms."""

    @property
    def flops(self) -> int:
        """Multiply-adds."""

    @property
    def params(self) -> int:
        """Learnable scalars."""

    @property
    def acts(self) -> int:
        """Elements in the outputs of the counted operators."""

    @property
    def latency(self) -> Spread | None:
        """Wall time of a forward pass, None where not measured."""

    @property
    def processor(self) -> Spread | None:
        """Processor time of a forward pass, None where not measured."""


def correlation(rows: Iterable[Costed], *, time: Time = "latency") -> dict[str, float | None]:
    """Return Pearson's r between the logarithms of each metric and of the measured time.

        r = Σ(x − x̄)(y − ȳ) / √(Σ(x − x̄)² · Σ(y − ȳ)²),   x = ln metric, y = ln median time

    Args:
        rows: Rows without that time are left out.
        time: latency for wall time, processor for processor time over all threads.

    Returns:
        r by metric; None where fewer than three rows have the time, or nothing varies.

    Example:
        >>> from types import SimpleNamespace as Row
        >>> rows = [
        ...     Row(flops=f, params=7, acts=a, latency=Spread(a, 0, 5))
        ...     for f, a in ((100, 1), (200, 2), (400, 3))
        ... ]
        >>> {metric: r and round(r, 3) for metric, r in correlation(rows).items()}
        {'flops': 0.989, 'params': None, 'acts': 1.0}
    """
    timed = [(row, spent) for row in rows if (spent := getattr(row, time)) is not None]
    times = [spent.median for _, spent in timed]
    return {
        metric: _log_pearson([getattr(row, metric) for row, _ in timed], times)
        for metric in METRICS
    }


def best_predictor(correlations: Mapping[str, float | None]) -> str | None:
    """Return the metric with the highest r; None where none has one.

    Example:
        >>> best_predictor({"flops": 0.95, "params": None, "acts": 0.99})
        'acts'
        >>> best_predictor({"flops": None, "params": None, "acts": None}) is None
        True
    """
    known = {metric: r for metric, r in correlations.items() if r is not None}
    return max(known, key=lambda metric: known[metric]) if known else None


def _log_pearson(values: list[int], times: list[float]) -> float | None:
    """Return Pearson's r of the logarithms over the pairs that have one."""
    pairs = [
        (math.log(value), math.log(spent))
        for value, spent in zip(values, times, strict=True)
        if value > 0 and spent > 0
    ]
    if len(pairs) < _FEWEST_ROWS:
        return None
    mean_x, mean_y = (math.fsum(axis) / len(pairs) for axis in zip(*pairs, strict=True))
    centred = [(x - mean_x, y - mean_y) for x, y in pairs]
    var_x, var_y = (math.fsum(c[i] ** 2 for c in centred) for i in (0, 1))
    # Equal values differ from their mean by rounding alone.
    if min(var_x, var_y) <= 1e-20 * len(pairs):
        return None
    r = math.fsum(x * y for x, y in centred) / math.sqrt(var_x * var_y)
    return max(-1.0, min(1.0, r))
