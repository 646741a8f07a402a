"""Products of tensors: what they sum over is one, the other dimensions go into the result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from convscale.network.channels.labels import Label, Labels, find_along, varying
from convscale.network.channels.products import ATTENTION
from convscale.network.channels.ties import Ties, channel_units, tensors_in, tie_or_pin


def _contraction(ties: Ties, left: torch.Tensor, right: torch.Tensor, output: Any) -> None:
    """Tie what a matrix product sums over; carry the other dimensions into the result."""
    for labels in _summed(ties, left, right, output):
        ties.produced += [label.reshape(-1) for label in labels]
    if output.ndim == 3:  # a batch of products: heads
        ties.mark_product(output)


def _summed(ties: Ties, left: torch.Tensor, right: torch.Tensor, output: Any) -> list[Labels]:
    """Tie the last dimension of one tensor to the last but one of another; return the others."""
    _contracted(ties, left, right)
    outer: list[Labels] = []
    for tensor, inner, other in ((left, left.ndim - 1, right), (right, right.ndim - 2, left)):
        kept = []
        for label in ties.labels(tensor):
            if varying(label) == {0} and _counts_heads(ties, tensor, other):
                ties.pin(label)
            elif inner not in varying(label):
                _tie_batch(ties, label, tensor.ndim)
                kept.append(label)
        outer.append(tuple(kept))
    ties.set_labels(output, ties.joined(outer, output.ndim))
    return outer


def _distances(ties: Ties, _func: Any, bound: dict[str, Any], output: Any) -> None:
    """Tie the coordinates of points whose distances are asked.

    Points that are compared are put out by no layer: a table keeps their number.
    """
    turned = bound["x2"].mT
    ties.set_labels(turned, tuple(lb.swapaxes(-1, -2) for lb in ties.labels(bound["x2"])))
    _summed(ties, bound["x1"], turned, output)


def _trilinear(ties: Ties, _func: Any, bound: dict[str, Any], output: Any) -> None:
    """Tie what a product of three tensors sums over; carry the other dimensions into the result.

    Each tensor lacks some dimensions of the whole, along which it is repeated.
    """
    operands: list[Labels] = []
    gone = bound["sumdim"]
    meeting: dict[int, list[Labels]] = {dim: [] for dim in gone}
    for name, expand in (("i1", "expand1"), ("i2", "expand2"), ("i3", "expand3")):
        lacking = sorted(bound[expand])
        labels = ties.labels(bound[name])
        for dim in lacking:
            labels = tuple(np.expand_dims(label, dim) for label in labels)
        operands.append(labels)
        for dim in set(gone) - set(lacking):
            meeting[dim].append(labels)
    for dim, met in meeting.items():
        found = [label for labels in met for label in labels if dim in varying(label)]
        if len(found) != len(met) or any(len(varying(label)) > 1 for label in found):
            for label in found:
                ties.pin(label)
    whole = ties.joined(operands, output.ndim + len(gone))
    kept = tuple(np.squeeze(lb, tuple(gone)) for lb in whole if not varying(lb) & set(gone))
    ties.produced += [label.reshape(-1) for label in kept]
    ties.set_labels(output, kept)


def _counts_heads(ties: Ties, tensor: torch.Tensor, other: torch.Tensor) -> bool:
    """Tell whether a tensor has units for the heads of another, which keep their number.

    So do weights of attention that are mixed over the heads: what they weigh was cut into heads.
    """
    labels = ties.labels(other)
    cut = any(min(varying(own), default=0) > 0 for own in labels)
    return tensor.ndim == 3 and cut and all(0 not in varying(own) for own in labels)


def _contracted(ties: Ties, left: torch.Tensor, right: torch.Tensor) -> None:
    inner_left, inner_right = left.ndim - 1, right.ndim - 2
    first = [label for label in ties.labels(left) if inner_left in varying(label)]
    second = [label for label in ties.labels(right) if inner_right in varying(label)]
    simple = all(left.ndim - 2 not in varying(label) for label in first) and all(
        right.ndim - 1 not in varying(label) for label in second
    )
    if len(first) == len(second) == 1 and simple:
        _tie_batch(ties, first[0], left.ndim)
        _tie_batch(ties, second[0], right.ndim)
        ties.tie(np.swapaxes(first[0], -1, -2), second[0])
    else:
        for label in (*first, *second):
            ties.pin(label)


def _tie_batch(ties: Ties, label: Label, ndim: int) -> None:
    """Keep the number of heads: products in a batch are tied to the first of them."""
    if ndim == 3 and label.shape[0] > 1 and len(varying(label)) > 1:
        ties.tie(label[:1], label[1:])


def _mm(ties: Ties, _func: Any, bound: dict[str, Any], output: Any) -> None:
    left = next(bound[name] for name in ("mat1", "batch1", "self") if name in bound)
    right = next(bound[name] for name in ("mat2", "batch2") if name in bound)
    _contraction(ties, left, right, output)
    _merged_product(ties, right, output)
    if isinstance(right, torch.nn.Parameter):
        ties.mark_rows(output, right)
    if "mat1" in bound or "batch1" in bound:  # addmm and baddbmm add self
        operands = [ties.labels(output), ties.labels(bound["self"])]
        ties.set_labels(output, ties.joined(operands, output.ndim))


def _mv(ties: Ties, _func: Any, bound: dict[str, Any], output: Any) -> None:
    """Tie what a product with a vector sums over."""
    left = bound["self"]
    right = next(bound[name] for name in ("vec", "tensor", "other") if name in bound)
    inner = left.ndim - 1
    units = find_along(ties.labels(left), inner, left.shape[inner])
    tie_or_pin(ties, units, channel_units(ties, right, 0))
    rows = find_along(ties.labels(left), 0, left.shape[0]) if inner else None
    ties.set_labels(output, () if rows is None else (rows,))


def _attention(ties: Ties, _func: Any, bound: dict[str, Any], output: Any) -> None:
    """Fused attention: queries meet keys along the head width; heads keep their number."""
    query, key, value = bound["query"], bound["key"], bound["value"]
    result = tensors_in(output)[0]
    for tensor in (query, key, value):
        for label in ties.labels(tensor):
            if label.shape[1] > 1:
                ties.tie(label[:, :1], label[:, 1:])
    ties.joined([ties.labels(query), ties.labels(key)], query.ndim)
    ties.set_labels(result, ties.labels(value))


def _merged_product(ties: Ties, right: torch.Tensor, output: torch.Tensor) -> None:
    """Carry axes that share the last dimension of a matrix into the product.

    Its rows are kernels of several experts, which are mixed: their number stays.
    """
    if ties.merged(right):
        ties.merge(output, ties.merged(right))
        ties.pin_tensor(right)


MATRICES: dict[str, Callable[[Ties, Any, dict[str, Any], Any], None]] = {
    **dict.fromkeys(("mm", "addmm", "bmm", "baddbmm"), _mm),
    **dict.fromkeys(("_cdist_forward", "_euclidean_dist"), _distances),
    "_trilinear": _trilinear,
    **dict.fromkeys(("mv", "dot", "vdot"), _mv),
    **dict.fromkeys(ATTENTION, _attention),
}
