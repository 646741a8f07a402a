"""A latency budget as people write it: 2.5x the base network's, or 8ms."""

from __future__ import annotations

from dataclasses import dataclass

from convscale.errors import InputError
from convscale.quantities import check_positive, parse_ms, parse_number


@dataclass(frozen=True)
class LatencyBudget:
    """An upper limit of the latency: in ms, or in multiples of the base network's.

    Example:
        >>> LatencyBudget(2.5, relative=True).limit_ms(8.0)
        20.0
    """

    value: float
    relative: bool

    def limit_ms(self, base_latency_ms: float) -> float:
        """Return the limit in ms for a base network of that latency (ms).

        Raises:
            InputError: If the budget is relative and the base's latency is not positive.
        """
        if not self.relative:
            return self.value
        return self.value * check_positive(base_latency_ms, what="latency of the base network")


def parse_latency_budget(text: str) -> LatencyBudget:
    """Read a latency budget: ms, s and us are times, x is a multiple of the base's latency.

    Raises:
        InputError: If it has no unit, or is not positive and finite.

    Example:
        >>> parse_latency_budget("2.5x"), parse_latency_budget("8ms")
        (LatencyBudget(value=2.5, relative=True), LatencyBudget(value=8.0, relative=False))
        >>> parse_latency_budget("2.5x").limit_ms(60.0)
        150.0
    """
    word = text.strip().lower()
    if word.endswith("x"):
        number = word.removesuffix("x").rstrip()
        return LatencyBudget(parse_number(number, what="latency budget"), relative=True)
    if word.endswith("s"):
        return LatencyBudget(parse_ms(word, what="latency budget"), relative=False)
    raise InputError(f"Cannot read {text!r} as a latency budget. Write 2.5x (the base's) or 8ms.")
