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
    "started",
]

_HARD = 8.0  # how sharply the longer of two times that run side by side decides


def coefficients_of(execution: Execution) -> dict[str, float]:
    """Return the coefficients of the form by name, with the values that a fit starts from.

    `multiply` and `memory` are nanoseconds a multiply-add and a byte, `step` microseconds
    a step and `launch` microseconds an operator, `host` those that the processor beside a GPU
    needs to start one; the others, most of them with a dot, have no
    unit: they say how much slower a class of operators is, or how small it must be to be slow.

    Example:
        >>> coefficients_of(Execution())["memory.relu"]
        1.0
    """
    own = {"multiply": 1e-4, "memory": 1e-3, "launch": 3.0, "step": 200.0}
    if execution.hardware == "cpu":  # threads are started, and wait for each other
        own |= {"launch": 20.0, "step": 100.0}
    elif (execution.work, execution.mode) == ("inference", "eager"):
        own |= {"host": 28.0}
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
    return step_seconds(operators.sum(axis=0), coefficients, started(work, execution))


def started(work: Workload, execution: Execution) -> Floats:
    """Return how many kernels a step starts: those of operators that have a class.

    Example:
        >>> from convscale.complexity.calls import OperatorCall
        >>> from convscale.prediction.workload import workload
        >>> call = OperatorCall("a", "aten.relu", "activation")
        >>> float(started(workload([call] * 2), Execution()))
        2.0
    """
    places = starting(work, execution)
    return np.asarray((work.launches * work.repeats)[places].sum(axis=0))


def starting(work: Workload, execution: Execution) -> Positions:
    """Return the positions of the operators that run a kernel of their own.

    Example:
        >>> from convscale.complexity.calls import OperatorCall
        >>> from convscale.prediction.workload import workload
        >>> starting(workload([OperatorCall("a", "aten.relu", "activation")]), Execution()).tolist()
        [0]
    """
    found = list(operator_classes(work, execution).values())
    return np.sort(np.concatenate(found)) if found else np.zeros(0, dtype=np.intp)


def step_seconds(operators: Floats, coefficients: Coefficients, kernels: Floats) -> Floats:
    """Return the seconds of a step: of its operators, or of starting them where that is longer.

    A processor starts kernels one after another while a GPU runs those before.

    Args:
        operators: The seconds of all operators.
        coefficients: As `coefficients_of` names them.
        kernels: How many are started.

    Example:
        >>> float(step_seconds(np.array(1.0), {"step": 7.0}, np.array(5.0)))
        1.000007
        >>> host = {"step": 0.0, "host": 20.0}
        >>> round(float(step_seconds(np.array(1e-4), host, np.array(50.0))), 6)
        0.001
    """
    device = np.asarray(operators + 1e-6 * coefficients["step"])
    if "host" not in coefficients:
        return device
    return longer(device, 1e-6 * coefficients["host"] * kernels)


def longer(one: Floats, other: Floats) -> Floats:
    """Return the longer of two times, a little more where they are alike.

    Example:
        >>> longer(np.array(1.0), np.array([0.5, 1.0])).round(3).tolist()
        [1.0, 1.091]
    """
    most = np.maximum(np.maximum(one, other), 1e-300)
    return np.asarray(most * ((one / most) ** _HARD + (other / most) ** _HARD) ** (1.0 / _HARD))


def decides(one: Floats, other: Floats) -> Floats:
    """Return how `longer` follows the first of two times: its derivative.

    Example:
        >>> decides(np.array(1.0), np.array([0.5, 2.0])).round(2).tolist()
        [1.0, 0.01]
    """
    return np.asarray((one / longer(one, other)) ** (_HARD - 1.0))
