"""Batch normalisation over all parts of a batch, on any device and in any module.

While a `SyncedBatchNorm` is active, every call of `batch_norm` that takes its statistics from the
batch takes them from all parts of it, of several processes or of one (`parting`): no module is
replaced, so that layers that derive from PyTorch's, and those that call the function themselves,
are included.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from convscale.errors import InputError

Gather = Callable[[Tensor], list[Tensor]]  # what all parts give, in their order


def of_all_processes(own: Tensor) -> list[Tensor]:
    """Return what all processes give, in their order; every process must ask."""
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, own)
    return parts


def in_order(parts: Sequence[Tensor]) -> Tensor:
    """Return the sum of parts, the first to the last: the same bits wherever it is taken.

    Example:
        >>> in_order([torch.ones(2), torch.ones(2)])
        tensor([2., 2.])
    """
    total = parts[0].clone()
    for part in parts[1:]:
        total += part
    return total


def mean_in_order(own: Tensor) -> torch.futures.Future[Tensor]:
    """Return the mean of what all processes give, by `in_order`, without waiting for it."""
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    done = dist.all_gather(parts, own, async_op=True).get_future()
    return done.then(lambda _: in_order(parts) / len(parts))


class SyncedBatchNorm(TorchFunctionMode):
    """Take the statistics of batch normalisation from all parts of a batch.

    All parts must be of the same size.

    Args:
        gather: Gives what all parts give; by default each process has one.

    Raises:
        InputError: Where a layer is called that runs again in the backward pass.

    Example:
        >>> with SyncedBatchNorm(lambda own: [own]):  # one part, which is the whole batch
        ...     out = torch.nn.BatchNorm2d(2)(torch.rand(4, 2, 3, 3))
        >>> bool(out.mean().abs() < 1e-6)
        True
    """

    def __init__(self, gather: Gather = of_all_processes) -> None:
        super().__init__()
        self._gather = gather

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        if func is functional.batch_norm:
            named |= dict(zip(_FUNCTIONAL, args, strict=False))
            if named.get("training", False) and not _is_of_weights(named["input"]):
                return _normalised(self._gather, **named)
            return func(**named)
        if func is torch.batch_norm:
            named |= dict(zip(_PLAIN, args, strict=False))
            if named.get("training", False) and not _is_of_weights(named["input"]):
                named.pop("cudnn_enabled", None)
                return _normalised(self._gather, **named)
            return func(*(named[name] for name in _PLAIN))
        return func(*args, **named)


def _is_of_weights(values: Tensor) -> bool:
    """Tell whether a layer normalises its own weights (timm's StdConv), alike in all parts."""
    return isinstance(values._base, nn.Parameter)


# The arguments of torch.nn.functional.batch_norm and of torch.batch_norm, in their order.
_FUNCTIONAL = "input running_mean running_var weight bias training momentum eps".split()
_PLAIN = "input weight bias running_mean running_var training momentum eps cudnn_enabled".split()


def _refuse_to_run_again() -> None:
    """Refuse layers that run again in the backward pass, where no `SyncedBatchNorm` is active.

    Raises:
        InputError: If this runs within `torch.utils.checkpoint`.
    """
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_globals is vars(torch.utils.checkpoint):
            raise InputError(
                "The network runs batch normalisation again in the backward pass (by "
                "torch.utils.checkpoint), where it would not have the statistics of all parts of a "
                "batch. Turn that off in the network, or set sync_batchnorm to false."
            )


def _normalised(
    gather: Gather,
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = True,  # noqa: ARG001
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    _refuse_to_run_again()
    mean, variance, count = _statistics(input, gather)
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            unbiased = variance * (count / max(count - 1, 1))
            running_var.lerp_(unbiased.to(running_var.dtype), momentum)
    normalised: Tensor = _Normalise.apply(input, weight, bias, mean, variance, eps, count, gather)
    return normalised


@torch.no_grad()
def _statistics(images: Tensor, gather: Gather) -> tuple[Tensor, Tensor, int]:
    """Return mean and variance of each channel over all parts, and the number of elements.

    Each part gives its own mean and variance; with parts of one size, the mean of all is the
    mean of the means, and the variance that of the variances plus that of the means.
    """
    unused = torch.zeros(2, images.shape[1], dtype=_wide(images.dtype), device=images.device)
    mean, variance = torch.ops.aten.batch_norm_update_stats(images, *unused, 0.0)
    parts = gather(torch.stack([mean, variance]))
    means, variances = torch.stack(parts).unbind(1)
    between, mean = torch.var_mean(means, 0, correction=0)
    return mean, variances.mean(0) + between, len(parts) * (images.numel() // images.shape[1])


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
        gather: Gather,
    ) -> Tensor:
        ctx.save_for_backward(images, weight, mean, variance)  # type: ignore[arg-type]
        ctx.eps, ctx.count, ctx.gather = eps, count, gather  # type: ignore[attr-defined]
        return functional.batch_norm(images, mean, variance, weight, bias, False, 0.0, eps)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        r"""Return the gradients; x̂ is the normalised input and N its elements a channel.

        dx = w / σ · (dy - Σ dy / N - x̂ · Σ dy·x̂ / N), dw = Σ dy·x̂, db = Σ dy;

        the sums in dx run over all parts, those of dw and db over the own.
        """
        images, weight, mean, variance = ctx.saved_tensors  # type: ignore[attr-defined]
        eps, count, gather = ctx.eps, ctx.count, ctx.gather  # type: ignore[attr-defined]
        [gradient] = gradients
        slopes, shifts = _sums(images, gradient, mean, variance, eps)
        slope, shift = (in_order(gather(torch.stack([slopes, shifts]))) / count).unbind(0)
        inverse = torch.rsqrt(variance + eps)
        scale = inverse if weight is None else inverse * weight.to(inverse.dtype)
        # dx = scale · dy - tilt · x + level: two passes over the elements
        tilt = scale * inverse * slope
        level = tilt * mean - scale * shift
        shape = [-1 if axis == 1 else 1 for axis in range(images.dim())]
        scale, tilt, level = (one.view(shape) for one in (scale, -tilt, level))
        given = torch.addcmul(level, gradient, scale).addcmul_(images, tilt)
        _, scaled, shifted, *_ = ctx.needs_input_grad  # type: ignore[attr-defined]
        kind = images.dtype if weight is None else weight.dtype
        return (
            given.to(images.dtype),
            slopes.to(kind) if scaled else None,
            shifts.to(kind) if shifted else None,
            *[None] * 5,
        )


def _sums(
    images: Tensor, gradient: Tensor, mean: Tensor, variance: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Return Σ dy·x̂ and Σ dy of each channel: the gradients where statistics are fixed."""
    fixed = (None, mean, variance, None, None, False, eps, [False, True, True])
    _, slopes, shifts = torch.ops.aten.native_batch_norm_backward(gradient, images, *fixed)
    return slopes, shifts


def _wide(dtype: torch.dtype) -> torch.dtype:
    """Return the type in which sums of many are exact enough."""
    return torch.promote_types(dtype, torch.float32)
