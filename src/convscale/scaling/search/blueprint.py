"""A blueprint: a base network understood once, from which any scaled version can be planned."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from functools import cached_property

import numpy as np
from torch import nn

from convscale.complexity.complexity import Complexity
from convscale.errors import InputError, UnscalableNetworkError, few
from convscale.network.channels.channels import Channels
from convscale.network.channels.grids import completed
from convscale.network.modules.walking import walk
from convscale.network.resolution.sizing import Sizing
from convscale.network.running.execution import Observer
from convscale.network.running.unread import Named
from convscale.network.sources.inputs import ExampleInputs
from convscale.network.stages.rows import bends_stay
from convscale.network.stages.stages import Stage
from convscale.quantities import Resolution, format_resolution, like, sides
from convscale.scaling.building.repetition import MadeBlock
from convscale.scaling.depths.deepenable import Deepenable, Found
from convscale.scaling.depths.deepening import Deepening
from convscale.scaling.depths.runs import Runs
from convscale.scaling.depths.trying import Refusal
from convscale.scaling.plans.control import Control
from convscale.scaling.plans.joining import Joint, Joints, find_joints, open_joints
from convscale.scaling.plans.parts import held, shares
from convscale.scaling.plans.plan import DepthEdit
from convscale.scaling.search.large_outputs import lost_sides
from convscale.scaling.search.steps import Near, beside, nearest, steps_of
from convscale.scaling.variants.deepest import Deepest, without
from convscale.scaling.variants.variant import Traced, Variant, times_of
from convscale.scaling.widths.widths import WidthRule, width_rule

DEFAULT_MULTIPLE = 8  # that widths keep, as far as the base has it
VOLUME = 3  # sides of clips and volumes


class Blueprint:
    """Trace a base network once; answer what it costs at any depths, widths and resolution.

    Args:
        module: The base network on the meta device, a copy of our own.
        resolution: Base resolution in px.
        in_chans: Input channels; read from the module if not given.
        given: What the user gives its forward pass, in place of one image.
        width_multiple: The multiple that widths keep, as far as the base has it.
        sizing: Makes the network for other resolutions, where its constructor takes one.
        watch: Others who see the run of the base network.
        records: Whether runs keep their calls for any widths (`Traced.sized`).

    Raises:
        ForwardError: If the network does not run, or cannot be followed.

    Example:
        >>> from convscale.network import resolve_base
        >>> [s.depth for s in Blueprint(resolve_base("resnet50").build("meta"), 224).stages]
        [3, 4, 6, 3]
    """

    def __init__(
        self,
        module: nn.Module,
        resolution: Resolution,
        *,
        in_chans: int | None = None,
        given: ExampleInputs | None = None,
        width_multiple: int = DEFAULT_MULTIPLE,
        sizing: Sizing | None = None,
        watch: tuple[Observer, ...] = (),
        records: bool = False,
    ) -> None:
        self.module = module
        self.resolution = resolution
        self.width_multiple = width_multiple
        self._rules: dict[int, tuple[Channels, WidthRule]] = {}
        self._joined: dict[int, tuple[Joint, ...]] = {}
        self._plans: Blueprint | None = None
        self._planning: Deepest | None = None
        self.control = Control()
        self._runs = Runs(
            module,
            resolution,
            in_chans=in_chans,
            given=given,
            sizing=sizing,
            watch=watch,
            records=records,
        )
        self.trace = self._runs.trace
        self._rows: dict[Stage, int] = {}  # how many rows stay, where it was asked
        self._deepenable = Deepenable(module, self._runs)

    def planning(self) -> Blueprint:
        """Return this blueprint for plans alone, which takes fewer runs that are followed.

        What depths of dense blocks cost is derived from few runs, once single ones were followed
        and show the same (`Deepest`).
        """
        if self._plans is None:
            deepening, able = self._found.deepening, self._found.able  # once for both
            twin = copy(self)
            twin._rules, twin._joined = {}, {}
            twin._planning = Deepest(
                deepening.depths,
                able,
                self.least_depths,
                self.resolution,
                lambda depths, size: self._run(deepening.edits(depths), size),
                lambda depths, size, traced: twin._read(depths, size, traced),
            )
            self._plans = twin
        return self._plans

    def under(self, control: Control) -> Blueprint:
        """Return this blueprint with parts that stay, and factors of single stages.

        What was run is shared.

        Raises:
            InputError: If the control names what the network does not have.
            UnscalableNetworkError: If a stage cannot follow its factor.
        """
        if control == self.control:
            return self
        control.check_patterns(
            name
            for names in (
                walk(self.module),
                self.module.named_parameters(),
                self.module.named_buffers(),
            )
            for name, _ in names
        )
        if control.keep or control.stage_depth or control.stage_width:
            self._check_stages(control)
        twin = copy(self)
        twin._rules, twin._joined = {}, {}
        twin.control = control
        return twin

    def _check_stages(self, control: Control) -> None:
        if control.keep and not self.stages:
            raise UnscalableNetworkError(
                f"The network has no stage of blocks, so that nothing tells its "
                f"{' and '.join(control.keep)}. Name the modules that stay: --freeze PATTERN."
            )
        for option, factors in (
            ("--stage-depth", control.stage_depth),
            ("--stage-width", control.stage_width),
        ):
            if factors and len(factors) != len(self.stages):
                listed = ", ".join(f"{stage.name} ({stage.depth})" for stage in self.stages)
                raise InputError(
                    f"{option} came with {len(factors)} numbers, but the stages of the network are "
                    f"{len(self.stages)}{f': {listed}' if listed else ''}. "
                    "Write a number for each."
                )
        for index, able in enumerate(self.repeatable):
            if not able and control.depth_of(index) != 1:
                raise UnscalableNetworkError(
                    f"The stage at {self.stages[index].name} has no block that can be repeated, "
                    f"so that its depth cannot be multiplied by {control.depth_of(index):g}. "
                    "Write 1 for it in --stage-depth."
                )

    def expect(self, factor: float) -> None:
        """Say by which factor the sides will be scaled first: one run then shows depth, too."""
        near = nearest(self.resolution, factor, steps_of(self.resolution)[0])
        self._deepenable.expect(near)

    @property
    def _found(self) -> Found:
        """A set of stages, and which of them run with a block more."""
        return self._deepenable.found

    @property
    def _deepened(self) -> Deepening:
        return self._found.deepening

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages of the network, in the order in which they run."""
        return self._deepened.stages

    @property
    def made(self) -> dict[str, MadeBlock]:
        """Blocks made for stages that have none to repeat, by the path of the stage's last."""
        return self._deepened.made

    @property
    def repeatable(self) -> tuple[bool, ...]:
        """For each stage, whether an added block runs: tried, not assumed."""
        return self._found.able

    @property
    def refusals(self) -> tuple[Refusal | None, ...]:
        """For each stage, why it does not run with a block more; None where it does."""
        return self._found.refusals

    @property
    def least_depths(self) -> tuple[int, ...]:
        """For each stage the depth that it keeps at least: its own, where all blocks are read.

        So it is where modules in its blocks are frozen. Rows go that others hand their output
        through, and no others where the code would bend what is left again.
        """
        found = zip(self.stages, self._found.shrinking, strict=True)
        return tuple(
            self._least(stage) if shrinks and not self.holds_frozen(stage) else stage.depth
            for stage, shrinks in found
        )

    def _least(self, stage: Stage) -> int:
        if stage not in self._rows:
            units = [stage.modules(block) for block in stage.blocks]
            hosts = tuple(f"{unit[-1]}." for unit in units)
            own = sum(not unit[0].startswith(hosts) for unit in units)
            stay = bends_stay(self.module, stage, self.trace)
            self._rows[stage] = own if stay else stage.depth - len(stage.removable)
        return self._rows[stage]

    @property
    def hopeful(self) -> tuple[bool, ...]:
        """For each stage, whether it has a block to repeat, or one can be made of it."""
        return tuple(edit is not None for edit in self._deepened.alone)

    @property
    def runs_each_depth(self) -> bool:
        """Whether every choice of depths takes a run of its own: among dense blocks."""
        return self._deepened.exact(())

    @property
    def tells_depths(self) -> bool:
        """Whether plans derive what any depths cost: always but among some dense blocks."""
        if not self.runs_each_depth:
            return True
        own = self.planning()._planning
        return own is not None and own.holds

    @property
    def deepenable(self) -> tuple[bool, ...]:
        """For each stage, whether an added block runs, and nothing keeps the stage's depth."""
        if not self.control.freeze and not self.control.overrun:
            return self.repeatable
        return tuple(
            able and not self.is_frozen(stage) and not self.is_overrun(stage)
            for stage, able in zip(self.stages, self.repeatable, strict=True)
        )

    @property
    def repeated_shares(self) -> tuple[float, ...]:
        """For each stage the part of the flops in its blocks; 0 where it cannot be deepened."""
        stages, whole = range(len(self.stages)), max(1, self._runs.trace.flops)
        able = self.deepenable
        return tuple(
            self._deepened.flops(tuple(able[one] and one == own for one in stages)) / whole
            for own in stages
        )

    def is_frozen(self, stage: Stage) -> bool:
        """Tell whether a stage is frozen, or any of its blocks: then its depth stays."""
        return any(self.control.freezes(path) for path in stage.paths)

    def is_overrun(self, stage: Stage) -> bool:
        """Tell whether the network failed in a stage with the blocks that were asked for."""
        return stage.paths[0] in self.control.overrun

    def holds_frozen(self, stage: Stage) -> bool:
        """Tell whether any module in the blocks of a stage is frozen: then none goes."""
        if not self.control.freeze:
            return False
        parts = set(stage.paths).difference(stage.entries)
        inside = (
            name
            for path in parts
            for name, _ in self.module.get_submodule(path).named_modules(prefix=path)
        )
        return any(self.control.freezes(name) for name in (*inside, *stage.entries))

    def depths_at(self, factor: float) -> tuple[float, ...]:
        """Return the depths that a factor asks for, before they are rounded."""
        return tuple(
            stage.depth * factor * self.control.depth_of(index) if able else stage.depth
            for index, (stage, able) in enumerate(zip(self.stages, self.deepenable, strict=True))
        )

    @cached_property
    def base_complexity(self) -> Complexity:
        """The complexity of the base network."""
        base = self.base()
        sizes = base.channels.sizes
        return base.traced.form.complexity(sizes, base.term_weights, base.tensor_weights)

    def width_growth(self, factor: float, group_factor: float) -> float:
        """Return the growth of flops when every free width is multiplied exactly by a factor.

        Group widths are multiplied by one of their own.

        It is the factor's square for a plain network, and less by the share of layers that
        grow with width once (depthwise, stem, classifier) or not at all.
        """
        base = self.base()
        channels = base.channels
        factors = np.where(channels.fixed, 1.0, factor)
        inner = [group for group in base.rule.inner if not channels.fixed[group]]
        factors[inner] = group_factor
        sizes = completed(channels.grids, factors * channels.sizes)
        form = base.traced.form
        return form.continuous_flops(sizes) / form.continuous_flops(channels.sizes.astype(float))

    def base(self) -> Variant:
        """Return the base itself as a variant."""
        return self.variant(None, self.resolution)

    def variant(self, depths: tuple[int, ...] | None, resolution: Resolution) -> Variant:
        """Return the base at other depths (None for its own) and another resolution.

        Each resolution is run once, or twice where depths change; dense blocks need a run for
        each choice of depths.

        Raises:
            UnscalableNetworkError: If it does not run, or an added block is not executed.
        """
        return self._read(depths, resolution, self._shown(depths, resolution))

    def _read(
        self, depths: tuple[int, ...] | None, resolution: Resolution, traced: Traced
    ) -> Variant:
        """Return what a run shows of some depths."""
        edits = () if depths is None else self._deepened.edits(depths)
        times = times_of(edits, traced.edits)
        terms, tensors = traced.form.weights(times)
        channels, rule = self._rule(traced)
        dense = traced.edits != edits and self._deepened.exact(edits)
        away = frozenset(path for path, often in times.items() if not often) if dense else None
        return Variant(
            depths,
            resolution,
            edits,
            traced,
            channels,
            rule,
            terms,
            tensors,
            without(traced.trace, away) if away else None,
            Joints() if dense else self._joints(traced, edits),
        )

    def _shown(self, depths: tuple[int, ...] | None, resolution: Resolution) -> Traced:
        """Run what shows the depths: one block more a stage stands for any number of them.

        It stands for none as well, where the base network's own run is at another resolution.
        """
        edits = () if depths is None else self._deepened.edits(depths)
        if depths is None or (not edits and resolution == self.resolution):
            return self._run((), resolution)
        deepening, able = self._deepened, self._found.able
        if deepening.exact(edits or deepening.one_more(able)):
            if self._planning is not None and self.runs_each_depth:
                return self._planning.traced(depths, resolution)
            return self._run(edits, resolution)
        try:
            return self._run(deepening.one_more(able), resolution)
        except UnscalableNetworkError:
            if edits:
                raise
        return self._run((), resolution)  # a block more does not run there, and none is asked for

    def _run(self, models: tuple[DepthEdit, ...], resolution: Resolution) -> Traced:
        return self._runs.run(models, resolution, self._deepened if models else None)

    def forget(self, most: int) -> None:
        """Forget all but the runs that were used last: each holds megabytes.

        Args:
            most: How many are kept.

        Example:
            >>> from convscale.network import resolve_base
            >>> base = Blueprint(resolve_base("timm:resnet18").build("meta"), 64)
            >>> _ = base.variant(None, 96)
            >>> base.forget(0)
            >>> base.variant(None, 96).resolution
            96
        """
        kept = self._runs.forget(most)
        if self._plans is not None:
            self._plans.forget(most)
        self._rules = {own: rule for own, rule in self._rules.items() if own in kept}
        self._joined = {own: found for own, found in self._joined.items() if own in kept}

    def _rule(self, traced: Traced) -> tuple[Channels, WidthRule]:
        """Return the channels and the widths of a run, under the control."""
        traced = traced.like or traced
        if id(traced) not in self._rules:
            trace, control = traced.trace, self.control
            stages = self.stages if control.keep or control.stage_width else ()
            channels = held(trace, control, stages, traced.edits)
            factors = shares(trace, control, stages, traced.edits)
            rule = width_rule(channels, width_multiple=self.width_multiple, shares=factors)
            self._rules[id(traced)] = (channels, rule)
        return self._rules[id(traced)]

    def _joints(self, traced: Traced, edits: tuple[DepthEdit, ...]) -> Joints:
        """Return the groups that are as large as others where blocks of a run do not stand."""
        if traced.edits == edits:
            return Joints()
        traced = traced.like or traced
        if id(traced) not in self._joined:
            channels, _ = self._rule(traced)
            found = find_joints(traced.trace, traced.edits, self.stages, channels)
            self._joined[id(traced)] = found
        return open_joints(self._joined[id(traced)], edits)

    def _finer(
        self, depths: tuple[int, ...] | None, near: Near, factor: float, *, even: bool
    ) -> Near:
        """Let single sides of clips and volumes come nearer, on smaller steps than all take.

        Time and depth are halved less often than height and width. Where all is even, no output
        loses the image's sides.
        """
        found = near.resolution
        if len(sides(found)) != VOLUME:
            return near
        smaller = [own for own in steps_of(self.resolution) if own < near.step]
        for axis in range(VOLUME):
            for own in smaller:
                there = sides(nearest(self.resolution, factor, own))[axis]
                new = like(found, [*sides(found)[:axis], there, *sides(found)[axis + 1 :]])
                if new == found:
                    break  # it is the nearest as it is
                try:
                    trace = self._shown(depths, new).trace
                except UnscalableNetworkError:
                    continue
                if even and lost_sides(self.trace, trace):
                    continue
                found = new
                break
        return replace(near, resolution=found)

    def _why(self, failed: list[Resolution]) -> str:
        """Say at which other sides a network does not run, and what of it does not follow them."""
        others = [format_resolution(size) for size in dict.fromkeys(failed)][1:]
        nor = f"Nor does it at {few(others)} px. " if others else ""
        why = self._runs.unfollowed(failed[0])
        return nor + (f"{why} " if why else "")

    @property
    def sided(self) -> bool:
        """Whether what the network is run on grows with the resolution: a vector does not."""
        return self._runs.sided

    def unread(self, attributes: tuple[Named, ...]) -> tuple[Named, ...]:
        """Return those attributes, each a module's path and a name, that no forward pass reads."""
        return self._runs.unread(attributes)

    def cropped(self, resolution: Resolution) -> str:
        """Say which size in the code should have followed to a resolution; or nothing."""
        return self._runs.cropped(resolution)

    def staying(self, resolution: Resolution) -> tuple[str, ...]:
        """Return the inputs given, of those with sides, that are as large at another resolution."""
        return self._runs.staying(resolution)

    def resolution_near(self, factor: float, *, depths: tuple[int, ...] | None = None) -> Near:
        """Return the resolution nearest to the base's times a factor at which the network runs.

        Outputs that have the image's sides in the base have them there too, if they have at any
        that are tried.

        Args:
            factor: The factor of the sides.
            depths: The depths to run it with, where they change too: one run shows both.

        Raises:
            UnscalableNetworkError: If the network runs at none of the near ones.
        """
        problem: UnscalableNetworkError | None = None
        failed: list[Resolution] = []
        uneven: Near | None = None
        for step in steps_of(self.resolution):
            candidate = nearest(self.resolution, factor, step)
            tried = [candidate]
            if candidate == self.resolution:
                if step == 1:
                    return Near(candidate, step)
                tried = beside(candidate, step)  # if one of these runs, the base is the nearest
            for resolution in tried:
                try:
                    trace = self._shown(depths, resolution).trace
                except UnscalableNetworkError as error:
                    problem = problem or error
                    failed.append(resolution)
                    continue
                if lost_sides(self.trace, trace):
                    uneven = uneven or Near(candidate, step, resolution)
                    continue
                near = Near(candidate, step, None if uneven is None else uneven.uneven)
                return self._finer(depths, near, factor, even=True)
        if uneven is not None:
            return self._finer(depths, uneven, factor, even=False)
        sizing = self._runs.sizing
        told = sizing is None or sizing.bound or sizing.given
        other = "" if told else "; or give a factory that takes the size as img_size"
        raise UnscalableNetworkError(
            f"The resolution cannot be scaled by {factor:.3g}: {problem} {self._why(failed)}"
            f"Leave it out: --keep r, or use a strategy without r, such as w or dw{other}."
        )
