"""Stages in which a network fails with the blocks asked for keep their depth; the rest grows."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import convscale as cs
from convscale.errors import UnscalableNetworkError


class Weighted(nn.Module):
    """Residual convolutions, each times a number of a table with room for four."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.steps = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(blocks))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        table = [1.0, 0.5, 0.25, 0.125]
        for place, step in enumerate(self.steps):
            x = torch.relu(x + table[place] * step(x))
        return x


class Plain(nn.Module):
    """Residual convolutions, as many as there are."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.steps = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(blocks))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for step in self.steps:
            x = torch.relu(x + step(x))
        return x


def network(*parts: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        *parts,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 5),
    ).eval()


def depths(module: nn.Module, *paths: str) -> list[int]:
    return [len(module.get_submodule(f"{path}.steps")) for path in paths]


def test_blocks_grow_as_far_as_all_of_them_run() -> None:
    scaled = cs.scale(network(Weighted(16, 2), Plain(16, 2)), strategy="d", factor=2, resolution=16)
    assert depths(scaled.module, "1", "2") == [4, 4]
    assert not any(note.startswith("Depth kept") for note in scaled.notes)


def test_a_stage_that_fails_with_the_blocks_asked_for_keeps_its_own() -> None:
    scaled = cs.scale(network(Weighted(16, 2), Plain(16, 2)), strategy="d", factor=4, resolution=16)
    assert depths(scaled.module, "1", "2") == [2, 8]
    assert "Depth kept, as it does not run with the blocks asked for: 1.steps.0." in scaled.notes
    x = torch.rand(1, 3, 16, 16)
    assert scaled.module(x).shape == (1, 5)


def test_widths_grow_beside_a_depth_that_is_kept() -> None:
    base = network(Weighted(16, 2), Plain(16, 2))
    scaled = cs.scale(base, strategy="d4_w1", factor=16, resolution=16)
    kept, grown = depths(scaled.module, "1", "2")
    assert kept == 2
    assert grown > 4
    assert scaled.module[0].out_channels > 16
    assert any("does not run with the blocks asked for" in note for note in scaled.notes)


def test_no_stage_left_is_refused_with_the_reason() -> None:
    with pytest.raises(UnscalableNetworkError) as refused:
        cs.scale(network(Weighted(16, 2)), strategy="d", factor=4, resolution=16)
    assert "it does not run with the blocks asked for (at 1.steps.0)" in refused.value.line
