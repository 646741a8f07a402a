"""Norms over groups of channels: the groups keep their number, unless each channel is one."""

from __future__ import annotations

from torch import nn

import convscale as cs


def scaled(*counts: int) -> list[int]:
    """Numbers of groups after four times the flops, for norms over 32 and then 64 channels."""
    net = nn.Sequential(
        nn.Conv2d(3, 32, 3),
        nn.GroupNorm(counts[0], 32),
        nn.Conv2d(32, 64, 3),
        nn.GroupNorm(counts[1], 64),
        nn.Conv2d(64, 10, 1),
    )
    wide = cs.scale(net, strategy="w", factor=4, resolution=16, weights=False).module
    assert [wide[0].out_channels, wide[2].out_channels] == [64, 128]
    return [wide[1].num_groups, wide[3].num_groups]


def test_a_norm_of_every_channel_stays_one():
    assert scaled(32, 64) == [64, 128]


def test_a_number_of_groups_stays():
    assert scaled(8, 8) == [8, 8]


def test_a_number_of_groups_stays_where_one_width_is_as_large():
    assert scaled(32, 32) == [32, 32]
