"""Widths that shuffles cut into fragments: whatever the factor, equal splits stay equal."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import convscale as cs
from convscale.network.sources.network import from_module
from convscale.scaling import Scaler
from tests.zoo import checks
from tests.zoo.branches import UnequalShuffle, unequal_shuffle


@pytest.fixture(scope="module")
def scaler():
    torch.manual_seed(0)
    return Scaler(from_module(unequal_shuffle()), resolution=32)


def units(module):
    return [part for part in module.modules() if type(part) is UnequalShuffle]


@pytest.mark.parametrize("strategy", ["w", "dWr"])
@pytest.mark.parametrize("factor", [0.5, 1.5, 2.0, 3.0])
def test_parts_add_up_to_the_halves_they_are_cut_into(scaler, strategy, factor):
    scaled = scaler.scale(strategy, factor=factor)
    checks.check_runs_and_trains(scaled.module, scaled.resolution, 3)
    found = {}
    for unit in units(scaled.module):
        taken, made = unit.body[0][0].in_channels, unit.body[2][0].out_channels
        if unit.first:
            kept = taken if unit.beside is None else unit.beside[0].out_channels
            assert kept == taken  # as many as in the base, where both are of one width
            half = (kept + made) / 2
            found[half] = taken
        else:
            assert (taken, made) == (half, half)
    (_, stem), (_, between) = sorted(found.items())
    assert stem == scaled.module.stem[0].out_channels
    assert between == 2 * min(found)


def test_flops_of_odd_widths_are_those_of_pytorchs_counter(scaler):
    scaled = scaler.scale("w", factor=2.0)
    x = checks.image(scaled.resolution, 3)
    with FlopCounterMode(display=False) as counter:
        scaled.module.eval()(x)
    assert scaled.achieved.flops == counter.get_total_flops() / 2
    assert cs.count(scaled.module, resolution=scaled.resolution).flops == scaled.achieved.flops
