"""From a strategy and a target to depths, widths and a resolution that can be built."""

from __future__ import annotations

from math import prod

from convscale.errors import InputError, UnscalableNetworkError
from convscale.network.stages.stages import join
from convscale.network.tracing.trace import Trace
from convscale.quantities import format_count, sides
from convscale.scaling.plans.control import Control
from convscale.scaling.plans.parts import Parts
from convscale.scaling.search.blueprint import Blueprint
from convscale.scaling.search.refining import CLOSE, refined
from convscale.scaling.search.steps import Near
from convscale.scaling.variants.candidate import Candidate
from convscale.scaling.variants.variant import Variant
from convscale.scaling.widths.following import is_ruled, ruled_widths
from convscale.scaling.widths.widths import Widths
from convscale.strategy import Factors, Strategy

_MAX_BLOCKS, _MAX_WIDTH, _MAX_POSITIONS = 2000, 1 << 20, 1 << 30
SMALLEST = 2.0**-40  # the least factor that is tried
_STARTS = 4  # networks that were seen from which one is tried that misses the budget less
_MISSED = 0.03


def candidate_at(blueprint: Blueprint, strategy: Strategy, factor: float) -> Candidate:
    """Return the network nearest to a strategy's factors at a scale factor.

    Args:
        blueprint: The base network.
        strategy: How the factor is shared.
        factor: The scale factor s of the flops.

    Raises:
        InputError: If the factor asks for more than can be built.
        UnscalableNetworkError: If the network cannot follow the strategy.
    """
    factors = strategy.factors(factor)
    deeper = strategy.depth or blueprint.control.stage_depth
    depths = _depths(blueprint, strategy, factors.depth) if deeper else None
    blocks = sum(depths or ())
    multiples = blueprint.base().rule.multiples
    widest = max((width.request(factors.width) for width in multiples), default=1)
    own = sides(blueprint.resolution)
    longer = _capped(factors.resolution, max(own), strategy)
    tallest = max(own) * longer
    largest = max(own) * (_MAX_POSITIONS / prod(own)) ** (1 / len(own))
    if blocks > _MAX_BLOCKS or widest > _MAX_WIDTH or tallest > largest:
        raise InputError(
            f"A factor of {factor:.3g} under {strategy.name} asks for {float(blocks):.3g} "
            f"blocks, widths of {widest:.3g} and {tallest:.3g} px; the limits are {_MAX_BLOCKS}, "
            f"{_MAX_WIDTH} and {round(largest)}. Write a smaller factor or budget."
        )
    near = Near(blueprint.resolution, 1)
    if longer != 1:
        near = blueprint.resolution_near(longer, depths=depths)
    variant = blueprint.variant(depths, near.resolution)
    widths = widths_at(blueprint, variant, factors, strategy)
    complexity = variant.complexity(widths)
    return Candidate(factor, factors, variant, widths, near.step, complexity, near.uneven)


def expect(blueprint: Blueprint, strategy: Strategy, factor: float) -> None:
    """Tell a blueprint about which factor it will be asked for, which spares it a run.

    Example:
        >>> from convscale.network import resolve_base
        >>> from convscale.strategy import parse_strategy
        >>> base = Blueprint(resolve_base("timm:resnet18").build("meta"), 224)
        >>> expect(base, parse_strategy("dwr"), 2.0)
        >>> candidate_at(base, parse_strategy("dwr"), 2.0).variant.resolution
        251
    """
    own = sides(blueprint.resolution)
    longer = _capped(strategy.factors(factor).resolution, max(own), strategy)
    if longer ** len(own) * prod(own) <= _MAX_POSITIONS:
        blueprint.expect(longer)


def _depths(blueprint: Blueprint, strategy: Strategy, factor: float) -> tuple[int, ...]:
    rule = strategy.rules.rule
    asked = zip(
        blueprint.stages,
        blueprint.deepenable,
        blueprint.least_depths,
        blueprint.depths_at(factor),
        strict=True,
    )
    return tuple(
        max(rule.to_depth(stage.depth, depth / stage.depth), least) if able else stage.depth
        for stage, able, least, depth in asked
    )


