"""What is made as small as possible: an error with its uncertainty, from one of several models.

A model of the error answers for a pool of candidates (`Objective`). `TableErrors` takes what the
user knows, `FlopsStandIn` lets flops stand in for accuracy, `ErrorLaw` (`error_law.py`) fits a law.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from convscale.errors import InputError
from convscale.quantities import format_count
from convscale.selection.constraints import Floats
from convscale.selection.pool import Pool

# Flops this near to each other differ by rounding of widths more than by intent.
NEAR_FLOPS = 0.05


@dataclass(frozen=True)
class Estimate:
    """The error of each candidate, and how surely it is known.

    Args:
        error: What is made small; NaN where it is not known.
        uncertainty: Of each: errors that differ by less are equal.

    Example:
        >>> found = Estimate(np.array([20.0, 20.1]), np.array([0.2, 0.1]))
        >>> found.margin(1).tolist()
        [0.2, 0.1]
    """

    error: Floats
    uncertainty: Floats

    def margin(self, best: int) -> Floats:
        """Return for each candidate the difference from one of them that still means nothing."""
        return np.asarray(np.maximum(self.uncertainty, self.uncertainty[best]))


class Objective(Protocol):
    """A model of the error."""

    @property
    def name(self) -> str:
        """What the error is, such as top1_err."""

    @property
    def says(self) -> str:
        """What there is to know of the model, as a sentence."""

    @property
    def leads(self) -> str:
        """What the best has, such as the least error."""

    def estimate(self, pool: Pool) -> Estimate:
        """Return the error of each candidate."""

    def show(self, error: float) -> str:
        """Write an error."""

    def show_loss(self, worse: float, better: float) -> str:
        """Write what one error is worse than another."""


@dataclass(frozen=True)
class TableErrors:
    """Errors that the user knows: of published results, or of trials.

    Args:
        name: The name of the column.
        errors: The error of each candidate of the pool; NaN where there is none.
        uncertainty: Errors that differ by less are equal.

    Example:
        >>> known = TableErrors("top1_err", (20.0, 21.5), uncertainty=0.1)
        >>> known.estimate(Pool(("a", "b"), ("", ""), {})).error.tolist(), known.show(20)
        ([20.0, 21.5], 'top1_err 20.00')
    """

    name: str
    errors: tuple[float, ...]
    uncertainty: float = 0.0

    @property
    def says(self) -> str:
        """What there is to know of the model."""
        if not self.uncertainty:
            return f"Errors are those of the column {self.name}."
        return (
            f"Errors are those of the column {self.name}; less than {self.uncertainty:g} is equal."
        )

    @property
    def leads(self) -> str:
        """What the best has."""
        return f"the least {self.name}"

    def estimate(self, pool: Pool) -> Estimate:
        """Return the errors of the table."""
        if len(self.errors) != len(pool):
            raise InputError(
                f"There are {len(self.errors)} errors for {len(pool)} candidates. Give one "
                "for each."
            )
        return Estimate(np.array(self.errors, float), np.full(len(pool), self.uncertainty))

    def show(self, error: float) -> str:
        """Write an error."""
        return f"{self.name} {error:.2f}"

    def show_loss(self, worse: float, better: float) -> str:
        """Write what one error is worse than another."""
        return f"{self.name} {worse - better:+.2f}"


@dataclass(frozen=True)
class FlopsStandIn:
    """Flops in place of accuracy: the more, the better, and nearly equal ones are equal.

        error = −ln flops

    Args:
        uncertainty: The share of flops below which networks are equal.

    Example:
        >>> pool = Pool(("a", "b"), ("", ""), {"flops": np.array([1e9, 2e9])})
        >>> found = FlopsStandIn().estimate(pool)
        >>> bool(found.error[1] < found.error[0]), FlopsStandIn().show(found.error[1])
        (True, 'flops 2.00G')
    """

    uncertainty: float = NEAR_FLOPS

    @property
    def name(self) -> str:
        """What the error is."""
        return "flops"

    @property
    def says(self) -> str:
        """What there is to know of the model."""
        near = f"; within {100 * self.uncertainty:g} % they are equal" if self.uncertainty else ""
        return f"No errors were given: flops stand in for accuracy{near}."

    @property
    def leads(self) -> str:
        """What the best has."""
        return "the most flops"

    def estimate(self, pool: Pool) -> Estimate:
        """Return −ln flops."""
        flops = pool.values.get("flops")
        if flops is None:
            raise InputError(
                "Flops stand in for accuracy, but those of the candidates are not known. Give "
                "them, or errors."
            )
        error = -np.log(np.where(flops > 0, flops, np.nan))
        return Estimate(error, np.full(len(pool), float(np.log1p(self.uncertainty))))

    def show(self, error: float) -> str:
        """Write the flops."""
        return f"flops {format_count(float(np.exp(-error)))}"

    def show_loss(self, worse: float, better: float) -> str:
        """Write what flops one has beside another."""
        return f"flops {100 * float(np.expm1(better - worse)):+.1f} %"
