"""Scale a network: understand it once, then any strategy, factor or budget."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from math import log

import torch
from torch import nn

from convscale.complexity.complexity import Complexity, differing
from convscale.complexity.counting import count_module
from convscale.complexity.recording import LateRecorder
from convscale.complexity.tally import Counting
from convscale.errors import BudgetError, InputError, UnscalableNetworkError
from convscale.network.modules.copies import meta_copy
from convscale.network.modules.numbers import Place
from convscale.network.modules.pausing import collector_at_rest
from convscale.network.modules.walking import walk
from convscale.network.modules.wrappers import unwrapped
from convscale.network.resolution.sizing import Sizing, fitted
from convscale.network.running.execution import ForwardError
from convscale.network.running.feeding import known_resolution
from convscale.network.running.given import given_sides
from convscale.network.sources.network import Network
from convscale.quantities import (
    Resolution,
    check_count,
    exact,
    format_count,
    like,
    sides,
)
from convscale.scaling.building.build import build, set_attributes
from convscale.scaling.building.settling import settle
from convscale.scaling.building.weights import StoredError
from convscale.scaling.plans.asking import rounded, split_keep, target_of
from convscale.scaling.plans.control import Control
from convscale.scaling.plans.mapped import map_attributes
from convscale.scaling.plans.plan import Attribute, Plan
from convscale.scaling.results.checks import Checks
from convscale.scaling.results.features import described
from convscale.scaling.results.holding import WrittenError, overrun_in
from convscale.scaling.results.notes import doubts, notes_on
from convscale.scaling.results.scaled import ScaledNetwork
from convscale.scaling.search.blueprint import Blueprint
from convscale.scaling.search.refining import refined_by
from convscale.scaling.search.search import candidate_at, check_axes, expect, nearer, solve
from convscale.scaling.variants.candidate import Candidate
from convscale.strategy import Step, Strategy, parse_strategy, without

Refine = Callable[[ScaledNetwork], float]
_NORMS = nn.modules.batchnorm._NormBase
_MOSTLY = 0.9  # of the growth by widths that is left where what nobody can compute stays
_FACTOR_MISS = 0.1  # from which a note says why


def untraced(name: str, error: ForwardError) -> UnscalableNetworkError:
    """Say in one line that a network runs, and cannot be followed.

    Example:
        >>> untraced("net", ForwardError("stem", "Conv2d", ValueError("too small"))).line
        'net cannot be traced: ValueError: too small (in stem, a Conv2d).'
    """
    return UnscalableNetworkError(f"{name} cannot be traced: {error.told}.")


class Scaler:
    """One base network at one resolution, from which scaled ones are made.

    Args:
        network: The base network.
        resolution: Base input side, or all sides, in px; the network's own by default.
        width_multiple: The multiple that widths keep, as far as the base has it.
        records: Whether runs keep their calls for any widths, for `deriving`.

    Raises:
        InputError: If the resolution is missing, or the network cannot run at it.

    Example:
        >>> from convscale.network import resolve_base
        >>> scaler = Scaler(resolve_base("timm:resnet18"))
        >>> scaler.scale("d", factor=2.0, weights=False).ratio["flops"] > 1.9
        True
    """

    def __init__(
        self,
        network: Network,
        *,
        resolution: Resolution | None = None,
        width_multiple: int = 8,
        records: bool = False,
    ) -> None:
        check_count(width_multiple, what="width multiple")
        if network.inputs is None:
            self.resolution = known_resolution(network, resolution)
            network = fitted(network, self.resolution)
            module = network.build("meta")
            self.dims = network.dims or 2
        else:
            module = network.build("meta")
            self.resolution = given_sides(module, network.inputs)
            self.dims = len(sides(self.resolution))
        self.network = network
        size = exact(self.resolution, self.dims)
        self.checks = Checks(network, size, module)
        counting = Counting()
        try:
            self.blueprint = Blueprint(
                module,
                size,
                in_chans=network.in_chans,
                given=network.inputs,
                width_multiple=width_multiple,
                sizing=Sizing(network, size, module=module),
                watch=(counting,),
                records=records,
            )
        except ForwardError as error:
            self._check_runs(meta_copy(module, run=True), size, error)
            raise untraced(network.name, error) from error
        self.base = counting.count(module, self.resolution, name=network.name)

    def _check_runs(self, module: nn.Module, size: Resolution, error: ForwardError) -> None:
        """Say so if a network that cannot be followed does not run at all."""
        try:
            self.checks.count(module, size)
        except InputError as refused:
            if error.needs_values is None and error.lacks_shapes is None:
                raise
            raise UnscalableNetworkError(str(refused)) from error  # it runs on real tensors

    def scale(
        self,
        strategy: str | Strategy,
        *,
        factor: float | None = None,
        flops: float | None = None,
        params: float | None = None,
        acts: float | None = None,
        keep: Iterable[str] = (),
        rounding: str | None = None,
        freeze: Iterable[str] = (),
        stage_depth: Iterable[float] = (),
        stage_width: Iterable[float] = (),
        seed: int = 0,
        strict: bool = False,
        weights: bool = True,
        misses: bool = True,
        refine: Refine | None = None,
        record: LateRecorder | None = None,
    ) -> ScaledNetwork:
        """Scale the base network to exactly one target, or by an entry of a table to none.

        Args:
            strategy: A strategy or its notation.
            factor: Scale factor s of the flops.
            flops: Budget of flops (multiply-adds).
            params: Budget of params.
            acts: Budget of acts.
            keep: What to leave alone: axes (d, w, r; the others share the factor), and the
                widths of the stem or the head.
            rounding: Rounding rule; the strategy's own by default.
            freeze: Patterns of the paths of modules whose tensors keep their shapes.
            stage_depth: For each stage a number that the factor of depth is multiplied by.
            stage_width: Likewise for width. With either, the target may be left out: factor 1.
            seed: Seed of the fresh weights.
            strict: Whether a budget missed by more than 3 % is an error, or a factor of which the
                flops miss more than a tenth.
            weights: Whether the module gets weights; on the meta device if not.
            misses: Whether a note says how far the target is missed.
            refine: How far a network lies off something else, the logarithm of a ratio, that
                single stages are then moved for.
            record: Records the run by which the network is checked; nothing where it is run
                again.

        Returns:
            The scaled network.

        Raises:
            InputError: If the target is none or several, not positive, or too small.
            UnscalableNetworkError: If the network cannot follow the strategy.
            BudgetError: If a strict budget cannot be met.
        """
        given = {"factor": factor, "flops": flops, "params": params, "acts": acts}
        axes, control = split_keep(keep, freeze, stage_depth, stage_width)
        rule = parse_strategy(strategy) if isinstance(strategy, str) else strategy
        rule = rule.in_dims(self.dims)
        target, value = target_of(rule, given, default=control.default_factor)
        rule, notes = without(rounded(rule, rounding), axes)
        if isinstance(rule, Step):
            value, control = rule.scale, self._by_entry(rule, control)
        while True:
            try:
                found, said, requested = self._found(
                    rule, control, (target, value), strict=strict, misses=misses, refine=refine
                )
                return self._made(
                    rule,
                    found,
                    requested,
                    (*notes, *said),
                    control=control,
                    seed=seed,
                    weights=weights,
                    record=record,
                )
            except WrittenError as error:  # what does not follow stays, and all is tried again
                more = error.held(control)
                if more is None:
                    raise
                control = more
            except StoredError as error:  # so does what nobody can compute
                held = replace(control, stored=(*control.stored, error.tensor))
                if not self._mostly_grows(held, control):
                    raise
                control = held

    def _mostly_grows(self, control: Control, before: Control) -> bool:
        """Tell whether most of the flops still follow the widths when more is held."""
        if control.stored[-1] in before.stored:
            return False
        now, then = (self.blueprint.under(own).width_growth(2.0, 2.0) for own in (control, before))
        return log(now) >= _MOSTLY * log(then) > 0

    def planned(
        self, strategy: Strategy, factor: float | None = None, *, rounding: str | None = None
    ) -> Candidate:
        """Return what `scale` makes for a factor, from the closed form alone: nothing is built.

        Where the network's code holds sizes of its own, what is built may differ.

        Args:
            strategy: A strategy.
            factor: Scale factor s; None for an entry of a table.
            rounding: Rounding rule; the strategy's own by default.

        Raises:
            InputError: If an argument is wrong.
            UnscalableNetworkError: If the network cannot follow the strategy.

        Example:
            >>> from convscale.network import resolve_base
            >>> scaler = Scaler(resolve_base("timm:resnet18"))
            >>> scaler.planned(parse_strategy("d"), 2.0).variant.depths
            (4, 4, 4, 4)
        """
        rule = rounded(strategy.in_dims(self.dims), rounding)
        _, value = target_of(rule, {"factor": factor})
        control = Control()
        if isinstance(rule, Step):
            value, control = rule.scale, self._by_entry(rule, control)
        blueprint = self.blueprint.planning().under(control)
        check_axes(blueprint, rule, value)
        return nearer(blueprint, rule, candidate_at(blueprint, rule, value))

    @collector_at_rest()
    def _found(
        self,
        rule: Strategy,
        control: Control,
        asked: tuple[str, float],
        *,
        strict: bool,
        misses: bool,
        refine: Refine | None,
    ) -> tuple[Candidate, tuple[str, ...], dict[str, float]]:
        """Find the network for a target under a control, with notes and what was requested."""
        target, value = asked
        blueprint = self.blueprint.under(control)
        if target in ("factor", "flops"):
            expect(blueprint, rule, value if target == "factor" else value / self.base.flops)
        check_axes(blueprint, rule, value if target == "factor" else None)
        if target == "factor":
            found = nearer(blueprint, rule, candidate_at(blueprint, rule, value))
        else:
            found = solve(blueprint, rule, target, value)
        requested = {target: value}
        if refine is not None:
            miss = refine
            found = refined_by(
                blueprint,
                rule,
                found,
                lambda near: miss(
                    self._made(rule, near, requested, (), control=control, seed=0, weights=False)
                ),
            )
        if strict and target != "factor" and abs(found.value(target) / value - 1) > 0.03:
            raise BudgetError(
                f"The nearest network of strategy {rule.name!r} has "
                f"{format_count(found.value(target))} {target}, not {format_count(value)}. "
                "Leave strict out to take it."
            )
        if strict and target == "factor" and not (control.by_stage or isinstance(rule, Step)):
            ratio = found.complexity.flops / max(self.base.flops, 1)
            if abs(ratio / value - 1) > _FACTOR_MISS:
                raise BudgetError(
                    f"The nearest network of strategy {rule.name!r} has {ratio:.3g} times the "
                    f"flops of its base, not {value:g} times. Leave strict out to take it."
                )
        notes = notes_on(blueprint, rule, found, requested if misses else {})
        return found, notes, requested

    def _by_entry(self, strategy: Step, control: Control) -> Control:
        """Return the control under which stages have the depths that a table's entry gives."""
        if not strategy.stage_depth:
            return control
        known, own = len(strategy.stage_depth), self.blueprint.stages
        if len(own) != known:
            listed = ", ".join(f"{stage.name} ({stage.depth})" for stage in own) or "none"
            raise UnscalableNetworkError(
                f"Strategy {strategy.name!r} has depths for {known} stages, but the stages of "
                f"{self.network.name} are {len(own)}: {listed}. Use a network with {known}, or "
                "another strategy."
            )
        asked = control.stage_depth or (1.0,) * known
        if len(asked) != known:
            raise InputError(
                f"Strategy {strategy.name!r} has depths for {known} stages, but {len(asked)} "
                "depth factors of stages came. Write one for each of its stages."
            )
        shares = zip(strategy.stage_depth, asked, strict=True)
        depths = tuple(each / strategy.own.depth * times for each, times in shares)
        return replace(control, stage_depth=depths)

    def _made(
        self,
        strategy: Strategy,
        found: Candidate,
        requested: dict[str, float],
        notes: tuple[str, ...],
        *,
        control: Control,
        seed: int,
        weights: bool,
        record: LateRecorder | None = None,
    ) -> ScaledNetwork:
        plan, module, achieved, more = self._settled(found, control, record)
        notes = (*notes, *more)
        told = found.variant.traced.told
        source = self.network if told is None else told.network
        if weights:
            module, more = _weighted(source, plan, seed=seed)
            achieved = self.checks.counted(module, found)
            notes = (*notes, *more)
        else:
            self.checks.buffers(
                source, plan, self.blueprint.module if told is None else told.module
            )
        origin = source.origin
        return ScaledNetwork(
            network=self.network.name,
            module=module,
            resolution=like(self.resolution, sides(found.variant.resolution)),
            strategy=strategy,
            factor=found.factor,
            factors=found.factors,
            base=self.base,
            base_resolution=self.resolution,
            requested=requested,
            achieved=achieved,
            notes=notes,
            in_chans=self.network.in_chans,
            origin=replace(origin, steps=(*origin.steps, plan.as_document())),
            plan=plan,
            source=source,
            dims=self.dims,
            inputs=self.checks.given(found.variant.resolution),
        )

    @collector_at_rest()
    def _settled(
        self, found: Candidate, control: Control, record: LateRecorder | None = None
    ) -> tuple[Plan, nn.Module, Complexity, tuple[str, ...]]:
        """Complete the plan by the attributes that must follow the widths.

        Returns:
            The plan, the module on the meta device, what it counts, and notes for the user.
        """
        plan = replace(
            found.variant.plan(found.widths),
            descriptions=described(self.blueprint, found.variant, found.widths),
        )
        told = found.variant.traced.told
        module, _ = build(self.blueprint.module if told is None else told.module, plan)
        source = self.network if told is None else told.network
        sizes = map_attributes(source.sizes, plan.depth, dict(walk(module)))
        plan = replace(plan, statistics=self.checks.statistics(module, plan, found))
        plan = replace(plan, attributes=(*plan.attributes, *sizes))
        counting = Counting()
        if record is not None:
            record.forget()
        settlement = settle(
            copied := meta_copy(module, run=True),
            found.variant.trace,
            found.variant.sizes(found.widths),
            found.variant.resolution,
            in_chans=self.network.in_chans,
            given=self.checks.given(found.variant.resolution),
            model_path=found.variant.model_path,
            base=self.blueprint.module,
            told=[
                Place(one.module, str(one.path[0]), None)
                for one in plan.descriptions
                if len(one.path) == 1
            ],
            watch=(counting,) if record is None else (counting, record),
        )
        attributes = tuple(
            Attribute(place.module, place.attribute, place.index, value)
            for place, value in {**settlement.found, **settlement.scales}.items()
        )
        set_attributes(module, attributes)
        plan = replace(
            plan,
            attributes=(*plan.attributes, *attributes),
            unscaled=settlement.unscaled,
        )
        if unsaid := set(settlement.slices) - set(control.literals):  # it may run even so
            message = f"{self.network.name} slices channels by numbers in its code."
            raise WrittenError(message, replace(settlement, literals=tuple(sorted(unsaid))))
        if not settlement.found and settlement.failure is None:  # it ran as it is
            achieved = self.checks.agreed(counting.count(copied, 0), found)
        else:
            if record is not None:
                record.forget()
            try:
                achieved = self.checks.counted(module, found)
            except UnscalableNetworkError as error:
                raise WrittenError(
                    str(error),
                    settlement,
                    wider=found.factors.width != 1,
                    overrun=overrun_in(error, found, self.blueprint.stages),
                ) from error
        self.checks.answers(module, found, settlement)
        if found.variant.trace.trains:
            self.checks.training(module, found)
        return plan, module, achieved, doubts(settlement.doubtful)


