"""Sides of clips and volumes, of which time is halved less often than height and width."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import convscale as cs


def conv(ins, outs, stride=1):
    return nn.Sequential(
        nn.Conv3d(ins, outs, 3, stride, 1, bias=False), nn.BatchNorm3d(outs), nn.ReLU()
    )


class UNet(nn.Module):
    """Adds maps of four sizes: time must be a multiple of 4, height and width of 8."""

    def __init__(self):
        super().__init__()
        self.entry = conv(1, 16)
        self.down = nn.ModuleList([conv(16, 32, (1, 2, 2)), conv(32, 64, 2), conv(64, 96, 2)])
        self.body = nn.Sequential(conv(96, 96), conv(96, 96))
        self.up = nn.ModuleList(
            [
                nn.ConvTranspose3d(96, 64, 2, 2),
                nn.ConvTranspose3d(64, 32, 2, 2),
                nn.ConvTranspose3d(32, 16, (1, 2, 2), (1, 2, 2)),
            ]
        )
        self.exit = nn.Conv3d(16, 2, 1)

    def forward(self, x):
        x, kept = self.entry(x), []
        for layer in self.down:
            kept.append(x)
            x = layer(x)
        x = self.body(x)
        for layer in self.up:
            x = layer(x) + kept.pop()
        return self.exit(x)


@pytest.mark.parametrize(
    ("strategy", "factor", "expected"),
    [
        ("r", 2.0, (20, 144, 144)),  # 2^(1/3) · (16, 112, 112) = (20.2, 141.1, 141.1)
        ("r", 4.0, (24, 176, 176)),  # 4^(1/3) · … = (25.4, 177.8, 177.8)
        ("dwr", 4.0, (20, 128, 128)),  # 4^(1/9) · … = (18.7, 130.7, 130.7)
    ],
)
def test_every_side_of_a_clip_is_the_nearest_that_runs(strategy, factor, expected):
    with torch.device("meta"):
        base = UNet()
    scaled = cs.scale(
        base, strategy=strategy, factor=factor, resolution=(16, 112, 112), weights=False
    )
    assert scaled.resolution == expected
