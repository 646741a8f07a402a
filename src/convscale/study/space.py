"""Which scaled versions of networks are candidates: strategies, factors, the bases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from convscale.errors import InputError
from convscale.quantities import (
    Resolution,
    check_count,
    check_positive,
    format_resolution,
    parse_number,
)
from convscale.selection.constraints import Constraint
from convscale.strategy import Step, Strategy, parse_strategy
from convscale.strategy.notation import named_strategies
from convscale.strategy.registry import published_strategies
from convscale.study.alpha import ALPHAS

OWN_LIMITS = frozenset(("resolution_px", "width_multiple"))
# Of these alone, an input side is limited by none: no factors beyond are tried if not asked for.
_SIZES = frozenset(("params", "download_bytes", *OWN_LIMITS))
MOST_FACTOR = 256.0
_LOW, _UNLIMITED = 1 / 256, 16.0


@dataclass(frozen=True)
class Space:
    """Which scaled versions are candidates.

    Args:
        strategies: Their names; all of the registry by default.
        exponents: Whether exponents between them are tried too; by default where none are named.
        candidates: The most candidates of a base.
        factors: The least and the most factor; 1/256 to 256 by default, and to 16 where nothing
            that grows with the resolution is limited.
        resolution: The bases' input side in px; their own by default.
        rounding: The rounding rule; for paper families the authors' by default.
        num_classes: Classes of networks made from a name.
        in_chans: Input channels of networks made from a name.

    Example:
        >>> Space(strategies=("w", "dWr")).between, Space().between
        (False, True)
    """

    strategies: tuple[str | Strategy, ...] | None = None
    exponents: bool | None = None
    candidates: int | None = None
    factors: tuple[float, float] | None = None
    resolution: Resolution | None = None
    rounding: str | None = None
    num_classes: int | None = None
    in_chans: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be searched.

        Raises:
            InputError: If nothing may be tried, or the factors are no range that can be built.
        """
        if self.candidates is not None:
            check_count(self.candidates, what="number of candidates")
        if isinstance(self.strategies, str):
            listed = tuple(name.strip() for name in self.strategies.split(","))
            object.__setattr__(self, "strategies", listed)
        if self.factors is not None:
            if not isinstance(self.factors, tuple) or len(self.factors) != 2:
                raise InputError(
                    f"The range of factors is {self.factors!r}. Write its two ends, as in "
                    "(0.25, 8)."
                )
            low, high = (check_positive(end, what="factor") for end in self.factors)
            _check_range(low, high)

    @property
    def between(self) -> bool:
        """Whether exponents between strategies are tried."""
        return self.strategies is None if self.exponents is None else self.exponents


def _check_range(low: float, high: float) -> None:
    if low > high:
        raise InputError(
            f"The range of factors {low:g}..{high:g} is empty. Write the lower end first, as in "
            f"{high:g}..{low:g}."
        )
    if low < _LOW or high > MOST_FACTOR:
        raise InputError(
            f"The range of factors is {low:g}..{high:g}. Write one between {_LOW:g} and "
            f"{MOST_FACTOR:g}."
        )


def parse_factors(text: str) -> tuple[float, float]:
    """Read a range of scale factors: 0.25..8, from 1 on (1..), up to 8 (..8).

    Raises:
        InputError: If it is none.

    Example:
        >>> parse_factors("0.25..8"), parse_factors("..8")
        ((0.25, 8.0), (0.00390625, 8.0))
    """
    low, found, high = (part.strip() for part in text.partition(".."))
    if not found or not (low or high):
        raise InputError(f"Cannot read {text!r} as a range of factors. Write 0.25..8, 1.. or ..8.")
    return (
        parse_number(low, what="factor") if low else _LOW,
        parse_number(high, what="factor") if high else MOST_FACTOR,
    )


def strategies_of(names: Sequence[str | Strategy] | None) -> tuple[Strategy, ...]:
    """Return the strategies of names; all of the registry for None, equal ones once.

    A table's name stands for all of its entries.

    Raises:
        InputError: If there is no such strategy.

    Example:
        >>> [one.name for one in strategies_of(["dWr", "dWr@0.8", "tinynet"])][:2]
        ['dWr', 'tinynet@a']
    """
    tables = {one.name: one for one in published_strategies()}
    found: list[Strategy] = []
    everything: list[str | Strategy] = [*named_strategies(), *ALPHAS, *tables]
    for name in everything if names is None else names:
        if isinstance(name, str) and name in tables:
            table = tables[name]
            found += [table.formula] if table.formula is not None else table.entries
        else:
            found.append(parse_strategy(name) if isinstance(name, str) else name)
    if not found:
        raise InputError("The list of strategies is empty. Write at least one, as in w,dWr.")
    known: dict[object, Strategy] = {}
    for one in found:
        shares = tuple(round(share, 9) for share in (one.depth, one.width, one.resolution))
        same = one.name if isinstance(one, Step) else (shares, one.group_width, one.rules)
        known.setdefault(same, one)
    return tuple(known.values())


def factors_of(space: Space, limits: Sequence[Constraint]) -> tuple[float, float]:
    """Return the least and the most factor that are tried.

    Args:
        space: Which scaled versions are candidates.
        limits: The constraints.

    Example:
        >>> factors_of(Space(factors=(0.5, 2.0)), [])
        (0.5, 2.0)
    """
    if space.factors is not None:
        return space.factors
    open_ended = all(one.on in _SIZES for one in limits)
    sides = any(one.on == "resolution_px" and one.sense == "<=" for one in limits)
    return _LOW, _UNLIMITED if open_ended and not sides else MOST_FACTOR


def options_of(space: Space) -> tuple[str, ...]:
    """Return the options of commands by which the bases are what they were here.

    Example:
        >>> options_of(Space(resolution=160))
        ('--resolution', '160')
    """
    given = {
        "--resolution": None if space.resolution is None else format_resolution(space.resolution),
        "--num-classes": space.num_classes,
        "--in-chans": space.in_chans,
    }
    return tuple(
        word for name, value in given.items() if value is not None for word in (name, str(value))
    )
