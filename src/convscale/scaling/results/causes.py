"""What takes the flops of a scaled network off the factor that was asked for."""

from __future__ import annotations

from math import log

from convscale.quantities import sides
from convscale.scaling.plans.control import Control
from convscale.scaling.search.blueprint import Blueprint
from convscale.scaling.search.search import widths_at
from convscale.scaling.variants.candidate import Candidate
from convscale.scaling.variants.variant import Variant
from convscale.scaling.widths.following import is_ruled
from convscale.scaling.widths.widths import Widths
from convscale.strategy import Strategy

ROUNDED = "widths round to multiples"
_PRODUCTS = frozenset(("bmm", "baddbmm"))  # of two maps, as in attention
_SOME = 0.05  # the share of the flops from which layers that keep their width are named
_LITTLE = 0.02  # the logarithm of what takes flops off, up to which it is not named
_LEAST = 0.5  # the share of the widths that are at their least, from which these are the cause


def cause_of(blueprint: Blueprint, strategy: Strategy, found: Candidate) -> str:
    """Name what takes the flops off the factor: everything that does so by a twentieth.

    Args:
        blueprint: The base network, under the control that it was scaled by.
        strategy: The strategy.
        found: The network that was found.

    Example:
        >>> from convscale.network import resolve_base
        >>> from convscale.scaling.search.search import candidate_at
        >>> from convscale.strategy import parse_strategy
        >>> base = Blueprint(resolve_base("timm:resnet18").build("meta"), 224)
        >>> strategy = parse_strategy("w")
        >>> cause_of(base, strategy, candidate_at(base, strategy, 1e-9))[:42]
        'widths are at their least, a multiple each'
    """
    variant, asked = found.variant, found.factors
    before = blueprint.base_complexity.flops
    deeper = blueprint.variant(variant.depths, blueprint.resolution)
    grown = deeper.complexity(deeper.rule.widths(1.0)).flops / (before * asked.depth)
    larger = blueprint.variant(None, variant.resolution)
    own = blueprint.base().rule.widths(1.0)
    cap = capped(blueprint, strategy, found)
    spans = ", or attention spans positions" if _attended(blueprint.base()) else ""
    positions = f"maps or resolution round{spans}"
    steps = {
        **_wider(blueprint, strategy, found),
        **_deepened(blueprint, variant, asked.depth, grown),
        "the resolution is capped" if cap else positions: larger.complexity(own).flops
        / (before * asked.resolution ** len(sides(blueprint.resolution))),
    }
    told = ((text, part) for text, part in steps.items() if abs(part - 1) > 0.05)
    causes = [f"{text} ({times(part)} times)" for text, part in told]
    return "; ".join(causes) or "depths, widths and resolution round, each by a little"


def _wider(blueprint: Blueprint, strategy: Strategy, found: Candidate) -> dict[str, float]:
    """Return what takes flops off the square of the factor of width, and how often."""
    base, asked, wide = blueprint.base(), found.factors, found.widths
    # widths are those of a run of their own where rules round them, and behind some edits
    if is_ruled(strategy.rules) or not base.rule.multiples.keys() <= wide.of.keys():
        wide = widths_at(blueprint, base, asked, strategy)
    before = blueprint.base_complexity.flops
    reached = base.complexity(wide).flops / before
    if _at_least(wide, asked.width):
        return {"widths are at their least, a multiple each": reached / asked.width**2}
    whole = blueprint.under(Control())
    unheld = whole.width_growth(asked.width, asked.width)
    free = blueprint.width_growth(asked.width, asked.width)
    growth = blueprint.width_growth(asked.width, asked.group_width)
    return {
        _linear(whole.base()): unheld / asked.width**2,
        "widths that are kept do not grow": free / unheld,
        "group width does not grow with width": growth / free,
        ROUNDED: reached / growth,
    }


def _at_least(wide: Widths, factor: float) -> bool:
    """Tell whether most widths are one step, and more than was asked for by half of it."""
    small = [
        new <= wide.steps[width] and width.request(factor) < new / 2
        for width, new in wide.of.items()
        if width in wide.steps
    ]
    return bool(small) and sum(small) >= _LEAST * len(small)


def times(part: float) -> str:
    """Write how often a number is another.

    Example:
        >>> times(0.805), times(1.39e6)
        ('0.81', '1.39e+06')
    """
    return f"{part:.2f}" if 0.01 <= part < 1e6 else f"{part:.3g}"


