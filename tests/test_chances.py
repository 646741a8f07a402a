"""What a softmax spreads chances over, just before it is put out, are classes: they stay."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

import convscale as cs


class Acoustic(nn.Module):
    """One-dimensional convolutions that put out the chances of letters at each time."""

    def __init__(self, *, log: bool, last: bool) -> None:
        super().__init__()
        self.log, self.last = log, last
        widths = (13, 32, 32, 64)
        self.body = nn.Sequential(
            *(
                nn.Sequential(nn.Conv1d(taken, put, 5, padding=2), nn.ReLU())
                for taken, put in itertools.pairwise(widths)
            )
        )
        self.letters = nn.Sequential(nn.Conv1d(64, 40, 1), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.letters(self.body(x))
        x = x.log_softmax(1) if self.log else x.softmax(1)
        return x.permute(2, 0, 1) if self.last else x


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize("last", [True, False])
def test_letters_stay(log, last):
    given = (torch.zeros(1, 13, 50),)
    base = Acoustic(log=log, last=last)
    scaled = cs.scale(base, strategy="w", factor=2, example_inputs=given)
    assert scaled.module.letters[0].out_channels == 40
    assert scaled.module.body[2][0].out_channels == 88
    x = torch.randn(2, 13, 50)
    assert scaled.module(x).shape == base(x).shape


class Attended(nn.Module):
    """Features of which each position reads others by their chances: they scale."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.exit = nn.Conv2d(3, 32, 3, 2, 1), nn.Conv2d(32, 64, 3, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.exit(self.enter(x).relu()).relu()
        flat = x.flatten(2)
        chances = (flat.transpose(1, 2) @ flat).softmax(-1)
        return (flat @ chances).view(x.shape)


def test_features_that_chances_weigh_scale():
    scaled = cs.scale(Attended(), strategy="w", factor=4, resolution=32, weights=False)
    assert scaled.module.exit.out_channels == 128
