"""Norms over groups of channels: the groups keep their number, unless each channel is one."""

from __future__ import annotations

from math import lcm

import pytest
import torch
from torch import nn

import convscale as cs
from tests import checks


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


def halved(width: int, groups: int, factor: float) -> tuple[int, int]:
    """Channels and groups of a norm when its width is asked to be multiplied by a factor."""
    net = nn.Sequential(
        nn.Conv2d(3, width, 3), nn.GroupNorm(groups, width), nn.ReLU(), nn.Conv2d(width, 10, 1)
    )
    scaled = cs.scale(net, strategy="w", factor=factor**2, resolution=16)
    scaled.module(torch.zeros(1, 3, 16, 16))
    assert scaled.module[1].num_channels == scaled.module[0].out_channels
    return scaled.module[1].num_channels, scaled.module[1].num_groups


@pytest.mark.parametrize(
    ("width", "groups", "factor", "expected"),
    [
        (128, 32, 2**-0.5, (96, 32)),  # 90.5: the nearest multiple of 32 is 6 % off
        (64, 32, 2**-0.5, (48, 24)),  # 45.3: 32 and 64 are 30 and 40 % off; 2 channels a group
        (64, 32, 2**0.5, (96, 32)),
        (64, 32, 0.5, (32, 16)),  # 32 groups of one channel would be another norm
        (64, 8, 0.5, (32, 8)),
        (64, 1, 2**-0.5, (48, 1)),
    ],
)
def test_groups_keep_their_number_or_else_their_channels(width, groups, factor, expected):
    assert halved(width, groups, factor) == expected


def test_a_changed_number_of_groups_is_noted_saved_and_scaled_again(tmp_path):
    net = nn.Sequential(nn.Conv2d(3, 64, 3), nn.GroupNorm(32, 64), nn.Conv2d(64, 10, 1))
    half = cs.scale(net, strategy="w", factor=0.5, resolution=16)
    assert "Groups of norms: 32 of 64 channels become 24 of 48; " in " ".join(half.notes)
    x = torch.randn(2, 3, 16, 16)
    loaded = cs.load(half.save(tmp_path / "net"), base=net)
    assert torch.equal(loaded.module(x), half.module(x))
    again = cs.scale(half.module, strategy="w", factor=4.0, resolution=16).module
    assert (again[1].num_channels, again[1].num_groups) == (96, 24)


class OneNumber(nn.Module):
    """Norms of two widths whose number of groups is one number of the network's."""

    def __init__(self):
        super().__init__()
        self.groups = 16
        self.first, self.second = nn.Conv2d(3, 32, 3), nn.Conv2d(32, 64, 3)
        self.head = nn.Conv2d(64, 10, 1)

    def forward(self, x):
        x = nn.functional.group_norm(self.first(x), self.groups)
        return self.head(nn.functional.group_norm(self.second(x), self.groups))


