"""What code makes as many of as there are channels: gates, kernels, branches, cuts."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

import convscale as cs
from tests.checks import torch_flops
from tests.zoo.parts import conv


class Gated(nn.Module):
    """A gate for each of eight groups of channels, repeated for all channels of the group."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.groups = 8
        self.body, self.gate = conv(width, width), nn.Linear(width, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.body(x)
        gate = self.gate(y.mean((2, 3))).sigmoid()
        gate = gate.repeat_interleave(y.shape[1] // self.groups, 1)
        return x + y * gate[..., None, None]


class Hyper(nn.Module):
    """Kernels that a layer makes, one for each channel of each image."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.kernels = nn.Sequential(nn.Linear(width, 32), nn.ReLU(), nn.Linear(32, 9 * width))
        self.exit = conv(width, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        kernels = self.kernels(x.mean((2, 3))).view(n * c, 1, 3, 3)
        y = functional.conv2d(x.reshape(1, n * c, h, w), kernels, padding=1, groups=n * c)
        return x + self.exit(y.view(n, c, h, w))


class Experts(nn.Module):
    """Three branches that are stacked, each weighed by one number."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.experts = nn.ModuleList(
            nn.Sequential(conv(width, 2 * width, 1), conv(2 * width, width, 1)) for _ in range(3)
        )
        self.router = nn.Linear(width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = self.router(x.mean((2, 3))).softmax(-1)
        branches = torch.stack([expert(x) for expert in self.experts], 1)
        return x + (branches * weights[:, :, None, None, None]).sum(1)


class Enhanced(nn.Module):
    """A weight for each of eight groups of channels, which are positions' own otherwise."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.groups = 8
        self.body = conv(width, width)
        self.weight = nn.Parameter(torch.ones(1, 8, 1, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.body(x)
        n, c, h, w = y.shape
        y = y.view(n, self.groups, c // self.groups, h, w) * self.weight
        return x + y.view(n, c, h, w)


class Cut(nn.Module):
    """Cuts its channels behind so many of them, which an attribute or the code tells."""

    def __init__(self, width: int, at: int | None = None) -> None:
        super().__init__()
        self.at = at
        self.first, self.all = conv(16, 16), conv(width, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        at = int(x.shape[1] * 0.25) if self.at is None else self.at
        first, rest = x.tensor_split([at], 1)
        return x + self.all(torch.cat((self.first(first), rest), 1))


def network(block) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 64, 4, 4), block(64), block(64), nn.Conv2d(64, 96, 1), nn.Conv2d(96, 8, 1)
    )


@pytest.mark.parametrize("block", [Gated, Hyper, Experts, Enhanced, lambda width: Cut(width, 16)])
@pytest.mark.parametrize(("strategy", "factor"), [("w", 2.0), ("w", 0.5), ("dWr", 4.0)])
def test_widths_follow(block, strategy, factor):
    scaled = cs.scale(network(block), strategy=strategy, factor=factor, resolution=32)
    module, growth = scaled.module, scaled.factors.width
    assert not any(note.startswith("Widths kept") for note in scaled.notes)
    assert abs(module[0].out_channels - 64 * growth) <= 8
    assert scaled.achieved.flops == torch_flops(module, scaled.resolution)
    side = scaled.resolution
    output = module(torch.randn(2, 3, side, side))
    assert output.isfinite().all()
    for own in module:
        if isinstance(own, Gated):
            assert own.gate.out_features == own.groups == 8
        if isinstance(own, Hyper):
            assert own.kernels[-1].out_features == 9 * module[0].out_channels
        if isinstance(own, Experts):
            assert own.router.out_features == 3
        if isinstance(own, Enhanced):
            assert own.weight.shape[1] == own.groups == 8
        if isinstance(own, Cut):
            assert own.first[0].in_channels == own.at


def test_what_code_computes_by_a_fraction_keeps_its_widths():
    scaled = cs.scale(network(Cut), strategy="w", factor=2.0, resolution=32)
    assert any(note.startswith("Widths kept") and "tensor_split" in note for note in scaled.notes)
    assert scaled.module[0].out_channels == 64
    assert scaled.module[3].out_channels > 96
    assert scaled.achieved.flops == torch_flops(scaled.module, 32)


def test_branches_that_need_all_of_their_layers_keep_them():
    net = nn.Sequential(nn.Conv2d(3, 32, 4, 4), Experts(32), nn.Conv2d(32, 8, 1))
    scaled = cs.scale(net, strategy="d", factor=0.5, resolution=32)
    assert any("Depth not reduced" in note for note in scaled.notes)
    assert [len(expert) for expert in scaled.module[1].experts] == [2, 2, 2]