def widths_at(
    blueprint: Blueprint, variant: Variant, factors: Factors, strategy: Strategy
) -> Widths:
    """Return the widths of a variant at some factors, by the rules of a strategy.

    Args:
        blueprint: The base network.
        variant: The depths and the resolution; widths hold for its own run only.
        factors: The factors of width and group width.
        strategy: The strategy.
    """
    if not is_ruled(strategy.rules):
        return variant.rule.widths(factors.width, factors.group_width)
    parts = Parts(variant.trace, blueprint.stages, variant.traced.edits)
    return ruled_widths(variant.rule, variant.trace, factors, strategy.rules, parts)


def _capped(factor: float, side: int, strategy: Strategy) -> float:
    """Return the factor of the resolution, less where it would pass the strategy's cap."""
    cap = strategy.rules.max_resolution
    return factor if cap is None else max(min(factor, cap / side), min(factor, 1.0))


def check_axes(blueprint: Blueprint, strategy: Strategy, factor: float | None = None) -> None:
    """Refuse a strategy whose axis the network does not have.

    Args:
        blueprint: The base network.
        strategy: The strategy.
        factor: The factor, where one is given: by one that changes no axis, none is needed.

    Raises:
        UnscalableNetworkError: If no stage can be deepened, no width can change, or no input has
            the sides of an image.

    Example:
        >>> from convscale.network import resolve_base
        >>> from convscale.strategy import parse_strategy
        >>> vgg = Blueprint(resolve_base("timm:vgg11").build("meta"), 224)
        >>> check_axes(vgg, parse_strategy("w")) is None
        True
    """
    if factor is not None and strategy.factors(factor) == Factors(1.0, 1.0, 1.0, 1.0):
        return
    if strategy.depth and not any(blueprint.deepenable):
        raise UnscalableNetworkError(
            f"Strategy {strategy.name!r} scales depth, but {_no_depth(blueprint)}. "
            f"{_instead(strategy, 'd')}"
        )
    if strategy.width and not blueprint.base().rule.multiples:
        raise UnscalableNetworkError(
            f"Strategy {strategy.name!r} scales width, but {_no_width(blueprint)}. "
            f"{_instead(strategy, 'w')}"
        )
    if strategy.resolution and not blueprint.sided:
        raise UnscalableNetworkError(
            f"Strategy {strategy.name!r} scales resolution, but no input of the network has the "
            f"sides of an image. {_instead(strategy, 'r')}"
        )


def _no_depth(blueprint: Blueprint) -> str:
    stages = kept_stages(blueprint)
    if not blueprint.stages:
        return "the network has no stage of blocks that can be repeated"
    if overrun := overrun_stages(blueprint):
        return f"it does not run with the blocks asked for (at {', '.join(overrun[:3])})"
    if len(stages) < len(blueprint.stages):
        return "the stages that could be deepened are frozen, or hold frozen blocks"
    if not any(blueprint.hopeful):
        return (
            f"none of its blocks can be repeated (at {', '.join(stages[:3])}): each changes the "
            "shape of what it takes, and no block like it keeps it"
        )
    refusals = [one for one in blueprint.refusals if one is not None]
    if refusals and all(one.unread for one in refusals):
        return f"what its last blocks put out reaches no output (at {', '.join(stages[:3])})"
    if all(one.idle for one in refusals):
        return (
            f"its forward pass runs no block that is added (at {', '.join(stages[:3])}): it must "
            "iterate over them"
        )
    reasons = dict.fromkeys(one.reason for one in refusals if one.reason)
    return (
        f"it does not run with a block more (at {', '.join(stages[:3])}): "
        f"{'; '.join(list(reasons)[:2])}"
    )


def _no_width(blueprint: Blueprint) -> str:
    if blueprint.control.keep or blueprint.control.freeze:
        return "every width stays with what is kept or frozen"
    if calls := written(blueprint.control, blueprint.trace):
        return f"none is left, as {calls}"
    trace = blueprint.trace
    unknown = [f"{op} in {path or 'the network'}" for path, op in trace.opaque]
    fixing = [f"{kept.operator} in {kept.where or 'the network'}" for kept in trace.kept]
    text = "no width of the network can change"
    for reasons, what in ((unknown, "not understood"), (fixing, "fixed by")):
        if reasons:
            return f"{text} ({what}: {'; '.join(list(dict.fromkeys(reasons))[:3])})"
    return text


