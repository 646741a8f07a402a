"""Sizes that the code adds up from several attributes: each part follows by what else it tells."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import convscale as cs
from tests.checks import torch_flops


class Recursive(nn.Module):
    """HorNet's gated convolution: parts that double, of which one call takes the sum."""

    def __init__(self, dim: int, order: int = 4) -> None:
        super().__init__()
        self.order = order
        self.dims = [dim // 2**i for i in reversed(range(order))]
        total = sum(self.dims)
        self.project = nn.Conv2d(dim, 2 * dim, 1)
        self.depthwise = nn.Conv2d(total, total, 7, padding=3, groups=total)
        self.gates = nn.ModuleList(
            nn.Conv2d(one, two, 1) for one, two in zip(self.dims, self.dims[1:], strict=False)
        )
        self.exit = nn.Conv2d(dim, dim, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, rest = torch.split(self.project(x), (self.dims[0], sum(self.dims)), 1)
        parts = torch.split(self.depthwise(rest), self.dims, 1)
        gated = first * parts[0]
        for gate, part in zip(self.gates, parts[1:], strict=True):
            gated = gate(gated) * part
        return x + self.exit(gated)


class Added(nn.Module):
    """A width whose two parts no other call names."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = 16, 48
        self.query = nn.Conv2d(32, self.left + self.right, 1)
        self.exit = nn.Conv2d(64, 32, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, _, h, w = x.shape
        return x + self.exit(self.query(x).view(n, self.left + self.right, h, w))


def network(block) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 32, 4, 4), block(), block(), nn.Conv2d(32, 10, 1))


@pytest.mark.parametrize("block", [lambda: Recursive(32), Added], ids=["parts", "no parts"])
@pytest.mark.parametrize(("strategy", "factor"), [("w", 2.0), ("w", 0.5), ("dWr", 4.0)])
def test_widths_follow_that_are_sums_of_attributes(block, strategy, factor, tmp_path):
    net = network(block)
    scaled = cs.scale(net, strategy=strategy, factor=factor, resolution=32)
    module = scaled.module
    assert not any("kept" in note for note in scaled.notes)
    for own in module:
        if isinstance(own, Recursive):
            assert own.project.out_channels == own.dims[0] + sum(own.dims)
            assert [gate.out_channels for gate in own.gates] == own.dims[1:]
            assert abs(own.dims[-1] / (32 * scaled.factors.width) - 1) < 0.15
        elif isinstance(own, Added):
            assert own.query.out_channels == own.left + own.right
            assert abs(own.query.out_channels / (64 * scaled.factors.width) - 1) < 0.13
    assert scaled.achieved.flops == torch_flops(module, scaled.resolution)
    loaded = cs.load(scaled.save(tmp_path / "summed"), base=net).module
    side = scaled.resolution
    assert loaded(torch.randn(1, 3, side, side)).isfinite().all()


class Transposed(nn.Module):
    """Attention over channels, whose code takes the width of what arrives for that of its own."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.heads, self.temperature = 1, nn.Parameter(torch.ones(1, 1, 1))
        self.project, self.exit = nn.Conv2d(dim, 3 * dim, 1), nn.Conv2d(dim, dim, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        query, key, value = (
            part.reshape(n, self.heads, c // self.heads, h * w)
            for part in self.project(x).chunk(3, 1)
        )
        seen = (query @ key.transpose(2, 3) * self.temperature).softmax(-1)
        return x + self.exit((seen @ value).reshape(n, c, h, w))


class Restored(nn.Module):
    """Restormer's last level: a map and what a pixel shuffle makes of another, side by side."""

    def __init__(self, dim: int = 24) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, dim, 3, 1, 1)
        self.down = nn.Sequential(nn.Conv2d(dim, dim // 2, 3, 1, 1), nn.PixelUnshuffle(2))
        self.up = nn.Sequential(nn.Conv2d(2 * dim, 4 * dim, 3, 1, 1), nn.PixelShuffle(2))
        self.blocks = nn.Sequential(*(Transposed(2 * dim) for _ in range(2)))
        self.exit = nn.Conv2d(2 * dim, 3, 3, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.stem(x)
        return self.exit(self.blocks(torch.cat((self.up(self.down(first)), first), 1)))


@pytest.mark.parametrize("factor", [2.0, 0.5, 3.0, 4.0])
@pytest.mark.parametrize("dim", [24, 32, 48])
def test_a_width_follows_that_is_joined_from_a_width_and_a_quarter_of_another(dim, factor):
    scaled = cs.scale(Restored(dim), strategy="w", factor=factor, resolution=32)
    module, growth = scaled.module, scaled.factors.width
    assert not any("kept" in note for note in scaled.notes)
    width = module.exit.in_channels
    assert width == module.stem.out_channels + module.up[0].out_channels // 4
    assert {block.project.out_channels for block in module.blocks} == {3 * width}
    assert abs(width / (2 * dim * growth) - 1) < 0.15
    assert module(torch.randn(2, 3, 32, 32)).isfinite().all()
    assert scaled.achieved.flops == torch_flops(module, 32)
