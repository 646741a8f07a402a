"""From a strategy and a target to depths, widths and a resolution that can be built."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import log, prod

from convscale.complexity.complexity import Complexity
from convscale.errors import InputError, UnscalableNetworkError
from convscale.network.stages import join
from convscale.quantities import format_count, sides
from convscale.scaling.blueprint import Blueprint, Variant
from convscale.scaling.following import is_ruled, ruled_widths
from convscale.scaling.parts import Parts
from convscale.scaling.steps import nearest
from convscale.scaling.sums import Width
from convscale.scaling.widths import Widths
from convscale.strategy import Factors, Strategy

_MAX_BLOCKS, _MAX_WIDTH, _MAX_POSITIONS = 2000, 1 << 20, 1 << 30
_CLOSE, _COARSE = 0.002, 0.005
_ROUNDS, _PROMISING = 6, 4
_FAR = 0.15  # how far a width moves from its request, by ratio
_SMALLEST = 2.0**-40


@dataclass(frozen=True)
class Candidate:
    """A network that can be built: a variant of the base with new widths.

    Example:
        >>> from convscale.network import resolve_base
        >>> from convscale.strategy import parse_strategy
        >>> base = Blueprint(resolve_base("timm:resnet18").build("meta"), 224)
        >>> candidate_at(base, parse_strategy("d"), 2.0).variant.depths
        (4, 4, 4, 4)
    """

    factor: float
    factors: Factors
    variant: Variant
    widths: Widths
    step: int
    complexity: Complexity

    def value(self, metric: str) -> int:
        """Return one metric of the complexity."""
        return self.complexity.as_dict()[metric]


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
    resolution, step = blueprint.resolution, 1
    if longer != 1:
        resolution, step = blueprint.resolution_near(longer, depths=depths)
    variant = blueprint.variant(depths, resolution)
    widths = widths_at(blueprint, variant, factors, strategy)
    return Candidate(factor, factors, variant, widths, step, variant.complexity(widths))


def _depths(blueprint: Blueprint, strategy: Strategy, factor: float) -> tuple[int, ...]:
    rule = strategy.rules.rule
    asked = zip(blueprint.stages, blueprint.deepenable, blueprint.depths_at(factor), strict=True)
    return tuple(
        rule.to_depth(stage.depth, depth / stage.depth) if able else stage.depth
        for stage, able, depth in asked
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


def check_axes(blueprint: Blueprint, strategy: Strategy) -> None:
    """Refuse a strategy whose axis the network does not have.

    Raises:
        UnscalableNetworkError: If no stage can be deepened, or no width can change.

    Example:
        >>> from convscale.network import resolve_base
        >>> from convscale.strategy import parse_strategy
        >>> vgg = Blueprint(resolve_base("timm:vgg11").build("meta"), 224)
        >>> check_axes(vgg, parse_strategy("w")) is None
        True
    """
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


def _no_depth(blueprint: Blueprint) -> str:
    stages = kept_stages(blueprint)
    if not blueprint.stages:
        return "the network has no stage of blocks that can be repeated"
    if len(stages) < len(blueprint.stages):
        return "the stages that could be deepened are frozen"
    if not any(blueprint.hopeful):
        return (
            f"none of its blocks can be repeated (at {', '.join(stages[:3])}): each changes the "
            "shape of what it takes, and no block like it keeps it"
        )
    return (
        f"its forward pass runs no block that is added (at {', '.join(stages[:3])}): it must "
        "iterate over them"
    )


def _no_width(blueprint: Blueprint) -> str:
    if blueprint.control.keep or blueprint.control.freeze:
        return "every width stays with what is kept or frozen"
    if blueprint.control.literals or blueprint.control.unfollowed:
        return f"none is left, as {written(blueprint)}"
    trace = blueprint.trace
    unknown = [f"{op} in {path or 'the network'}" for path, op in trace.opaque]
    fixing = [f"{kept.operator} in {kept.where or 'the network'}" for kept in trace.kept]
    text = "no width of the network can change"
    for reasons, what in ((unknown, "not understood"), (fixing, "fixed by")):
        if reasons:
            return f"{text} ({what}: {'; '.join(list(dict.fromkeys(reasons))[:3])})"
    return text


def written(blueprint: Blueprint) -> str:
    """Name the calls in which the network's code writes sizes out, or fails with others."""
    control, trace = blueprint.control, blueprint.trace
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
    best = _search(blueprint, strategy, metric, budget, growth)
    if abs(best.value(metric) / budget - 1) > _CLOSE and not is_ruled(strategy.rules):
        best = _refined(blueprint, strategy, metric, budget, best)
    return best


