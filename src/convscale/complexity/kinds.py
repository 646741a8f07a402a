"""Which kind an operator is of, by its name, its tags and what it multiplies."""

from __future__ import annotations

from math import prod
from typing import Any

import torch

from convscale.complexity.calls import (
    FUSED_ATTENTION,
    LINEAR,
    MATRIX_PRODUCT,
    OTHER_PRODUCT,
    RECURRENT,
    WITHOUT_RULE,
    Geometry,
)
from convscale.network.channels.contractions import ATTENTION, RULES, rule_of
from convscale.network.channels.products import may_multiply, name_of

_NAMES = {
    "activation": "relu relu6 hardtanh leaky_relu elu celu selu silu mish gelu glu sigmoid tanh "
    "hardswish hardsigmoid softplus softshrink hardshrink threshold prelu _prelu_kernel "
    "rrelu_with_noise log_sigmoid_forward",
    "softmax": "_softmax _safe_softmax _log_softmax",
    "concatenation": "cat stack",
    "padding": "constant_pad_nd pad",
    "resizing": "grid_sampler_2d grid_sampler_3d pixel_shuffle pixel_unshuffle "
    "native_channel_shuffle channel_shuffle im2col col2im",
    "lookup": "embedding index index_select gather take index_put _index_put_impl scatter "
    "scatter_add nonzero masked_select index_add searchsorted bucketize",
    "reduction": "mean sum amax amin max min argmax argmin var std var_mean std_mean prod norm "
    "linalg_vector_norm topk sort cumsum cumprod logsumexp any all aminmax",
    "copy": "clone copy _to_copy contiguous roll flip repeat rot90 tril triu _unsafe_copy lift",
    "constant": "zeros ones full arange linspace eye scalar_tensor zeros_like ones_like full_like "
    "new_zeros new_ones new_full fill zero rand randn rand_like randn_like bernoulli",
    "elementwise": "dropout native_dropout where masked_fill",
}
_PRODUCT_KINDS = {
    "torchvision::deform_conv2d": "convolution deformable",
    **{f"aten::{name}": FUSED_ATTENTION for name in ATTENTION},
    **{f"aten::{name}": RECURRENT for name in ("mkldnn_rnn_layer", "_cudnn_rnn", "miopen_rnn")},
}
_KIND = {name: kind for kind, names in _NAMES.items() for name in names.split()}
_STARTS = {
    "native_batch_norm": "norm",
    "_native_batch_norm": "norm",
    "_batch_norm": "norm",
    "_fused_rms_norm": "norm",
    "upsample_": "resizing",
    "_upsample_": "resizing",
    "reflection_pad": "padding",
    "replication_pad": "padding",
}
_LOOKUPS = frozenset("embedding index index_select gather take".split())
_WRITES_ONLY = frozenset("copy_ fill_ zero_ normal_ uniform_ bernoulli_".split())


def kind_of(func: Any, geometry: Geometry | None, *, weights: bool = True) -> str:
    """Return the kind of an operator, one of `KINDS`.

    Args:
        func: The operator of the dispatcher.
        geometry: What it multiplies, where that is known.
        weights: Whether one of the matrices of a product is made of weights alone.

    Example:
        >>> kind_of(torch.ops.aten.relu_.default, None)
        'activation'
        >>> kind_of(torch.ops.aten.convolution.default, Geometry(8, 8, 4, (3, 3), groups=8))
        'convolution depthwise'
    """
    if geometry is not None and geometry.kernel:
        return _convolution_kind(geometry)
    if geometry is not None:
        return LINEAR if weights else MATRIX_PRODUCT
    if rule_of(name_of(func), RULES) is not None:
        return _PRODUCT_KINDS.get(name_of(func), OTHER_PRODUCT)
    if may_multiply(func):
        return WITHOUT_RULE
    name = func._opname.rstrip("_")
    return _KIND.get(name) or _by_pattern(name) or _by_tag(func)


def _convolution_kind(g: Geometry) -> str:
    if g.transposed:
        return "convolution transposed"
    if g.groups > 1:
        return "convolution depthwise" if g.groups == g.in_channels else "convolution grouped"
    return "convolution 1x1" if prod(g.kernel) == 1 else "convolution kxk"


def _by_pattern(name: str) -> str | None:
    if "max_pool" in name or "avg_pool" in name:
        return "pooling"
    if name.endswith(("_norm", "_norm_legit", "_norm_legit_no_training")):
        return "norm"
    starts = (kind for start, kind in _STARTS.items() if name.startswith(start))
    return next(starts, None)


def _by_tag(func: Any) -> str:
    if torch.Tag.pointwise in func.tags:
        return "elementwise"
    return "reduction" if any(tag.name == "reduction" for tag in func.tags) else "other"


def reads_part(func: Any) -> bool:
    """Tell whether an operator looks things up, reading no more of its table than it puts out.

    Example:
        >>> reads_part(torch.ops.aten.embedding.default)
        True
    """
    return func.namespace == "aten" and func._opname in _LOOKUPS


def written_only(func: Any) -> bool:
    """Tell whether an operator overwrites its first operand without reading it.

    Example:
        >>> written_only(torch.ops.aten.copy_.default), written_only(torch.ops.aten.add_.Tensor)
        (True, False)
    """
    return func.namespace == "aten" and func._opname in _WRITES_ONLY


def geometry_of(func: Any, bound: dict[str, Any], output: Any) -> Geometry | None:
    """Return what a convolution or a matrix product multiplies; None for anything else.

    Args:
        func: The operator of the dispatcher.
        bound: Its arguments by name.
        output: Its result.

    Example:
        >>> left, right = torch.zeros(2, 3), torch.zeros(3, 4)
        >>> geometry_of(torch.ops.aten.mm.default, {"self": left, "mat2": right}, left @ right)
        Geometry(in_channels=3, out_channels=4, rows=2, kernel=(), stride=(), groups=1, ...)
    """
    if func.namespace != "aten":
        return None
    if func._opname == "convolution":
        return _convolution(bound, output)
    name = func._opname.removesuffix("_")
    if name in _PRODUCTS:
        left = next(bound[name] for name in ("mat1", "batch1", "mat", "self") if name in bound)
        outs = 1 if name in _VECTOR else output.shape[-1]
        return Geometry(left.shape[-1], outs, output.numel() // max(outs, 1))
    return None


_PRODUCTS = frozenset("mm addmm bmm baddbmm mv addmv _int_mm _scaled_mm".split())
_VECTOR = frozenset(("mv", "addmv"))


def _convolution(bound: dict[str, Any], output: Any) -> Geometry:
    weight, groups, x = bound["weight"], bound["groups"], bound["input"]
    transposed = bool(bound["transposed"])
    kernel = tuple(weight.shape[2:])
    dims = len(kernel)
    outs = weight.shape[1] * groups if transposed else weight.shape[0]
    ins = weight.shape[0] if transposed else weight.shape[1] * groups
    over = x if transposed else output
    rows = prod(over.shape[-dims:]) * (over.shape[0] if over.ndim > dims + 1 else 1)
    stride = tuple(bound["stride"])
    stride = stride * dims if len(stride) == 1 else stride
    return Geometry(ins, outs, rows, kernel, stride, groups, transposed)
