"""Spectral norms hold estimates of a weight's largest singular vectors: found again here."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import nn
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.spectral_norm import SpectralNorm

_ROUNDS = 15  # as many as PyTorch starts with


def is_direction(tensor: torch.Tensor) -> bool:
    """Tell whether a tensor is a vector of norm 1, such as the estimate of a singular vector.

    Example:
        >>> is_direction(torch.tensor([0.6, 0.8])), is_direction(torch.tensor([0.5, 0.5]))
        (True, False)
    """
    vector = tensor.ndim == 1 and tensor.numel() > 1 and tensor.is_floating_point()
    return vector and abs(float(tensor.norm()) - 1) < 1e-3


def estimate_again(module: nn.Module, kept: Collection[str] = ()) -> None:
    """Let the spectral norms in a module of our own estimate the weights that it has now.

    Args:
        module: The module.
        kept: The tensors that are as they were, by name: estimates of weights among them stay.

    Example:
        >>> net = nn.utils.spectral_norm(nn.Linear(4, 4, bias=False))
        >>> net.weight_orig = nn.Parameter(torch.diag(torch.tensor([9.0, 1.0, 1.0, 1.0])))
        >>> estimate_again(net)
        >>> round(net.eval()(torch.eye(4))[0, 0].item(), 3)  # 9 of a norm of 9
        1.0
    """
    with torch.no_grad():
        for path, part in module.named_modules():
            if all(f"{path}.{name}".lstrip(".") in kept for name in _own_tensors(part)):
                continue
            for hook in part._forward_pre_hooks.values():
                if isinstance(hook, SpectralNorm):
                    for _ in range(_ROUNDS):
                        hook.compute_weight(part, do_power_iteration=True)
            if isinstance(part, nn.utils.parametrize.ParametrizationList):
                for norm in part:
                    if isinstance(norm, _SpectralNorm) and part.original.ndim > 1:
                        norm._power_method(norm._reshape_weight_to_matrix(part.original), _ROUNDS)


def _own_tensors(part: nn.Module) -> list[str]:
    """Name the tensors that a spectral norm reads: a parametrization's are in its parts."""
    inside = isinstance(part, nn.utils.parametrize.ParametrizationList)
    tensors = (*part.named_parameters(recurse=inside), *part.named_buffers(recurse=inside))
    return [name for name, _ in tensors]
