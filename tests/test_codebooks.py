"""Tables that are read by indices which are no positions: codes that are chosen, words given."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import convscale as cs
from convscale.input_sizes import InputSize
from tests import checks
from tests.checks import torch_flops


class Coded(nn.Module):
    """A codebook of as many codes as the map has positions: each takes its nearest."""

    def __init__(self, choose) -> None:
        super().__init__()
        self.stem, self.exit = nn.Conv2d(3, 24, 4, 4), nn.Conv2d(24, 3, 3, 1, 1)
        self.codes, self.choose = nn.Embedding(64, 24), choose

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        flat = x.permute(0, 2, 3, 1).flatten(0, 2)
        near = self.choose(flat @ self.codes.weight.T)
        taken = self.codes(near.view(x.shape[0], *x.shape[2:]))
        return self.exit(taken.permute(0, 3, 1, 2))


CHOICES = {
    "the largest": lambda scores: scores.argmax(1),
    "with its value": lambda scores: scores.max(1).indices,
    "the best of all": lambda scores: scores.topk(1).indices[:, 0] + 0,
    "sorted": lambda scores: scores.sort(1).indices[..., 0],
    "drawn": lambda scores: scores.softmax(1).multinomial(1).squeeze(1),
}


@pytest.mark.parametrize("choose", CHOICES.values(), ids=CHOICES)
def test_codes_of_a_codebook_are_no_positions(choose):
    scaled = cs.scale(Coded(choose), strategy="r", factor=2.0, resolution=32)
    assert scaled.resolution > 40
    assert scaled.module.codes.weight.shape == (64, 24)
    assert scaled.achieved.flops == torch_flops(scaled.module, scaled.resolution)


@pytest.mark.parametrize("choose", CHOICES.values(), ids=CHOICES)
def test_the_number_of_codes_stays_as_the_width_grows(choose):
    net = nn.Sequential(nn.Conv2d(3, 16, 1), nn.Conv2d(16, 3, 1), Coded(choose))
    scaled = cs.scale(net, strategy="w", factor=4.0, resolution=32)
    assert scaled.module[2].codes.weight.shape == (64, 48)
    checks.check_runs_forward_and_backward(scaled.module, 32)


class Marked(nn.Module):
    """A codebook whose code is chosen by a row of zeros with a one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.exit = nn.Conv2d(3, 24, 4, 4), nn.Conv2d(24, 3, 3, 1, 1)
        self.codes, self.count = nn.Parameter(torch.randn(56, 24)), 56

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).permute(0, 2, 3, 1)
        near = (x.flatten(0, 2) @ self.codes.T).argmax(1, keepdim=True)
        marks = torch.zeros(near.shape[0], self.count, device=x.device).scatter_(1, near, 1)
        return self.exit((marks @ self.codes).view(x.shape).permute(0, 3, 1, 2))


def test_the_number_of_codes_stays_where_one_of_each_row_is_marked():
    net = nn.Sequential(nn.Conv2d(3, 16, 1), nn.Conv2d(16, 3, 1), Marked())
    scaled = cs.scale(net, strategy="w", factor=4.0, resolution=32)
    assert (scaled.module[2].codes.shape, scaled.module[2].count) == ((56, 48), 56)
    checks.check_runs_forward_and_backward(scaled.module, 32)


def test_words_that_are_given_are_no_positions():
    net = nn.Sequential(nn.Embedding(24, 16), nn.Conv1d(24, 32, 1), nn.Conv1d(32, 24, 3))
    scaled = cs.scale(net, strategy="w", factor=4.0, example_inputs=InputSize((24,), "int64"))
    assert scaled.module[0].weight.shape[0] == 24
    words = nn.Sequential(Words(), nn.Conv1d(16, 32, 3), nn.Conv1d(32, 8, 3))
    longer = cs.scale(words, strategy="r", factor=2.0, example_inputs=InputSize((24,), "int64"))
    assert longer.module[0].table.weight.shape == (24, 16)
    assert longer.module(torch.zeros(1, 48, dtype=torch.long)).shape == (1, 8, 44)


class Words(nn.Module):
    """Words of a text, channels first, of a vocabulary as large as the text is long."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(24, 16)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        return self.table(words).transpose(1, 2)
