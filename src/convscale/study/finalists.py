"""Which candidates are worth measuring: the best, but no near copies of each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterator, Sequence
from math import log

import numpy as np

from convscale.selection.lattice import UNIT, Exponents, exponents_of
from convscale.strategy import Step
from convscale.study.zoo_selection import Entry, ZooSelection

_APART = UNIT // 10  # a share of exponents by which strategies differ
_NEAR = log(1.1)  # flops of near copies
_OF_ONE = 2  # finalists of one strategy


def key_of(entry: Entry) -> Hashable:
    """Return what tells networks apart that are to be measured.

    Example:
        >>> key_of(Entry(None, "resnet18", 64))
        ('resnet18', '64')
    """
    return entry.network, str(entry.resolution)


def ranked(found: ZooSelection) -> list[int]:
    """Return the places of what fits, the best first: the choice, its equals, then by error.

    Example:
        >>> ranked.__name__
        'ranked'
    """
    own = found.found
    error, labels = own.estimate.error, own.pool.labels
    rest = sorted(np.flatnonzero(own.fits), key=lambda at: (error[at], labels[at]))
    return list(dict.fromkeys([own.chosen, *own.equal, *map(int, rest)]))


def quickest(found: ZooSelection) -> list[int]:
    """Return the places of what fits, those that are predicted to be the fastest first.

    Example:
        >>> quickest.__name__
        'quickest'
    """
    own = found.found
    times, labels = own.pool.values["latency_ms"], own.pool.labels
    fits = map(int, np.flatnonzero(own.fits))
    return sorted(fits, key=lambda at: (times[at], labels[at]))


def finalists(
    found: ZooSelection, skip: Collection[Hashable] = (), order: Sequence[int] | None = None
) -> Iterator[int]:
    """Yield the places of candidates to be measured, the best first.

    A near copy of one before it is none: scaled from the same base, by exponents that differ by
    less than 0.1 in each share, with flops within 10 %. Of one strategy there are at most two.

    Args:
        found: The choice.
        skip: The keys of those that were measured already.
        order: The places to take them from; by default as they are ranked.

    Example:
        >>> finalists.__name__
        'finalists'
    """
    taken: list[int] = []
    seen = set(skip)
    strategies: Counter[Hashable] = Counter()
    for at in ranked(found) if order is None else order:
        entry = found.entries[at]
        strategy = _strategy(entry)
        if key_of(entry) in seen or (strategy is not None and strategies[strategy] >= _OF_ONE):
            continue
        if any(_copies(found, at, other) for other in taken):
            continue
        taken.append(at)
        seen.add(key_of(entry))
        strategies[strategy] += 1
        yield at


def _strategy(entry: Entry) -> Hashable:
    """Return the strategy of a scaled candidate with its base; None of one from a table."""
    own = entry.scaled
    if own is None or own.ask.strategy is None:
        return None
    return own.source.name, own.ask.strategy.name


def _copies(found: ZooSelection, at: int, other: int) -> bool:
    """Tell whether two candidates are near copies."""
    first, second = found.entries[at].scaled, found.entries[other].scaled
    if first is None or second is None or first.source.name != second.source.name:
        return False
    flops = found.found.pool.values["flops"]
    if abs(log(flops[at] / flops[other])) >= _NEAR:
        return False
    one, two = _exponents(found.entries[at]), _exponents(found.entries[other])
    if one is None or two is None:
        return False
    pairs = [
        (one.depth, two.depth),
        (one.width, two.width),
        (one.resolution, two.resolution),
        (one.group, two.group),
    ]
    return all(abs(a - b) < _APART for a, b in pairs)


def _exponents(entry: Entry) -> Exponents | None:
    own = entry.scaled
    if own is None or own.ask.strategy is None or isinstance(own.ask.strategy, Step):
        return None
    return exponents_of(own.ask.strategy, follows=own.source.follows)
