"""Networks whose blocks are taken away where widths differ on both sides, or shapes."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

import convscale as cs
from tests import checks
from tests.zoo.parts import Step, conv, head


class Widening(nn.Module):
    """Two convolutions, called by name, and a shortcut that zeros fill up."""

    def __init__(self, ins, outs):
        super().__init__()
        self.conv1, self.conv2 = conv(ins, outs), conv(outs, outs)
        self.more = outs - ins

    def forward(self, x):
        zeros = x.new_zeros(len(x), self.more, *x.shape[2:])
        return torch.cat([x, zeros], dim=1) + self.conv2(self.conv1(x))


def pyramid():
    """Each unit is a little wider than the one before: its last convolution keeps the width."""
    widths = [16 + 7 * step // 2 for step in range(9)]
    units = [Widening(a, b) for a, b in itertools.pairwise(widths)]
    return nn.Sequential(conv(3, 16), *units, *head(widths[-1]))


class Parts(nn.Module):
    """Three branches side by side."""

    def __init__(self, ins, *outs):
        super().__init__()
        self.branch1, self.branch2, self.branch3 = (conv(ins, own) for own in outs)

    def forward(self, x):
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x)], dim=1)


class Sums(nn.Module):
    """Blocks called by name; those of a stage have other parts, which sum to the same."""

    def __init__(self):
        super().__init__()
        self.stem = conv(3, 24)
        self.part1, self.part2 = Parts(24, 20, 36, 24), Parts(80, 28, 28, 24)
        self.part3, self.part4 = Parts(80, 12, 44, 24), Parts(80, 20, 20, 40)
        self.head = nn.Linear(80, 10)

    def forward(self, x):
        x = self.part4(self.part3(self.part2(self.part1(self.stem(x)))))
        return self.head(x.mean((2, 3)))


class Halved(nn.Module):
    """A pool and a convolution."""

    def __init__(self, ins, outs):
        super().__init__()
        self.pool, self.conv = nn.AvgPool2d(2), Step(ins, outs)

    def forward(self, x):
        return self.conv(self.pool(x))


class Projected(nn.Module):
    """The shortcut is a convolution like the others, which runs after them."""

    def __init__(self, ins, outs):
        super().__init__()
        self.conv1, self.conv2 = Step(ins, 2 * outs, 2), Step(2 * outs, outs)
        self.shortcut = Halved(ins, outs)

    def forward(self, x):
        more = self.conv2(self.conv1(x))
        return self.shortcut(x) + more


def projected():
    """As they run one after the other, the convolutions look like one stage."""
    return nn.Sequential(Step(3, 16), Projected(16, 32), Projected(32, 64), *head(64))


@pytest.mark.parametrize("factor", [0.7, 0.6, 0.5, 0.4, 0.3])
@pytest.mark.parametrize("strategy", ["dw", "dwr", "dWr"])
@pytest.mark.parametrize("make", [pyramid, Sums])
def test_what_a_missing_block_read_fits_what_reads_it(make, strategy, factor):
    scaled = cs.scale(make(), strategy=strategy, factor=factor, resolution=32)
    side = scaled.resolution
    assert checks.torch_flops(scaled.module, side) == scaled.achieved.flops
    assert sum(p.numel() for p in scaled.module.parameters()) == scaled.achieved.params
    checks.check_runs_forward_and_backward(scaled.module, side)


def test_blocks_are_missing_where_that_is_tried():
    added, removed = checks.changed_blocks(
        cs.scale(Sums(), strategy="dwr", factor=0.3, resolution=32, weights=False)
    )
    assert removed
    assert not added


@pytest.mark.parametrize(("strategy", "factor"), [("d", 0.5), ("dwr", 0.25)])
def test_a_convolution_without_which_the_rest_does_not_run_stays(strategy, factor):
    base = projected()
    scaled = cs.scale(base, strategy=strategy, factor=factor, resolution=32)
    assert any(note.startswith("Depth not reduced") for note in scaled.notes)
    checks.check_state_dict_keys(base, scaled)
    checks.check_runs_forward_and_backward(scaled.module, scaled.resolution)
    assert checks.torch_flops(scaled.module, scaled.resolution) == scaled.achieved.flops


class Residual(nn.Module):
    """Two convolutions and a shortcut, which is one where the width changes."""

    def __init__(self, ins, outs):
        super().__init__()
        self.first, self.second = (nn.Conv2d(own, outs, 3, 1, 1) for own in (ins, outs))
        self.short = nn.Identity() if ins == outs else nn.Conv2d(ins, outs, 1)

    def forward(self, x):
        return self.short(x) + self.second(self.first(x).relu())


class Popped(nn.Module):
    """What each module on the way down puts out is kept in a list, which the way up pops."""

    def __init__(self, multiples, width=32):
        super().__init__()
        self.entry, self.down, self.up = conv(3, width), nn.ModuleList(), nn.ModuleList()
        kept, now = [width], width
        for level, multiple in enumerate(multiples):
            for own in (width * multiple,) * 2:
                self.down.append(Residual(now, own))
                kept.append(now := own)
            if level < len(multiples) - 1:
                self.down.append(nn.Conv2d(now, now, 3, 2, 1))
                kept.append(now)
        self.middle = nn.ModuleList([Residual(now, now), Residual(now, now)])
        for level, multiple in reversed(list(enumerate(multiples))):
            for own in (width * multiple,) * 3:
                self.up.append(Residual(now + kept.pop(), own))
                now = own
            if level:
                self.up.append(nn.Upsample(scale_factor=2))
        self.exit = nn.Conv2d(now, 3, 3, 1, 1)

    def forward(self, x):
        x = self.entry(x)
        kept = [x]
        for part in self.down:
            x = part(x)
            kept.append(x)
        for part in self.middle:
            x = part(x)
        for part in self.up:
            joined = isinstance(part, Residual)
            x = part(torch.cat([x, kept.pop()], 1) if joined else x)
        assert not kept
        return self.exit(x)


@pytest.mark.parametrize("multiples", [(1, 1, 1), (1, 2, 4)])
@pytest.mark.parametrize(("strategy", "factor"), [("d", 0.5), ("dwr", 0.5), ("d", 0.25)])
def test_blocks_that_the_way_back_needs_stay_and_others_go(multiples, strategy, factor):
    base = Popped(multiples)
    scaled = cs.scale(base, strategy=strategy, factor=factor, resolution=32)
    checks.check_state_dict_keys(base, scaled)
    checks.check_runs_forward_and_backward(scaled.module, scaled.resolution)
    assert scaled.achieved.flops == checks.torch_flops(scaled.module, scaled.resolution)
    assert scaled.ratio["flops"] < 1
    _, removed = checks.changed_blocks(scaled)
    assert removed
    assert any(note.startswith("Depth not reduced") for note in scaled.notes)


@pytest.mark.parametrize(("strategy", "factor"), [("d", 0.5), ("dw", 0.3)])
def test_shuffled_channels_are_as_many_without_a_block(strategy, factor):
    """Parts of equal size in what two shuffles give are not the same parts."""
    scaled = cs.scale(
        "torchvision:shufflenet_v2_x1_0", strategy=strategy, factor=factor, weights=False
    )
    assert checks.changed_blocks(scaled)[1]
    assert checks.torch_flops(scaled.module, scaled.resolution) == scaled.achieved.flops
