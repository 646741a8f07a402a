"""Tables that are read by position, in modules that have no constructor at hand."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

import convscale as cs
from convscale.input_sizes import InputSize
from convscale.network.resolution.resampling import Grid, grid_of, resample
from tests.checks import torch_flops


class Crossed(nn.Module):
    """Attention whose positions are a table of rows plus one of columns: BoTNet's."""

    def __init__(self, height: int, width: int, dim: int = 32, heads: int = 4) -> None:
        super().__init__()
        self.heads, self.dim = heads, dim
        self.query, self.key, self.value = (nn.Conv2d(dim, dim, 1) for _ in range(3))
        self.columns = nn.Parameter(torch.randn(1, heads, dim // heads, 1, width))
        self.rows = nn.Parameter(torch.randn(1, heads, dim // heads, height, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        query, key, value = (
            part(x).view(n, self.heads, c // self.heads, -1)
            for part in (self.query, self.key, self.value)
        )
        places = (self.rows + self.columns).flatten(3)
        seen = (query.transpose(2, 3) @ key + places.transpose(2, 3) @ query).softmax(-1)
        return x + (value @ seen.transpose(2, 3)).reshape(n, c, h, w)


class Solid(nn.Module):
    """A table for each of three axes, which make one of all positions."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.mixed = nn.Conv3d(16, 16, 1)
        shapes = ((side, 1, 1), (1, side, 1), (1, 1, side))
        self.times, self.rows, self.columns = (
            nn.Parameter(torch.randn(1, 16, *shape)) for shape in shapes
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mixed(x) + (self.times + self.rows + self.columns).expand_as(x)


@pytest.mark.parametrize(("strategy", "factor"), [("r", 2.0), ("r", 0.5), ("dWr", 4.0)])
@pytest.mark.parametrize("resolution", [32, (32, 48)])
def test_tables_that_are_added_to_each_other_follow(strategy, factor, resolution):
    def made(height: int, width: int) -> nn.Module:
        stem = nn.Conv2d(3, 32, 3, 4, 1)
        return nn.Sequential(stem, Crossed(height, width), Crossed(height, width))

    sides = (32, resolution[1] if isinstance(resolution, tuple) else 32)
    net = made(*(side // 4 for side in sides))
    scaled = cs.scale(net, strategy=strategy, factor=factor, resolution=resolution)
    height, width = (
        (side - 1) // 4 + 1
        for side in (
            scaled.resolution
            if isinstance(scaled.resolution, tuple)
            else (scaled.resolution, scaled.resolution)
        )
    )
    assert (height, width) != tuple(side // 4 for side in sides)
    attention = scaled.module[1]
    assert attention.rows.shape[3:] == (height, 1)
    assert attention.columns.shape[3:] == (1, width)
    assert attention.rows.shape[2] * 4 == attention.query.out_channels
    assert scaled.achieved.flops == torch_flops(scaled.module, scaled.resolution)


def test_a_table_for_each_of_three_axes_follows():
    net = nn.Sequential(nn.Conv3d(3, 16, 3, 2, 1), Solid(8))
    scaled = cs.scale(net, strategy="r", factor=8.0, resolution=(16, 16, 16))
    assert scaled.resolution == (32, 32, 32)
    assert scaled.module[1].times.shape == (1, 16, 16, 1, 1)
    assert scaled.module[1].columns.shape == (1, 16, 1, 1, 16)
    assert scaled.module(torch.randn(1, 3, 32, 32, 32)).isfinite().all()


def test_tables_over_grids_of_any_number_of_axes_are_resampled_as_timm_does():
    table = torch.randn(1, 1 + 6 * 9, 4)
    own = resample(table, Grid((1,), (6, 9), (8, 5), prefix=1))
    wanted = timm.layers.resample_abs_pos_embed(table, [8, 5], [6, 9], num_prefix_tokens=1)
    assert torch.allclose(own, wanted, atol=1e-5)
    solid = torch.arange(4.0)[:, None, None] * torch.randn(6, 9)
    moved = resample(solid, Grid((0, 1, 2), (4, 6, 9), (4, 8, 5)))  # slices stay apart
    plane = resample(solid[1], Grid((0, 1), (6, 9), (8, 5)))
    assert torch.allclose(moved, torch.arange(4.0)[:, None, None] * plane, atol=1e-4)


def test_positions_of_a_box_in_a_row_are_told_by_their_growth():
    grid = grid_of((1, 1 + 4 * 7 * 7, 8), (1, 1 + 6 * 10 * 10, 8), (16, 112, 112), (24, 160, 160))
    assert grid == Grid((1,), (4, 7, 7), (6, 10, 10), prefix=1)
    assert grid_of((4 * 7 * 7 + 5, 8), (600, 8), (16, 112, 112), (24, 160, 160)) is None


def test_numbers_counted_off_are_positions():
    class Placed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.exit = nn.Conv2d(3, 24, 4, 4), nn.Conv2d(24, 10, 3, 1, 1)
            self.places = nn.Embedding(64, 24)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.stem(x)
            count = x.shape[2] * x.shape[3]
            places = torch.arange(count, dtype=torch.float32).long()
            return self.exit(x + self.places(places).T.reshape(1, -1, *x.shape[2:]))

    scaled = cs.scale(Placed(), strategy="r", factor=4.0, resolution=32)
    assert scaled.module.places.weight.shape == (256, 24)
    side = scaled.resolution
    assert scaled.module(torch.randn(1, 3, side, side)).shape[2:] == (16, 16)


def test_tables_follow_where_inputs_are_given():
    class Timed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.exit = nn.Conv2d(3, 24, 4, 4), nn.Conv2d(24, 10, 3, 1, 1)
            self.places, self.time = nn.Parameter(torch.randn(1, 24, 8, 8)), nn.Linear(8, 24)

        def forward(self, image: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
            return self.exit(self.stem(image) + self.places + self.time(time)[:, :, None, None])

    sizes = (InputSize((3, 32, 32)), InputSize((8,)))
    scaled = cs.scale(Timed(), strategy="wr", factor=16.0, example_inputs=sizes)
    assert scaled.resolution == 64
    assert scaled.module.places.shape == (1, 48, 16, 16)
    assert scaled.module(torch.randn(2, 3, 64, 64), torch.randn(2, 8)).shape == (2, 10, 16, 16)


class Patches(nn.Module):
    """A row of positions for a grid of patches, maybe as many as the image has pixels a side."""

    def __init__(self, grid, patch):
        super().__init__()
        self.stem, self.mix = nn.Conv2d(3, 24, patch, patch), nn.Linear(24, 24)
        self.table = nn.Parameter(torch.randn(1, grid * grid, 24))
        self.body, self.exit = nn.Conv2d(24, 24, 3, padding=1), nn.Linear(24, 5)

    def forward(self, x):
        x = self.stem(x)
        mixed = self.mix(x.flatten(2).transpose(1, 2) + self.table)
        return self.exit(self.body(mixed.transpose(1, 2).reshape(x.shape)).mean((2, 3)))


@pytest.mark.parametrize(("grid", "patch"), [(8, 8), (16, 16), (6, 6), (8, 4), (7, 8)])
def test_a_row_as_long_as_the_side_of_the_image_follows_its_grid(grid, patch):
    scaled = cs.scale(Patches(grid, patch), strategy="r", factor=4, resolution=grid * patch)
    assert scaled.resolution == 2 * grid * patch
    assert scaled.module.table.shape == (1, 4 * grid * grid, 24)
    image = torch.randn(1, 3, scaled.resolution, scaled.resolution)
    assert scaled.module(image).shape == (1, 5)
