"""How little a fit knows of the times it predicts, known before anything is measured.

A coefficient is as sure as the families that determine it agree. Were a family left out, each
coefficient would move; what that moves the time of a class of operators is, summed over families
in squares, the variance of that class's logarithm: the sandwich estimate of a fit to clusters
(Liang and Zeger 1986). A network's doubt is the root of the sum of the squares of its classes'
errors, each times the class's share of its time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from convscale.prediction.dual import Dual
from convscale.prediction.execution import Execution
from convscale.prediction.fitting import FitOptions, predicted_seconds
from convscale.prediction.form import (
    Coefficients,
    decides,
    longer,
    operator_classes,
    operator_costs,
)
from convscale.prediction.law import law_of, stack_started
from convscale.prediction.prediction import OVERHEAD
from convscale.prediction.profile import Doubts
from convscale.prediction.stack import Stack, family_weights
from convscale.prediction.workload import Floats, Workload


def doubts_of(
    stack: Stack,
    coefficients: Coefficients,
    execution: Execution,
    *,
    options: FitOptions | None = None,
) -> Doubts:
    """Return how unsure the classes of a fit are, and what of that half its networks have.

    Args:
        stack: The timings that were fitted.
        coefficients: What the fit found.
        execution: How the networks ran.
        options: How the fit weighed what.

    Example:
        >>> from convscale.complexity.calls import OperatorCall
        >>> from convscale.prediction.fitting import fit_stack
        >>> from convscale.prediction.timing import Timing
        >>> from convscale.prediction.workload import workload
        >>> call = OperatorCall("a", "aten.relu", "activation", bytes_read=64, bytes_written=64)
        >>> timings = [Timing(f, f, workload([call]), 8, s) for f, s in (("a", 1e-3), ("b", 2e-3))]
        >>> stack, run = Stack.of(timings), Execution()
        >>> list(doubts_of(stack, fit_stack(stack, run), run).classes)
        ['relu', 'once a pass']
    """
    options = options or FitOptions.of(execution)
    total = predicted_seconds(stack, coefficients, execution)
    place = {name: at for at, name in enumerate(coefficients)}
    evenly = family_weights(stack.families, evenness=options.evenness)
    _, slopes = law_of(stack, execution)(coefficients)
    means: dict[str, Floats] = {}
    for one in _along(stack, coefficients, execution):
        share = one.seconds / total
        counts = evenly * share**2
        mean = np.zeros(len(place))
        for name, slope in one.slopes.items():
            mean[place[name]] = np.sum(evenly * share * slope / total) / max(counts.sum(), 1e-300)
        means[one.name] = mean
    moved = _moved(stack, total, slopes, evenly, options, list(place))
    errors = {name: float(np.sqrt(np.sum((moved @ mean) ** 2))) for name, mean in means.items()}
    found = Doubts(1.0, errors)
    shares = class_shares(stack, coefficients, execution)
    return replace(found, typical=float(np.median(found.doubt(shares))))


@dataclass(frozen=True)
class _Along:
    """The times of a class in each timing (s), and how they follow logarithms of coefficients."""

    name: str
    seconds: Floats
    slopes: Mapping[str, Floats]


def _along(stack: Stack, coefficients: Coefficients, execution: Execution) -> Iterator[_Along]:
    label = class_of_each(stack.work, execution)
    duals = {name: Dual.of(name, value) for name, value in coefficients.items()}
    found = []
    for places, cost in operator_costs(stack.work, duals, execution, stack.batches):
        slopes = {name: stack.sum(places, slope) for name, slope in cost.slopes.items()}
        found.append(_Along(label[int(places[0])], stack.sum(places, cost.value), slopes))
    step = np.full(stack.size, 1e-6 * coefficients["step"])
    device = step + sum(one.seconds for one in found)
    host = 1e-6 * coefficients.get("host", 0.0) * stack_started(stack, execution)
    counts, total = decides(device, host), longer(device, host)
    for one in found:
        slopes = {name: slope * counts for name, slope in one.slopes.items()}
        yield replace(one, slopes=slopes)
    slopes = {"step": step * counts}
    if "host" in coefficients:
        slopes["host"] = decides(host, device) * host
    yield _Along(OVERHEAD, step + total - device, slopes)


def _moved(
    stack: Stack,
    total: Floats,
    slopes: Floats,
    evenly: Floats,
    options: FitOptions,
    names: list[str],
) -> Floats:
    """Return by how much the logarithm of each coefficient moves without a family: a row each."""
    misses = np.log(total / stack.seconds)
    bent = 1.0 + (misses / options.bend) ** 2
    pulls, curved = evenly * misses / bent**0.5, evenly / bent**1.5  # of soft-L1, and its slope
    left = (slopes.T * curved) @ slopes + np.diag([options.pull(name) for name in names])
    families = np.array(stack.families)
    right = [
        slopes[own].T @ pulls[own]
        for own in (families == family for family in sorted(set(stack.families)))
    ]
    return np.linalg.solve(left, np.array(right).T).T


def class_of_each(work: Workload, execution: Execution) -> dict[int, str]:
    """Return the class of each operator that has one, by its position.

    Example:
        >>> from convscale.complexity.calls import OperatorCall
        >>> from convscale.prediction.workload import workload
        >>> class_of_each(workload([OperatorCall("a", "aten.relu", "activation")]), Execution())
        {0: 'relu'}
    """
    classes = operator_classes(work, execution)
    return {int(place): name for name, places in classes.items() for place in places}


def class_shares(
    stack: Stack, coefficients: Coefficients, execution: Execution
) -> dict[str, Floats]:
    """Return the share of the time of each timing that the operators of each class take.

    Example:
        >>> from convscale.prediction.form import coefficients_of
        >>> from convscale.prediction.timing import Timing
        >>> from convscale.prediction.workload import workload
        >>> stack, run = Stack.of([Timing("net", "nets", workload([]), 8, 1e-3)]), Execution()
        >>> class_shares(stack, coefficients_of(run), run)
        {'once a pass': array([1.])}
    """
    total = predicted_seconds(stack, coefficients, execution)
    label = class_of_each(stack.work, execution)
    found = {}
    for places, seconds in operator_costs(stack.work, coefficients, execution, stack.batches):
        found[label[int(places[0])]] = stack.sum(places, seconds) / total
    return found | {OVERHEAD: np.ones(stack.size) - sum(found.values())}


def operator_shares(
    work: Workload, single: Floats, total: float, execution: Execution
) -> dict[str, float]:
    """Return the share of the time of one network that the operators of each class take.

    Args:
        work: The operators, as they are executed.
        single: The seconds of each.
        total: Those of the pass.
        execution: How it runs.

    Example:
        >>> from convscale.complexity.calls import OperatorCall
        >>> from convscale.prediction.workload import workload
        >>> work = workload([OperatorCall("a", "aten.relu", "activation")])
        >>> operator_shares(work, np.array([0.75]), 1.0, Execution())
        {'relu': 0.75, 'once a pass': 0.25}
    """
    classes = operator_classes(work, execution).items()
    found = {name: float(single[places].sum()) / total for name, places in classes}
    return found | {OVERHEAD: max(1.0 - float(single.sum()) / total, 0.0)}


def widths_of(
    stack: Stack, coefficients: Coefficients, execution: Execution, doubts: Doubts | None
) -> Floats:
    """Return how many times as wide as a typical network's the interval of each timing is.

    Example:
        >>> from convscale.prediction.form import coefficients_of
        >>> from convscale.prediction.timing import Timing
        >>> from convscale.prediction.workload import workload
        >>> stack, run = Stack.of([Timing("net", "nets", workload([]), 8, 1e-3)]), Execution()
        >>> widths_of(stack, coefficients_of(run), run, Doubts(0.1, {"once a pass": 0.4})).round(2)
        array([2.])
    """
    if doubts is None:
        return np.ones(stack.size)
    return np.asarray(doubts.width(class_shares(stack, coefficients, execution)))
