"""Call operators; on the meta device make the results of costly ones directly.

PyTorch decomposes many in Python there, which takes milliseconds where their shape is plain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch

from convscale.network.modules.copies import blank_like

# Operators whose result is like their first operand, and which take milliseconds on the meta
# device, where PyTorch decomposes them in Python.
_ALIKE = frozenset(
    (
        "native_batch_norm native_layer_norm native_group_norm gelu silu sigmoid hardswish "
        "hardsigmoid relu relu6 hardtanh leaky_relu elu mish _softmax _safe_softmax "
        "rsqrt sqrt tanh exp log neg abs softplus square"
    ).split()
)
# Those of them that write into their operand, which is their result.
_WRITTEN = frozenset(
    "hardswish_ hardsigmoid_ hardtanh_ leaky_relu_ elu_ mish_ silu_ gelu_ relu_ sigmoid_".split()
)
_DIRECT = _ALIKE | _WRITTEN
_RESIZES = ("upsample_", "_upsample_")
# Operators that take inputs of other channels than their weights on the meta device.
_LENIENT = frozenset(("convolution", "deform_conv2d"))

Args = tuple[Any, ...]


def call(func: Any, args: Args, kwargs: dict[str, Any]) -> Any:
    """Call an operator; on the meta device make the result of costly ones directly.

    Raises:
        ValueError: If a layer got what it does not take, and the meta device does not mind.

    Example:
        >>> x = torch.empty(1, 3, 8, 8, device="meta")
        >>> call(torch.ops.aten.mean.dim, (x, [2, 3]), {}).shape
        torch.Size([1, 3])
    """
    name: str = func._opname
    if func.namespace == "aten":
        make = None if kwargs else _maker(name, func._overloadname)
        made = None if make is None else make(args)
        if made is None and name in _DIRECT and func._overloadname == "default":
            made = _alike(func, args)
        if made is not None:
            return made
    if name in _LENIENT and func.namespace in ("aten", "torchvision"):
        _check_channels(args)
    return func(*args, **kwargs)


def _blank(like: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Return a tensor on the meta device of the dtype of another."""
    return torch.empty(shape, dtype=like.dtype, device="meta")


def _alike(func: Any, args: Args) -> Any:
    """Return the result that is like the first operand; None where that has values."""
    x = args[0]
    if not (x.is_meta and x.is_floating_point()):
        return None
    if func._opname in _WRITTEN:
        return x
    if func._opname == "native_layer_norm":
        _check_layer_norm(*args[:4])
    result = blank_like(x)
    if len(func._schema.returns) == 1:
        return result
    return (result, _blank(x, (0,)), _blank(x, (0,)))


def _is_plain(x: torch.Tensor) -> bool:
    return x.is_meta and x.is_floating_point() and x.is_contiguous()


def _convolved(args: Args) -> torch.Tensor | None:
    """Return the result of a convolution that fits what it takes; None elsewhere."""
    x, weight, bias, stride, padding, dilation, transposed, _, groups = args
    if transposed or not (_is_plain(x) and weight.is_meta and x.dtype == weight.dtype):
        return None
    (batch, channels, *sides), (wide, deep, *kernel) = x.shape, weight.shape
    if len(sides) != len(kernel) or channels != deep * groups or wide % groups or not channels:
        return None
    if bias is not None and (not bias.is_meta or tuple(bias.shape) != (wide,)):
        return None
    each = [own * len(sides) if len(own) == 1 else own for own in (stride, padding, dilation)]
    if any(len(own) != len(sides) for own in each) or min(stride) < 1:
        return None
    there = [
        (side + 2 * pad - apart * (size - 1) - 1) // step + 1
        for side, size, step, pad, apart in zip(sides, kernel, *each, strict=True)
    ]
    return _blank(x, (batch, wide, *there)) if min(there) > 0 else None


def _joined(args: Args) -> torch.Tensor | None:
    """Return the result of joining tensors that fit each other; None elsewhere."""
    if not args[0]:
        return None
    first: torch.Tensor = args[0][0]
    dim = args[1] if len(args) > 1 else 0
    if first.ndim < 2 or not -first.ndim <= dim < first.ndim:
        return None
    dim %= first.ndim
    kept = (first.shape[:dim], first.shape[dim + 1 :])
    for x in args[0]:
        plain = x.is_meta and x.dtype == first.dtype and x.is_contiguous()
        if not plain or (x.shape[:dim], x.shape[dim + 1 :]) != kept:
            return None
    size = sum(x.shape[dim] for x in args[0])
    return _blank(first, (*kept[0], size, *kept[1]))


