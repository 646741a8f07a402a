"""The stages of a network that can be deepened, and what adding blocks to them means."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property

from torch import nn

from convscale.network.modules.copies import places, shared_modules
from convscale.network.stages.pairs import counts_beside, entries, lists_beside
from convscale.network.stages.stages import Stage, join, keeps_shape
from convscale.network.tracing.chains import followers_of
from convscale.network.tracing.trace import Trace
from convscale.scaling.building.depth import edit, pair
from convscale.scaling.building.repetition import MadeBlock, make_repeatable
from convscale.scaling.building.resizing import resize
from convscale.scaling.building.weights import Redraw
from convscale.scaling.plans.joining import can_meet
from convscale.scaling.plans.plan import DepthEdit


class Deepening:
    """One set of stages of a network, and the blocks that are added to them.

    Args:
        module: The base network on the meta device.
        trace: Its trace.
        stages: Its stages, in the order in which they run.

    Example:
        >>> from convscale.network import resolve_base, trace_module
        >>> from convscale.network.stages.stages import find_stages
        >>> net = resolve_base("timm:resnet18").build("meta")
        >>> trace = trace_module(net, 64)
        >>> deepening = Deepening(net, trace, find_stages(net, trace))
        >>> [edit.added for edit in deepening.edits((2, 4, 2, 2))]
        [('2', '3')]
    """

    def __init__(self, module: nn.Module, trace: Trace, stages: tuple[Stage, ...]) -> None:
        self.stages = stages
        self._module = module
        self._trace = trace
        self._known: dict[tuple[int, int], DepthEdit | None] = {}
        self._sharing: dict[str, bool] = {}
        self._keeping: dict[str, bool] = {}

    def exact(self, edits: tuple[DepthEdit, ...]) -> bool:
        """Tell whether what stands behind edits takes other widths, so that they are traced.

        Added blocks differ from the one before among dense blocks; a block that is removed may
        have changed the width, as in pyramids, or have put its own together from parts that none
        of what it reads has the size of. What blocks share is run once more or less.
        """
        border = self._trace.border
        removed = [join(edit.container, name) for edit in edits for name in edit.removed]
        copied = {join(edit.container, name) for edit in edits for name in edit.template}
        return (
            any(stage.mode == "dense" for stage in self.stages)
            or any(border(path) is not None and not self._keeps(path) for path in removed)
            or any(self._shares(path) for path in (*removed, *copied))
        )

    def _keeps(self, path: str) -> bool:
        """Tell whether what a block puts out can stay as large as what it reads."""
        if path not in self._keeping:
            trace, border = self._trace, self._trace.border(path)
            keeps = keeps_shape(path, trace)
            units = () if border is None else (border.input_units, border.output_units)
            if keeps and (known := [own for own in units if own is not None])[1:]:
                before, after = (trace.channels.composition(own) for own in known)
                keeps = can_meet(before, after, trace.channels)
            self._keeping[path] = keeps
        return self._keeping[path]

    @cached_property
    def _places(self) -> Counter[nn.Module]:
        return places(self._module)

    def _shares(self, path: str) -> bool:
        """Tell whether a block has modules that others have too."""
        if path not in self._sharing:
            block = self._module.get_submodule(path)
            self._sharing[path] = isinstance(block, nn.Module) and bool(
                shared_modules(self._places, block)
            )
        return self._sharing[path]

    def others(
        self, able: tuple[bool, ...], whole: tuple[bool, ...], idle: tuple[bool, ...]
    ) -> Iterator[Deepening]:
        """Yield other ways to deepen the stages in which a block more, or a block less, fails.

        Lists beside their blocks get an entry more, and where a block more is not run, an
        attribute that counts the blocks. Where less than half of the flops lie in the others,
        what reads their blocks takes its width from the tensor that arrives.

        Args:
            able: For each stage, whether it runs with a block more.
            whole: Whether it runs with a block less, too.
            idle: Whether a block more is not run.
        """
        lists = self._listed(whole, tuple(range(len(self.stages))))
        yield from self._other(lists, able, idle)
        repeating = sorted(range(len(self.stages)), key=lambda i: self.stages[i].repeatable is None)
        others = self._listed(whole, tuple(repeating))
        if others != lists:
            yield from self._other(others, able, idle)

    def _listed(self, whole: tuple[bool, ...], order: tuple[int, ...]) -> dict[int, Stage]:
        """Return the stages with the lists beside them; a list beside one has no stage of its own.

        Args:
            whole: For each stage, whether it runs with a block more and with one less.
            order: In which order stages get the lists beside them.
        """
        own = {s.container for s, good in zip(self.stages, whole, strict=True) if good}
        taken: set[str] = set()
        found: dict[int, Stage] = {}
        for index in order:
            stage = self.stages[index]
            if stage.container in taken:
                continue  # its blocks are beside another's
            if not whole[index] and stage.mode != "chained":
                lists = lists_beside(self._module, stage)
                stage = self._with_lists(stage, tuple(path for path in lists if path not in own))
                taken.update(stage.beside)
            found[index] = stage
        return dict(sorted(found.items()))

    def _other(
        self, listed: dict[int, Stage], able: tuple[bool, ...], idle: tuple[bool, ...]
    ) -> Iterator[Deepening]:
        """Yield the ways to deepen stages, by their numbers, with the lists beside them."""
        few = 2 * self.flops(able) < self._trace.flops

        def widened(index: int, stage: Stage) -> Stage:
            dense = few and not able[index] and not stage.beside and stage.repeatable is not None
            return replace(stage, mode="dense") if dense and stage.mode != "chained" else stage

        new = tuple(widened(index, stage) for index, stage in listed.items())
        if new != self.stages:
            yield Deepening(self._module, self._trace, new)
        stages = tuple(listed.values())
        waiting = {stage.blocks for stage, none in zip(self.stages, idle, strict=True) if none}
        counts = {
            stage: counts_beside(self._module, stage, stages)
            for stage in stages
            if stage.blocks in waiting and stage.mode != "chained"
        }
        for name in dict.fromkeys(place.attribute for own in counts.values() for place in own):
            counted = (
                replace(
                    stage,
                    counts=tuple(p for p in counts.get(stage, ()) if p.attribute == name),
                )
                for stage in stages
            )
            yield Deepening(self._module, self._trace, tuple(counted))

    @property
    def depths(self) -> tuple[int, ...]:
        """The depth of each stage of the base network."""
        return tuple(stage.depth for stage in self.stages)

    @cached_property
    def made(self) -> dict[str, MadeBlock]:
        """Repeatable blocks made for stages that have none, by the path of the last block."""
        found: dict[str, MadeBlock] = {}
        for stage in self.stages:
            if stage.repeatable is None and (stage.makes or not stage.members):
                block = make_repeatable(self._module, self._trace, stage, self.stages)
                if block is not None:
                    found[join(stage.container, stage.blocks[-1])] = block
        return found

    @cached_property
    def alone(self) -> tuple[DepthEdit | None, ...]:
        """For each stage the edit that adds one block to it, None where none can be made."""
        hopeful = tuple(
            stage.repeatable is not None or join(stage.container, stage.blocks[-1]) in self.made
            for stage in self.stages
        )
        deeper = self.edits(tuple(stage.depth + 1 for stage in self.stages))
        return tuple(edit if hope else None for edit, hope in zip(deeper, hopeful, strict=True))

    def doubled(self, *, dense: bool) -> tuple[DepthEdit | None, ...]:
        """For each stage whose blocks code other than a sequence's runs, the edit to twice them.

        Args:
            dense: Whether dense blocks of other modules than lists are meant, too.
        """
        return tuple(
            self._edit(index, 2 * stage.depth)
            if alone and self._is_read(stage) and (dense or not self._is_dense(stage))
            else None
            for index, (stage, alone) in enumerate(zip(self.stages, self.alone, strict=True))
        )

    def _is_dense(self, stage: Stage) -> bool:
        """Tell whether a module runs dense blocks that is more than a list of them."""
        holder = self._module.get_submodule(stage.container)
        listed = isinstance(holder, nn.ModuleList) or type(holder) is nn.Sequential
        return stage.mode == "dense" and not listed

    def _is_read(self, stage: Stage) -> bool:
        """Tell whether code other than a sequence's runs a stage's blocks from where they stand."""
        holder = self._module.get_submodule(stage.container)
        plain = isinstance(holder, nn.Sequential) and type(holder).forward is nn.Sequential.forward
        return stage.mode != "chained" and not (plain and stage.container in self._trace.calls)

    def flops(self, chosen: tuple[bool, ...]) -> int:
        """Return the flops (multiply-adds) in the blocks of the chosen stages."""
        blocks = tuple(
            f"{path}."
            for stage, taken in zip(self.stages, chosen, strict=True)
            for path in stage.paths
            if taken
        )
        terms = self._trace.terms
        return sum(term.flops for term in terms if f"{term.path}.".startswith(blocks))

    def _with_lists(self, stage: Stage, lists: tuple[str, ...]) -> Stage:
        """Return a stage beside whose blocks lists get an entry more."""
        names = list(self._module.get_submodule(stage.container)._modules)
        own = [names.index(name) for name in stage.blocks]
        listed = ((path, list(entries(self._module.get_submodule(path)))) for path in lists)
        paths = tuple(join(path, others[place]) for path, others in listed for place in own)
        return replace(stage, beside=lists, entries=paths)

    def one_more(self, chosen: tuple[bool, ...]) -> tuple[DepthEdit, ...]:
        """Return the edits that add one block to each chosen stage."""
        return self.edits(tuple(s.depth + c for s, c in zip(self.stages, chosen, strict=True)))

    def reads_blocks(self, stage: Stage) -> bool:
        """Tell whether code other than a sequence's runs a stage's blocks, of which one can go."""
        if stage.mode != "listed" or not self._is_read(stage):
            return False
        if stage.members or stage.depth == 1:
            return False
        return keeps_shape(join(stage.container, stage.blocks[-1]), self._trace)

    def skips_shapes(self, stage: Stage) -> bool:
        """Tell whether some blocks of a stage but the first change the shape of a tensor.

        Without one, others read what it would have changed.
        """
        borders = self._trace.borders
        paths = (join(stage.container, name) for b in stage.blocks[1:] for name in stage.modules(b))
        return stage.mode != "dense" and any(
            path in borders and not keeps_shape(path, self._trace) for path in paths
        )

    def without(self, blocks: tuple[str, ...], index: int) -> DepthEdit | None:
        """Return the edit that takes the blocks of these names away; None where there are none."""
        stage = self.stages[index]
        needed = tuple(block for block in stage.blocks[1:] if block not in blocks)
        return self._made_edit(replace(stage, needed=needed), 1 + len(needed))

    def less(self, index: int, depth: int) -> DepthEdit | None:
        """Return the edit that takes blocks of one stage away; None where it has no more."""
        return self._edit(index, depth)

    def edits(self, depths: tuple[int, ...]) -> tuple[DepthEdit, ...]:
        """Return the edits that give the stages new depths."""
        found = (self._edit(index, depth) for index, depth in enumerate(depths))
        return tuple(change for change in found if change is not None)

    def _edit(self, index: int, depth: int) -> DepthEdit | None:
        """Return the edit that gives a stage a new depth; None where it has it."""
        if (index, depth) not in self._known:
            self._known[index, depth] = self._made_edit(self.stages[index], depth)
        return self._known[index, depth]

    def _made_edit(self, stage: Stage, depth: int) -> DepthEdit | None:
        made = self.made.get(join(stage.container, stage.blocks[-1]))
        repetition = made.repetition if made is not None else None
        host = self._host(stage)
        change = edit(stage, depth, repetition, taken=self._taken(stage, host), host=host)
        if change is None:
            return None
        own = self._module.get_submodule(stage.container)
        pairs = (pair(own, change, self._module.get_submodule(path), path) for path in stage.beside)
        return replace(change, paired=tuple(pairs))

    def _host(self, stage: Stage) -> str:
        """Return the module whose followers added blocks become: it may have some already."""
        last = stage.modules(stage.blocks[-1])[-1]
        holder = self._module.get_submodule(stage.container)
        parts = last.split(".")
        for end in range(1, len(parts)):
            around = ".".join(parts[:end])
            if parts[end] in followers_of(holder.get_submodule(around)):
                return around
        return last

    def _taken(self, stage: Stage, host: str) -> frozenset[str]:
        """Return the names that stand where added blocks will, as the stage writes them."""
        chained = stage.mode == "chained"
        parent = host if chained else stage.blocks[-1].rpartition(".")[0]
        owner = self._module.get_submodule(join(stage.container, parent).rstrip("."))
        names = (*owner._modules, *vars(owner))
        return frozenset(names if chained else (join(parent, name) for name in names))

    def shape_made(self, module: nn.Module, edits: tuple[DepthEdit, ...]) -> None:
        """Give made blocks in a module the widths that the base network would give them."""
        for change in edits:
            if change.repetition is not None and change.added:
                made = self.made[change.repetition.source]
                for name in change.made:
                    block = module.get_submodule(join(change.container, name))
                    present = {key: shape for key, shape in made.shapes.items() if _has(block, key)}
                    groups = {path: n for path, n in made.groups.items() if _has(block, path)}
                    resize(block, present, groups, {}, Redraw(0))


def _has(block: nn.Module, name: str) -> bool:
    """Tell whether a block still has a submodule or tensor (borrowed parts replace some)."""
    owner: object = block
    for part in name.split(".") if name else ():
        owner = getattr(owner, part, None)
    return owner is not None
