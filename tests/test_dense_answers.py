"""A map as large as the image is the network's answer, one channel a class; smaller ones scale."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import convscale as cs
from tests.zoo.parts import conv


class Segmenting(nn.Module):
    """Scores that end in a norm and an activation, added to those of a second way."""

    def __init__(self, up=True, classes=19):
        super().__init__()
        self.down = nn.Sequential(conv(3, 32, 3, 2), conv(32, 64, 3, 2))
        self.wide, self.deep = conv(64, classes, 1), conv(64, classes, 3)
        self.up = nn.Upsample(scale_factor=4) if up else nn.Identity()

    def forward(self, x):
        x = self.down(x)
        return self.up(self.wide(x) + self.deep(x))


@pytest.mark.parametrize("factor", [0.5, 4.0])
def test_a_map_as_large_as_the_image_keeps_its_channels(factor):
    scaled = cs.scale(Segmenting(), strategy="w", factor=factor, resolution=64)
    assert scaled.module.down[1][0].out_channels == {0.5: 48, 4.0: 128}[factor]
    assert scaled.module.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 19, 64, 64)
    assert not any("feature maps" in note for note in scaled.notes)


def test_a_smaller_map_is_a_feature_map_and_is_named():
    scaled = cs.scale(Segmenting(up=False), strategy="w", factor=4, resolution=64)
    assert scaled.module.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 38, 16, 16)
    assert any("feature maps" in note and "19 channels" in note for note in scaled.notes)
