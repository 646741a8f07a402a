"""The stages of a network as values: what each is and costs, and whether it can be deepened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Any

from torch import nn

from convscale.complexity.complexity import METRICS, Complexity, Count
from convscale.network.channels.channels import Channels
from convscale.network.channels.labels import Label
from convscale.network.sources.inputs import ExampleInputs
from convscale.network.sources.naming import NetworkLike
from convscale.network.sources.network import Network
from convscale.network.stages.stages import Stage, join, within
from convscale.network.tracing.trace import Trace
from convscale.quantities import Resolution, sides
from convscale.scaling.resolving import resolve, with_inputs
from convscale.scaling.scaler import Scaler

REPEATED, MADE, KEPT = "repeated", "made", "kept"


@dataclass(frozen=True)
class StageRow:
    """One stage: where it stands, what it puts out, what it costs.

    `blocks` are the paths of its blocks and `kinds` their classes; `width` is the number of
    channels that it puts out, `group_widths` those of its grouped convolutions (1: depthwise),
    `resolution` the sides of what it puts out in px, `stride` how often its input is that
    large, and `reduction` how often the network's input is: None where the stage gives no
    feature map. `repeats` says what is added to deepen it: `repeated`, a copy of one of its
    blocks; `made`, a block made from one; `kept`, nothing, its depth stays.

    Example:
        >>> stages("resnet50").rows[2].depth
        6
    """

    name: str
    blocks: tuple[str, ...]
    kinds: tuple[str, ...]
    repeats: str
    width: int | None
    group_widths: tuple[int, ...]
    resolution: tuple[int, ...] | None
    stride: float | None
    reduction: float | None
    complexity: Complexity

    @property
    def depth(self) -> int:
        """Number of blocks, the first included."""
        return len(self.blocks)

    def as_document(self, total: Complexity) -> dict[str, object]:
        """Return the stage as JSON has it; shares are of the whole network's complexity."""
        return {
            "name": self.name,
            "depth": self.depth,
            "blocks": list(self.blocks),
            "kinds": list(self.kinds),
            "repeats": self.repeats,
            "width": self.width,
            "group_widths": list(self.group_widths),
            "resolution": None if self.resolution is None else list(self.resolution),
            "stride": self.stride,
            "reduction": self.reduction,
            **self.complexity.as_dict(),
            "share": self.complexity.ratio_to(total),
        }


@dataclass(frozen=True)
class StageTable:
    """The stages of a network in the order in which they run, and what stands outside of them.

    `outside` is the complexity of stem, head and whatever else no stage holds: with the rows
    it sums to `total`. `modules` are the paths of all modules.

    Example:
        >>> table = stages("resnet18")
        >>> [row.name for row in table.rows]
        ['layer1', 'layer2', 'layer3', 'layer4']
        >>> sum(row.complexity.flops for row in table.rows) + table.outside.flops
        1814073344
    """

    network: str
    resolution: Resolution
    rows: tuple[StageRow, ...]
    outside: Complexity
    total: Complexity
    modules: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def as_document(self) -> dict[str, object]:
        """Return the JSON document of the command line."""
        return {
            "schema_version": 1,
            "network": self.network,
            "resolution": self.resolution,
            **self.total.as_dict(),
            "stages": [row.as_document(self.total) for row in self.rows],
            "outside": {**self.outside.as_dict(), "share": self.outside.ratio_to(self.total)},
            "notes": list(self.notes),
        }


def stages(
    network: NetworkLike,
    *,
    resolution: Resolution | None = None,
    num_classes: int | None = None,
    in_chans: int | None = None,
    example_inputs: ExampleInputs | None = None,
) -> StageTable:
    """Show the stages of a network: depth, width, side and cost, and which can be deepened.

    Args:
        network: A name, `file.py:factory`, a saved folder, `NAME@STRATEGY:FACTOR`, a
            description of `convscale.families`, or a module.
        resolution: Base input side, or all sides, in px; required for modules.
        num_classes: Classes of the classifier, for names and factories.
        in_chans: Input channels, for names and factories.
        example_inputs: What the forward pass takes, as `count` takes it.

    Returns:
        One row a stage, in the order in which they run.

    Raises:
        InputError: If an argument is wrong, or the network does not run at the resolution.
        UnscalableNetworkError: If the network cannot be traced.

    Example:
        >>> [(row.depth, row.width, row.stride) for row in stages("resnet50").rows]
        [(3, 256, 1), (4, 512, 2), (6, 1024, 2), (3, 2048, 2)]
    """
    found = resolve(network, resolution=resolution, num_classes=num_classes, in_chans=in_chans)
    return staged(with_inputs(found, example_inputs, resolution))


