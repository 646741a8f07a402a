"""Where a network can be deepened: sets of stages, the ones to prefer first.

Blocks in runs are found by `network.stages`. Here is what else repeats: blocks that read all
that was put out before them (dense blocks), convolutions in a flat sequence or a list, and blocks
of one class anywhere, which the forward pass calls by name.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from itertools import pairwise

from torch import nn

from convscale.network.modules.walking import has_weights
from convscale.network.stages.rows import hands_on, is_linear, row_stages
from convscale.network.stages.separable import Unit, separable
from convscale.network.stages.stages import (
    Stage,
    block_border,
    find_stages,
    in_order,
    join,
    keeps_shape,
    lone_stages,
    overlap,
    pyramid_stages,
    stage_of,
    together,
    unit_keeps,
    within,
)
from convscale.network.tracing.chains import (
    BEND,
    followers_of,
    kind_of,
    own_children,
    own_parameters,
    own_walk,
)
from convscale.network.tracing.trace import Border, Trace

_NEARLY = 0.8  # of the weights of blocks inside: what else these hold is their own, as of outputs


class Schemes:
    """Sets of stages of a network, from several places to look for them.

    What several sets are made of is looked for once, and a set only when it is asked for.

    Args:
        module: The network on the meta device.
        trace: Its trace.

    Example:
        >>> from convscale.network import resolve_base, trace_module
        >>> net = resolve_base("timm:vgg11").build("meta")
        >>> schemes = Schemes(net, trace_module(net, 64))
        >>> [stage.depth for stage in next(schemes.first())]
        [1, 1, 2, 2, 2]
    """

    def __init__(self, module: nn.Module, trace: Trace) -> None:
        self._module = module
        self._trace = trace

    @cached_property
    def _runs(self) -> tuple[Stage, ...]:
        return find_stages(self._module, self._trace)

    @cached_property
    def _lone(self) -> tuple[Stage, ...]:
        return lone_stages(self._module, self._trace)

    @cached_property
    def _every(self) -> tuple[Stage, ...]:
        return tuple(_flat_stages(self._module, self._trace))

    @cached_property
    def _flat(self) -> tuple[Stage, ...]:
        return tuple(stage for stage in self._every if _bends(self._module, stage))

    @cached_property
    def _listed(self) -> tuple[Stage, ...]:
        return tuple(_listed_stages(self._module, self._trace))

    @cached_property
    def _numbered(self) -> tuple[Stage, ...]:
        return tuple(_numbered_stages(self._module, self._trace))

    @cached_property
    def _rows(self) -> tuple[Stage, ...]:
        blocks = self._runs or self._lone
        return () if blocks else tuple(row_stages(self._module, self._trace))

    def first(self) -> Iterator[tuple[Stage, ...]]:
        """Yield sets of stages; a network is deepened by the first that runs with a block more."""
        module, trace = self._module, self._trace
        return self._handed_on(
            lambda: self._lone if _are_bodies(module, self._runs, self._lone) else (),
            lambda: _with_lists(self._listed, self._runs, trace),
            lambda: self._runs,
            lambda: together((*self._runs, *self._lone), trace),
            lambda: self._lone,
            lambda: _dense_stages(module, "", trace),
            lambda: _called_by_name(module, self._runs),
            lambda: pyramid_stages(module, trace),
            lambda: self._flat,
            lambda: _called_by_name(module, self._flat),
            lambda: together((*self._runs, *self._listed), trace),
            lambda: self._numbered,
        )

    def spread(self) -> Iterator[tuple[Stage, ...]]:
        """Yield sets for a network of which others hold little: blocks wherever they stand.

        Example:
            >>> from convscale.network import resolve_base, trace_module
            >>> net = resolve_base("torchvision:squeezenet1_1").build("meta")
            >>> {stage.kind for stage in next(Schemes(net, trace_module(net, 64)).spread())}
            {'Fire'}
        """
        return self._handed_on(
            lambda: _called_stages(self._module, self._trace),
            lambda: _called_stages(self._module, self._trace, made=True),
            lambda: map(handing_on, self._runs),
            lambda: map(handing_on, self._flat),
            lambda: self._every,
        )

    def last(self) -> Iterator[tuple[Stage, ...]]:
        """Yield sets for a network in which no block can be repeated.

        They are rows of layers: some get a made block, and some are called by name, where the
        network has no blocks at all.

        Example:
            >>> from convscale.network.tracing.trace import trace_module
            >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
            >>> next(Schemes(net, trace_module(net, 8)).last())[0].makes
            True
        """
        return self._handed_on(
            lambda: map(_made, self._flat),
            lambda: map(_made, map(handing_on, self._flat)),
            lambda: map(_made, self._every),
            lambda: self._rows,
            lambda: map(_made, self._rows),
        )

    def further(self) -> Iterator[tuple[Stage, ...]]:
        """Yield sets of which some stages may be deepened beside those of another set.

        They are those that bend what they take, and neither dense nor made anew.

        Example:
            >>> from convscale.network import resolve_base, trace_module
            >>> net = resolve_base("timm:vgg11").build("meta")
            >>> [s.depth for s in next(Schemes(net, trace_module(net, 64)).further())]
            [1, 1, 2, 2, 2]
        """
        return self._handed_on(
            lambda: self._runs,
            lambda: map(handing_on, self._runs),
            lambda: self._flat,
            lambda: map(handing_on, self._flat),
            lambda: together(self._listed, self._trace),
            lambda: self._numbered,
        )

    def _handed_on(self, *schemes: Callable[[], Iterable[Stage]]) -> Iterator[tuple[Stage, ...]]:
        """Yield each set of stages once, with blocks that others hand their output through."""
        known: set[tuple[Stage, ...]] = set()
        for scheme in schemes:
            stages = tuple(_with_followers(self._module, own) for own in scheme())
            if stages and stages not in known:
                known.add(stages)
                yield stages


def _made(stage: Stage) -> Stage:
    """Return a stage that gets a made block."""
    return replace(stage, makes=True)


def _are_bodies(module: nn.Module, runs: tuple[Stage, ...], around: tuple[Stage, ...]) -> bool:
    """Tell whether what repeats is, in all stages, what blocks call by name inside of them.

    These blocks are single in their stages, and still the ones that their author would repeat.
    """
    blocks = tuple(f"{path}." for stage in around for path in stage.paths)
    holders = (module.get_submodule(stage.container) for stage in runs)
    listed = any(isinstance(one, nn.Sequential | nn.ModuleList | nn.ModuleDict) for one in holders)
    return bool(runs) and not listed and all(f"{s.container}.".startswith(blocks) for s in runs)


def _with_followers(module: nn.Module, stage: Stage) -> Stage:
    """Return a stage with the followers of its blocks among them, in the order in which they run.

    The last of them can be repeated: it is as blocks are that hand nothing on. A follower may be
    a sequence: it holds the modules of a block, and what bends in front of them.
    """
    holder = module.get_submodule(stage.container)
    if stage.mode == "dense" or not any(
        followers_of(holder.get_submodule(stage.modules(block)[-1])) for block in stage.blocks
    ):
        return stage
    stage = handing_on(stage)
    units: list[tuple[str, ...]] = []
    repeatable = stage.repeatable
    for block in stage.blocks:
        unit = stage.modules(block)
        units.append(unit)
        for name in followers_of(holder.get_submodule(unit[-1])):
            path = join(unit[-1], name)
            leaves = [own.rpartition(".")[2] for own in unit]
            inside = holder.get_submodule(path)._modules
            apart = len(unit) > 1 or f"{leaves[0]}{BEND}" in inside
            units.append(tuple(join(path, leaf) for leaf in leaves) if apart else (path,))
            repeatable = units[-1][0]
    return replace(
        stage,
        blocks=tuple(unit[0] for unit in units),
        repeatable=repeatable,
        members=tuple(units) if stage.members else (),
    )


def handing_on(stage: Stage) -> Stage:
    """Return a stage whose blocks hand their output through added ones.

    Example:
        >>> handing_on(Stage("0", ("0",), "ReLU", "0")).mode
        'chained'
    """
    return replace(stage, mode="chained")


def _called_by_name(module: nn.Module, stages: Iterable[Stage]) -> Iterator[Stage]:
    """Yield the stages that stand in no list with blocks that hand on: code calls these by name."""
    for stage in stages:
        holder = module.get_submodule(stage.container)
        if not stage.container or not isinstance(holder, nn.ModuleList | nn.Sequential):
            yield handing_on(stage)


def _dense_stages(module: nn.Module, path: str, trace: Trace) -> Iterator[Stage]:
    """Find runs of siblings of one class that differ in what they take, not in what they add."""
    runs: list[list[str]] = []
    previous: nn.Module | None = None
    calls: int | None = None
    for name, child in own_children(module):
        composite = any(True for _ in child.children()) and has_weights(child)
        before, calls = calls, trace.calls.get(join(path, name))
        if not composite or calls is None:
            previous = None
            continue
        same = previous is not None and kind_of(previous) is kind_of(child)
        alike = same and calls == before
        if alike and previous is not None and _adds_alike(previous, child):
            runs[-1].append(name)
        else:
            runs.append([name])
        previous = child
    stages = [run for run in runs if len(run) > 1 and not _holds_dense(module, path, run, trace)]
    for run in stages:
        kind = kind_of(module.get_submodule(run[-1])).__name__
        yield Stage(path, tuple(run), kind, run[-1], mode="dense")
    taken = {name for run in stages for name in run}
    for name, child in own_children(module):
        if name not in taken:
            yield from _dense_stages(child, join(path, name), trace)


def _holds_dense(module: nn.Module, path: str, run: list[str], trace: Trace) -> bool:
    """Tell whether siblings are no blocks, but hold dense blocks each.

    Sequences do if they are called by name, or if the blocks inside take more and more; modules of
    other classes if these blocks are not as many in each, as all blocks of a stage are built alike.
    """
    listed = isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict)
    parts = [(join(path, name), module.get_submodule(name)) for name in run]
    inside = [tuple(_dense_stages(part, own, trace)) for own, part in parts]
    grown = [
        [stage.depth for stage in stages if _grows(part, own, stage, trace)]
        for (own, part), stages in zip(parts, inside, strict=True)
    ]
    if type(parts[0][1]) is nn.Sequential:
        return all(grown if listed else inside)
    return all(grown) and any(depths != grown[0] for depths in grown)


def _grows(holder: nn.Module, path: str, stage: Stage, trace: Trace) -> bool:
    """Tell whether the blocks of a stage take ever other widths, and more than the first.

    The stage lies in a module, of which the path is given. The widths of blocks that take a list of
    maps are what their weights read.
    """
    paths = [join(stage.container, name) for name in stage.blocks]
    borders = [trace.borders.get(own) for own in paths]
    widths = [border.input_shape[1] for border in borders if border is not None]
    if not widths:
        read = [_read_by(holder.get_submodule(own.removeprefix(f"{path}."))) for own in paths]
        widths = [width for width in read if width]
    return len(widths) == len(borders) and len(set(widths)) > 2 and widths[0] < max(widths)


def _read_by(block: nn.Module) -> int:
    return sum(p.shape[1] for _, p in own_parameters(block) if p.ndim > 1)


def _adds_alike(left: nn.Module, right: nn.Module) -> bool:
    """Tell whether the weights that two blocks share by name put out the same widths."""
    widths = [
        {name: p.shape[0] for name, p in own_parameters(block) if p.ndim > 1 and p.shape[1] > 1}
        for block in (left, right)
    ]
    shared = widths[0].keys() & widths[1].keys()
    return bool(shared) and all(widths[0][name] == widths[1][name] for name in shared)


def _flat_stages(module: nn.Module, trace: Trace) -> Iterator[Stage]:
    """Find convolutions in a flat sequence, each with the norm and activation that follow it."""
    for path, container in own_walk(module):
        if isinstance(container, nn.Sequential | nn.ModuleList | nn.ModuleDict):
            units = [unit for unit in _units(container, path, trace) if len(unit) > 1]
            for stage in _cut(separable(container, units), path, trace):
                yield replace(stage_of(container, path, stage, trace), kind="Conv")


def _bends(module: nn.Module, stage: Stage) -> bool:
    """Tell whether a row of layers holds more than what is linear: convolutions and norms."""
    names = stage.modules(stage.repeatable or stage.blocks[-1])
    layers = (module.get_submodule(join(stage.container, name)) for name in names)
    return not all(map(is_linear, layers))


def _units(container: nn.Module, path: str, trace: Trace) -> Iterator[tuple[str, ...]]:
    unit: list[str] = []
    calls = 0
    plain = isinstance(container, nn.Sequential)  # what runs its layers one after the other
    for name, child in own_children(container):
        where = join(path, name)
        runs = where in trace.borders
        follows = unit and runs and trace.calls[where] == calls and keeps_shape(where, trace)
        if follows and not plain:
            before = trace.borders[join(path, unit[-1])]
            follows = before.output_id == trace.borders[where].input_id
        if isinstance(child, nn.modules.conv._ConvNd) and runs:
            if unit:
                yield tuple(unit)
            unit, calls = [name], trace.calls[where]
        elif follows and not any(True for _ in own_children(child)):
            unit.append(name)
        elif unit:
            yield tuple(unit)
            unit = []
    if unit:
        yield tuple(unit)


def _cut(units: list[Unit], path: str, trace: Trace) -> Iterator[list[Unit]]:
    """Cut units into stages: rows that put out one shape."""
    stage: list[Unit] = []
    for unit in units:
        if stage and not _follows(stage[-1], unit, path, trace):
            yield stage
            stage = []
        stage.append(unit)
    if stage:
        yield stage


def _follows(last: tuple[str, ...], unit: tuple[str, ...], path: str, trace: Trace) -> bool:
    before, after = trace.borders[join(path, last[-1])], trace.borders[join(path, unit[0])]
    alike = trace.calls[before.path] == trace.calls[after.path]
    return alike and before.output_id == after.input_id and unit_keeps(unit, path, trace)


def _listed_stages(module: nn.Module, trace: Trace) -> Iterator[Stage]:
    """Find blocks and convolutions in a list, each of which takes what was made of the one before.

    What the forward pass does between them is not in the list.
    """
    for path, container in own_walk(module):
        if not isinstance(container, nn.ModuleList | nn.ModuleDict):
            continue
        paths = (join(path, name) for name, _ in own_children(container))
        if _side_by_side([own for path in paths if (own := trace.border(path)) is not None], trace):
            continue
        stages: list[list[str]] = []
        before: tuple[nn.Module, Border] | None = None
        for name, child in own_children(container):
            where = join(path, name)
            bare = isinstance(child, nn.modules.conv._ConvNd)
            border = trace.borders.get(where) if bare else block_border(child, where, trace)
            border = border or trace.lists.get(where)
            if border is None:
                before = None
                continue
            alike = before is not None and kind_of(before[0]) is kind_of(child)
            linked = alike and before is not None and hands_on(before[1], border, trace)
            if not linked or not keeps_shape(where, trace):
                stages.append([])
            stages[-1].append(name)
            before = (child, border)
        for names in stages:
            keeping = [name for name in names if keeps_shape(join(path, name), trace)]
            if not keeping and join(path, names[-1]) in trace.lists:
                continue  # nothing like a list of modules is made: blocks inside of it may repeat
            kind = kind_of(container.get_submodule(names[-1])).__name__
            yield Stage(path, tuple(names), kind, keeping[-1] if keeping else None)


def _side_by_side(borders: list[Border], trace: Trace) -> bool:
    """Tell whether modules in a list are branches: some take one tensor.

    Or each takes another number of positions than any before it puts out, and all change it.
    """
    taken = [border.input_id for border in borders]
    if len(set(taken)) < len(taken):
        return True
    changing = all(own.input_shape[2:] != own.output_shape[2:] for own in borders)
    handed = any(hands_on(one, two, trace) for one, two in pairwise(borders))
    return len(borders) > 1 and changing and not handed


def _with_lists(
    found: tuple[Stage, ...], runs: tuple[Stage, ...], trace: Trace
) -> tuple[Stage, ...]:
    """Return runs with blocks that are lists of modules, in the place of lone blocks around these.

    What stands alone and holds such a list (a transformer of ten layers) is no block of a stage.
    """
    listed = [
        stage
        for stage in found
        if stage.repeatable and join(stage.container, stage.repeatable) in trace.lists
    ]
    outer = [
        stage
        for stage in (runs if listed else ())
        if stage.depth > 1
        or not any(within(own.container, path) for own in listed for path in stage.paths)
    ]
    inner = [own for own in listed if not any(overlap(own, stage) for stage in outer)]
    return in_order((*outer, *inner), trace)


def _numbered_stages(module: nn.Module, trace: Trace) -> Iterator[Stage]:
    """Find convolutions that a module has by number (`conv1`, `conv2`), with all that has the same.

    A block is what stands behind one stem of names each: `conv2` and `norm2`.
    """
    for path, holder in own_walk(module):
        if isinstance(holder, nn.ModuleList | nn.ModuleDict | nn.Sequential):
            continue
        numbers: dict[int, dict[str, str]] = defaultdict(dict)
        for name, child in own_children(holder):
            stem = name.rstrip("0123456789")
            if stem and stem != name and not any(True for _ in child.children()):
                numbers[int(name[len(stem) :])][stem] = name
        stages: list[list[tuple[str, ...]]] = []
        last: Border | None = None
        for number in sorted(numbers):
            unit = _led_by_convolution(holder, path, tuple(numbers[number].values()), trace)
            if not unit:
                last = None
                continue
            first = trace.borders[join(path, unit[0])]
            linked = last is not None and hands_on(last, first, trace)
            same = linked and numbers[number].keys() == numbers[number - 1].keys()
            if not same or not keeps_shape(first.path, trace):
                stages.append([])
            stages[-1].append(unit)
            last = first
        for members in stages if sum(map(len, stages)) > 1 else ():
            keeping = [unit[0] for unit in members if keeps_shape(join(path, unit[0]), trace)]
            repeatable = keeping[-1] if keeping else None
            blocks = tuple(unit[0] for unit in members)
            yield Stage(path, blocks, "Conv", repeatable, members=tuple(members))


def _led_by_convolution(
    holder: nn.Module, path: str, names: tuple[str, ...], trace: Trace
) -> tuple[str, ...]:
    """Return layers in the order in which they run, if a convolution is the first of them."""
    borders = [trace.borders.get(join(path, name)) for name in names]
    known = [border for border in borders if border is not None]
    if len(known) < len(names) or not names:
        return ()
    order = {border.path: border.order for border in known}
    unit = tuple(sorted(names, key=lambda name: order[join(path, name)]))
    led = isinstance(holder.get_submodule(unit[0]), nn.modules.conv._ConvNd)
    others = (holder.get_submodule(name) for name in unit[1:])
    alone = not any(isinstance(other, nn.modules.conv._ConvNd) for other in others)
    return unit if led and alone else ()


def _called_stages(module: nn.Module, trace: Trace, *, made: bool = False) -> tuple[Stage, ...]:
    """Find blocks of one class, wherever they stand, in the order in which they run.

    Of all classes the one that holds most of the weights, with a block that keeps the shape (or, if
    `made`, without: one is to be made), or one around it that holds nearly as many; a stage is a
    row of blocks that put out one shape. Of those that come to it from other positions it holds the
    first alone: they may be branches side by side, none of which can be left out.
    """
    blocks: dict[type, list[str]] = defaultdict(list)
    for path, part in own_walk(module):
        row = blocks[kind_of(part)]
        inside = row and path.startswith(f"{row[-1]}.")  # what holds it is the last before it
        plain = kind_of(part) in (nn.Sequential, nn.ModuleList, nn.ModuleDict)
        if path and not plain and not inside and block_border(part, path, trace) is not None:
            row.append(path)
    fitting = [
        paths
        for paths in blocks.values()
        if len(paths) > 1 and (made or any(keeps_shape(path, trace) for path in paths))
    ]
    if not fitting:
        return ()

    def weight(paths: list[str]) -> int:
        return sum(p.numel() for path in paths for p in module.get_submodule(path).parameters())

    heaviest = max(fitting, key=weight)
    around = [
        row
        for row in fitting
        if _holds(row, heaviest) and any(keeps_shape(path, trace) for path in row)
    ]
    outer = max(around, key=weight, default=heaviest)
    enough = weight(outer) >= _NEARLY * weight(heaviest)
    chosen = sorted(outer if enough else heaviest, key=lambda path: trace.borders[path].order)
    stages: list[list[str]] = []
    for path in chosen:
        border = trace.borders[path]
        last = trace.borders[stages[-1][-1]] if stages else border
        alike = last.output_shape == border.output_shape
        if not stages or not alike or trace.calls[last.path] != trace.calls[path]:
            stages.append([path])
        elif border.input_shape[2:] == border.output_shape[2:]:
            stages[-1].append(path)
    return tuple(_chained(module, paths, trace) for paths in stages)


def _holds(outer: list[str], inner: list[str]) -> bool:
    """Tell whether every block of one class holds one of another.

    Example:
        >>> _holds(["convs.0", "convs.1"], ["convs.0.conv", "convs.1.conv", "exit.conv"])
        True
    """
    return all(any(path.startswith(f"{block}.") for path in inner) for block in outer)


def _chained(module: nn.Module, paths: list[str], trace: Trace) -> Stage:
    keeping = [path for path in paths if keeps_shape(path, trace)]
    kind = kind_of(module.get_submodule(paths[-1])).__name__
    return Stage("", tuple(paths), kind, keeping[-1] if keeping else None, mode="chained")
