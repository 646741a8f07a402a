"""Tensors that meet in an elementwise operator: whose units are no channels there, and stay."""

from __future__ import annotations

import torch

from convscale.network.channels.labels import Label, varying
from convscale.network.channels.ties import Ties


def pin_tables(ties: Ties, operands: list[torch.Tensor]) -> None:
    """Pin the axes of a parameter that meet positions of a feature map (position tables).

    What meets the heads of a product of matrices, or what lies beside the channels of another
    map, is pinned too: their number stays. So is what weighs whole branches.

    Args:
        ties: The ties of the run; the labels that are pinned say nothing any more.
        operands: The tensors that meet.

    Example:
        >>> ties, table = Ties(), torch.nn.Parameter(torch.zeros(1, 3, 1, 1))
        >>> ties.set_labels(table, (ties.fresh(3).reshape(1, 3, 1, 1),))
        >>> pin_tables(ties, [table, torch.zeros(1, 3, 8, 8)])
        >>> len(ties.pinned)
        1
    """
    for table in operands:
        for other in operands:
            if other is table:
                continue
            given = ties.is_table(table) or ties.is_product(other)
            for label in ties.labels(table) if given or ties.labels(other) else ():
                lone = given or len(varying(label)) == 1
                placed = lone and _meets_unlabelled(ties, label, table.ndim, other)
                if placed or _counts_branches(ties, label, table.ndim, other):
                    ties.drop(label)


def _counts_branches(ties: Ties, label: Label, ndim: int, other: torch.Tensor) -> bool:
    """Tell whether units stand for whole branches that are stacked, each of channels of its own.

    Branches are stacked along the first of the dimensions that their channels lie in.
    """
    own = {dim - ndim for dim in varying(label)}
    stacked = ({dim - other.ndim for dim in varying(one)} for one in ties.labels(other))
    return any(own < dims and own == {min(dims)} for dims in stacked)


def _meets_unlabelled(ties: Ties, label: Label, ndim: int, other: torch.Tensor) -> bool:
    back = {dim - ndim for dim in varying(label) if dim - ndim >= -other.ndim}
    known = {dim - other.ndim for own in ties.labels(other) for dim in varying(own)}
    # what is one number, repeated, has no positions
    return any(other.shape[d] > 1 and other.stride(d) and d not in known for d in back)
