"""Carry coefficients over to another device by the times of a few networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import log

import numpy as np

from convscale.prediction.workload import Floats

# From coefficients to the logarithms of times, and how they follow those of the coefficients:
# a row a time, a column a coefficient.
Law = Callable[[Mapping[str, float]], tuple[Floats, Floats]]


@dataclass(frozen=True)
class Prior:
    """How far the coefficients of two devices lie apart, before anything is measured.

    All costs move together by a common factor, and each coefficient by one of its own; these
    are log-normal around 1. Beyond the common factor a coefficient moves by `bound` times at
    most, whatever is measured.

    Args:
        common: Standard deviation of the logarithm of the common factor.
        cost: That of a cost's own factor: of what the others are relative to.
        relative: That of the factor of a coefficient without a unit.
        misfit: That of a time around the prediction; times further off count less and less.
        bound: The largest factor of a coefficient beyond the common one, and the inverse of the
            smallest.

    Example:
        >>> Prior().bound
        8.0
    """

    common: float = 3.0
    cost: float = 0.4
    relative: float = 0.15
    misfit: float = 0.08
    bound: float = 8.0


@dataclass(frozen=True)
class Moves:
    """Which coefficients there are, and which of them are costs.

    A cost is one that makes everything it concerns slower in proportion: with all of them
    doubled, every time is doubled. The others are relative to them, or shape the law.

    Example:
        >>> Moves(("memory", "memory.relu"), ("memory",)).is_cost
        array([1., 0.])
    """

    names: tuple[str, ...]
    costs: tuple[str, ...]

    @cached_property
    def is_cost(self) -> Floats:
        """1 for a cost, 0 for another coefficient."""
        return np.array([float(name in self.costs) for name in self.names])

    def spread(self, prior: Prior) -> Floats:
        """Return the standard deviations of the logarithms beyond the common factor.

        Example:
            >>> Moves(("a", "b"), ("a",)).spread(Prior(cost=0.5, relative=0.25))
            array([0.5 , 0.25])
        """
        return np.where(self.is_cost > 0, prior.cost, prior.relative)


@dataclass(frozen=True)
class Adapted:
    """Coefficients of another device.

    residuals are the logarithms of measured over predicted times, a value a timing.

    Example:
        >>> Adapted({"bytes": 2.0}, common=2.0, residuals=np.zeros(1)).common
        2.0
    """

    coefficients: dict[str, float]
    common: float
    residuals: Floats = field(repr=False)


def adapt(
    start: Mapping[str, float],
    law: Law,
    seconds: Sequence[float] | Floats,
    costs: Sequence[str],
    *,
    prior: Prior | None = None,
) -> Adapted:
    """Move coefficients to where they tell a few times, and no further than these show.

    The result is the most probable one under the prior where the logarithms of times lie around
    the predicted ones by Student's t with 4 degrees of freedom: a time that is far off, since
    something else held the device or the form does not suit the network, loses its pull.

    Args:
        start: The coefficients of the device to start from.
        law: What they predict for the networks that were timed.
        seconds: The times on the other device.
        costs: The coefficients that are costs.
        prior: How far coefficients may move.

    Example:
        >>> bytes_, macs = np.array([3.0, 5.0]), np.array([1.0, 9.0])
        >>> def law(c):
        ...     parts = np.column_stack([bytes_ * c["bytes"], macs * c["macs"]])
        ...     total = parts.sum(axis=1)
        ...     return np.log(total), parts / total[:, None]
        >>> found = adapt({"bytes": 1.0, "macs": 1.0}, law, [20.0, 70.0], ["bytes", "macs"])
        >>> round(found.common, 2), bool(np.abs(found.residuals).max() < 0.01)
        (5.0, True)
    """
    from scipy.optimize import least_squares

    asked = prior or Prior()
    observed = np.log(np.asarray(seconds, dtype=np.float64))
    path = _Path(start, Moves(tuple(start), tuple(costs)), asked)
    offset = float(np.median(observed - law(start)[0]))

    def errors(point: Floats) -> Floats:
        misfit = (law(path.coefficients(point, offset))[0] - observed) / asked.misfit
        return np.concatenate([soft(misfit)[0], point])

    def slopes(point: Floats) -> Floats:
        logs, along = law(path.coefficients(point, offset))
        bent = soft((logs - observed) / asked.misfit)[1] / asked.misfit
        return np.vstack([bent[:, None] * (along @ path.slopes(point)), np.eye(len(point))])

    found = least_squares(errors, np.zeros(1 + len(start)), jac=slopes, method="trf")
    moved = path.coefficients(found.x, offset)
    common = float(np.exp(offset + asked.common * found.x[0]))
    return Adapted(moved, common, observed - law(moved)[0])


@dataclass(frozen=True)
class _Path:
    """From a point, standard normal before anything is measured, to coefficients.

    Its first entry moves all costs, the others a coefficient each.
    """

    start: Mapping[str, float]
    moves: Moves
    prior: Prior

    def coefficients(self, point: Floats, offset: float) -> dict[str, float]:
        limit = log(self.prior.bound)
        beyond = limit * np.tanh(self.moves.spread(self.prior) * point[1:] / limit)
        shift = self.moves.is_cost * (offset + self.prior.common * point[0]) + beyond
        factors = zip(self.start.items(), np.exp(shift), strict=True)
        return {name: value * float(factor) for (name, value), factor in factors}

    def slopes(self, point: Floats) -> Floats:
        """Return how the logarithms of the coefficients follow the point."""
        spread = self.moves.spread(self.prior)
        flat = 1.0 - np.tanh(spread * point[1:] / log(self.prior.bound)) ** 2
        return np.column_stack([self.moves.is_cost * self.prior.common, np.diag(flat * spread)])


_DEGREES = 4.0  # of freedom of Student's t


def soft(errors: Floats) -> tuple[Floats, Floats]:
    """Return what is squared in place of errors, and how it follows them.

    Half the square is minus the logarithm of Student's t with 4 degrees of freedom, up to a
    constant: (4 + 1) / 2 · ln(1 + e² / 4).

    Example:
        >>> found, _ = soft(np.array([0.1, -40.0]))
        >>> [round(float(value), 3) for value in found]
        [0.112, -5.474]
    """
    root = np.sqrt((_DEGREES + 1.0) * np.log1p(errors**2 / _DEGREES))
    small = np.abs(errors) < 1e-6
    steep = np.sqrt((_DEGREES + 1.0) / _DEGREES)
    slope = (_DEGREES + 1.0) * np.abs(errors) / (_DEGREES + errors**2) / np.where(small, 1.0, root)
    return np.sign(errors) * root, np.where(small, steep, slope)