def written(control: Control, trace: Trace) -> str:
    """Name the calls of a run in which the code writes sizes out, or fails with others.

    Example:
        >>> from torch import nn
        >>> from convscale.network import trace_module
        >>> trace = trace_module(nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU()), 8)
        >>> written(Control(unfollowed=(("1", 0),)), trace)
        'what reads them does not follow (relu in 1)'
    """
    named = [
        (call.function, path)
        for path, position, _ in control.literals
        for call in trace.shaped.get(path, [])[position : position + 1]
        if call is not None
    ]
    failed = [
        (read.function, path)
        for path, position in control.unfollowed
        for read in trace.reads.get(path, [])[position : position + 1]
    ]
    told = (
        f"{reason} ({', '.join(sorted({_called(*call) for call in calls})[:3])})"
        for reason, calls in (
            ("the code writes their sizes out", named),
            ("what reads them does not follow", failed),
        )
        if calls
    )
    return ", ".join(told)


def _called(function: str, path: str) -> str:
    name = {"__getitem__": "a slice", "__get__": "a size"}.get(function, function.strip("_"))
    return f"{name} in {path or 'the network'}"


def _instead(strategy: Strategy, axis: str) -> str:
    """Say how to go on without an axis."""
    shares = {"d": strategy.depth, "w": strategy.width, "r": strategy.resolution}
    others = "".join(name for name, share in shares.items() if share and name != axis)
    if not others:
        return f"Use a strategy without {axis}."
    return f"Leave it out: --keep {axis}, or use a strategy without {axis}, such as {others}."


def solve(blueprint: Blueprint, strategy: Strategy, metric: str, budget: float) -> Candidate:
    """Return the network of a strategy whose metric comes nearest to a budget.

    The factor is searched first; then single stages move by one block, or widths by one
    multiple, as long as that brings the metric nearer.

    Args:
        blueprint: The base network.
        strategy: How the factor is shared.
        metric: flops, params or acts.
        budget: The value to come near.

    Raises:
        InputError: If the strategy does not change the metric, or its smallest network
            exceeds the budget.

    Example:
        >>> from convscale.network import resolve_base
        >>> from convscale.strategy import parse_strategy
        >>> base = Blueprint(resolve_base("timm:resnet18").build("meta"), 224)
        >>> found = solve(base, parse_strategy("w"), "params", 20e6)
        >>> abs(found.complexity.params / 20e6 - 1) < 0.01
        True
    """
    growth = {"flops": 1.0, "params": strategy.growth.params, "acts": strategy.growth.acts}[metric]
    if growth <= 0:
        raise InputError(
            f"Strategy {strategy.name!r} does not change {metric}. "
            "Give a budget in another metric, or use another strategy."
        )

    def miss(candidate: Candidate) -> float:
        return abs(candidate.value(metric) / budget - 1)

    seen = _search(blueprint, strategy, metric, budget, growth)
    best = min(seen, key=miss)
    if miss(best) > CLOSE and not is_ruled(strategy.rules):
        starts = _apart(sorted(seen, key=miss), metric, budget)
        best = refined(blueprint, strategy, metric, budget, best)
        for other in starts[1:_STARTS]:
            if miss(best) <= _MISSED:
                break
            best = min(best, refined(blueprint, strategy, metric, budget, other), key=miss)
    return best


def _apart(found: list[Candidate], metric: str, budget: float) -> list[Candidate]:
    """Return the first networks of each choice of depths and resolution, on either side."""
    first: dict[tuple[object, ...], Candidate] = {}
    for one in found:
        above = one.value(metric) > budget
        first.setdefault((one.variant.depths, one.variant.resolution, above), one)
    return list(first.values())


def _search(
    blueprint: Blueprint, strategy: Strategy, metric: str, budget: float, growth: float
) -> list[Candidate]:
    """Bracket the factor, guessing by the law of growth, then halve the bracket.

    Returns:
        All networks that were seen.
    """
    low: Candidate | None = None
    high: Candidate | None = None
    seen: list[Candidate] = []
    stuck = False  # nothing changes any more below a factor
    unbuildable = 0.0  # the largest factor at which the network was too small to run
    value = blueprint.base_complexity.as_dict()[metric]
    factor = (budget / value) ** (1 / growth)
    for _ in range(32):
        try:
            found = candidate_at(blueprint, strategy, max(factor, SMALLEST))
        except UnscalableNetworkError:
            if factor > 0.99 or abs(factor - unbuildable) < 1e-3 * factor:
                raise
            unbuildable = max(factor, unbuildable)
            factor = (factor * (high.factor if high else 1.0)) ** 0.5
            _check_smallest(strategy, metric, budget, high, unbuildable)
            continue
        got = found.value(metric)
        seen.append(found)
        if abs(got / budget - 1) <= CLOSE:
            break
        if got < budget:
            low = found
        else:
            stuck = high is not None and low is None and _same(found, high)
            high = found
            _check_smallest(strategy, metric, budget, high, max(unbuildable, SMALLEST))
        if low and high and (high.factor / low.factor < 1.0005 or _same(low, high)):
            break
        factor = SMALLEST if stuck else _next(factor, got, budget, growth, low, high)
        if factor <= unbuildable:
            factor = (unbuildable * found.factor) ** 0.5
    return seen


