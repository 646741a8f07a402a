"""Which sets of stages are tried: those that may hold more of the flops, of no branches."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from convscale.network.sources.network import from_timm
from convscale.network.stages.schemes import Schemes
from convscale.network.tracing.trace import trace_module
from convscale.scaling.depths.deepenable import Deepenable
from convscale.scaling.depths.runs import Runs
from convscale.scaling.depths.trying import Trials


def test_sets_that_cannot_hold_more_of_the_flops_are_not_tried(monkeypatch):
    tried = []
    able = Trials.able

    def noted(self, deepening, **options):
        tried.append(deepening)
        return able(self, deepening, **options)

    monkeypatch.setattr(Trials, "able", noted)
    module = from_timm("hrnet_w18_small", {}).build("meta")
    found = Deepenable(module, Runs(module, 64)).found
    every = trace_module(module, 64).flops
    # the first set holds less than a third of the flops, so that others are looked at
    first, *others = [one.flops((True,) * len(one.stages)) for one in tried]
    assert first < every / 3
    assert others
    assert min(others) > 1.25 * first
    assert found.deepening.flops(found.able) >= max(others)


class Branches(nn.Module):
    """A list of convolutions side by side, each of which takes a part of what the layer does."""

    def __init__(self, width, stride):
        super().__init__()
        self.parts = nn.ModuleList(
            nn.Conv2d(width // 4, width // 4, 3, stride, 1) for _ in range(4)
        )

    def forward(self, x):
        parts = x.chunk(len(self.parts), 1)
        return torch.cat([own(part) for own, part in zip(self.parts, parts, strict=True)], 1)


class Row(nn.Module):
    """A list of convolutions that run one after the other, each at half of the side before."""

    def __init__(self, width):
        super().__init__()
        self.parts = nn.ModuleList(nn.Conv2d(width, width, 3, 2, 1) for _ in range(4))

    def forward(self, x):
        for part in self.parts:
            x = part(x).relu()
        return x


def listed_in(net, side):
    """Return the containers of all sets of stages that are looked at."""
    net = net.to("meta")
    trace = trace_module(net, side)
    found = Schemes(net, trace)
    schemes = [*found.first(), *found.further()]
    return {stage.container for stages in schemes for stage in stages}


def test_branches_in_a_list_that_change_the_map_are_no_stages():
    net = nn.Sequential(nn.Conv2d(3, 16, 1), Branches(16, 2))
    assert "1.parts" not in listed_in(net, 16)


def test_a_list_that_runs_in_a_row_is_a_stage_though_each_layer_changes_the_map():
    net = nn.Sequential(nn.Conv2d(3, 16, 1), Row(16))
    assert "1.parts" in listed_in(net, 64)


@pytest.mark.parametrize("name", ["res2net50_26w_4s", "dla60_res2net"])
def test_branches_of_split_layers_are_no_stages(name):
    with torch.device("meta"):
        net = timm.create_model(name)
    halving = {
        path.rpartition(".")[0]
        for path, part in net.named_modules()
        if ".convs." in path and getattr(part, "stride", (1,)) == (2, 2)
    }
    assert halving
    assert not halving & listed_in(net, 64)
