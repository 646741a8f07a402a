"""A description scaled by a strategy, with the rounding of the authors' code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from convscale.errors import InputError
from convscale.families import rounding as rules
from convscale.families.closed_form import count
from convscale.families.description import BLOCKS_IN_ALL, GROUPED, AnyNet, Description
from convscale.quantities import check_positive, format_count, sides
from convscale.strategy import Factors, Step, Strategy, parse_strategy
from convscale.strategy.step import own_factors

ROUNDINGS = ("reference", "efficientnet")
GROUP_WIDTHS = ("named", "follow")
_MAX_WIDTH, _MAX_SIDE = 1 << 20, 1 << 15
_SMALLEST = 2.0**-40
_MOST_MOVES = 24
_FINE = ((1.25, 224), (1.001, 100))  # spread of a grid and its steps to either side


@dataclass(frozen=True)
class Rule:
    """How depths, widths and resolutions are rounded; group widths follow one rule.

    Example:
        >>> rule_named("reference").step
        4
    """

    depth: Callable[[float], int]
    width: Callable[[float], int]
    step: int


def rule_named(rounding: str) -> Rule:
    """Return the rounding rule of a name.

    Raises:
        InputError: If there is none.

    Example:
        >>> rule_named("efficientnet").depth(2.1)
        3
    """
    if rounding == "reference":
        return Rule(rules.reference_depth, rules.reference_width, step=4)
    if rounding == "efficientnet":
        return Rule(rules.efficientnet_depth, rules.efficientnet_width, step=1)
    raise InputError(f"Unknown rounding {rounding!r}. Use {', '.join(ROUNDINGS)}.")


def group_rule(strategy: str | Strategy, asked: str | None, *, rounding: str | None) -> Strategy:
    """Return a strategy that scales group width as asked.

    Args:
        strategy: A strategy or its notation.
        asked: follow, like width; named, only where the strategy names g; None for what the
            rounding rule has.
        rounding: The rounding rule; under reference, group width is scaled only where named.

    Raises:
        InputError: If there is no such rule.

    Example:
        >>> group_rule("w", None, rounding="reference").factors(4).group_width
        1.0
        >>> group_rule("w", None, rounding="nearest").factors(4).group_width
        2.0
    """
    found = parse_strategy(strategy) if isinstance(strategy, str) else strategy
    if not isinstance(found, Strategy):
        raise InputError(
            f"{found!r} is no strategy. Write one, as 'dWr', and the factor behind it."
        )
    if asked is not None and asked not in GROUP_WIDTHS:
        raise InputError(
            f"Unknown rule {asked!r} for group width. Use {' or '.join(GROUP_WIDTHS)}."
        )
    named = asked == "named" or (asked is None and rounding == "reference")
    return found.named_only() if named else found


def check_rules(strategy: Strategy, rounding: str) -> None:
    """Refuse a strategy that fixes more than factors and rounding: the rule here would drop it.

    Raises:
        InputError: If the strategy has such rules.

    Example:
        >>> check_rules(parse_strategy("mobilenetv2@0.5"), "reference")
        Traceback (most recent call last):
        convscale.errors.InputError: Strategy 'mobilenetv2@0.5' has rules of its own
        (head_at_least 1280), which rounding 'reference' does not follow. Write --rounding nearest.
    """
    rules, stages = strategy.rules, strategy.stage_depth if isinstance(strategy, Step) else ()
    own = {
        "keep": ", ".join(rules.keep),
        "head_at_least": rules.head_at_least,
        "max_resolution": rules.max_resolution,
        "stage_depth": ", ".join(f"{times:.3g}" for times in stages),
    }
    told = "; ".join(f"{name} {value}" for name, value in own.items() if value)
    if told:
        raise InputError(
            f"Strategy {strategy.name!r} has rules of its own ({told}), which rounding "
            f"{rounding!r} does not follow. Write --rounding nearest."
        )


def scaled(
    description: Description,
    strategy: str | Strategy,
    factor: float | None = None,
    *,
    rounding: str = "reference",
    group_width: str | None = None,
) -> Description:
    """Scale a description by a strategy.

    Args:
        description: The base network.
        strategy: A strategy or its notation.
        factor: Scale factor s; an entry of a table has factors of its own and takes none.
        rounding: reference, the authors' rule, or efficientnet.
        group_width: follow, to scale group width like width, or named, only where the strategy
            names g; named under reference by default, else follow.

    Raises:
        InputError: If an argument is wrong, the strategy has rules that the rounding does not
            follow, or the network would be larger than what can be built.

    Example:
        >>> from convscale.families.registry import named
        >>> net = named("RegNetY-4.0GF")
        >>> scaled(net, "d1_w8_g8_r1", 4).group_widths, scaled(net, "dWr", 4).group_widths
        ((112, 112, 112, 112), (64, 64, 64, 64))

    Source: arXiv 2103.06877 and its public reference code.
    """
    rule = group_rule(strategy, group_width, rounding=rounding)
    check_rules(rule, rounding)
    if isinstance(rule, Step):
        if factor is not None:
            raise InputError(own_factors(rule))
        factor = rule.scale
    if factor is None:
        raise InputError(f"Strategy {rule.name!r} needs a factor. Write it behind the strategy.")
    return by_factors(description, rule.factors(factor), rounding=rounding)


def by_factors(
    description: Description, factors: Factors, *, rounding: str = "reference"
) -> Description:
    """Scale a description by factors of depth, width, group width and resolution.

    Depths, widths, group widths and both resolutions are multiplied and rounded; then widths
    and group widths are made to fit. Stem and head of an AnyNet stay, those of an EfficientNet
    are scaled like widths; multipliers, ratios and kernels stay.

    Args:
        description: The base network.
        factors: The factors, before rounding.
        rounding: reference, the authors' rule, or efficientnet.

    Raises:
        InputError: If the network would be larger than what can be built.

    Example:
        >>> from convscale.families.registry import named
        >>> factors = parse_strategy("d1_w8_g8_r1").factors(4)
        >>> by_factors(named("RegNetY-4.0GF"), factors).widths
        (224, 336, 896, 1904)

    Source: arXiv 2103.06877 and its public reference code.
    """
    rule = rule_named(rounding)
    check_size(description, factors)
    resolution, test = (
        rules.rescaled(side, factors.resolution, step=rule.step)
        for side in (description.resolution, description.test_resolution)
    )
    depths = tuple(rule.depth(depth * factors.depth) for depth in description.depths)
    if isinstance(description, AnyNet):
        widths, groups = _fitting(description, factors, rule)
        return replace(
            description,
            depths=depths,
            widths=widths,
            group_widths=groups,
            resolution=resolution,
            test_resolution=test,
        )
    wide = [width * factors.width for width in (description.stem_width, description.head_width)]
    return replace(
        description,
        depths=depths,
        widths=tuple(rule.width(width * factors.width) for width in description.widths),
        stem_width=rule.width(wide[0]),
        head_width=rule.width(wide[1]) if description.head_width else 0,
        resolution=resolution,
        test_resolution=test,
    )


def _fitting(net: AnyNet, factors: Factors, rule: Rule) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return widths and group widths that fit each other."""
    widths = [rule.width(width * factors.width) for width in net.widths]
    if net.block not in GROUPED:
        return tuple(widths), tuple(widths)
    groups = [
        rules.reference_group_width(group * factors.group_width) for group in net.group_widths
    ]
    pairs = [
        rules.compatible(*entry)
        for entry in zip(widths, net.bottleneck_multipliers, groups, strict=True)
    ]
    return tuple(width for width, _ in pairs), tuple(group for _, group in pairs)


