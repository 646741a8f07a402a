"""Layers whose width cannot change, and the operator that is why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from convscale.network.channels.channels import Channels
from convscale.network.channels.labels import Label, distinct
from convscale.network.channels.ties import Ties

# Operators that put out the channels of a layer.
_LAYERS = frozenset(("convolution", "mm", "addmm"))


@dataclass(frozen=True)
class Kept:
    """A layer that keeps its width, its flops, and the operator that fixes it, with its module.

    Example:
        >>> Kept("features.2", 1000, "aten.view", "").operator
        'aten.view'
    """

    path: str
    flops: int
    operator: str
    where: str


def kept_layers(
    ties: Ties, channels: Channels, layers: Iterable[tuple[str, str, int, tuple[Label, ...]]]
) -> tuple[Kept, ...]:
    """Return the layers that some operator keeps at their width.

    Those at the input and at the outputs are none of them: their channels are given.

    Args:
        ties: The ties of the run.
        channels: The channels found from them.
        layers: Path, operator, flops and the units put out, of every call with flops.

    Example:
        >>> kept_layers(Ties(), Channels(np.ones(1), np.ones(1, bool), np.zeros(1, int), ()), ())
        ()
    """
    if channels.classes is None or not ties.reasons:
        return ()
    classes = channels.classes.of_unit
    given = distinct(classes[np.concatenate([np.zeros(0, dtype=np.int64), *ties.given])])
    none = len(ties.reasons)
    reason_of = np.full(channels.classes.count, none)
    for position in reversed(range(none)):  # so that the first of several stays
        reason_of[classes[ties.reasons[position][0]]] = position
    found = []
    for path, operator, flops, places in layers:
        fixed = [units for units in places if not channels.scalable(units)]
        if operator in _LAYERS and places and len(fixed) == len(places):
            own = distinct(classes[np.concatenate(fixed)])
            first = min(reason_of[own].tolist(), default=none)
            if first < none and not np.isin(own, given).all():
                _, where, name = ties.reasons[first]
                found.append(Kept(path, flops, name, where))
    return tuple(found)


def not_understood(
    ties: Ties, channels: Channels, operators: Iterable[tuple[str, str]]
) -> tuple[tuple[str, str], ...]:
    """Return of operators without a rule those that keep channels which a layer puts out.

    Others keep what would stay without them: the rows and columns of a learned map.

    Args:
        ties: The ties of the run.
        channels: The channels found from them.
        operators: Module and operator of each call whose shapes did not tell its channels.

    Example:
        >>> not_understood(Ties(), Channels(np.ones(1), np.ones(1, bool), np.zeros(1, int), ()), ())
        ()
    """
    found = dict.fromkeys(operators)
    if channels.classes is None or not found:
        return tuple(found)
    classes = channels.classes.of_unit
    growing = np.zeros(channels.classes.count, dtype=bool)
    for units in ties.produced:
        growing[classes[units]] = True
    keeping = {(path, name) for units, path, name in ties.reasons if growing[classes[units]].any()}
    return tuple(call for call in found if call in keeping)
