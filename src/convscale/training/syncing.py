"""Batch normalisation over the batch of all processes, on any device and in any module.

While a `SyncedBatchNorm` is active, every call of `batch_norm` that takes its statistics from the
batch takes them from all processes' parts of it: no module is replaced, so that layers that derive
from PyTorch's, and those that call the function themselves, are included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class SyncedBatchNorm(TorchFunctionMode):
    """Take the statistics of batch normalisation from the parts of all processes.

    Every process must have a part of the same size.

    Example:
        >>> with SyncedBatchNorm():  # a process alone has the whole batch
        ...     out = torch.nn.BatchNorm2d(2)(torch.rand(4, 2, 3, 3))
        >>> bool(out.mean().abs() < 1e-6)
        True
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        if func is functional.batch_norm and dist.is_initialized():
            named |= dict(zip(_FUNCTIONAL, args, strict=False))
            if named.get("training", False) and not _is_of_weights(named["input"]):
                return _normalised(**named)
            return func(**named)
        if func is torch.batch_norm and dist.is_initialized():
            named |= dict(zip(_PLAIN, args, strict=False))
            if named.get("training", False) and not _is_of_weights(named["input"]):
                named.pop("cudnn_enabled", None)
                return _normalised(**named)
            return func(*(named[name] for name in _PLAIN))
        return func(*args, **named)


def _is_of_weights(values: Tensor) -> bool:
    """Tell whether a layer normalises its own weights (timm's StdConv), alike in all processes."""
    return isinstance(values._base, nn.Parameter)


# The arguments of torch.nn.functional.batch_norm and of torch.batch_norm, in their order.
_FUNCTIONAL = "input running_mean running_var weight bias training momentum eps".split()
_PLAIN = "input weight bias running_mean running_var training momentum eps cudnn_enabled".split()


def _normalised(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = True,  # noqa: ARG001
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    mean, variance, count = _statistics(input)
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            unbiased = variance * (count / max(count - 1, 1))
            running_var.lerp_(unbiased.to(running_var.dtype), momentum)
    normalised: Tensor = _Normalise.apply(input, weight, bias, mean, variance, eps, count)
    return normalised


@torch.no_grad()
def _statistics(images: Tensor) -> tuple[Tensor, Tensor, int]:
    """Return mean and variance of each channel over all processes, and the number of elements.

    Each process gives its own mean and variance; with parts of one size, the mean of all is the
    mean of the means, and the variance that of the variances plus that of the means.
    """
    world = dist.get_world_size()
    variance, mean = torch.var_mean(_wide(images), _axes(images), correction=0)
    own = torch.stack([mean, variance])
    parts = [torch.empty_like(own) for _ in range(world)]
    dist.all_gather(parts, own)
    means, variances = torch.stack(parts).unbind(1)
    mean = means.mean(0)
    variance = variances.mean(0) + (means - mean).square().mean(0)
    return mean, variance, world * (images.numel() // images.shape[1])


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(variance + eps) · weight + bias, where mean and variance follow from x."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        images: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        variance: Tensor,
        eps: float,
        count: int,
    ) -> Tensor:
        ctx.save_for_backward(images, weight, mean, torch.rsqrt(variance + eps))  # type: ignore[arg-type]
        ctx.count = count  # type: ignore[attr-defined]
        return functional.batch_norm(images, mean, variance, weight, bias, False, 0.0, eps)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        r"""Return the gradients; x̂ is the normalised input and N its elements a channel.

        dx = w / σ · (dy - Σ dy / N - x̂ · Σ dy·x̂ / N), dw = Σ dy·x̂, db = Σ dy;

        the sums in dx run over all processes, those of dw and db over the own part.
        """
        images, weight, mean, inverse = ctx.saved_tensors  # type: ignore[attr-defined]
        gradient = _wide(gradients[0])
        axes, shape = _axes(images), _shape(images)
        hat = (_wide(images) - mean.view(shape)) * inverse.view(shape)
        own = torch.stack([gradient.sum(axes), (gradient * hat).sum(axes)])
        total = own.clone()
        dist.all_reduce(total)
        shift, slope = (total / ctx.count).unbind(0)  # type: ignore[attr-defined]
        scale = inverse if weight is None else inverse * _wide(weight)
        moved = gradient - shift.view(shape) - hat * slope.view(shape)
        given = (moved * scale.view(shape)).to(images.dtype)
        slopes = own[1].to(images.dtype if weight is None else weight.dtype)
        shifts = own[0].to(slopes.dtype)
        _, scaled, shifted, *_ = ctx.needs_input_grad  # type: ignore[attr-defined]
        return (given, slopes if scaled else None, shifts if shifted else None, *[None] * 4)


def _wide(values: Tensor) -> Tensor:
    """Return values in which sums of many are exact enough."""
    return values if values.dtype is torch.float64 else values.float()


def _axes(images: Tensor) -> list[int]:
    return [axis for axis in range(images.dim()) if axis != 1]


def _shape(images: Tensor) -> list[int]:
    return [-1 if axis == 1 else 1 for axis in range(images.dim())]
