"""What coefficients predict for timed networks, and how that follows the coefficients."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from convscale.prediction.dual import Dual
from convscale.prediction.execution import Execution
from convscale.prediction.form import operator_costs
from convscale.prediction.stack import Stack
from convscale.prediction.workload import Floats

# From coefficients to the logarithms of times, and how they follow those of the coefficients:
# a row a time, a column a coefficient.
Law = Callable[[Mapping[str, float]], tuple[Floats, Floats]]

# The coefficients that have a unit of time: with all of them doubled, every time is doubled.
COSTS = ("multiply", "memory", "launch", "step")


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

    def law(coefficients: Mapping[str, float]) -> tuple[Floats, Floats]:
        duals = {name: Dual.of(name, value) for name, value in coefficients.items()}
        place = {name: position for position, name in enumerate(coefficients)}
        total = np.full(stack.size, 1e-6 * coefficients["step"])
        slopes = np.zeros((stack.size, len(place)))
        slopes[:, place["step"]] = total
        for places, cost in operator_costs(stack.work, duals, execution, stack.batches):
            total += stack.sum(places, cost.value)
            for name, slope in cost.slopes.items():
                slopes[:, place[name]] += stack.sum(places, slope)
        return np.log(total), slopes / total[:, None]

    return law
