"""Blocks of several kinds that take turns in a stage, and what is said of those that are added."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import convscale as cs
from tests import checks


class Shifted(nn.Module):
    """A convolution of a map that is moved along, back and forth; some numbers are never read."""

    def __init__(self, number, shift, rate=0.0, last=False):
        super().__init__()
        self.number, self.shift, self.rate, self.last = number, shift, rate, last
        self.unread = number % 2
        self.conv = nn.Conv2d(32, 32, 3, 1, 1)

    def forward(self, x):
        if self.number < 0 or self.rate > 1:
            raise ValueError("no such block")
        y = torch.roll(x, (self.shift, self.shift), (2, 3)) if self.shift else x
        y = torch.roll(self.conv(y).relu(), (-self.shift, -self.shift), (2, 3))
        return y if self.last else x + y


def stage(shifts, rates=None, lasts=None):
    rates, lasts = rates or [0.0] * len(shifts), lasts or [False] * len(shifts)
    made = zip(shifts, rates, lasts, strict=True)
    return nn.Sequential(*(Shifted(number, *own) for number, own in enumerate(made)))


class Staged(nn.Module):
    def __init__(self, *stages):
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 4, 4)
        self.stages = nn.ModuleList()
        for own in stages:
            self.stages += [own, nn.Conv2d(32, 32, 2, 2)]
        self.exit = nn.Linear(32, 10)

    def forward(self, x):
        x = self.stem(x)
        for own in self.stages:
            x = own(x)
        return self.exit(x.mean((2, 3)))


def kinds_told(*stages):
    scaled = cs.scale(Staged(*stages), strategy="d", factor=2, resolution=32, weights=False)
    return [note for note in scaled.notes if "kinds" in note]


def test_added_blocks_of_one_of_the_kinds_that_take_turns_are_told():
    scaled = cs.scale(Staged(stage((0, 2, 0, 2))), strategy="d", factor=2, resolution=32)
    assert scaled.notes == ("Added blocks are like one of several kinds: like stages.0.3 (shift).",)
    assert checks.check_added_blocks_matter(scaled, 32) == 4


def test_two_blocks_take_turns_where_those_of_another_stage_do():
    [said] = kinds_told(stage((0, 2)), stage((0, 2, 0, 2)))
    assert said.endswith("like stages.0.1 (shift), stages.2.3 (shift).")


@pytest.mark.parametrize(
    "stages",
    [
        (stage((2, 2, 2, 2)),),
        (stage((0, 2)),),  # the first alone may differ
        (stage((0, 2)), stage((0, 2, 2, 2))),
        (stage((0, 1, 2, 3)),),  # as many kinds as blocks
        (stage((2, 2, 2, 2), rates=(0.0, 0.1, 0.0, 0.1)),),
        (stage((2, 2, 2, 2), lasts=(False, False, False, True)),),
    ],
    ids=["alike", "two", "a first one", "rising", "rates", "a last one"],
)
def test_numbers_rates_and_single_blocks_are_no_kinds(stages):
    assert not kinds_told(*stages)
