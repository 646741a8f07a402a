"""Carry coefficients over to another device by the times of a few networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import log

import numpy as np

from convscale.prediction.law import Law
from convscale.prediction.workload import Floats


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
        shared: The share of what the device to start from is mispredicted by that another is
            mispredicted by too; it lies between 0 and twice that.
        shared_spread: Its standard deviation.

    Example:
        >>> Prior().bound
        8.0
    """

    common: float = 3.0
    cost: float = 0.4
    relative: float = 0.15
    misfit: float = 0.08
    bound: float = 8.0
    shared: float = 0.8
    shared_spread: float = 0.3


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

    shared is the share of the residuals of the device to start from that hold here too, 0 where
    none were given. residuals are the logarithms of measured over predicted times, a value a
    timing, in which what is shared counts as predicted.

    Example:
        >>> Adapted({"bytes": 2.0}, common=2.0, shared=0.0, residuals=np.zeros(1)).common
        2.0
    """

    coefficients: dict[str, float]
    common: float
    shared: float
    residuals: Floats = field(repr=False)


def adapt(
    start: Mapping[str, float],
    law: Law,
    seconds: Sequence[float] | Floats,
    costs: Sequence[str],
    *,
    residuals: Sequence[float] | Floats | None = None,
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
        residuals: For each network the logarithm of measured over predicted time on the device
            to start from, where it was timed there: what the form misses on both.
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

    problem = _Problem(
        start,
        Moves(tuple(start), tuple(costs)),
        prior or Prior(),
        law,
        np.log(np.asarray(seconds, dtype=np.float64)),
        np.zeros(len(seconds)) if residuals is None else np.asarray(residuals, dtype=np.float64),
    )
    size = 2 + len(start)
    point = least_squares(problem.errors, np.zeros(size), jac=problem.slopes, method="trf").x
    return Adapted(
        problem.coefficients(point),
        common=float(np.exp(problem.offset + problem.prior.common * point[0])),
        shared=0.0 if residuals is None else problem.shared(point),
        residuals=-problem.misses(point)[0],
    )


@dataclass(frozen=True)
class _Problem:
    """Least squares at a point that is standard normal before anything is measured.

    Its first entry moves all costs, the second the share of the residuals that is kept, the
    others a coefficient each.
    """

    start: Mapping[str, float]
    moves: Moves
    prior: Prior
    law: Law
    observed: Floats
    known: Floats

    @cached_property
    def offset(self) -> float:
        """The common factor to begin with: the median's."""
        logs, _ = self.law(self.start)
        return float(np.median(self.observed - logs - self.prior.shared * self.known))

    @cached_property
    def spread(self) -> Floats:
        return self.moves.spread(self.prior)

    def coefficients(self, point: Floats) -> dict[str, float]:
        limit = log(self.prior.bound)
        beyond = limit * np.tanh(self.spread * point[2:] / limit)
        shift = self.moves.is_cost * (self.offset + self.prior.common * point[0]) + beyond
        factors = zip(self.start.items(), np.exp(shift), strict=True)
        return {name: value * float(factor) for (name, value), factor in factors}

    def shared(self, point: Floats) -> float:
        limit = self.prior.shared
        return float(limit + limit * np.tanh(self.prior.shared_spread * point[1] / limit))

    def misses(self, point: Floats) -> tuple[Floats, Floats]:
        """Return the logarithms of predicted over measured times, and their slopes."""
        logs, along = self.law(self.coefficients(point))
        predicted = logs + self.shared(point) * self.known
        flat = 1.0 - np.tanh(self.spread * point[2:] / log(self.prior.bound)) ** 2
        bend = 1.0 - np.tanh(self.prior.shared_spread * point[1] / self.prior.shared) ** 2
        columns = [
            self.prior.common * along @ self.moves.is_cost,
            self.prior.shared_spread * bend * self.known,
            along * (flat * self.spread),
        ]
        return predicted - self.observed, np.column_stack(columns)

    def errors(self, point: Floats) -> Floats:
        return np.concatenate([soft(self.misses(point)[0] / self.prior.misfit)[0], point])

    def slopes(self, point: Floats) -> Floats:
        misses, along = self.misses(point)
        bent = soft(misses / self.prior.misfit)[1] / self.prior.misfit
        return np.vstack([bent[:, None] * along, np.eye(len(point))])


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
