"""Coefficients of correlation, their intervals, and a fit with non-negative coefficients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

CONFIDENCE = 0.95
RESAMPLES = 2000
# Fewer pairs say nothing of their own scatter.
_FEWEST_PAIRS, _FEWEST_RESAMPLED = 3, 8
# Equal values differ from their mean by rounding alone.
_VARIES = 1e-10


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval, whose ends are None where too few pairs are known.

    Example:
        >>> Estimate(0.97, 0.93, 0.99).as_document()
        {'value': 0.97, 'low': 0.93, 'high': 0.99}
    """

    value: float
    low: float | None = None
    high: float | None = None

    def as_document(self) -> dict[str, float | None]:
        """Return the fields as the command line's JSON has them."""
        return asdict(self)


def pearson(x: Array, y: Array) -> Array:
    """Return r of pairs along the last axis; nan where x or y does not vary.

        r = Σ(x − x̄)(y − ȳ) / √(Σ(x − x̄)² · Σ(y − ȳ)²)

    Example:
        >>> float(pearson(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.0])))
        1.0
    """
    from_mean = [values - values.mean(axis=-1, keepdims=True) for values in (x, y)]
    squares = [(d**2).sum(axis=-1) for d in from_mean]
    sizes = [_VARIES * np.abs(values).max(axis=-1) for values in (x, y)]
    varies = (squares[0] > sizes[0] ** 2) & (squares[1] > sizes[1] ** 2)
    product = np.where(varies, squares[0] * squares[1], 1.0)
    r = (from_mean[0] * from_mean[1]).sum(axis=-1) / np.sqrt(product)
    return np.where(varies, np.clip(r, -1.0, 1.0), np.nan)


def log_pearson(x: Array, y: Array) -> Array:
    """Return r of the logarithms; nan where a value is not positive.

    Example:
        >>> float(log_pearson(np.array([1.0, 2.0, 4.0]), np.array([1.0, 4.0, 16.0])))
        1.0
    """
    positive = np.asarray((x > 0).all(axis=-1) & (y > 0).all(axis=-1))
    known = positive[..., None]
    r = pearson(np.log(np.where(known, x, 1.0)), np.log(np.where(known, y, 1.0)))
    return np.where(positive, r, np.nan)


def spearman(x: Array, y: Array) -> Array:
    """Return Pearson's r of the ranks; equal values share their mean rank.

    Example:
        >>> float(spearman(np.array([1.0, 2.0, 3.0]), np.array([1.0, 10.0, 11.0])))
        1.0
    """
    from scipy.stats import rankdata

    return pearson(rankdata(x, axis=-1), rankdata(y, axis=-1))


COEFFICIENTS: dict[str, Callable[[Array, Array], Array]] = {
    "linear": pearson,
    "log": log_pearson,
    "spearman": spearman,
}


def non_negative_fit(columns: Array, values: Array) -> Array:
    """Return the coefficients c ≥ 0 of the columns that minimise Σ(columns · c − values)².

    The algorithm is that of Lawson and Hanson (Solving Least Squares Problems, 1974, ch. 23).

    Example:
        >>> columns = np.array([[1.0, 1.0], [2.0, 1.0], [3.0, 1.0]])
        >>> non_negative_fit(columns, np.array([5.0, 7.0, 9.0])).round(6).tolist()
        [2.0, 3.0]
    """
    from scipy.optimize import nnls

    # Columns of flops and of ones differ by nine orders of magnitude.
    scale = np.abs(columns).max(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    scaled: Array = nnls(columns / scale, values)[0]
    return scaled / scale


def resamples(count: int, *, seed: int = 0) -> Indices | None:
    """Draw which pairs stand in each resample, with replacement; None for too few pairs.

    Example:
        >>> drawn = resamples(8)
        >>> drawn is not None and drawn.shape == (RESAMPLES, 8), resamples(7) is None
        (True, True)
    """
    if count < _FEWEST_RESAMPLED:
        return None
    return np.random.default_rng(seed).integers(count, size=(RESAMPLES, count))


def estimate(value: float, resampled: Array | None) -> Estimate | None:
    """Join a value and the middle 95 % of what resamples gave; None where there is no value.

    This is the percentile bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap,
    1993, ch. 13). Resamples in which nothing varies say nothing and are left out.

    Example:
        >>> found = estimate(0.5, np.linspace(0.0, 1.0, 1001))
        >>> found.low, found.high
        (0.025, 0.975)
    """
    if not np.isfinite(value):
        return None
    known = resampled[np.isfinite(resampled)] if resampled is not None else np.empty(0)
    if resampled is None or 2 * len(known) < len(resampled):
        return Estimate(float(value))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(known, [tail, 1 - tail])
    return Estimate(float(value), round(float(low), 12), round(float(high), 12))


def enough(count: int) -> bool:
    """Tell whether so many pairs can be correlated: two always lie on a line.

    Example:
        >>> enough(2), enough(3)
        (False, True)
    """
    return count >= _FEWEST_PAIRS