def _weighted(source: Network, plan: Plan, *, seed: int) -> tuple[nn.Module, tuple[str, ...]]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        base = unwrapped(source.build("cpu"))
    return build(base, plan, seed=seed)


def with_weights(scaled: ScaledNetwork, *, seed: int = 0) -> ScaledNetwork:
    """Return a network that was scaled without weights with them; nothing is searched again.

    Raises:
        UnscalableNetworkError: If it counts other than it was planned.

    Example:
        >>> from convscale.network import resolve_base
        >>> bare = Scaler(resolve_base("timm:resnet18")).scale("w", factor=2.0, weights=False)
        >>> with_weights(bare).module.conv1.weight.device.type
        'cpu'
    """
    assert scaled.source is not None
    module, notes = _weighted(scaled.source, scaled.plan, seed=seed)
    size = exact(scaled.resolution, scaled.dims)
    counted = count_module(
        meta_copy(module),
        size,
        name=scaled.network,
        in_chans=scaled.in_chans,
        given=scaled.inputs,
    )
    got = Complexity(counted.flops, counted.params, counted.acts)
    if got != scaled.achieved:
        raise UnscalableNetworkError(
            f"With weights {scaled.network} has {differing(got, scaled.achieved)} as without. Use "
            "a strategy without w."
        )
    return replace(scaled, module=module, notes=(*scaled.notes, *notes))
