"""Stages: runs of sibling blocks of one class, found by how tensors flow between modules.

A block keeps the tensor's shape if it can be repeated; the first block of a stage may change it.
Depth counts all blocks of a stage, the first included.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import nn

from convscale.network.channels.activations import Bend
from convscale.network.modules.numbers import Place
from convscale.network.modules.walking import has_weights
from convscale.network.stages.separable import Unit, separable
from convscale.network.tracing.chains import kind_of, own_children, own_parameters, own_walk
from convscale.network.tracing.trace import Border, Trace

Shapes = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True)
class Stage:
    """A stage: its container, its blocks in order, and the block that can be repeated.

    `blocks` holds the name of each block in the container; where blocks are several siblings
    in a row (a convolution, its norm, its activation), `members` names them all. `mode` says
    how a block is added: `listed` beside the others, which the container runs in turn; `dense`
    likewise, what follows taking its input widths from the tensor that arrives; `chained`
    behind the last block, for containers that call blocks by name. `beside` holds the lists that
    get an entry with every block, `entries` the paths of these, `counts` the attributes that
    count the blocks, and `needed` the blocks that cannot go, as code reads them. `makes` tells
    that a block is made of siblings in a row where none keeps the shape, `bend` what bends
    between blocks where it is none of their modules.

    Example:
        >>> Stage("layer1", ("0", "1", "2"), "Bottleneck", "2").depth
        3
    """

    container: str
    blocks: tuple[str, ...]
    kind: str
    repeatable: str | None
    mode: str = "listed"
    members: tuple[tuple[str, ...], ...] = ()
    beside: tuple[str, ...] = ()
    entries: tuple[str, ...] = ()
    counts: tuple[Place, ...] = ()
    needed: tuple[str, ...] = ()
    makes: bool = False
    bend: Bend | None = None

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    @property
    def removable(self) -> tuple[str, ...]:
        """The blocks that can go: all that code does not need, but the first."""
        return tuple(block for block in self.blocks[1:] if block not in self.needed)

    @property
    def name(self) -> str:
        """The container where the stage is all of it, else its first block: readable, unique."""
        return join(self.container, self.blocks[0]) if self.container == "" else self.container

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths of the modules of all blocks, and of what has an entry for each."""
        names = (name for block in self.blocks for name in self.modules(block))
        return (*(join(self.container, name) for name in names), *self.entries)

    def modules(self, block: str) -> tuple[str, ...]:
        """Return the names of the modules that make up a block."""
        return self.members[self.blocks.index(block)] if self.members else (block,)


def join(container: str, name: str) -> str:
    """Return the path of a child.

    Example:
        >>> join("layer1", "0"), join("", "stem")
        ('layer1.0', 'stem')
    """
    return f"{container}.{name}" if container else name


def within(path: str, module: str) -> bool:
    """Tell whether a path is a module's or lies in it.

    Example:
        >>> within("layer1.0.conv1", "layer1.0"), within("layer1.01", "layer1.0")
        (True, False)
    """
    return path == module or path.startswith(f"{module}.")


def overlap(stage: Stage, other: Stage) -> bool:
    """Tell whether a block of a stage is one of another, or lies in it or around it.

    Example:
        >>> inner = Stage("layer1.0.body", ("0", "1"), "Conv2d", "1")
        >>> overlap(inner, Stage("layer1", ("0", "1"), "Block", "1"))
        True
    """
    return any(within(one, two) or within(two, one) for one in stage.paths for two in other.paths)


def of_one_kernel(module: nn.Module, stage: Stage) -> bool:
    """Tell whether the weights that the blocks of a stage share by name have kernels of one size.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 1))
        >>> of_one_kernel(net, Stage("", ("0", "1"), "Conv2d", "1"))
        False
    """
    sizes: dict[str, set[tuple[int, ...]]] = defaultdict(set)
    for block in stage.blocks:
        for place, name in enumerate(stage.modules(block)):
            part = module.get_submodule(join(stage.container, name))
            for own, weight in own_parameters(part):
                if weight.ndim > 2:
                    sizes[f"{place} {own}"].add(tuple(weight.shape[2:]))
    return all(len(kernels) == 1 for kernels in sizes.values())


