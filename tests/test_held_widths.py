"""Notes on widths that the code holds: they name the layers and the call, wherever these stand."""

from __future__ import annotations

import re

import torch
from torch import nn

import convscale as cs


class Generator(nn.Module):
    """A linear layer makes a map of a vector, by a width that the code writes out."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(10, 32 * 16)
        self.body = nn.Sequential(nn.Conv2d(32, 48, 3, padding=1), nn.ReLU())
        self.exit = nn.Conv2d(48, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.exit(self.body(self.enter(x).view(x.shape[0], 32, 4, 4)))


def test_a_linear_layer_whose_width_is_written_out_behind_it_is_named():
    scaled = cs.scale(Generator(), strategy="w", factor=4.0, example_inputs=(torch.zeros(1, 10),))
    assert scaled.notes[0] == (
        "Widths kept of enter: the code writes their sizes out (view in the network)."
    )
    assert (scaled.module.enter.out_features, scaled.module.body[0].out_channels) == (512, 96)


class Strict(nn.Module):
    """A block that from the fourth on takes one width alone."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(32, 32, 3, padding=1)

    def forward(self, x: torch.Tensor, place: int) -> torch.Tensor:
        if place > 2 and x.shape[1] != 32:
            raise ValueError(f"{x.shape[1]} channels")
        return x + self.conv(x).relu()


class Numbered(nn.Module):
    """Three blocks that know their places, and a layer of another width behind them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3)
        self.blocks = nn.ModuleList([Strict(), Strict(), Strict()])
        self.tail, self.head = nn.Conv2d(32, 64, 1), nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).relu()
        for place, block in enumerate(self.blocks):
            x = block(x, place)
        return self.head(self.tail(x).relu().mean((2, 3)))


def test_a_call_in_an_added_block_that_holds_widths_is_named():
    scaled = cs.scale(Numbered(), strategy="dw", factor=8.0, resolution=8)
    assert len(scaled.module.blocks) > 3
    assert (scaled.module.stem.out_channels, scaled.module.blocks[0].conv.out_channels) == (32, 32)
    assert scaled.module.tail.out_channels > 64
    told = r"Widths kept of stem, blocks\.0\.conv, blocks\.1\.conv and \d+ more: what reads them "
    assert re.match(told + r"does not follow \(.+ in blocks\.3\)\.", scaled.notes[0])
    assert scaled.module(torch.zeros(1, 3, 8, 8)).shape == (1, 10)
