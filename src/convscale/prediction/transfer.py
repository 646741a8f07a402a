"""A profile of another device: from one that there is, and the times of a few networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import exp, log

import numpy as np

from convscale.errors import InputError
from convscale.prediction import heldout
from convscale.prediction.adaptation import Adapted, Prior, adapt
from convscale.prediction.doubt import widths_of
from convscale.prediction.execution import Execution
from convscale.prediction.fitting import predicted_seconds
from convscale.prediction.form import coefficients_of
from convscale.prediction.fusion import executed
from convscale.prediction.known import known_networks, label_of
from convscale.prediction.law import COSTS, law_of
from convscale.prediction.profile import Band, Condition, Errors, Profile, Seen, seen_in
from convscale.prediction.stack import Stack
from convscale.prediction.timing import Timing
from convscale.prediction.workload import Floats

ONE_BY_ONE = "timed networks, one at a time"
RESCALED = "source, rescaled"
# As many timings show by themselves how far predictions lie off; with fewer, intervals are
# taken to be so many times as wide as the source's.
_TELLING, _UNTOLD = 4, 2.0
# Of what is missed under other software so much is expected to be missed here, half as much as
# under the same.
_ANOTHER_WAY = 0.4


def transferred(
    source: Profile,
    timings: Sequence[Timing],
    execution: Execution,
    *,
    name: str,
    conditions: Mapping[str, Condition],
    reference: Sequence[Timing] = (),
    prior: Prior | None = None,
) -> Profile:
    """Adapt a profile to another device, or to another way to run, by the times of networks.

    The intervals are the source's, wider by as much as networks that were left out of the
    adaptation, one at a time, lie further off than the source's own; of fewer timings than can
    be left out, twice as wide. Which networks have wider intervals than others is the source's
    too, unless the other way to run tells other classes of operators apart.

    Args:
        source: The profile to start from.
        timings: Times on the other device.
        execution: How networks ran there.
        name: The new profile's name.
        conditions: What the times hold for.
        reference: Times of these and other networks on the source's device, where they are at
            hand: what the source misses of a network is partly missed on the other device too.
        prior: How far devices lie apart; by default less of what the source misses is shared
            where networks ran in another way there.

    Raises:
        InputError: If there are no timings, or they ran another kind of work, or there are
            fewer than four and the hardware is of another kind.

    Example:
        >>> callable(transferred)
        True
    """
    _check(source, timings, execution)
    prior = prior or prior_of(source.execution, execution)
    missed = _missed(source, reference)
    problem = _Few(
        starting_from(source.coefficients, execution),
        stack_of(timings, execution),
        execution,
        _known(timings, missed),
        prior,
    )
    found = problem.adapted()
    errors, misses = problem.one_by_one()
    doubts = source.doubts if _alike(source.execution, execution) else None
    widths = widths_of(problem.stack, found.coefficients, execution, doubts)
    return Profile(
        name=name,
        execution=execution,
        coefficients=found.coefficients,
        seen=_seen(source.seen, timings),
        bands=_widened(source.bands, misses / widths if len(misses) else misses),
        conditions={
            **conditions,
            "adapted_from": source.name,
            "timed_networks": len(timings),
            **({"shared_residuals": round(found.shared, 3)} if missed else {}),
        },
        correction=known_networks(missed, found.shared) if missed else None,
        errors=errors,
        doubts=doubts,
    )


def _alike(source: Execution, target: Execution) -> bool:
    """Tell whether two ways to run have the same classes of operators."""
    return coefficients_of(source).keys() == coefficients_of(target).keys()


def _check(source: Profile, timings: Sequence[Timing], execution: Execution) -> None:
    if not timings:
        raise InputError("No network was timed. Time at least one; ten to twenty tell most.")
    check_work(source, execution.work)
    if source.execution.hardware != execution.hardware and len(timings) < _TELLING:
        few = f"{len(timings)} timing{'' if len(timings) == 1 else 's'}"
        raise InputError(
            f"The profile {source.name} is of a {source.execution.hardware}, and {few} of a "
            f"{execution.hardware} cannot tell what differs. Time at least {_TELLING} networks, or "
            f"name a profile of a {execution.hardware}."
        )


def check_work(source: Profile, work: str) -> None:
    """Refuse to carry a profile over to times of another kind of work.

    Raises:
        InputError: If it is of another.

    Example:
        >>> from convscale.prediction.store import profile_of
        >>> check_work(profile_of("rtx3090-amp-nchw"), "training")
        Traceback (most recent call last):
        convscale.errors.InputError: The profile rtx3090-amp-nchw is one of inference, and the
        times are of training. Name a profile of training.
    """
    if source.execution.work != work:
        raise InputError(
            f"The profile {source.name} is one of {source.execution.work}, and the times are of "
            f"{work}. Name a profile of {work}."
        )


def prior_of(source: Execution, target: Execution) -> Prior:
    """Return how far two ways to run lie apart: compiled kernels miss other things than eager.

    Example:
        >>> prior_of(Execution(), Execution(mode="compiled")).shared
        0.4
    """
    return Prior() if source == target else Prior(shared=_ANOTHER_WAY)


def _missed(source: Profile, reference: Sequence[Timing]) -> dict[str, float]:
    """Return what the source misses: logarithms of timed over predicted, by network and side."""
    if not reference:
        return {}
    stack = stack_of(reference, source.execution)
    known = coefficients_of(source.execution) | dict(source.coefficients)
    logs = np.log(stack.seconds / predicted_seconds(stack, known, source.execution))
    return {
        label_of(one.network, one.resolution): float(m)
        for one, m in zip(reference, logs, strict=True)
    }


def starting_from(source: Mapping[str, float], execution: Execution) -> dict[str, float]:
    """Return the coefficients to start from: the source's, and the form's own where it has none.

    Example:
        >>> starting_from({"memory": 0.25, "another's": 1.0}, Execution())["memory"]
        0.25
    """
    start = coefficients_of(execution)
    return start | {name: float(v) for name, v in source.items() if name in start}


def stack_of(timings: Sequence[Timing], execution: Execution) -> Stack:
    """Put timings together as their networks are executed.

    Example:
        >>> stack_of([], Execution()).size
        0
    """
    return Stack.of([replace(one, workload=executed(one.workload, execution)) for one in timings])


def _known(timings: Sequence[Timing], missed: Mapping[str, float]) -> Floats | None:
    if not missed:
        return None
    return np.array([missed.get(label_of(one.network, one.resolution), 0.0) for one in timings])


class _Few:
    """The adaptation to a few timings, to all of them or to all but one."""

    def __init__(
        self,
        start: Mapping[str, float],
        stack: Stack,
        execution: Execution,
        known: Floats | None,
        prior: Prior | None,
    ) -> None:
        self._start, self.stack, self._execution = start, stack, execution
        self._known, self._prior = known, prior

    def adapted(self, without: int | None = None) -> Adapted:
        """Return the adaptation to all timings, or to all but one."""
        kept = np.arange(self.stack.size) != (-1 if without is None else without)
        stack = self.stack if without is None else self.stack.only(kept)
        return adapt(
            self._start,
            law_of(stack, self._execution),
            stack.seconds,
            COSTS,
            residuals=None if self._known is None else self._known[kept],
            prior=self._prior,
        )

    def one_by_one(self) -> tuple[tuple[Errors, ...], Floats]:
        """Return the errors on timings left out one at a time, and the logarithms."""
        stack = self.stack
        if stack.size < _TELLING:
            return (), np.zeros(0)
        alone = np.log(predicted_seconds(stack, self._start, self._execution) / stack.seconds)
        misses, rescaled = np.zeros(stack.size), np.zeros(stack.size)
        for one in range(stack.size):
            found = self.adapted(without=one)
            logs = np.log(predicted_seconds(stack, found.coefficients, self._execution))
            shared = 0.0 if self._known is None else found.shared * self._known[one]
            misses[one] = logs[one] + shared - log(stack.seconds[one])
            rescaled[one] = alone[one] - np.median(np.delete(alone, one))
        return (_errors(stack, misses, rescaled),), misses


def _errors(stack: Stack, misses: Floats, rescaled: Floats) -> Errors:
    own = heldout.Errors.of(np.exp(misses) * stack.seconds, stack.seconds, groups=stack.size)
    base = heldout.Errors.of(np.exp(rescaled) * stack.seconds, stack.seconds, groups=stack.size)
    return Errors(
        ONE_BY_ONE,
        mape_pct=own.mape,
        within_10_pct=own.within_10,
        spearman=own.spearman,
        networks=own.networks,
        groups=own.groups,
        baselines_mape_pct={RESCALED: base.mape},
    )


def _widened(bands: Sequence[Band], misses: Floats) -> tuple[Band, ...]:
    """Return bands as many times as wide as half of the misses lie further off than the half's.

    Without misses nothing is known of the other device: they are widened by a rule.
    """
    times = 1.0 if len(misses) else _UNTOLD
    if len(misses) and bands:
        half = min(bands, key=lambda band: abs(band.coverage - 0.5))
        width = (log(half.high) - log(half.low)) / 2
        times = max(1.0, float(np.median(np.abs(misses))) / max(width, 1e-6))
    return tuple(
        replace(band, low=exp(times * log(band.low)), high=exp(times * log(band.high)))
        for band in bands
    )


def _seen(source: Seen, timings: Sequence[Timing]) -> Seen:
    """Return what the source and the timings have seen; batches only of the timings."""
    here = seen_in(
        [one.workload for one in timings],
        [one.batch_size for one in timings],
        [one.resolution or source.resolutions[0] for one in timings],
    )
    return Seen(
        batch_sizes=here.batch_sizes,
        resolutions=_joined(source.resolutions, here.resolutions),
        flops=_joined(source.flops, here.flops),
        channels=_joined(source.channels, here.channels),
        kinds=tuple(sorted({*source.kinds, *here.kinds})),
    )


def _joined(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    return min(one[0], other[0]), max(one[1], other[1])
