"""Widths by the rules of a published strategy: what rounds, what follows, what stays."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import takewhile
from math import gcd

from convscale.network.channels.channels import Composition
from convscale.network.channels.labels import Label
from convscale.network.tracing.trace import Trace
from convscale.scaling.plans.parts import Parts
from convscale.scaling.widths.sums import Width
from convscale.scaling.widths.widths import WidthRule, Widths
from convscale.strategy import Factors, Rules


@dataclass(frozen=True)
class Anchor:
    """A channel group inside a module, as a ratio of the width that enters or leaves it.

    Example:
        >>> Anchor(group=3, ratio=Fraction(6)).whole
        True
    """

    group: int
    ratio: Fraction

    @property
    def whole(self) -> bool:
        """Whether the ratio is a whole multiple, or one part of several."""
        return 1 in (self.ratio.numerator, self.ratio.denominator)


def is_ruled(rules: Rules) -> bool:
    """Tell whether a strategy's own rules choose the widths, which are then not refined.

    Example:
        >>> is_ruled(Rules()), is_ruled(Rules(rounding="efficientnet"))
        (False, True)
    """
    return rules.rule.inner_follow or bool(rules.keep) or rules.head_at_least is not None


def ruled_widths(
    rule: WidthRule, trace: Trace, factors: Factors, rules: Rules, parts: Parts
) -> Widths:
    """Return the new widths for a factor, by the rounding and the keeps of a strategy.

    Args:
        rule: The widths that can change, and their multiples.
        trace: The run they were found in.
        factors: The factors, of which those of widths and group widths count.
        rules: The strategy's rules.
        parts: The stem, the stages and the head of the run.
    """
    widths = rule.widths(factors.width, factors.group_width)
    if not is_ruled(rules):
        return widths
    rounding = rules.rule
    if rounding.inner_follow:
        widths = replace(
            widths,
            of={
                width: rounding.to_width(width.request(factors.width), step)
                for width, step in widths.steps.items()
            },
        )
    fixed = _kept(trace, rules, widths, rule, parts)
    follow = anchors(trace, rule, parts.containers) if rounding.inner_follow else {}
    part = _step_of_parts(trace, rule, follow)
    sizes = dict(fixed)

    def size(group: int) -> int:
        if group in sizes:
            return sizes[group]
        width, times = rule.natural.get(group, (Width(0), 1.0))
        anchor = follow.get(group)
        if anchor is None:
            base = int(trace.channels.sizes[group])
            sizes[group] = round(widths.of[width] / times) if width.base else base
        else:
            step = 1 if anchor.whole else rule.multiples[width]
            if anchor.ratio < 1:
                step = part
            sizes[group] = rounding.to_width(float(size(anchor.group) * anchor.ratio), step)
        return sizes[group]

    return replace(widths, own=fixed | {group: size(group) for group in follow})


def _step_of_parts(trace: Trace, rule: WidthRule, follow: dict[int, Anchor]) -> int:
    """Return the step of widths that are a part of another.

    Where each is one part of several, nothing was rounded: they follow exactly. Else it is
    what divides all of the base's.
    """
    parts = {g: anchor for g, anchor in follow.items() if anchor.ratio < 1}
    if all(anchor.whole for anchor in parts.values()):
        return 1
    sizes = (int(trace.channels.sizes[group]) for group in parts)
    return gcd(*sizes, max(rule.multiples.values(), default=1))


def _kept(
    trace: Trace, rules: Rules, widths: Widths, rule: WidthRule, parts: Parts
) -> dict[int, int]:
    """Return the sizes of the channel groups of stem and head that the rules fix."""
    sizes: dict[int, int] = {}
    if "stem" in rules.keep:
        sizes.update({group: int(trace.channels.sizes[group]) for group in stem_groups(trace)})
    for group in own_head(trace, parts):
        base = int(trace.channels.sizes[group])
        if "head" in rules.keep:
            sizes[group] = base
        elif rules.head_at_least is not None and group in rule.natural:
            width, times = rule.natural[group]
            sizes[group] = max(rules.head_at_least, round(widths.of[width] / times))
    return sizes


def stem_groups(trace: Trace) -> tuple[int, ...]:
    """Return the channel groups that the first weighted layer puts out.

    Example:
        >>> from convscale.network import resolve_base, trace_module
        >>> trace = trace_module(resolve_base("timm:mobilenetv2_100").build("meta"), 64)
        >>> [int(trace.channels.sizes[group]) for group in stem_groups(trace)]
        [32]
    """
    return _free(trace, trace.terms[0].acts_units) if trace.terms else ()


def head_groups(trace: Trace) -> tuple[int, ...]:
    """Return the channel groups that the classifier takes in; none where there is none.

    Example:
        >>> from convscale.network import resolve_base, trace_module
        >>> trace = trace_module(resolve_base("timm:mobilenetv2_100").build("meta"), 64)
        >>> [int(trace.channels.sizes[group]) for group in head_groups(trace)]
        [1280]
    """
    if not trace.terms or _free(trace, trace.terms[-1].acts_units):
        return ()
    return _free(trace, trace.terms[-1].flops_units)


def own_head(trace: Trace, parts: Parts) -> tuple[int, ...]:
    """Return the channel groups of the head that are put out behind the last stage.

    Where the classifier takes in the width of the last stage, no width is the head's own.

    Example:
        >>> from convscale.network import resolve_base, trace_module
        >>> from convscale.network.stages.stages import find_stages
        >>> net = resolve_base("timm:resnet18").build("meta")
        >>> trace = trace_module(net, 64)
        >>> own_head(trace, Parts(trace, find_stages(net, trace)))
        ()
    """
    written = parts.written(parts.head)
    return tuple(group for group in head_groups(trace) if group in written)


def _free(trace: Trace, places: tuple[Label, ...]) -> tuple[int, ...]:
    """Return the channel groups in some places that can change."""
    groups = (g for units in places for g, _ in trace.channels.composition(units))
    return tuple(dict.fromkeys(g for g in groups if not trace.channels.fixed[g]))


def anchors(trace: Trace, rule: WidthRule, containers: tuple[str, ...] = ()) -> dict[int, Anchor]:
    """Find the channel groups inside modules, and the outer widths that they keep a ratio to.

    A group is inner to the deepest module that holds all of its weights, where that module
    takes one width and gives one, and it is neither. What holds stages is no such module: widths
    between blocks are no inner ones. Where the two differ, the ratio that
    modules with equal widths show most often tells which of them it keeps to.

    Example:
        >>> from convscale.network import resolve_base, trace_module
        >>> from convscale.scaling.widths.widths import width_rule
        >>> trace = trace_module(resolve_base("timm:mobilenetv2_100").build("meta"), 64)
        >>> {str(a.ratio) for a in anchors(trace, width_rule(trace.channels), ("blocks",)).values()}
        {'6'}
    """
    sizes = trace.channels.sizes
    grouped = {width for width, groups in rule.group_widths.items() if groups}
    choices: dict[int, tuple[Anchor, ...]] = {}
    for group, path in _homes(trace).items():
        natural = rule.natural.get(group)
        if (
            natural is None
            or (natural[0].base, natural[1]) != (int(sizes[group]), 1)
            or natural[0] in grouped
            or natural[0] in rule.norms
        ):
            continue
        if any(f"{container}.".startswith(f"{path}." if path else "") for container in containers):
            continue
        around = _borders(trace, path)
        if around and group not in around:
            choices[group] = tuple(
                Anchor(other, Fraction(int(sizes[group]), int(sizes[other]))) for other in around
            )
    votes = Counter(
        options[0].ratio
        for options in choices.values()
        if len({option.ratio for option in options}) == 1
    )
    return {
        group: max(options, key=lambda anchor: (votes[anchor.ratio], anchor.whole))
        for group, options in choices.items()
    }


def _homes(trace: Trace) -> dict[int, str]:
    """Return, for each channel group that can change, the deepest module with all its weights."""
    found: dict[int, list[list[str]]] = defaultdict(list)
    for axes in trace.tensors:
        for units in axes.units:
            if units is not None:
                for group, _ in trace.channels.composition(units):
                    if not trace.channels.fixed[group]:
                        found[group] += [name.split(".")[:-1] for name in axes.names]
    return {group: _shared_path(paths) for group, paths in found.items()}


def _shared_path(paths: list[list[str]]) -> str:
    columns = zip(*paths, strict=False)
    return ".".join(parts[0] for parts in takewhile(lambda parts: len(set(parts)) == 1, columns))


def _borders(trace: Trace, path: str) -> tuple[int, ...]:
    """Return the single channel groups that enter and leave a module, the entering first."""
    border = trace.borders.get(path)
    if border is None or border.input_units is None or border.output_units is None:
        return ()
    groups = []
    for units in (border.input_units, border.output_units):
        composition: Composition = trace.channels.composition(units)
        if len(composition) != 1 or trace.channels.fixed[composition[0][0]]:
            return ()
        groups.append(composition[0][0])
    return tuple(groups)
