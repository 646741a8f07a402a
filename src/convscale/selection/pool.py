"""What is chosen from: candidates with the series that they are of, and their quantities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from convscale.errors import InputError
from convscale.selection.constraints import Constraint, Floats, check_known
from convscale.selection.metrics import metric


@dataclass(frozen=True)
class Pool:
    """Candidates as columns.

    Args:
        labels: The name of each.
        series: The series or strategy that each belongs to.
        values: By quantity, such as latency_ms, the value of each; NaN where it is not known.
        bounds: By quantity, what constraints are held to instead of the value: the end of its
            interval that it keeps with the confidence.
        confidence: The probability with which the bounds are kept.

    Example:
        >>> pool = Pool(("a", "b"), ("", ""), {"latency_ms": np.array([4.0, 6.0])})
        >>> pool.held(Constraint("latency_ms", 5.0)).tolist()
        [4.0, 6.0]
    """

    labels: tuple[str, ...]
    series: tuple[str, ...]
    values: Mapping[str, Floats]
    bounds: Mapping[str, Floats] = field(default_factory=dict)
    confidence: float = 0.5

    def __post_init__(self) -> None:
        """Refuse columns of different lengths."""
        if not self.labels:
            raise InputError("There is no candidate to choose from. Give at least one.")
        columns = {"series": self.series, **self.values, **self.bounds}
        for name, column in columns.items():
            if len(column) != len(self.labels):
                raise InputError(
                    f"{name} has {len(column)} values for {len(self.labels)} candidates. Give one "
                    "for each."
                )
        for name in (*self.values, *self.bounds):
            metric(name)

    def __len__(self) -> int:
        """Return the number of candidates."""
        return len(self.labels)

    def held(self, constraint: Constraint) -> Floats:
        """Return what a constraint is held to.

        Raises:
            InputError: If it is not known for every candidate.
        """
        own = self.bounds.get(constraint.on, self.values.get(constraint.on))
        return check_known(constraint, own, self.labels)

    def miss(self, constraint: Constraint, at: int) -> str:
        """Say by how much a candidate misses a constraint."""
        said = constraint.miss(float(self.held(constraint)[at]))
        return (
            f"{said} at {100 * self.confidence:g} % confidence" if self.sure(constraint) else said
        )

    def asked(self, constraint: Constraint) -> str:
        """Say what a constraint asks for."""
        sure = f" with {100 * self.confidence:g} % confidence" if self.sure(constraint) else ""
        return constraint.sentence + sure

    def sure(self, constraint: Constraint) -> bool:
        """Tell whether a constraint is held to the end of an interval."""
        return constraint.on in self.bounds and self.confidence > 0.5

    def violations(self, constraints: Sequence[Constraint]) -> Floats:
        """Return a row a constraint: by what share of its limit each candidate misses it."""
        rows = [constraint.relative(self.held(constraint)) for constraint in constraints]
        return np.array(rows).reshape(len(rows), len(self))

    def only(self, kept: Sequence[int]) -> Pool:
        """Return some of the candidates, in the order given.

        Example:
            >>> Pool(("a", "b"), ("", ""), {}).only([1]).labels
            ('b',)
        """
        at = np.asarray(kept, dtype=np.intp)
        return Pool(
            tuple(self.labels[i] for i in at),
            tuple(self.series[i] for i in at),
            {name: column[at] for name, column in self.values.items()},
            {name: column[at] for name, column in self.bounds.items()},
            self.confidence,
        )
