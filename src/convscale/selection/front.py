"""The Pareto front: candidates that no other one beats in everything. No torch here."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from convscale.selection.constraints import Floats


def undominated(points: Floats) -> npt.NDArray[np.bool_]:
    """Tell which rows no other row dominates; less is better in every column.

    A row dominates another that it is not above in any column and below in at least one. Of
    equal rows none dominates the other.

    Args:
        points: A row a candidate, a column a quantity.

    Example:
        >>> undominated(np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 3.0], [1.0, 3.0]])).tolist()
        [True, True, False, True]
    """
    kept = np.zeros(len(points), dtype=bool)
    # in this order no row is dominated by a later one, except by one equal to it
    order = np.lexsort(points.T[::-1]) if len(points) else np.array([], dtype=np.intp)
    front = np.empty((0, points.shape[1]))
    for at in order:
        row = points[at]
        below = (front <= row).all(axis=1)
        if not (below & (front < row).any(axis=1)).any():
            kept[at] = True
            if not below.any():
                front = np.vstack([front, row])
    return kept
