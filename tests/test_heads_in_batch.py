"""Attention by heads: laid into the batch before they are parted, or mixed by convolutions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import convscale as cs
from tests import checks


class Attention(nn.Module):
    """As diffusion networks have it; `how` parts what the one convolution puts out.

    What heads are put together to is as wide as the map (`told` 0), or what there is (-1).
    """

    def __init__(self, width, how, heads=4, told=0):
        super().__init__()
        self.how, self.heads, self.told = how, heads, told
        self.norm, self.qkv = nn.GroupNorm(8, width), nn.Conv1d(width, 3 * width, 1)
        self.proj = nn.Conv1d(width, width, 1)

    def forward(self, x):
        n, width, *sides = x.shape
        found = self.qkv(self.norm(x).reshape(n, width, -1))
        size = width // self.heads
        queries, keys, values = self.how(found.reshape(n * self.heads, 3 * size, -1), size)
        shares = torch.einsum("bct,bcs->bts", queries, keys) / math.sqrt(size)
        mixed = torch.einsum("bts,bcs->bct", shares.softmax(-1), values)
        mixed = mixed.reshape(n, self.told or width, math.prod(sides))
        return x + self.proj(mixed).reshape(n, width, *sides)


class Net(nn.Module):
    def __init__(self, how, width=64):
        super().__init__()
        self.entry = nn.Conv2d(3, width, 3, 2, 1)
        self.body = nn.Sequential(*[Attention(width, how) for _ in range(2)])
        self.middle, self.exit = nn.Conv2d(width, width, 3, 1, 1), nn.Linear(width, 10)

    def forward(self, x):
        x = self.middle(self.body(self.entry(x)).relu())
        return self.exit(x.relu().mean((2, 3)))


WAYS = {"split": lambda x, size: x.split(size, dim=1), "chunk": lambda x, _: x.chunk(3, dim=1)}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("factor", [0.5, 1.5, 2, 2.5, 3, 4])
def test_queries_keys_and_values_are_as_wide_as_the_map(way, factor):
    scaled = cs.scale(Net(WAYS[way]), strategy="w", factor=factor, resolution=32)
    width = scaled.module.entry.out_channels
    assert abs(width - 64 * factor**0.5) <= 8
    assert scaled.module.body[0].qkv.weight.shape == (3 * width, width, 1)
    assert scaled.module.middle.weight.shape[:2] == (width, width)
    assert not any("kept" in note for note in scaled.notes)
    assert scaled.achieved.flops == checks.torch_flops(scaled.module, 32)


class Joined(nn.Module):
    """A map and what attention makes of it, side by side."""

    def __init__(self, how):
        super().__init__()
        self.entry = nn.Conv2d(3, 64, 3, padding=1)
        self.mixed = Attention(64, how, told=-1)
        self.both, self.exit = nn.Conv2d(128, 64, 3, padding=1), nn.Conv2d(64, 3, 3, padding=1)

    def forward(self, x):
        x = self.entry(x)
        return self.exit(self.both(torch.cat([self.mixed(x), x], 1)).relu())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("factor", [0.45, 0.5, 2])
def test_they_are_so_where_the_map_lies_beside_what_is_made_of_it(way, factor):
    net = cs.scale(Joined(WAYS[way]), strategy="w", factor=factor, resolution=16).module
    width = net.entry.out_channels
    assert width != 64
    assert net.mixed.qkv.weight.shape == (3 * width, width, 1)
    assert net.both.in_channels == 2 * width
    assert net(torch.randn(2, 3, 16, 16)).shape == (2, 3, 16, 16)


class Talking(nn.Module):
    """Attention whose heads are mixed by a convolution before they weigh the values."""

    def __init__(self, channels: int, heads: int, width: int):
        super().__init__()
        self.heads, self.inner = heads, heads * width
        self.q, self.k = (nn.Conv2d(channels, heads * 8, 1) for _ in range(2))
        self.v, self.proj = nn.Conv2d(channels, self.inner, 1), nn.Conv2d(self.inner, channels, 1)
        self.local = nn.Conv2d(self.inner, self.inner, 3, 1, 1, groups=self.inner)
        self.before, self.after = (nn.Conv2d(heads, heads, 1) for _ in range(2))

    def forward(self, x):
        batch, _, height, width = x.shape
        shape = (batch, self.heads, -1, height * width)
        value = self.v(x)
        q, k, v = (one.reshape(shape) for one in (self.q(x), self.k(x), value))
        weights = self.after(self.before(q.transpose(2, 3) @ k).softmax(-1))
        read = (
            (weights @ v.transpose(2, 3)).transpose(2, 3).reshape(batch, self.inner, height, width)
        )
        return x + self.proj(read + self.local(value))


@pytest.mark.parametrize(("factor", "inner"), [(4.0, 256), (0.25, 64)])
def test_values_follow_where_heads_are_mixed(factor, inner):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 64, 3, 4, 1), Talking(64, 4, 32), nn.Conv2d(64, 8, 1)).eval()
    module = cs.scale(net, strategy="w", factor=factor, resolution=32).module
    attention = module[1]
    assert (attention.v.out_channels, attention.proj.in_channels) == (inner, inner)
    assert (attention.before.out_channels, attention.after.out_channels) == (4, 4)
    module(torch.randn(2, 3, 32, 32))
