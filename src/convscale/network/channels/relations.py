"""For each kind of operator: what it does to labels, and which units it ties together.

Operators are those of PyTorch's dispatcher, where a few dozen stand for everything that modules
and functions do. What is not listed is judged by shapes (`by_shape`), and where shapes do not
tell, its inputs are pinned and the operator is reported as opaque.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from convscale.network.channels.indexing import gather, index_select, taken
from convscale.network.channels.labels import (
    Label,
    Labels,
    distinct,
    find_along,
    reshaped,
    varying,
    vector,
    viewed,
)
from convscale.network.channels.matrices import MATRICES
from convscale.network.channels.meeting import pin_tables
from convscale.network.channels.shaping import FILLS
from convscale.network.channels.ties import Ties, channel_units, tensors_in, tie_or_pin
from convscale.network.channels.windows import WINDOWS

Rule = Callable[[Ties, Any, dict[str, Any], Any], None]

VIEWS = ("view", "_unsafe_view", "reshape", "_reshape_alias", "_reshape_copy", "view_copy")
STRUCTURAL = (
    "permute transpose t slice select split split_with_sizes unsafe_split unsafe_chunk chunk "
    "unbind unsqueeze squeeze expand narrow diagonal unfold flip roll repeat channel_shuffle "
    "unsqueeze_ squeeze_ transpose_ t_ tile swapaxes movedim"
).split()
_COPIES = ("clone", "alias", "detach", "_to_copy")
_COLOURS = 4  # the most channels that an image has
_REDUCTIONS = (
    "mean sum prod amax amin max min std var norm linalg_vector_norm logsumexp median mode any all "
    "std_mean var_mean argmax argmin aminmax nansum"
).split()

# Of tensors that are compared with class indices, or a sequence with another, shapes tell.
_LOSSES = (
    "mse_loss smooth_l1_loss huber_loss soft_margin_loss binary_cross_entropy "
    "binary_cross_entropy_with_logits dist"
).split()


def convolution(ties: Ties, _func: Any, bound: dict[str, Any], output: Any) -> None:
    """Tie a convolution's input to its weight; the output's channels are the weight's."""
    x, weight = bound["input"], bound["weight"]
    groups, transposed = bound["groups"], bound["transposed"]
    units = channel_units(ties, x, 1)
    first, second = channel_units(ties, weight, 0), channel_units(ties, weight, 1)
    if not ties.is_table(weight):
        _keep_window(ties, weight)
    if transposed:
        tie_or_pin(ties, units, first)
        if groups > 1 and units is not None and weight.shape[1] > 1:
            ties.tie_groups(units, groups)
        out = second
        if groups > 1 and weight.shape[1] > 1 and second is not None:
            out = np.tile(second, groups)
        elif groups > 1 and weight.shape[1] == 1 and first is not None:
            rows = first.reshape(groups, -1)  # a fixed number of inputs makes each output
            ties.tie(rows[:, :1], rows)
            out = rows[:, 0]
    elif groups == 1:
        tie_or_pin(ties, units, second)
        out = first
        if units is not None and out is not None and len(units) == len(out) <= _COLOURS:
            ties.same.append((units, out))  # colours in, colours out: as many
    else:
        alike = units is not None and weight.shape[:2] == (groups, 1) == (len(units), 1)
        made = alike and first is None  # one kernel, for as many channels as arrive
        out = units if made else _grouped(ties, units, first, second)
    if bound["bias"] is not None:
        tie_or_pin(ties, out, channel_units(ties, bound["bias"], 0))
    if out is not None:
        ties.produced.append(out)
    spatial = _unchanged(ties, x, output)
    ties.set_labels(output, spatial if out is None else (vector(out, 1, output.ndim), *spatial))


def _keep_window(ties: Ties, weight: torch.Tensor) -> None:
    """Keep the sides of a kernel that the forward pass makes, as out of two weights."""
    for label in ties.labels(weight):
        if min(varying(label), default=0) >= 2:
            ties.pin(label)


def _unchanged(ties: Ties, x: torch.Tensor, output: torch.Tensor) -> Labels:
    """Keep labels along positions, where channels are laid out as positions (1-d attention).

    So are those along the batch, where every channel is an image of its own. Those whose number
    of positions changes are pinned: how it follows is not known.
    """
    kept = []
    for label in ties.labels(x):
        if varying(label) == {0}:
            kept.append(label)
        elif min(varying(label), default=0) >= 2:
            if all(x.shape[d] == output.shape[d] for d in varying(label)):
                kept.append(label)
            else:
                ties.pin(label)
    return tuple(kept)


