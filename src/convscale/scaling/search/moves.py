"""Networks beside one that was found: a width, a depth or the resolution a step away."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import log

from convscale.errors import UnscalableNetworkError
from convscale.network.stages.stages import join, within
from convscale.quantities import sides
from convscale.scaling.search.blueprint import Blueprint
from convscale.scaling.search.large_outputs import lost_sides
from convscale.scaling.search.steps import nearest
from convscale.scaling.variants.candidate import Candidate
from convscale.scaling.variants.variant import Variant
from convscale.scaling.widths.sums import Width
from convscale.scaling.widths.widths import Widths

_FAR = 0.15  # how far a width moves from its request, by ratio

Aim = Mapping[str, float]  # how far metrics shall move, in logarithms


def width_moves(found: Candidate) -> Iterator[Candidate]:
    """Change one width by one multiple, staying within one multiple of the requested width.

    Where a multiple is much of the width, it stays nearer than that, and so do the widths that
    it is a part of.

    Example:
        >>> from convscale.network import resolve_base
        >>> from convscale.scaling.search.search import candidate_at
        >>> from convscale.strategy import parse_strategy
        >>> base = Blueprint(resolve_base("timm:resnet18").build("meta"), 64)
        >>> found = candidate_at(base, parse_strategy("w"), 2.0)
        >>> len({move.complexity.flops for move in width_moves(found)}) > 1
        True
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


def depth_moves(blueprint: Blueprint, found: Candidate, aim: Aim) -> Iterator[Candidate]:
    """Change one stage by one block, staying within one block of the requested depth.

    Args:
        blueprint: The base network.
        found: The network to begin with.
        aim: How far metrics shall move, in logarithms. Where every choice of depths takes a run,
            those come first that promise most.

    Example:
        >>> from convscale.network import resolve_base
        >>> from convscale.scaling.search.search import candidate_at
        >>> from convscale.strategy import parse_strategy
        >>> base = Blueprint(resolve_base("timm:resnet18").build("meta"), 64)
        >>> found = candidate_at(base, parse_strategy("d"), 2.0)
        >>> [move.variant.depths for move in depth_moves(base, found, {})][:2]
        [(3, 4, 4, 4), (5, 4, 4, 4)]
    """
    now = found.variant.depths or ()
    for index, depth in _depth_steps(blueprint, found, aim):
        depths = tuple(depth if i == index else other for i, other in enumerate(now))
        try:
            variant = blueprint.variant(depths, found.variant.resolution)
        except UnscalableNetworkError:
            continue  # stages that run side by side must be equally deep
        widths = _carried(found, variant)
        complexity = variant.complexity(widths)
        yield replace(found, variant=variant, widths=widths, complexity=complexity)


def _depth_steps(blueprint: Blueprint, found: Candidate, aim: Aim) -> list[tuple[int, int]]:
    """Return stages and their new depths; where each takes a run, the most promising first.

    A block more or less promises what the last block of the stage has of the base network.
    """
    now = found.variant.depths or ()
    able, least = blueprint.deepenable, blueprint.least_depths
    steps = [
        (index, depth)
        for index, asked in enumerate(blueprint.depths_at(found.factors.depth))
        for depth in (now[index] - 1, now[index] + 1)
        if able[index] and depth >= least[index] and abs(depth - asked) <= 1
    ]
    if not blueprint.runs_each_depth:
        return steps
    shares = {metric: last_blocks(blueprint, metric) for metric in aim}

    def left(step: tuple[int, int]) -> float:
        index, sign = step[0], step[1] - now[step[0]]
        return sum(abs(aim[metric] - sign * shares[metric][index]) for metric in aim)

    return sorted(steps, key=left)


def _carried(found: Candidate, variant: Variant) -> Widths:
    """Keep the widths that were found; an added block may bring widths of its own."""
    widths = variant.rule.widths(found.factors.width, found.factors.group_width)
    if widths.steps == found.widths.steps:
        return found.widths
    for width, step in widths.steps.items():
        if found.widths.steps.get(width) == step:
            widths = widths.with_width(width, found.widths.of[width])
    return widths


def resolution_moves(blueprint: Blueprint, found: Candidate) -> Iterator[Candidate]:
    """Change the resolution by one step, staying within one of the requested resolution.

    Outputs that have the image's sides keep them.

    Example:
        >>> from convscale.network import resolve_base
        >>> from convscale.scaling.search.search import candidate_at
        >>> from convscale.strategy import parse_strategy
        >>> base = Blueprint(resolve_base("timm:resnet18").build("meta"), 64)
        >>> found = candidate_at(base, parse_strategy("r"), 2.0)
        >>> [move.variant.resolution for move in resolution_moves(base, found)]
        [90]
    """
    longest, step = max(sides(blueprint.resolution)), found.step
    now = max(sides(found.variant.resolution))
    lost = frozenset(lost_sides(blueprint.trace, found.variant.trace))
    for new in (now - step, now + step):
        if new < 1 or abs(new - longest * found.factors.resolution) > step:
            continue
        resolution = nearest(blueprint.resolution, new / longest, step)
        try:
            variant = blueprint.variant(found.variant.depths, resolution)
        except UnscalableNetworkError:
            continue  # the network does not run there; the other neighbour may do
        if not lost.issuperset(lost_sides(blueprint.trace, variant.trace)):
            continue
        widths = _carried(found, variant)
        complexity = variant.complexity(widths)
        yield replace(found, variant=variant, widths=widths, complexity=complexity)


def last_blocks(blueprint: Blueprint, metric: str) -> tuple[float, ...]:
    """Return for each stage the share of the base network's metric in its last block.

    Example:
        >>> from convscale.network import resolve_base
        >>> base = Blueprint(resolve_base("timm:resnet18").build("meta"), 224)
        >>> [round(share, 3) for share in last_blocks(base, "flops")]
        [0.127, 0.127, 0.127, 0.127]
    """
    base = blueprint.base()
    form = base.traced.form
    flops, acts, params = form.parts(base.channels.sizes)
    paths = form.tensor_names if metric == "params" else form.term_paths
    own = {"flops": flops, "acts": acts, "params": params}[metric]
    whole = max(float(own.sum()), 1.0)
    blocks = (
        [join(stage.container, name) for name in stage.modules(stage.blocks[-1])]
        for stage in blueprint.stages
    )
    return tuple(
        float(own[[any(within(path, name) for name in names) for path in paths]].sum()) / whole
        for names in blocks
    )
