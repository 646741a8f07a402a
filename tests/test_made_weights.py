"""Layers whose weights are made from others, by a weight norm or a spectral norm, are blocks."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import convscale as cs


class Listed(nn.Module):
    """A list of layers, which all differ in their class once PyTorch makes their weights."""

    def __init__(self, norm) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3)
        self.layers = nn.ModuleList(norm(nn.Conv2d(16, 16, 3, padding=1)) for _ in range(4))
        self.head = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for layer in self.layers:
            x = layer(x).relu()
        return self.head(x.mean((2, 3)))


class Paired(nn.Module):
    """HiFi-GAN's residual block: two lists of layers that run in pairs."""

    def __init__(self, norm) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3)
        self.convs1 = nn.ModuleList(norm(nn.Conv2d(16, 16, 3, 1, d, d)) for d in (1, 3, 5, 7))
        self.convs2 = nn.ModuleList(norm(nn.Conv2d(16, 16, 3, 1, 1)) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for first, second in zip(self.convs1, self.convs2, strict=True):
            x = x + second(first(x.relu()).relu())
        return x


NORMS = {"weight": parametrizations.weight_norm, "spectral": parametrizations.spectral_norm}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("make", [Listed, Paired])
@pytest.mark.parametrize("factor", [0.5, 2])
def test_layers_with_made_weights_are_repeated_as_those_without(make, norm, factor):
    plain = cs.scale(make(lambda layer: layer), strategy="d", factor=factor, resolution=16)
    scaled = cs.scale(make(NORMS[norm]), strategy="d", factor=factor, resolution=16)
    assert 0.4 < plain.ratio["flops"] / factor < 1.1
    assert scaled.ratio["flops"] == pytest.approx(plain.ratio["flops"], rel=0.02)
    assert set(scaled.notes) == set(plain.notes)

    def layers(module: nn.Module) -> list[str]:
        return [path for path, part in module.named_modules() if isinstance(part, nn.Conv2d)]

    assert layers(scaled.module) == layers(plain.module)
    scaled.module(torch.randn(1, 3, 16, 16)).mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in scaled.module.parameters())


@pytest.mark.parametrize("norm", NORMS)
def test_what_makes_weights_is_no_stage(norm):
    rows = cs.stages(Listed(NORMS[norm]), resolution=16).rows
    [row] = [row for row in rows if row.depth]
    assert (row.name, row.depth) == ("layers", 4)
    assert not any("parametrization" in row.name for row in rows)
