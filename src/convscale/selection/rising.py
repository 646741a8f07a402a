"""The best path through candidates along which their size never falls. No torch here."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from convscale.selection.constraints import Floats


def rising_path(
    allowed: npt.NDArray[np.bool_],
    first: Floats,
    second: Floats,
    sizes: Floats,
    names: npt.NDArray[np.str_],
) -> tuple[int, ...] | None:
    """Return a candidate for each step, so that none is smaller than the one before it.

    Of all such paths it has the least sum of the first quantity, and of equal ones that of the
    second; where both are equal, names decide.

    Args:
        allowed: A row a step, a column a candidate: whether it may be taken.
        first: The quantity whose sum is made small.
        second: What decides between equal sums.
        sizes: What never falls.
        names: The name of each candidate.

    Returns:
        For each step the place of its candidate; None where there is no path.

    Example:
        >>> allowed = np.array([[True, True, False], [True, True, True]])
        >>> loss, none = np.array([2.0, 1.0, 0.5]), np.zeros(3)
        >>> rising_path(allowed, loss, none, np.array([1.0, 2.0, 1.5]), np.array(["a", "b", "c"]))
        (1, 1)
    """
    order = np.lexsort((names, sizes))
    rows, one, two, size = allowed[:, order], first[order], second[order], sizes[order]
    reach = np.searchsorted(size, size, side="right") - 1  # the last that is no larger
    sums = np.where(rows[0], one, np.inf), np.where(rows[0], two, np.inf)
    back: list[npt.NDArray[np.intp]] = []
    for row in rows[1:]:
        before = _first_least(_ranks(*sums))[reach]
        back.append(before)
        totals = sums[0][before] + one, sums[1][before] + two
        sums = np.where(row, totals[0], np.inf), np.where(row, totals[1], np.inf)
    at = int(np.argmin(_ranks(*sums)))
    if not np.isfinite(sums[0][at]):
        return None
    path = [at]
    for before in reversed(back):
        path.append(int(before[path[-1]]))
    return tuple(int(order[place]) for place in reversed(path))


def _ranks(first: Floats, second: Floats) -> npt.NDArray[np.intp]:
    """Return how many are less: by the first, then by the second, then by their place."""
    ranks = np.empty(len(first), dtype=np.intp)
    ranks[np.lexsort((second, first))] = np.arange(len(first))
    return ranks


def _first_least(ranks: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Return for each place where the least of all up to it stands."""
    least = np.minimum.accumulate(ranks)
    own = np.where(ranks == least, np.arange(len(ranks)), 0)
    return np.maximum.accumulate(own)
