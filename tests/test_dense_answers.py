"""A map as large as the image is the network's answer, one channel a class; smaller ones scale."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

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


class Ending(nn.Module):
    """One map of `channels`, at a quarter of the sides or at all of them, behind a function."""

    def __init__(self, end, channels=8, stride=2):
        super().__init__()
        self.end = end
        self.body = nn.Sequential(conv(3, 32, 3, stride), conv(32, 64, 3, stride))
        self.exit = nn.Conv2d(64, channels, 3, 1, 1)

    def forward(self, x):
        return self.end(self.exit(self.body(x)))


ENDS = {
    "exp": torch.exp,
    "softplus": functional.softplus,
    "clamp": lambda x: x.clamp(0, 1),
    "clamp from below": lambda x: x.clamp(min=0),
    "absolute": torch.abs,
    "a square": lambda x: x**2,
    "of norm 1": functional.normalize,
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("factor", [0.25, 4.0])
def test_scores_that_are_squashed_keep_their_channels(end, factor):
    scaled = cs.scale(Ending(ENDS[end]), strategy="w", factor=factor, resolution=64)
    assert scaled.module.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 8, 16, 16)
    assert not any("feature maps" in note for note in scaled.notes)


@pytest.mark.parametrize("end", [torch.relu, functional.leaky_relu, functional.relu6])
@pytest.mark.parametrize(("channels", "stride"), [(3, 1), (2, 1), (3, 2)])
def test_a_map_of_no_more_channels_than_a_picture_is_an_answer(end, channels, stride):
    scaled = cs.scale(Ending(end, channels, stride), strategy="w", factor=4, resolution=64)
    assert scaled.module.exit.weight.shape == (channels, 128, 3, 3)


def test_a_map_of_more_channels_behind_an_activation_is_a_feature_map():
    scaled = cs.scale(Ending(torch.relu, 48), strategy="w", factor=4, resolution=64)
    assert scaled.module.exit.out_channels == 96
    assert any("feature maps" in note for note in scaled.notes)


class Detecting(nn.Module):
    """Classes, boxes and centres for each of two maps; `end` makes distances of the boxes."""

    def __init__(self, end):
        super().__init__()
        self.end = end
        self.down, self.further = conv(3, 48, 3, 4), conv(48, 48, 3, 2)
        self.tower = conv(48, 48, 3)
        self.classes, self.box = nn.Conv2d(48, 20, 3, 1, 1), nn.Conv2d(48, 8, 3, 1, 1)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        found = []
        x = self.down(x)
        for level in (x, self.further(x)):
            level = self.tower(level)
            found += [self.classes(level), self.end(self.scale * self.box(level))]
        return found


@pytest.mark.parametrize("end", [torch.exp, torch.relu, nn.Identity()])
@pytest.mark.parametrize("strategy", ["w", "dWr"])
def test_what_ends_beside_scores_keeps_its_channels(end, strategy):
    scaled = cs.scale(Detecting(end), strategy=strategy, factor=4, resolution=64)
    side = scaled.resolution
    found = scaled.module.eval()(torch.zeros(1, 3, side, side))
    assert [one.shape[1] for one in found] == [20, 8, 20, 8]
    assert scaled.module.tower[0].out_channels > 48


class Whole(nn.Module):
    """HighResNet in small: all maps are as large as the image, the last one behind a function."""

    def __init__(self, classes):
        super().__init__()
        self.body = nn.Sequential(conv(1, 16, 3), conv(16, 16, 3), conv(16, 32, 3))
        self.exit = conv(32, classes, 1)

    def forward(self, x):
        return self.exit(self.body(x))


@pytest.mark.parametrize("factor", [0.5, 4.0])
def test_the_narrowest_map_of_a_network_without_strides_keeps_its_channels(factor):
    image = torch.zeros(1, 1, 32, 32)
    scaled = cs.scale(Whole(5), strategy="w", factor=factor, example_inputs=(image,))
    assert scaled.module.eval()(image).shape == (1, 5, 32, 32)
    assert scaled.module.body[1][0].out_channels != 16
    wide = cs.scale(Whole(24), strategy="w", factor=factor, example_inputs=(image,))
    assert wide.module.eval()(image).shape[1] != 24
    assert any("feature maps" in note for note in wide.notes)
