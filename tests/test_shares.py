"""Parts of a width that are cut by one attribute and its multiples keep their shares."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import convscale as cs


class Shared(nn.Module):
    """Of three parts one goes past a depthwise convolution of the two others."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.stem = nn.Conv2d(3, width, 3, 2, 1)
        self.enter = nn.Conv2d(width, 3 * width, 1)
        self.spread = nn.Conv2d(2 * width, 2 * width, 7, 1, 3, groups=2 * width)
        self.exit = nn.Conv2d(3 * width, width, 1)
        self.head = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        past, through = torch.split(self.enter(x), [self.width, 2 * self.width], dim=1)
        x = x + self.exit(torch.cat((past, self.spread(through)), 1).relu())
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize(
    ("factor", "width"), [(0.5, 24), (1.5, 40), (2, 48), (4, 64), (8, 88), (16, 128)]
)
def test_all_parts_follow_one_width(factor, width):
    scaled = cs.scale(Shared(32), strategy="w", factor=factor, resolution=32, weights=False)
    shapes = {name: tuple(one.shape) for name, one in scaled.module.state_dict().items()}
    assert shapes["stem.weight"] == (width, 3, 3, 3)
    assert shapes["enter.weight"] == (3 * width, width, 1, 1)
    assert shapes["spread.weight"] == (2 * width, 1, 7, 7)
    assert shapes["exit.weight"] == (width, 3 * width, 1, 1)
    assert scaled.module.width == width


def test_the_attribute_is_what_parts_are_multiples_of():
    scaled = cs.scale(Shared(32), strategy="w", factor=3, resolution=32)
    assert scaled.module(torch.randn(2, 3, 32, 32)).shape == (2, 10)
