"""Channels that are shuffled in three groups stay a multiple of three, and groups stay three."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import convscale as cs


class Shuffle(nn.Module):
    """Channels of so many groups, taken in turns."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.size()
        parts = x.view(n, self.groups, c // self.groups, h, w)
        return parts.permute(0, 2, 1, 3, 4).reshape(n, c, h, w)


class Unit(nn.Module):
    """A bottleneck of grouped convolutions, which a stride of 2 puts beside what it takes."""

    def __init__(self, before: int, width: int, stride: int, shuffle: nn.Module) -> None:
        super().__init__()
        inner, groups = width // 4, 1 if before == 24 else 3
        self.stride, self.shuffle = stride, shuffle if groups > 1 else nn.Identity()
        self.conv1 = nn.Conv2d(before, inner, 1, groups=groups)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, groups=inner)
        self.conv3 = nn.Conv2d(inner, width, 1, groups=3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv3(self.conv2(self.shuffle(self.conv1(x).relu())))
        if self.stride == 1:
            return (x + y).relu()
        return torch.cat([y, nn.functional.avg_pool2d(x, 3, 2, 1)], 1).relu()


def network(shuffle: nn.Module) -> nn.Module:
    """ShuffleNet with three groups, as it was published for small images."""
    layers: list[nn.Module] = [nn.Conv2d(3, 24, 1)]
    before = 24
    for width in (240, 480):
        layers += [Unit(before, width - before, 2, shuffle)]
        layers += [Unit(width, width, 1, shuffle) for _ in range(2)]
        before = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 10))


@pytest.mark.parametrize("shuffle", [Shuffle(3), nn.ChannelShuffle(3)], ids=["views", "pytorch"])
@pytest.mark.parametrize("factor", [0.5, 0.7, 2, 3, 4])
def test_three_groups_stay_three(factor, shuffle):
    base = network(shuffle)
    scaled = cs.scale(base, strategy="w", factor=factor, resolution=32)
    assert not any("kept" in note for note in scaled.notes)
    assert scaled.module.eval()(torch.randn(1, 3, 32, 32)).shape == (1, 10)
    for path, layer in base.named_modules():
        if isinstance(layer, nn.Conv2d):
            new = scaled.module.get_submodule(path)
            assert new.groups == (new.in_channels if path.endswith("conv2") else layer.groups)
            for own in ("in_channels", "out_channels"):
                asked = getattr(layer, own) * factor**0.5
                off = 0.0 if getattr(layer, own) == 3 else abs(getattr(new, own) - asked)
                assert off <= max(8, 0.15 * asked)
    assert 0.85 * factor < scaled.ratio["flops"] < 1.15 * factor
