"""Floats that a constructor computed from widths: of weights, of attention, of residuals."""

from __future__ import annotations

from math import sqrt

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import convscale as cs
from tests import checks


class Equalised(nn.Conv2d):
    """A convolution whose weights are drawn from N(0, 1) and multiplied by sqrt(2 / fan-in)."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__(inner, outer, 3, padding=1)
        nn.init.normal_(self.weight)
        nn.init.zeros_(self.bias)
        self.scale = sqrt(2 / (inner * 9))
        self.unread = 1 / inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.conv2d(x, self.weight * self.scale, self.bias, padding=1)
        return F.leaky_relu(y, 0.2)


class Standardised(nn.Conv2d):
    """A convolution of weights that are standardised, times a gain over the root of the fan-in."""

    def __init__(self, inner: int, outer: int, gain: float, **options: int) -> None:
        super().__init__(inner, outer, 3, padding=1, **options)
        self.gain = nn.Parameter(torch.ones(outer, 1, 1, 1))
        self.scale = gain * self.weight[0].numel() ** -0.5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight.flatten(1)
        spread = weight.std(1, keepdim=True) + 1e-6
        weight = ((weight - weight.mean(1, keepdim=True)) / spread).view_as(self.weight)
        weight = weight * (self.gain * self.scale)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, 1, self.groups)


class Residual(nn.Module):
    """A block that adds a fixed share of what two layers make."""

    def __init__(self, width: int, share: float) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)
        self.share = share

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.second(self.first(x).relu()) * self.share


class Heads(nn.Module):
    """Attention that keeps its scale, but not the width of a head."""

    def __init__(self, width: int, heads: int, *, fused: bool) -> None:
        super().__init__()
        self.heads, self.fused = heads, fused
        self.scale = (width // heads) ** -0.5
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, c, h, w = x.shape
        y = self.qkv(x.flatten(2).transpose(1, 2))
        q, k, v = y.reshape(b, h * w, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        else:
            y = (q @ k.transpose(-2, -1) * self.scale).softmax(-1) @ v
        y = self.out(y.transpose(1, 2).reshape(b, h * w, c))
        return x + y.transpose(1, 2).reshape(b, c, h, w)


class Roots(Heads):
    """Attention that keeps the width of a head for the root alone, which the run takes."""

    def __init__(self, width: int, heads: int, root) -> None:
        super().__init__(width, heads, fused=False)
        self.width, self.head_width, self.root = width, width // heads, root

    def __getattribute__(self, name: str):
        return self.root(self) if name == "scale" else super().__getattribute__(name)


def around(*layers: nn.Module, width: int = 64, stem: nn.Module | None = None) -> nn.Sequential:
    """Return a network of some layers."""
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))
    return nn.Sequential(stem or nn.Conv2d(3, width, 4, 4), *layers, *head)


def equalised() -> nn.Module:
    """Return equalised layers of one width, behind one of three channels."""
    return around(*[Equalised(32, 32) for _ in range(6)], width=32, stem=Equalised(3, 32))


def standardised() -> nn.Module:
    """Return two stages of standardised convolutions, some of them grouped."""

    def block(width: int, groups: int) -> nn.Module:
        return nn.Sequential(Standardised(width, width, 1.7, groups=groups), nn.ReLU())

    narrow = nn.Sequential(*[block(32, 1) for _ in range(3)])
    down = Standardised(32, 64, 1.7, stride=2)
    wide = nn.Sequential(*[block(64, 4) for _ in range(3)])
    return around(narrow, down, wide, stem=Standardised(3, 32, 1.7, stride=2))


@pytest.mark.parametrize("factor", [0.25, 4.0, 16.0])
def test_equalised_learning_rates_follow_the_fan_in_and_weights_stay_as_wide(factor):
    base = equalised()
    scaled = cs.scale(base, strategy="w", factor=factor, resolution=32)
    layers = [m for m in scaled.module if isinstance(m, Equalised)]
    assert len({m.in_channels for m in layers}) == 2
    for layer in layers:
        assert layer.scale == pytest.approx(sqrt(2 / layer.weight[0].numel()), rel=1e-9)
        assert layer.weight.std().item() == pytest.approx(1, abs=0.1)
    assert layers[-1].unread == 1 / 32  # no forward pass reads it
    assert base[1].scale == sqrt(2 / 288)
    assert scaled.achieved.flops == checks.torch_flops(scaled.module, 32)


@pytest.mark.parametrize("factor", [0.5, 2.0, 4.0])
@pytest.mark.parametrize("strategy", ["w", "dWr"])
def test_gains_over_the_root_of_the_fan_in_follow_it_in_added_blocks_too(strategy, factor):
    scaled = cs.scale(standardised(), strategy=strategy, factor=factor, resolution=32)
    layers = [m for m in scaled.module.modules() if isinstance(m, Standardised)]
    assert strategy == "w" or factor < 4 or len(layers) > 8
    for layer in layers:
        assert layer.scale == pytest.approx(1.7 * layer.weight[0].numel() ** -0.5, rel=1e-9)
    checks.check_runs_forward_and_backward(scaled.module, 32)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("factor", [0.25, 4.0])
def test_the_scale_of_attention_follows_heads_whose_width_no_attribute_tells(fused, factor):
    base = around(Heads(64, 4, fused=fused))
    module = cs.scale(base, strategy="w", factor=factor, resolution=32).module[1]
    assert module.heads == 4
    assert module.out.in_features == 64 * sqrt(factor)
    assert module.scale == pytest.approx((module.out.in_features / 4) ** -0.5, rel=1e-12)


@pytest.mark.parametrize(
    ("attribute", "whole", "root"),
    [
        ("head_width", 16, lambda net: net.head_width**-0.5),
        ("head_width", 16, lambda net: 1 / sqrt(net.head_width)),
        ("width", 64, lambda net: (net.width // net.heads) ** -0.5),
    ],
)
def test_a_width_that_only_a_root_is_taken_of_follows(attribute, whole, root, tmp_path):
    base = around(Roots(64, 4, root))
    scaled = cs.scale(base, strategy="w", factor=4.0, resolution=32)
    assert scaled.module[1].heads == 4
    assert getattr(scaled.module[1], attribute) == 2 * whole
    assert scaled.module[1].scale == pytest.approx(32**-0.5)
    loaded = cs.load(scaled.save(tmp_path / "net"), base=base)
    assert getattr(loaded.module[1], attribute) == 2 * whole


def test_a_number_of_which_no_root_is_taken_stays():
    base = around(Heads(64, 4, fused=False))
    base[1].seed = 16  # as wide as a head is
    assert cs.scale(base, **_WIDER).module[1].seed == 16


def test_shares_of_residuals_stay():
    blocks = [Residual(32, 0.1), nn.Conv2d(32, 64, 1), Residual(64, 0.1)]
    scaled = cs.scale(around(*blocks, width=64, stem=nn.Conv2d(3, 32, 4, 4)), **_WIDER)
    assert [m.share for m in scaled.module if isinstance(m, Residual)] == [0.1, 0.1]
    assert not any("computed" in note for note in scaled.notes)


def test_a_share_that_is_a_power_of_a_size_beside_other_sizes_too_stays():
    blocks = [Residual(64, 0.125), nn.Conv2d(64, 96, 1), Residual(96, 0.125)]
    scaled = cs.scale(around(*blocks, width=96, stem=nn.Conv2d(3, 64, 4, 4)), **_WIDER)
    assert [m.share for m in scaled.module if isinstance(m, Residual)] == [0.125, 0.125]
    assert not any("computed" in note for note in scaled.notes)


def test_a_float_that_may_be_a_power_by_chance_stays_and_a_note_names_it():
    plain = [nn.Conv2d(64, 64, 3, padding=1), nn.ReLU()]
    scaled = cs.scale(around(*plain, Residual(64, 0.125), *plain), **_WIDER)
    assert scaled.module[3].share == 0.125
    assert scaled.notes == (
        "Attributes kept that may be computed from widths: 3.share (0.125, beside 64).",
    )


def test_floats_that_followed_are_saved(tmp_path):
    base = standardised()
    scaled = cs.scale(base, strategy="dWr", factor=4.0, resolution=32)
    scaled.save(tmp_path / "net")
    loaded = cs.load(tmp_path / "net", base=base)
    x = torch.randn(1, 3, 40, 40)
    assert [m.scale for m in loaded.module.modules() if isinstance(m, Standardised)] == [
        m.scale for m in scaled.module.modules() if isinstance(m, Standardised)
    ]
    assert torch.equal(loaded.module.eval()(x), scaled.module.eval()(x))


_WIDER = {"strategy": "w", "factor": 4.0, "resolution": 32}
