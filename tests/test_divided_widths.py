"""Parts of a width that the forward pass computes: a quarter stays a quarter."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import convscale as cs
from tests import checks


def shifted(net, x):
    n, c, h, w = x.shape
    clip, fold = x.view(n // 2, 2, c, h, w), c // net.parts
    y = torch.zeros_like(clip)
    y[:, :-1, :fold] = clip[:, 1:, :fold]
    y[:, 1:, fold : 2 * fold] = clip[:, :-1, fold : 2 * fold]
    y[:, :, 2 * fold :] = clip[:, :, 2 * fold :]
    return net.whole(y.view(n, c, h, w))


def sliced(net, x):
    some = x.size(1) // 8
    return net.whole(torch.cat((x[:, some:], x[:, :some].neg()), 1))


def split(net, x):
    width = x.shape[1]
    first, rest = torch.split(x, [width // 4, width - width // 4], 1)
    return net.whole(torch.cat((net.part(first), rest), 1))


def narrowed(net, x):
    some = x.shape[1] // 4
    first, rest = x.narrow(1, 0, some), x.narrow(1, some, x.shape[1] - some)
    return net.whole(torch.cat((net.part(first), rest), 1))


class Divided(nn.Module):
    """Computes on a part of its channels, whose size its code divides out."""

    def __init__(self, take, width: int) -> None:
        super().__init__()
        self.take, self.parts = take, 8
        self.whole = nn.Sequential(nn.Conv2d(width, width, 3, 1, 1), nn.BatchNorm2d(width))
        self.part = (
            nn.Conv2d(width // 4, width // 4, 3, 1, 1) if take in (split, narrowed) else None
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.take(self, x).relu()


class Network(nn.Module):
    """Two stages of such blocks on clips of two images."""

    def __init__(self, take) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, 2, 1)
        self.first = nn.Sequential(Divided(take, 32), Divided(take, 32))
        self.down = nn.Conv2d(32, 64, 3, 2, 1)
        self.second = nn.Sequential(Divided(take, 64), Divided(take, 64))
        self.head = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.cat((x, x.flip(3)))
        x = self.second(self.down(self.first(self.stem(x))))
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize("take", [shifted, sliced, split, narrowed], ids=lambda own: own.__name__)
@pytest.mark.parametrize(("strategy", "factor"), [("w", 2.0), ("w", 0.5), ("w", 3.0), ("dWr", 4.0)])
def test_parts_stay_as_much_of_a_width_as_they_were(take, strategy, factor):
    torch.manual_seed(0)
    scaled = cs.scale(Network(take), strategy=strategy, factor=factor, resolution=32)
    module, growth = scaled.module, scaled.factors.width
    assert not any("kept" in note for note in scaled.notes)
    for base, layer in ((32, module.stem), (64, module.down)):
        assert abs(layer.out_channels - growth * base) <= 8
        assert layer.out_channels % 8 == 0
    for stage in (module.first, module.second):
        for block in stage:
            width = block.whole[0].in_channels
            assert block.whole[0].out_channels == width
            assert block.part is None or block.part.out_channels == width // 4
    images = torch.randn(2, 3, scaled.resolution, scaled.resolution)
    assert module(images).shape == (4, 10)
    assert checks.torch_flops(module, scaled.resolution) == scaled.achieved.flops


def test_a_part_of_a_concatenation_is_not_divided_out():
    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Conv2d(3, 16, 3), nn.Conv2d(3, 48, 3)
            self.exit = nn.Conv2d(64, 10, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.cat((self.left(x), self.right(x)), 1)
            some = x.shape[1] // 4
            return self.exit(torch.cat((x[:, some:], x[:, :some]), 1))

    scaled = cs.scale(Joined(), strategy="w", factor=4.0, resolution=16)
    assert scaled.module.left.out_channels * 3 == scaled.module.right.out_channels
    assert scaled.module(torch.randn(1, 3, 16, 16)).isfinite().all()
