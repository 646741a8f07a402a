"""What a user is told about a scaled network: what was left alone, and why."""

from __future__ import annotations

from torch import nn

from convscale.errors import UnscalableNetworkError, few
from convscale.network.channels.norms import groups_at
from convscale.network.modules.numbers import Place
from convscale.network.modules.walking import walk
from convscale.network.stages.rows import bends_stay
from convscale.network.stages.stages import Stage, join
from convscale.quantities import format_count, format_miss, format_resolution
from convscale.scaling.plans.parts import Parts, bound_layers
from convscale.scaling.results.causes import ROUNDED, capped, cause_of, times
from convscale.scaling.results.kinds import alternating
from convscale.scaling.search.blueprint import DEFAULT_MULTIPLE, Blueprint
from convscale.scaling.search.large_outputs import say_lost
from convscale.scaling.search.search import (
    SMALLEST,
    candidate_at,
    kept_stages,
    overrun_stages,
    unread_stages,
    written,
)
from convscale.scaling.variants.candidate import Candidate
from convscale.scaling.widths.following import head_groups, is_ruled, own_head
from convscale.strategy import Step, Strategy
from convscale.strategy.step import from_other_side

# The share of the flops from which layers that keep their width are worth a note.
_SOME = 0.01
_FAR = 2  # times: no rounding
_MOST = 12  # stages that are listed


def notes_on(
    blueprint: Blueprint, strategy: Strategy, found: Candidate, requested: dict[str, float]
) -> tuple[str, ...]:
    """Return one sentence for everything that is not as asked.

    Args:
        blueprint: The base network.
        strategy: The strategy.
        found: The network that was found.
        requested: The target: a factor, or the budget of one metric; empty where a miss is
            told elsewhere.

    Example:
        >>> from convscale.network import resolve_base
        >>> from convscale.scaling.search.search import candidate_at
        >>> from convscale.strategy import parse_strategy
        >>> base = Blueprint(resolve_base("timm:resnet18").build("meta"), 224)
        >>> strategy = parse_strategy("w")
        >>> notes_on(base, strategy, candidate_at(base, strategy, 2.0), {"factor": 2.0})
        ()
    """
    notes: list[str] = _written(blueprint, strategy, found) + _held(blueprint, strategy)
    if strategy.resolution and not isinstance(strategy, Step):
        notes += dims_note(strategy)
    if held := blueprint.staying(found.variant.resolution):
        notes.append(f"Inputs keep their sides, which are not those that grow: {few(held)}.")
    if found.factors.depth != 1:
        notes += _not_deepened(blueprint)
    asked = found.factors.depth != 1 or blueprint.control.stage_depth
    if asked or found.variant.depths is not None:
        notes += _not_reduced(blueprint, found)
        notes += _one_of_several(blueprint, found)
        notes += _odd_kernels(blueprint, found)
    notes += _stepped(blueprint, found)
    notes += from_other_side(strategy, blueprint.resolution)
    if cap := capped(blueprint, strategy, found):
        notes.append(cap)
    notes += _made_for(found)
    if cut := blueprint.cropped(found.variant.resolution):
        notes.append(cut)
    if blueprint.trace.opaque and strategy.width:
        listed = ", ".join(f"{op} in {path or 'the network'}" for path, op in _first(blueprint))
        notes.append(f"Widths kept around operators that were not understood: {listed}.")
    if strategy.width:
        notes += _uneven(blueprint, found)
        notes += _norms(found)
        notes += _fixed(blueprint)
        notes += _outputs(blueprint, found)
        notes += _embeddings(blueprint)
        notes += _answers(blueprint)
        if blueprint.trace.untrained:
            listed = few(blueprint.trace.untrained)
            size = format_resolution(blueprint.resolution)
            notes.append(
                f"Widths kept of what runs in training only, as it fails at {size} px: {listed}."
            )
        notes += _idle(blueprint)
    notes += _described_by_itself(blueprint, strategy)
    notes += _miss(blueprint, strategy, found, requested)
    return tuple(notes)


def _idle(blueprint: Blueprint) -> list[str]:
    """Say which layers keep their widths, as no forward pass tells what they stand between."""
    trace = blueprint.trace
    listed = [] if trace.untrained else [p for p in trace.idle if not blueprint.control.freezes(p)]
    return [f"Widths kept of what the forward pass does not run: {_few(listed)}."] if listed else []