def _search(
    blueprint: Blueprint, strategy: Strategy, metric: str, budget: float, growth: float
) -> Candidate:
    """Bracket the factor, guessing by the law of growth, then halve the bracket."""
    low: Candidate | None = None
    high: Candidate | None = None
    best: Candidate | None = None
    stuck = False  # nothing changes any more below a factor
    unbuildable = 0.0  # the largest factor at which the network was too small to run
    value = blueprint.base_complexity.as_dict()[metric]
    factor = (budget / value) ** (1 / growth)
    for _ in range(32):
        try:
            found = candidate_at(blueprint, strategy, max(factor, _SMALLEST))
        except UnscalableNetworkError:
            if factor > 0.99 or abs(factor - unbuildable) < 1e-3 * factor:
                raise
            unbuildable = max(factor, unbuildable)
            factor = (factor * (high.factor if high else 1.0)) ** 0.5
            _check_smallest(strategy, metric, budget, high, unbuildable)
            continue
        got = found.value(metric)
        if best is None or abs(got - budget) < abs(best.value(metric) - budget):
            best = found
        if abs(got / budget - 1) <= _CLOSE:
            break
        if got < budget:
            low = found
        else:
            stuck = high is not None and low is None and _same(found, high)
            high = found
            _check_smallest(strategy, metric, budget, high, max(unbuildable, _SMALLEST))
        if low and high and (high.factor / low.factor < 1.0005 or _same(low, high)):
            break
        factor = _SMALLEST if stuck else _next(factor, got, budget, growth, low, high)
        if factor <= unbuildable:
            factor = (unbuildable * found.factor) ** 0.5
    assert best is not None
    return best


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
    return _refined(blueprint, strategy, "flops", target, found)


def _refined(
    blueprint: Blueprint, strategy: Strategy, metric: str, budget: float, found: Candidate
) -> Candidate:
    """Move single stages and widths, the best move first, while the miss shrinks."""

    def miss(candidate: Candidate) -> float:
        return abs(candidate.value(metric) / budget - 1)

    for _ in range(16):
        nearest = min(_moves(blueprint, strategy, found), key=miss, default=found)
        if miss(nearest) >= miss(found) and miss(found) > _COARSE and strategy.resolution:
            nearest = min(_resolution_moves(blueprint, found), key=miss, default=found)
        if miss(nearest) >= miss(found):
            return found
        found = nearest
        if miss(found) <= _CLOSE:
            return found
    return found


def refined_by(
    blueprint: Blueprint,
    strategy: Strategy,
    found: Candidate,
    miss: Callable[[Candidate], float],
) -> Candidate:
    """Move single stages and widths while that brings near what only building a network tells.

    Every round tries the few moves of which flops and acts promise most.

    Args:
        blueprint: The base network.
        strategy: The strategy.
        found: The network to begin with.
        miss: How far a network lies off, the logarithm of a ratio.

    Example:
        >>> from convscale.network import resolve_base
        >>> from convscale.strategy import parse_strategy
        >>> base = Blueprint(resolve_base("timm:resnet18").build("meta"), 224)
        >>> strategy = parse_strategy("w")
        >>> params = lambda candidate: log(candidate.complexity.params / 30e6)
        >>> found = candidate_at(base, strategy, 2.5)
        >>> abs(params(refined_by(base, strategy, found, params))) < abs(params(found))
        True
    """
    if is_ruled(strategy.rules):
        return found
    now = miss(found)
    for _ in range(_ROUNDS):
        if abs(now) <= _CLOSE:
            break
        moves = list(_moves(blueprint, strategy, found))
        if strategy.resolution:
            moves += _resolution_moves(blueprint, found)
        moves.sort(key=lambda move: abs(now + _promise(found, move)))
        tried = [(miss(move), move) for move in moves[:_PROMISING]]
        got, best = min(tried, key=lambda pair: abs(pair[0]), default=(now, found))
        if abs(got) >= abs(now):
            break
        now, found = got, best
    return found