def capped(blueprint: Blueprint, strategy: Strategy, found: Candidate) -> str:
    """Say where a strategy's largest resolution is less than its factors ask for.

    Example:
        >>> from convscale.network import resolve_base
        >>> from convscale.scaling.search.search import candidate_at
        >>> from convscale.strategy import parse_strategy
        >>> base = Blueprint(resolve_base("timm:resnet18").build("meta"), 64)
        >>> strategy = parse_strategy("r")
        >>> capped(base, strategy, candidate_at(base, strategy, 2.0))
        ''
    """
    cap = strategy.rules.max_resolution
    asked = max(sides(blueprint.resolution)) * found.factors.resolution
    if cap is None or found.factors.resolution <= 1 or asked < cap + 1:
        return ""
    return f"The strategy caps the resolution at {cap} px; its factor asks for {asked:.0f} px."


def _linear(base: Variant) -> str:
    """Say how much of the flops grow less than the square of the width."""
    _, linear, fixed = _shares(base)
    kept = sum(layer.flops for layer in base.trace.kept) > _SOME * base.trace.flops
    attention = "attention, " if _attended(base) > _SOME else ""
    layers = f"({'widths that stay, ' if kept else ''}{attention}depthwise, stem, classifier)"
    text = f"{linear:.0%} of the flops grow with width and not its square {layers}"
    return text if fixed < 0.01 else f"{text}, and {fixed:.0%} not at all"


def _attended(base: Variant) -> float:
    """Return the share of the flops in products of two maps."""
    trace = base.trace
    products = sum(term.flops for term in trace.terms if term.operator in _PRODUCTS)
    return products / trace.flops if trace.flops else 0.0


def _deepened(
    blueprint: Blueprint, variant: Variant, factor: float, grown: float
) -> dict[str, float]:
    """Return the step that depth takes; none where it stays: finding stages takes runs."""
    if variant.depths is None and factor == 1:
        return {}
    return {_deeper(blueprint, variant, factor, grown): grown}


def _deeper(blueprint: Blueprint, variant: Variant, factor: float, grown: float) -> str:
    """Say why flops do not follow a factor of depth, but `grown` times it.

    What takes them off is told apart by three steps: what stands outside of blocks keeps its flops,
    stages have whole blocks, and blocks that are added or taken away are not the mean of their
    stage. Those that go the other way than the whole are no cause.
    """
    shares, own = blueprint.repeated_shares, tuple(stage.depth for stage in blueprint.stages)
    depths, inside = variant.depths or own, sum(shares)
    stages = zip(shares, depths, own, strict=True)
    outside = 1 - inside + inside * factor
    even = 1 - inside + sum(share * new / old for share, new, old in stages)
    steps = {
        _of_blocks(factor, grown, dense=blueprint.runs_each_depth): grown * factor / even,
        _of_rounding(blueprint, depths, factor): even / outside,
        f"what lies outside repeated blocks does not {'grow' if factor > 1 else 'shrink'} with "
        "depth": outside / factor,
    }
    along = {text: abs(log(part)) for text, part in steps.items() if (part > 1) == (grown > 1)}
    told = [text for text, part in along.items() if part > _LITTLE]
    return ", and ".join(told or [max(along, key=along.__getitem__)])


def _of_blocks(factor: float, grown: float, *, dense: bool) -> str:
    """Say how the blocks that are added or taken away differ, if they are the cause."""
    if factor > 1:
        if grown < 1:
            return "added blocks cost less than the first of their stages"
        more = "dense blocks cost more the more stand before them"
        return more if dense else "added blocks cost more than others"
    return f"blocks that are taken away cost {'less' if grown > 1 else 'more'} than those that stay"


def _of_rounding(blueprint: Blueprint, depths: tuple[int, ...], factor: float) -> str:
    """Say why stages have other depths than was asked for."""
    held = any(
        1 < least == depth and asked <= least - 0.5
        for least, depth, asked in zip(
            blueprint.least_depths, depths, blueprint.depths_at(factor), strict=True
        )
    )
    rounds = "depths round to whole blocks"
    return f"{rounds}, or stay where one less does not run" if held else rounds


def _shares(base: Variant) -> tuple[float, float, float]:
    """Return the shares of flops that grow with width squared, with width, and not at all."""
    channels = base.channels
    shares = [0, 0, 0]
    for term in base.trace.terms:
        free = sum(channels.scalable(units) for units in term.flops_units)
        shares[min(free, 2)] += term.flops
    total = sum(shares) or 1
    return shares[2] / total, shares[1] / total, shares[0] / total
