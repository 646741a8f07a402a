"""Scale a network to a predicted latency, as to a budget of flops.

The time of a pass goes up with the flops of a strategy's networks, smoothly but for steps where
widths meet what the device likes. So the budget of flops is searched whose network, which meets it
by single stages moved, takes the time that is asked for: a few networks, each built and predicted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp, log

from convscale.complexity.memory import MemoryBudget
from convscale.errors import BudgetError, InputError
from convscale.network.sources.network import Network
from convscale.prediction.prediction import Prediction
from convscale.prediction.profile import Profile
from convscale.prediction.store import ProfileLike, existing, profile_of, profile_paths
from convscale.quantities import check_count, check_positive, format_bytes, format_ms, parse_ms
from convscale.scaling.memory import budget_of, memory_of
from convscale.scaling.predicting import precision_of, predict_network
from convscale.scaling.recipe import Recipe
from convscale.scaling.results.scaled import ScaledNetwork
from convscale.scaling.scaler import Refine
from convscale.scaling.within import scale_within
from convscale.strategy import Strategy

_TRIALS, _REPEATS, _STARTS = 12, 2, 3
_NEAR, _FAR, _WORTH_A_NOTE, _STRICT = 0.003, 0.007, 0.01, 0.03
_STEP = log(16.0)  # how far the flops move at a time, in logarithms, while one side is open
_APART = 0.0005  # budgets of flops this near to each other give one network


@dataclass(frozen=True)
class Timing:
    """What a latency is predicted by, and the budget (ms) where it is one.

    Example:
        >>> from convscale.prediction.store import profile_of
        >>> timing_of(None, None, None) is None
        True
    """

    profile: Profile
    batch_size: int = 1
    limit_ms: float | None = None

    def of(self, network: Network) -> Prediction:
        """Predict the latency of a network."""
        return predict_network(network, self.profile, batch_size=self.batch_size)


def timing_of(
    profile: ProfileLike | None, latency: float | str | None, batch_size: int | None
) -> Timing | None:
    """Return what predicts a latency, and the budget of it; None where nothing was asked for.

    Args:
        profile: A profile, its name or its file.
        latency: The budget: text with its unit, or ms.
        batch_size: Images in the batch; 1 by default.

    Raises:
        InputError: If there is no such profile, or something of it is missing.

    Example:
        >>> timing_of(None, "8ms", None)
        Traceback (most recent call last):
        convscale.errors.InputError: A latency is predicted by a profile, and none came. ...
    """
    if profile is None:
        if latency is not None:
            raise InputError(
                "A latency is predicted by a profile, and none came. "
                f"{existing(tuple(profile_paths()))}"
            )
        if batch_size is not None:
            raise InputError(
                "The batch size is that whose latency is predicted. Give a profile with it, or "
                "leave it out; that of a budget of memory stands in its MemoryBudget."
            )
        return None
    what = "latency budget"
    if isinstance(latency, str):
        limit: float | None = parse_ms(latency, what=what)
    else:
        limit = None if latency is None else check_positive(latency, what=what)
    batch = 1 if batch_size is None else check_count(batch_size, what="batch size")
    return Timing(profile_of(profile), batch, limit)


def memory_beside(memory: int | str | MemoryBudget, timing: Timing) -> MemoryBudget:
    """Return a limit of memory beside a latency: of what the profile predicts, unless it says.

    That is a batch of as many images, in inference or in a training step by SGD, at the
    profile's precision.

    Example:
        >>> timing = Timing(profile_of("rtx3090-amp-nchw"), batch_size=64)
        >>> found = memory_beside("8GB", timing)
        >>> found.batch_size, found.optimizer, found.precision
        (64, None, 'mixed')
    """
    if isinstance(memory, MemoryBudget):
        return budget_of(memory)
    trains = timing.profile.execution.work == "training"
    precision = precision_of(timing.profile)
    limit = budget_of(memory).limit_bytes
    return MemoryBudget(limit, timing.batch_size, "sgd" if trains else None, precision)


@dataclass(frozen=True)
class _Point:
    flops: float  # the budget for which the network was made
    latency: Prediction
    limit_ms: float

    @property
    def miss(self) -> float:
        """How far the latency lies above the limit, in logarithms."""
        return log(self.latency.latency_ms / self.limit_ms)


@dataclass(frozen=True)
class _Trial(_Point):
    scaled: ScaledNetwork


def with_latency(
    scaled: ScaledNetwork,
    base: Network,
    timing: Timing,
    *,
    latency: Prediction | None = None,
    base_latency: Prediction | None = None,
) -> ScaledNetwork:
    """Return a scaled network with its latency and the base's, predicted.

    Args:
        scaled: The scaled network.
        base: The network that it was scaled from.
        timing: What predicts it.
        latency: Its latency, where it is predicted already.
        base_latency: Likewise that of the base.
    """
    found = timing.of(scaled.as_network()) if latency is None else latency
    before = timing.of(base) if base_latency is None else base_latency
    notes = (*scaled.notes, *(f"Latency by {found.profile}: {note}" for note in found.notes))
    return replace(scaled, latency=found, base_latency=before, notes=notes)


def scale_to_latency(
    recipe: Recipe,
    timing: Timing,
    *,
    memory: MemoryBudget | None = None,
    weights: bool = True,
) -> ScaledNetwork:
    """Return the network of a strategy whose predicted latency comes nearest to a budget.

    Args:
        recipe: The base network and how it is scaled; where it is strict, a budget missed by
            more than 3 % is an error.
        timing: What predicts the latency, and the budget.
        memory: A limit of memory that must hold too.
        weights: Whether the module gets weights; on the meta device if not.

    Raises:
        BudgetError: If the smallest network takes longer, or a strict budget is missed.
    """
    assert timing.limit_ms is not None
    base = timing.of(recipe.base)
    best = _search(recipe, timing, base)
    scaled = best.scaled
    notes: tuple[str, ...] = ()
    requested = {"latency_ms": timing.limit_ms}
    if memory is not None:
        requested["memory"] = float(memory.limit_bytes)
        needed = memory_of(scaled.as_network(), memory)
        if needed.peak_bytes > memory.limit_bytes:
            return _by_memory(recipe, timing, memory, base, weights=weights)
        scaled = replace(scaled, memory=needed)
    miss = exp(best.miss) - 1
    if recipe.strict and abs(miss) > _STRICT:
        raise BudgetError(
            f"The nearest network of strategy {recipe.strategy.name!r} takes "
            f"{format_ms(best.latency.latency_ms)}, not {format_ms(timing.limit_ms)}. Leave strict "
            "out to take it."
        )
    if abs(miss) > _WORTH_A_NOTE:
        limit = format_ms(timing.limit_ms)
        notes = (f"The nearest network misses the budget of {limit} by {miss:+.1%}.",)
    if weights:
        scaled = replace(recipe.weighted(best.scaled, {"flops": best.flops}), memory=scaled.memory)
    found = replace(scaled, requested=requested, notes=(*scaled.notes, *notes))
    return with_latency(found, recipe.base, timing, latency=best.latency, base_latency=base)


def _by_memory(
    recipe: Recipe, timing: Timing, memory: MemoryBudget, base: Prediction, *, weights: bool
) -> ScaledNetwork:
    """Return the largest network that fits into memory, where that is the tighter limit."""
    assert timing.limit_ms is not None
    scaled = scale_within(recipe.at, recipe.strategy, memory, weights=weights)
    timed = with_latency(scaled, recipe.base, timing, base_latency=base)
    assert timed.latency is not None
    took, limit = timed.latency.latency_ms, timing.limit_ms
    short = (
        f"The memory of {format_bytes(memory.limit_bytes)} is the tighter limit: within it the "
        f"network takes {format_ms(took)} of {format_ms(limit)}"
    )
    if took > limit * (1 + _STRICT) or (recipe.strict and took < limit * (1 - _STRICT)):
        raise BudgetError(f"{short}. Give more memory, another latency, or a smaller batch.")
    requested = {"latency_ms": limit, **scaled.requested}
    return replace(timed, requested=requested, notes=(*timed.notes, f"{short}."))


def _search(recipe: Recipe, timing: Timing, base: Prediction) -> _Trial:
    """Bracket the budget, and come nearer on a line through the logarithms of what was tried."""
    assert timing.limit_ms is not None
    limit = timing.limit_ms

    def miss(scaled: ScaledNetwork) -> float:
        return log(timing.of(scaled.as_network()).latency_ms / limit)

    def trial(flops: float, refine: Refine | None = None) -> _Trial:
        scaled = recipe.made({"flops": flops}, refine=refine)
        return _Trial(flops, timing.of(scaled.as_network()), limit, scaled)

    first = _Point(float(recipe.base_flops), base, limit)
    bracket = _Bracket(slope=(1 + recipe.strategy.growth.acts) / 2).with_trial(first)
    found: list[_Trial] = []
    repeats = 0  # networks that were tried before: there are none between
    for _ in range(_TRIALS):
        flops = bracket.next()
        if flops is None or (found and min(abs(one.miss) for one in found) <= _NEAR):
            break
        try:
            now = trial(flops)
        except InputError as error:  # nothing is as small as that, or as large
            bracket = bracket.without(flops, error)
            continue
        if any(_same(now.scaled, one.scaled) for one in found):
            repeats += 1
        else:
            found.append(now)
        if repeats == _REPEATS:
            break
        bracket = bracket.with_trial(now)
    if bracket.low is None and bracket.high is not None and bracket.end is not None:
        raise _too_small(recipe.strategy, bracket.high, limit)
    if not found:
        assert bracket.error is not None
        raise bracket.error
    for one in sorted(found, key=lambda one: abs(one.miss))[:_STARTS]:
        if min(abs(near.miss) for near in found) <= _FAR:
            break
        found.append(trial(one.flops, miss))
    return min(found, key=lambda one: abs(one.miss))


@dataclass(frozen=True)
class _Bracket:
    """The nearest trials below and above the limit, and flops for which there is no network."""

    slope: float
    low: _Point | None = None
    high: _Point | None = None
    end: float | None = None
    error: InputError | None = None

    def with_trial(self, now: _Point) -> _Bracket:
        """Return the bracket after a trial."""
        before = self.low if self.high is None else self.high
        slope = self.slope if before is None else _slope(before, now, self.slope)
        new = replace(self, slope=slope)
        return replace(new, low=now) if now.miss < 0 else replace(new, high=now)

    def without(self, flops: float, error: InputError) -> _Bracket:
        """Return the bracket after flops for which there is no network."""
        return replace(self, end=flops, error=error)

    def next(self) -> float | None:
        """Return the flops to try next; None where the bracket is closed."""
        if self.low is not None and self.high is not None:
            low, high = self.low, self.high
            apart = log(high.flops / low.flops)
            share = min(max(-low.miss / (high.miss - low.miss), 0.03), 0.97)
            return low.flops * exp(share * apart) if abs(apart) >= _APART else None
        only = self.low or self.high
        assert only is not None
        flops = only.flops * exp(min(max(-only.miss / self.slope, -_STEP), _STEP))
        if self.end is not None and (flops - self.end) * (self.end - only.flops) >= 0:
            near = abs(log(only.flops / self.end)) < 0.05
            return None if near else (only.flops * self.end) ** 0.5
        return flops


def _same(one: ScaledNetwork, other: ScaledNetwork) -> bool:
    return one.achieved == other.achieved and one.resolution == other.resolution


def _slope(before: _Point, now: _Point, otherwise: float) -> float:
    """Return how the latency grows with the flops, in logarithms, between two trials."""
    apart = log(now.flops / before.flops)
    if abs(apart) < _APART:
        return otherwise
    return min(max((now.miss - before.miss) / apart, 0.1), 2.0)


def _too_small(strategy: Strategy, smallest: _Point, limit: float) -> BudgetError:
    return BudgetError(
        f"The latency of {format_ms(limit)} lies below that of the smallest network of strategy "
        f"{strategy.name!r} that was tried, {format_ms(smallest.latency.latency_ms)} at batch size "
        f"{smallest.latency.batch_size}. Write a larger budget, or a smaller batch size."
    )
