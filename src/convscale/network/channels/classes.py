"""The classes of units: which are one, by all that a run said of them.

Nearly all ties are of units that were made together with others that were, element by element.
These are joined as wholes, which takes a step each instead of one for every unit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from convscale.network.channels.labels import Label
from convscale.network.channels.ties import Ties


@dataclass(frozen=True)
class Classes:
    """The class of every unit, and which units made together are of the same classes.

    Example:
        >>> ties = Ties()
        >>> a, b = ties.fresh(2), ties.fresh(2)
        >>> ties.tie(a, b)
        >>> find_classes(ties).of_unit
        array([0, 1, 0, 1])
    """

    of_unit: Label
    _made: Mapping[int, Label]
    _first: Mapping[int, int]

    @property
    def count(self) -> int:
        """The number of classes."""
        return int(self.of_unit.max()) + 1 if len(self.of_unit) else 0

    def key(self, units: Label) -> int | None:
        """Return what labels have in common that are of the same classes; None where unknown.

        Example:
            >>> ties = Ties()
            >>> a, b = ties.fresh(2), ties.fresh(2)
            >>> ties.tie(a, b)
            >>> found = find_classes(ties)
            >>> found.key(a) == found.key(b), found.key(a[:1])
            (True, None)
        """
        start = first_of_whole(self._made, units)
        return None if start is None else self._first.get(start, start)

    def distinct(self, labels: Iterable[Label]) -> Iterator[Label]:
        """Yield the classes of labels, those that are known to be the same once.

        Example:
            >>> ties = Ties()
            >>> a, b = ties.fresh(2), ties.fresh(2)
            >>> ties.tie(a, b)
            >>> list(find_classes(ties).distinct([a, b]))
            [array([0, 1])]
        """
        seen: set[int] = set()
        for units in labels:
            key = self.key(units)
            if key is None or key not in seen:
                yield self.of_unit[units]
            if key is not None:
                seen.add(key)


def first_of_whole(made: Mapping[int, Label], label: Label) -> int | None:
    """Return the first of the units that were made together, if a label has them all in order.

    Args:
        made: All units by the identity of the array that they were made as.
        label: The label.

    Example:
        >>> ties = Ties()
        >>> _, units = ties.fresh(2), ties.fresh(4)
        >>> labels = units.reshape(1, 4), units[:2], units[::-1]
        >>> [first_of_whole(ties.made, label) for label in labels]
        [2, None, None]
    """
    owner = label if label.base is None else label.base
    if id(owner) not in made or label.size != owner.size:
        return None
    return int(owner[0]) if label.size and label.flags.c_contiguous else None


def find_classes(ties: Ties) -> Classes:
    """Return the classes of all units: the connected components of the ties.

    Example:
        >>> ties = Ties()
        >>> a, b = ties.fresh(3), ties.fresh(3)
        >>> ties.tie(a, b)
        >>> ties.tie(a[:1], a[1:2])
        >>> find_classes(ties).of_unit
        array([0, 0, 1, 0, 0, 1])
    """
    first, rest = _joined(ties)
    gone, kept = _merged(first, rest)
    number = np.ones(ties.units, dtype=np.int64)
    number[gone] = 0
    for start, (_, size) in first.items():
        number[start : start + size] = 0
    np.cumsum(number, out=number)  # in place: there may be a hundred million
    number -= 1
    number[gone] = number[kept]
    for start, (root, size) in first.items():
        number[start : start + size] = number[root : root + size]
    return Classes(number, ties.made, {start: root for start, (root, _) in first.items()})


def _merged(
    first: Mapping[int, tuple[int, int]], rest: Sequence[tuple[Label, Label]]
) -> tuple[Label, Label]:
    """Return the units that are tied one by one to some before them, and the first of those.

    Few are: the graph is of these alone.

    Args:
        first: What is joined whole, of which the first units stand for all.
        rest: The ties of single units.
    """
    if not rest:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    starts = np.array([0, *first])
    roots, sizes = np.array([(0, 0), *first.values()]).T
    units = np.concatenate([edge[side].ravel() for side in (0, 1) for edge in rest])
    of = np.searchsorted(starts, units, "right") - 1
    joined = units < starts[of] + sizes[of]
    units = np.where(joined, units - starts[of] + roots[of], units)
    nodes, places = np.unique(units, return_inverse=True)
    pairs = tuple(places.reshape(2, -1))
    graph = coo_array((np.ones(len(pairs[0])), pairs), (len(nodes), len(nodes)))
    found = connected_components(graph, directed=False)[1]
    _, firsts = np.unique(found, return_index=True)
    kept = nodes[firsts[found]]
    gone = nodes != kept
    return nodes[gone], kept[gone]


def _joined(ties: Ties) -> tuple[dict[int, tuple[int, int]], list[tuple[Label, Label]]]:
    """Join what is tied whole.

    Returns:
        The first unit of all that are joined to some before them, with the first of those and
        their number; and the ties that are left.
    """
    before: dict[int, int] = {}
    size: dict[int, int] = {}
    rest = []

    def root(start: int) -> int:
        found = start
        while found in before:
            found = before[found]
        while start != found:  # the way is short from here on
            before[start], start = found, before[start]
        return found

    for left, right in ties.edges:
        one, other = first_of_whole(ties.made, left), first_of_whole(ties.made, right)
        if one is None or other is None:
            rest.append((left, right))
            continue
        low, high = sorted((root(one), root(other)))
        if low != high:
            before[high], size[high] = low, len(left)
    return {start: (root(start), size[start]) for start in sorted(before)}, rest