def upwards(path: str) -> Iterator[str]:
    """Yield a path and those of the modules that it lies in, the innermost first.

    Example:
        >>> list(upwards("layer1.0.conv1"))
        ['layer1.0.conv1', 'layer1.0', 'layer1']
    """
    while path:
        yield path
        path = path.rpartition(".")[0]


def find_stages(module: nn.Module, trace: Trace) -> tuple[Stage, ...]:
    """Find the stages of a traced network, in the order in which they run.

    Stages with a single block are those whose containers stand beside containers of stages
    found by repetition.

    Example:
        >>> from convscale.network import resolve_base, trace_module
        >>> net = resolve_base("timm:resnet18").build("meta")
        >>> [stage.depth for stage in find_stages(net, trace_module(net, 64))]
        [2, 2, 2, 2]
    """
    repeated = list(_search(module, "", trace))
    if not repeated:
        return lone_stages(module, trace)
    return in_order(_outermost(_singles(module, trace, repeated)), trace)


def lone_stages(module: nn.Module, trace: Trace) -> tuple[Stage, ...]:
    """Find stages where none repeats a block: containers with one block each, of one class.

    Example:
        >>> from convscale.network import resolve_base, trace_module
        >>> net = resolve_base("timm:resnet10t").build("meta")
        >>> [stage.container for stage in lone_stages(net, trace_module(net, 64))]
        ['layer1', 'layer2', 'layer3', 'layer4']
    """
    alone: dict[tuple[type, type], list[Stage]] = {}
    for path, container in own_walk(module):
        blocks = _lone_block(container, path, trace)
        if blocks and kind_of(container) in (nn.Sequential, nn.ModuleList):
            block = container.get_submodule(blocks[0])
            if type(block) is not nn.Sequential:
                stage = _stage(container, path, blocks, trace)
                alone.setdefault((kind_of(container), kind_of(block)), []).append(stage)
    found = [stage for stages in alone.values() if len(stages) > 1 for stage in stages]
    return together(found, trace)


def together(stages: Iterable[Stage], trace: Trace) -> tuple[Stage, ...]:
    """Return stages in the order in which they run, without those inside blocks of others.

    Example:
        >>> from convscale.network.tracing.trace import trace_module
        >>> together((), trace_module(nn.Conv2d(3, 3, 1), 8))
        ()
    """
    return in_order(_outermost(list(stages)), trace)


def pyramid_stages(module: nn.Module, trace: Trace, path: str = "") -> Iterator[Stage]:
    """Find runs of blocks of which each changes the width: a stage is what has one resolution.

    Example:
        >>> from convscale.network import resolve_base, trace_module
        >>> net = resolve_base("timm:rexnet_100").build("meta")
        >>> [s.depth for s in pyramid_stages(net, trace_module(net, 224))]
        [1, 2, 2, 6, 5]
    """
    taken: set[str] = set()
    for run in _runs(module, path, trace):
        shapes = [_shapes(module.get_submodule(name)) for name in run]
        if all(_alike(shapes[0], other) for other in shapes[1:]):
            taken.update(run)
            stages: list[list[str]] = []
            for name in run:
                border = trace.borders[join(path, name)]
                if not stages or border.input_shape[2:] != border.output_shape[2:]:
                    stages.append([])
                stages[-1].append(name)
            yield from (_stage(module, path, blocks, trace) for blocks in stages)
    for name, child in own_children(module):
        if name not in taken:
            yield from pyramid_stages(child, trace, join(path, name))


def in_order(stages: Iterable[Stage], trace: Trace) -> tuple[Stage, ...]:
    """Return stages in the order in which they run.

    Example:
        >>> from convscale.network.tracing.trace import trace_module
        >>> in_order((), trace_module(nn.Conv2d(3, 3, 1), 8))
        ()
    """
    stages = tuple(stages)

    def order(stage: Stage) -> int:
        border = trace.border(join(stage.container, stage.blocks[0]))
        return 0 if border is None else border.order

    return tuple(sorted(stages, key=order))


