"""Which metric tells the time, as a value: networks, all their passes, correlations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from convscale.complexity.complexity import METRICS
from convscale.quantities import format_resolution
from convscale.runtime import Conditions, Spread, spread
from convscale.selection import TIMES
from convscale.selection.association import Association, associate
from convscale.selection.correlation import Time
from convscale.study.comparison import Row

if TYPE_CHECKING:
    import pandas as pd

ALL_NETWORKS = "all networks"
Visits = tuple[tuple[float, ...], ...]

# Below this share of what its threads could have run in the wall time, a network was kept waiting.
_WAITED = 0.6


@dataclass(frozen=True)
class TimedNetwork:
    """A row without times, and every timed pass of it: a tuple of seconds for each round.

    failed is the reason why it was not measured, or not any further; None where all went well.

    Example:
        >>> row = Row("net", "w", 2.0, 8, 200, 20, 7)
        >>> timed = TimedNetwork(row, wall_s=((0.004, 0.006), (0.005,)))
        >>> timed.timed.latency.median, timed.passes
        (5.0, 3)
    """

    row: Row
    wall_s: Visits = ()
    processor_s: Visits = ()
    failed: str | None = None

    @property
    def passes(self) -> int:
        """How many passes were timed."""
        return sum(len(visit) for visit in self.wall_s)

    @property
    def timed(self) -> Row:
        """The row with the spread of its times, in milliseconds."""
        return replace(self.row, latency=_spread(self.wall_s), processor=_spread(self.processor_s))

    def visited(self, wall_s: Sequence[float], processor_s: Sequence[float]) -> TimedNetwork:
        """Return it with the passes of one more round."""
        return replace(
            self,
            wall_s=(*self.wall_s, tuple(wall_s)),
            processor_s=(*self.processor_s, tuple(processor_s)) if processor_s else (),
        )

    def as_document(self) -> dict[str, object]:
        """Return the row as the command line's JSON has it, with all passes."""
        return {
            **self.timed.as_document(),
            "wall_s": [list(visit) for visit in self.wall_s],
            "processor_s": [list(visit) for visit in self.processor_s],
            "failed": self.failed,
        }


def _spread(visits: Visits) -> Spread | None:
    passes = [1e3 * seconds for visit in visits for seconds in visit]
    return spread(passes) if passes else None


@dataclass(frozen=True)
class RuntimeStudy:
    """Networks measured in interleaved rounds, and how their times go with their metrics.

    settings is what was asked for: networks, strategies, factors, mode, threads and so on.
    conditions are those when measuring began, null before the first pass.

    Example:
        >>> rows = [Row("net", None, 1.0, 8, flops, 9, 9) for flops in (100, 200, 400)]
        >>> timed = [TimedNetwork(row, wall_s=((row.flops / 1e5,),)) for row in rows]
        >>> study = RuntimeStudy(tuple(timed), {"mode": "inference"})
        >>> study.time, study.associations["latency"]["all networks"].r["flops"]["log"].value
        ('latency', 1.0)
    """

    networks: tuple[TimedNetwork, ...]
    settings: dict[str, object]
    conditions: Conditions | None = None
    notes: tuple[str, ...] = ()
    rounds: int = field(default=0)

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows that have a time."""
        return tuple(network.timed for network in self.networks if network.passes)

    @property
    def bases(self) -> tuple[str, ...]:
        """The base networks' resolved names."""
        return tuple(dict.fromkeys(network.row.network for network in self.networks))

    @cached_property
    def associations(self) -> dict[Time, dict[str, Association]]:
        """The correlations of each time that was measured, over all and within each base."""
        rows = self.rows
        scopes = {ALL_NETWORKS: rows}
        if len(self.bases) > 1:
            scopes |= {base: tuple(r for r in rows if r.network == base) for base in self.bases}
        return {
            time: {scope: associate(own, time=time) for scope, own in scopes.items()}
            for time in TIMES
            if any(getattr(row, time) is not None for row in rows)
        }

    @property
    def waited_share(self) -> float:
        """Share of the networks whose threads were kept waiting most of the wall time."""
        rows = [row for row in self.rows if row.processor is not None]
        if not rows or self.conditions is None:
            return 0.0
        threads = min(self.conditions.threads, self.conditions.processors)
        waited = [r for r in rows if _busy_share(r, threads) < _WAITED]
        return len(waited) / len(rows)

    @property
    def time(self) -> Time:
        """The time that answers the question: wall time, unless others held the machine.

        Where most networks were kept waiting, wall time tells more of the others' work than
        of the network's, and processor time answers.
        """
        return "processor" if self.waited_share > 0.5 else "latency"

    @property
    def agreement(self) -> float | None:
        """R of the logarithms of wall and processor time over all networks."""
        from convscale.selection.statistics import enough, log_pearson

        pairs = [
            (r.latency.median, r.processor.median) for r in self.rows if r.latency and r.processor
        ]
        if not enough(len(pairs)):
            return None
        import numpy as np

        r = float(log_pearson(*np.array(pairs).T))
        return None if r != r else r

    def as_document(self) -> dict[str, object]:
        """Return the JSON document of the command line, from which the study can be read again."""
        names = list(self.bases)
        return {
            "schema_version": 1,
            "network": names[0] if len(names) == 1 else names,
            "settings": dict(self.settings),
            "conditions": self.conditions.as_document() if self.conditions else None,
            "rounds": self.rounds,
            "rows": [network.as_document() for network in self.networks],
            "time": self.time,
            "agreement": self.agreement,
            "correlations": {
                time: {scope: found.as_document() for scope, found in scopes.items()}
                for time, scopes in self.associations.items()
            },
            "notes": list(self.notes),
        }

    def as_table(self) -> pd.DataFrame:
        """Return one line a network; times are NaN where it was not measured."""
        import pandas as pd

        table = pd.DataFrame([_line(network) for network in self.networks])
        for column in ("strategy", "failed"):  # pandas would turn None into NaN
            table[column] = pd.Series(list(table[column]), dtype=object)
        return table


def _busy_share(row: Row, threads: int) -> float:
    """Return the share of the wall time that a network's threads ran."""
    if row.latency is None or row.processor is None:
        return 1.0
    return row.processor.median / threads / row.latency.median


def _line(network: TimedNetwork) -> dict[str, object]:
    row, missing = network.timed, float("nan")
    wall, processor = row.latency, row.processor
    return {
        "network": row.network,
        "strategy": row.strategy,
        "factor": row.factor,
        "resolution": format_resolution(row.resolution),
        **{metric: getattr(row, metric) for metric in METRICS},
        "latency_ms": wall.median if wall else missing,
        "latency_iqr_ms": wall.iqr if wall else missing,
        "processor_ms": processor.median if processor else missing,
        "processor_iqr_ms": processor.iqr if processor else missing,
        "repeats": network.passes,
        "failed": network.failed,
    }
