"""Laws of the error fitted to trials, and applied to networks of other strategies too. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from convscale.errors import InputError
from convscale.selection.error_law import ErrorLaw, LawEstimate, SeriesLaw, fit_series
from convscale.selection.objective import Estimate
from convscale.selection.pool import Pool

ALL = "all series"


@dataclass(frozen=True)
class SearchLaw:
    """The law of each series that was tried, and one over all for those that were not.

    The one over all lies off by what series differ from each other, so that its uncertainty is
    wider; it is never taken to be narrower than that of a series.

    Args:
        name: What the error is.
        laws: The law of each series.
        over_all: That of all trials together.

    Example:
        >>> law = fit_search_law(["w", "w", "d"], [1e6, 4e6, 2e6], [30.0, 25.0, 28.0], name="err")
        >>> pool = Pool(("a", "b"), ("w", "dw"), {"acts": np.array([2e6, 2e6])})
        >>> one, other = law.estimate(pool).uncertainty
        >>> bool(other > one)
        True
    """

    name: str
    laws: Mapping[str, SeriesLaw]
    over_all: SeriesLaw

    @property
    def says(self) -> str:
        """What there is to know of the model."""
        points = self.over_all.points
        plural = "" if points == 1 else "s"
        return (
            f"Errors are those of the law e0 + b·acts^−c, fitted to {points} value{plural} of "
            f"{self.name} of {', '.join(sorted(self.laws)) or 'no series'}; what is of no such "
            "series takes one law over all, whose uncertainty is wider."
        )

    @property
    def leads(self) -> str:
        """What the best has."""
        return f"the least {self.name} by the law"

    def estimate(self, pool: Pool) -> Estimate:
        """Return the errors of the laws."""
        known = np.array([one if one in self.laws else ALL for one in pool.series], dtype=np.str_)
        own = ErrorLaw(self.name, {**self.laws, ALL: self.over_all})
        found = own.estimate(replace(pool, series=tuple(map(str, known))))
        assert isinstance(found, LawEstimate)
        return found

    def show(self, error: float) -> str:
        """Write an error."""
        return f"{self.name} {error:.2f}"

    def show_loss(self, worse: float, better: float) -> str:
        """Write what one error is worse than another."""
        return f"{self.name} {worse - better:+.2f}"


def fit_search_law(
    series: Sequence[str], acts: Sequence[float], errors: Sequence[float], *, name: str
) -> SearchLaw:
    """Fit the law to trials: to each series, and to all together.

    Args:
        series: The series of each trial.
        acts: Its activations.
        errors: Its error.
        name: What the error is.

    Raises:
        InputError: If there is no trial, or a number is not positive.

    Example:
        >>> fit_search_law(["w", "d"], [1e6, 2e6], [30.0, 28.0], name="err").over_all.points
        2
    """
    x, y = np.asarray(acts, float), np.asarray(errors, float)
    names = np.array(series, dtype=np.str_)
    known = np.isfinite(x) & np.isfinite(y)
    if not known.any():
        raise InputError(f"No trial has a {name}. Give the errors of some to fit a law to.")
    laws = {
        str(one): fit_series(x[known & (names == one)], y[known & (names == one)])
        for one in np.unique(names[known & (names != "")])
    }
    return SearchLaw(name, laws, _wider(fit_series(x[known], y[known]), laws))


def _wider(law: SeriesLaw, laws: Mapping[str, SeriesLaw]) -> SeriesLaw:
    """Return the law over all, at least as uncertain as any series beside its own scatter."""
    widest = max((one.scatter for one in laws.values()), default=0.0)
    return replace(law, scatter=float(np.hypot(law.scatter, widest)))
