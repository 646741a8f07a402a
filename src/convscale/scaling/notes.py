"""What a user is told about a scaled network: what was left alone, and why."""

from __future__ import annotations

from convscale.network.trace import Term
from convscale.quantities import format_count, format_resolution
from convscale.scaling.blueprint import Blueprint, Variant
from convscale.scaling.search import Candidate, kept_stages
from convscale.strategy import Strategy


def notes_on(
    blueprint: Blueprint, strategy: Strategy, found: Candidate, requested: dict[str, float]
) -> tuple[str, ...]:
    """Return one sentence for everything that is not as asked.

    Args:
        blueprint: The base network.
        strategy: The strategy.
        found: The network that was found.
        requested: The target: a factor, or the budget of one metric.

    Example:
        >>> from convscale.network import resolve_base
        >>> from convscale.scaling.search import candidate_at
        >>> from convscale.strategy import parse_strategy
        >>> base = Blueprint(resolve_base("timm:resnet18").build("meta"), 224)
        >>> strategy = parse_strategy("w")
        >>> notes_on(base, strategy, candidate_at(base, strategy, 2.0), {"factor": 2.0})
        ()
    """
    notes: list[str] = []
    if found.factors.depth != 1 and (kept := kept_stages(blueprint)):
        notes.append(f"Depth kept, no repeatable block: {', '.join(kept)}.")
    if found.step > 1:
        notes.append(
            f"The network accepts resolutions in steps of {found.step} px; "
            f"{format_resolution(found.variant.resolution)} px is the nearest."
        )
    if blueprint.trace.opaque and strategy.width:
        listed = ", ".join(f"{op} in {path or 'the network'}" for path, op in _first(blueprint))
        notes.append(f"Widths kept around operators that were not understood: {listed}.")
    notes += _miss(blueprint, found, requested)
    return tuple(notes)


def _first(blueprint: Blueprint) -> tuple[tuple[str, str], ...]:
    return blueprint.trace.opaque[:3]


def _miss(blueprint: Blueprint, found: Candidate, requested: dict[str, float]) -> list[str]:
    """Explain a result that is far from the target."""
    base = blueprint.base()
    before = blueprint.base_complexity
    (target, value), *_ = requested.items()
    if target != "factor":
        miss = found.value(target) / value - 1
        if abs(miss) <= 0.03:
            return []
        budget = f"{format_count(value)} {target}"
        return [f"The nearest network misses the budget of {budget} by {miss:+.1%}."]
    ratio = found.complexity.flops / before.flops if before.flops else value
    if 0.9 <= ratio / value <= 1.1:
        return []
    return [f"Flops grow {ratio:.3g} times for a factor of {value:g}: {_cause(base, found)}."]


def _cause(base: Variant, found: Candidate) -> str:
    """Name the larger cause of a flops ratio that is off the factor."""
    square, linear, fixed = _shares(base)
    causes = []
    if found.factors.width != 1:
        if fixed > 0.05:
            causes.append(f"{fixed:.0%} of the flops lie in layers whose width is fixed")
        if linear > 0.05:
            causes.append(
                f"{linear:.0%} of the flops grow with width and not its square "
                "(depthwise layers, stem, classifier)"
            )
    if not causes and square:
        causes.append("depths, widths and resolution round to sizes that can be built")
    return "; ".join(causes) or "rounding"


def _shares(base: Variant) -> tuple[float, float, float]:
    """Return the shares of flops that grow with width squared, with width, and not at all."""
    channels = base.trace.channels
    shares = [0, 0, 0]
    for term in base.trace.terms:
        free = sum(channels.scalable(units) for units in term.flops_units)
        shares[min(free, 2)] += _flops(term)
    total = sum(shares) or 1
    return shares[2] / total, shares[1] / total, shares[0] / total


def _flops(term: Term) -> int:
    flops = term.flops_scale
    for units in term.flops_units:
        flops *= len(units)
    return flops
