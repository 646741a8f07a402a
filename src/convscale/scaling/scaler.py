"""Scale a network: understand it once, then any strategy, factor or budget."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
from torch import nn

from convscale.complexity.complexity import Complexity, Count, differing
from convscale.complexity.counting import count_module
from convscale.complexity.recording import LateRecorder
from convscale.complexity.tally import Counting
from convscale.errors import BudgetError, InputError, UnscalableNetworkError
from convscale.network.copies import meta_copy
from convscale.network.execution import ForwardError, run
from convscale.network.feeding import Feed, known_resolution
from convscale.network.given import given_sides, resized
from convscale.network.inputs import ExampleInputs, Inputs
from convscale.network.pausing import collector_at_rest
from convscale.network.sizing import Sizing, fitted
from convscale.network.sources import Network
from convscale.network.ties import tensors_in
from convscale.network.walking import walk
from convscale.quantities import (
    Resolution,
    check_count,
    exact,
    format_count,
    like,
    sides,
)
from convscale.scaling.answers import other_answer
from convscale.scaling.asking import rounded, split_keep, target_of
from convscale.scaling.blueprint import Blueprint
from convscale.scaling.build import build, set_attributes
from convscale.scaling.candidate import Candidate
from convscale.scaling.control import Control
from convscale.scaling.features import described
from convscale.scaling.holding import WrittenError
from convscale.scaling.mapped import map_attributes
from convscale.scaling.notes import doubts, notes_on
from convscale.scaling.plan import Attribute, Plan
from convscale.scaling.refining import refined_by
from convscale.scaling.scaled import ScaledNetwork
from convscale.scaling.search import candidate_at, check_axes, expect, nearer, solve
from convscale.scaling.settling import Settlement, settle
from convscale.scaling.statistics import statistics_of
from convscale.scaling.weights import Redraw
from convscale.strategy import Factors, Step, Strategy, parse_strategy, without

Refine = Callable[[ScaledNetwork], float]
_NORMS = nn.modules.batchnorm._NormBase
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
        self._size = exact(self.resolution, self.dims)
        counting = Counting()
        try:
            self.blueprint = Blueprint(
                module,
                self._size,
                in_chans=network.in_chans,
                given=network.inputs,
                width_multiple=width_multiple,
                sizing=Sizing(network, self._size, module=module),
                watch=(counting,),
                records=records,
            )
        except ForwardError as error:
            self._count(meta_copy(module), self._size)  # says so if it does not run at all
            raise untraced(network.name, error) from error
        self.base = counting.count(module, self.resolution, name=network.name)

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
            achieved = self._checked(module, found)
            notes = (*notes, *more)
        else:
            self._check_buffers(
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
            inputs=self._given(found.variant.resolution),
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
        plan = replace(plan, statistics=self._statistics(module, plan, found))
        plan = replace(plan, attributes=(*plan.attributes, *sizes))
        counting = Counting()
        if record is not None:
            record.forget()
        settlement = settle(
            copied := meta_copy(module),
            found.variant.trace,
            found.variant.sizes(found.widths),
            found.variant.resolution,
            in_chans=self.network.in_chans,
            given=self._given(found.variant.resolution),
            model_path=found.variant.model_path,
            base=self.blueprint.module,
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
            achieved = self._agreed(counting.count(copied, 0), found)
        else:
            if record is not None:
                record.forget()
            try:
                achieved = self._checked(module, found)
            except UnscalableNetworkError as error:
                raise WrittenError(str(error), settlement) from error
        self._check_answers(module, found, settlement)
        if found.variant.trace.trains:
            self._check_training(module, found)
        return plan, module, achieved, doubts(settlement.doubtful)

    def _check_buffers(self, source: Network, plan: Plan, own: nn.Module) -> None:
        """Refuse what would be refused with weights: fixed values of which nothing tells new ones.

        Args:
            source: What is scaled.
            plan: How.
            own: What is scaled, without weights.
        """
        frozen = ((name, one) for name, one in own.named_parameters() if not one.requires_grad)
        resized = {
            name: plan.shapes[name]
            for name, tensor in (*own.named_buffers(), *frozen)
            if name not in plan.statistics
            and plan.shapes.get(name, tuple(tensor.shape)) != tuple(tensor.shape)
            and not isinstance(own.get_submodule(name.rpartition(".")[0]), _NORMS)
        }
        if resized:
            built = source.build("cpu")
            tensors = {**dict(built.named_parameters()), **dict(built.named_buffers())}
            for name, shape in resized.items():
                Redraw(0)(name, tensors[name], shape)

    def _statistics(self, module: nn.Module, plan: Plan, found: Candidate) -> tuple[str, ...]:
        """Return the buffers, but those of norms, that training changes, if any is resized."""
        own = dict(self.blueprint.module.named_buffers())
        buffers = {
            name
            for name, _ in module.named_buffers()
            if name in plan.shapes
            and not isinstance(module.get_submodule(name.rpartition(".")[0]), _NORMS)
        }
        if all(name not in own or own[name].shape == plan.shapes[name] for name in buffers):
            return ()
        return tuple(
            sorted(buffers & statistics_of(meta_copy(module), self._inputs(module, found)))
        )

    def _inputs(self, module: nn.Module, found: Candidate) -> Inputs:
        """Return two images for a scaled network, in one batch."""
        return self._feed(found.variant.resolution).inputs(module, batch=2)

    def _feed(self, resolution: Resolution) -> Feed:
        given, channels = self._given(resolution), self.network.in_chans
        return Feed(None if given is not None else resolution, in_chans=channels, given=given)

    def _given(self, resolution: Resolution) -> ExampleInputs | None:
        """Return what the user gives the network's forward pass, at a resolution."""
        given = self.network.inputs
        return None if given is None else resized(given, self._size, resolution)

    def _check_answers(self, module: nn.Module, found: Candidate, settlement: Settlement) -> None:
        """Refuse a network whose code makes more of its widths than channels."""
        trace, resolution = found.variant.trace, found.variant.resolution
        if trace.resolution != resolution or not other_answer(settlement.outputs, trace):
            return
        inputs = self._feed(resolution).inputs(module)  # again, as attributes are set by now
        output = run(meta_copy(module), inputs.args, keywords=inputs.kwargs)
        other = other_answer(tuple(tuple(one.shape) for one in tensors_in(output)), trace)
        if other:
            message = (
                f"{self.network.name} puts out {other}: its code makes other sizes of its widths "
                "than channels. Freeze what they come from (--freeze PATTERN), or use a strategy "
                "without w."
            )
            raise WrittenError(message, settlement)

    def _check_training(self, module: nn.Module, found: Candidate) -> None:
        """Run the scaled network as it is trained: what runs only then must fit too."""
        inputs = self._inputs(module, found)
        try:
            run(meta_copy(module), inputs.args, keywords=inputs.kwargs, training=True)
        except ForwardError as error:
            raise self._unfollowed(error) from error

    def _count(self, module: nn.Module, resolution: Resolution) -> Count:
        return count_module(
            module,
            resolution,
            name=self.network.name,
            in_chans=self.network.in_chans,
            given=self._given(resolution),
        )

    def _checked(self, module: nn.Module, found: Candidate) -> Complexity:
        """Run the scaled network on the meta device: it must count what was planned."""
        try:
            counted = self._count(meta_copy(module), found.variant.resolution)
        except InputError as error:
            raise self._unfollowed(error) from error
        return self._agreed(counted, found)

    def _unfollowed(self, error: Exception) -> UnscalableNetworkError:
        cause = error if isinstance(error, ForwardError) else error.__cause__
        reason, path = str(error), ""
        if isinstance(cause, ForwardError):
            reason, path = cause.reason, self._with_weights(cause.path)
        freeze = f"keep the widths there (--freeze {path!r})" if path else "freeze what it touches"
        return UnscalableNetworkError(
            f"{self.network.name} has a number in its code that does not follow its widths: "
            f"{reason}. Let it follow the tensor's shape, {freeze}, or use a strategy without w."
        )

    def _with_weights(self, path: str) -> str:
        """Return the path of the innermost module around a path that has weights to freeze."""
        parts = path.split(".")
        for end in range(len(parts), 0, -1):
            around = ".".join(parts[:end])
            try:
                module = self.blueprint.module.get_submodule(around)
            except AttributeError:  # in a block that was added: its stage
                continue
            if any(True for _ in module.parameters()):
                return around
        return ""

    def _agreed(self, counted: Count, found: Candidate) -> Complexity:
        """Return what was counted if it is what was planned."""
        got = Complexity(counted.flops, counted.params, counted.acts)
        if got != found.complexity:
            where, runs = _first_difference(counted, found)
            raise UnscalableNetworkError(
                f"{self.network.name} has {differing(got, found.complexity)} as planned: "
                f"{_otherwise(found.factors, where, runs=runs)}"
            )
        return got