class Literal(nn.Module):
    """A number of groups that the code writes out, and one over a concatenation."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 64, 3), nn.Conv2d(64, 64, 3, padding=1)
        self.both, self.head = nn.GroupNorm(32, 128), nn.Conv2d(128, 10, 1)

    def forward(self, x):
        x = nn.functional.group_norm(self.first(x), 32)
        return self.head(self.both(torch.cat([x, self.second(x)], 1)))


@pytest.mark.parametrize("net", [OneNumber(), Literal()])
def test_a_number_of_groups_that_nothing_can_change_stays(net):
    half = cs.scale(net, strategy="w", factor=0.5, resolution=16).module
    groups = getattr(half, "groups", 32)
    assert groups == getattr(net, "groups", 32)
    assert half.first.out_channels % groups == half.second.out_channels % groups == 0
    x = torch.randn(1, 3, 16, 16)
    assert half(x).shape == net(x).shape


class Joining(nn.Module):
    """A block that norms, in groups, the map that it takes and the one that it makes."""

    def __init__(self, ins: int, outs: int, groups: int) -> None:
        super().__init__()
        self.before, self.first = nn.GroupNorm(groups, ins), nn.Conv2d(ins, outs, 3, padding=1)
        self.between, self.second = nn.GroupNorm(groups, outs), nn.Conv2d(outs, outs, 3, padding=1)
        self.skip = nn.Conv2d(ins, outs, 1)

    def forward(self, x):
        y = self.first(self.before(x).relu())
        return self.skip(x) + self.second(self.between(y).relu())


class Ladder(nn.Module):
    """Goes down in two steps and up again, beside maps of other widths that are norms' too."""

    def __init__(self, groups: int = 8) -> None:
        super().__init__()
        self.stem, self.thin = nn.Conv2d(3, 32, 3, padding=1), Joining(32, 32, groups)
        self.wide, self.deep = Joining(32, 64, groups), Joining(64, 128, groups)
        self.up, self.over = Joining(128 + 64, 64, groups), Joining(64 + 32, 32, groups)
        self.twice = Joining(32 + 32, 32, groups)
        self.head = nn.Conv2d(32, 3, 1)

    def forward(self, x):
        stem = self.stem(x)
        thin = self.thin(stem)
        wide = self.wide(thin)
        y = self.up(torch.cat([self.deep(wide), wide], 1))
        y = self.over(torch.cat([y, thin], 1))
        return self.head(self.twice(torch.cat([y, stem], 1)))


@pytest.mark.parametrize("factor", [0.25, 0.5, 2.0, 4.0])
def test_equal_widths_stay_equal_around_norms_over_concatenations(factor):
    base = Ladder()
    scaled = cs.scale(base, strategy="w", factor=factor, resolution=16)
    checks.check_equal_widths_stay_equal(base, scaled.module)
    checks.check_runs_forward_and_backward(scaled.module, 16)
    module = scaled.module
    for own, width in ((module.stem, 32), (module.wide.first, 64), (module.deep.first, 128)):
        assert own.out_channels % 8 == 0
        assert abs(own.out_channels - width * scaled.factors.width) <= 4  # the nearest multiple
    assert {m.num_groups for m in module.modules() if isinstance(m, nn.GroupNorm)} == {8}


def test_widths_in_a_concatenation_are_multiples_of_the_groups_over_it():
    module = cs.scale(Ladder(32), strategy="w", factor=2.0, resolution=16, weights=False).module
    assert module.up.before.num_groups == module.over.before.num_groups == 32
    assert module.deep.first.out_channels % 32 == module.wide.first.out_channels % 32 == 0


class Deviation(nn.Module):
    """A norm by the deviation of each group, as evolved norms have it: no operator says groups."""

    def __init__(self, width: int):
        super().__init__()
        self.groups, self.gain = 32, nn.Parameter(torch.ones(width))

    def forward(self, x):
        batch, channels, height, width = x.shape
        parts = x.reshape(batch, self.groups, channels // self.groups, height, width)
        spread = parts.var(dim=(2, 3, 4), unbiased=False, keepdim=True).add(1e-5).sqrt()
        return x / spread.expand(parts.shape).reshape(x.shape) * self.gain.view(1, -1, 1, 1)


@pytest.mark.parametrize("width", [128, 160, 192, 224])
def test_parts_of_which_only_a_statistic_is_taken_ask_for_no_multiple_of_their_number(width):
    net = nn.Sequential(
        nn.Conv2d(3, width, 3), Deviation(width), nn.ReLU(), nn.Conv2d(width, 10, 1)
    )
    narrow = cs.scale(net, strategy="w", factor=0.5, resolution=16).module
    step = lcm(8, width // 32)  # groups keep their channels
    assert narrow[0].out_channels == step * round(width * 0.5**0.5 / step)
    assert narrow[0].out_channels % narrow[1].groups == 0
    assert narrow[1].groups > 1
    assert torch.isfinite(narrow(torch.randn(2, 3, 16, 16))).all()
