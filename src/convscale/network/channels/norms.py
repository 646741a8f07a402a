"""Norms over groups of channels: how many groups a norm has when its width changes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from math import log
from typing import NamedTuple

from convscale.network.channels.labels import Label
from convscale.network.modules.numbers import Place


class Norm(NamedTuple):
    """A call of a norm over groups of channels: its units, how many groups, and who says so.

    `place` is the attribute that holds their number; None where it is not known, so that the
    number stays.

    Example:
        >>> import numpy as np
        >>> Norm(np.arange(64), 32).alone
        False
    """

    units: Label
    groups: int
    place: Place | None = None

    @property
    def alone(self) -> bool:
        """Whether every channel is a group of its own."""
        return self.groups == len(self.units)


def several_of(norms: Iterable[Norm]) -> frozenset[int]:
    """Return the numbers of groups that some norm has over more channels.

    Where another norm has as many over just so many channels, its groups keep their number too.

    Example:
        >>> import numpy as np
        >>> several_of([Norm(np.arange(64), 32), Norm(np.arange(32), 32), Norm(np.arange(8), 8)])
        frozenset({32})
    """
    return frozenset(norm.groups for norm in norms if not norm.alone)


def split_norms(norms: Iterable[Norm]) -> tuple[list[Norm], list[Norm]]:
    """Tell norms whose number of groups must stay from those that an attribute of theirs tells.

    One number for norms of several widths is nobody's own, so it stays.

    Example:
        >>> import numpy as np
        >>> own, shared = Place("norm", "num_groups", None), Place("", "groups", None)
        >>> norms = [Norm(np.arange(8), 4, own), Norm(np.arange(8), 4, shared)]
        >>> [len(part) for part in split_norms([*norms, Norm(np.arange(16), 4, shared)])]
        [2, 1]
    """
    widths: dict[Place | None, set[int]] = defaultdict(set)
    norms = list(norms)
    for norm in norms:
        widths[norm.place].add(len(norm.units))
    free = [norm.place is not None and len(widths[norm.place]) == 1 for norm in norms]
    return (
        [norm for norm, own in zip(norms, free, strict=True) if not own],
        [norm for norm, own in zip(norms, free, strict=True) if own],
    )


def is_roomy(base: int, groups: int, width: int) -> bool:
    """Tell whether a width leaves groups of several channels, where the base has such.

    Example:
        >>> is_roomy(64, 32, 32), is_roomy(64, 32, 64), is_roomy(32, 32, 32)
        (False, True, True)
    """
    return width // groups >= min(2, base // groups)


def groups_at(base: int, groups: int, width: int) -> int:
    """Return the number of groups of a norm when its width changes.

    The number stays where it divides the new width; else the channels of a group stay; where
    they do not divide it either, it becomes the nearest number that does.

    Args:
        base: The width of the base network.
        groups: Its number of groups.
        width: The new width.

    Example:
        >>> groups_at(64, 32, 96), groups_at(64, 32, 48), groups_at(64, 32, 45)
        (32, 24, 45)
    """
    if width % groups == 0 and is_roomy(base, groups, width):
        return groups
    own = base // groups
    return width // own if width % own == 0 else nearestgcd(width, groups)


def nearestgcd(number: int, value: float) -> int:
    """Return the divisor of a number that is nearest to a value, by ratio.

    Example:
        >>> nearestgcd(84, 7.9)
        7
    """
    divisors = [d for d in range(1, int(number**0.5) + 1) if number % d == 0]
    divisors += [number // d for d in divisors]
    return min(divisors, key=lambda divisor: abs(log(divisor / value)))
