"""Layers whose kernels a forward pass computes from others, and assigns to them."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

import convscale as cs
from tests.checks import torch_flops


class Merged(nn.Module):
    """Two 1x1 and a 3x3 convolution in training; one, computed from these, in evaluation."""

    def __init__(self, taken: int, put: int) -> None:
        super().__init__()
        self.beside = nn.Conv2d(taken, put, 1, bias=False)
        self.enter = nn.Conv2d(taken, 2 * taken, 1, bias=False)
        self.spread = nn.Conv2d(2 * taken, put, 3, bias=False)
        self.merged = nn.Conv2d(taken, put, 3, padding=1, bias=False)

    def merge(self) -> None:
        enter = self.enter.weight.data.clone()
        kernel = functional.conv2d(self.spread.weight.data, enter.permute(1, 0, 2, 3))
        self.merged.weight.data = kernel + functional.pad(self.beside.weight.data, (1, 1, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            return self.spread(self.enter(functional.pad(x, (1, 1, 1, 1)))) + self.beside(x)
        self.merge()
        return self.merged(x)


def network() -> nn.Module:
    body = [layer for _ in range(3) for layer in (Merged(32, 32), nn.ReLU())]
    return nn.Sequential(Merged(3, 32), *body, nn.Conv2d(32, 48, 3, 1, 1), nn.PixelShuffle(4))


@pytest.mark.parametrize("factor", [0.5, 2, 4])
def test_widths_follow_through_computed_kernels(factor):
    base = network().eval()
    scaled = cs.scale(base, strategy="w", factor=factor, resolution=16)
    width = round(32 * factor**0.5 / 8) * 8
    for layer in (scaled.module[0], scaled.module[1]):
        assert layer.merged.out_channels == layer.spread.out_channels == width
        assert layer.beside.out_channels == width
    assert scaled.achieved.flops == torch_flops(scaled.module, 16)
    x = torch.randn(2, 3, 16, 16)
    evaluated = scaled.module.eval()(x)
    trained = scaled.module.train()(x)
    torch.testing.assert_close(evaluated, trained, atol=1e-4, rtol=1e-4)
