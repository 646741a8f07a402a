"""Any network as a source of candidates: traced, planned in closed form, built where asked."""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from convscale.complexity.calls import ITEM_BYTES, OperatorCall
from convscale.complexity.operators import record_network
from convscale.complexity.recording import LateRecorder
from convscale.complexity.views import Operators
from convscale.errors import ConvscaleError
from convscale.network.modules.pausing import collector_at_rest
from convscale.network.sources.network import Network
from convscale.prediction.predict import ELEMENTS
from convscale.quantities import Resolution
from convscale.selection.constraints import Constraint
from convscale.selection.rays import margin
from convscale.strategy import Strategy, parse_strategy
from convscale.study.costed import (
    RECORDED,
    REMEMBERED,
    Conditions,
    Costs,
    costs_of_network,
    costs_of_operators,
    side_of,
)
from convscale.study.derived import Derived
from convscale.study.remembered import Remembered
from convscale.study.scaled_source import ANY, Answer, Ask, Ends, Failed, Found, Missed

if TYPE_CHECKING:
    from convscale.scaling.results.scaled import ScaledNetwork
    from convscale.scaling.scaler import Scaler
    from convscale.scaling.variants.candidate import Candidate

_PLANNED = frozenset(("flops", "params", "acts", "download_bytes", "resolution_px"))
_FAR = 0.3  # how far beyond a limit, in logarithms, nothing more is found out
_RUNS = 64  # of the traces of sides and depths that are kept
_PROBE, _TIMES = "w", 1.7  # what tells whether the plan is what is built


