"""Heads of detectors: rows of layers for each map, and boxes as means over bins of scores."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import convscale as cs


def layer(taken, new, stride=1):
    conv = nn.Conv2d(taken, new, 3, stride, 1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(new), nn.ReLU())


class Levels(nn.Module):
    """Two maps, the larger made of both, each with a head whose last layer is of another class."""

    def __init__(self):
        super().__init__()
        self.large = nn.Sequential(layer(3, 32, 2), layer(32, 32))
        self.small = nn.Sequential(layer(32, 64, 2), layer(64, 64))
        self.fuse = layer(96, 64)
        heads = (nn.Sequential(layer(64, 32), nn.Conv2d(32, 36, 1)) for _ in range(2))
        self.heads = nn.ModuleList(heads)

    def forward(self, x):
        large = self.large(x)
        small = self.small(large)
        fused = self.fuse(torch.cat([functional.interpolate(small, scale_factor=2), large], 1))
        return self.heads[0](fused), self.heads[1](small)


@pytest.mark.parametrize(("strategy", "factor"), [("d", 2), ("dWr", 4), ("dwr", 0.5), ("dw", 2.5)])
def test_rows_that_end_in_a_bare_layer_have_no_ratio_of_widths(strategy, factor):
    scaled = cs.scale(Levels(), strategy=strategy, factor=factor, resolution=64)
    outputs = scaled.module(torch.rand(2, 3, scaled.resolution, scaled.resolution))
    assert [output.shape[1] for output in outputs] == [36, 36]
    depths = [len(scaled.module.large), len(scaled.module.small)]
    assert min(depths) > 2 if factor > 1 else depths == [1, 1]
    assert len(scaled.module.heads[0]) == 2
    assert "Depth kept, no repeatable block: heads.0." in scaled.notes


class Boxes(nn.Module):
    """Four sides of a box, each the mean over bins, beside the scores of classes."""

    def __init__(self, bins="held"):
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, 2, 1)
        self.body = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU())
        self.head = nn.Conv2d(32, 36, 1)
        self.bins = bins
        if bins == "held":
            self.register_buffer("places", torch.arange(8.0))

    def forward(self, x):
        found = self.head(self.body(self.stem(x))).view(len(x), 36, -1)
        sides, classes = found.split((32, 4), 1)
        places = self.places if self.bins == "held" else torch.arange(8, device=x.device) * 1.0
        chances = sides.view(len(x), 4, 8, -1).softmax(2)
        return torch.cat([(chances * places.view(1, 1, -1, 1)).sum(2), classes.sigmoid()], 1)


@pytest.mark.parametrize("bins", ["held", "made"])
@pytest.mark.parametrize(("strategy", "factor"), [("w", 2), ("w", 0.5), ("dWr", 4)])
def test_means_over_bins_of_scores_are_scores(strategy, factor, bins):
    scaled = cs.scale(
        Boxes(bins),
        strategy=strategy,
        factor=factor,
        resolution=64,
        keep="d" if "d" in strategy else (),
    )
    output = scaled.module(torch.rand(2, 3, scaled.resolution, scaled.resolution))
    assert output.shape[:2] == (2, 8)
    assert scaled.module.head.out_channels == 36
    assert (scaled.module.stem.out_channels > 32) == (factor > 1)
