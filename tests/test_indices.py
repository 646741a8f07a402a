"""Channels that are taken by an index: written-down numbers keep a width, others follow it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import convscale as cs
from tests import checks


class Taking(nn.Module):
    """Takes channels by an index that it holds, or that it makes."""

    def __init__(self, take) -> None:
        super().__init__()
        self.take, self.width = take, 96
        self.register_buffer("order", torch.arange(96).view(4, 24).t().reshape(-1).clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.take(self, x)


def written(net, x):
    y = torch.zeros_like(x)
    y[:, net.order] = x
    return y


def halved(net, x):
    half = x[:, net.order[:48]]
    return torch.cat([half, half.neg()], 1)


STORED = {
    "by a buffer": lambda net, x: x[:, net.order],
    "by a buffer, moved": lambda net, x: x[:, net.order.to(torch.int32)],
    "selected": lambda net, x: x.index_select(1, net.order),
    "by a list": lambda net, x: x[:, list(reversed(range(96)))],
    "halved": halved,
    "written": written,
}
MADE = {
    "by a range of the width of the map": lambda net, x: x[:, torch.arange(x.shape[1]).flip(0)],
    "by a range of an attribute": lambda net, x: x[:, torch.arange(net.width).flip(0)],
    "shuffled": lambda net, x: x[:, torch.randperm(x.shape[1])],
}


def network(take, groups: int = 1) -> nn.Sequential:
    """Return a network that takes channels between two convolutions."""
    read = nn.Conv2d(96, 64, 3, groups=groups)
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    return nn.Sequential(nn.Conv2d(3, 96, 3), Taking(take), read, nn.Conv2d(64, 64, 3), *head)


@pytest.mark.parametrize("take", STORED.values(), ids=STORED)
@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("factor", [0.25, 4.0])
def test_channels_whose_numbers_are_stored_keep_their_width_and_a_note_says_so(
    take, groups, factor
):
    scaled = cs.scale(network(take, groups), strategy="w", factor=factor, resolution=16)
    layers = scaled.module
    assert (layers[0].out_channels, layers[2].in_channels) == (96, 96)
    assert abs(layers[3].out_channels - 64 * factor**0.5) <= 8
    assert any(
        note.startswith(("Widths kept of 0 ", "Widths kept of 0,")) and "in 1" in note
        for note in scaled.notes
    )
    checks.check_runs_forward_and_backward(layers, 16)
    read = layers[0].weight.grad.flatten(1).abs().sum(1) > 0
    assert read.sum() >= 48  # the first half is all that one of them reads


@pytest.mark.parametrize("take", MADE.values(), ids=MADE)
def test_channels_whose_numbers_are_made_in_the_run_follow(take):
    scaled = cs.scale(network(take), strategy="w", factor=4.0, resolution=16)
    assert scaled.module[0].out_channels == 192
    checks.check_runs_forward_and_backward(scaled.module, 16)
    assert bool((scaled.module[0].weight.grad.flatten(1).abs().sum(1) > 0).all())


def test_a_depthwise_convolution_behind_an_index_stays():
    take = STORED["by a buffer"]
    layers = (nn.Conv2d(3, 96, 3), Taking(take), nn.Conv2d(96, 96, 3, groups=96))
    net = nn.Sequential(*layers, nn.Conv2d(96, 64, 1), nn.Conv2d(64, 64, 3))
    scaled = cs.scale(net, strategy="w", factor=2.0, resolution=16)
    depthwise = scaled.module[2]
    assert (depthwise.in_channels, depthwise.out_channels, depthwise.groups) == (96, 96, 96)
    checks.check_runs_forward_and_backward(scaled.module, 16)


class Sliced(nn.Module):
    """Rolls parts of the channels along the rows, each by as many as its number."""

    def __init__(self, cut) -> None:
        super().__init__()
        self.cut, self.width = cut, 16

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = self.cut(self, x)
        self.sizes = [part.shape[1] for part in parts]
        return torch.cat([part.roll(at, 2) for at, part in enumerate(parts)], 1)


def quarters(net, x):
    return x[:, :16], x[:, 16:32], x[:, 32:48], x[:, 48:]


def from_behind(net, x):
    return x[:, :-48], x[:, -48:-32], x[:, -32:-16], x[:, -16:]


def by_attribute(net, x):
    at = net.width
    return x[:, :at], x[:, at : 2 * at], x[:, 2 * at : 3 * at], x[:, 3 * at :]


def sliced(cut) -> nn.Sequential:
    """Return a network in which two maps are cut into parts."""
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    layers = (Sliced(cut), nn.Conv2d(64, 48, 1), nn.Conv2d(48, 64, 1), Sliced(cut))
    return nn.Sequential(nn.Conv2d(3, 64, 3), *layers, *head)


@pytest.mark.parametrize("cut", [quarters, from_behind])
@pytest.mark.parametrize("factor", [0.25, 4.0])
def test_equal_parts_whose_sizes_are_written_out_stay_and_a_note_says_so(cut, factor):
    scaled = cs.scale(sliced(cut), strategy="w", factor=factor, resolution=16)
    scaled.module(torch.zeros(1, 3, 16, 16))
    assert scaled.module[1].sizes == scaled.module[4].sizes == [16, 16, 16, 16]
    assert scaled.module[2].out_channels == 48 * factor**0.5
    assert scaled.notes[0] == (
        "Widths kept of 0, 3: the code writes their sizes out (a slice in 1, a slice in 4)."
    )


@pytest.mark.parametrize("factor", [0.25, 4.0])
def test_a_first_part_whose_size_is_written_out_stays_and_the_rest_follows(factor):
    base = sliced(lambda net, x: (x[:, :16], x[:, 16:]))
    scaled = cs.scale(base, strategy="w", factor=factor, resolution=16)
    scaled.module(torch.zeros(1, 3, 16, 16))
    assert scaled.module[1].sizes == [16, 48 * factor**0.5]
    assert "a slice in 1" in scaled.notes[0]


@pytest.mark.parametrize("factor", [0.25, 4.0])
def test_parts_whose_sizes_an_attribute_tells_follow(factor):
    scaled = cs.scale(sliced(by_attribute), strategy="w", factor=factor, resolution=16)
    scaled.module(torch.zeros(1, 3, 16, 16))
    assert scaled.module[1].sizes == [16 * factor**0.5] * 4
    assert not any("Widths kept" in note for note in scaled.notes)


def test_slices_that_the_code_writes_out_stay_where_only_depth_is_scaled():
    block = nn.Sequential(nn.Conv2d(64, 64, 1), Sliced(quarters), nn.ReLU())
    twin = nn.Sequential(nn.Conv2d(64, 64, 1), Sliced(quarters), nn.ReLU())
    stage = nn.Sequential(block, twin)
    net = nn.Sequential(nn.Conv2d(3, 64, 3), stage, nn.Conv2d(64, 10, 1))
    scaled = cs.scale(net, strategy="d", factor=2.0, resolution=16)
    assert len(scaled.module[1]) == 4
    assert not any("writes" in note for note in scaled.notes)