def _described_by_itself(blueprint: Blueprint, strategy: Strategy) -> list[str]:
    """Say that a network's own way to be saved writes a configuration that is the base's."""
    if not callable(getattr(blueprint.module, "save_pretrained", None)):
        return []
    if not strategy.depth and not strategy.width:
        return []
    return [
        "Its save_pretrained writes the configuration of the base network, which does not build "
        "this one: save it by save(FOLDER) of what scale returns."
    ]


def _stepped(blueprint: Blueprint, found: Candidate) -> list[str]:
    """Say on which step the sides lie and why, or which outputs lose the sides of the image."""
    if said := say_lost(blueprint.trace, found.variant.trace):
        return [said]
    if found.step == 1:
        return []
    why = "those on smaller steps do not run"
    if found.uneven is not None:
        why = f"at {format_resolution(found.uneven)} px outputs lose the sides of the input"
    resolution = format_resolution(found.variant.resolution)
    nearest = f"the nearest on a step of {found.step} px"
    return [f"The network runs at {resolution} px, {nearest}; {why}."]


def _not_deepened(blueprint: Blueprint) -> list[str]:
    """Say which stages keep their depth, and whether for their blocks or for what is read."""
    unread = unread_stages(blueprint)
    lacking = [name for name in kept_stages(blueprint) if name not in unread]
    notes = []
    if lacking:
        notes.append(f"Depth kept, no repeatable block: {few(lacking, limit=_MOST)}.")
    if unread:
        listed = few(unread, limit=_MOST)
        notes.append(f"Depth kept, as what a block more puts out would reach no output: {listed}.")
    if overrun := overrun_stages(blueprint):
        listed = few(overrun, limit=_MOST)
        notes.append(f"Depth kept, as it does not run with the blocks asked for: {listed}.")
    return notes


def _not_reduced(blueprint: Blueprint, found: Candidate) -> list[str]:
    """Say which stages would be less deep if the network ran so."""
    asked = zip(
        blueprint.stages,
        blueprint.deepenable,
        blueprint.least_depths,
        blueprint.depths_at(found.factors.depth),
        strict=True,
    )
    held = [
        stage for stage, able, least, depth in asked if able and depth <= least - 0.5 and least > 1
    ]
    frozen = [stage.name for stage in held if blueprint.holds_frozen(stage)]
    bent = [stage.name for stage in held if bends_stay(blueprint.module, stage, blueprint.trace)]
    others = [stage.name for stage in held if stage.name not in (*frozen, *bent)]
    told = []
    if bent:
        told.append(
            f"Depth not reduced, as the code would bend what is left several times: {_few(bent)}."
        )
    if frozen:
        told.append(f"Depth not reduced, as blocks hold frozen modules: {_few(frozen)}.")
    if others:
        told.append(
            f"Depth not reduced, since the network does not run with a block less: {_few(others)}."
        )
    return told


def _one_of_several(blueprint: Blueprint, found: Candidate) -> list[str]:
    """Say which added blocks are one of the kinds that differ in a stage.

    They differ in kernels and dilations, or in attributes by which blocks take turns.
    """
    told = []
    for stage, depth in zip(blueprint.stages, found.variant.depths or (), strict=False):
        if depth <= stage.depth or stage.repeatable is None:
            continue
        model = _windows(blueprint, stage, stage.repeatable)
        keeping = [name for name in stage.blocks if name != stage.repeatable]
        first = blueprint.trace.borders.get(join(stage.container, stage.blocks[0]))
        if first is not None and first.input_shape != first.output_shape:
            keeping = keeping[1:]
        others = [_windows(blueprint, stage, name) for name in keeping]
        differ = {
            what
            for other in others
            for (path, what), value in model.items()
            if other.get((path, what), value) != value
        }
        differ |= {name for _, name in alternating(blueprint.module, stage, blueprint.stages)}
        if differ:
            block = join(stage.container, stage.repeatable)
            told.append(f"{block} ({' and '.join(sorted(differ))})")
    if not told:
        return []
    return [f"Added blocks are like one of several kinds: like {_few(told)}."]


