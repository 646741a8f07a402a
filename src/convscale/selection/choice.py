"""Choose the scaled network with the most flops inside a latency budget, and say why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from convscale.errors import InputError
from convscale.quantities import check_positive, format_count
from convscale.runtime.spread import Spread, format_ms
from convscale.selection.correlation import Costed

STAND_IN = "flops stand in for accuracy"

# Flops this near to each other differ by rounding of widths more than by intent.
_NEAR = 0.05


class Candidate(Costed, Protocol):
    """What a row must tell to be chosen: its complexity and times, and how it was scaled."""

    @property
    def network(self) -> str:
        """The base network's resolved name."""

    @property
    def strategy(self) -> str | None:
        """The strategy's name; None for the base network itself."""

    @property
    def factor(self) -> float:
        """The nominal scale factor s."""

    @property
    def label(self) -> str:
        """The name under which the row's network can be named again."""


@dataclass(frozen=True)
class Violation:
    """A scaled network that misses the budget, and by how many milliseconds.

    Example:
        >>> from types import SimpleNamespace
        >>> row = SimpleNamespace(network="net", strategy="w", factor=4.0)
        >>> Violation(row, excess_ms=3.5).excess_ms
        3.5
    """

    row: Candidate
    excess_ms: float


@dataclass(frozen=True)
class Choice:
    """What to build inside a latency budget, and why.

    reason says why and what the others lack, not once more what to build. row is None
    where no scaled network fits. fitting holds all that fit, the chosen one first and
    then by falling flops; violations those that do not, the nearest first.

    Example:
        >>> Choice("net", None, budget_ms=8.0, reason="Nothing fits.").feasible
        False
    """

    network: str
    row: Candidate | None
    budget_ms: float
    reason: str
    base: Candidate | None = None
    fitting: tuple[Candidate, ...] = ()
    violations: tuple[Violation, ...] = ()

    @property
    def feasible(self) -> bool:
        """Whether a scaled network fits the budget."""
        return self.row is not None

    def takes(self, row: Candidate) -> bool:
        """Tell whether a row is the chosen one."""
        return self.row is not None and self.row.label == row.label

    @property
    def next_best(self) -> Candidate | None:
        """The network with the next most flops that fits too."""
        return self.fitting[1] if len(self.fitting) > 1 else None

    def as_document(self) -> dict[str, object]:
        """Return the choice as the command line's JSON has it."""
        chosen = self.row
        return {
            "network": self.network,
            "latency_budget_ms": self.budget_ms,
            "strategy": None if chosen is None else chosen.strategy,
            "factor": None if chosen is None else chosen.factor,
            "reason": self.reason,
            "violations": [
                {
                    "strategy": missed.row.strategy,
                    "factor": missed.row.factor,
                    "excess_ms": missed.excess_ms,
                }
                for missed in self.violations
            ],
        }


def choose(rows: Iterable[Candidate], latency_budget_ms: float) -> Choice:
    """Choose among one network's rows the scaled one with the most flops inside the budget.

    Flops stand in for accuracy. A network fits if its median latency does; of equal flops
    the lower latency wins.

    Args:
        rows: The rows of one network; its base row, if there, is not a candidate.
        latency_budget_ms: The most that a forward pass may take.

    Raises:
        InputError: If the budget is not positive, a scaled row has no latency, there is
            none, or the rows are of several networks.

    Example:
        >>> from types import SimpleNamespace as Row
        >>> from convscale.runtime import Spread
        >>> rows = [
        ...     Row(network="net", strategy="w", factor=2.0, flops=200, latency=Spread(5, 0, 9)),
        ...     Row(network="net", strategy="d", factor=4.0, flops=400, latency=Spread(9, 0, 9)),
        ... ]
        >>> choose(rows, 8.0).row.strategy, choose(rows, 10.0).row.strategy
        ('w', 'd')
        >>> print(choose(rows, 8.0).reason)
        Only it fits, of 2 scaled networks; flops stand in for accuracy. With more flops, d at
        4x (400) takes 9.00 ms, 1.00 ms too long.
    """
    budget = check_positive(latency_budget_ms, what="latency budget in ms")
    listed = list(rows)
    scaled = [row for row in listed if row.strategy is not None]
    network = _only_network(listed)
    if not scaled:
        raise InputError("There is no scaled network to choose from. Give a strategy and a factor.")
    base = next((row for row in listed if row.strategy is None), None)
    fitting = sorted(
        (row for row in scaled if _ms(row) <= budget), key=lambda row: (-row.flops, _ms(row))
    )
    violations = sorted(
        (Violation(row, _ms(row) - budget) for row in scaled if _ms(row) > budget),
        key=lambda missed: missed.excess_ms,
    )
    return Choice(
        network,
        fitting[0] if fitting else None,
        budget,
        _reason(fitting, violations, budget, base),
        base=base,
        fitting=tuple(fitting),
        violations=tuple(violations),
    )