def _search(module: nn.Module, path: str, trace: Trace) -> Iterator[Stage]:
    taken: set[str] = set()
    for run in _runs(module, path, trace):
        if _is_stage(module, path, run, trace):
            yield from _split(module, path, run, trace)
            taken.update(run)
    for name, child in own_children(module):
        if name not in taken:
            yield from _search(child, join(path, name), trace)


def _runs(module: nn.Module, path: str, trace: Trace) -> list[list[str]]:
    """Return runs of two or more children of one class that feed each other.

    What has no weights may stand between them, if it passes on what it takes.
    """
    runs: list[list[str]] = []
    previous: tuple[nn.Module, Border] | None = None
    for name, child in own_children(module):
        own = join(path, name)
        border = block_border(child, own, trace) or _bare_border(child, own, trace)
        if border is None:
            if has_weights(child):
                previous = None
            continue
        linked = (
            previous is not None
            and kind_of(previous[0]) is kind_of(child)
            and trace.calls[previous[1].path] == trace.calls[own]
            and previous[1].output_id == border.input_id
        )
        if linked:
            runs[-1].append(name)
        else:
            runs.append([name])
        previous = (child, border)
    return [run for run in runs if len(run) > 1]


def block_border(child: nn.Module, path: str, trace: Trace) -> Border | None:
    """Return the border of a module that can be a block: composite, with weights, and run.

    Example:
        >>> from convscale.network.tracing.trace import trace_module
        >>> net = nn.Conv2d(3, 3, 1)
        >>> block_border(net, "", trace_module(net, 8)) is None
        True
    """
    composite = any(True for _ in own_children(child)) and has_weights(child)
    return trace.borders.get(path) if composite else None


def _bare_border(child: nn.Module, path: str, trace: Trace) -> Border | None:
    """Return the border of a block without modules, which owns all of its weights itself."""
    kinds = [kind for kind in kind_of(child).__mro__ if issubclass(kind, nn.Module)]
    given = any(kind.__module__.startswith("torch.") for kind in kinds if kind is not nn.Module)
    bare = not given and not any(True for _ in own_children(child))
    if not bare or not any(own.ndim > 1 for own in child.parameters()):
        return None
    return trace.borders.get(path)


def keeps_shape(path: str, trace: Trace) -> bool:
    """Tell whether a block puts out a tensor of the shape that it takes.

    Example:
        >>> from convscale.network.tracing.trace import trace_module
        >>> keeps_shape("", trace_module(nn.Conv2d(3, 3, 1), 8))
        True
    """
    border = trace.border(path)
    return border is not None and border.input_shape == border.output_shape


def _is_stage(module: nn.Module, path: str, run: list[str], trace: Trace) -> bool:
    """Tell whether a run repeats a block, which a run of whole stages does not.

    Either a block has the parameter shapes of its predecessor; or all blocks are built alike
    and all but the first keep the tensor's shape; or one that does is built like its
    predecessor, and has no stages inside.
    """
    shapes = [_shapes(module.get_submodule(name)) for name in run]
    keeps = [keeps_shape(join(path, name), trace) for name in run]
    if any(shapes[i] == shapes[i - 1] and keeps[i] for i in range(1, len(run))):
        return True
    if all(keeps[1:]) and all(_alike(shapes[0], other) for other in shapes[1:]):
        return True
    return any(
        keeps[i]
        and _alike(shapes[i - 1], shapes[i])
        and not any(True for _ in _search(module.get_submodule(name), join(path, name), trace))
        for i, name in enumerate(run)
        if i
    )


def _alike(left: Shapes, right: Shapes) -> bool:
    first, second = ({name for name, _ in shapes} for shapes in (left, right))
    return 2 * len(first & second) >= min(len(first), len(second))


def _shapes(block: nn.Module) -> Shapes:
    return tuple((name, tuple(p.shape)) for name, p in own_parameters(block))


