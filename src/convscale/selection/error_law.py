"""A law of the error, fitted for each series of networks, with its uncertainty. No torch here.

    err = e0 + b · acts^−c

Errors are taken over their median and activations over their geometric mean, so that percent and
shares fit alike. Beside the points, the fit knows only what keeps it from running away where points
are few: e0 lies between 0 and the least error, and c near 0.5. These are choices, wide enough that
several points outweigh them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from convscale.errors import InputError
from convscale.selection.constraints import Floats
from convscale.selection.objective import Estimate
from convscale.selection.pool import Pool

_LEAST_C, _MOST_C = 0.05, 2.0
_C, _C_SD = 0.5, 0.5  # where c is expected, and how surely
_SCATTER = 0.02  # of the median error, what a network is expected to lie off, before it is seen
_ROUNDS = 6


@dataclass(frozen=True)
class SeriesLaw:
    """The law of one series.

    Args:
        e0: The error that no size goes below.
        b: What it lies above e0 at the reference.
        c: How fast it falls with activations.
        acts: The reference: activations for which err = e0 + b.
        scatter: How far single networks lie off.
        spread: A square root of the covariance of (e0, b, c), widened for few points.
        points: Networks that it was fitted to.

    Example:
        >>> law = SeriesLaw(15.0, 8.0, 0.5, 1e7, 0.2, ((0.0,) * 3,) * 3, 9)
        >>> law.error(np.array([1e7, 4e7])).tolist()
        [23.0, 19.0]
    """

    e0: float
    b: float
    c: float
    acts: float
    scatter: float
    spread: tuple[tuple[float, ...], ...]
    points: int

    def error(self, acts: Floats) -> Floats:
        """Return the error at activations."""
        return np.asarray(self.e0 + self.b * (acts / self.acts) ** -self.c)

    def shared(self, acts: Floats) -> Floats:
        """Return what the errors at activations have in common: a row each, for the covariance."""
        return np.asarray(_slopes(acts / self.acts, self.b, self.c) @ np.array(self.spread))

    def uncertainty(self, acts: Floats) -> Floats:
        """Return how far the error of a network may lie off (one standard deviation)."""
        return np.asarray(np.sqrt((self.shared(acts) ** 2).sum(axis=1) + self.scatter**2))


def fit_series(acts: Sequence[float], errors: Sequence[float]) -> SeriesLaw:
    """Fit the law to the networks of a series; a robust fit, so that single ones may lie off.

    Args:
        acts: Activations of each network.
        errors: Its error.

    Raises:
        InputError: If there is no network, or a number is not positive.

    Example:
        >>> sizes = np.array([2e6, 4e6, 8e6, 16e6, 32e6])
        >>> law = fit_series(sizes, 15 + 8 * (sizes / 8e6) ** -0.5)
        >>> round(float(law.error(np.array([64e6]))[0]), 1)
        17.8
    """
    x, y = np.asarray(acts, float), np.asarray(errors, float)
    if not len(x) or not (np.isfinite(x) & np.isfinite(y) & (x > 0) & (y > 0)).all():
        raise InputError("A law takes positive activations and errors of at least one network.")
    order = np.lexsort((y, x))
    x, y = x[order], y[order]
    reference, unit = float(np.exp(np.log(x).mean())), float(np.median(y))
    scatter = _SCATTER
    for _ in range(_ROUNDS):
        found, jacobian = _fitted(x / reference, y / unit, scatter)
        scatter = _scatter(x / reference, y / unit, found, scatter)
    wide = _widening(len(x)) * unit
    covariance = np.linalg.inv(jacobian.T @ jacobian)
    spread = np.linalg.cholesky((covariance + covariance.T) / 2) * wide
    e0, b, c = (float(each) for each in found)
    rows = tuple(tuple(map(float, row)) for row in spread * [[1.0], [1.0], [1.0 / unit]])
    return SeriesLaw(e0 * unit, b * unit, c, reference, scatter * wide, rows, len(x))


def _slopes(x: Floats, b: float, c: float) -> Floats:
    """Return the derivatives of the error by e0, b and c, a row each."""
    power = x**-c
    return np.stack([np.ones(len(x)), power, -b * np.log(x) * power], axis=1)


def _fitted(x: Floats, y: Floats, scatter: float) -> tuple[Floats, Floats]:
    """Return (e0, b, c), and the Jacobian at them."""
    from scipy.optimize import least_squares

    least = float(y.min())
    e0_sd = least / 12**0.5  # of what may lie anywhere between 0 and the least error

    def missed(values: Floats) -> Floats:
        e0, b, c = values
        points = (e0 + b * x**-c - y) / scatter
        return np.append(points, [(e0 - least / 2) / e0_sd, (c - _C) / _C_SD])

    def slopes(values: Floats) -> Floats:
        _, b, c = values
        known = np.array([[1 / e0_sd, 0, 0], [0, 0, 1 / _C_SD]])
        return np.vstack([_slopes(x, b, c) / scatter, known])

    found = least_squares(
        missed,
        [least / 2, float(np.median(y)) - least / 2, _C],
        jac=slopes,
        bounds=([0.0, 0.0, _LEAST_C], [least, np.inf, _MOST_C]),
        loss="soft_l1",
        x_scale=[e0_sd, e0_sd, _C_SD],
    )
    return np.asarray(found.x), np.asarray(found.jac)


def _scatter(x: Floats, y: Floats, found: Floats, before: float) -> float:
    """Return how far networks lie off, what was expected counting as one of them."""
    e0, b, c = found
    squares = (e0 + b * x**-c - y) ** 2
    weights = 1.0 / np.sqrt(1.0 + squares / before**2)
    free = max(len(x) - 3, 0)
    seen = float((weights * squares).sum()) / max(float(weights.sum()), 1.0) * len(x)
    return float(np.sqrt((seen + _SCATTER**2) / (free + 1)))


def _widening(points: int) -> float:
    """Return by what few points widen a standard deviation (Student's t at 68 %)."""
    from scipy.stats import norm, t

    one = float(norm.cdf(1.0))
    return float(t.ppf(one, max(points - 3, 0) + 1))


@dataclass(frozen=True)
class LawEstimate(Estimate):
    """Errors of a law: what networks of a series share takes no part in their difference.

    Args:
        shared: A row a candidate, whose products are the covariance.
        scatter: Of each candidate alone.
        series: The series of each.
    """

    shared: Floats
    scatter: Floats
    series: npt.NDArray[np.str_]

    def margin(self, best: int) -> Floats:
        """Return one standard deviation of the difference from one candidate."""
        own = self.scatter**2 + self.scatter[best] ** 2
        same = ((self.shared - self.shared[best]) ** 2).sum(axis=1)
        other = (self.shared**2).sum(axis=1) + (self.shared[best] ** 2).sum()
        return np.asarray(np.sqrt(own + np.where(self.series == self.series[best], same, other)))


@dataclass(frozen=True)
class ErrorLaw:
    """A law for each series, as a model of the error.

    Args:
        name: What the error is, such as top1_err.
        laws: The law of each series.

    Example:
        >>> law = fit_series([1e6, 4e6], [30.0, 25.0])
        >>> pool = Pool(("a",), ("r",), {"acts": np.array([2e6])})
        >>> 25.0 < ErrorLaw("top1_err", {"r": law}).estimate(pool).error[0] < 30.0
        np.True_
    """

    name: str
    laws: Mapping[str, SeriesLaw]

    @cached_property
    def says(self) -> str:
        """What there is to know of the model."""
        points = sum(law.points for law in self.laws.values())
        plural = "" if points == 1 else "s"
        many = f"{len(self.laws)} series" if len(self.laws) > 1 else "one series"
        return (
            f"Errors are those of the law e0 + b·acts^−c, fitted to {points} value{plural} of "
            f"{self.name} in {many}."
        )

    @property
    def leads(self) -> str:
        """What the best has."""
        return f"the least {self.name} by the law"

    def estimate(self, pool: Pool) -> Estimate:
        """Return the errors of the law; NaN for a series that has none."""
        acts = pool.values.get("acts")
        if acts is None:
            raise InputError("The law needs the acts of the candidates. Give them.")
        size = len(pool)
        error, scatter = np.full(size, np.nan), np.full(size, np.nan)
        shared, series = np.full((size, 3), np.nan), np.array(pool.series, dtype=np.str_)
        for name, law in self.laws.items():
            own = series == name
            error[own], shared[own] = law.error(acts[own]), law.shared(acts[own])
            scatter[own] = law.scatter
        uncertainty = np.sqrt((shared**2).sum(axis=1) + scatter**2)
        return LawEstimate(error, uncertainty, shared, scatter, series)

    def show(self, error: float) -> str:
        """Write an error."""
        return f"{self.name} {error:.2f}"

    def show_loss(self, worse: float, better: float) -> str:
        """Write what one error is worse than another."""
        return f"{self.name} {worse - better:+.2f}"


def fit_error_law(pool: Pool, errors: Sequence[float], *, name: str) -> ErrorLaw:
    """Fit the law to every series of a pool, by the candidates whose errors are known.

    Args:
        pool: The candidates, with their acts.
        errors: The error of each; NaN where it is not known.
        name: What the error is.

    Raises:
        InputError: If the acts are not known, or no error is.

    Example:
        >>> pool = Pool(("a", "b"), ("r", "r"), {"acts": np.array([1e6, 4e6])})
        >>> fit_error_law(pool, [30.0, 25.0], name="top1_err").laws["r"].points
        2
    """
    acts = pool.values.get("acts")
    if acts is None:
        raise InputError("The law needs the acts of the candidates. Give them.")
    given = np.asarray(errors, float)
    known = np.isfinite(given) & np.isfinite(acts)
    series = np.array(pool.series, dtype=np.str_)
    if not known.any():
        raise InputError(f"No candidate has a {name}. Give the errors of some to fit a law to.")
    return ErrorLaw(
        name,
        {
            str(one): fit_series(acts[known & (series == one)], given[known & (series == one)])
            for one in np.unique(series[known])
        },
    )
