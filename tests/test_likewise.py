"""What runs with blocks added are told to show at other resolutions is what they show there."""

import pytest
import torch
from torch import nn

from convscale.network import resolve_base
from convscale.network.stages.likewise import Copies, Pair, follow, likewise, shape_there
from convscale.scaling.depths.runs import Runs, _copies
from convscale.scaling.depths.telling import shows_alike, traced_likewise
from convscale.scaling.search.blueprint import Blueprint
from tests.test_deepest import Dense

SIDES = (33, 48, 63, 65, 97)


def blueprint(network):
    made = network().to("meta") if callable(network) else resolve_base(network).build("meta")
    return Blueprint(made, 64, records=True)


class Restless(nn.Module):
    """A block that keeps the sides of maps that are even, and makes odd ones smaller."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(16, 16, 3, padding=1)

    def forward(self, x):
        halved = nn.functional.max_pool2d(self.convolution(x), 2)
        return nn.functional.interpolate(halved, scale_factor=2.0)


class Sized(nn.Module):
    """A block that tells the sides of maps to what it calls."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(16, 16, 3, padding=1)

    def forward(self, x):
        halved = nn.functional.max_pool2d(self.convolution(x), 2)
        return x + nn.functional.interpolate(halved, size=x.shape[2:])


def chain(block, blocks):
    return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), *(block() for _ in range(blocks)))


@pytest.mark.parametrize("network", [Dense, "timm:densenet121", "timm:dpn68"])
def test_a_deeper_run_shows_at_other_sides_what_is_told_of_it(network):
    base = blueprint(network)
    found, runs = base._found, base._runs
    more = zip(base.stages, found.able, strict=True)
    models = found.deepening.edits(tuple(stage.depth + 2 * able for stage, able in more))
    home, here = runs.run(models, 64, found.deepening), runs.run((), 64, None)
    for side in SIDES:
        told = traced_likewise(home, here, runs.run((), side, None), Copies(_copies(models)))
        seen = blueprint(network)._runs
        seen._alike = False  # nothing is told: it is run
        assert shows_alike(told, seen.run(models, side, found.deepening)), side


@pytest.mark.parametrize(("block", "told"), [(Restless, (10,)), (Sized, (9, 10))])
def test_nothing_is_told_where_a_block_changes_the_sides_of_its_maps(block, told):
    copies = Copies({"2": "1"})
    base, deep = (Runs(chain(block, n).to("meta"), 8, records=True) for n in (1, 2))
    for side in (9, 10):
        there, seen = base.run((), side, None), deep.run((), side, None)
        found = traced_likewise(deep.run((), 8, None), base.run((), 8, None), there, copies)
        assert (found is not None) is (side in told)
        assert found is None or shows_alike(found, seen)


def test_nothing_is_told_of_blocks_that_are_no_copies():
    wide = chain(Sized, 1)
    wide.append(nn.Conv2d(16, 16, 5, padding=1))
    base, deep = (Runs(net.to("meta"), 8, records=True) for net in (chain(Sized, 1), wide))
    runs = (deep.run((), 8, None), base.run((), 8, None), base.run((), 10, None))
    assert traced_likewise(*runs, Copies({"2": "1.convolution"})) is None
    pair = Pair(runs[1].trace, runs[2].trace)
    assert likewise(runs[0].trace, pair, Copies({})) is None


def test_runs_are_made_once_one_shows_something_else(monkeypatch):
    monkeypatch.setattr("convscale.scaling.depths.runs.shows_alike", lambda *_: False)
    base = blueprint(Dense)
    models = base._found.deepening.one_more(base.repeatable)
    for side in (66, 80):
        traced = base._run(models, side)
        assert traced.trace.resolution == side
        assert base._runs._alike is False


def test_a_side_follows_that_of_the_block_and_a_width_stays():
    assert follow(14, 14, 16) == 16
    assert follow(96, 64, 64) == 96
    assert follow(96, 64, 72) is None
    assert shape_there((1, 96, 14), (1, 64, 14), (1, 64, 16)) == (1, 96, 16)
    assert shape_there((1, 96 * 14), (1, 64 * 14), (1, 64 * 16)) is None
    assert shape_there((1, 96), (1, 64, 14), (1, 64, 16)) is None
    assert torch.empty(shape_there((2, 3), (2, 3), (4, 5))).shape == (4, 5)
