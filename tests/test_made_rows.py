"""Blocks that are made where layers stand in a row and each changes the shape."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import convscale as cs
from tests import checks
from tests.zoo.parts import head


def encoder(depth=1):
    """Convolutions of stride 2 with what follows them; deeper, each is followed by `same` ones.

    Kernels of 4 x 4 keep no sides: those behind them are odd.
    """
    layers = []
    for ins, outs, kernel in ((3, 16, 3), (16, 32, 4), (32, 64, 5)):
        layers += [
            nn.Conv2d(ins, outs, kernel, 2, kernel // 2 - (kernel == 4)),
            nn.BatchNorm2d(outs),
        ]
        layers.append(nn.LeakyReLU(0.2))
        for _ in range(depth - 1):
            same = nn.Conv2d(outs, outs, kernel - 1 + kernel % 2, padding="same")
            layers += [same, nn.BatchNorm2d(outs), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, *head(64))


@pytest.mark.parametrize("depth", [2, 3])
def test_a_row_of_strided_convolutions_gets_some_that_keep_the_sides(depth):
    """As the network written by hand: the same shapes, in the same order, and the same flops."""
    scaled = cs.scale(encoder(), strategy="d", factor=depth, resolution=32)
    expected = encoder(depth)
    shapes = [tuple(tensor.shape) for tensor in scaled.module.state_dict().values()]
    assert shapes == [tuple(tensor.shape) for tensor in expected.state_dict().values()]
    assert scaled.achieved.flops == checks.torch_flops(expected, 32)
    assert [type(layer) for layer in scaled.module] == [type(layer) for layer in expected]
    checks.check_state_dict_keys(encoder(), scaled)
    assert checks.check_added_blocks_matter(scaled, 32) == 3 * (depth - 1) * 3


@pytest.mark.parametrize(("strategy", "factor"), [("dWr", 2.0), ("dwr", 8.0), ("dw", 4.0)])
def test_all_axes_of_it_are_scaled(strategy, factor, tmp_path):
    base = encoder()
    scaled = cs.scale(base, strategy=strategy, factor=factor, resolution=32)
    assert 0.8 < scaled.ratio["flops"] / factor < 1.25
    assert checks.torch_flops(scaled.module, scaled.resolution) == scaled.achieved.flops
    checks.check_runs_forward_and_backward(scaled.module, scaled.resolution)
    loaded = cs.load(scaled.save(tmp_path / "net"), base=base).module.eval()
    images = torch.randn(2, 3, scaled.resolution, scaled.resolution)
    assert torch.equal(loaded(images), scaled.module.eval()(images))
    again = cs.scale(scaled.module, strategy="dw", factor=2.0, resolution=scaled.resolution)
    assert again.ratio["flops"] == pytest.approx(2.0, rel=0.25)


def test_a_map_without_padding_keeps_its_sides_behind_an_added_layer():
    """The network for Atari games: kernels of 8, 4 and 3, none padded."""
    layers = [nn.Conv2d(4, 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU()]
    base = nn.Sequential(*layers, nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3136, 6))
    scaled = cs.scale(base, strategy="dw", factor=8.0, resolution=84)
    added, removed = checks.changed_blocks(scaled)
    assert len(added) > 0
    assert not removed
    assert scaled.module(torch.randn(2, 4, 84, 84)).shape == (2, 6)
    checks.check_runs_forward_and_backward(scaled.module, 84, 4)
    assert checks.check_added_blocks_matter(scaled, 84, 4) == len(added)