class TracedSource:
    """A base network that is traced, scaled by what the trace tells.

    What is counted is known from the plan of a candidate, without building it. What is predicted
    is known from its operators: these are derived from the run that it was planned by, where
    candidates that were built ran what was derived for them (`Derived`), else of the built network.
    Its memory is known from what its parts did in networks that were run dry (`Remembered`), else
    from its own dry run. Where the network's code holds sizes of its own, all are built.

    Args:
        base: The network.
        wanted: The quantities that are asked for.
        how: The conditions.
        limits: The constraints.
        width_multiple: The multiple that widths keep.
        rounding: The rounding rule; each strategy's own by default.

    Raises:
        UnscalableNetworkError: If the network cannot be traced.

    Example:
        >>> from convscale.scaling import resolve
        >>> mine = TracedSource(resolve("resnet18"), frozenset(), Conditions(), ())
        >>> found = mine.answers([Ask(parse_strategy("d"), 2.0, "d")])[0]
        >>> found.label, found.values["flops"]
        ('timm:resnet18@d:2', 3663761408.0)
    """

    follows = True
    usual = 200

    def __init__(
        self,
        base: Network,
        wanted: frozenset[str],
        how: Conditions,
        limits: Sequence[Constraint],
        *,
        width_multiple: int = 8,
        rounding: str | None = None,
    ) -> None:
        from convscale.scaling.scaler import Scaler

        self.base, self.how, self.limits = base, how, tuple(limits)
        self._costly = wanted - _PLANNED
        derivable = not base.rules and self._costly <= RECORDED | REMEMBERED
        records = derivable and bool(self._costly)
        self._scaler: Scaler = Scaler(base, width_multiple=width_multiple, records=records)
        self._derived = Derived(self._scaler)
        self._remembered = {
            name: Remembered(
                self._scaler, how, how.optimizer if name == "training_memory_bytes" else None
            )
            for name in sorted(self._costly & REMEMBERED if derivable else ())
        }
        self._rule = rounding if width_multiple == 8 else "nearest"
        self.rounding = rounding if width_multiple == 8 else f"nearest{width_multiple}"
        self._flops: Ends = ANY
        self._known: dict[Hashable, Answer] = {}

    @property
    def name(self) -> str:
        """The base's resolved name."""
        return self.base.name

    @property
    def resolution(self) -> Resolution:
        """The base's input side."""
        return self._scaler.resolution

    @cached_property
    def axes(self) -> frozenset[str]:
        """The axes that the network has, and group width where there are groups of channels."""
        blueprint = self._scaler.blueprint
        rule = blueprint.base().rule
        found = {"r"}
        found |= {"d"} if any(blueprint.deepenable) else set()
        found |= {"w"} if rule.multiples else set()
        found |= (
            {"g"} if any(not blueprint.base().channels.fixed[one] for one in rule.inner) else set()
        )
        return frozenset(found)

    @property
    def between(self) -> frozenset[str]:
        """The axes of exponents between strategies: depth only where it takes no run each time."""
        blueprint = self._scaler.blueprint
        # what lives at once in inference differs with each depth of dense blocks
        run_dry = blueprint.runs_each_depth and "memory_bytes" in self._costly
        return self.axes - {"d"} if run_dry or not blueprint.tells_depths else self.axes

    @cached_property
    def _as_planned(self) -> bool:
        """Whether what is built counts as planned: tried with wider layers."""
        if "w" not in self.axes:
            return True
        rule = parse_strategy(_PROBE)
        planned = self._scaler.planned(rule, _TIMES, rounding=self._rule)
        built = self._built(rule, _TIMES)
        return built.achieved == planned.complexity

    def answers(self, asks: Sequence[Ask], *, flops: Ends = ANY) -> list[Answer]:
        """Say what scaled versions cost."""
        return [self._answer(ask, flops) for ask in asks]

    def _answer(self, ask: Ask, flops: Ends) -> Answer:
        self._flops = flops
        try:
            with collector_at_rest():
                return self._base(ask) if ask.strategy is None else self._scaled(ask, ask.strategy)
        except ConvscaleError as error:
            return Failed(ask, error.line)
        finally:
            self._scaler.blueprint.forget(_RUNS)

    def _base(self, ask: Ask) -> Answer:
        count = self._scaler.base
        planned = self._counts(count.flops, count.params, count.acts, self.resolution)
        return self._completed(
            ask,
            self.name,
            self._base_key(),
            self.resolution,
            planned,
            self._base_costs,
        )

    def _base_costs(self) -> Costs:
        found = costs_of_network(self.base, self._costly - self._remembered.keys(), self.how)
        return found.with_values({name: own.base() for name, own in self._remembered.items()})

    def _base_key(self) -> Hashable:
        variant = self._scaler.blueprint.base()
        own = tuple(stage.depth for stage in self._scaler.blueprint.stages)
        if self._scaler.blueprint.runs_each_depth:
            return own, str(variant.resolution), variant.shapes_key(variant.rule.widths(1.0))
        return own, str(variant.resolution), tuple(map(int, variant.channels.sizes))

    def _scaled(self, ask: Ask, strategy: Strategy) -> Answer:
        from convscale.scaling.plans.naming import scaled_name

        label = scaled_name(self.name, strategy, ask.factor, self.rounding)
        if not self._as_planned:
            return self._by_building(ask, strategy, label)
        found = self._scaler.planned(strategy, ask.factor, rounding=self._rule)
        total, side = found.complexity, found.variant.resolution
        values = self._counts(total.flops, total.params, total.acts, side)
        return self._completed(
            ask,
            label,
            self._key(found),
            self._like(side),
            values,
            lambda: self._planned_costs(strategy, ask.factor, found),
        )

    def _like(self, side: Resolution) -> Resolution:
        from convscale.quantities import like, sides

        return like(self.resolution, sides(side))

    def _by_building(self, ask: Ask, strategy: Strategy, label: str) -> Answer:
        scaled = self._built(strategy, ask.factor)
        total = scaled.achieved
        values = self._counts(total.flops, total.params, total.acts, scaled.resolution)
        key = (repr(scaled.plan), str(scaled.resolution))
        return self._completed(
            ask, label, key, scaled.resolution, values, lambda: self._built_costs(scaled)
        )

    def _counts(self, flops: int, params: int, acts: int, side: Resolution) -> dict[str, float]:
        return {
            "flops": float(flops),
            "params": float(params),
            "acts": float(acts),
            "download_bytes": float(params * ITEM_BYTES[self.how.dtype]),
            "resolution_px": side_of(side),
        }

    def _completed(
        self,
        ask: Ask,
        label: str,
        key: Hashable,
        side: Resolution,
        values: dict[str, float],
        costs: Callable[[], Costs],
    ) -> Answer:
        """Add what the operators or the built network tell, unless it misses limits by far."""
        if not self._costly:
            return Found(ask, label, key, side, values)
        if key in self._known:
            known = self._known[key]
            assert isinstance(known, Found)
            return Found(ask, label, key, side, known.values, known.bounds, known.notes)
        over = margin(self.limits, values)
        if over > _FAR or not self._flops[0] <= values["flops"] <= self._flops[1]:
            return Missed(ask, over)
        own = costs()
        more = {name: value for name, value in own.values.items() if name in self._costly}
        found = Found(ask, label, key, side, {**values, **more}, own.bounds, own.notes)
        self._known[key] = found
        return found

    def _planned_costs(self, strategy: Strategy, factor: float | None, found: Candidate) -> Costs:
        """Find out what a candidate costs, without building it where its operators are known."""
        if self._costly & RECORDED and self._casts:
            # which neither the run that checks a plan shows, nor the trace
            return self._built_costs(self._built(strategy, factor))
        own = self._derived.of(strategy, found)
        if own is not None and self._derived.is_proved(found):
            told = self._told(found, own)
            if told is not None:
                return costs_of_operators(own, self._costly, self.how).with_values(told)
        late = LateRecorder(item_bytes=ITEM_BYTES[ELEMENTS])
        made = self._built(strategy, factor, late)
        known = self._recorded(made, late)
        if own is not None and known is not None:
            self._derived.compare(found, own, known)
        costs = self._built_costs(made, known, self._costly - self._remembered.keys())
        calls = known.calls if known is not None and known == own else None
        ran = {
            name: memory.run(found.variant, calls, made.as_network())
            for name, memory in self._remembered.items()
        }
        return costs.with_values(ran)

    def _told(self, found: Candidate, own: Operators) -> dict[str, int] | None:
        """Return the memory of a candidate by what its parts do; None where that is not known."""
        told: dict[str, int] = {}
        for name, memory in self._remembered.items():
            peak = memory.of(found.variant, own.calls)
            if peak is None:
                return None
            told[name] = peak
        return told

    def _recorded(self, made: ScaledNetwork, late: LateRecorder) -> Operators | None:
        """Return the operators of a built network, None where none are asked for."""
        if late.calls and not self.base.rules:
            return operators_of(made, late.calls)
        if self._costly & RECORDED or self._remembered:
            # it was run again, or is counted by rules of the user's
            return record_network(made.as_network(), dtype=ELEMENTS, autocast=True)
        return None

    def _built_costs(
        self,
        made: ScaledNetwork,
        known: Operators | None = None,
        wanted: frozenset[str] | None = None,
    ) -> Costs:
        asked = self._costly if wanted is None else wanted
        return costs_of_network(made.as_network(), asked, self.how, recorded=known)

    @cached_property
    def _casts(self) -> bool:
        """Whether the network's own code casts tensors under autocast, or turns it off."""
        found = record_network(self.base, dtype=ELEMENTS, autocast=True)
        return any(call.cast or not call.autocast for call in found.calls)

    def _built(
        self, strategy: Strategy, factor: float | None, record: LateRecorder | None = None
    ) -> ScaledNetwork:
        return self._scaler.scale(
            strategy, factor=factor, rounding=self._rule, weights=False, record=record
        )

    def notes(self, found: Found) -> tuple[str, ...]:
        """Return what was noted when the candidate was predicted."""
        return found.notes

    def under(self, limits: Sequence[Constraint]) -> TracedSource:
        """Return the same base under other limits; its trace and what was built are shared."""
        self._as_planned  # noqa: B018 - found out once for all
        other = copy.copy(self)
        other.limits = tuple(limits)
        return other

    def built(self, ask: Ask) -> ScaledNetwork:
        """Build a scaled version on the meta device."""
        assert ask.strategy is not None
        return self._built(ask.strategy, ask.factor)

    def network(self, ask: Ask) -> Network:
        """Return a scaled version with weights, or the base, as a network that can be built."""
        from convscale.scaling.scaler import with_weights

        return self.base if ask.strategy is None else with_weights(self.built(ask)).as_network()

    def _key(self, found: Candidate) -> Hashable:
        """Return what tells networks apart: depths, side and the sizes of channels."""
        variant = found.variant
        own = tuple(stage.depth for stage in self._scaler.blueprint.stages)
        if self._scaler.blueprint.runs_each_depth:
            sizes = variant.shapes_key(found.widths)
        else:
            sizes = tuple(map(int, variant.sizes(found.widths)))
        return variant.depths or own, str(variant.resolution), sizes


def operators_of(scaled: ScaledNetwork, calls: Sequence[OperatorCall]) -> Operators:
    """Return the operators of a scaled network from those of the run that checked it.

    Args:
        scaled: The scaled network.
        calls: The calls of one image, in elements.
    """
    network = scaled.as_network()
    return Operators(
        network.name,
        scaled.resolution,
        dtype=ELEMENTS,
        params=sum(parameter.numel() for parameter in scaled.module.parameters()),
        calls=tuple(calls),
    )