def _weighted(source: Network, plan: Plan, *, seed: int) -> tuple[nn.Module, tuple[str, ...]]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        base = source.build("cpu")
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


def _first_difference(counted: Count, found: Candidate) -> tuple[str, bool]:
    """Return the first module whose flops are not those that were planned, and whether it runs."""
    variant, planned = found.variant, defaultdict[str, float](float)
    flops, _, _ = variant.traced.form.parts(variant.sizes(found.widths))
    for path, own in zip(variant.traced.form.term_paths, flops, strict=True):
        planned[path] += own
    for layer in counted.layers:
        if abs(planned.get(variant.model_path(layer.path), 0.0) - layer.flops) > 0.5:
            return layer.path, layer.flops > 0
    return "", True


def _otherwise(factors: Factors, where: str, *, runs: bool) -> str:
    """Say what was planned otherwise than it is, and how to go on."""
    axes = {name: getattr(factors, name) for name in ("depth", "width", "resolution")}
    changed = [name for name, factor in axes.items() if factor != 1]
    what, letters = " and ".join(changed), " or ".join(name[0] for name in changed)
    does = f"what {where or 'it'} does changes with the {what}"
    if not runs:
        does = f"{where} does not run any more, as where the code compares "
        does += f"{f'the {what}' if len(changed) == 1 else 'a size'} with a number"
    stays = f"Keep the widths there (--freeze {where or 'PATTERN'!r}), or use"
    return f"{does}. {stays if factors.width != 1 else 'Use'} a strategy without {letters}."
