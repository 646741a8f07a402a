"""Attributes that are as large as the parts of a chunk follow these: other methods read them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import convscale as cs


class Partial(nn.Module):
    """Half of the channels goes on through blocks, and all are joined; as chunks, or by sizes."""

    def __init__(self, width: int, depth: int = 2) -> None:
        super().__init__()
        self.c = width // 2
        self.count = depth
        self.enter = nn.Conv2d(width, 2 * self.c, 1)
        self.blocks = nn.ModuleList(nn.Conv2d(self.c, self.c, 3, 1, 1) for _ in range(depth))
        self.exit = nn.Conv2d((2 + depth) * self.c, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.joined(list(self.enter(x).chunk(2, 1)))

    def forward_split(self, x: torch.Tensor) -> torch.Tensor:
        return self.joined(list(self.enter(x).split((self.c, self.c), 1)))

    def joined(self, parts: list[torch.Tensor]) -> torch.Tensor:
        parts.extend(block(parts[-1]).relu() for block in self.blocks)
        return self.exit(torch.cat(parts, 1))


def network() -> nn.Module:
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    return nn.Sequential(nn.Conv2d(3, 64, 3, 2, 1), Partial(64), Partial(64), *head)


@pytest.mark.parametrize(("strategy", "factor"), [("w", 2), ("w", 0.5), ("dWr", 3), ("w", 4)])
def test_the_size_of_a_half_follows(strategy, factor):
    scaled = cs.scale(network(), strategy=strategy, factor=factor, resolution=32)
    blocks = [part for part in scaled.module.modules() if isinstance(part, Partial)]
    for block in blocks:
        assert 2 * block.c == block.enter.out_channels != 64
        x = torch.randn(1, block.enter.in_channels, 8, 8)
        torch.testing.assert_close(block.forward_split(x), block(x))
    again = cs.scale(scaled.module, strategy=strategy, factor=1 / factor, resolution=32)
    for block in (part for part in again.module.modules() if isinstance(part, Partial)):
        assert 2 * block.c == block.enter.out_channels


def test_of_several_attributes_as_large_none_is_changed():
    base = network()
    for block in base[1:3]:
        block.side = block.c
    scaled = cs.scale(base, strategy="w", factor=2, resolution=32, weights=False)
    assert {(block.c, block.side) for block in scaled.module[1:3]} == {(32, 32)}