def _grouped(
    ties: Ties, units: Label | None, first: Label | None, second: Label | None
) -> Label | None:
    if units is None or first is None:
        tie_or_pin(ties, units, None)
        tie_or_pin(ties, first, None)
        tie_or_pin(ties, second, None)
    elif second is None:  # depthwise: each input channel makes a fixed number of outputs
        ties.tie(units[:, None], first.reshape(len(units), -1))
    else:  # group width and number of groups are both free
        ties.grouped.append((units, first, second))
    return first


def like_convolution(ties: Ties, bound: dict[str, Any], output: Any) -> bool:
    """Follow an operator from outside PyTorch that takes a kernel as a convolution does.

    Returns:
        Whether it is one. What else it takes (offsets, masks) keeps its number of channels.

    Example:
        >>> like_convolution(Ties(), {"input": torch.zeros(1, 2, 3, 3)}, None)
        False
    """
    x, weight = bound.get("input"), bound.get("weight")
    if not isinstance(weight, torch.Tensor) or not isinstance(output, torch.Tensor):
        return False
    groups = bound.get("groups", 1)
    alike = (
        isinstance(x, torch.Tensor)
        and x.ndim == weight.ndim == output.ndim > 2
        and (weight.shape[0], weight.shape[1] * groups) == (output.shape[1], x.shape[1])
    )
    if alike:
        for tensor in tensors_in({k: v for k, v in bound.items() if k != "bias"}):
            if tensor is not x and tensor is not weight:
                ties.pin_tensor(tensor)
        bias = bound.get("bias")
        known = bias is not None and ties.labels(bias)  # constants are made as they are needed
        plain = {"bias": bias if known else None, "groups": groups, "transposed": False}
        convolution(ties, None, {"input": x, "weight": weight, **plain}, output)
    return alike


def _norm(ties: Ties, _func: Any, bound: dict[str, Any], output: Any) -> None:
    x = bound["input"]
    operands = [ties.labels(x)]
    for name in ("weight", "bias", "running_mean", "running_var"):
        tensor = bound.get(name)
        if tensor is not None:
            units = channel_units(ties, tensor, 0)
            operands.append(() if units is None else (vector(units, 1, x.ndim),))
    ties.set_labels(tensors_in(output)[0], ties.joined(operands, x.ndim))
    units = find_along(ties.labels(x), 1, x.shape[1])
    if "group" in bound and units is not None:
        ties.note_norm(units, bound["group"])


def _reshape(ties: Ties, _func: Any, bound: dict[str, Any], output: Any) -> None:
    x = bound["self"]
    known = (*ties.labels(x), *ties.merged(x))
    windowed = ties.is_table(x) and x.ndim > 2  # channels stand before windows beside them
    made = [
        (windowed and min(varying(label), default=0) > 1, reshaped(label, x.shape, output.shape))
        for label in known
    ]
    made = sorted(
        (own for own in made if varying(own[1])), key=lambda own: (own[0], -_spread(own[1]))
    )
    labels = [label for _, label in made]
    lone = [
        not any(varying(label) & varying(other) for other in labels if other is not label)
        for label in labels
    ]
    ties.set_labels(output, tuple(own for own, alone in zip(labels, lone, strict=True) if alone))
    ties.merge(output, tuple(own for own, alone in zip(labels, lone, strict=True) if not alone))
    ties.pass_on_product([x], [output])
    if not (ties.is_table(x) or ties.merged(x)):  # of feature maps nothing is cut apart again
        ties.settle_merged([output])
    ties.pass_on_table(x, [output])


def _copy(ties: Ties, func: Any, bound: dict[str, Any], output: Any) -> None:
    by_shape(ties, func, bound, output)
    ties.merge(output, ties.merged(bound["self"]))


def _keeps_merged(name: str, ties: Ties, bound: dict[str, Any]) -> list[torch.Tensor]:
    """Return the operands whose axes may go on sharing a dimension through an operator."""
    if name in (*VIEWS, *_COPIES):
        return [bound["self"]]
    right = bound.get("mat2")
    if right is None or (right.ndim != 2 and len(right) > 1):
        return []
    last = all(varying(label) == {right.ndim - 1} for label in ties.merged(right))
    return [right] if last else []


def settle_merged(ties: Ties, name: str, bound: dict[str, Any]) -> None:
    """Let dimensions that several axes share count as one, but where they are cut again.

    Example:
        >>> settle_merged(Ties(), "relu", {"self": torch.zeros(2)})
    """
    if not ties.has_merged:
        return
    able = _keeps_merged(name, ties, bound)
    ties.settle_merged(t for t in tensors_in(bound) if not any(t is other for other in able))


