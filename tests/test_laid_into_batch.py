"""Channels that are dealt out in turn through reshapes that lay them into the batch."""

import pytest
import torch
from torch import nn

import convscale
from convscale.scaling.widths.widths import nearest


def _layer(channels, out, size=1, stride=1, groups=1):
    conv = nn.Conv2d(channels, out, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out))


class _Unit(nn.Module):
    """Half of the channels pass by: those with even numbers, from both halves of the map."""

    def __init__(self, channels, out, stride):
        super().__init__()
        inner = out // 2
        self.main = nn.Sequential(
            _layer(channels, inner),
            nn.ReLU(),
            _layer(inner, inner, 3, stride, inner),
            _layer(inner, out - channels),
            nn.ReLU(),
        )
        self.beside = None
        if stride == 2:
            parts = (_layer(channels, channels, 3, 2, channels), _layer(channels, channels))
            self.beside = nn.Sequential(*parts, nn.ReLU())

    def forward(self, x):
        if self.beside is not None:
            return torch.cat((self.beside(x), self.main(x)), 1)
        batch, channels, height, width = x.size()
        x = x.reshape(batch * channels // 2, 2, height * width).permute(1, 0, 2)
        x = x.reshape(2, -1, channels // 2, height, width)
        return torch.cat((x[0], self.main(x[1])), 1)


def _network(widths, depths):
    layers = [_layer(3, 24, 3, 2), nn.ReLU()]
    channels = 24
    for out, depth in zip(widths, depths, strict=True):
        layers.append(_Unit(channels, out, 2))
        layers += [_Unit(out // 2, out, 1) for _ in range(depth - 1)]
        channels = out
    pool = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))
    return nn.Sequential(*layers, *pool).eval()


@pytest.mark.parametrize("widths", [(116, 232), (176, 352), (244, 488)])
@pytest.mark.parametrize("factor", [2.0, 0.5])
def test_all_layers_of_one_width_get_one_width(widths, factor):
    base = _network(widths, (4, 8))
    scaled = convscale.scale(base, strategy="w", factor=factor, resolution=64)
    convs = {
        name: layer.out_channels
        for name, layer in base.named_modules()
        if isinstance(layer, nn.Conv2d)
    }
    for width in (widths[0] // 2, widths[1] // 2):
        got = {
            scaled.module.get_submodule(name).out_channels
            for name, own in convs.items()
            if own == width
        }
        step = 8 if width % 8 == 0 else width & -width  # as much of 8 as the width has
        assert len(got) == 1
        assert abs(got.pop() - width * factor**0.5) <= step
    strided, plain = (scaled.module[place].main[3][0] for place in (2, 3))
    assert strided.out_channels + nearest(24 * factor**0.5, 8) == 2 * plain.out_channels
    assert 0.9 * factor < scaled.ratio["flops"] < 1.1 * factor


def test_a_network_so_dealt_out_runs_deeper_and_wider():
    scaled = convscale.scale(_network((116, 232), (4, 8)), strategy="dw", factor=4, resolution=64)
    assert scaled.module(torch.randn(2, 3, 64, 64)).shape == (2, 10)
    assert 3.6 < scaled.ratio["flops"] < 4.4
