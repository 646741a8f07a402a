"""Blocks in lists side by side, and plain lists that say something of each block."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

import convscale as cs
from tests.checks import torch_flops


class WaveNet(nn.Module):
    """Four lists of layers and one of dilations, by which the forward pass counts its layers."""

    def __init__(self, kind=list) -> None:
        super().__init__()
        self.dilations = kind([1, 2, 4, 8, 1, 2])
        self.start = nn.Conv1d(1, 32, 1)
        self.filters, self.gates = nn.ModuleList(), nn.ModuleList()
        self.residuals, self.skips = nn.ModuleList(), nn.ModuleList()
        for dilation in self.dilations:
            self.filters.append(nn.Conv1d(32, 32, 2, dilation=dilation))
            self.gates.append(nn.Conv1d(32, 32, 2, dilation=dilation))
            self.residuals.append(nn.Conv1d(32, 32, 1))
            self.skips.append(nn.Conv1d(32, 64, 1))
        self.end = nn.Conv1d(64, 16, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, skips = self.start(x), 0
        for i, dilation in enumerate(self.dilations):
            padded = functional.pad(x, (dilation, 0))
            part = self.filters[i](padded).tanh() * self.gates[i](padded).sigmoid()
            skips = skips + self.skips[i](part)
            x = x + self.residuals[i](part)  # of the last layer nothing reads it
        return self.end(skips.relu())


class Zipped(nn.Module):
    """Blocks with a scale each, in a list of numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.scales = [0.5, 0.25, 0.125]
        self.stem, self.head = nn.Conv2d(3, 16, 3), nn.Linear(16, 10)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(16, 16, 3, 1, 1), nn.ReLU()) for _ in self.scales
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block, scale in zip(self.blocks, self.scales, strict=False):
            x = x + scale * block(x)
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize("kind", [list, tuple])
@pytest.mark.parametrize(("strategy", "factor"), [("d", 2.0), ("d", 0.5), ("dwr", 4.0)])
def test_lists_side_by_side_grow_with_what_lists_their_dilations(kind, strategy, factor, tmp_path):
    net = WaveNet(kind)
    scaled = cs.scale(net, strategy=strategy, factor=factor, resolution=(128,))
    module = scaled.module
    depth = len(module.dilations)
    assert type(module.dilations) is kind
    assert depth == round(6 * scaled.factors.depth)
    lists = (module.filters, module.gates, module.residuals, module.skips)
    assert {len(own) for own in lists} == {depth}
    assert [layer.dilation[0] for layer in module.filters] == list(module.dilations)
    kept = min(depth, 6)
    assert list(module.dilations)[:kept] == [1, 2, 4, 8, 1, 2][:kept]
    (length,) = scaled.resolution
    assert module(torch.randn(1, 1, length)).shape == (1, 16, length)
    assert scaled.achieved.flops == torch_flops(module, scaled.resolution, 1)
    loaded = cs.load(scaled.save(tmp_path / "deep"), base=net).module
    assert list(loaded.dilations) == list(module.dilations)
    again = cs.scale(module, strategy="d", factor=2.0, resolution=scaled.resolution)
    assert len(again.module.dilations) == 2 * depth


def test_every_added_layer_but_what_the_last_hands_on_changes_the_output():
    scaled = cs.scale(WaveNet(), strategy="d", factor=2.0, resolution=(128,))
    module, x = scaled.module.eval(), torch.randn(1, 1, 128)
    with torch.no_grad():
        before = module(x)
        for name in ("filters", "gates", "residuals", "skips"):
            for number, layer in enumerate(getattr(module, name)):
                weight = layer.weight.clone()
                layer.weight.mul_(1.5)
                moved = not torch.equal(module(x), before)
                assert moved == ((name, number) != ("residuals", len(module.residuals) - 1))
                layer.weight.copy_(weight)


def test_a_list_of_numbers_that_is_zipped_with_blocks_grows():
    scaled = cs.scale(Zipped(), strategy="d", factor=2.0, resolution=16)
    assert scaled.module.scales == [0.5, 0.25, 0.125, *[0.125] * (len(scaled.module.blocks) - 3)]
    assert len(scaled.module.blocks) > 5
    assert scaled.achieved.flops == torch_flops(scaled.module, 16)
    fewer = cs.scale(Zipped(), strategy="d", factor=0.5, resolution=16).module
    assert fewer.scales == [0.5, 0.25, 0.125][: len(fewer.blocks)]
    assert len(fewer.blocks) < 3