def _odd_kernels(blueprint: Blueprint, found: Candidate) -> list[str]:
    """Say where made blocks have odd kernels: even ones keep no side of a map."""
    told: dict[str, list[str]] = {}
    for stage, depth in zip(blueprint.stages, found.variant.depths or (), strict=False):
        made = blueprint.made.get(join(stage.container, stage.blocks[-1]))
        if made is None or depth <= stage.depth:
            continue
        for path in made.repetition.centred:
            own = f"{made.repetition.source}.{path}".strip(".")
            layer = blueprint.module.get_submodule(own)
            assert isinstance(layer, nn.modules.conv._ConvNd)
            old = tuple(layer.kernel_size)
            new = made.shapes.get(f"{path}.weight".lstrip("."), old)[-len(old) :]
            if new != old:
                sizes = " in place of ".join("x".join(map(str, size)) for size in (new, old))
                told.setdefault(sizes, []).append(own)
    listed = [f"{sizes} beside {few(paths, limit=6)}" for sizes, paths in told.items()]
    why = "as even ones keep no side of a map without a stride"
    return [f"Kernels are odd in added blocks, {why}: {'; '.join(listed)}."] if listed else []


def _windows(blueprint: Blueprint, stage: Stage, block: str) -> dict[tuple[str, str], object]:
    """Return kernel sizes and dilations of the convolutions in a block, by their paths in it."""
    found: dict[tuple[str, str], object] = {}
    for place, name in enumerate(stage.modules(block)):
        whole = blueprint.module.get_submodule(join(stage.container, name))
        for path, part in walk(whole):
            if isinstance(part, nn.modules.conv._ConvNd):
                found[f"{place}.{path}", "kernel size"] = part.kernel_size
                found[f"{place}.{path}", "dilation"] = part.dilation
    return found


def _made_for(found: Candidate) -> list[str]:
    """Say that the network was built for another size, and what became of its tables."""
    told, resolution = found.variant.traced.told, found.variant.resolution
    if told is None:
        return []
    size = format_resolution(resolution)
    notes = []
    if told.option is not None:
        notes.append(f"The network is built for {size} px by its constructor ({told.option}).")
    if told.fates.resampled:
        listed = _few(list(told.fates.resampled))
        notes.append(f"Position tables resampled to {size} px: {listed}.")
    if told.fates.fresh:
        listed = _few(list(told.fates.fresh))
        notes.append(f"Fresh weights, since their shape depends on the resolution: {listed}.")
    if told.sizes:
        moved = [f"{_named(place)} ({old} → {new})" for place, (old, new) in told.sizes.items()]
        notes.append(f"Sizes of maps follow to {size} px: {_few(list(dict.fromkeys(moved)))}.")
    return notes


def _named(place: Place) -> str:
    """Name a place by its attribute, and by the keys that are names."""
    keys = place.index if isinstance(place.index, tuple) else (place.index,)
    names = [key for key in keys if isinstance(key, str)]
    return ".".join((join(place.module, place.attribute), *names))


def dims_note(strategy: Strategy) -> tuple[str, ...]:
    """Say which law holds in a network that is not of two spatial dimensions.

    Example:
        >>> from convscale.strategy import parse_strategy
        >>> dims_note(parse_strategy("dWr").in_dims(1))
        ('The network has one spatial dimension: the law is d·w²·r = s.',)
    """
    if strategy.dims == 2:
        return ()
    count = "one spatial dimension" if strategy.dims == 1 else "three spatial dimensions"
    return (f"The network has {count}: the law is {strategy.law}.",)


def _outputs(blueprint: Blueprint, found: Candidate) -> list[str]:
    """Say which outputs are feature maps: their channels scale, those of scores would not."""
    trace, channels = found.variant.trace, found.variant.channels
    border = trace.borders.get("") if len(trace.output_shapes) == 1 else None
    units = None if border is None else border.output_units
    sizes = found.variant.sizes(found.widths)
    stays = units is not None and channels.size(units, sizes) == len(units)
    if found.factors.width == 1 or stays:
        return []
    trace = blueprint.trace
    maps = [
        f"output {position} of {shape[axis]} channels"
        for position, (shape, axis) in enumerate(
            zip(trace.output_shapes, trace.features, strict=True), start=1
        )
        if axis is not None
    ]
    if not maps:
        return []
    listed = few(maps, limit=6)
    return [f"Outputs taken for feature maps scale with the width: {listed}."]


