"""A network of a paper family as a source of candidates: all of them in closed form, at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from convscale.complexity.calls import ITEM_BYTES
from convscale.errors import InputError
from convscale.families.candidates import Candidates, read_candidates
from convscale.families.description import GROUPED, AnyNet, Description
from convscale.families.many import count_many
from convscale.families.memory import ITEM_BYTES as CLOSED
from convscale.families.memory import inference_bytes
from convscale.families.scaled_many import scale_by_factors
from convscale.families.scaling import check_rules, check_size, group_rule
from convscale.families.terms import Form
from convscale.families.widths import width_multiples
from convscale.network.sources.network import Network
from convscale.prediction.predictions import Predictions, predict_many
from convscale.quantities import Resolution
from convscale.selection.confidence import OneSided, one_sided
from convscale.selection.constraints import Constraint, Floats
from convscale.selection.rays import margin
from convscale.strategy import Factors
from convscale.study.costed import PREDICTED, TRAINED, Conditions, trained
from convscale.study.scaled_source import ANY, Answer, Ask, Ends, Failed, Found, Missed

if TYPE_CHECKING:
    from convscale.complexity.training_log import TrainingLog
    from convscale.prediction.prediction import Prediction
    from convscale.scaling.results.scaled import ScaledNetwork

_ONE_VALUE = (
    "cannot be trained on one image at a time: its last maps have a single value a channel, which "
    "norms need more of. Give a batch size of at least 2, as in --batch-size 2."
)


@dataclass(frozen=True)
class FamilySource:
    """A base of a paper family, scaled by the authors' rule.

    Args:
        base: The network.
        description: Its description at its input side.
        wanted: The quantities that are asked for.
        how: The conditions.
        limits: The constraints.
        rule: reference or efficientnet.
        logs: By optimizer, None for inference, what is known of dry runs.

    Example:
        >>> from convscale.families import count
        >>> from convscale.scaling import resolve
        >>> base = resolve("RegNetY-4.0GF")
        >>> mine = FamilySource(base, base.family, frozenset(), Conditions(), ())
        >>> found = mine.answers([Ask(None)])[0]
        >>> found.label, found.values["flops"] == count(base.family).flops
        ('RegNetY-4.0GF', True)
    """

    base: Network
    description: Description
    wanted: frozenset[str]
    how: Conditions
    limits: tuple[Constraint, ...]
    rule: str = "reference"
    logs: dict[str | None, dict[Form, TrainingLog | None]] = field(
        default_factory=dict, repr=False, compare=False
    )

    @property
    def name(self) -> str:
        """The base's name."""
        return self.base.name

    @property
    def resolution(self) -> Resolution:
        """The base's input side."""
        return self.description.resolution

    @property
    def rounding(self) -> str:
        """The rule, which names of candidates say."""
        return self.rule

    @cached_property
    def axes(self) -> frozenset[str]:
        """All axes, and group width where there are groups of more than one channel."""
        net = self.description
        grouped = isinstance(net, AnyNet) and net.block in GROUPED and max(net.group_widths) > 1
        return frozenset("dwrg" if grouped else "dwr")

    @property
    def between(self) -> frozenset[str]:
        """All of them."""
        return self.axes

    @property
    def follows(self) -> bool:
        """Under the authors' rule group width is scaled only where it is named."""
        return self.rule != "reference"

    @property
    def usual(self) -> int:
        """Ten thousand."""
        return 10_000

    def answers(self, asks: Sequence[Ask], *, flops: Ends = ANY) -> list[Answer]:
        """Say what scaled versions cost."""
        asked = [self._factors(ask) for ask in asks]
        scaled = [at for at, one in enumerate(asked) if isinstance(one, Factors)]
        factors = [one for one in asked if isinstance(one, Factors)]
        made = self._found([asks[at] for at in scaled], self._scaled(factors), flops)
        answers = dict(zip(scaled, made, strict=True))
        for at, one in enumerate(asked):
            if isinstance(one, Failed):
                answers[at] = one
            elif one is None:
                answers[at] = self._found([asks[at]], _only(self.description), ANY)[0]
        return [answers[at] for at in range(len(asks))]

    def _factors(self, ask: Ask) -> Factors | Failed | None:
        """Return the factors of an ask; None for the base, which is not rounded anew."""
        if ask.strategy is None:
            return None
        try:
            rule = group_rule(ask.strategy, None, rounding=self.rule)
            check_rules(rule, self.rule)
            found = rule.factors(getattr(rule, "scale", 1.0) if ask.factor is None else ask.factor)
            check_size(self.description, found)
        except InputError as error:
            return Failed(ask, error.line)
        return found

    def _scaled(self, factors: Sequence[Factors]) -> Candidates:
        rows = [(f.depth, f.width, f.group_width, f.resolution) for f in factors]
        columns = np.array(rows, float).reshape(-1, 4).T
        return scale_by_factors(self.description, *columns, rounding=self.rule).candidates

    def _found(self, asks: Sequence[Ask], nets: Candidates, flops: Ends) -> list[Answer]:
        if not asks:
            return []
        values, bounds = self._costs(nets)
        keys = _keys(nets)
        found: list[Answer] = []
        for at, ask in enumerate(asks):
            own = {name: float(column[at]) for name, column in values.items()}
            if not own.get("training_memory_bytes", 1.0):
                found.append(Failed(ask, f"{self._label(ask)} {_ONE_VALUE}"))
                continue
            upper = {name: float(column[at]) for name, column in bounds.items()}
            made = Found(ask, self._label(ask), keys[at], _side(nets, at), own, upper)
            inside = flops[0] <= own["flops"] <= flops[1]
            found.append(made if inside else Missed(ask, margin(self.limits, made.held)))
        return found

    def _label(self, ask: Ask) -> str:
        from convscale.scaling.plans.naming import scaled_name

        if ask.strategy is None:
            return self.name
        return scaled_name(self.name, ask.strategy, ask.factor, self.rule)

    def _costs(self, nets: Candidates) -> tuple[dict[str, Floats], dict[str, Floats]]:
        how, counts = self.how, count_many(nets)
        values: dict[str, Any] = {
            "flops": counts.flops,
            "params": counts.params,
            "acts": counts.acts,
            "download_bytes": counts.params * ITEM_BYTES[how.dtype],
            "resolution_px": np.sqrt(nets.heights.astype(float) * nets.breadths),
        }
        bounds: dict[str, Floats] = {}
        if "width_multiple" in self.wanted:
            values["width_multiple"] = width_multiples(nets)
        if "memory_bytes" in self.wanted:
            values["memory_bytes"] = self._passes(nets)
        if "training_memory_bytes" in self.wanted:
            values["training_memory_bytes"] = self._peaks(nets, how.optimizer)
        if self.wanted & PREDICTED:
            assert how.profile is not None
            side = one_sided(how.profile, how.confidence)
            told = predict_many(
                nets, profile=how.profile, batch_size=how.batch_size, coverage=side.coverage
            )
            by = how.correction.ratio(told.latency_ms)
            middle, upper = by * told.latency_ms, by * _upper(told, side)
            rate = 1e3 * how.batch_size
            values |= {"latency_ms": middle, "images_per_second": rate / middle}
            bounds |= {"latency_ms": upper, "images_per_second": rate / upper}
        if self.wanted & TRAINED:
            assert how.schedule is not None
            plan = how.schedule
            side = one_sided(plan.profile, how.confidence)
            step = predict_many(
                nets, profile=plan.profile, batch_size=plan.batch_size, coverage=side.coverage
            )
            values |= trained(plan, step.latency_ms)
            bounds |= trained(plan, _upper(step, side))
        return {name: np.asarray(column, float) for name, column in values.items()}, bounds

    def _passes(self, nets: Candidates) -> Any:
        """Return the memory of inference: in closed form, or from dry runs in mixed precision."""
        precision = self.how.precision or "float32"
        if precision not in CLOSED:
            return self._peaks(nets, None)
        return inference_bytes(nets, batch_size=self.how.batch_size, precision=precision)

    def _peaks(self, nets: Candidates, optimizer: str | None) -> Any:
        """Return the memory of steps of training; 0 where a norm would see one value alone.

        Without an optimizer, that of inference.
        """
        from convscale.complexity.family_memory import StepMemory

        logs = self.logs.setdefault(optimizer, {})
        steps = StepMemory(optimizer, self.how.precision, logs)
        return steps.peaks(nets, batch_size=self.how.batch_size)

    def network(self, ask: Ask) -> Network:
        """Return a scaled version, or the base, as a network that can be built."""
        from convscale.scaling.family import scaled_family

        if ask.strategy is None:
            return self.base
        return scaled_family(self.base, ask.strategy, ask.factor, rounding=self.rule)

    def notes(self, found: Found) -> tuple[str, ...]:
        """Return what a prediction of the one network notes, and how it is scaled."""
        own = () if self.how.profile is None else self._prediction(found.ask).notes
        named = ", in which group width is scaled only where a strategy names g"
        return (
            *own,
            f"Networks of a paper family are scaled by the rule of its authors (rounding "
            f"{self.rule}){'' if self.follows else named}.",
        )

    def _prediction(self, ask: Ask) -> Prediction:
        from convscale.scaling.predicting import predict_network

        assert self.how.profile is not None
        batch = self.how.batch_size
        return predict_network(self.network(ask), self.how.profile, batch_size=batch)

    def under(self, limits: Sequence[Constraint]) -> FamilySource:
        """Return the same base under other limits."""
        return replace(self, limits=tuple(limits))

    def built(self, ask: Ask) -> ScaledNetwork:
        """Build a scaled version on the meta device."""
        from convscale.scaling.family import scale_family

        assert ask.strategy is not None
        rule = group_rule(ask.strategy, None, rounding=self.rule)
        return scale_family(
            self.base, rule, {"factor": ask.factor}, rounding=self.rule, weights=False
        )


def _only(net: Description) -> Candidates:
    """Return a network as the only one of many."""
    if isinstance(net, AnyNet):
        return read_candidates(
            net,
            depths=[net.depths],
            widths=[net.widths],
            group_widths=[net.group_widths],
            bottleneck_multipliers=[net.bottleneck_multipliers],
        )
    return read_candidates(net, depths=[net.depths], widths=[net.widths])


def _upper(told: Predictions, side: OneSided) -> Floats:
    """Return the times that are kept with the confidence."""
    found: Floats = told.latency_ms * (told.interval_ms[1] / told.latency_ms) ** side.power
    return found


def _keys(nets: Candidates) -> list[bytes]:
    """Return what tells networks apart."""
    whole = np.column_stack(
        [
            nets.depths,
            nets.widths,
            nets.group_widths,
            nets.stem_widths,
            nets.head_widths,
            nets.heights,
            nets.breadths,
        ]
    )
    return [row.tobytes() for row in np.ascontiguousarray(whole, dtype=np.int64)]


def _side(nets: Candidates, at: int) -> Resolution:
    sides = int(nets.heights[at]), int(nets.breadths[at])
    return sides[0] if sides[0] == sides[1] else sides
