"""Try which stages run with a block more, in as few runs as can be."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from torch import nn

from convscale.errors import ConvscaleError, UnscalableNetworkError
from convscale.network.modules.walking import walk
from convscale.network.running.execution import ForwardError
from convscale.network.stages.stages import Stage, join, within
from convscale.scaling.depths.deepening import Deepening
from convscale.scaling.plans.plan import DepthEdit, flat

Run = Callable[[tuple[DepthEdit, ...], Deepening], object]


class IdleBlockError(UnscalableNetworkError):
    """Say that added blocks are not executed as the others, and which edits added them.

    Args:
        edits: The edits.
        unread: Whether they are executed, but nothing that they compute reaches an output.

    Example:
        >>> IdleBlockError((DepthEdit("", added=("3",)),)).line[:43]
        'A block added to the network is not execute'
    """

    def __init__(self, edits: tuple[DepthEdit, ...], *, unread: bool = False) -> None:
        self.edits, self.unread = edits, unread
        block = f"A block added to {edits[0].container or 'the network'}"
        super().__init__(
            f"What {block[0].lower()}{block[1:]} puts out reaches no output. Let the forward pass "
            "read what the last block puts out."
            if unread
            else f"{block} is not executed as the others. Let its forward pass iterate over the "
            "blocks."
        )


def idle_among(
    edits: tuple[DepthEdit, ...],
    module: nn.Module,
    *,
    before: Mapping[str, int],
    after: Mapping[str, int],
) -> tuple[DepthEdit, ...]:
    """Return the edits whose added blocks do not run as their models, or push others out.

    Those of a block that is called several times are called as often. None may push another out of
    its container.

    Args:
        edits: The edits that were made together.
        module: The module without them.
        before: How often each module is called in a run of it.
        after: Likewise in a run with the edits.

    Example:
        >>> net, calls = nn.Sequential(nn.Conv2d(3, 3, 1)), {"": 1, "0": 1}
        >>> more = DepthEdit("", added=("1",), after="0", template=("0",))
        >>> len(idle_among((more,), net, before=calls, after=calls))
        1
    """
    gone = {join(one.container, name) for one in flat(edits) for name in one.removed}
    parts = dict(walk(module))

    def has_module(container: nn.Module, name: str) -> bool:
        parent, _, leaf = name.rpartition(".")
        return container.get_submodule(parent)._modules.get(leaf) is not None

    def is_idle(edit: DepthEdit) -> bool:
        lists = {one.container: module.get_submodule(one.container) for one in flat((edit,))}
        new = tuple(
            (join(one.container, name), join(one.container, one.template[i % len(one.template)]))
            for one in flat((edit,))
            for i, name in enumerate(one.added)
            if has_module(lists[one.container], one.template[i % len(one.template)])
        )
        added = [join(edit.container, name) for name in edit.added]
        around = {edit.container, *(path.rpartition(".")[0] for path in added)}
        known = ((path, parts[path]) for path in around if path in parts)
        old = {join(path, name) for path, own in known for name, _ in own.named_children()} - gone
        lost = (path for path in old if path in before and path not in after)
        rarely = (
            after.get(path + own.removeprefix(model)) != before.get(own, 1)
            for path, model in new
            for own in _called(model, before)
        )
        twice = (
            after.get(path + own.removeprefix(model), times) > times
            for path, model in new
            for own, times in before.items()
            if edit.mode == "chained" and own.startswith(f"{model}.")
        )
        return any(rarely) or any(lost) or any(twice)

    return tuple(edit for edit in edits if is_idle(edit))


def _called(model: str, calls: Mapping[str, int]) -> list[str]:
    """Return a module, or where it is never called those in it that are: it is a list."""
    inside = [] if model in calls else [own for own in calls if own.startswith(f"{model}.")]
    return inside or [model]


def unread_among(
    edits: tuple[DepthEdit, ...], lost: frozenset[str], before: frozenset[str] = frozenset()
) -> tuple[DepthEdit, ...]:
    """Return the edits of whose added blocks some compute what reaches no output.

    A module that is a copy of one of which nothing did so before may do as little, if other parts
    of its block do more: the last of layers side by side, which feed the next block.

    Args:
        edits: The edits that were made together.
        lost: The modules of which nothing reaches one.
        before: Those of the network without the edits.

    Example:
        >>> more = DepthEdit("blocks", added=("1",), after="0", template=("0",))
        >>> unread_among((more,), frozenset({"blocks.1"})) == (more,)
        True
    """

    def is_unread(edit: DepthEdit) -> bool:
        models = dict(zip(added_paths((edit,)), model_paths((edit,)), strict=True))
        own = models.keys() & lost
        return bool(own) and (own == models.keys() or any(models[one] not in before for one in own))

    return tuple(edit for edit in edits if is_unread(edit))


def model_paths(edits: tuple[DepthEdit, ...]) -> tuple[str, ...]:
    """Return the paths of what the added blocks are copies of, as `added_paths` lists these.

    Example:
        >>> model_paths((DepthEdit("blocks", added=("1", "2"), after="0", template=("0",)),))
        ('blocks.0', 'blocks.0')
    """
    return tuple(
        join(edit.container, edit.template[place % len(edit.template)])
        for edit in flat(edits)
        for place in range(len(edit.added))
    )


def added_paths(edits: tuple[DepthEdit, ...]) -> tuple[str, ...]:
    """Return the paths of what edits add, in lists beside the blocks too.

    Example:
        >>> added_paths((DepthEdit("blocks", added=("1",), after="0", template=("0",)),))
        ('blocks.1',)
    """
    return tuple(join(edit.container, name) for edit in flat(edits) for name in edit.added)


def beside_paths(edits: tuple[DepthEdit, ...], module: nn.Module) -> tuple[str, ...]:
    """Return what stands in the containers that edits add to, and stays: the base's own blocks.

    Args:
        edits: The edits that were made together.
        module: The module without them.

    Example:
        >>> more = DepthEdit("", added=("2",), after="1", template=("1",))
        >>> beside_paths((more,), nn.Sequential(nn.ReLU(), nn.Tanh()))
        ('0', '1')
    """
    gone = {join(edit.container, name) for edit in flat(edits) for name in edit.removed}
    holders = dict.fromkeys(edit.container for edit in flat(edits) if edit.added)
    children = (join(own, name) for own in holders for name in module.get_submodule(own)._modules)
    return tuple(path for path in children if path not in gone)


@dataclass(frozen=True)
class Refusal:
    """Why a network does not run with a block more or less: it is not run, or another reason.

    `unread` tells of a block that is run, but is as good as none: it changes no output.

    Example:
        >>> Refusal(idle=True).reason
        ''
    """

    reason: str = ""
    idle: bool = False
    unread: bool = False


def _reason(error: ConvscaleError) -> str:
    cause = error.__cause__
    return cause.reason if isinstance(cause, ForwardError) else str(error).rstrip(".")


class Trials:
    """What adding one block to single stages showed, remembered over the sets of stages.

    Args:
        run: Runs the base network with edits of a deepening, and raises if it does not follow.
        check: Likewise, but keeps nothing, which is faster: for all trials once one has failed.

    Example:
        >>> from convscale.network import resolve_base, trace_module
        >>> from convscale.network.stages.stages import find_stages
        >>> net = resolve_base("timm:resnet18").build("meta")
        >>> trace = trace_module(net, 64)
        >>> deepening = Deepening(net, trace, find_stages(net, trace))
        >>> Trials(lambda edits, deepening: None).able(deepening)
        (True, True, True, True)
    """

    def __init__(self, run: Run, check: Run | None = None) -> None:
        self._run = run
        self._check = check or run
        self._failed: dict[DepthEdit, Refusal] = {}
        self._together: set[frozenset[DepthEdit]] = set()  # those that ran
        self._runs_on = True  # for the first stages that are tried, until a trial has failed

    def able(self, deepening: Deepening, *, dense: bool = False) -> tuple[bool, ...]:
        """Tell for each stage whether an added block runs: tried, not assumed.

        Where the forward pass may read blocks by their numbers, one may pass for another: there
        twice the blocks must run, too.

        Args:
            deepening: The stages.
            dense: Whether that is asked of dense blocks, too.
        """
        hopeful = [edit for edit in deepening.alone if edit is not None]
        good = self._good(tuple(e for e in hopeful if e not in self._failed), deepening)
        good -= self._misread(good, deepening, deepening.doubled(dense=dense))
        self._runs_on = False
        return tuple(edit in good for edit in deepening.alone)

    def _misread(
        self,
        good: set[DepthEdit],
        deepening: Deepening,
        twice: tuple[DepthEdit | None, ...],
    ) -> set[DepthEdit]:
        """Return of edits that run those in lists which do not run with twice the blocks."""
        doubled: dict[str, dict[DepthEdit, DepthEdit]] = defaultdict(dict)
        for alone, edit in zip(deepening.alone, twice, strict=True):
            if edit is not None and alone is not None and alone in good:
                doubled[alone.container][edit] = alone
        every = tuple(edit for own in doubled.values() for edit in own)
        if not every or self._refused(every, deepening) is None:
            return set()
        misread: set[DepthEdit] = set()
        for own in doubled.values():
            refusal = self._refused(tuple(own), deepening)
            if refusal is not None:
                self._failed |= dict.fromkeys(own.values(), refusal)
                misread.update(own.values())
        return misread

    def _refused(self, edits: tuple[DepthEdit, ...], deepening: Deepening) -> Refusal | None:
        """Return why edits do not run together; None where they do."""
        try:
            self._check(edits, deepening)
        except IdleBlockError as error:
            return Refusal(idle=True, unread=error.unread)
        except ConvscaleError as error:
            return Refusal(_reason(error))
        return None

    def refusals(self, deepening: Deepening) -> tuple[Refusal | None, ...]:
        """Return for each stage why an added block does not run, where that was tried."""
        return tuple(None if e is None else self._failed.get(e) for e in deepening.alone)

    def shrinking(self, deepening: Deepening, able: tuple[bool, ...]) -> tuple[bool, ...]:
        """Tell for each stage that can be deepened whether it runs with a block less.

        It is tried where the forward pass may read the blocks by their numbers, and, with one
        block left, where some change the shape; stages whose blocks all keep it are taken to.
        """
        tried = {
            edit: index
            for index, stage in enumerate(deepening.stages)
            for least in _tried_depth(deepening, stage)
            if able[index] and (edit := deepening.less(index, least)) is not None
        }
        good = self._good(tuple(e for e in tried if e not in self._failed), deepening, self._check)
        bad = {index for edit, index in tried.items() if edit not in good}
        return tuple(index not in bad for index in range(len(able)))

    def needing(self, deepening: Deepening, able: tuple[bool, ...]) -> tuple[Stage, ...]:
        """Return the stages, with the blocks that cannot go where code may read them by name.

        All but the first are taken away at once; where that does not run, one after another, from
        the last, as long as what is left runs.
        """
        stages = deepening.stages
        found = [
            replace(stage, needed=stage.blocks[1:])
            if runs and stage.depth > 1 and deepening.reads_blocks(stage)
            else stage
            for stage, runs in zip(stages, able, strict=True)
        ]
        asked = {i for i, own in enumerate(found) if own is not stages[i]}
        found = self._without(deepening, found, {i: stages[i].blocks[1:] for i in asked})
        asked = {i for i in asked if found[i].needed}
        for place in range(1, max((stages[i].depth for i in asked), default=1)):
            single = {i: stages[i].blocks[-place:][:1] for i in asked if place < stages[i].depth}
            found = self._without(deepening, found, single)
        return tuple(found)

    def _without(
        self, deepening: Deepening, found: list[Stage], blocks: dict[int, tuple[str, ...]]
    ) -> list[Stage]:
        """Return stages that need some blocks less, where the network runs without these too."""
        tried = {
            edit: index
            for index, names in blocks.items()
            if (edit := deepening.without((*found[index].removable, *names), index)) is not None
        }
        new = list(found)
        hopeful = tuple(edit for edit in tried if edit not in self._failed)
        for edit in self._good(hopeful, deepening, self._check):
            index = tried[edit]
            kept = (own for own in found[index].needed if own not in blocks[index])
            new[index] = replace(found[index], needed=tuple(kept))
        return new

    def _good(
        self, edits: tuple[DepthEdit, ...], deepening: Deepening, run: Run | None = None
    ) -> set[DepthEdit]:
        """Return the edits that run: all of them, or part by part those that do."""
        if not edits or frozenset(edits) in self._together:
            return set(edits)
        try:
            (run or (self._run if self._runs_on else self._check))(edits, deepening)
        except IdleBlockError as error:
            self._runs_on = False
            idle = set(error.edits)
            self._failed |= dict.fromkeys(idle, Refusal(idle=True, unread=error.unread))
            rest = tuple(edit for edit in edits if edit not in idle)
            return self._good(rest, deepening, run)
        except ConvscaleError as error:
            self._runs_on = False
            if len(edits) == 1:
                self._failed[edits[0]] = Refusal(_reason(error))
                return set()
            left, right = _parted(edits, error.__cause__)
            return self._good(left, deepening, run) | self._good(right, deepening, run)
        self._together.add(frozenset(edits))
        return set(edits)


def _tried_depth(deepening: Deepening, stage: Stage) -> tuple[int, ...]:
    """Return at which depth a stage is tried with less; nothing if it is taken to run so."""
    if deepening.reads_blocks(stage):
        return (stage.depth - 1,)
    return (1,) if deepening.skips_shapes(stage) else ()


def _parted(
    edits: tuple[DepthEdit, ...], cause: BaseException | None
) -> tuple[tuple[DepthEdit, ...], tuple[DepthEdit, ...]]:
    """Part the edits in the module that failed from the others, or else into halves."""
    if isinstance(cause, ForwardError):
        inside = tuple(edit for edit in edits if within(edit.container, cause.path))
        if 0 < len(inside) < len(edits):
            return tuple(edit for edit in edits if edit not in inside), inside
    half = len(edits) // 2
    return edits[:half], edits[half:]
