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


class Attention(nn.Module):
    """Values that are a ratio of the keys, both of them attributes, in one layer of all heads."""

    def __init__(self, width: int, key: int, heads: int, ratio: int) -> None:
        super().__init__()
        self.key, self.heads, self.ratio = key, heads, ratio
        self.scale = key**-0.5
        self.inside = nn.Linear(width, heads * key * (2 + ratio))
        self.exit = nn.Linear(heads * key * ratio, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, positions, _ = x.shape
        parts = self.inside(x).view(n, positions, self.heads, -1)
        query, key, value = parts.split([self.key, self.key, self.ratio * self.key], dim=3)
        query, key, value = (one.transpose(1, 2) for one in (query, key, value))
        chances = (query @ key.transpose(-2, -1) * self.scale).softmax(-1)
        return x + self.exit((chances @ value).transpose(1, 2).reshape(n, positions, -1))


class Hybrid(nn.Module):
    """Convolutions, then attention over positions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 128, 8, 8)
        self.blocks = nn.Sequential(*[Attention(128, 16, 4, 4) for _ in range(2)])
        self.head = nn.Linear(128, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.stem(x).flatten(2).transpose(1, 2)).mean(1))


@pytest.mark.parametrize("factor", [0.5, 1.5, 2, 2.25, 3, 4])
def test_values_keep_their_ratio_to_keys(factor):
    scaled = cs.scale(Hybrid(), strategy="w", factor=factor, resolution=64)
    block = scaled.module.blocks[0]
    inner = block.key * block.heads * block.ratio
    assert (block.heads, block.ratio) == (4, 4)
    assert block.exit.in_features == inner
    assert abs(inner / (256 * factor**0.5) - 1) < 0.07
    assert scaled.module(torch.randn(2, 3, 64, 64)).shape == (2, 10)