def _answers(blueprint: Blueprint) -> list[str]:
    """Say which layers with much of the flops put out maps that keep their channels."""
    trace, channels = blueprint.trace, blueprint.trace.channels
    shapes = zip(trace.output_shapes, trace.features, strict=True)
    if not any(len(shape) > 2 and axis is None for shape, axis in shapes):
        return []
    known = {layer.path for layer in trace.kept}
    found = [
        term
        for term in trace.terms
        if term.operator == "convolution"
        and term.path not in known
        and not any(channels.scalable(units) for units in term.acts_units)
    ]
    share = sum(term.flops for term in found) / max(1, trace.flops)
    if share < _SOME:
        return []
    layers = _few(list(dict.fromkeys(term.path for term in found)))
    return [
        f"Outputs keep their channels, as what puts them out: {layers} ({share:.0%} of the flops)."
    ]


def _embeddings(blueprint: Blueprint) -> list[str]:
    """Say which outputs that are neither scores nor maps stay, and the layers before them so."""
    trace = blueprint.trace
    listed = [
        f"output {position + 1} ({'×'.join(map(str, trace.output_shapes[position]))})"
        for position in trace.embeddings
    ]
    if not listed:
        return []
    return [
        f"Outputs taken for embeddings keep their width, as what puts them out: {_few(listed)}."
    ]


def _fixed(blueprint: Blueprint) -> list[str]:
    """Say which layers keep their width because of what the network does with it."""
    trace = blueprint.trace
    kept = [layer for layer in trace.kept if layer.path]
    share = sum(layer.flops for layer in kept) / max(1, trace.flops)
    if share < _SOME:
        return []
    reasons = dict.fromkeys(f"{one.operator} in {one.where or 'the network'}" for one in kept)
    layers = _few(list(dict.fromkeys(layer.path for layer in kept)))
    fixed = f"fixed by {_few(list(reasons))}"
    return [f"Widths kept of {layers} ({share:.0%} of the flops), {fixed}."]


def _first(blueprint: Blueprint) -> tuple[tuple[str, str], ...]:
    return blueprint.trace.opaque[:3]


def _written(blueprint: Blueprint, strategy: Strategy, found: Candidate) -> list[str]:
    """Say which layers keep their width as a size is written out, or a call fails with another.

    The call may be one of an added block, so that the run with these tells it.
    """
    control, variant = blueprint.control, found.variant
    calls = written(control, variant.trace)
    if control.keep or control.freeze or not (strategy.width and calls):
        return []
    bound = bound_layers(variant.trace, variant.channels, control, blueprint.stages)
    layers = [path for path in bound if variant.holds(path)]
    return [f"Widths kept of {_few(layers or [''])}: {calls}."]


def _held(blueprint: Blueprint, strategy: Strategy) -> list[str]:
    """Tell what stays by the user's wish, and what stays with it."""
    control = blueprint.control
    notes = []
    kept = [*control.keep, *control.freeze]
    if kept and strategy.width:
        others = bound_layers(blueprint.trace, blueprint.base().channels, control, blueprint.stages)
        along = f", and those shared with {_few(others)}" if others else ""
        notes.append(f"Widths kept as asked: those of {', '.join(kept)}{along}.")
    if control.stored:
        listed = _few(list(control.stored))
        notes.append(
            f"Widths kept around {listed}: training does not change it, and nothing tells other "
            "values."
        )
    if control.freeze and (strategy.depth or control.stage_depth):
        frozen = [stage.name for stage in blueprint.stages if blueprint.is_frozen(stage)]
        notes += [f"Depth kept, frozen: {_few(frozen)}."] if frozen else []
    depths = control.stage_depth
    if isinstance(strategy, Step) and strategy.stage_depth:
        listed = ", ".join(f"{factor * strategy.own.depth:.4g}" for factor in depths)
        notes.append(f"The factors of depth in the stages are {listed}.")
        depths = ()
    for axis, factors in (("depth", depths), ("width", control.stage_width)):
        if factors:
            listed = ", ".join(f"{factor:g}" for factor in factors)
            notes.append(f"The factor of {axis} is multiplied by {listed} in the stages.")
    if _headless(blueprint, strategy):
        notes.append(
            f"Strategy {strategy.name} keeps the head wide, but the network's is the width of its "
            "last stage, which is scaled."
        )
    return notes


def doubts(scales: tuple[str, ...]) -> tuple[str, ...]:
    """Say which floats stay, though they may be computed from widths.

    Example:
        >>> doubts(("body.scale (0.125, beside 64)",))[0]
        'Attributes kept that may be computed from widths: body.scale (0.125, beside 64).'
    """
    if not scales:
        return ()
    return (f"Attributes kept that may be computed from widths: {_few(list(scales))}.",)


