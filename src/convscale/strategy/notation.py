"""Strategies as strings: dwr, dWr, dWr@0.6, d1_w8_g8_r1."""

from __future__ import annotations

import math
import re

from convscale.errors import InputError, near_names
from convscale.strategy.registry import REGISTRY, find_published
from convscale.strategy.strategy import Strategy, fast

_UNIFORM = ("d", "w", "r", "dw", "dr", "wr", "dwr")
_WITH_GROUPS = ("wg", "dwg", "wgr", "dwgr")
_NAMES = (*_UNIFORM, "dWr")
_WEIGHT = re.compile(r"([a-zA-Z])(\d+(?:\.\d+)?)")
_USAGE = "Use d, w, g and r: 'dwr' (uniform), 'dWr' (fast), 'dWr@0.6', 'd1_w8_g8_r1' (weights)."
_FILE = re.compile(r"(?P<path>.+\.ya?ml)(?:@(?P<entry>[^@/]+))?", re.IGNORECASE)


def parse_strategy(text: str) -> Strategy:
    """Read a strategy from its name, α, weights, a name of the registry, or a YAML file.

    Weights may name g, the group width, which otherwise follows width; letters have the
    weight 1 each. The weight of g has no part in the sum of the others. An entry of a table is
    written behind its name: `efficientnet-table@b3`, `mine.yaml@large`.

    Raises:
        InputError: If the text names no strategy.

    Example:
        >>> parse_strategy("dwr").growth.params == round(2 / 3, 12)
        True
        >>> parse_strategy("d1_w8_g8_r1").growth == parse_strategy("dWr").growth
        True
        >>> parse_strategy("wg").factors(4.0).group_width
        2.0
    """
    name = text.strip()
    if (file := _FILE.fullmatch(name)) is not None:
        from convscale.strategy.files import read_strategy  # pydantic starts slowly

        return read_strategy(file["path"]).chosen(file["entry"])
    if (found := find_published(name)) is not None:
        return found
    if name == "dWr":
        return fast(0.8)
    if name in _UNIFORM or name in _WITH_GROUPS:
        return _shared(name, dict.fromkeys(name, 1.0))
    if name.startswith("dWr@"):
        return fast(_alpha(name))
    if re.search(r"\d", name):
        return _shared(name, _weights(name))
    unknown = [letter for letter in name if letter not in "dwgrW"]
    what = f"Unknown axis {unknown[0]!r} in strategy" if unknown and name else "Unknown strategy"
    raise InputError(f"{what} {name!r}.{near_names(name, (*_NAMES, *REGISTRY))} {_USAGE}")


def named_strategies() -> tuple[Strategy, ...]:
    """Return the strategies that have a name of their own.

    Example:
        >>> [strategy.name for strategy in named_strategies()][-2:]
        ['dwr', 'dWr']
    """
    return tuple(parse_strategy(name) for name in _NAMES)


def _alpha(name: str) -> float:
    try:
        alpha = float(name.removeprefix("dWr@"))
    except ValueError:
        alpha = math.nan
    if not 0 <= alpha <= 1:
        raise InputError(f"α in {name!r} must be a number in [0, 1]. Write dWr@0.8.")
    return alpha


def _weights(name: str) -> dict[str, float]:
    weights: dict[str, float] = {}
    for part in name.split("_"):
        match = _WEIGHT.fullmatch(part)
        if match is None:
            raise InputError(f"Cannot read {part!r} in strategy {name!r}. {_USAGE}")
        axis, weight = match[1], float(match[2])
        if axis not in "dwgr":
            raise InputError(f"Unknown axis {axis!r} in strategy {name!r}. {_USAGE}")
        if axis in weights:
            raise InputError(f"Axis {axis!r} stands twice in strategy {name!r}. {_USAGE}")
        weights[axis] = weight
    return weights


def _shared(name: str, weights: dict[str, float]) -> Strategy:
    axes = {axis: weight for axis, weight in weights.items() if axis != "g"}
    total = sum(axes.values())
    if total <= 0:
        raise InputError(f"All weights of strategy {name!r} are 0. {_USAGE}")
    return Strategy(
        name,
        depth=axes.get("d", 0.0) / total,
        width=axes.get("w", 0.0) / total,
        resolution=axes.get("r", 0.0) / total,
        group_width=weights["g"] / total if "g" in weights else None,
    )
