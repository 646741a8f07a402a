"""Depth where blocks stand side by side, or put together what they give from parts."""

from __future__ import annotations

import itertools

import pytest
import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import convscale as cs
from convscale.errors import UnscalableNetworkError
from convscale.scaling.building.build import build
from convscale.scaling.plans.plan import Attribute, Plan
from convscale.scaling.widths.sums import Steps, Sum, Width, reconciled
from tests import checks
from tests.zoo import checks as zoo_checks
from tests.zoo import held
from tests.zoo.residual import sharing


class Branch(nn.Module):
    def __init__(self, ins, outs, stride=1):
        super().__init__()
        self.act, self.conv = nn.ReLU(), nn.Conv2d(ins, outs, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(outs)

    def forward(self, x):
        return self.norm(self.conv(self.act(x)))


class Cell(nn.Module):
    """Two branches side by side that halve the map, and two that go on."""

    def __init__(self, ins, outs, stride):
        super().__init__()
        self.left, self.right = Branch(ins, outs, stride), Branch(ins, outs, stride)
        self.then, self.last = Branch(outs, outs), Branch(outs, outs)

    def forward(self, x, other):
        y = self.left(x) + self.right(other)
        return self.last(y + self.then(y))


class Cells(nn.Module):
    def __init__(self):
        super().__init__()
        self.entry = nn.Conv2d(3, 32, 3, padding=1)
        self.a, self.b = Cell(32, 48, 2), Cell(48, 64, 2)
        self.exit = nn.Linear(64, 10)

    def forward(self, x):
        x = self.entry(x)
        y = self.a(x, x)
        return self.exit(self.b(y, y).mean((2, 3)))


@pytest.mark.parametrize("factor", [0.25, 0.5, 2.0])
def test_branches_side_by_side_that_halve_the_map_are_never_taken_away(factor):
    base = Cells()
    scaled = cs.scale(base, strategy="d", factor=factor, resolution=32)
    checks.check_state_dict_keys(base, scaled)
    checks.check_runs_forward_and_backward(scaled.module, 32)
    checks.check_added_blocks_matter(scaled, 32)
    for cell in (scaled.module.a, scaled.module.b):
        assert all(isinstance(branch, Branch) for branch in (cell.left, cell.right))
    changed = [name for group in checks.changed_blocks(scaled) for name in group]
    assert changed
    assert not any("left" in name or "right" in name for name in changed)


class Grow(nn.Module):
    def __init__(self, ins, grown):
        super().__init__()
        self.conv = nn.Conv2d(ins, grown, 3, padding=1)

    def forward(self, x):
        return torch.cat([x, self.conv(x).relu()], 1)


def growing(ins, start, grown, count):
    """A transition to a narrow width, which dense blocks widen step by step."""
    blocks = [Grow(start + i * grown, grown) for i in range(count)]
    return nn.Sequential(nn.Conv2d(ins, start, 1), nn.BatchNorm2d(start), nn.Sequential(*blocks))


class Growing(nn.Module):
    def __init__(self):
        super().__init__()
        self.entry = nn.Conv2d(3, 64, 3, 2, 1)
        self.stages = nn.Sequential(
            growing(64, 152, 36, 2),  # gives 224: its parts are no multiples of the others
            growing(224, 64, 24, 2),  # gives 112
            growing(112, 64, 24, 2),  # gives 112, as it takes
            growing(112, 64, 24, 2),
            growing(112, 72, 24, 2),  # gives 120
        )
        self.exit = nn.Linear(120, 10)

    def forward(self, x):
        return self.exit(self.stages(self.entry(x)).mean((2, 3)))


@pytest.mark.parametrize("strategy", ["d", "dWr", "dw"])
@pytest.mark.parametrize("factor", [0.5, 2.0, 4.0])
def test_what_an_added_block_puts_together_follows_as_that_of_the_last_block(strategy, factor):
    base = Growing()
    scaled = cs.scale(base, strategy=strategy, factor=factor, resolution=32)
    checks.check_state_dict_keys(base, scaled)
    checks.check_added_blocks_matter(scaled, 32)
    assert scaled.achieved.flops == checks.torch_flops(scaled.module, scaled.resolution)


def test_sums_that_share_parts_are_met_together():
    """2048 as twice 1024, and 2560 as 512 more and as twice 1280, which moves by 40.

    Met alone, 1024 · √2 = 1448 comes to 1456, so that 512 has 2 · 1800 - 2 · 1456 = 688 left, which
    is 5 % off 724; with 1440 it has 720.
    """
    thin, half, even, whole, total = map(Width, (512, 1024, 1280, 2048, 2560))
    steps = {thin: 8, half: 16, even: 40, whole: 8, total: 40}
    sums = [
        Sum(whole, ((half, 2),)),
        Sum(total, ((thin, 1), (whole, 1))),
        Sum(total, ((even, 2),)),
    ]
    alone = {thin: 728, half: 1456, even: 1800, whole: 2896, total: 3600}
    new = reconciled(alone, sums, Steps(steps, steps), 2**0.5)
    assert new == {thin: 720, half: 1440, even: 1800, whole: 2880, total: 3600}


@pytest.mark.parametrize("network", ["fastvit_sa12", "fastvit_mci0"])
@pytest.mark.parametrize("strategy", ["dWr", "dw"])
def test_a_stage_that_gets_no_made_block_hands_on_the_width_that_is_read(network, strategy):
    """In the stem a convolution of any width is followed by a depthwise one of the same."""
    base = timm.create_model(network)
    module = cs.scale(base, strategy=strategy, factor=2, resolution=256).module.train()
    stem = module.stem
    assert stem[1].conv_scale.conv.groups == stem[0].conv_scale.conv.out_channels
    assert len(stem[1].conv_scale.conv.weight) == stem[1].conv_scale.conv.groups > 64
    loss = module(torch.randn(2, 3, 64, 64)).square().mean()
    loss.backward()
    assert all(one.grad is None or one.grad.isfinite().all() for one in module.parameters())


def test_groups_into_which_channels_do_not_divide_are_refused_without_a_run():
    net = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4, device="meta"))
    plan = Plan(shapes={"0.weight": (6, 1, 3, 3)}, attributes=(Attribute("0", "groups", None, 4),))
    with pytest.raises(UnscalableNetworkError, match="of 4 to 6 channels cannot have 4 groups"):
        build(net, plan)


