"""Networks that pad their maps to multiples, so that sides between two of these cost as much."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

import convscale as cs


class Padded(nn.Module):
    """A restorer of pictures of any side, which works on sides that 16 divides."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, 1, 1)
        self.down = nn.Sequential(*[self.unit(width, 2) for _ in range(4)])
        self.body = nn.Sequential(*[self.unit(width) for _ in range(4)])
        self.up, self.out = nn.Upsample(scale_factor=16), nn.Conv2d(width, 3, 3, 1, 1)

    @staticmethod
    def unit(width: int, stride: int = 1) -> nn.Module:
        return nn.Sequential(nn.Conv2d(width, width, 3, stride, 1), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[2:]
        x = self.stem(F.pad(x, (0, -width % 16, 0, -height % 16)))
        return self.out(x + self.up(self.body(self.down(x))))[:, :, :height, :width]


def test_a_side_that_pays_for_its_padding_gives_way():
    scaled = cs.scale(Padded(), strategy="dWr", factor=2, resolution=64)
    assert scaled.resolution == 64  # 66.9 px are asked for, and cost as much as 80
    assert abs(scaled.ratio["flops"] / 2 - 1) < 0.05
    assert scaled.module(torch.randn(1, 3, 50, 70)).shape == (1, 3, 50, 70)


def test_a_side_that_is_asked_for_stays_where_no_other_is_near():
    scaled = cs.scale(Padded(), strategy="r", factor=2, resolution=64, weights=False)
    assert scaled.resolution == 91
    assert any("maps or resolution round" in note for note in scaled.notes)