def check_size(description: Description, factors: Factors) -> None:
    """Refuse factors that ask for a network larger than what can be built.

    Raises:
        InputError: If they do.

    Example:
        >>> from convscale.families.registry import named
        >>> check_size(named("ResNet-50"), Factors(1.0, 2.0, 2.0, 1.0))
    """
    blocks = sum(description.depths) * factors.depth
    widest = max(*description.widths, description.head_width) * factors.width
    tallest = max(sides(description.resolution)) * factors.resolution
    if blocks > BLOCKS_IN_ALL or widest > _MAX_WIDTH or tallest > _MAX_SIDE:
        raise InputError(
            f"The factors ask for {blocks:.3g} blocks, widths of {widest:.3g} and {tallest:.3g} "
            f"px; the limits are {BLOCKS_IN_ALL}, {_MAX_WIDTH} and {_MAX_SIDE}. Write a smaller "
            "factor or budget."
        )


def solved(
    description: Description,
    strategy: str | Strategy,
    metric: str,
    budget: float,
    *,
    rounding: str = "reference",
    convention: str = "default",
    group_width: str | None = None,
) -> float:
    """Return the scale factor s whose network comes nearest to a budget.

    What is achieved is a function of s with steps, and need not grow everywhere: s is bracketed
    by the law of growth, then all of 0.8 to 1.25 times the bracketed s is tried in steps of
    0.1 %, and the surroundings of the best in steps of 0.001 %.

    Args:
        description: The base network.
        strategy: A strategy or its notation.
        metric: flops, params or acts.
        budget: The value to come near.
        rounding: The rounding rule.
        convention: The convention in which the metric is counted.
        group_width: follow or named, as in `scaled`.

    Raises:
        InputError: If the strategy does not change the metric, its smallest network exceeds the
            budget, or it has rules that the rounding does not follow.

    Example:
        >>> from convscale.families.registry import named
        >>> net = named("RegNetY-4.0GF")
        >>> s = solved(net, "d1_w8_g8_r1", "flops", 16e9)
        >>> abs(count(scaled(net, "d1_w8_g8_r1", s)).flops / 16e9 - 1) < 0.02
        True
    """
    check_positive(budget, what=f"budget of {metric}")
    strategy = group_rule(strategy, group_width, rounding=rounding)
    check_rules(strategy, rounding)
    growth = {"flops": 1.0, "params": strategy.growth.params, "acts": strategy.growth.acts}[metric]
    if growth <= 0:
        raise InputError(
            f"Strategy {strategy.name!r} does not change {metric}. "
            "Give a budget in another metric, or use another strategy."
        )

    known: dict[Description, int] = {}  # a step of the function has one network

    def value(s: float) -> int:
        net = by_factors(description, strategy.factors(s), rounding=rounding)
        if net not in known:
            known[net] = count(net, convention=convention).as_dict()[metric]
        return known[net]

    def nearest(centre: float, spread: float, steps: int) -> tuple[float, bool]:
        """Return the best factor of a grid, and whether a nearer one may lie beyond it."""
        grid = [centre * spread ** (step / steps) for step in range(-steps, steps + 1)]
        able = _buildable(description, strategy, grid)
        values = [value(s) for s in able]
        best = min(range(len(able)), key=lambda i: (abs(values[i] - budget), abs(i - steps)))
        if values[best] == values[0]:
            return able[0], True
        return able[best], values[best] == values[-1] and able[-1] == grid[-1]

    if (smallest := value(_SMALLEST)) > budget:
        raise InputError(
            f"The budget of {format_count(budget)} {metric} lies below the smallest network of "
            f"strategy {strategy.name!r}, which has {format_count(smallest)}. "
            "Write a larger budget."
        )
    best: float = (budget / value(1.0)) ** (1 / growth)
    for _ in range(_MOST_MOVES):
        best, beyond = nearest(best, 6.0, 48)
        if not beyond or best < _SMALLEST:
            break
    for spread, steps in _FINE:
        best, _ = nearest(best, spread, steps)
    return best


def _buildable(description: Description, strategy: Strategy, grid: list[float]) -> list[float]:
    """Leave out factors that ask for too much, unless all do."""
    able = []
    for s in grid:
        try:
            check_size(description, strategy.factors(s))
        except InputError:
            break  # larger factors ask for more
        able.append(s)
    return able or grid[:1]
