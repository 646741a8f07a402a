"""Which stages of a network run with a block more: tried, not assumed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import nn

from convscale.errors import UnscalableNetworkError
from convscale.network.modules.pausing import collector_at_rest
from convscale.network.stages.rows import bends_itself
from convscale.network.stages.schemes import Schemes, handing_on
from convscale.network.stages.stages import Stage, in_order, join, of_one_kernel, overlap
from convscale.quantities import Resolution
from convscale.scaling.depths.deepening import Deepening
from convscale.scaling.depths.runs import Runs
from convscale.scaling.depths.trying import Refusal, Trials
from convscale.scaling.plans.plan import DepthEdit, flat

# A set of stages is taken that holds as much of the flops, and one that holds more by as much.
_ENOUGH, _BETTER = 1 / 3, 1.25
_ANY = 1e-9  # the least: nothing was found at all


@dataclass(frozen=True)
class Found:
    """Stages of a network, and what trials showed of each.

    `able` tells whether it runs with a block more, `shrinking` whether with a block less, and
    `refusals` why it does not run with one more, where that was tried.

    Example:
        >>> from convscale.network import resolve_base
        >>> net = resolve_base("timm:resnet18").build("meta")
        >>> Deepenable(net, Runs(net, 64)).found.whole
        (True, True, True, True)
    """

    deepening: Deepening
    able: tuple[bool, ...]
    shrinking: tuple[bool, ...]
    refusals: tuple[Refusal | None, ...]

    @property
    def whole(self) -> tuple[bool, ...]:
        """Whether each stage runs with a block more and with one less."""
        return tuple(more and less for more, less in zip(self.able, self.shrinking, strict=True))


def _tried_by(trials: Trials, deepening: Deepening, *, dense: bool = False) -> Found:
    able = trials.able(deepening, dense=dense)
    return Found(deepening, able, trials.shrinking(deepening, able), trials.refusals(deepening))


def _worth(module: nn.Module, found: Found, flops: int, *, spread: bool) -> float:
    """Return the share of the flops in stages that run deeper; less where they are no blocks.

    It is half where all blocks are made, and two thirds where they are layers; of what is alike
    in its class alone, wherever it stands, a third, and half of blocks where each is single:
    nobody repeats them in the network.
    """
    stages = found.deepening.stages
    share = found.deepening.flops(found.able) / flops if flops else 0.0
    if all(_is_layer(module, stage) for stage in stages):
        return share / 3 if spread else share * 2 / 3
    single = spread and all(stage.depth == 1 for stage in stages)
    made = all(stage.repeatable is None for stage in stages)
    return share / 2 if made or single else share


def _most_worth(module: nn.Module, deepening: Deepening, flops: int, *, spread: bool) -> float:
    """Return what a set of stages is worth if all of them run deeper: no trial shows more."""
    every = (True,) * len(deepening.stages)
    none = (None,) * len(deepening.stages)
    return _worth(module, Found(deepening, every, every, none), flops, spread=spread)


def _is_layer(module: nn.Module, stage: Stage) -> bool:
    """Tell whether a block of a stage is one layer: it holds one kernel, or one matrix."""
    names = stage.modules(stage.repeatable or stage.blocks[-1])
    blocks = [module.get_submodule(join(stage.container, name)) for name in names]
    return sum(weight.ndim > 1 for block in blocks for weight in block.parameters()) == 1


class Deepenable:
    """Find the stages of a base network, and try once which of them run with a block more.

    Args:
        module: The base network on the meta device.
        runs: What is run of it.

    Example:
        >>> from convscale.network import resolve_base
        >>> net = resolve_base("timm:resnet18").build("meta")
        >>> Deepenable(net, Runs(net, 64)).found.able
        (True, True, True, True)
    """

    def __init__(self, module: nn.Module, runs: Runs) -> None:
        self._module = module
        self._runs = runs
        self._schemes = Schemes(module, runs.trace)
        self._expected = runs.resolution
        self._found: Found | None = None

    def expect(self, resolution: Resolution) -> None:
        """Say at which resolution a block more will be asked for, so that one run shows both.

        Args:
            resolution: Input side, or all sides, in px.
        """
        self._expected = resolution

    @property
    def found(self) -> Found:
        """A set of stages, and which of them run with a block more.

        It is the first set in which these hold a third of the flops (two thirds where all blocks
        are made), else the one in which they hold most by far. Where much of the flops lies
        outside of them, or one does not run with a block more, others are added that lie apart.
        """
        if self._found is None:
            self._found = self._tried()
        return self._found

    @collector_at_rest()
    def _tried(self) -> Found:
        trace = self._runs.trace
        best, most = Found(Deepening(self._module, trace, ()), (), (), ()), -1.0
        trials = Trials(self._run, self._runs.check)
        listed: dict[tuple[str, ...], Stage] = {}
        untried: dict[tuple[str, ...], Stage] = {}
        own = self._schemes
        for sets, enough in ((own.first, _ENOUGH), (own.spread, _ENOUGH), (own.last, _ANY)):
            if most >= enough:
                break
            spread = sets == own.spread
            for stages in sets():
                first = Deepening(self._module, trace, stages)
                if _most_worth(self._module, first, trace.flops, spread=spread) <= _BETTER * most:
                    untried |= {stage.paths: stage for stage in stages if stage.mode == "listed"}
                    continue
                for way in self._ways(first, trials):
                    worth = _worth(self._module, way, trace.flops, spread=spread)
                    if worth > _BETTER * most:  # the first are those that their authors repeat
                        best, most = way, worth
                    listed |= {
                        stage.paths: stage
                        for stage, whole in zip(way.deepening.stages, way.whole, strict=True)
                        if whole and stage.mode == "listed"
                    }
                if most >= _ENOUGH:
                    break
        best = self._joined(self._preferring(untried | listed, best, trials), trials)
        return self._needing(self._in_place(best, trials), trials)

    def _needing(self, best: Found, trials: Trials) -> Found:
        """Tell the blocks that cannot go, so that others of their stages do."""
        stages = trials.needing(best.deepening, best.able)
        if stages == best.deepening.stages:
            return best
        shrinking = tuple(
            bool(stage.removable) if stage.needed else shrinks
            for stage, shrinks in zip(stages, best.shrinking, strict=True)
        )
        told = Deepening(self._module, self._runs.trace, stages)
        return replace(best, deepening=told, shrinking=shrinking)

    def _preferring(
        self, listed: dict[tuple[str, ...], Stage], best: Found, trials: Trials
    ) -> Found:
        """Let stages hand nothing on whose blocks can be added to the list that holds them.

        Those that do not run so, with a block more and with one less, go on handing theirs on.
        """
        own = best.deepening.stages
        stages = tuple(
            listed.get(stage.paths, stage) if stage.mode == "chained" else stage for stage in own
        )
        while stages != own:
            found = _tried_by(trials, Deepening(self._module, self._runs.trace, stages))
            kept = tuple(
                new if whole else old
                for whole, new, old in zip(found.whole, stages, own, strict=True)
            )
            if kept == stages:
                return found if found.able == best.able else best
            stages = kept
        return best

    def _in_place(self, best: Found, trials: Trials) -> Found:
        """Let blocks amid others in a list keep their numbers, by which code may know them."""
        stages = tuple(
            handing_on(stage) if able and self._is_amid(stage) else stage
            for stage, able in zip(best.deepening.stages, best.able, strict=True)
        )
        if stages == best.deepening.stages:
            return best
        found = _tried_by(trials, Deepening(self._module, self._runs.trace, stages))
        return found if found.able == best.able else best

    def _is_amid(self, stage: Stage) -> bool:
        """Tell whether a list holds more than the blocks of a stage."""
        holder = self._module.get_submodule(stage.container)
        listed = isinstance(holder, nn.Sequential | nn.ModuleList) and stage.container != ""
        plain = stage.mode == "listed" and not stage.beside and not stage.counts
        plain = plain and bends_itself(self._module, stage, self._runs.trace)
        own = {name for block in stage.blocks for name in stage.modules(block)}
        return listed and plain and not own.issuperset(holder._modules)

    def _joined(self, best: Found, trials: Trials) -> Found:
        """Add stages that were found otherwise: an encoder's beside a decoder's.

        Of what the best stages leave, they are tried where it is more than a fifth of the flops;
        else in the place of stages that do not run with a block more.
        """
        trace = self._runs.trace
        stages = best.deepening.stages
        dense = any(stage.mode == "dense" for stage in stages)
        if dense or not any(best.able):
            return best
        much = 5 * best.deepening.flops(best.able) < 4 * trace.flops
        for others in self._schemes.further():
            able = [stage for stage, good in zip(stages, best.able, strict=True) if good]
            failed = [stage for stage in stages if stage not in able]
            beside = [
                other
                for other in others
                if not any(overlap(other, stage) for stage in able)
                and of_one_kernel(self._module, other)
            ]
            repeating = {(other.kind, other.mode) for other in beside if other.depth > 1}
            apart = tuple(
                other
                for other in beside
                if (much and (other.kind, other.mode) in repeating)
                or any(other.paths == stage.paths for stage in failed)
            )
            good = trials.able(Deepening(self._module, trace, apart)) if apart else ()
            new = [stage for stage, runs in zip(apart, good, strict=True) if runs]
            kept = [stage for stage in failed if not any(overlap(stage, own) for own in new)]
            if new:
                joined = Deepening(self._module, trace, in_order((*able, *kept, *new), trace))
                found = _tried_by(trials, joined)
                if joined.flops(found.able) > best.deepening.flops(best.able):
                    best, stages = found, joined.stages
        return best

    def _ways(self, deepening: Deepening, trials: Trials) -> Iterator[Found]:
        """Yield what trials show of some stages and, where one does not run, of other ways."""
        yield (first := _tried_by(trials, deepening))
        if not all(first.whole):
            idle = tuple(one is not None and one.idle for one in first.refusals)
            for other in deepening.others(first.able, first.whole, idle):
                yield _tried_by(trials, other, dense=True)

    def _run(self, edits: tuple[DepthEdit, ...], deepening: Deepening) -> None:
        if self._expected == self._runs.resolution or not self._runs_there(edits, deepening):
            self._runs.run(edits, self._runs.resolution, deepening)

    def _runs_there(self, edits: tuple[DepthEdit, ...], deepening: Deepening) -> bool:
        """Tell whether blocks run at the resolution that is expected, and all keep their shape.

        Then they do so at the base's own, and nothing behind them changes.
        """
        if deepening.exact(edits):
            return False
        try:
            traced = self._runs.run(edits, self._expected, deepening)
        except UnscalableNetworkError:  # for the blocks or the resolution: the base's own tells
            return False
        if not traced.edits:  # they run as those that they are copies of
            return True
        added = (join(edit.container, name) for edit in flat(edits) for name in edit.added)
        own = [traced.trace.border(path) for path in added]
        return all(one is not None and one.input_shape == one.output_shape for one in own)
