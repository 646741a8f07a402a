"""Constraints as values: what is limited, which way, and by how much a candidate misses it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from convscale.errors import InputError
from convscale.quantities import check_positive
from convscale.selection.metrics import Metric, metric

Floats = npt.NDArray[np.float64]
Sense = Literal["<=", ">=", "%"]
_SAID: dict[Sense, str] = {"<=": "at most", ">=": "at least", "%": "a multiple of"}
# What is computed in two ways may differ in the last digits.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Constraint:
    """A limit of one quantity, in the unit of its name.

    Args:
        on: The name of the quantity, such as latency_ms.
        limit: Its limit.
        sense: `<=` at most, `>=` at least, `%` a multiple of.

    Example:
        >>> held = Constraint("latency_ms", 5.0)
        >>> held.excess(np.array([4.0, 6.0])).tolist(), held.relative(np.array([6.0])).tolist()
        ([0.0, 1.0], [0.2])
        >>> str(held), held.sentence
        ('latency_ms<=5ms', 'latency at most 5.00 ms')
    """

    on: str
    limit: float
    sense: Sense = "<="

    def __post_init__(self) -> None:
        """Refuse a limit of nothing that is known, or that nothing can keep."""
        found = metric(self.on)
        object.__setattr__(self, "on", found.name)
        check_positive(self.limit, what=f"limit of the {found.title}")
        if self.sense not in _SAID:
            raise InputError(f"Unknown sense {self.sense!r}. Use <=, >= or %.")

    @property
    def metric(self) -> Metric:
        """The quantity."""
        return metric(self.on)

    def __str__(self) -> str:
        """Write it so that `parse_constraint` gives exactly it again."""
        return f"{self.on}{self.sense}{self.metric.write(self.limit)}"

    @property
    def sentence(self) -> str:
        """Say what is asked."""
        return f"{self.metric.title} {_SAID[self.sense]} {self.bound}"

    @property
    def bound(self) -> str:
        """The limit with its unit; a size also in GB or MB, where it is whole in them.

        Example:
            >>> Constraint("memory_bytes", 8e9).bound, Constraint("memory_bytes", 2.0**30).bound
            ('7.45 GiB (8 GB)', '1.00 GiB')
        """
        shown = self.metric.show(self.limit)
        if self.metric.unit != "B" or self.limit % 1e6:
            return shown
        step, unit = (1e9, "GB") if self.limit >= 1e9 else (1e6, "MB")
        return f"{shown} ({self.limit / step:g} {unit})"

    def excess(self, values: Floats) -> Floats:
        """Return by how much values miss the limit, in their unit; 0 where they keep it."""
        if self.sense == "%":
            limit = round(self.limit)
            return np.asarray(limit - np.gcd(np.rint(values).astype(np.int64), limit), float)
        over = values - self.limit if self.sense == "<=" else self.limit - values
        return np.where(over > _ROUNDING * self.limit, over, 0.0)

    def relative(self, values: Floats) -> Floats:
        """Return by how much values miss the limit, as a share of it."""
        return self.excess(values) / self.limit

    def miss(self, value: float) -> str:
        """Say by how much one value misses the limit.

        Example:
            >>> Constraint("latency_ms", 5.0).miss(6.0)
            'latency 6.00 ms, 1.00 ms (20.0 %) over the limit of 5.00 ms'
        """
        own = self.metric
        if self.sense == "%":
            return f"{own.title} {own.show(value)}, no multiple of {own.show(self.limit)}"
        one = np.array([value])
        by, share = float(self.excess(one)[0]), float(self.relative(one)[0])
        side = "over" if self.sense == "<=" else "under"
        return (
            f"{own.title} {own.show(value)}, {own.show(by)} ({100 * share:.1f} %) {side} the "
            f"limit of {self.bound}"
        )


def parse_constraint(text: str) -> Constraint:
    """Read a constraint as it is written: quantity, sense and limit with its unit.

    Raises:
        InputError: If it is none.

    Example:
        >>> parse_constraint("latency<=5ms"), parse_constraint("width_multiple%8").limit
        (Constraint(on='latency_ms', limit=5.0, sense='<='), 8.0)
    """
    for sense in _SAID:
        name, found, limit = text.partition(sense)
        if found:
            own = metric(name.strip())
            return Constraint(own.name, own.read(limit.strip()), sense)
    raise InputError(
        f"Cannot read {text!r} as a constraint. Write a quantity, <=, >= or % (a multiple of), "
        "and a limit: latency<=5ms."
    )


def parse_constraints(given: str | Sequence[str | Constraint]) -> tuple[Constraint, ...]:
    """Read constraints: values, their texts, or one text with commas between them.

    Raises:
        InputError: If one of them is none.

    Example:
        >>> [str(one) for one in parse_constraints("latency<=5ms,params<=40M")]
        ['latency_ms<=5ms', 'params<=40000000']
    """
    listed = given.split(",") if isinstance(given, str) else given
    if not isinstance(listed, Sequence):
        raise InputError(f"The limits are {given!r}. Write a list, as in ['latency<=5ms'].")
    for one in listed:
        if not isinstance(one, str | Constraint):
            raise InputError(f"A limit is {one!r}. Write it as text, as in 'latency<=5ms'.")
    return tuple(parse_constraint(one) if isinstance(one, str) else one for one in listed)


def parse_range(text: str, on: str) -> tuple[Constraint, ...]:
    """Read a range of a quantity: 160..320, from 160 on (160..), up to 320 (..320).

    Raises:
        InputError: If it is none, or empty.

    Example:
        >>> [str(one) for one in parse_range("160..320", "resolution_px")]
        ['resolution_px>=160', 'resolution_px<=320']
    """
    own = metric(on)
    low, found, high = (part.strip() for part in text.partition(".."))
    if not found or not (low or high):
        raise InputError(
            f"Cannot read {text!r} as a range of the {own.title}. Write 160..320, 160.. or ..320."
        )
    ends: tuple[tuple[str, Sense], ...] = ((low, ">="), (high, "<="))
    made = [Constraint(own.name, own.read(end), sense) for end, sense in ends if end]
    if len(made) == 2 and made[0].limit > made[1].limit:
        raise InputError(
            f"The range {text} of the {own.title} is empty. Write the lower end first, as in "
            f"{high}..{low}."
        )
    return tuple(made)


def check_known(constraint: Constraint, values: Floats | None, labels: Sequence[str]) -> Floats:
    """Return the values that a constraint limits, all of which are known.

    Raises:
        InputError: If some are not: what is not known is never taken to fit.

    Example:
        >>> check_known(Constraint("params", 1e6), np.array([np.nan]), ["net"])
        Traceback (most recent call last):
        convscale.errors.InputError: The params of net are not known, and params at most 1.00M was
        asked for. Give them, or leave the candidate out.
    """
    title = constraint.metric.title
    if values is None:
        raise InputError(
            f"The {title} of the candidates is not known, and {constraint.sentence} was asked "
            f"for. Give it, or leave the constraint out."
        )
    unknown = [label for label, value in zip(labels, values, strict=True) if np.isnan(value)]
    if unknown:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        verb, it = ("are", "them") if title in ("flops", "params", "acts") else ("is", "it")
        which = "candidates" if more else "candidate"
        raise InputError(
            f"The {title} of {unknown[0]}{more} {verb} not known, and {constraint.sentence} was "
            f"asked for. Give {it}, or leave the {which} out."
        )
    return values