def staged(network: Network) -> StageTable:
    """Show the stages of a network that is resolved already.

    Example:
        >>> from convscale.network import resolve_base
        >>> staged(resolve_base("timm:resnet18")).rows[0].kinds
        ('BasicBlock',)
    """
    scaler = Scaler(network)
    blueprint, count = scaler.blueprint, scaler.base
    names = stage_names(blueprint.stages)
    rows = tuple(
        _row(name, stage, able, blueprint.module, blueprint.trace, count)
        for name, stage, able in zip(names, blueprint.stages, blueprint.deepenable, strict=True)
    )
    held = [row.complexity for row in rows]
    total = Complexity(count.flops, count.params, count.acts)
    outside = Complexity(**{m: getattr(total, m) - _sum(held, m) for m in METRICS})
    modules = tuple(path for path, _ in blueprint.module.named_modules() if path)
    notes = () if rows else (f"{network.name} has no stage of blocks that can be repeated.",)
    return StageTable(network.name, scaler.resolution, rows, outside, total, modules, notes)


def _sum(held: Iterable[Complexity], metric: str) -> int:
    return sum(getattr(complexity, metric) for complexity in held)


def stage_names(found: Iterable[Stage]) -> list[str]:
    """Name each stage by its container; where several share one, by their first blocks.

    Example:
        >>> stage_names([Stage("layer1", ("0",), "Block", "0"), Stage("", ("a",), "Block", None)])
        ['layer1', 'a']
    """
    taken = list(found)
    times = Counter(stage.name for stage in taken)
    return [
        stage.name if times[stage.name] == 1 else join(stage.container, stage.blocks[0])
        for stage in taken
    ]


def _row(
    name: str, stage: Stage, able: bool, module: nn.Module, trace: Trace, count: Count
) -> StageRow:
    blocks = tuple(join(stage.container, block) for block in stage.blocks)
    paths = [join(stage.container, part) for block in stage.blocks for part in stage.modules(block)]
    kinds = dict.fromkeys(type(module.get_submodule(path)).__name__ for path in paths)
    taken, given = _ends(stage, paths, trace)
    width, output = given if given is not None else (None, None)
    before = taken[1] if taken is not None else None
    return StageRow(
        name=name,
        blocks=blocks,
        kinds=tuple(kinds),
        repeats=KEPT if not able else MADE if stage.repeatable is None else REPEATED,
        width=width,
        group_widths=_group_widths(stage.paths, trace),
        resolution=output,
        stride=_ratio(before, output),
        reduction=_ratio(sides(trace.resolution), output),
        complexity=_complexity(stage.paths, count),
    )


Map = tuple[int, tuple[int, ...]]


def _ends(stage: Stage, paths: list[str], trace: Trace) -> tuple[Map | None, Map | None]:
    """Return the feature maps that a stage takes and gives: channels, and sides in px.

    A dense block adds to what it takes, so that only the container gives all of it.
    """
    whole = trace.borders.get(stage.container) if stage.mode == "dense" else None
    first, last = whole or trace.borders.get(paths[0]), whole or trace.borders.get(paths[-1])
    return (
        None if first is None else _map(first.input_shape, first.input_units, trace.channels),
        None if last is None else _map(last.output_shape, last.output_units, trace.channels),
    )


def _map(shape: tuple[int, ...], units: Label | None, channels: Channels) -> Map | None:
    """Tell channels from positions; channels come last where the units say so."""
    if len(shape) < 3:
        return None
    size = None if units is None else channels.size(units, channels.sizes)
    last = size is not None and size == shape[-1] and size != shape[1]
    return (shape[-1], shape[1:-1]) if last else (shape[1], shape[2:])


def _ratio(before: tuple[int, ...] | None, after: tuple[int, ...] | None) -> float | None:
    """Return how often a side after is that before; whole where it can be.

    Of the sides it is the one that shrinks most: a clip may keep its frames.
    """
    if before is None or after is None or len(before) != len(after) or not prod(after):
        return None
    ratio = max(old / new for old, new in zip(before, after, strict=True))
    return round(ratio) if ratio > 0.9 else round(ratio, 3)


def _group_widths(paths: Iterable[str], trace: Trace) -> tuple[int, ...]:
    found = {
        1 if width is None else len(width)
        for path, (_, width) in trace.grouped.items()
        if any(within(path, block) for block in paths)
    }
    return tuple(sorted(found))


def _complexity(paths: Iterable[str], count: Count) -> Complexity:
    own: list[Any] = [
        layer for layer in count.layers if any(within(layer.path, path) for path in paths)
    ]
    return Complexity(**{metric: _sum(own, metric) for metric in METRICS})
