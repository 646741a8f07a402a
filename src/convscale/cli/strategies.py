"""`convscale strategies`: the scaling strategies and how they share a flops factor."""

from __future__ import annotations

from dataclasses import asdict
from math import log

from convscale.cli import options
from convscale.cli.answer import Answer
from convscale.strategy import Published, Step, Strategy, named_strategies, published_strategies


def strategies(json: options.Json = False) -> Answer:
    """List the strategies: how each shares a flops factor s between depth, width, resolution.

    Example:
        >>> [row["strategy"] for row in strategies(json=True)["strategies"]][5:]
        ['wr', 'dwr', 'dWr']
        >>> strategies(json=True)["published"][0]["strategy"]
        'efficientnet'
    """
    found, others = named_strategies(), published_strategies()
    if json:
        return {
            "schema_version": 1,
            "network": None,
            "strategies": [*map(_row, found)],
            "published": [*map(_published_row, others)],
        }

    from convscale.report import tables

    return [tables.strategies_table(found), "", tables.published_table(others)]


def _row(strategy: Strategy) -> dict[str, object]:
    return {
        "strategy": strategy.name,
        **_law(strategy),
    }


def _published_row(found: Published) -> dict[str, object]:
    """Return a published strategy: the exponents of a formula, or the factors of a table."""
    law = {"exponents": None, "growth": None}
    return {
        "strategy": found.name,
        **(_law(found.formula) if found.formula is not None else law),
        "summary": found.summary,
        "source": found.source,
        "rounding": found.rules.rounding,
        "keep": list(found.rules.keep),
        "head_at_least": found.rules.head_at_least,
        "max_resolution": found.rules.max_resolution,
        "raises": found.raises,
        "entries": [_entry(step) for step in found.entries],
        "elsewhere": dict(found.elsewhere),
    }


def _entry(found: Step) -> dict[str, object]:
    return {
        "strategy": found.name,
        "exponents": _powers(found),
        "factors": asdict(found.own),
        "stage_depth": list(found.stage_depth) or None,
        "factor": found.scale,
    }


def _powers(found: Step) -> dict[str, float] | None:
    """Return the powers of the entry's own factor s that its factors are; None where s is 1."""
    whole = log(found.scale)
    if abs(whole) < 1e-9:
        return None
    return {axis: log(factor) / whole for axis, factor in asdict(found.own).items()}


def _law(strategy: Strategy) -> dict[str, object]:
    return {
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
