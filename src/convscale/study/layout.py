"""The parts of a candidate: its blocks, what holds them and the rest, and when each runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convscale.complexity.calls import OperatorCall
from convscale.complexity.liveness import BACKWARD
from convscale.complexity.part_book import Turn
from convscale.complexity.part_log import Shape
from convscale.network.stages.stages import Stage, join, upwards
from convscale.scaling.plans.plan import flat

if TYPE_CHECKING:
    from convscale.scaling.variants.variant import Variant

# What parts must share to be taken to do the same: what they are copies of; the parts beside them,
# too; their place and the depth of their stage; or the depths of all stages.
LEVELS = 4


@dataclass(frozen=True)
class Place:
    """Where a part stands.

    Args:
        path: Its path; that of what is in no other part is empty.
        kind: The path of what it is a copy of, or its own.
        stage: The number of its stage; -1 where it is in none.
        depth: The blocks of its stage.
        before: The kind of the block before it in its stage.
        after: The kind of the one after it.
        block: Whether it is a block.

    Example:
        >>> Place("layer1.2", "layer1.1", 0, 3, "layer1.1").key(0, (3, 2))
        'layer1.1'
    """

    path: str
    kind: str
    stage: int = -1
    depth: int = 0
    before: str = ""
    after: str = ""
    block: bool = False

    def key(self, level: int, depths: tuple[int, ...]) -> Hashable:
        """Return what parts that are taken to do the same have in common.

        Args:
            level: How much that is, below `LEVELS`.
            depths: The depths of all stages.
        """
        keys: tuple[Hashable, ...] = (
            self.kind,
            (self.before, self.kind, self.after),
            (self.path, self.depth),
            (self.path, depths),
        )
        return keys[level]


@dataclass(frozen=True)
class Layout:
    """The parts of a network: the blocks of its stages, what holds only these, and the rest.

    Args:
        depths: The depths of its stages.
        places: Its parts by their paths.
        added: By paths of blocks of the base network, the copies that follow them.
        removed: The paths of blocks that are not there.

    Example:
        >>> from convscale.network import resolve_base
        >>> from convscale.scaling.search.blueprint import Blueprint
        >>> base = Blueprint(resolve_base("timm:resnet18").build("meta"), 64)
        >>> found = layout_of(base.stages, base.variant((2, 3, 2, 1), 64))
        >>> found.places["layer2.2"].kind, sorted(found.removed), found.part("layer1.0.conv1")
        ('layer2.1', ['layer4.1'], 'layer1.0')
    """

    depths: tuple[int, ...]
    places: Mapping[str, Place]
    added: Mapping[str, tuple[str, ...]]
    removed: frozenset[str]

    def part(self, path: str) -> str:
        """Return the part that a module is in."""
        return next((own for own in upwards(path) if own in self.places), "")

    def around(self, part: str) -> list[str]:
        """Return a part and those whose tensors it may let go, too.

        They are its stage's first block, and what is around it.
        """
        own = self.places[part]
        first = [at.path for at in self.places.values() if at.block and at.stage == own.stage][:1]
        outside = [path for path in upwards(part) if path in self.places]
        return list(dict.fromkeys([part, *first, *outside, ""]))

    def shapes(self, calls: Sequence[OperatorCall]) -> dict[str, list[Shape]]:
        """Return the tensors that parts read and write, in the order of the calls."""
        found: dict[str, list[Shape]] = {part: [] for part in self.places}
        for call in calls:
            found[self.part(call.path)] += [*call.input_shapes, *call.output_shapes]
        return found

    def order(self, base: Sequence[Turn]) -> tuple[Turn, ...]:
        """Return the turns of parts: copies run behind what they follow, backwards before it."""
        found: list[Turn] = []
        for phase, part in base:
            if part in self.removed:
                continue
            copies = [(phase, name) for name in self.added.get(part, ())]
            if phase == BACKWARD:
                found += [*reversed(copies), (phase, part)]
            else:
                found += [(phase, part), *copies]
        return tuple(
            turn for at, turn in enumerate(found) if not at or found[at - 1] != turn
        )  # where a part between two runs of another is removed, they are one


def layout_of(stages: Sequence[Stage], variant: Variant) -> Layout:
    """Return the parts of a variant of a network.

    Args:
        stages: The stages of the network.
        variant: The variant.
    """
    own = tuple(stage.depth for stage in stages)
    depths = own if variant.depths is None else variant.depths
    added: dict[str, tuple[str, ...]] = {}
    removed: set[str] = set()
    kinds: dict[str, str] = {}
    for edit in flat(variant.edits):
        removed |= {join(edit.container, name) for name in edit.removed}
        if edit.added:
            names = tuple(join(edit.container, name) for name in edit.added)
            added[join(edit.container, edit.after)] = names
            made = "" if edit.repetition is None else " made"
            for at, name in enumerate(names):
                template = edit.template[at % len(edit.template)]
                kinds[name] = join(edit.container, template) + made
    places = {"": Place("", "")}
    stages_in = Counter(stage.container for stage in stages)
    for number, stage in enumerate(stages):
        container, depth = stage.container, depths[number]
        if container and stages_in[container] == 1:
            places[container] = Place(container, container, number, depth)
        paths = list(_blocks(stage, added, removed))
        own_kinds = [kinds.get(path, path) for path in paths]
        ahead, behind = ["", *own_kinds[:-1]], [*own_kinds[1:], ""]
        beside = zip(paths, own_kinds, ahead, behind, strict=True)
        for path, kind, before, after in beside:
            places[path] = Place(path, kind, number, depth, before, after, block=True)
    return Layout(depths, places, added, frozenset(removed))


def _blocks(
    stage: Stage, added: Mapping[str, tuple[str, ...]], removed: Collection[str]
) -> Iterator[str]:
    """Yield the paths of the blocks of a stage, in their order."""
    for block in stage.blocks:
        for name in stage.modules(block):
            path = join(stage.container, name)
            if path not in removed:
                yield path
            yield from added.get(path, ())