def _only_network(rows: Sequence[Candidate]) -> str:
    names = list(dict.fromkeys(row.network for row in rows))
    if len(names) > 1:
        raise InputError(f"Choose for one network at a time, not for {' and '.join(names)}.")
    return names[0] if names else ""


def _latency(row: Candidate) -> Spread:
    if row.latency is None:
        raise InputError(f"{_label(row)} has no latency. Measure all networks to choose by it.")
    return row.latency


def _ms(row: Candidate) -> float:
    return _latency(row).median


def _label(row: Candidate) -> str:
    return f"{row.strategy} at {row.factor:g}x" if row.strategy else "the base network"


def _reason(
    fitting: Sequence[Candidate],
    violations: Sequence[Violation],
    budget_ms: float,
    base: Candidate | None,
) -> str:
    if not fitting:
        near = violations[0]
        return (
            f"The nearest, {_label(near.row)}, takes {format_ms(_ms(near.row))} ms, "
            f"{format_ms(near.excess_ms)} ms too long."
        )
    chosen = fitting[0]
    said = [
        f"{_rank(len(fitting), len(fitting) + len(violations))}; {STAND_IN}.",
        _larger(chosen, violations, budget_ms),
        _near_tie(chosen, fitting[1:]),
        _caution(chosen, budget_ms),
        _smaller_than_base(chosen, base, budget_ms),
    ]
    return " ".join(sentence for sentence in said if sentence)


def _rank(fitting: int, total: int) -> str:
    """Say how the chosen network stands among all."""
    if total == 1:
        return "It is the only scaled network"
    if fitting == 1:
        return f"Only it fits, of {total} scaled networks"
    if fitting == total:
        return f"All {total} scaled networks fit, and it has the most flops"
    return f"It has the most flops of the {fitting} of {total} scaled networks that fit"


def _larger(chosen: Candidate, violations: Sequence[Violation], budget_ms: float) -> str:
    """Name the nearest network that was lost to the budget although it has more flops."""
    larger = [missed.row for missed in violations if missed.row.flops > chosen.flops]
    if not larger:
        return ""
    row = larger[0]
    named = f"{_label(row)} ({format_count(row.flops)})"
    return (
        f"With more flops, {named if len(larger) == 1 else f'even the fastest, {named},'} takes "
        f"{format_ms(_ms(row))} ms, {format_ms(_ms(row) - budget_ms)} ms too long."
    )


def _near_tie(chosen: Candidate, others: Sequence[Candidate]) -> str:
    """Point out the fastest network that has nearly as many flops and runs faster."""
    near = [row for row in others if row.flops >= (1 - _NEAR) * chosen.flops]
    faster = min(near, key=_ms, default=None)
    if faster is None or _ms(faster) >= _ms(chosen):
        return ""
    less = 1 - faster.flops / chosen.flops
    fewer = f"{100 * less:.1f} % fewer flops" if less > 0 else "as many flops"
    return f"Nearly the same, {_label(faster)} has {fewer} and takes {format_ms(_ms(faster))} ms."


def _caution(chosen: Candidate, budget_ms: float) -> str:
    """Warn where the spread of the repeats reaches over the budget."""
    latency = _latency(chosen)
    if latency.median + latency.iqr <= budget_ms:
        return ""
    return (
        f"Its {format_ms(latency.median)} ms lie nearer to the budget than their interquartile "
        f"range ({format_ms(latency.iqr)} ms), so that it may miss it."
    )


def _smaller_than_base(chosen: Candidate, base: Candidate | None, budget_ms: float) -> str:
    if base is None or base.latency is None or base.flops < chosen.flops:
        return ""
    if base.latency.median > budget_ms:
        return ""
    return "The base network fits too and has no fewer flops."