def _check_smallest(
    strategy: Strategy, metric: str, budget: float, high: Candidate | None, floor: float
) -> None:
    """Refuse a budget when nothing smaller than `high` can be built."""
    if high is not None and high.factor <= floor * 1.02:
        raise InputError(
            f"The budget of {format_count(budget)} {metric} lies below the smallest network of "
            f"strategy {strategy.name!r}, which has {format_count(high.value(metric))}. "
            "Write a larger budget."
        )


def _next(
    factor: float,
    got: float,
    budget: float,
    growth: float,
    low: Candidate | None,
    high: Candidate | None,
) -> float:
    guess: float = factor * (budget / got) ** (1 / growth)
    if low and high:
        inside = low.factor * 1.0001 < guess < high.factor / 1.0001
        middle: float = (low.factor * high.factor) ** 0.5
        # alternate, so that a guess that creeps along a plateau cannot stall the search
        return guess if inside and high.factor / low.factor > 1.1 else middle
    return guess * (1.05 if low else 0.95) if abs(guess / factor - 1) < 0.05 else guess


def _same(low: Candidate, high: Candidate) -> bool:
    return (
        low.variant.depths == high.variant.depths
        and low.variant.resolution == high.variant.resolution
        and low.widths == high.widths
    )


def nearer(blueprint: Blueprint, strategy: Strategy, found: Candidate) -> Candidate:
    """Move widths by one multiple where rounding makes the flops miss by more than a tenth.

    They miss what the factor gives with widths that need not be rounded: layers whose flops
    grow with width and not its square are no rounding.

    Example:
        >>> from convscale.network import resolve_base
        >>> from convscale.strategy import parse_strategy
        >>> base = Blueprint(resolve_base("timm:regnety_040").build("meta"), 224)
        >>> strategy = parse_strategy("wr")
        >>> near = nearer(base, strategy, candidate_at(base, strategy, 2.0))
        >>> 1.9 < near.complexity.flops / base.base_complexity.flops < 2.1
        True
    """
    if not strategy.width or not blueprint.base_complexity.flops:
        return found
    if is_ruled(strategy.rules) or blueprint.control.by_stage:
        return found
    width, group_width = found.factors.width, found.factors.group_width
    growth = found.factor / width**2 * blueprint.width_growth(width, group_width)
    target = blueprint.base_complexity.flops * growth
    if abs(found.complexity.flops / target - 1) <= 0.1:
        return found
    return refined(blueprint, strategy, "flops", target, found)


def kept_stages(blueprint: Blueprint) -> list[str]:
    """Return the stages that have no block to repeat.

    Example:
        >>> from convscale.network import resolve_base
        >>> kept_stages(Blueprint(resolve_base("timm:resnet18").build("meta"), 224))
        []
    """
    return [
        join(stage.container, stage.blocks[0])
        for stage, able in zip(blueprint.stages, blueprint.repeatable, strict=True)
        if not able
    ]


def overrun_stages(blueprint: Blueprint) -> list[str]:
    """Return the stages that keep their depth, as the network fails in them at the one asked for.

    Example:
        >>> from convscale.network import resolve_base
        >>> overrun_stages(Blueprint(resolve_base("timm:resnet18").build("meta"), 224))
        []
    """
    return [stage.paths[0] for stage in blueprint.stages if blueprint.is_overrun(stage)]


def unread_stages(blueprint: Blueprint) -> list[str]:
    """Return those of them in which a block more runs, and changes no output.

    Example:
        >>> from convscale.network import resolve_base
        >>> unread_stages(Blueprint(resolve_base("timm:resnet18").build("meta"), 224))
        []
    """
    return [
        join(stage.container, stage.blocks[0])
        for stage, able, refusal in zip(
            blueprint.stages, blueprint.repeatable, blueprint.refusals, strict=True
        )
        if not able and refusal is not None and refusal.unread
    ]
