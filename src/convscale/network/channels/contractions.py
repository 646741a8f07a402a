"""What operators multiply and add: sums of products, as sizes of the tensors at hand.

A contraction makes `outer` sums of `inner` products each. Its extents name the tensors whose
sizes they are, so that the same rule counts a call and tells how the count grows with the widths.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any, NamedTuple, TypeVar

import torch

from convscale.network.modules.quantised import packed_weight

Bound = dict[str, Any]  # the arguments of a call by name
Found = TypeVar("Found")


class Extent(NamedTuple):
    """A number: a constant times the sizes of some dimensions of a tensor (None for all).

    Example:
        >>> Extent(torch.zeros(2, 3, 5), (0, -1), scale=7).number
        70
    """

    tensor: torch.Tensor | None = None
    dims: tuple[int, ...] | None = None
    scale: int = 1

    @property
    def number(self) -> int:
        """The number itself."""
        if self.tensor is None:
            return self.scale
        if self.dims is None:
            return self.scale * self.tensor.numel()
        shape = self.tensor.shape
        return self.scale * prod([shape[dim] for dim in self.dims])


class Contraction(NamedTuple):
    """So many sums of so many products, and the elements that are put out (outer, if None).

    Example:
        >>> Contraction(Extent(scale=6), Extent(scale=5)).flops
        30
    """

    outer: Extent
    inner: Extent
    put_out: Extent | None = None

    @property
    def flops(self) -> int:
        """Multiply-adds: a multiply-accumulate counts once."""
        return self.outer.number * self.inner.number

    @property
    def acts(self) -> int:
        """Elements that are put out."""
        return (self.put_out or self.outer).number


Rule = Callable[[Bound, Any], tuple[Contraction, ...] | None]


def _convolution(bound: Bound, output: Any) -> tuple[Contraction, ...]:
    weight = bound["weight"]
    inner = Extent(weight, tuple(range(1, weight.ndim)))
    if bound.get("transposed", False):
        return (Contraction(Extent(bound["input"]), inner, Extent(output)),)
    return (Contraction(Extent(output), inner),)


def _transposed(bound: Bound, output: Any) -> tuple[Contraction, ...]:
    x = bound["input"] if "input" in bound else bound["self"]
    return _convolution({**bound, "input": x, "transposed": True}, output)


def _over_time(bound: Bound, output: Any) -> tuple[Contraction, ...]:
    """Weights of (kernel, input channels, output channels)."""
    return (Contraction(Extent(output), Extent(bound["weight"], (0, 1))),)


def _convolution_backward(bound: Bound, output: Any) -> tuple[Contraction, ...]:
    """Gradients of input and weight, as far as they are asked: as much as the convolution each."""
    weight = bound["weight"]
    positions = bound["input"] if bound["transposed"] else bound["grad_output"]
    outer, inner = Extent(positions), Extent(weight, tuple(range(1, weight.ndim)))
    asked = (made for made, mask in zip(output[:2], bound["output_mask"], strict=False) if mask)
    return tuple(Contraction(outer, inner, Extent(made)) for made in asked)


def _matrix(bound: Bound, output: Any) -> tuple[Contraction, ...]:
    left = next(bound[name] for name in ("mat1", "batch1", "mat", "self") if name in bound)
    return (Contraction(Extent(output), Extent(left, (left.ndim - 1,))),)


def _summed_batch(bound: Bound, output: Any) -> tuple[Contraction, ...]:
    """Add up the products of a batch."""
    return (Contraction(Extent(output), Extent(bound["batch1"], (0, 2))),)


def _outer(_bound: Bound, output: Any) -> tuple[Contraction, ...]:
    return (Contraction(Extent(output), Extent()),)


def _attention(bound: Bound, _output: Any) -> tuple[Contraction, ...]:
    """Both products of fused attention, queries with keys and scores with values."""
    query, key, value = bound["query"], bound["key"], bound["value"]
    positions, keys = prod(query.shape[:-1]), key.shape[-2]
    return (
        Contraction(Extent(scale=positions * keys), Extent(query, (query.ndim - 1,))),
        Contraction(Extent(value, (value.ndim - 1,), scale=positions), Extent(scale=keys)),
    )


def _attention_backward(bound: Bound, _output: Any) -> tuple[Contraction, ...]:
    """Scores once more, and the gradients of scores, values, queries and keys."""
    query, key, value = bound["query"], bound["key"], bound["value"]
    positions, keys = prod(query.shape[:-1]), key.shape[-2]
    pairs = Extent(scale=positions * keys)
    of_query, of_value = Extent(query, (query.ndim - 1,)), Extent(value, (value.ndim - 1,))
    return (
        Contraction(pairs, of_query),
        Contraction(pairs, of_value),
        Contraction(pairs, of_value, Extent(value)),
        Contraction(pairs, of_query, Extent(query)),
        Contraction(pairs, of_query, Extent(key)),
    )


def _distances(bound: Bound, output: Any) -> tuple[Contraction, ...]:
    """Square and add a difference, for each coordinate of each pair."""
    x = bound["x1"] if "x1" in bound else bound["self"]
    return (Contraction(Extent(output), Extent(x, (x.ndim - 1,))),)


def _trilinear(bound: Bound, output: Any) -> tuple[Contraction, ...]:
    """Products of three factors, added up: one multiply-add for each of them."""
    operands = []
    gone = set(bound["sumdim"])
    inner: Extent | None = None
    for name, expand in (("i1", "expand1"), ("i2", "expand2"), ("i3", "expand3")):
        shape = list(bound[name].shape)
        for dim in sorted(bound[expand]):
            shape.insert(dim, 1)
        operands.append(shape)
        own = [dim for dim in range(len(shape)) if dim not in bound[expand]]
        if gone <= set(own):  # the tensor that has all dimensions that are summed over
            inner = Extent(bound[name], tuple(own.index(dim) for dim in sorted(gone)))
    if inner is not None:
        return (Contraction(Extent(output), inner),)
    every = prod(max(sizes) for sizes in zip(*operands, strict=True))
    return (Contraction(Extent(scale=every), Extent(), Extent(output)),)


def _weighted_bags(bound: Bound, output: Any) -> tuple[Contraction, ...] | None:
    """Rows of a table times their weights, added up; without weights nothing is multiplied."""
    if bound["per_sample_weights"] is None:
        return None
    rows = bound["indices"].numel()
    width = Extent(bound["weight"], (1,), scale=rows)
    return (Contraction(width, Extent(), Extent(output[0])),)


def _recurrent(bound: Bound, _output: Any) -> tuple[Contraction, ...]:
    """Every weight matrix once a step, as where the layer runs step by step."""
    weights = bound.get("weight") or [bound[f"weight{index}"] for index in range(4)]
    steps = prod(bound["input"].shape[:-1])
    return tuple(_projected(steps, matrix) for matrix in weights if matrix.ndim == 2)


def _projected(positions: int, weight: torch.Tensor) -> Contraction:
    return Contraction(Extent(weight, (0,), scale=positions), Extent(weight, (1,)))


def _heads(bound: Bound, query: torch.Tensor, keys: int, heads: int) -> tuple[Contraction, ...]:
    """Projections of queries, keys, values and outputs, and the attention between them."""
    positions, width = prod(query.shape[:-1]), query.shape[-1]
    scores = Extent(scale=positions * heads * keys)
    return (
        _projected(positions, bound["qkv_weight"]),
        Contraction(scores, Extent(scale=width // heads)),
        Contraction(Extent(scale=positions * width), Extent(scale=keys)),
        _projected(positions, bound["proj_weight"]),
    )


def _attention_layer(bound: Bound, _output: Any) -> tuple[Contraction, ...]:
    return _heads(bound, bound["query"], bound["key"].shape[1], bound["num_head"])


def _encoder_layer(bound: Bound, _output: Any) -> tuple[Contraction, ...]:
    x = bound["src"]
    positions = prod(x.shape[:-1])
    return (
        *_heads(bound, x, x.shape[1], bound["num_heads"]),
        _projected(positions, bound["ffn_weight_1"]),
        _projected(positions, bound["ffn_weight_2"]),
    )


def _quantised(bound: Bound, output: Any) -> tuple[Contraction, ...]:
    """As convolutions and linear layers; the weight is packed."""
    weight = packed_weight(bound.values())
    return (Contraction(Extent(output), Extent(weight, tuple(range(1, weight.ndim)))),)


def _quantised_transposed(bound: Bound, output: Any) -> tuple[Contraction, ...]:
    return _transposed({"input": bound["qx"], "weight": packed_weight(bound.values())}, output)


def _quantised_matrix(bound: Bound, output: Any) -> tuple[Contraction, ...]:
    return _matrix({"self": bound["qa"]}, output)


# Fused attention, by device.
ATTENTION = (
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_attention_math",
    "_scaled_dot_product_attention_math_for_mps",
    "_scaled_dot_product_fused_attention_overrideable",
)
_CONVOLUTIONS = (
    "convolution _convolution convolution_overrideable cudnn_convolution cudnn_convolution_relu "
    "cudnn_convolution_add_relu miopen_convolution miopen_depthwise_convolution "
    "mkldnn_convolution _conv_depthwise2d conv_depthwise3d _slow_conv2d_forward slow_conv3d "
    "slow_conv3d_forward slow_conv_dilated2d slow_conv_dilated3d miopen_convolution_relu "
    "miopen_convolution_add_relu _mps_convolution _nnpack_spatial_convolution"
)
_TRANSPOSED = (
    "cudnn_convolution_transpose miopen_convolution_transpose slow_conv_transpose2d "
    "slow_conv_transpose3d _mps_convolution_transpose"
)
# The left factor is called mat1, batch1, mat or self; its last dimension is summed over.
_MATRICES = (
    "mm addmm bmm baddbmm mv addmv dot vdot _int_mm _scaled_mm _scaled_mm_v2 _addmm_activation "
    "_weight_int8pack_mm _weight_int4pack_mm _weight_int4pack_mm_for_cpu "
    "_weight_int4pack_mm_with_scales_and_zeros"
)

_QUANTISED = (
    "conv1d conv1d_relu conv1d_dynamic conv2d conv2d_relu conv2d_add conv2d_add_relu "
    "conv2d_dynamic conv3d conv3d_relu conv3d_dynamic linear linear_relu linear_tanh "
    "linear_leaky_relu linear_dynamic linear_relu_dynamic linear_dynamic_fp16 "
    "linear_relu_dynamic_fp16"
)
_QUANTISED_TRANSPOSED = (
    "conv_transpose1d conv_transpose1d_dynamic conv_transpose2d conv_transpose2d_dynamic "
    "conv_transpose3d conv_transpose3d_dynamic"
)

# Rules of operators by their names in the dispatcher.
RULES: dict[str, Rule] = {
    **{f"aten::{name}": _convolution for name in _CONVOLUTIONS.split()},
    **{f"aten::{name}": _transposed for name in _TRANSPOSED.split()},
    "aten::conv_tbc": _over_time,
    "torchvision::deform_conv2d": _convolution,
    **{f"aten::{name}": _matrix for name in _MATRICES.split()},
    "aten::addbmm": _summed_batch,
    "aten::addr": _outer,
    **{f"aten::{name}": _attention for name in ATTENTION},
    "aten::convolution_backward": _convolution_backward,
    **{f"aten::{name}_backward": _attention_backward for name in ATTENTION},
    "aten::_native_multi_head_attention": _attention_layer,
    "aten::_transformer_encoder_layer_fwd": _encoder_layer,
    **{
        f"aten::{name}": _distances
        for name in "_cdist_forward _euclidean_dist _pdist_forward".split()
    },
    "aten::_trilinear": _trilinear,
    "aten::_embedding_bag": _weighted_bags,
    "aten::_embedding_bag_forward_only": _weighted_bags,
    **{f"aten::{name}": _recurrent for name in "mkldnn_rnn_layer _cudnn_rnn miopen_rnn".split()},
    **{f"quantized::{name}": _quantised for name in _QUANTISED.split()},
    **{f"quantized::{name}": _quantised_transposed for name in _QUANTISED_TRANSPOSED.split()},
    "quantized::matmul": _quantised_matrix,
}


def rule_of(name: str, rules: Mapping[str, Found]) -> Found | None:
    """Return the rule of an operator by its name, or of the one that it does in place.

    Example:
        >>> rule_of("aten::baddbmm_", RULES) is RULES["aten::baddbmm"]
        True
    """
    return rules.get(name) or rules.get(name.removesuffix("_"))
