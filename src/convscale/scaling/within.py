"""Scale a network to what memory holds: the largest one that was found to fit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from convscale.complexity.memory import Memory, MemoryBudget
from convscale.errors import BudgetError, InputError
from convscale.quantities import format_bytes
from convscale.scaling.memory import memory_of
from convscale.scaling.results.scaled import ScaledNetwork
from convscale.strategy import Strategy

# Memory within this share below the limit is near enough; so are factors this near to each other.
_NEAR, _APART = 0.01, 1.003
_TRIALS = 16
_WORTH_A_NOTE = 0.03

At = Callable[[float, bool], ScaledNetwork]


@dataclass(frozen=True)
class _Trial:
    factor: float
    scaled: ScaledNetwork
    memory: Memory

    @property
    def peak(self) -> int:
        return self.memory.peak_bytes


def scale_within(
    at: At, strategy: Strategy, budget: MemoryBudget, *, strict: bool = False, weights: bool = True
) -> ScaledNetwork:
    """Return the network of a strategy that needs the most memory within a budget, never more.

    Args:
        at: Scales the base by a factor, with weights or without.
        strategy: How the factor is shared.
        budget: The limit, and what must fit.
        strict: Whether to refuse a network that leaves more than 3 % of the limit.
        weights: Whether the module gets weights; on the meta device if not.

    Raises:
        BudgetError: If nothing that was tried fits, or a strict budget is missed.

    Example:
        >>> from convscale.network import resolve_base
        >>> from convscale.scaling.scaler import Scaler
        >>> from convscale.strategy import parse_strategy
        >>> scaler, rule = Scaler(resolve_base("timm:resnet18"), resolution=64), parse_strategy("w")
        >>> found = scale_within(
        ...     lambda s, _: scaler.scale(rule, factor=s, weights=False),
        ...     rule, MemoryBudget(400_000_000, optimizer=None), weights=False)
        >>> 0.97 * 400_000_000 < found.memory.peak_bytes <= 400_000_000
        True
    """

    def trial(factor: float) -> _Trial:
        scaled = at(factor, False)
        return _Trial(factor, scaled, memory_of(scaled.as_network(), budget))

    best = _search(trial, strategy, budget.limit_bytes)
    left = 1 - best.peak / budget.limit_bytes
    if strict and left > _WORTH_A_NOTE:
        raise BudgetError(
            f"The largest network of strategy {strategy.name!r} that was found to fit needs "
            f"{format_bytes(best.peak)} of {format_bytes(budget.limit_bytes)}. Leave strict out "
            "to take it."
        )
    scaled = at(best.factor, True) if weights else best.scaled
    notes = scaled.notes
    if left > _WORTH_A_NOTE:
        notes = (*notes, f"{left:.1%} of the memory is left; the next larger network needs more.")
    requested = {"memory": float(budget.limit_bytes)}
    return replace(scaled, requested=requested, memory=best.memory, notes=notes)


def _search(trial: Callable[[float], _Trial], strategy: Strategy, limit: int) -> _Trial:
    """Bracket the limit, and come nearer on a line through the logarithms of what was tried."""
    fits, exceeds = None, None
    growth = max(strategy.growth.acts, 0.3)
    now, first = trial(1.0), None
    for _ in range(_TRIALS):
        first = first or now
        if now.peak <= limit:
            fits = now if fits is None or now.peak >= fits.peak else fits
        elif exceeds is None or now.factor < exceeds.factor:
            exceeds = now
        if fits is not None and fits.peak >= (1 - _NEAR) * limit:
            break
        if fits is not None and exceeds is not None:
            if exceeds.factor / fits.factor < _APART:
                break
            factor = _between(fits, exceeds, limit)
        else:
            step = (limit / now.peak) ** (1 / growth)
            factor = now.factor * (max(step, 1.05) if now.peak <= limit else min(step, 0.95))
        try:
            now = trial(factor)
        except InputError:  # there is no network as small as that
            break
    if fits is None:
        assert first is not None
        raise BudgetError(
            f"No network of strategy {strategy.name!r} was found to fit into "
            f"{format_bytes(limit)}; the base needs {format_bytes(first.peak)}, the smallest that "
            f"was tried {format_bytes(min(now.peak, first.peak))}. Give more, or a smaller batch."
        )
    return fits


def _between(low: _Trial, high: _Trial, limit: int) -> float:
    """Return the factor where the line through two trials meets the limit, well between them."""
    share = math.log(limit / low.peak) / math.log(high.peak / low.peak)
    share = min(max(share, 0.1), 0.9)
    return float(low.factor * (high.factor / low.factor) ** share)
