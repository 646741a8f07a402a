"""The tables that the figures are drawn from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from convscale.complexity.complexity import METRICS
from convscale.selection import TIMES, best_predictor, correlation

if TYPE_CHECKING:
    import pandas as pd

    from convscale.selection import Choice
    from convscale.strategy import Strategy
    from convscale.study import Comparison

BASE = "base"
ALL_NETWORKS = "all networks"
DECISION = ["network", "strategy", "factor", "flops", "latency_ms", "budget_ms", "verdict"]


def latency_frame(comparison: Comparison) -> pd.DataFrame:
    """Return a line for each measured row and metric: the metric's value and the latency.

    Example:
        >>> from convscale.runtime.spread import Spread
        >>> from convscale.study import Comparison, Row
        >>> row = Row("net", "w", 2.0, 8, 200, 20, 7, latency=Spread(5.0, 1.0, 9))
        >>> latency_frame(Comparison((row,)))[["metric", "value", "latency_ms"]].values.tolist()
        [['flops', 200, 5.0], ['params', 20, 5.0], ['acts', 7, 5.0]]
    """
    import pandas as pd

    columns = ["network", "strategy", "factor", "metric", "value"]
    columns += ["latency_ms", "iqr_ms", "below_ms", "above_ms"]
    lines = [
        (
            row.network,
            row.strategy or BASE,
            row.factor,
            metric,
            getattr(row, metric),
            row.latency.median,
            row.latency.iqr,
            *row.latency.arms,
        )
        for metric in METRICS
        for row in comparison.rows
        if row.latency is not None
    ]
    return pd.DataFrame(lines, columns=columns)


def correlation_frame(comparison: Comparison) -> pd.DataFrame:
    """Return r of each metric with wall and processor time, over all and within each network.

    Example:
        >>> from convscale.study import Comparison
        >>> correlation_frame(Comparison(())).shape
        (0, 7)
    """
    import pandas as pd

    scopes = {ALL_NETWORKS: comparison.rows}
    if len(comparison.networks) > 1:
        scopes |= {network: comparison.of(network) for network in comparison.networks}
    lines: list[dict[str, object]] = []
    for time in TIMES:
        for scope, rows in scopes.items():
            timed = [row for row in rows if getattr(row, time) is not None]
            if timed:
                r = correlation(timed, time=time)
                best = best_predictor(r)
                lines.append(
                    {"rows": scope, "time": time, "networks": len(timed), **r, "best": best}
                )
    return pd.DataFrame(lines, columns=["rows", "time", "networks", *METRICS, "best"])


def growth_frame(comparison: Comparison) -> pd.DataFrame:
    """Return how much flops, params and acts of each scaled row grew over the base's.

    Example:
        >>> from convscale.study import Comparison, Row
        >>> grown = {"flops": 2.0, "params": 2.0, "acts": 1.4}
        >>> row = Row("net", "w", 2.0, 8, 200, 20, 7, ratio=grown)
        >>> growth_frame(Comparison((row,)))[["flops_ratio", "acts_ratio"]].values.tolist()
        [[2.0, 1.4]]
    """
    import pandas as pd

    columns = ["network", "strategy", "factor", *(f"{metric}_ratio" for metric in METRICS)]
    lines = [
        (row.network, row.strategy, row.factor, *(row.ratio.get(metric) for metric in METRICS))
        for row in comparison.rows
        if row.strategy is not None
    ]
    return pd.DataFrame(lines, columns=columns)


def law_frame(
    strategies: Iterable[Strategy], *, lowest: float, highest: float, points: int = 25
) -> pd.DataFrame:
    """Return acts = s^e for each strategy between two flops ratios, evenly in log s.

    Example:
        >>> from convscale.strategy import parse_strategy
        >>> laws = law_frame([parse_strategy("w")], lowest=1.0, highest=4.0, points=2)
        >>> laws[["flops_ratio", "acts_ratio"]].values.tolist()
        [[1.0, 1.0], [4.0, 2.0]]
    """
    import pandas as pd

    steps = [lowest * (highest / lowest) ** (i / (points - 1)) for i in range(points)]
    lines = [
        (strategy.name, strategy.growth.acts, s, s**strategy.growth.acts)
        for strategy in strategies
        for s in steps
    ]
    return pd.DataFrame(lines, columns=["strategy", "exponent", "flops_ratio", "acts_ratio"])


def decision_frame(comparison: Comparison, choices: Sequence[Choice]) -> pd.DataFrame:
    """Return flops, latency and budget of each row of the networks that were chosen for.

    Example:
        >>> from convscale.runtime.spread import Spread
        >>> from convscale.selection import choose
        >>> from convscale.study import Comparison, Row
        >>> row = Row("net", "w", 2.0, 8, 200, 20, 7, latency=Spread(5.0, 1.0, 9))
        >>> found = decision_frame(Comparison((row,)), [choose([row], 8.0)])
        >>> found[["latency_ms", "budget_ms", "verdict"]].values.tolist()
        [[5.0, 8.0, 'recommended']]
    """
    import pandas as pd

    lines = []
    for choice in choices:
        for row in comparison.of(choice.network):
            if row.latency is None:
                continue
            ms, limit = row.latency.median, choice.budget_ms
            if row.strategy is None:
                verdict = BASE
            elif choice.takes(row):
                verdict = "recommended"
            else:
                verdict = "fewer flops" if ms <= limit else "over budget"
            line = (row.network, row.strategy or BASE, row.factor, row.flops, ms, limit, verdict)
            lines.append(line)
    return pd.DataFrame(lines, columns=DECISION)