def _promise(found: Candidate, move: Candidate) -> float:
    """Return the change that a move promises, in logarithms: of flops and acts alike."""
    old, new = found.complexity, move.complexity
    pairs = ((old.flops, new.flops), (old.acts, new.acts))
    return sum(log(after / before) for before, after in pairs if before and after) / 2


def _moves(blueprint: Blueprint, strategy: Strategy, found: Candidate) -> Iterator[Candidate]:
    if strategy.width:
        yield from _width_moves(found)
    if strategy.depth:
        yield from _depth_moves(blueprint, found)


def _width_moves(found: Candidate) -> Iterator[Candidate]:
    """Change one width by one multiple, staying within one multiple of the requested width.

    Where a multiple is much of the width, it stays nearer than that, and so do the widths that
    it is a part of.
    """
    rule = found.variant.rule
    derived = {entry.whole for entry in rule.sums}
    held = [way for way in rule.sums if way.holds(found.widths.of)]
    for width, step in found.widths.steps.items():
        if width in derived:
            continue
        for new in (found.widths.of[width] - step, found.widths.of[width] + step):
            if new < step or abs(new - width.request(found.factors.width)) > step:
                continue
            widths = rule.moved(found.widths, width, new)
            if not all(way.holds(widths.of) for way in held):
                continue
            moved = {w: size for w, size in widths.of.items() if size != found.widths.of[w]}
            if all(_is_near(w, size, found.factors.width) for w, size in moved.items()):
                yield replace(found, widths=widths, complexity=found.variant.complexity(widths))


def _is_near(width: Width, new: int, factor: float) -> bool:
    return abs(log(new / width.request(factor))) <= _FAR


def _depth_moves(blueprint: Blueprint, found: Candidate) -> Iterator[Candidate]:
    """Change one stage by one block, staying within one block of the requested depth."""
    now = found.variant.depths or ()
    able = blueprint.deepenable
    for index, asked in enumerate(blueprint.depths_at(found.factors.depth)):
        for depth in (now[index] - 1, now[index] + 1):
            if not able[index] or depth < 1 or abs(depth - asked) > 1:
                continue
            depths = tuple(depth if i == index else other for i, other in enumerate(now))
            try:
                variant = blueprint.variant(depths, found.variant.resolution)
            except UnscalableNetworkError:
                continue  # stages that run side by side must be equally deep
            widths = _carried(found, variant)
            complexity = variant.complexity(widths)
            yield replace(found, variant=variant, widths=widths, complexity=complexity)


def _carried(found: Candidate, variant: Variant) -> Widths:
    """Keep the widths that were found; an added block may bring widths of its own."""
    widths = variant.rule.widths(found.factors.width, found.factors.group_width)
    if widths.steps == found.widths.steps:
        return found.widths
    for width, step in widths.steps.items():
        if found.widths.steps.get(width) == step:
            widths = widths.with_width(width, found.widths.of[width])
    return widths


def _resolution_moves(blueprint: Blueprint, found: Candidate) -> Iterator[Candidate]:
    """Change the resolution by one step, staying within one of the requested resolution."""
    longest, step = max(sides(blueprint.resolution)), found.step
    now = max(sides(found.variant.resolution))
    for new in (now - step, now + step):
        if new < 1 or abs(new - longest * found.factors.resolution) > step:
            continue
        resolution = nearest(blueprint.resolution, new / longest, step)
        try:
            variant = blueprint.variant(found.variant.depths, resolution)
        except UnscalableNetworkError:
            continue  # the network does not run there; the other neighbour may do
        yield replace(found, variant=variant, complexity=variant.complexity(found.widths))


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
