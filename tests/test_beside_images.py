"""Widths of which some channels are the image's own, beside those that a layer puts out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import convscale as cs


class Initial(nn.Module):
    """ENet's first block, and two stages that add to what they take."""

    def __init__(self, own: int = 13, inner: int = 16, wide: int = 64) -> None:
        super().__init__()
        self.own, self.image = nn.Conv2d(3, own, 3, 2, 1), nn.MaxPool2d(2)
        self.first = nn.Conv2d(own + 3, own + 3, 3, padding=1)
        self.second = nn.Conv2d(own + 3, own + 3, 3, padding=1)
        self.down, self.narrow = nn.Conv2d(own + 3, wide, 3, 2, 1), nn.Conv2d(wide, inner, 1)
        self.back, self.head = nn.Conv2d(inner, wide, 3, padding=1), nn.Conv2d(wide, 10, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.cat([self.own(x), self.image(x)], 1)
        x = (self.second(self.first(x).relu()) + x).relu()
        x = self.down(x).relu()
        return self.head(x + self.back(self.narrow(x).relu())).mean((2, 3))


@pytest.mark.parametrize(("factor", "wanted"), [(0.5, (9, 12)), (2, (21, 24)), (4, (29, 32))])
def test_a_width_beside_the_image_comes_near_what_is_asked(factor, wanted):
    """16 is asked to be 11.3: 8 would be 5 beside the image's 3, and 13 as before is no less."""
    scaled = cs.scale(Initial(), strategy="w", factor=factor, resolution=32)
    module = scaled.module
    assert (module.own.out_channels, module.first.out_channels) == wanted
    assert module.narrow.out_channels == wanted[1]  # equal widths stay equal
    assert module.own.out_channels + 3 == module.first.in_channels
    assert module(torch.randn(1, 3, 32, 32)).shape == (1, 10)


def test_a_budget_is_met_as_near_as_by_hand():
    """Of the networks within a multiple of what is asked, made by hand, none is much nearer."""
    base = cs.count(Initial(), resolution=32).flops
    scaled = cs.scale(Initial(), strategy="w", flops=base / 2, resolution=32, weights=False)
    by_hand = [
        cs.count(Initial(width - 3, width, wide), resolution=32).flops
        for width in (8, 12, 16)
        for wide in (40, 48)
    ]
    nearest = min(abs(flops / base - 0.5) for flops in by_hand)
    assert abs(scaled.ratio["flops"] - 0.5) <= nearest + 1e-9