def _headless(blueprint: Blueprint, strategy: Strategy) -> bool:
    """Tell whether a strategy says something of the head, where there is none of its own."""
    rules, trace = strategy.rules, blueprint.trace
    if "head" not in rules.keep and rules.head_at_least is None:
        return False
    return bool(head_groups(trace)) and not own_head(trace, Parts(trace, blueprint.stages))


def _uneven(blueprint: Blueprint, found: Candidate) -> list[str]:
    """Tell which widths do not keep a multiple that was asked for, as the base's do not."""
    multiple = blueprint.width_multiple
    own = {width.base for width in blueprint.base().rule.multiples if width.base % multiple}
    small = {
        width.base
        for width, size in found.widths.of.items()
        if size % multiple and width.base < 2 * multiple
    } - own
    if multiple == DEFAULT_MULTIPLE or not (own or small):
        return []
    told = []
    if own:
        listed = _few([str(width) for width in sorted(own)])
        told.append(
            f"Widths keep the multiple {multiple} as far as the base's do; these do not: {listed}."
        )
    if small:
        listed = _few([str(width) for width in sorted(small)])
        told.append(
            f"Widths of which the multiple {multiple} is more than half come on smaller steps, "
            f"lest they miss what is asked for: {listed}."
        )
    return told


def _norms(found: Candidate) -> list[str]:
    """Tell where norms over groups of channels have another number of groups."""
    rule, new = found.variant.rule, found.widths.of
    changed = [
        f"{groups} of {width.base} channels become {now} of {new[width]}"
        for width, counts in sorted(rule.norms.items())
        for groups in sorted(counts)
        if width in new and (now := groups_at(width.base, groups, new[width])) != groups
    ]
    if not changed:
        return []
    why = "no multiple of their number is near the width asked for, so groups keep their channels"
    return [f"Groups of norms: {_few(changed)}; {why}."]


def _few(names: list[str]) -> str:
    return few(name or "the network's own tensors" for name in names)


def _is_below_all(blueprint: Blueprint, strategy: Strategy, factor: float) -> bool:
    """Tell whether the smallest network of a strategy has more flops than a factor asks for."""
    if factor >= 1:
        return False
    try:
        least = candidate_at(blueprint, strategy, min(SMALLEST, factor))
    except UnscalableNetworkError:  # it does not run at sides as small as that: nothing tells
        return False
    return least.complexity.flops > factor * blueprint.base_complexity.flops


def _miss(
    blueprint: Blueprint, strategy: Strategy, found: Candidate, requested: dict[str, float]
) -> list[str]:
    """Explain a result that is far from the target."""
    if not requested:
        return []
    before = blueprint.base_complexity
    (target, value), *_ = requested.items()
    if target != "factor":
        miss = found.value(target) / value - 1
        if abs(miss) <= 0.03:
            return []
        budget, by = f"{format_count(value)} {target}", format_miss(found.value(target), value)
        finer = _finer(blueprint, strategy)
        return [f"The nearest network misses the budget of {budget} by {by}.{finer}"]
    ratio = found.complexity.flops / before.flops if before.flops else value
    if blueprint.control.by_stage:
        return [f"Flops grow {ratio:.3g} times: stages have factors of their own."]
    if 0.9 <= ratio / value <= 1.1:
        return []
    cause = cause_of(blueprint, strategy, found)
    asked = f"a factor of {value:g}"
    if isinstance(strategy, Step):
        asked = f"{strategy.name}, whose factors multiply them by {value:.3g}"
    elif max(ratio / value, value / max(ratio, 1e-300)) > _FAR:
        below = ratio > value and _is_below_all(blueprint, strategy, value)
        how = "out of reach" if below else "missed by far"
        asked += f", which is {how} ({times(ratio / value)} times what was asked for)"
    finer = _finer(blueprint, strategy) if ROUNDED in cause else ""
    return [f"Flops grow {ratio:.3g} times for {asked}: {cause}.{finer}"]


def _finer(blueprint: Blueprint, strategy: Strategy) -> str:
    """Tell of smaller multiples, where widths move by one that can be asked for."""
    multiple = blueprint.width_multiple
    if not strategy.width or is_ruled(strategy.rules) or multiple == 1:
        return ""
    return f" A smaller width multiple may come nearer: --width-multiple {multiple // 2}."
