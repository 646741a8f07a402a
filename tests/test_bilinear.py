"""Bilinear layers: both inputs and the output follow; each pair of inputs has a weight."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import convscale as cs
from tests import checks


class Fused(nn.Module):
    """Two branches of 16 and 32 channels that a bilinear layer makes 8 numbers, then 5, of."""

    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 16, 1), nn.Conv2d(3, 32, 1)
        self.fuse, self.head = nn.Bilinear(16, 32, 8, bias=bias), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        one, two = (layer(x).relu().mean((2, 3)) for layer in (self.one, self.two))
        return self.head(self.fuse(one, two).relu())


def flops(a: int, b: int, c: int) -> int:
    """Of a 4x4 image: two convolutions, every pair for every output, the head."""
    return 16 * 3 * (a + b) + a * b * c + c * 5


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_bilinear_layer_follows_on_all_sides(bias, factor):
    base = Fused(bias)
    assert cs.count(base, resolution=4).flops == flops(16, 32, 8)
    asked = flops(*(int(width * factor) for width in (16, 32, 8))) / flops(16, 32, 8)
    scaled = cs.scale(base, strategy="w", factor=factor**2, resolution=4)
    net = scaled.module
    a, b, c = net.fuse.in1_features, net.fuse.in2_features, net.fuse.out_features
    assert (a, b, c) == tuple(int(width * factor) for width in (16, 32, 8))
    assert net.fuse.weight.shape == (c, a, b)
    assert (net.one.out_channels, net.two.out_channels, net.head.in_features) == (a, b, c)
    assert scaled.ratio["flops"] == pytest.approx(asked)
    assert not any(note.startswith("Widths kept") for note in scaled.notes)
    checks.check_runs_forward_and_backward(net, 4)


def test_an_input_that_no_layer_puts_out_holds_its_side_alone():
    """Two coordinates beside the channels: their number is that of the layer's second input."""

    class Placed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.fuse, self.head = (
                nn.Conv2d(3, 16, 1),
                nn.Bilinear(16, 2, 8),
                nn.Linear(8, 5),
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            at = torch.stack([x.mean((1, 2, 3)), x.amax((1, 2, 3))], 1)
            return self.head(self.fuse(self.one(x).mean((2, 3)), at))

    fuse = cs.scale(Placed(), strategy="w", factor=4.0, resolution=4).module.fuse
    assert (fuse.in1_features, fuse.in2_features, fuse.out_features) == (32, 2, 16)