def _spread(label: Label) -> int:
    return len(distinct(label))


def _structure(ties: Ties, func: Any, bound: dict[str, Any], output: Any) -> None:
    x = bound["self"]
    others = {name: value for name, value in bound.items() if name != "self"}
    outputs = tensors_in(output)
    in_place = func._opname.endswith("_")  # then the tensor has its new shape already
    collected: list[list[Label]] = [[] for _ in outputs]
    operation = getattr(torch.ops.aten, func._opname.rstrip("_")) if in_place else func
    for label in ties.labels(x):
        shape = label.shape if in_place else [1 if size == 0 else size for size in x.shape]
        for position, part in enumerate(viewed(label, shape, lambda t: operation(t, **others))):
            if varying(part):
                collected[position].append(part)
            elif part.size and not ties.is_table(x):
                ties.pin(part)  # a channel that is taken on its own stays one
    for tensor, labels in zip(outputs, collected, strict=True):
        ties.set_labels(tensor, tuple(labels))
    ties.pass_on_table(x, outputs)


def _shuffle(ties: Ties, func: Any, bound: dict[str, Any], output: Any) -> None:
    """Carry labels along a shuffle, whose number of groups stays."""
    if (units := channel_units(ties, bound["self"], 1)) is not None:
        ties.dealt.append((units, bound["groups"]))
    _structure(ties, func, bound, output)


def _pad(ties: Ties, _func: Any, bound: dict[str, Any], output: Any) -> None:
    """Carry labels past padded positions; padded channels are new ones, of any number."""
    x, pad = bound["self"], bound["pad"]
    labels: list[Label] = []
    for label in ties.labels(x):
        for back, (before, after) in enumerate(zip(pad[::2], pad[1::2], strict=True)):
            dim = x.ndim - 1 - back
            if dim not in varying(label) or not (before or after):
                continue
            if varying(label) != {dim} or before < 0 or after < 0:
                ties.pin(label)
                break
            ends = [ties.fill(before), ties.fill(after)]
            if before == after:  # one number tells both
                ties.tie(*ends)
            label = vector(np.concatenate([ends[0], label.reshape(-1), ends[1]]), dim, x.ndim)
        else:
            labels.append(label)
    ties.set_labels(output, tuple(labels))


def _gated(ties: Ties, _func: Any, bound: dict[str, Any], output: Any) -> None:
    """Tie the half that is gated to the half that gates it."""
    x, dim = bound["self"], bound["dim"] % output.ndim
    kept: list[Label] = []
    for label in ties.labels(x):
        first = label
        if dim in varying(label):
            first, second = np.split(label, 2, axis=dim)
            ties.tie(first, second)
        kept.append(first)
    ties.set_labels(output, tuple(label for label in kept if varying(label)))


def _constant(ties: Ties, _func: Any, _bound: dict[str, Any], output: Any) -> None:
    """Let a map of constants that the forward pass makes have any number of channels."""
    if isinstance(output, torch.Tensor) and output.ndim >= ties.map_ndim and output.shape[1] > 1:
        units = ties.fill(output.shape[1])
        ties.set_labels(output, (vector(units, 1, output.ndim),))


def _reduction(ties: Ties, func: Any, bound: dict[str, Any], output: Any) -> None:
    x = bound["self"]
    dims = bound.get("dim")
    outputs = tensors_in(output)
    if "keepdim" not in bound and all(made.ndim == 0 for made in outputs):
        return  # everything is reduced: one number has no channels
    if "keepdim" not in bound:  # two operands (elementwise)
        by_shape(ties, func, bound, output)
        return
    chosen = range(x.ndim) if dims in (None, []) else ([dims] if isinstance(dims, int) else dims)
    gone = {dim % x.ndim for dim in chosen}
    labels: list[Label] = []
    for label in ties.labels(x):
        kept = label
        if _is_statistic(label, gone):
            ties.keep_undealt(label.reshape(-1))
        for dim in gone & varying(label):
            first = kept.take([0], axis=dim)
            if _mixes_kernels(ties, func, bound, dim, len(gone)):
                ties.pin(label)  # kernels of several experts are mixed: their number stays
            if varying(label) - gone:  # summed over branches: they stay of equal size
                ties.tie(first, kept)
            kept = first
        if not bound["keepdim"]:
            kept = kept.reshape([n for dim, n in enumerate(kept.shape) if dim not in gone])
        if varying(kept):
            labels.append(kept)
    for tensor in outputs:
        ties.set_labels(tensor, tuple(labels))


