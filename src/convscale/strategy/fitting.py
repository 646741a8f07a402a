"""Fit a strategy of one's own: from trials of factors and errors to exponents, with intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import fdtri

from convscale.errors import ConvscaleError, InputError
from convscale.strategy.strategy import Strategy

AXES = ("depth", "width", "resolution")
_POWERS = np.array([1.0, 2.0, 2.0])  # flops grow with d, w² and r²
_READ = (*AXES, "error", "flops")
_FLAT = 1e-9
_OF_SPLIT = 5  # columns of the law that hold how s is shared, the last ones

Array = npt.NDArray[np.float64]


class FitError(ConvscaleError):
    """Say that trials do not tell the exponents."""

    exit_status = 3


@dataclass(frozen=True)
class Interval:
    """A share of flops and the bounds between which it lies at the level of the fit.

    Example:
        >>> Interval(0.3, low=0.2, high=0.4).covers(0.25)
        True
    """

    value: float
    low: float
    high: float

    def covers(self, value: float) -> bool:
        """Tell whether a value lies between the bounds."""
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Fit:
    """The exponents that trials show: shares of s for depth, width and resolution.

    `depth`, `width` and `resolution` are e_d, e_w and e_r of d·w²·r² = s, with intervals at
    `level`; `inside` says whether the best split is a minimum and not an edge where an axis
    stays; `spread` is the standard deviation of the trials' error about the law, relative;
    `cost` the powers of d, w² and r² with which the trials' flops grow, 1 each by the law.

    Example:
        >>> e = Interval(1 / 3, 0.3, 0.4)
        >>> Fit(e, e, e, level=0.95, trials=20, spread=0.01, inside=True).notation
        'd0.3333_w0.3333_r0.3333'
    """

    depth: Interval
    width: Interval
    resolution: Interval
    level: float
    trials: int
    spread: float
    inside: bool
    cost: tuple[float, float, float] | None = None

    @property
    def strategy(self) -> Strategy:
        """The strategy with these exponents."""
        depth, width, resolution = self.depth.value, self.width.value, self.resolution.value
        total = depth + width + resolution
        return Strategy(self.notation, depth / total, width / total, resolution / total)

    @property
    def notation(self) -> str:
        """The strategy as `--strategy` reads it."""
        named = zip("dwr", (self.depth, self.width, self.resolution), strict=True)
        return "_".join(f"{axis}{share.value:.4f}" for axis, share in named)

    def factors(self, scale: float = 2.0) -> tuple[float, float, float]:
        """Return the factors of depth, width and resolution at s; EfficientNet's α, β, γ at 2.

        Example:
            >>> e = Interval(1 / 3, 0.3, 0.4)
            >>> fit = Fit(e, e, e, level=0.95, trials=20, spread=0.01, inside=True)
            >>> [round(factor, 3) for factor in fit.factors(8.0)]
            [2.0, 1.414, 1.414]
        """
        found = self.strategy.factors(scale)
        return found.depth, found.width, found.resolution


def fit_exponents(table: Any, *, level: float = 0.95, resamples: int = 1000, seed: int = 0) -> Fit:
    """Fit the exponents with the least error at given flops, under d·w²·r² = s.

    The law fitted is, with x = (ln d, 2 ln w, 2 ln r) and L = x_d + x_w + x_r = ln s,

        ln error = a − k·L + m·L² + ½ (x − L·e)ᵀ Q (x − L·e),

    an error that falls with flops and rises with the distance from the best split e, which
    holds at every s: the premise of compound scaling (arXiv 1905.11946, section 3.3). As
    e_d + e_w + e_r = 1, the distance has two free coordinates, in which the law is linear in
    1, L, L², u², uv, v², uL, vL with u = x_d and v = x_w: least squares give Q, and
    e = −Q⁻¹·(c_uL, c_vL). Where that is no minimum with positive shares, e is the best split
    on the edge. Where the trials tell their flops, x is stretched so that L is the logarithm
    of flops as they grew. Intervals are percentiles of a bootstrap of the residuals.

    Args:
        table: A DataFrame or mapping with columns depth, width, resolution (factors), error
            and, if known, flops; or a sequence of mappings.
        level: The probability of the intervals.
        resamples: Resamples of the bootstrap.
        seed: Seed of the bootstrap.

    Raises:
        InputError: If a column is missing or a value is not positive.
        FitError: If the trials are too few or too alike to tell the exponents, or their error
            does not depend on how s is shared: an F test of the five terms that hold u or v,
            against 1, L, L², at `level`.

    Example:
        >>> grid = [(d, w, r) for d in (1, 1.4, 2) for w in (1, 1.2, 1.4) for r in (1, 1.2, 1.4)]
        >>> x = np.log(grid) * (1, 2, 2)
        >>> apart = x - x.sum(axis=1, keepdims=True) * (0.3, 0.3, 0.4)
        >>> error = np.exp(3 - 0.1 * x.sum(axis=1) + (apart**2).sum(axis=1))
        >>> d, w, r = np.transpose(grid)
        >>> fit = fit_exponents({"depth": d, "width": w, "resolution": r, "error": error})
        >>> round(fit.depth.value, 6), round(fit.resolution.value, 6)
        (0.3, 0.4)
    """
    if not 0 < level < 1:
        raise InputError(f"The level is {level:g}; it must lie between 0 and 1, as in 0.95.")
    if resamples < 100:
        raise InputError(f"{resamples} resamples tell no interval. Take at least 100.")
    columns = _columns(table)
    x = np.log(np.stack([columns[axis] for axis in AXES], axis=1)) * _POWERS
    stretch = _stretch(x, columns.get("flops"))
    design = _design(x * stretch)
    y = np.log(columns["error"])
    solve = np.linalg.pinv(design)
    fitted = design @ (solve @ y)
    left = len(y) - int(np.linalg.matrix_rank(design))
    _check_split(design, y, fitted, left, level)
    residuals = (y - fitted) * (len(y) / left) ** 0.5
    own: Array = np.asarray(solve @ y, dtype=np.float64)
    best, inside = _split(own, stretch)
    spread = float(((residuals**2).mean()) ** 0.5)
    draws = np.random.default_rng(seed).integers(len(y), size=(len(y), resamples))
    again = solve @ (fitted[:, None] + (residuals - residuals.mean())[draws])
    shares = np.array([_split(column, stretch)[0] for column in again.T])
    low, high = np.quantile(shares, [(1 - level) / 2, (1 + level) / 2], axis=0)
    depth, width, resolution = (
        Interval(float(b), float(min(b, lo)), float(max(b, hi)))
        for b, lo, hi in zip(best, low, high, strict=True)
    )
    powers = (float(stretch[0]), float(stretch[1]), float(stretch[2]))
    return Fit(
        depth,
        width,
        resolution,
        level=level,
        trials=len(y),
        spread=spread,
        inside=inside,
        cost=powers if "flops" in columns else None,
    )


def _columns(table: Any) -> dict[str, Array]:
    """Read the columns of a table; all that is wrong with it comes in one line."""
    given = _given(table)
    read: dict[str, Any] = {}
    twice = []
    for name, values in given:
        twice += [name] if name in read and name in _READ else []
        read[name] = values
    needed = (*AXES, "error")
    wrong = [f"column {name!r} is there twice" for name in dict.fromkeys(twice)]
    wrong += [f"column {name!r} is missing" for name in needed if name not in read]
    if any(name not in read for name in needed):
        wrong.append(f"the columns found are {', '.join(map(repr, read)) or 'none'}")
        wrong += ["they are separated by ';', write commas"] * any(";" in name for name in read)
    found: dict[str, Array] = {}
    for name in _READ:
        if name in read:
            values, mistake = _positive(name, read[name])
            found[name] = values
            wrong += [mistake] if mistake else []
    if len({len(values) for values in found.values()}) > 1:
        wrong.append("the columns are not of one length")
    if found and not any(len(values) for values in found.values()):
        wrong.append("there is no trial")
    if wrong:
        raise InputError(
            f"The trials cannot be fitted: {'; '.join(wrong)}. "
            "Give depth, width, resolution (factors) and error, a trial a row."
        )
    return found


def _given(table: Any) -> list[tuple[str, Any]]:
    """Return the columns of a table with their names, in small letters and without blanks."""
    pairs: list[tuple[Any, Any]] = []
    if isinstance(table, Mapping) or hasattr(table, "columns"):
        pairs = list(table.items())  # of a frame by place: two columns may have one name
    elif isinstance(table, Sequence) and all(isinstance(row, Mapping) for row in table):
        keys = dict.fromkeys(key for row in table for key in row)
        pairs = [(key, [row.get(key, float("nan")) for row in table]) for key in keys]
    return [(str(name).strip().lower(), values) for name, values in pairs]


def _positive(name: str, values: Iterable[Any]) -> tuple[Array, str]:
    """Return a column as numbers, and what is wrong with it."""
    cells = list(values)
    numbers = np.full(len(cells), np.nan)
    for row, cell in enumerate(cells, start=1):
        try:
            numbers[row - 1] = float(cell)
        except (TypeError, ValueError):
            return numbers, f"{name} in row {row} is {cell!r} and no number"
        if not 0 < numbers[row - 1] < np.inf:
            return numbers, f"{name} in row {row} is {cell!s} and must be positive"
    return numbers, ""


def _stretch(x: Array, flops: Array | None) -> Array:
    """Return the powers of d, w² and r² with which the flops of the trials grow."""
    if flops is None:
        return np.ones(3)
    design = np.column_stack([np.ones(len(x)), x])
    if np.linalg.matrix_rank(design) < 4:
        return np.ones(3)  # at one cost for all, the trials do not tell
    powers: Array = np.linalg.lstsq(design, np.log(flops), rcond=None)[0][1:]
    if (powers <= 0).any():
        axis = AXES[int(powers.argmin())]
        raise FitError(
            f"The flops of the trials fall with {axis}. Check the columns, or leave flops out."
        )
    return powers


def _design(x: Array) -> Array:
    """Return the columns 1, L, L², u², uv, v², uL, vL, without those that are constant.

    Raises:
        FitError: If the trials do not tell the coefficients apart.
    """
    total = x.sum(axis=1)
    u, v = x[:, 0], x[:, 1]
    one = np.ones_like(total)
    level = [total, total**2] if np.ptp(total) > 1e-6 else [0 * one, 0 * one]
    design = np.column_stack([one, *level, u**2, u * v, v**2, u * total, v * total])
    needed = 8 if np.ptp(total) > 1e-6 else 6
    if len(x) <= needed:
        raise FitError(
            f"{len(x)} trials do not tell the exponents: the law has {needed} coefficients. "
            f"Run at least {needed + 1} trials, better twice as many."
        )
    if np.linalg.matrix_rank(design) < needed:
        raise FitError(
            "The trials do not tell the axes apart. Vary depth, width and resolution "
            "independently, each in at least three values."
        )
    return design


def _check_split(design: Array, y: Array, fitted: Array, left: int, level: float) -> None:
    """Refuse trials whose error is told as well by s alone: any split would be chance.

    Raises:
        FitError: If the error does not depend on the split beyond what chance brings.
    """
    alone = design[:, :-_OF_SPLIT]
    by_scale = alone @ (np.linalg.pinv(alone) @ y)
    told = float(((fitted - by_scale) ** 2).sum())
    chance = float(((y - fitted) ** 2).sum()) / left
    border = float(fdtri(_OF_SPLIT, left, level)) * chance * _OF_SPLIT
    if told <= max(border, _FLAT**2 * len(y)):
        raise FitError(
            f"The error of the {len(y)} trials does not depend on how s is shared (F test at "
            f"{level:g}), so they tell no split. Run more trials, farther apart in depth, width "
            "and resolution at equal flops."
        )


def _split(coefficients: Array, stretch: Array) -> tuple[Array, bool]:
    """Return the shares with the least error, and whether they are a minimum inside."""
    uu, uv, vv, ul, vl = coefficients[3:]
    hessian = np.array([[2 * uu, uv], [uv, 2 * vv]])
    slope = np.array([ul, vl])
    determinant = hessian[0, 0] * hessian[1, 1] - hessian[0, 1] ** 2
    shares, inside = np.zeros(3), False
    if hessian[0, 0] > _FLAT and determinant > _FLAT**2:
        e = np.linalg.solve(hessian, -slope)
        shares = np.array([e[0], e[1], 1 - e.sum()])
        inside = bool((shares >= 0).all())
    if not inside:
        shares = _on_the_edge(hessian, slope)
    costs = shares / stretch
    return costs / costs.sum(), inside


def _on_the_edge(hessian: Array, slope: Array) -> Array:
    """Return the best split among those in which an axis stays: corners and edge minima."""

    def error(shares: Array) -> float:
        e = shares[:2]
        return float(e @ hessian @ e / 2 + slope @ e)

    corners = np.eye(3)
    options = list(corners)
    for i, j in combinations(range(3), 2):
        along = corners[j] - corners[i]
        bend = float(along[:2] @ hessian @ along[:2])
        if bend > _FLAT:
            rise = float((hessian @ corners[i][:2] + slope) @ along[:2])
            options.append(corners[i] + np.clip(-rise / bend, 0, 1) * along)
    return min(options, key=error)