def _split(module: nn.Module, path: str, run: list[str], trace: Trace) -> Iterator[Stage]:
    """Cut a run before every block that changes the tensor's shape."""
    single = [(name,) for name in run]
    listed = isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict)
    units = separable(module, single) if listed else single  # by name they are a block's own parts
    if not any(unit_keeps(unit, path, trace) for unit in units):
        units = single
    stages: list[list[Unit]] = []
    for unit in units:
        if not stages or not unit_keeps(unit, path, trace):
            stages.append([])
        stages[-1].append(unit)
    for blocks in stages:
        yield stage_of(module, path, blocks, trace)


def unit_keeps(unit: Unit, container: str, trace: Trace) -> bool:
    """Tell whether modules that run in a row put out a tensor of the shape that they take.

    Example:
        >>> from convscale.network.tracing.trace import trace_module
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 3, 1))
        >>> unit_keeps(("0", "1"), "", trace_module(net, 8))
        True
    """
    first, last = (trace.border(join(container, name)) for name in (unit[0], unit[-1]))
    return first is not None and last is not None and first.input_shape == last.output_shape


def stage_of(module: nn.Module, path: str, units: list[Unit], trace: Trace) -> Stage:
    """Return a stage of blocks, each of one module or of several in a row.

    Example:
        >>> from convscale.network.tracing.trace import trace_module
        >>> net = nn.Sequential(nn.Sequential(nn.Conv2d(3, 3, 1)))
        >>> stage_of(net, "", [("0",)], trace_module(net, 8)).repeatable
        '0'
    """
    keeping = [unit[0] for unit in units if unit_keeps(unit, path, trace)]
    kind = kind_of(module.get_submodule(units[-1][-1])).__name__
    return Stage(
        path,
        tuple(unit[0] for unit in units),
        kind,
        keeping[-1] if keeping else None,
        members=tuple(units) if any(len(unit) > 1 for unit in units) else (),
    )


def _stage(module: nn.Module, path: str, blocks: list[str], trace: Trace) -> Stage:
    return stage_of(module, path, [(name,) for name in blocks], trace)


def _singles(module: nn.Module, trace: Trace, found: list[Stage]) -> list[Stage]:
    """Add stages of one block: containers that differ from a stage's in one component."""
    stages = sorted(found, key=_level)
    modules = dict(own_walk(module))
    for stage in tuple(stages):
        for path in _counterparts(stage.container, modules):
            if not any(path == other.container for other in stages if other.depth > 1) and (
                blocks := _lone_block(modules[path], path, trace)
            ):
                stages.append(_stage(modules[path], path, blocks, trace))
    return stages


def _level(stage: Stage) -> int:
    return stage.container.count(".") + bool(stage.container)


def _counterparts(container: str, modules: dict[str, nn.Module]) -> Iterator[str]:
    """Yield the paths that differ from a container's in one component, of the same class."""
    parts = container.split(".") if container else []
    for position, part in enumerate(parts):
        parent = modules[".".join(parts[:position])]
        for name, sibling in own_children(parent):
            path = ".".join([*parts[:position], name, *parts[position + 1 :]])
            alike = kind_of(sibling) is kind_of(getattr(parent, part)) and path in modules
            if name != part and alike and kind_of(modules[path]) is kind_of(modules[container]):
                yield path


def _outermost(stages: list[Stage]) -> list[Stage]:
    """Drop stages that lie inside a block of another, and second mentions."""
    kept: list[Stage] = []
    taken: set[str] = set()
    for stage in sorted(stages, key=_level):
        paths = [join(stage.container, name) for name in stage.blocks]
        above = [".".join(paths[0].split(".")[:n]) for n in range(1, paths[0].count(".") + 2)]
        if not taken.intersection(above):
            kept.append(stage)
            taken.update(paths)
    return kept


def _lone_block(container: nn.Module, path: str, trace: Trace) -> list[str]:
    names = [
        name
        for name, child in own_children(container)
        if block_border(child, join(path, name), trace) is not None
    ]
    return names if len(names) == 1 else []