def _as_large(args: Args) -> torch.Tensor | None:
    """Return the result of arithmetic where one operand is as large as it; None elsewhere."""
    if len(args) != 2:
        return None
    x, other = args
    if not isinstance(x, torch.Tensor) or not _is_plain(x):
        return None
    if isinstance(other, int | float):
        return blank_like(x)
    if not isinstance(other, torch.Tensor) or not other.is_meta or other.dtype != x.dtype:
        return None
    if not other.is_contiguous():
        return None
    large, small = (x, other) if x.ndim >= other.ndim and x.numel() >= other.numel() else (other, x)
    if small.ndim > large.ndim or not small.ndim:
        return None
    sizes = zip(reversed(large.shape), reversed(small.shape), strict=False)
    return blank_like(large) if all(b in (a, 1) for a, b in sizes) else None


def _mean(args: Args) -> torch.Tensor | None:
    """Return the mean over some dimensions; None elsewhere."""
    x, dims = args[0], args[1]
    if not dims or not _is_plain(x) or any(not -x.ndim <= dim < x.ndim for dim in dims):
        return None
    gone = {dim % x.ndim for dim in dims}
    keeps = len(args) > 2 and args[2]
    shape = [1 if d in gone else n for d, n in enumerate(x.shape) if keeps or d not in gone]
    return _blank(x, shape) if len(gone) == len(dims) else None


def _resized(args: Args) -> torch.Tensor | None:
    """Return the result of a resize to a size that is given; None elsewhere."""
    x, size = args[:2]
    if not _is_plain(x) or len(size) != x.ndim - 2:
        return None
    return _blank(x, (*x.shape[:2], *size)) if min(size) > 0 else None


def _product(args: Args) -> torch.Tensor | None:
    """Return the result of a plain product of matrices of fitting shapes; None elsewhere."""
    left, right = args[-2:]
    if not all(isinstance(x, torch.Tensor) and x.is_meta for x in args):
        return None
    fits = left.ndim == right.ndim and left.shape[:-2] == right.shape[:-2]
    if not fits or left.shape[-1] != right.shape[-2] or not left.is_floating_point():
        return None
    shape = (*left.shape[:-1], right.shape[-1])
    if any(x.dtype != left.dtype for x in args) or any(
        tuple(added.shape) not in (shape, shape[-1:]) for added in args[:-2]
    ):
        return None
    return _blank(left, shape)


_PAIRS = ("add", "mul", "sub", "div", "pow")
_Make = Callable[[Args], torch.Tensor | None]
_MAKERS: dict[tuple[str, str], _Make] = {
    ("convolution", "default"): _convolved,
    ("cat", "default"): _joined,
    ("mean", "dim"): _mean,
    **{
        (name, kind): _as_large for name in _PAIRS for kind in ("Tensor", "Scalar", "Tensor_Scalar")
    },
    **{(name, "default"): _product for name in ("mm", "addmm", "bmm")},
}


@cache
def _maker(name: str, overload: str) -> _Make | None:
    """Return what makes the result of an operator."""
    if name.startswith(_RESIZES) and "backward" not in name:
        return _resized if overload == "default" else None
    return _MAKERS.get((name, overload))


def _check_channels(args: Args) -> None:
    """Refuse what convolutions refuse where there are values, and the meta device lets pass."""
    x, weight, *rest = args
    if not x.is_meta:
        return
    deformable = len(rest) > 7  # input, weight, offset, mask, bias, strides, ..., groups, ...
    transposed, groups = not deformable and rest[4], rest[-3] if deformable else rest[-1]
    if deformable or transposed:
        wanted, found = weight.shape[0 if transposed else 1], x.shape[1 - weight.ndim]
        wanted *= groups if deformable else 1
        if found != wanted:
            raise ValueError(f"a convolution of {wanted} channels got {found}")
    bias = rest[2 if deformable else 0]
    wide = weight.shape[1] * groups if transposed else weight.shape[0]
    if wide % groups:
        raise ValueError(f"a convolution of {groups} groups has {wide} outputs")
    if bias is not None and tuple(bias.shape) != (wide,):
        raise ValueError(f"a convolution of {wide} outputs has a bias of {tuple(bias.shape)}")


def _check_layer_norm(
    x: torch.Tensor,
    shape: Sequence[int],
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
) -> None:
    """Refuse what a layer norm refuses: its shape is the module's word, not its weight's."""
    wanted = tuple(shape)
    shapes = [tuple(x.shape[-len(wanted) :])]
    shapes += [tuple(tensor.shape) for tensor in (weight, bias) if tensor is not None]
    for found in shapes:
        if found != wanted:
            raise ValueError(f"a layer norm of {wanted} got {found}")
