"""Grids: axes that several others are laid into, so that their sizes multiply.

Products of all channels with all (bilinear pooling), kernels that are kept in one long row: such
an axis has as many units as its factors have together, times what stays.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from convscale.network.channels.labels import Label, distinct

if TYPE_CHECKING:
    from convscale.network.channels.ties import Ties

Composition = tuple[tuple[int, int], ...]


class Laid(NamedTuple):
    """What a run shows of a grid: its units, those of the axes laid into it, and by what call.

    Example:
        >>> Laid(np.arange(6), (np.arange(6, 8), np.arange(8, 11))).rest
        1
    """

    units: Label
    factors: tuple[Label, ...]
    here: tuple[str, str] | None = None

    @property
    def rest(self) -> int:
        """How often each combination of the factors' units stands in the grid."""
        return len(self.units) // prod(len(factor) for factor in self.factors)


@dataclass(frozen=True)
class Grid:
    """A channel group whose size is a product of sizes, times a number that stays.

    Example:
        >>> Grid(2, (((0, 1),), ((1, 2),)), 9).size([4, 3, 0])
        216
    """

    group: int
    factors: tuple[Composition, ...]
    rest: int = 1

    def size(self, sizes: Sequence[float] | npt.NDArray[np.float64]) -> float:
        """Return the size of the group for given sizes of the others."""
        return self.rest * prod(
            sum(sizes[group] * times for group, times in factor) for factor in self.factors
        )


def lay(ties: Ties, units: Label, factors: Iterable[Label]) -> None:
    """Note that axes are laid into one.

    Example:
        >>> from convscale.network.channels.ties import Ties
        >>> ties = Ties()
        >>> lay(ties, ties.fresh(6), (ties.fresh(2), ties.fresh(3)))
        >>> ties.laid[0].rest
        1
    """
    ties.laid.append(Laid(units, tuple(factors), ties.here))


def meet(ties: Ties, classes: Label) -> bool:
    """Tie the factors of grids that are one, and say whether anything was tied.

    Example:
        >>> from convscale.network.channels.classes import find_classes
        >>> from convscale.network.channels.ties import Ties
        >>> ties = Ties()
        >>> for _ in range(2):
        ...     lay(ties, ties.fresh(4), (ties.fresh(2), ties.fresh(2)))
        >>> ties.tie(ties.laid[0].units, ties.laid[1].units)
        >>> meet(ties, find_classes(ties).of_unit), meet(ties, find_classes(ties).of_unit)
        (True, False)
    """
    alike: dict[bytes, list[Laid]] = defaultdict(list)
    for laid in ties.laid:
        alike[classes[laid.units].tobytes()].append(laid)
    new = [
        (own, other)
        for first, *others in alike.values()
        for laid in others
        if [len(factor) for factor in laid.factors] == [len(factor) for factor in first.factors]
        for own, other in zip(first.factors, laid.factors, strict=True)
        if not np.array_equal(classes[own], classes[other])
    ]
    for own, other in new:
        ties.tie(own, other)
    return bool(new)


def pin_lost(ties: Ties, classes: Label) -> None:
    """Pin the factors of grids that stay, or that are used in any way but whole.

    Example:
        >>> from convscale.network.channels.classes import find_classes
        >>> from convscale.network.channels.ties import Ties
        >>> ties = Ties()
        >>> lay(ties, ties.fresh(4), (ties.fresh(2), ties.fresh(2)))
        >>> ties.pin(ties.laid[0].units[:1])
        >>> pin_lost(ties, find_classes(ties).of_unit)
        >>> [units.tolist() for units in ties.pinned]
        [[0], [4, 5], [6, 7], [0, 1, 2, 3]]
    """
    count = int(classes.max()) + 1 if len(classes) else 0
    for _ in ties.laid:  # a grid may be a factor of another
        pinned = np.zeros(count, dtype=bool)
        for units in ties.pinned:
            pinned[classes[units]] = True
        lost = [
            laid
            for laid in ties.laid
            if pinned[classes[laid.units]].any()
            or len(distinct(classes[laid.units])) < len(laid.units)
        ]
        lost = [one for one in lost if not all(pinned[classes[f]].all() for f in one.factors)]
        if not lost:
            break
        for laid in lost:
            ties.here = laid.here
            for units in (*laid.factors, laid.units):
                ties.pin(units)
    ties.here = None


def completed(grids: Iterable[Grid], sizes: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return sizes of channel groups in which those of grids are their factors' product.

    Example:
        >>> completed([Grid(1, (((0, 1),), ((0, 1),)))], np.array([8.0, 16.0]))
        array([ 8., 64.])
    """
    new = sizes.astype(np.float64)
    for grid in grids:
        new[grid.group] = grid.size(new)
    return new
