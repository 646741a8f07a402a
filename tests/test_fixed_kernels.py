"""Kernels that stay, one for each channel: wavelets and blurs, there and back."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

import convscale as cs
from tests.checks import torch_flops

HAAR = torch.tensor([[1.0, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2


class Repeated(nn.Module):
    """Four kernels in a buffer, repeated for as many channels as arrive."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("kernels", HAAR.view(4, 1, 2, 2))
        self.mix = nn.Sequential(nn.Conv2d(4 * width, 4 * width, 1), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        width = x.shape[1]
        kernels = self.kernels.repeat(width, 1, 1, 1)
        parts = self.mix(functional.conv2d(x, kernels, stride=2, groups=width))
        return x + functional.conv_transpose2d(parts, kernels, stride=2, groups=width)


class Stored(nn.Module):
    """Kernels of its own for each channel, kept as a parameter, with a depthwise layer between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        kernels = HAAR.view(4, 1, 2, 2).repeat(width, 1, 1, 1)
        self.there = nn.Parameter(kernels.clone(), requires_grad=False)
        self.back = nn.Parameter(kernels.clone(), requires_grad=False)
        self.depthwise = nn.Conv2d(4 * width, 4 * width, 5, 1, 2, groups=4 * width)
        self.scale = nn.Parameter(torch.ones(1, 4 * width, 1, 1) * 0.1)
        self.exit = nn.Conv2d(width, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        parts = functional.conv2d(x, self.there, stride=2, groups=c)
        parts = parts.reshape(n, c, 4, h // 2, w // 2)
        parts = self.scale * self.depthwise(parts.reshape(n, c * 4, h // 2, w // 2))
        x = x + functional.conv_transpose2d(parts, self.back, stride=2, groups=c)
        return x + self.exit(x)


class Blurred(nn.Module):
    """One kernel without an axis of its own, repeated for all channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.ones(1, 1, 3, 3) / 9)
        self.mix = nn.Conv2d(width, width, 3, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kernel = self.kernel.repeat(x.size(1), 1, 1, 1)
        return x + self.mix(functional.conv2d(x, kernel, padding=1, groups=x.size(1)))


@pytest.mark.parametrize("block", [Repeated, Stored, Blurred])
@pytest.mark.parametrize(("strategy", "factor"), [("w", 4.0), ("w", 0.25), ("dw", 4.0)])
def test_widths_around_fixed_kernels_follow(block, strategy, factor):
    net = nn.Sequential(
        nn.Conv2d(3, 32, 3, 1, 1), block(32), block(32), nn.Conv2d(32, 48, 3, 2, 1), block(48)
    )
    scaled = cs.scale(net, strategy=strategy, factor=factor, resolution=32)
    module, growth = scaled.module, scaled.factors.width
    assert not any("kept" in note and "idth" in note for note in scaled.notes)
    assert abs(module[0].out_channels - 32 * growth) <= 4
    assert module(torch.randn(2, 3, 32, 32)).isfinite().all()
    assert scaled.achieved.flops == torch_flops(module, 32)
    for own in module:
        if isinstance(own, Repeated | Blurred):
            fixed = own.kernels if isinstance(own, Repeated) else own.kernel
            assert fixed.shape[0] in (1, 4)
        if isinstance(own, Stored):
            assert own.there.shape[0] == 4 * own.exit.in_channels == own.depthwise.groups
