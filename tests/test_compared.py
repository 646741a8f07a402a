"""Tensors that a forward pass compares: losses and distances hold no width of what they read."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import convscale as cs
from tests import checks

FACTOR = 4.0  # of the flops: widths double


class Comparing(nn.Module):
    """Layers of 32 channels, between which maps are compared; the result is added."""

    def __init__(self, compare) -> None:
        super().__init__()
        self.stem, self.body = nn.Conv2d(3, 32, 3, 2, 1), nn.Conv2d(32, 32, 3, 1, 1)
        self.exit, self.head = nn.Conv2d(32, 32, 3, 1, 1), nn.Linear(32, 10)
        self.register_buffer("weigh", torch.full((32, 1, 1), 2.0))
        self.compare = compare

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.body(self.stem(x).relu())
        told = self.compare(self, x.sigmoid(), x.detach().sigmoid() * 0.5)
        x = x + told.mean() if told.ndim == 0 else x + told
        return self.head(self.exit(x.relu()).mean((2, 3)))


LOSSES = {
    "mse": lambda _, x, y: F.mse_loss(x, y),
    "smooth l1": lambda _, x, y: F.smooth_l1_loss(x, y),
    "huber": lambda _, x, y: F.huber_loss(x, y),
    "soft margin": lambda _, x, y: F.soft_margin_loss(x, y),
    "binary cross-entropy": lambda _, x, y: F.binary_cross_entropy(x, y),
    "of logits, weighed": lambda net, x, y: F.binary_cross_entropy_with_logits(
        x, y, pos_weight=net.weigh
    ),
    "a distance": lambda _, x, y: torch.dist(x, y),
    "summed": lambda _, x, y: F.mse_loss(x, y, reduction="sum"),
    "mse of each": lambda _, x, y: F.mse_loss(x, y, reduction="none"),
    "huber of each": lambda _, x, y: F.huber_loss(x, y, reduction="none"),
    "smooth l1 of each": lambda _, x, y: F.smooth_l1_loss(x, y, reduction="none"),
    "logits of each": lambda net, x, y: F.binary_cross_entropy_with_logits(
        x, y, net.weigh, reduction="none"
    ),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_a_loss_in_the_forward_pass_holds_no_width(loss):
    scaled = cs.scale(Comparing(loss), strategy="w", factor=FACTOR, resolution=16)
    net = scaled.module
    widths = [layer.out_channels for layer in (net.stem, net.body, net.exit)]
    assert widths == [64, 64, 64]
    assert scaled.notes == ()
    # 8x8 maps: a stem of 3 channels grows with the width, the other two with its square
    assert scaled.achieved.flops == 64 * 9 * (3 * 64 + 2 * 64 * 64) + 64 * 10
    checks.check_runs_forward_and_backward(net, 16)


def test_what_a_loss_compares_has_one_width():
    """A second layer is as wide as the first only since their maps are compared."""

    class Student(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 24, 3), nn.Conv2d(16, 24, 1)
            self.stem = nn.Conv2d(3, 16, 3)
            self.head, self.other = nn.Linear(24, 10), nn.Linear(24, 10)

        def forward(self, x):
            one, two = self.one(x).relu(), self.two(self.stem(x).relu()).relu()
            loss = F.mse_loss(one, two)
            return self.head(one.mean((2, 3))), self.other(two.mean((2, 3))), loss

    arguments = {"strategy": "w", "factor": 2.0, "resolution": 16}
    net = cs.scale(Student(), **arguments).module
    assert net.one.out_channels == net.two.out_channels > 24
    held = cs.scale(Student(), **arguments, freeze=("one",)).module
    assert held.one.out_channels == held.two.out_channels == 24
    assert held.stem.out_channels > 16


def test_classes_that_a_loss_reads_by_their_numbers_stay():
    """Negative log likelihood picks a channel by the number of a class."""

    class Picked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.classes = nn.Conv2d(3, 32, 3, 2, 1), nn.Conv2d(32, 40, 1)
            self.head = nn.Linear(40, 10)
            self.register_buffer("target", torch.tensor([39]))

        def forward(self, x):
            x = self.classes(self.stem(x).relu()).mean((2, 3))
            return self.head(x), F.nll_loss(x.log_softmax(1), self.target)

    net = cs.scale(Picked(), strategy="w", factor=FACTOR, resolution=16).module
    assert (net.stem.out_channels, net.classes.out_channels) == (64, 40)


class Nearest(nn.Module):
    """A codebook: each position takes the nearest code, by distances to all of them."""

    def __init__(self, distances) -> None:
        super().__init__()
        self.stem, self.enter = nn.Conv2d(3, 32, 3, 2, 1), nn.Conv2d(32, 24, 1)
        self.codes, self.exit = nn.Embedding(50, 24), nn.Conv2d(24, 3, 1)
        self.distances = distances

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.enter(self.stem(x).relu()).permute(0, 2, 3, 1)
        near = self.distances(x.flatten(0, 2), self.codes.weight).argmin(-1)
        return self.exit(self.codes(near.view(x.shape[:3])).permute(0, 3, 1, 2))


DISTANCES = {
    "euclidean": torch.cdist,
    "without a product": lambda x, y: torch.cdist(
        x, y, compute_mode="donot_use_mm_for_euclid_dist"
    ),
    "city block": lambda x, y: torch.cdist(x, y, p=1.0),
    "of a batch": lambda x, y: torch.cdist(x[None], y[None])[0],
    "repeated over a batch": lambda x, y: torch.cdist(x[None], y)[0],
    "codes first": lambda x, y: torch.cdist(y, x).T,
}


@pytest.mark.parametrize("distances", DISTANCES.values(), ids=DISTANCES)
def test_points_whose_distances_are_asked_have_the_same_coordinates(distances):
    scaled = cs.scale(Nearest(distances), strategy="w", factor=FACTOR, resolution=16)
    net = scaled.module
    assert (net.stem.out_channels, net.enter.out_channels) == (64, 48)
    assert net.codes.weight.shape == (50, 48)
    assert not any(note.startswith("Widths kept") for note in scaled.notes)
    # 8x8 positions: a squared difference for each coordinate, position and code
    assert scaled.achieved.flops == 64 * (27 * 64 + 64 * 48 + 50 * 48 + 48 * 3)
    checks.check_runs_forward_and_backward(net, 16)
