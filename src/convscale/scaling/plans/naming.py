"""Names of scaled networks: NAME@STRATEGY:FACTOR, and behind it how sizes are rounded."""

from __future__ import annotations

import re

from convscale.errors import InputError
from convscale.quantities import check_count
from convscale.scaling.plans.asking import ROUNDINGS
from convscale.strategy import Strategy

_MULTIPLE = 8
_NEAREST = re.compile(r"nearest(\d+)")


def scaled_name(
    base: str, strategy: Strategy, factor: float | None, rounding: str | None = None
) -> str:
    """Return the name by which a scaled network can be built.

    Args:
        base: The base network's name.
        strategy: The strategy.
        factor: The scale factor; None for an entry of a table.
        rounding: What stands behind it, where it is not the default.

    Example:
        >>> from convscale.strategy import parse_strategy
        >>> scaled_name("RegNetY-4.0GF", parse_strategy("dWr"), 4.0, "reference")
        'RegNetY-4.0GF@dWr:4:reference'
    """
    if factor is None:
        return f"{base}@{strategy.name}"
    end = "" if rounding is None else f":{rounding}"
    return f"{base}@{strategy.name}:{factor:g}{end}"


def rounding_of(text: str | None) -> tuple[str | None, int]:
    """Read what stands behind a factor: a rounding rule, or nearest and the width multiple.

    Returns:
        The rule, None for the strategy's own, and the multiple that widths keep.

    Raises:
        InputError: If there is no such rule.

    Example:
        >>> rounding_of(None), rounding_of("reference"), rounding_of("nearest16")
        ((None, 8), ('reference', 8), ('nearest', 16))
    """
    if text is None:
        return None, _MULTIPLE
    match = _NEAREST.fullmatch(text)
    if match is not None:
        return "nearest", check_count(int(match[1]), what="width multiple")
    if text not in ROUNDINGS:
        raise InputError(
            f"Unknown rounding {text!r} behind the factor. Use {', '.join(ROUNDINGS)}, or "
            "nearest16 for widths that are multiples of 16."
        )
    return text, _MULTIPLE
