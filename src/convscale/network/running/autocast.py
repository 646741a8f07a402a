"""Run a network on the meta device with the precision that autocast gives tensors on a GPU.

The casts that autocast makes itself are silent: observers see the operators of a run without it,
on tensors that have other types. What the network's own code casts, it casts here too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

_GPU = torch.device("cuda")
_HALF, _FULL = torch.float16, torch.float32
_BOTH = (_HALF, _FULL)
# Operators that autocast runs in half precision, and in full precision, as they arrive at the
# dispatcher.
_LOWER = frozenset(
    "convolution mm addmm bmm baddbmm addbmm mv addmv addr _prelu_kernel deform_conv2d "
    "_scaled_dot_product_flash_attention _scaled_dot_product_efficient_attention".split()
)
_UPPER = frozenset(
    "acos asin cosh erfinv exp expm1 log log10 log2 log1p reciprocal rsqrt sinh tan pow softplus "
    "native_layer_norm native_group_norm frobenius_norm logsumexp renorm dist prod _softmax "
    "_fused_rms_norm _log_softmax cumprod cumsum linalg_vector_norm norm sum".split()
)
# Functions whose operands autocast casts before they become several operators.
_WHOLE = frozenset((torch._C._nn.linear, torch._C._nn.scaled_dot_product_attention))

_CONVOLUTIONS = frozenset(
    getattr(torch, f"{name}{dims}d") for name in ("conv", "conv_transpose") for dims in (1, 2, 3)
)
_PLACES = (torch.device, str)
_BIAS = 2  # its place among the arguments of a convolution


@contextmanager
def as_on_gpu() -> Iterator[None]:
    """Let code that asks see that autocast to float16 is on; what it sets ends with the run.

    Example:
        >>> with as_on_gpu(), torch.autocast("cuda", enabled=False):
        ...     torch.is_autocast_enabled("cuda")
        False
    """
    before, dtype = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    torch.set_autocast_enabled("cuda", True)
    torch.set_autocast_dtype("cuda", _HALF)
    try:
        yield
    finally:
        torch.set_autocast_enabled("cuda", before)
        torch.set_autocast_dtype("cuda", dtype)


class Autocast:
    """What autocast does to the operands of operators, and what code is told of the device.

    `on` is false where the code that runs has turned automatic casts off.

    Example:
        >>> x, w = torch.empty(1, 2, device="meta"), torch.empty(2, 3, device="meta")
        >>> args = Autocast().operands(torch.ops.aten.mm.default, (x, w))
        >>> [tensor.dtype for tensor in args]
        [torch.float16, torch.float16]
    """

    def __init__(self) -> None:
        self.on = True
        self._whole = False
        self._blanks: dict[tuple[Any, ...], torch.Tensor] = {}
        self._biases: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def call(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        inner: Callable[[Any, tuple[Any, ...], dict[str, Any]], Any] | None,
    ) -> Any:
        """Call a function of PyTorch as on a GPU: where tensors are asked for, they are on one."""
        if getattr(func, "__name__", "") == "__get__":
            found = func(*args)
            return _GPU if type(found) is torch.device and found.type == "meta" else found
        self.on = torch.is_autocast_enabled("cuda")  # below functions PyTorch does not tell
        if "device" in kwargs:
            kwargs = {**kwargs, "device": _here(kwargs["device"])}
        for value in args:
            if type(value) in _PLACES and _is_gpu(value):
                args = tuple(map(_here, args))
                break
        if func in _CONVOLUTIONS and self.on:
            args, kwargs = self._with_bias(args, kwargs)
        if func not in _WHOLE:
            return func(*args, **kwargs) if inner is None else inner(func, args, kwargs)
        self._whole = True
        try:
            return func(*args, **kwargs) if inner is None else inner(func, args, kwargs)
        finally:
            self._whole = False

    def _with_bias(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Cast the bias of a convolution, which PyTorch compares with the input beforehand."""
        own = kwargs.get("bias") if len(args) <= _BIAS else args[_BIAS]
        if own is None:
            return args, kwargs
        cast = self._cast(own, (args[0] if args else kwargs["input"]).dtype)
        self._biases = {id(cast): (cast, own)}
        if len(args) <= _BIAS:
            return args, {**kwargs, "bias": cast}
        return (*args[:_BIAS], cast, *args[_BIAS + 1 :]), kwargs

    def seen(self, func: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the arguments of an operator as they would be without casts."""
        if func._opname != "convolution" or id(args[_BIAS]) not in self._biases:
            return args
        return (*args[:_BIAS], self._biases[id(args[_BIAS])][1], *args[_BIAS + 1 :])

    def operands(self, func: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the operands of an operator in the precision in which it runs."""
        wanted = self._wanted(func._opname)
        if wanted is None or not self.on:
            return args
        return tuple([self._cast(value, wanted) for value in args])

    def _wanted(self, name: str) -> torch.dtype | None:
        if name in _LOWER or (self._whole and name.startswith("add")):
            return _HALF
        return _FULL if name in _UPPER or name.startswith("upsample_") else None

    def _cast(self, value: Any, wanted: torch.dtype) -> Any:
        """Return an operand, or the operands in a list, in another precision."""
        if not isinstance(value, torch.Tensor):
            if type(value) is list and value and isinstance(value[0], torch.Tensor):
                return [self._cast(one, wanted) for one in value]
            return value
        dtype = value.dtype
        if dtype is wanted or dtype not in _BOTH or not value.is_meta:
            return value
        key = (value.shape, value.stride(), wanted)
        found = self._blanks.get(key)  # nobody writes operands that are cast: one serves all
        if found is None:
            found = self._blanks[key] = torch.empty_like(value, dtype=wanted)
        return found

    def inside(self, func: Any, args: tuple[Any, ...]) -> bool:
        """Tell whether an operator is a cast by which PyTorch makes one kernel out of others."""
        return self._whole and func._opname == "_to_copy" and args[0].is_floating_point()


def _is_gpu(value: object) -> bool:
    if isinstance(value, torch.device):
        return value.type == "cuda"
    return isinstance(value, str) and value.startswith("cuda")


def _here(value: Any) -> Any:
    return torch.device("meta") if _is_gpu(value) else value
