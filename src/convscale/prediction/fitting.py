"""Fit the coefficients of the runtime model to timings of networks, robustly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from convscale.prediction.form import (
    Coefficients,
    Execution,
    coefficients_of,
    operator_costs,
    step_seconds,
)
from convscale.prediction.law import COSTS, Law, law_of, stack_started
from convscale.prediction.stack import Stack, family_weights
from convscale.prediction.timing import Timing

Floats = npt.NDArray[np.float64]
# Rates are free to leave their start; the other coefficients are held near it, by ridge.
__all__ = ["FitOptions", "Timing", "fit", "fit_stack", "predicted_seconds"]

_RATES = ("multiply", "memory")
# Operators that do nothing but move bytes run at nearly one rate.
_STREAMING = tuple(
    f"memory.{name}"
    for name in "batch norm,layer norm,relu,activation,hard activation,gelu,elementwise".split(",")
)
_STARTING = ("launch", "step")


@dataclass(frozen=True)
class FitOptions:
    """How a fit weighs what.

    Args:
        bend: Misses in log time above it count about linearly (soft-L1).
        ridge: How strongly coefficients are held to their start, as a part of the mean
            squared miss.
        streaming: How many times as strongly those of operators that only move bytes.
        alike: Those.
        starting: How many times as strongly what a kernel and a step take to start, which
            timings of large batches tell little of; where it is 1, the step's is fitted first.
        anchor: The strength for those that are free to leave it.
        free: Those.
        loose: How many times as strongly what no device tells of another: how much it holds in
            its cache, and how much of multiplying and moving goes on at once.
        own: Those.
        evenness: How much a large family counts: one of n counts n^(1 - evenness).
        steps: At most so many steps of the solver.

    Example:
        >>> FitOptions().bend
        0.1
    """

    bend: float = 0.1
    ridge: float = 5e-4
    streaming: float = 100.0
    alike: tuple[str, ...] = _STREAMING
    starting: float = 30.0
    anchor: float = 1e-7
    free: tuple[str, ...] = _RATES
    loose: float = 0.1
    own: tuple[str, ...] = ("cache", "together")
    evenness: float = 0.5
    steps: int = 60

    @staticmethod
    def of(execution: Execution) -> FitOptions:
        """Return those that a form wants.

        On a CPU, what starting threads, weights and computing take is not known beforehand; a
        training step is several passes in one, whose shares timings of the whole tell little of.

        Example:
            >>> FitOptions.of(Execution(work="training")).ridge
            0.005
        """
        alike = (*_STREAMING, "memory.concatenation")
        if execution.work == "training":
            return FitOptions(
                bend=0.05, ridge=5e-3, alike=alike, starting=1.0, own=(), evenness=1.0
            )
        if execution.hardware == "cpu":
            free = (*_RATES, "launch", "step", "weights", "compute")
            return FitOptions(
                ridge=1e-4, alike=alike, starting=1.0, free=free, own=(), evenness=1.0
            )
        return FitOptions()

    def pull(self, name: str) -> float:
        """Return how strongly a coefficient is held to its start.

        Example:
            >>> FitOptions(ridge=1e-3, starting=30.0).pull("launch")
            0.03
        """
        if name in self.free:
            return self.anchor
        if name in _STARTING:
            return self.ridge * self.starting
        if name in self.own:
            return self.ridge * self.loose
        return self.ridge * (self.streaming if name in self.alike else 1.0)


def fit(
    timings: Sequence[Timing],
    execution: Execution,
    *,
    start: Coefficients | None = None,
    options: FitOptions | None = None,
) -> dict[str, float]:
    """Return the coefficients that meet the timings best.

    Minimises the mean, weighed by families, of soft-L1 of ln(predicted / timed), plus a ridge
    on the logarithms of the coefficients. Without a start, the rates of multiplying and moving are
    first fitted alone.

    Args:
        timings: The timings.
        execution: How the networks ran.
        start: Coefficients to start from, and to stay near.
        options: How the fit weighs what; by default as the form wants it.

    Returns:
        The coefficients by name, all positive.

    Example:
        >>> from convscale.complexity.calls import OperatorCall
        >>> from convscale.prediction.workload import workload
        >>> call = OperatorCall("a", "aten.relu", "activation", bytes_read=64, bytes_written=64)
        >>> timings = [Timing("net", "nets", workload([call] * n), 8, n / 1e3) for n in (1, 2, 4)]
        >>> min(fit(timings, Execution()).values()) > 0
        True
    """
    return fit_stack(Stack.of(timings), execution, start=start, options=options)


def fit_stack(
    stack: Stack,
    execution: Execution,
    *,
    start: Coefficients | None = None,
    options: FitOptions | None = None,
) -> dict[str, float]:
    """Fit as `fit` does, timings that were put together before.

    Example:
        >>> from convscale.prediction.workload import workload
        >>> stack = Stack.of([Timing("net", "nets", workload([]), 8, 1e-3)])
        >>> round(fit_stack(stack, Execution(work="training"))["step"])
        1000
    """
    options = options or FitOptions.of(execution)
    first = dict(start) if start is not None else _rough(stack, execution, options)
    names = list(first)
    origin = np.log([first[name] for name in names])
    pull = np.array([options.pull(name) for name in names])
    weighed = replace(stack, weights=family_weights(stack.families, evenness=options.evenness))
    problem = _Problem(weighed, law_of(stack, execution), names, origin, pull, options.bend)
    return dict(zip(names, map(float, np.exp(problem.solve(options.steps))), strict=True))


def predicted_seconds(stack: Stack, coefficients: Coefficients, execution: Execution) -> Floats:
    """Return the seconds of a step of every timing.

    Example:
        >>> from convscale.prediction.workload import workload
        >>> stack, run = Stack.of([Timing("net", "nets", workload([]), 8, 1e-3)]), Execution()
        >>> predicted_seconds(stack, {**coefficients_of(run), "step": 5.0}, run)
        array([5.e-06])
    """
    found = np.zeros(stack.size)
    for places, seconds in operator_costs(stack.work, coefficients, execution, stack.batches):
        found += stack.sum(places, seconds)
    return step_seconds(found, coefficients, stack_started(stack, execution))


def _rough(stack: Stack, execution: Execution, options: FitOptions) -> dict[str, float]:
    """Return the start: two rates, and maybe a constant, that explain the timings roughly."""
    first = coefficients_of(execution)
    columns = []
    rough = _RATES if options.starting > 1.0 else (*_RATES, "step")
    for kept in rough:
        alone = {**first, **{name: 1e-12 for name in COSTS if name in first and name != kept}}
        columns.append(predicted_seconds(stack, alone, execution))
    relative = np.array(columns).T / stack.seconds[:, None]
    found, _ = nnls(relative, np.ones(stack.size))
    least = 0.05 / np.maximum(relative.mean(axis=0), 1e-300)  # none is ruled out by a rough start
    for name, factor in zip(rough, np.maximum(found, least), strict=True):
        first[name] *= float(factor)
    return first


@dataclass(frozen=True)
class _Problem:
    """A robust, damped least-squares problem in the logarithms of the coefficients."""

    stack: Stack
    law: Law
    names: Sequence[str]
    origin: Floats
    pull: Floats
    bend: float

    def solve(self, steps: int) -> Floats:
        """Levenberg-Marquardt, misses weighed anew in every step."""
        at, damping = self.origin.copy(), 1e-2
        misses, slopes = self._misses(at)
        cost = self._cost(misses, at)
        for _ in range(steps):
            weights = self.stack.weights / np.sqrt(1.0 + (misses / self.bend) ** 2)
            left = (slopes.T * weights) @ slopes + np.diag(self.pull)
            right = (slopes.T * weights) @ misses + self.pull * (at - self.origin)
            step = np.linalg.solve(left + damping * np.diag(np.diag(left)), right)
            new = at - np.clip(step, -1.0, 1.0)
            new_misses, new_slopes = self._misses(new)
            new_cost = self._cost(new_misses, new)
            if new_cost > cost:
                damping = damping * 4.0
                if damping > 1e6:
                    break
                continue
            done = cost - new_cost < 1e-5 * cost
            at, misses, slopes, cost = new, new_misses, new_slopes, new_cost
            damping = max(damping / 4.0, 1e-6)
            if done:
                break
        return at

    def _misses(self, at: Floats) -> tuple[Floats, Floats]:
        """Return ln(predicted / timed), and its derivatives by the logarithms."""
        logs, slopes = self.law(dict(zip(self.names, map(float, np.exp(at)), strict=True)))
        return logs - np.log(self.stack.seconds), slopes

    def _cost(self, misses: Floats, at: Floats) -> float:
        soft = self.bend**2 * (np.sqrt(1.0 + (misses / self.bend) ** 2) - 1.0)
        held = 0.5 * np.sum(self.pull * (at - self.origin) ** 2)
        return float(np.sum(self.stack.weights * soft) + held)
