"""Layers that a forward pass never calls: a kernel is made of the weights of two, or none is."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import convscale as cs

_HOW = ("sum", "tensordot", "einsum")
_INPUT = (torch.zeros(2, 1, 32, 32),)


class Composed(nn.Module):
    """Two convolutions, over time and over space, that run as one."""

    def __init__(self, how: str, filters: int = 40) -> None:
        super().__init__()
        self.how = how
        self.time = nn.Conv2d(1, filters, (5, 1))
        self.space = nn.Conv2d(filters, filters, (1, 5), bias=False)
        self.norm = nn.BatchNorm2d(filters)
        self.fc = nn.Linear(filters, 10)

    def kernel(self) -> torch.Tensor:
        time, space = self.time.weight, self.space.weight
        if self.how == "sum":
            return (time * space.permute(1, 0, 2, 3)).sum(0).unsqueeze(1)
        if self.how == "tensordot":
            product = torch.tensordot(space[:, :, 0], time[:, 0, :, 0], dims=([1], [0]))
            return product[:, None].transpose(2, 3)
        return torch.einsum("oihw,icxw->ocxw", space, time.expand(-1, -1, -1, 5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bias = self.space.weight.squeeze(2).sum(2).mm(self.time.bias.unsqueeze(1)).squeeze(1)
        x = F.relu(self.norm(F.conv2d(x, self.kernel(), bias)))
        return self.fc(x.mean((2, 3)))


@pytest.mark.parametrize("how", _HOW)
@pytest.mark.parametrize(("factor", "filters"), [(2, 56), (0.5, 32)])
def test_both_widths_grow(how: str, factor: float, filters: int) -> None:
    scaled = cs.scale(Composed(how), strategy="w", factor=factor, example_inputs=_INPUT).module
    wanted = Composed(how, filters).state_dict()
    assert {k: v.shape for k, v in scaled.state_dict().items()} == {
        k: v.shape for k, v in wanted.items()
    }


@pytest.mark.parametrize("how", _HOW)
def test_it_runs_as_its_two_convolutions_do(how: str) -> None:
    scaled = cs.scale(Composed(how), strategy="w", factor=2, example_inputs=_INPUT).module.eval()
    x = torch.randn(2, 1, 16, 16)
    parts = F.relu(scaled.norm(scaled.space(scaled.time(x)))).mean((2, 3))
    torch.testing.assert_close(scaled(x), scaled.fc(parts), rtol=1e-3, atol=1e-4)


class Spare(nn.Module):
    """A convolution that nothing runs, as of a second scale of an upscaler."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.spare = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 32, 3)
        self.fc = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.stem(x).mean((2, 3)))


def test_a_layer_that_is_not_run_keeps_its_width_and_is_named() -> None:
    scaled = cs.scale(Spare(), strategy="w", factor=4, resolution=32)
    spare = scaled.module.spare
    assert (spare.in_channels, spare.out_channels) == (16, 32)
    assert "Widths kept of what the forward pass does not run: spare." in scaled.notes
    frozen = cs.scale(Spare(), strategy="w", factor=4, resolution=32, freeze=["spare"])
    assert not any("does not run" in note for note in frozen.notes)
