"""Blocks whose shortcut is a module in some of them, and a plain function in others."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import convscale as cs


class Block(nn.Module):
    """nnU-Net's residual block: what needs no projection is handed on by a lambda."""

    def __init__(self, taken: int, put: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm = nn.Conv2d(taken, put, 3, stride, 1), nn.BatchNorm2d(put)
        self.conv2 = nn.Conv2d(put, put, 3, padding=1)
        projects = taken != put or stride > 1
        projection = nn.Sequential(nn.AvgPool2d(stride), nn.Conv2d(taken, put, 1))
        self.skip = projection if projects else lambda x: x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.conv2(self.norm(self.conv1(x)).relu()) + self.skip(x)).relu()


class Encoder(nn.Module):
    """Three stages of one block each."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 16, 3, padding=1), nn.Linear(64, 10)
        pairs = ((16, 16, 1), (16, 32, 2), (32, 64, 2))
        self.stages = nn.ModuleList(nn.Sequential(Block(*own)) for own in pairs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize(("strategy", "factor"), [("d", 2), ("d", 4), ("dWr", 2), ("w", 2)])
def test_blocks_are_made_where_a_shortcut_is_no_module(strategy, factor):
    scaled = cs.scale(Encoder(), strategy=strategy, factor=factor, resolution=64)
    y = scaled.module(torch.randn(1, 3, *[scaled.resolution] * 2))
    assert y.shape == (1, 10)
    y.mean().backward()
    assert all(p.grad is not None for p in scaled.module.parameters())
    if strategy == "d":
        assert [len(stage) for stage in scaled.module.stages] == [factor] * 3
        assert all(callable(block.skip) for stage in scaled.module.stages for block in stage)
