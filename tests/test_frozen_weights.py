"""Weights that do not train: values that somebody wrote are kept, or the width is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import convscale as cs


class Distances(nn.Module):
    """The head of a detector in small: distances as means over bins, by a frozen convolution."""

    def __init__(self, bins=16):
        super().__init__()
        self.bins = bins
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU())
        self.box = nn.Conv2d(32, 4 * bins, 1)
        self.mean = nn.Conv2d(bins, 1, 1, bias=False).requires_grad_(False)
        self.mean.weight.data[:] = torch.arange(bins, dtype=torch.float).view(1, bins, 1, 1)

    def forward(self, x):
        n = len(x)
        x = self.box(self.stem(x)).view(n, 4, self.bins, -1).transpose(2, 1).softmax(1)
        return self.mean(x).view(n, 4, -1)


class Edges(nn.Module):
    """Frozen kernels that find edges, for each channel, beside a convolution that trains."""

    def __init__(self, width=16):
        super().__init__()
        self.stem, self.exit = nn.Conv2d(3, width, 3, 1, 1), nn.Conv2d(width, width, 3, 1, 1)
        self.edge = nn.Conv2d(width, width, 3, 1, 1, groups=width, bias=False)
        self.edge.requires_grad_(False)
        kernel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
        self.edge.weight.data[:] = kernel
        self.fc = nn.Linear(width, 10)

    def forward(self, x):
        return self.fc(self.exit(self.edge(self.stem(x)).relu()).relu().mean((2, 3)))


@pytest.mark.parametrize("weights", [True, False])
@pytest.mark.parametrize("factor", [0.25, 4])
def test_bins_that_are_written_refuse_another_width(weights, factor):
    asked = {"strategy": "w", "factor": factor, "resolution": 32, "weights": weights}
    with pytest.raises(cs.UnscalableNetworkError, match=r"frozen weight 'mean.weight' .*--freeze"):
        cs.scale(Distances(), **asked)


def test_bins_are_what_they_were_where_their_width_is_kept():
    scaled = cs.scale(Distances(), strategy="w", factor=4, resolution=32, freeze=["mean"])
    assert torch.equal(scaled.module.mean.weight.flatten(), torch.arange(16.0))
    assert scaled.module.stem[0].out_channels == 64
    assert scaled.module.box.out_channels == 64


@pytest.mark.parametrize(("strategy", "factor"), [("w", 4), ("w", 0.25), ("d", 2), ("dWr", 4)])
def test_a_kernel_that_is_one_for_all_channels_stays_what_it_is(strategy, factor):
    base = Edges(32)
    scaled = cs.scale(base, strategy=strategy, factor=factor, resolution=32).module
    frozen = [one for one in scaled.modules() if getattr(one, "groups", 1) > 1]
    assert frozen
    for layer in frozen:
        assert torch.equal(layer.weight, base.edge.weight[:1].expand_as(layer.weight))
        assert not layer.weight.requires_grad


def test_a_frozen_trunk_says_that_its_new_weights_are_random():
    net = nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU())
    net[0].requires_grad_(False)
    scaled = cs.scale(net, strategy="w", factor=4, resolution=32)
    assert any("Frozen weights are new and hold random values: 0.weight" in n for n in scaled.notes)
    same = cs.scale(net, strategy="r", factor=2, resolution=32)
    assert not any("Frozen" in note for note in same.notes)


class Detector(nn.Module):
    """Such a head behind layers that hold most of the flops."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 32, 3, 1, 1), Distances()
        self.head.stem[0] = nn.Conv2d(32, 32, 3, 2, 1)

    def forward(self, x):
        return self.head(self.body(x).relu())


@pytest.mark.parametrize("weights", [True, False])
def test_what_reads_numbers_of_bins_stays_and_the_rest_is_scaled(weights):
    scaled = cs.scale(Detector(), strategy="w", factor=4, resolution=32, weights=weights)
    head = scaled.module.head
    assert (scaled.module.body.out_channels, head.stem[0].out_channels) == (64, 64)
    assert (head.bins, head.box.out_channels) == (16, 64)
    assert scaled.notes[0] == (
        "Widths kept around head.mean.weight: training does not change it, and nothing tells "
        "other values."
    )
    if weights:
        assert torch.equal(head.mean.weight.flatten(), torch.arange(16.0))
        assert scaled.module(torch.randn(2, 3, 32, 32)).shape == (2, 4, 256)
