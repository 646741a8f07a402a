"""Depthwise and pointwise convolutions that take turns: a block is one of each."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import convscale as cs
from tests.zoo.parts import conv

# MobileNet v1 in small: how wide each block is, and its stride.
_BLOCKS = ((32, 1), (64, 2), (64, 1), (128, 2), (128, 1), (128, 1))


def _layers(width: int, new: int, stride: int) -> list[nn.Module]:
    filters = nn.Conv2d(width, width, 3, stride, 1, groups=width, bias=False)
    mixes = nn.Conv2d(width, new, 1, bias=False)
    return [filters, nn.BatchNorm2d(width), nn.ReLU(), mixes, nn.BatchNorm2d(new), nn.ReLU()]


class Separable(nn.Module):
    """Its layers in one row, or each convolution with its norm in a module of its own."""

    def __init__(self, *, flat: bool) -> None:
        super().__init__()
        self.stem = conv(3, 16, 3, 2)
        rows, width = [], 16
        for new, stride in _BLOCKS:
            layers = _layers(width, new, stride)
            halves = [nn.Sequential(*layers[:3]), nn.Sequential(*layers[3:])]
            rows += layers if flat else halves
            width = new
        self.body = nn.Sequential(*rows)
        self.fc = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.body(self.stem(x)).mean((2, 3)))


def _convolutions(module: nn.Module) -> list[bool]:
    """Tell of each convolution whether it is depthwise, in the order in which they run."""
    seen: list[bool] = []
    hooks = [
        part.register_forward_hook(lambda own, *_: seen.append(own.groups > 1))
        for part in module.modules()
        if isinstance(part, nn.Conv2d)
    ]
    module.eval()(torch.zeros(1, 3, 32, 32))
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize(("factor", "blocks"), [(2, 11), (0.5, 4)])
def test_whole_blocks_are_added_and_taken_away(flat, factor, blocks):
    scaled = cs.scale(Separable(flat=flat), strategy="d", factor=factor, resolution=32)
    assert _convolutions(scaled.module) == [False, *[True, False] * blocks]
    assert not any("one of several kinds" in note for note in scaled.notes)


def test_added_pairs_at_the_end_of_a_list_go_on_with_its_numbers():
    timm = pytest.importorskip("timm")
    base = timm.create_model("mobileone_s1")
    scaled = cs.scale(base, strategy="d", factor=2, resolution=224, weights=False)
    assert list(scaled.module.stages[0]._modules) == [str(number) for number in range(8)]
    assert scaled.ratio["flops"] == pytest.approx(2, rel=0.02)
    assert scaled.notes == ()
