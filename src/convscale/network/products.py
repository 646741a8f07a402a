"""The operators that multiply and add: their flops (multiply-adds) and acts.

One image and one forward pass; a multiply-accumulate counts once. Acts are the elements of the
operator's output. Fused attention counts both of its products, as if it were not fused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any

from convscale.network.ties import tensors_in


@dataclass(frozen=True)
class Product:
    """Multiply-adds and output elements of one call of an operator.

    Example:
        >>> Product(flops=6, acts=2).acts
        2
    """

    flops: int
    acts: int


def _convolution(bound: dict[str, Any], output: Any) -> Product:
    weight = bound["weight"]
    positions = bound["input"].numel() if bound["transposed"] else output.numel()
    return Product(positions * prod(weight.shape[1:]), output.numel())


def _matrix(bound: dict[str, Any], output: Any) -> Product:
    left = next(bound[name] for name in ("mat1", "batch1", "self") if name in bound)
    return Product(output.numel() * left.shape[-1], output.numel())


def _attention(bound: dict[str, Any], _output: Any) -> Product:
    query, key, value = bound["query"], bound["key"], bound["value"]
    scores = prod(query.shape[:-1]) * key.shape[-2]
    mixed = prod(query.shape[:-1]) * value.shape[-1]
    return Product(
        scores * query.shape[-1] + mixed * key.shape[-2],
        scores + mixed,
    )


# Fused attention, by device.
ATTENTION = (
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_attention_math",
    "_scaled_dot_product_fused_attention_overrideable",
)

PRODUCTS: dict[str, Callable[[dict[str, Any], Any], Product]] = {
    "convolution": _convolution,
    **dict.fromkeys(("mm", "addmm", "bmm", "baddbmm"), _matrix),
    **dict.fromkeys(ATTENTION, _attention),
}

# Operators of PyTorch that multiply by weights or sum products, and have no rule here.
UNRULED = frozenset(
    (
        "addbmm addmv mv dot vdot addr ger _int_mm _scaled_mm linear matmul einsum _conv_tbc "
        "lstm gru rnn_tanh rnn_relu _thnn_fused_lstm_cell _thnn_fused_gru_cell mkldnn_rnn_layer "
        "quantized_lstm _cdist_forward _trilinear bilinear _embedding_bag "
        "_embedding_bag_forward_only linalg_lstsq linalg_inv_ex linalg_svd _linalg_svd fft "
        "_fft_r2c _fft_c2r _fft_c2c mkldnn_convolution mkldnn_linear cudnn_convolution "
        "slow_conv3d slow_conv_dilated2d slow_conv_dilated3d _weight_int4pack_mm"
    ).split()
)

# Operators that compute nothing: views, and tensors made from nothing.
_FREE = frozenset(
    (
        "view _unsafe_view reshape _reshape_alias permute transpose t slice select split unbind "
        "split_with_sizes unsqueeze squeeze expand alias detach as_strided as_strided_ unfold "
        "empty empty_like new_empty empty_strided new_empty_strided lift_fresh unsqueeze_ "
        "squeeze_ zeros ones full arange zeros_like ones_like full_like new_zeros new_ones "
        "new_full scalar_tensor lift diagonal _assert_async _assert_scalar sym_size sym_numel "
        "sym_stride"
    ).split()
)


def product(func: Any, bound: dict[str, Any], output: Any) -> Product | None:
    """Return the flops and acts of a call, or None where the operator has no rule.

    Args:
        func: The operator of the dispatcher.
        bound: Its arguments by name.
        output: Its result.

    Example:
        >>> import torch
        >>> left, right = torch.zeros(2, 3), torch.zeros(3, 4)
        >>> product(torch.ops.aten.mm.default, {"self": left, "mat2": right}, left @ right)
        Product(flops=24, acts=8)
    """
    rule = PRODUCTS.get(func._opname) if func.namespace == "aten" else None
    return rule(bound, output) if rule is not None else None


def edges(func: Any, bound: dict[str, Any], output: Any) -> Product:
    """Return what the convention `pycls` adds for a call.

    A flop for each output of a convolution or linear layer with biases, and the outputs of
    max-pooling as acts.

    Example:
        >>> import torch
        >>> left, right = torch.zeros(2, 3), torch.zeros(3, 4)
        >>> edges(torch.ops.aten.addmm.default, {}, left @ right)
        Product(flops=8, acts=0)
    """
    if func.namespace != "aten":
        return Product(0, 0)
    name = func._opname
    if name == "addmm" or (name == "convolution" and bound["bias"] is not None):
        return Product(output.numel(), 0)
    if name.startswith("max_pool") and name.endswith("_with_indices"):
        return Product(0, output[0].numel())
    return Product(0, 0)


def is_free(func: Any) -> bool:
    """Tell whether an operator computes nothing.

    Example:
        >>> import torch
        >>> is_free(torch.ops.aten.view.default)
        True
    """
    return func.namespace == "aten" and func._opname in _FREE


def may_multiply(func: Any) -> bool:
    """Tell whether an operator without a rule may multiply by weights.

    Every operator from outside PyTorch may: nobody can tell what it does.

    Example:
        >>> import torch
        >>> may_multiply(torch.ops.aten.relu.default)
        False
    """
    if func.namespace == "aten":
        return func._opname in UNRULED
    return func.namespace not in ("prims", "prim")


@cache
def _arguments(func: Any) -> tuple[tuple[str, bool, Any], ...]:
    return tuple(
        (entry.name, entry.has_default_value(), entry.default_value)
        for entry in func._schema.arguments
    )


def bind(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return an operator's arguments by name, defaults included.

    Example:
        >>> import torch
        >>> bind(torch.ops.aten.relu.default, (1,), {})
        {'self': 1}
    """
    bound: dict[str, Any] = {}
    for position, (name, has_default, default) in enumerate(_arguments(func)):
        if position < len(args):
            bound[name] = args[position]
        elif name in kwargs:
            bound[name] = kwargs[name]
        elif has_default:
            bound[name] = default
    return bound


def first_shape(output: Any) -> tuple[int, ...]:
    """Return the shape of the first tensor in a result; empty where there is none.

    Example:
        >>> import torch
        >>> first_shape([torch.zeros(2, 3)])
        (2, 3)
    """
    tensors = tensors_in(output)
    return tuple(tensors[0].shape) if tensors else ()