def _is_statistic(label: Label, gone: set[int]) -> bool:
    """Tell whether each of several parts of the channels becomes one number, with all positions."""
    parts = varying(label)
    whole = bool(gone) and gone == set(range(min(gone), label.ndim))
    return whole and bool(parts & gone) and bool(parts - gone) and bool(gone - parts)


def _loss(ties: Ties, func: Any, bound: dict[str, Any], output: Any) -> None:
    """Compare tensors element by element; the sum of all that, one number, has no channels."""
    if bound.get("reduction", 1):
        shapes = [tensor.shape for tensor in tensors_in(bound)]
        output = torch.empty(np.broadcast_shapes(*shapes), device="meta")
    by_shape(ties, func, bound, output)


def _mixes_kernels(ties: Ties, func: Any, bound: dict[str, Any], dim: int, gone: int) -> bool:
    """Tell whether a sum is one over kernels: what is left has outputs, inputs and a window."""
    x = bound["self"]
    left = [label for label in ties.labels(x) if dim not in varying(label)]
    kernels = x.ndim - gone > 3 and len(left) > 1
    return func._opname == "sum" and not bound["keepdim"] and kernels


def _cat(ties: Ties, func: Any, bound: dict[str, Any], output: Any) -> None:
    stacked = func._opname == "stack"
    tensors = [t for t in bound["tensors"] if t.ndim == bound["tensors"][-1].ndim]
    dim = bound["dim"] % output.ndim
    parts: list[Labels] = []
    for tensor in tensors:
        labels = ties.labels(tensor)
        if stacked:
            labels = tuple(np.expand_dims(label, dim) for label in labels)
        parts.append(labels)
    sizes = [1 if stacked else tensor.shape[dim] for tensor in tensors]
    if any(dim in varying(label) for labels in parts for label in labels) or (
        stacked and any(parts)
    ):
        ties.set_labels(output, _concatenated(ties, parts, sizes, dim, output.shape))
    else:
        ties.set_labels(output, ties.joined(parts, output.ndim))


def _concatenated(
    ties: Ties, parts: list[Labels], sizes: list[int], dim: int, shape: torch.Size
) -> Labels:
    """Join the labels that vary along the concatenated dimension; tie the others."""
    others = ties.joined(
        [tuple(lb for lb in labels if dim not in varying(lb)) for labels in parts], len(shape)
    )
    rows: list[Label] = []
    for labels, size in zip(parts, sizes, strict=True):
        own = [label for label in labels if dim in varying(label)] or list(labels[:1] * (size == 1))
        if own:
            rows.append(own[0])
        else:  # constants, coordinates: their number stays
            units = ties.fresh(size)
            ties.pin(units)
            rows.append(vector(units, dim, len(shape)))
    wide = [max(row.shape[d] for row in rows) for d in range(len(shape))]
    full = [
        np.broadcast_to(row, [size if d == dim else wide[d] for d in range(len(shape))])
        for row, size in zip(rows, sizes, strict=True)
    ]
    joined = np.concatenate(full, axis=dim)
    return (joined, *(label for label in others if not varying(label) & varying(joined)))


def _embedding(ties: Ties, _func: Any, bound: dict[str, Any], output: Any) -> None:
    entries, units = (channel_units(ties, bound["weight"], dim) for dim in (0, 1))
    if entries is not None:  # they are looked up: their number stays
        ties.pin(entries)
    if units is not None:
        ties.produced.append(units)
    ties.set_labels(output, () if units is None else (vector(units, -1, output.ndim),))


def _transform(ties: Ties, _func: Any, bound: dict[str, Any], output: Any) -> None:
    """Make positions of the numbers of a transform: as many as these are, whatever the widths."""
    ties.pin_tensor(bound["theta"])
    ties.set_labels(output, ())


def _sampled(ties: Ties, _func: Any, bound: dict[str, Any], output: Any) -> None:
    """Sample a map at positions, which have as many coordinates as the map has sides."""
    ties.pin_tensor(bound["grid"])
    ties.set_labels(output, ties.labels(bound["input"]))


def _scattered(ties: Ties, func: Any, bound: dict[str, Any], output: Any) -> None:
    """Write entries by their numbers; of what one each is marked in (one-hot codes), they stay."""
    x, dim = bound["self"], bound["dim"] % max(1, output.ndim)
    if bound["index"].ndim and bound["index"].shape[dim] == 1:
        for label in ties.labels(x):
            if dim in varying(label):
                ties.pin(label)
    by_shape(ties, func, bound, output)


