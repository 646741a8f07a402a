"""Networks that keep widths in attributes: splits, heads, reshapes, slices, comparisons."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import convscale as cs
from convscale.network.modules.numbers import Number, Place
from tests import checks


class Attention(nn.Module):
    """Heads whose number and width are attributes, and a scale that depends on the width."""

    def __init__(self, width: int = 64, heads: int = 4) -> None:
        super().__init__()
        self.entry = nn.Conv2d(3, width, 3, padding=1)
        self.heads, self.head_width = heads, width // heads
        self.scale = self.head_width**-0.5
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.exit = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.entry(x).flatten(2).transpose(1, 2)
        b, n, _ = x.shape
        qkv = self.qkv(x).reshape(b, n, 3, self.heads, self.head_width).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        y = ((q * self.scale) @ k.transpose(-1, -2)).softmax(-1) @ v
        y = y.transpose(1, 2).reshape(b, n, self.heads * self.head_width)
        return self.exit((x + self.out(y)).mean(1))


class SplitSizes(nn.Module):
    """A split by a list of sizes, a slice by an attribute and a check of a width."""

    def __init__(self) -> None:
        super().__init__()
        self.entry = nn.Conv2d(3, 48, 3, padding=1)
        self.parts = [32, 16]
        self.keep = 24
        self.expected = 16
        self.first = nn.Conv2d(32, 32, 3, padding=1)
        self.second = nn.Conv2d(16, 16, 3, padding=1)
        self.exit = nn.Linear(24, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = torch.split(self.entry(x), self.parts, dim=1)
        if b.shape[1] != self.expected:
            raise ValueError(f"got {b.shape[1]} channels")
        y = torch.cat([self.second(b), self.first(a)], 1)
        return self.exit(y[:, : self.keep].mean((2, 3)))


class Shuffle(nn.Module):
    """A channel shuffle between two groups, and a split into halves."""

    def __init__(self) -> None:
        super().__init__()
        self.entry = nn.Conv2d(3, 32, 3, padding=1)
        self.groups = 2
        self.left = nn.Conv2d(16, 16, 3, padding=1)
        self.exit = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.entry(x)
        b, c, h, w = x.shape
        x = x.view(b, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(b, c, h, w)
        a, z = x.chunk(2, dim=1)
        return self.exit(torch.cat([self.left(a), z], 1).mean((2, 3)))


class Gathered(nn.Module):
    """Branches in nested lists, a GroupNorm, and a width-dependent gate."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.entry = nn.Conv2d(3, width, 3, padding=1)
        self.branches = nn.ModuleList(
            [nn.ModuleList([nn.Conv2d(width, width, k, padding=k // 2)]) for k in (1, 3)]
        )
        self.norm = nn.GroupNorm(8, width)
        self.gate = nn.Sequential(
            nn.Linear(width, width // 4), nn.ReLU(), nn.Linear(width // 4, width)
        )
        self.exit = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.entry(x)
        x = self.norm(sum(branch[0](x) for branch in self.branches))
        x = x * self.gate(x.mean((2, 3))).sigmoid()[:, :, None, None]
        return self.exit(x.mean((2, 3)))


@dataclass(frozen=True)
class Widths:
    """What a network was configured with."""

    kept: int = 16
    by_stage: tuple[int, ...] = (16, 48)


class Configured(nn.Module):
    """Widths in a dictionary, in an object, in one nested in a list, and a `narrow`."""

    def __init__(self) -> None:
        super().__init__()
        self.entry = nn.Conv2d(3, 48, 3, padding=1)
        self.cfg = {"name": "configured", "sizes": [{"parts": (16, 32)}]}
        self.space = SimpleNamespace(flat=48 * 4)
        self.widths = Widths()
        self.second = nn.Conv2d(32, 32, 3, padding=1)
        self.exit = nn.Linear(48 * 4, 10)
        self.aside = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = torch.split(self.entry(x), self.cfg["sizes"][0]["parts"], dim=1)
        y = torch.cat([a, self.second(b)], 1)
        kept = y.narrow(1, 0, self.widths.kept).mean((2, 3))
        y = nn.functional.adaptive_avg_pool2d(y, 2).reshape(-1, self.space.flat)
        return self.exit(y) + self.aside(kept)


@pytest.mark.parametrize("network", [Attention, SplitSizes, Shuffle, Gathered, Configured])
@pytest.mark.parametrize("factor", [0.25, 2.0, 4.0])
def test_attributes_follow_the_widths(network, factor):
    base = network()
    scaled = cs.scale(base, strategy="w", factor=factor, resolution=16)
    assert scaled.achieved.flops == checks.torch_flops(scaled.module, 16)
    checks.check_equal_widths_stay_equal(base, scaled.module)
    checks.check_state_dict_keys(base, scaled)
    checks.check_runs_forward_and_backward(scaled.module, 16)
    width = scaled.module.entry.out_channels
    assert abs(width - base.entry.out_channels * factor**0.5) <= 8


def test_heads_keep_their_number_and_the_scale_follows_their_width():
    module = cs.scale(Attention(), strategy="w", factor=4.0, resolution=16).module
    assert (module.heads, module.head_width) == (4, 32)
    assert module.scale == pytest.approx(32**-0.5)


def test_split_sizes_slices_and_checks_follow():
    module = cs.scale(SplitSizes(), strategy="w", factor=4.0, resolution=16).module
    assert (module.parts, module.keep, module.expected) == ([64, 32], 48, 32)
    assert all(type(part) is int for part in module.parts)


def test_widths_in_configurations_follow_and_come_back(tmp_path):
    base = Configured()
    scaled = cs.scale(base, strategy="w", factor=4.0, resolution=16)
    for module in (scaled.module, cs.load(scaled.save(tmp_path / "net"), base=base).module):
        assert module.cfg == {"name": "configured", "sizes": [{"parts": (32, 64)}]}
        assert (module.space.flat, module.widths.kept) == (96 * 4, 32)
        assert type(module.space.flat) is int
    assert base.cfg["sizes"] == [{"parts": (16, 32)}]
    assert (base.space.flat, base.widths) == (48 * 4, Widths())


def test_attributes_come_back_with_a_saved_network(tmp_path):
    scaled = cs.scale(SplitSizes(), strategy="w", factor=4.0, resolution=16)
    again = cs.load(scaled.save(tmp_path / "net"), base=SplitSizes())
    assert again.module.parts == [64, 32]
    x = torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(again.module.eval()(x), scaled.module.eval()(x))


def test_a_width_in_an_attribute_of_a_private_name_follows():
    net = nn.Sequential(nn.Conv2d(3, 32, 3), Flat(32), nn.Linear(32, 32), nn.Linear(32, 10))
    scaled = cs.scale(net, strategy="w", factor=4.0, resolution=8)
    assert (scaled.module[1]._width, net[1]._width) == (64, 32)
    assert not any(note.startswith("Widths kept") for note in scaled.notes)
    # 36 positions: of the three layers the middle one alone grows with the square of the width
    assert scaled.achieved.flops == 36 * (27 * 64 + 64 * 64 + 64 * 10)
    checks.check_runs_forward_and_backward(scaled.module, 8)


class Flat(nn.Module):
    """Positions one after the other, of a width that an attribute tells."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self._width = width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(0, 2, 3, 1).contiguous().view(-1, self._width)


def test_the_base_keeps_plain_integers():
    base = SplitSizes()
    cs.scale(base, strategy="w", factor=4.0, resolution=16)
    assert base.parts == [32, 16]
    assert all(type(part) is int for part in [*base.parts, base.keep])


@given(
    heads=st.integers(1, 16),
    width=st.integers(1, 64),
    factor=st.integers(1, 5),
    add=st.integers(0, 9),
)
def test_a_number_is_solved_for_the_place_it_came_from(heads, width, factor, add):
    """heads · head_width + add, with the number of heads settled, gives the head width."""
    places = Place("attn", "heads", None), Place("attn", "head_width", None)
    number = Number.at(heads, places[0]) * Number.at(width, places[1]) + add
    assert int(number) == heads * width + add
    solution = number.solved(heads * width * factor + add, frozenset({places[0]}))
    assert solution is not None
    assert (solution.place, solution.value) == (places[1], width * factor)


@given(side=st.integers(2, 20), target=st.integers(1, 2000))
def test_a_place_that_stands_twice_in_a_product_is_not_solved_for_one_of_them(side, target):
    """2 · side · side is what is needed, or there is no side for it."""
    place = Place("", "side", None)
    number = 2 * Number.at(side, place) * Number.at(side, place)
    solution = number.solved(target)
    assert solution is None or number.current({place: solution.value}) == target


class Policy(nn.Module):
    """Two planes of a board, which is as large as an attribute says, laid into a vector."""

    def __init__(self, side=9) -> None:
        super().__init__()
        self.side, self.body = side, nn.Conv2d(17, 32, 3, padding=1)
        self.planes, self.moves = nn.Conv2d(32, 2, 1), nn.Linear(2 * side * side, side * side + 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        planes = self.planes(self.body(x).relu()).relu()
        return self.moves(planes.view(-1, 2 * self.side * self.side))


@pytest.mark.parametrize("factor", [0.25, 4.0, 16.0])
def test_a_board_is_no_width(factor):
    module = cs.scale(Policy().eval(), strategy="w", factor=factor, resolution=9).module
    assert (module.side, module.planes.out_channels) == (9, 2)
    assert module.body.out_channels == 32 * factor**0.5
    assert module(torch.randn(2, 17, 9, 9)).shape == (2, 82)


class LastNorm(nn.Module):
    """Norms channels that lie last, by a width that an attribute tells, and adds their numbers."""

    def __init__(self, shape) -> None:
        super().__init__()
        self.entry, self.exit = nn.Conv2d(3, 64, 3, padding=1), nn.Linear(64, 10)
        self.shape, self.width, self.listed, self.normed = shape, 64, [64], (64,)
        self.gain, self.shift = nn.Parameter(torch.ones(64)), nn.Parameter(torch.zeros(64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.entry(x).permute(0, 2, 3, 1)
        y = F.layer_norm(y, self.shape(self, y), self.gain, self.shift)
        return self.exit((y + torch.arange(self.width).sin()).mean((1, 2)))


@pytest.mark.parametrize(
    "shape",
    [
        lambda net, _: (net.width,),
        lambda net, _: net.listed,
        lambda net, _: net.normed,
        lambda net, _: net.gain.shape,
        lambda _, y: y.shape[-1:],
    ],
    ids=["a number", "a list", "a tuple", "a weight's", "the map's"],
)
@pytest.mark.parametrize("factor", [0.25, 4.0])
def test_the_width_that_a_layer_norm_is_told_follows(shape, factor):
    scaled = cs.scale(LastNorm(shape), strategy="w", factor=factor, resolution=16)
    assert scaled.module.entry.out_channels == 64 * factor**0.5
    checks.check_runs_forward_and_backward(scaled.module, 16)


def test_a_layer_norm_of_a_width_that_is_written_out_keeps_it_and_a_note_says_so():
    base = nn.Sequential(LastNorm(lambda *_: (64,)), nn.Linear(10, 64), nn.Linear(64, 10))
    scaled = cs.scale(base, strategy="w", factor=4.0, resolution=16)
    assert scaled.module[0].entry.out_channels == 64
    assert scaled.module[1].out_features == 128
    assert any("writes their sizes out" in note and "layer_norm" in note for note in scaled.notes)
