"""What coefficients predict for timed networks, and how that follows the coefficients."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from convscale.prediction.dual import Dual
from convscale.prediction.execution import Execution
from convscale.prediction.form import decides, longer, starting
from convscale.prediction.roofline import prepared
from convscale.prediction.stack import Stack
from convscale.prediction.workload import Floats

# From coefficients to the logarithms of times, and how they follow those of the coefficients:
# a row a time, a column a coefficient.
Law = Callable[[Mapping[str, float]], tuple[Floats, Floats]]

# The coefficients that have a unit of time: with all of them doubled, every time is doubled.
COSTS = ("multiply", "memory", "launch", "step", "host")


def law_of(stack: Stack, execution: Execution) -> Law:
    """Return the runtime model of some networks as a function of its coefficients.

    Example:
        >>> from convscale.prediction.form import coefficients_of
        >>> from convscale.prediction.timing import Timing
        >>> from convscale.prediction.workload import workload
        >>> run = Execution()
        >>> law = law_of(Stack.of([Timing("net", "nets", workload([]), 8, 1e-3)]), run)
        >>> logs, slopes = law({**coefficients_of(run), "step": 5.0})
        >>> bool(np.isclose(logs[0], np.log(5e-6))), float(slopes.sum())
        (True, 1.0)
    """
    costs = prepared(stack.work, execution, stack.batches)
    kernels = stack_started(stack, execution)

    def law(coefficients: Mapping[str, float]) -> tuple[Floats, Floats]:
        duals = {name: Dual.of(name, value) for name, value in coefficients.items()}
        place = {name: position for position, name in enumerate(coefficients)}
        total = np.full(stack.size, 1e-6 * coefficients["step"])
        slopes = np.zeros((stack.size, len(place)))
        slopes[:, place["step"]] = total
        for places, cost in costs(duals):
            total += stack.sum(places, cost.value)
            for name, slope in cost.slopes.items():
                slopes[:, place[name]] += stack.sum(places, slope)
        if "host" in place:
            host = 1e-6 * coefficients["host"] * kernels
            slopes *= decides(total, host)[:, None]
            slopes[:, place["host"]] = decides(host, total) * host
            total = longer(total, host)
        return np.log(total), slopes / total[:, None]

    return law


def stack_started(stack: Stack, execution: Execution) -> Floats:
    """Return how many kernels a step of each timing starts.

    Example:
        >>> from convscale.prediction.timing import Timing
        >>> from convscale.prediction.workload import workload
        >>> stack_started(Stack.of([Timing("net", "nets", workload([]), 8, 1e-3)]), Execution())
        array([0.])
    """
    places, work = starting(stack.work, execution), stack.work
    return stack.sum(places, (work.launches * work.repeats)[places])
