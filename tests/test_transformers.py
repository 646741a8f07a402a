"""Spatial transformers: six numbers of an affine map stay, and every other layer follows."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import convscale as cs
from tests import checks


class Transformer(nn.Module):
    """A network that first turns its image as a smaller one says."""

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.look = nn.Sequential(nn.Conv2d(3, 16, 4, 4), nn.ReLU(), nn.Flatten())
        self.say, self.turn = nn.Linear(16 * 16, 32), nn.Linear(32, numbers)
        self.body, self.head = nn.Conv2d(3, 32, 3, padding=1), nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        said = self.turn(self.say(self.look(x)).relu())
        grid = F.affine_grid(self.placed(said), list(x.shape), align_corners=False)
        return self.head(self.body(F.grid_sample(x, grid, align_corners=False)).mean((2, 3)))

    def placed(self, said: torch.Tensor) -> torch.Tensor:
        if said.shape[1] == 6:
            return said.view(-1, 2, 3)
        scale, shift = said[:, :2], said[:, 2:]  # no turn
        return torch.cat([torch.diag_embed(scale), shift[:, :, None]], 2)


@pytest.mark.parametrize("factor", [0.25, 4.0])
def test_the_numbers_of_a_transform_stay_and_all_else_follows(factor):
    scaled = cs.scale(Transformer(6), strategy="w", factor=factor, resolution=16)
    net, times = scaled.module, factor**0.5
    assert net.turn.out_features == 6
    widths = (net.look[0].out_channels, net.say.in_features, net.say.out_features)
    assert widths == (16 * times, 256 * times, 32 * times)
    assert (net.body.out_channels, net.head.in_features) == (32 * times, 32 * times)
    assert not any("not understood" in note for note in scaled.notes)
    checks.check_runs_forward_and_backward(net, 16)


class Moved(nn.Module):
    """A map that is sampled where a layer says: two coordinates at each position."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.where = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 2, 1)
        self.body, self.head = nn.Conv2d(32, 48, 3, padding=1), nn.Linear(48, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).relu()
        at = self.where(x).permute(0, 2, 3, 1)
        return self.head(self.body(F.grid_sample(x, at, align_corners=False)).mean((2, 3)))


def test_coordinates_that_a_layer_says_stay_and_the_sampled_map_follows():
    scaled = cs.scale(Moved(), strategy="w", factor=4.0, resolution=16)
    net = scaled.module
    widths = (net.stem.out_channels, net.where.out_channels, net.body.out_channels)
    assert widths == (64, 2, 96)
    assert not any("not understood" in note for note in scaled.notes)
    checks.check_runs_forward_and_backward(net, 16)


def test_fewer_numbers_that_a_transform_is_made_of_stay():
    net = cs.scale(Transformer(4), strategy="w", factor=4.0, resolution=16).module
    assert (net.turn.out_features, net.say.out_features, net.body.out_channels) == (4, 64, 64)
