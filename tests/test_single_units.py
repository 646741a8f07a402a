"""Residual units of which every stage has one: a unit more is added, not layers in its body."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import convscale as cs
from tests.zoo.parts import conv


class Body(nn.Module):
    """Two layers with modules of their own, called by name."""

    def __init__(self, width: int, new: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(width, new, 3, stride), conv(new, new, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv2(self.conv1(x))


class Unit(nn.Module):
    """A residual unit with a flag that tells whether its input is projected."""

    def __init__(self, width: int, new: int, stride: int, *, apart: bool) -> None:
        super().__init__()
        self.projects = stride > 1 or width != new
        if apart:
            self.body = Body(width, new, stride)
        else:
            self.conv1, self.conv2 = conv(width, new, 3, stride), conv(new, new, 3)
        self.apart = apart
        if self.projects:
            self.shortcut = conv(width, new, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        body = self.body(x) if self.apart else self.conv2(self.conv1(x))
        return body + (self.shortcut(x) if self.projects else x)


class Short(nn.Module):
    """A ResNet of one unit a stage."""

    def __init__(self, *, apart: bool) -> None:
        super().__init__()
        self.stem = conv(3, 16, 3, 2)
        for number, (width, new) in enumerate(((16, 16), (16, 32), (32, 64)), start=1):
            stage = nn.Sequential()
            stage.add_module("unit1", Unit(width, new, 1 + (new > width), apart=apart))
            setattr(self, f"stage{number}", stage)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stage3(self.stage2(self.stage1(self.stem(x))))
        return self.fc(x.mean((2, 3)))


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize("factor", [2, 3])
def test_units_are_added_beside_the_only_one(apart, factor):
    base = Short(apart=apart)
    scaled = cs.scale(base, strategy="d", factor=factor, resolution=32)
    module = scaled.module.eval()
    names = [f"unit{number}" for number in range(1, factor + 1)]
    for stage, width in ((module.stage1, 16), (module.stage2, 32), (module.stage3, 64)):
        assert list(stage._modules) == names
        added = stage[1]
        assert not added.projects
        last = (added.body if apart else added).conv2[0]
        assert (last.in_channels, last.out_channels) == (width, width)
    assert module(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
    x = torch.randn(1, 64, 4, 4)
    added = module.stage3.unit2
    body = added.body(x) if apart else added.conv2(added.conv1(x))
    torch.testing.assert_close(added(x), body + x)  # its input is added as it is


class Fused(nn.Module):
    """A grouped convolution that widens, and one that narrows; added to the input if alike."""

    def __init__(self, width: int, new: int, stride: int) -> None:
        super().__init__()
        self.widens = nn.Conv2d(width, 4 * width, 3, stride, 1, groups=2)
        self.narrows = nn.Conv2d(4 * width, new, 1)
        self.adds = stride == 1 and width == new

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.narrows(self.widens(x).relu())
        return x + y if self.adds else y


def test_grouped_convolutions_of_unlike_widths_keep_their_group_width_in_made_units():
    stages = [Fused(16, 16, 1)], [Fused(16, 32, 2)], [Fused(32, 64, 2)]
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    base = nn.Sequential(conv(3, 16, 3, 2), *(nn.Sequential(*stage) for stage in stages), *head)
    scaled = cs.scale(base, strategy="d", factor=2, resolution=32).module
    for place, width, old in ((2, 32, 16), (3, 64, 32)):
        made = scaled[place][1].widens
        assert (made.in_channels, made.out_channels) == (width, 4 * width)
        assert made.in_channels // made.groups == old // 2
    assert scaled.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