class Named(nn.Module):
    """Call three blocks of a list by their numbers, and the last, whichever it is."""

    def __init__(self):
        super().__init__()
        self.entry = nn.Conv2d(3, 32, 3, 2, 1)
        self.blocks = nn.ModuleList([Branch(32, 32) for _ in range(4)])
        self.exit = nn.Linear(32, 10)

    def forward(self, x):
        x = self.blocks[0](self.entry(x))
        x = self.blocks[2](self.blocks[1](x) + x)
        return self.exit(self.blocks[-1](x).mean((2, 3)))


@pytest.mark.parametrize(("strategy", "factor"), [("d", 1.25), ("d", 4), ("dWr", 8)])
def test_blocks_behind_those_called_by_number_push_none_of_the_base_out(strategy, factor):
    """In the list a block more would be the last; blocks hand their output on instead."""
    base = Named()
    scaled = cs.scale(base, strategy=strategy, factor=factor, resolution=64)
    checks.check_state_dict_keys(base, scaled)
    checks.check_runs_forward_and_backward(scaled.module, scaled.resolution)
    assert checks.check_added_blocks_matter(scaled, scaled.resolution) > 0
    assert len(scaled.module.blocks) == 4
    assert all(p.grad is not None for p in scaled.module.parameters())


@pytest.mark.parametrize(("strategy", "factor", "made"), [("d", 2.0, 2), ("d", 0.5, None)])
def test_added_blocks_share_what_all_blocks_share(strategy, factor, made):
    base = sharing()
    scaled = cs.scale(base, strategy=strategy, factor=factor, resolution=32)
    stages = scaled.module.stages
    for stage in stages:
        assert len({id(block.b[0]) for block in stage}) == 1
        assert len({id(block.b[1]) for block in stage}) == len(stage)
    if made is not None:
        own = sum(p.numel() for p in sharing(1, made).parameters())
        assert sum(p.numel() for p in scaled.module.parameters()) == own
        assert scaled.achieved.params == own
    with FlopCounterMode(display=False) as counter:
        scaled.module.eval()(torch.zeros(1, 3, scaled.resolution, scaled.resolution))
    assert scaled.achieved.flops == counter.get_total_flops() / 2
    assert cs.scale(scaled.module, strategy="dWr", factor=2, resolution=32).ratio["flops"] > 1.8


@pytest.mark.parametrize(
    ("strategy", "factor", "blocks"), [("dw", 4, 4), ("d", 4, 8), ("w", 4, 2), ("dWr", 4, 2)]
)
def test_blocks_beside_a_map_that_is_put_together_go_from_one_width_to_the_other(
    strategy, factor, blocks
):
    scaled = cs.scale(held.Crossed(1, 1), strategy=strategy, factor=factor, resolution=32)
    shapes = zoo_checks.shapes(scaled.module)
    width = shapes["stem.0.weight"][0]
    path = [(s[0], s[1]) for n, s in shapes.items() if n.startswith("join.path") and len(s) == 4]
    joined = shapes["up.weight"][0] // 4 + 3
    assert shapes["up.weight"][:2] == (4 * (joined - 3), width)
    assert len(path) == blocks
    assert path[0][1] == path[-1][0] == joined
    assert all(before[0] == after[1] for before, after in itertools.pairwise(path))
    assert checks.torch_flops(scaled.module, scaled.resolution) == scaled.achieved.flops
    zoo_checks.check_runs_and_trains(scaled.module, scaled.resolution, 3)