def _index(ties: Ties, func: Any, bound: dict[str, Any], output: Any) -> None:
    x, indices = bound["self"], bound["indices"]
    positions = [dim for dim, index in enumerate(indices) if index is not None]
    if ties.is_table(x):  # entries are looked up: their number stays
        for label in ties.labels(x):
            if varying(label) & set(positions):
                ties.drop(label)
    labels = [label for label in ties.labels(x) if not ties.is_dropped(label)]
    if len(positions) != 1:
        by_shape(ties, func, bound, output)
        return
    dim, index = positions[0], indices[positions[0]]
    if any(dim in varying(label) for label in labels):
        taken(ties, dim, index, bound, output)
        return
    ties.set_labels(
        output,
        tuple(
            label.reshape(label.shape[:dim] + (1,) * index.ndim + label.shape[dim + 1 :])
            for label in labels
        ),
    )


def _index_put(ties: Ties, func: Any, bound: dict[str, Any], output: Any) -> None:
    """Write entries by an index: channels whose numbers are written down stay."""
    positions = {dim for dim, index in enumerate(bound["indices"]) if index is not None}
    for label in ties.labels(bound["self"]):
        if varying(label) & positions:
            ties.pin(label)
    by_shape(ties, func, bound, output)


def by_shape(ties: Ties, _func: Any, bound: dict[str, Any], output: Any) -> bool:
    """Judge an operator by its shapes: elementwise, or one that leaves channels alone.

    Returns:
        Whether the shapes told; if not, every input is pinned.

    Example:
        >>> by_shape(Ties(), None, {"self": torch.zeros(2)}, torch.zeros(2))
        True
    """
    inputs = [tensor for tensor in tensors_in(bound) if ties.labels(tensor)]
    results = tensors_in(output)
    if not inputs or not results:
        return True
    result, *beside = results
    for tensor in beside:  # statistics beside the result
        ties.set_labels(tensor, ())
    if not _broadcasts(inputs, result):
        told = _passes(ties, inputs, result)
        for tensor in beside:  # indices of what was pooled
            if tensor.shape == result.shape:
                ties.set_labels(tensor, ties.labels(result))
        return told
    pin_tables(ties, tensors_in(bound))
    kept = [tuple(lb for lb in ties.labels(x) if not ties.is_dropped(lb)) for x in inputs]
    ties.set_labels(result, ties.joined(kept, result.ndim))
    return True


def _broadcasts(inputs: list[torch.Tensor], output: torch.Tensor) -> bool:
    try:
        return np.broadcast_shapes(*(x.shape for x in inputs), output.shape) == output.shape
    except ValueError:
        return False


def _passes(ties: Ties, inputs: list[torch.Tensor], output: torch.Tensor) -> bool:
    """Carry labels through pooling, resizing and the like; pin those whose size changed."""
    kept: list[Label] = []
    told = True
    for tensor in inputs:
        for label in ties.labels(tensor):
            same = tensor.ndim == output.ndim and all(
                tensor.shape[dim] == output.shape[dim] for dim in varying(label)
            )
            if same and tensor is inputs[0]:
                kept.append(label)
            else:
                ties.pin(label)
                told = False
    ties.set_labels(output, tuple(kept))
    return told


RULES: dict[str, Rule] = {
    "convolution": convolution,
    "cat": _cat,
    "concat": _cat,
    "stack": _cat,
    "embedding": _embedding,
    "constant_pad_nd": _pad,
    "gather": gather,
    "index_select": index_select,
    "glu": _gated,
    "affine_grid_generator": _transform,
    **dict.fromkeys(("grid_sampler_2d", "grid_sampler_3d"), _sampled),
    **dict.fromkeys(("scatter", "scatter_"), _scattered),
    **dict.fromkeys(FILLS - {"eye"}, _constant),
    "index": _index,
    "index_put": _index_put,
    "index_put_": _index_put,
    **MATRICES,
    **WINDOWS,
    **dict.fromkeys(
        (
            "native_batch_norm",
            "_native_batch_norm_legit",
            "_native_batch_norm_legit_no_training",
            "cudnn_batch_norm",
            "_batch_norm_with_update",
            "_batch_norm_no_update",
            "native_group_norm",
        ),
        _norm,
    ),
    **dict.fromkeys(VIEWS, _reshape),
    **dict.fromkeys(_COPIES, _copy),
    **dict.fromkeys(STRUCTURAL, _structure),
    "channel_shuffle": _shuffle,
    **dict.fromkeys(_REDUCTIONS, _reduction),
    **dict.fromkeys(_LOSSES, _loss),
}
