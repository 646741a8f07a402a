"""The form of the runtime model: seconds of every operator, from few positive coefficients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from convscale.prediction.classes import classes_of
from convscale.prediction.execution import Execution
from convscale.prediction.processor import processor_classes
from convscale.prediction.roofline import prepared, relative_coefficients
from convscale.prediction.training import training_classes
from convscale.prediction.workload import Workload

Floats = npt.NDArray[np.float64]
Positions = npt.NDArray[np.intp]
Coefficients = Mapping[str, float]

__all__ = [
    "Coefficients",
    "Execution",
    "coefficients_of",
    "network_seconds",
    "operator_classes",
    "operator_costs",
    "operator_seconds",
]


def coefficients_of(execution: Execution) -> dict[str, float]:
    """Return the coefficients of the form by name, with the values that a fit starts from.

    `multiply` and `memory` are nanoseconds a multiply-add and a byte, `step` microseconds
    a step and `launch` microseconds an operator; the others, most of them with a dot, have no
    unit: they say how much slower a class of operators is, or how small it must be to be slow.

    Example:
        >>> coefficients_of(Execution())["memory.relu"]
        1.0
    """
    own = {"multiply": 1e-4, "memory": 1e-3, "launch": 3.0, "step": 200.0}
    if execution.hardware == "cpu":  # threads are started, and wait for each other
        own |= {"launch": 20.0, "step": 100.0}
    return own | relative_coefficients(execution)


def operator_classes(work: Workload, execution: Execution) -> dict[str, Positions]:
    """Return the positions of the operators of each class: those of a class share coefficients.

    Example:
        >>> from convscale.complexity.calls import OperatorCall
        >>> from convscale.prediction.workload import workload
        >>> work = workload([OperatorCall("a", "aten.relu", "activation")])
        >>> [list(operator_classes(work, Execution(hardware=h))) for h in ("gpu", "cpu")]
        [['relu'], ['activation']]
    """
    if execution.work == "training":
        return training_classes(work)
    if execution.hardware == "cpu":
        return processor_classes(work)
    return classes_of(work, execution.layout)


def operator_costs(
    work: Workload, values: Mapping[str, Any], execution: Execution, batch_size: Floats | float
) -> Iterator[tuple[Positions, Any]]:
    """Yield seconds of operators for a batch, class by class: their positions, and the seconds.

    Args:
        work: The operators.
        values: The coefficients, as numbers or as duals.
        execution: How they run.
        batch_size: Images, one number or one an operator.

    Example:
        >>> from convscale.complexity.calls import OperatorCall
        >>> from convscale.prediction.workload import workload
        >>> call = OperatorCall("a", "aten.relu", "activation", bytes_read=64, bytes_written=64)
        >>> work, run = workload([call]), Execution()
        >>> [places.tolist() for places, _ in operator_costs(work, coefficients_of(run), run, 1.0)]
        [[0]]
    """
    yield from prepared(work, execution, batch_size)(values)


def operator_seconds(
    work: Workload, coefficients: Coefficients, execution: Execution, batch_size: float
) -> Floats:
    """Return the seconds of each operator for a batch, repeats included.

    Args:
        work: The operators, with or without candidates.
        coefficients: As `coefficients_of` names them.
        execution: How they run.
        batch_size: Images.

    Returns:
        Seconds, of the shape of the workload's arrays.

    Example:
        >>> from convscale.complexity.calls import OperatorCall
        >>> from convscale.prediction.workload import workload
        >>> call = OperatorCall("a", "aten.relu", "activation", bytes_read=64, bytes_written=64)
        >>> run = Execution()
        >>> one, two = (
        ...     float(operator_seconds(workload([call] * n), coefficients_of(run), run, 8).sum())
        ...     for n in (1, 2)
        ... )
        >>> two == 2 * one
        True
    """
    shape = np.broadcast_shapes(*(np.shape(one) for one in (work.repeats, work.read, work.rows)))
    found = np.zeros(shape)
    for positions, seconds in operator_costs(work, coefficients, execution, batch_size):
        found[positions] = seconds
    return found


def network_seconds(
    work: Workload, coefficients: Coefficients, execution: Execution, batch_size: float
) -> Floats:
    """Return the seconds of a step: those of the operators, and what a step takes by itself.

    Example:
        >>> from convscale.prediction.workload import workload
        >>> run = Execution()
        >>> float(network_seconds(workload([]), {**coefficients_of(run), "step": 7.0}, run, 1))
        7e-06
    """
    operators = operator_seconds(work, coefficients, execution, batch_size)
    return step_seconds(operators.sum(axis=0), coefficients, execution, batch_size)


def step_seconds(
    operators: Floats, coefficients: Coefficients, execution: Execution, batch_size: float
) -> Floats:
    """Return the seconds of a step whose operators together take so long.

    Example:
        >>> float(step_seconds(np.array(1.0), {"step": 7.0}, Execution(), 8))
        1.000007
    """
    del execution, batch_size  # the same for all
    return np.asarray(operators + 1e-6 * coefficients["step"])
