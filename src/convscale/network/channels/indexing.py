"""Operators that take entries by an index: channels whose numbers are written down stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from convscale.network.channels.labels import find_along, varying
from convscale.network.channels.ties import Ties


def index_select(ties: Ties, _func: Any, bound: dict[str, Any], output: Any) -> None:
    """Take some entries along one dimension: channels in an order that is written down stay."""
    ties.pin_tensor(bound["index"])
    x, dim = bound["self"], bound["dim"] % max(1, bound["self"].ndim)
    for label in ties.labels(x):
        if dim in varying(label):
            ties.pin(label)
    whole = x.shape == output.shape
    ties.set_labels(output, tuple(lb for lb in ties.labels(x) if whole or dim not in varying(lb)))


def gather(ties: Ties, _func: Any, bound: dict[str, Any], output: Any) -> None:
    """Take entries along one dimension; the channels along others stay what they are."""
    x, dim = bound["self"], bound["dim"] % max(1, output.ndim)
    kept = []
    for label in ties.labels(x):
        whole = all(x.shape[d] == output.shape[d] for d in varying(label))
        if dim in varying(label) or not whole:
            ties.pin(label)
        else:
            kept.append(label)
    ties.set_labels(output, tuple(kept))


def taken(
    ties: Ties, dim: int, index: torch.Tensor, bound: dict[str, Any], output: torch.Tensor
) -> None:
    """Take channels by an index: those that are written down stay, those found in the run need not.

    The latter has a number for each channel, or as many as an attribute says.
    """
    x = bound["self"]
    own = find_along(ties.labels(index), 0, index.shape[0]) if index.ndim == 1 else None
    units = find_along(ties.labels(x), dim, x.shape[dim])
    made = (
        own is not None
        and units is not None
        and any(
            len(f) == len(own) and np.array_equal(np.sort(own), np.sort(f))
            for f in (units, *ties.filling)
        )
    )
    if own is None or units is None or not made or len(own) != len(units):
        index_select(ties, None, {"self": x, "dim": dim, "index": index}, output)
        return
    ties.tie(units, own)
    ties.set_labels(output, ties.labels(x))
