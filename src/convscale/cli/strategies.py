"""`convscale strategies`: the scaling strategies and how they share a flops factor."""

from __future__ import annotations

from convscale.cli import options
from convscale.cli.answer import Answer
from convscale.strategy import Strategy, named_strategies


def strategies(json: options.Json = False) -> Answer:
    """List the strategies: how each shares a flops factor s between depth, width, resolution.

    Example:
        >>> strategies(json=True)["strategies"][-1]["strategy"]
        'dWr'
    """
    found = named_strategies()
    if json:
        rows = [_row(strategy) for strategy in found]
        return {"schema_version": 1, "network": None, "strategies": rows}

    from convscale.report import tables

    return [tables.strategies_table(found)]


def _row(strategy: Strategy) -> dict[str, object]:
    return {
        "strategy": strategy.name,
        "exponents": {
            "depth": strategy.depth,
            "width": strategy.width / 2,
            "group_width": strategy.width / 2,
            "resolution": strategy.resolution / 2,
        },
        "growth": {
            "flops": 1.0,
            "params": strategy.growth.params,
            "acts": strategy.growth.acts,
        },
    }
