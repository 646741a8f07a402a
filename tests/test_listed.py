"""Depth of layers that stand in lists: bare convolutions, norms beside them, mirrored lists."""

from __future__ import annotations

import itertools
import re

import pytest
import torch
from torch import nn
from torch.nn import functional

import convscale as cs
from convscale.network.modules.numbers import Place
from convscale.network.stages.pairs import counts_beside
from convscale.network.stages.stages import Stage
from tests import checks
from tests.zoo.parts import Step


class Listed(nn.Module):
    """Convolutions in a list, and their norms in another; `how` runs both."""

    def __init__(self, how, depth=4, width=48):
        super().__init__()
        self.how, self.count, self.margin = how, depth, 8
        self.entry = nn.Conv2d(3, width, 3, 2, 1)
        self.convs = nn.ModuleList([nn.Conv2d(width, width, 3, 1, 1) for _ in range(depth)])
        self.norms = nn.ModuleList([nn.BatchNorm2d(width) for _ in range(depth)])
        self.exit = nn.Linear(width, 10)

    def forward(self, x):
        return self.exit(self.how(self, self.entry(x).relu()).mean((2, 3)))


def zipped(net, x):
    for conv, norm in zip(net.convs, net.norms, strict=True):
        x = norm(conv(x)).relu()
    return x


def numbered(net, x):
    for index in range(len(net.convs)):
        x = net.norms[index](net.convs[index](x)).relu()
    return x


def counted(net, x):
    for index in range(net.count):
        x = x + net.norms[index](net.convs[index](x)).relu()
    return x


def listed_flops(width, depth, resolution):
    """Flops of `Listed` in closed form: an entry at half the side, then the list."""
    side = (resolution + 1) // 2
    return 27 * width * side**2 + depth * 9 * width**2 * side**2 + 10 * width


@pytest.mark.parametrize("how", [zipped, numbered, counted])
@pytest.mark.parametrize(("factor", "depth"), [(2, 8), (0.5, 2)])
def test_convolutions_and_norms_in_two_lists_are_deepened_together(how, factor, depth):
    base = Listed(how)
    scaled = cs.scale(base, strategy="d", factor=factor, resolution=32)
    assert len(scaled.module.convs) == len(scaled.module.norms) == depth
    assert scaled.achieved.flops == listed_flops(48, depth, 32)
    assert scaled.achieved.flops == checks.torch_flops(scaled.module, 32)
    assert (scaled.module.count, scaled.module.margin) == (depth if how is counted else 4, 8)
    checks.check_state_dict_keys(base, scaled)
    checks.check_runs_forward_and_backward(scaled.module, 32)
    checks.check_added_blocks_matter(scaled, 32)
    assert all(p.grad is not None for p in scaled.module.parameters())
    again = cs.scale(scaled.module, strategy="d", factor=2, resolution=32)
    assert again.achieved.flops == listed_flops(48, 2 * depth, 32)


def test_a_count_that_was_changed_is_in_the_folder(tmp_path):
    base = Listed(counted)
    scaled = cs.scale(base, strategy="dw", factor=4, resolution=32)
    scaled.save(tmp_path / "deeper")
    loaded = cs.load(tmp_path / "deeper", base=Listed(counted)).module
    assert loaded.count == scaled.module.count == len(loaded.convs) > 4
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(loaded.eval()(x), scaled.module.eval()(x))


class Bare(nn.Module):
    """Convolutions in a list, of the widths given, at a stride of 2 where the width changes."""

    def __init__(self, widths):
        super().__init__()
        pairs = list(itertools.pairwise(widths))
        self.convs = nn.ModuleList([nn.Conv2d(a, b, 3, 1 if a == b else 2, 1) for a, b in pairs])
        self.exit = nn.Linear(widths[-1], 10)

    def forward(self, x):
        for conv in self.convs:
            x = functional.relu(conv(x))
        return self.exit(x.mean((2, 3)))


@pytest.mark.parametrize(
    ("widths", "deeper"),
    [
        ((3, 32, 32, 64, 64), (3, 32, 32, 32, 32, 64, 64, 64, 64)),
        ((3, 32, 64), (3, 32, 32, 64, 64)),  # none keeps the shape: one is made
    ],
)
def test_bare_convolutions_in_a_list_are_deepened(widths, deeper):
    scaled = cs.scale(Bare(widths), strategy="d", factor=2, resolution=32)
    assert [conv.out_channels for conv in scaled.module.convs] == list(deeper[1:])
    assert scaled.achieved.flops == checks.torch_flops(Bare(deeper), 32)
    checks.check_runs_forward_and_backward(scaled.module, 32)
    checks.check_added_blocks_matter(scaled, 32)


def test_branches_in_a_list_that_take_one_tensor_are_no_depth():
    class Summed(Bare):
        def forward(self, x):
            x = self.convs[0](x)
            return self.exit(sum(conv(x) for conv in list(self.convs)[1:]).mean((2, 3)))

    with pytest.raises(cs.UnscalableNetworkError, match="no stage of blocks"):
        cs.scale(Summed((3, 32, 32, 32)), strategy="d", factor=2, resolution=32)


class Mirrored(nn.Module):
    """An encoder and a decoder of one width: each step back takes what one step there made."""

    def __init__(self, depth=3):
        super().__init__()
        self.entry = nn.Conv2d(3, 32, 3, 1, 1)
        self.there = nn.ModuleList([Step(32, 32) for _ in range(depth)])
        self.back = nn.ModuleList([Step(32, 32) for _ in range(depth)])
        self.exit = nn.Conv2d(32, 5, 1)

    def forward(self, x):
        x, kept = self.entry(x), []
        for step in self.there:
            x = step(x)
            kept.append(x)
        for step in self.back:
            x = step(x + kept.pop())
        return self.exit(x)


@pytest.mark.parametrize(("factor", "depth"), [(2, 6), (0.34, 1)])
def test_mirrored_lists_stay_equally_long(factor, depth):
    base = Mirrored()
    scaled = cs.scale(base, strategy="d", factor=factor, resolution=32)
    assert len(scaled.module.there) == len(scaled.module.back) == depth
    assert scaled.achieved.flops == checks.torch_flops(Mirrored(depth), 32)
    checks.check_state_dict_keys(base, scaled)
    checks.check_runs_forward_and_backward(scaled.module, 32)
    checks.check_added_blocks_matter(scaled, 32)


class Hourglass(nn.Module):
    """Each step there halves the side, each step back doubles it and takes what was there."""

    def __init__(self):
        super().__init__()
        self.entry = nn.Conv2d(3, 16, 3, 1, 1)
        self.there = nn.ModuleList([Step(16 * 2**i, 32 * 2**i, 2) for i in range(3)])
        self.back = nn.ModuleList([Step(48 * 2**i, 16 * 2**i) for i in reversed(range(3))])
        self.exit = nn.Conv2d(16, 5, 1)

    def forward(self, x):
        x, kept = self.entry(x), []
        for step in self.there:
            kept.append(x)
            x = step(x)
        for index, step in enumerate(self.back):
            x = functional.interpolate(x, scale_factor=2.0)
            x = step(torch.cat([x, kept[-1 - index]], 1))
        return self.exit(x)


def test_blocks_of_lists_that_cannot_grow_hand_their_output_on():
    base = Hourglass()
    scaled = cs.scale(base, strategy="d", factor=2, resolution=32)
    assert len(scaled.module.there) == len(scaled.module.back) == 3
    added, _ = checks.changed_blocks(scaled)
    assert {name.partition(".")[0] for name in added} == {"there", "back"}
    assert all(re.match(r"\w+\.(\d)\.\1_\d", name) for name in added)  # in the block that runs them
    assert scaled.achieved.flops == checks.torch_flops(scaled.module, 32)
    assert scaled.achieved.flops > 1.5 * checks.torch_flops(base, 32)
    checks.check_state_dict_keys(base, scaled)
    checks.check_runs_forward_and_backward(scaled.module, 32)
    checks.check_added_blocks_matter(scaled, 32)


def test_blocks_that_are_all_read_by_number_are_not_taken_away():
    class Reading(Mirrored):
        def forward(self, x):
            x, kept = self.entry(x), []
            for step in self.there:
                x = step(x)
                kept.append(x)
            return self.exit(x + kept[0] * kept[2])

    base = Reading()
    half = cs.scale(base, strategy="d", factor=0.5, resolution=32)
    assert len(half.module.there) == 3
    assert (
        "Depth not reduced, since the network does not run with a block less: there." in half.notes
    )
    double = cs.scale(base, strategy="d", factor=2, resolution=32)
    assert len(double.module.there) == 6
    checks.check_added_blocks_matter(double, 32)


class Forked(nn.Module):
    """A step that gives its output twice, so that no other can take what it gives."""

    def __init__(self, width):
        super().__init__()
        self.step = Step(width, width)

    def forward(self, x):
        x = self.step(x)
        return x, x.sigmoid()


def test_a_refusal_says_how_a_network_fails_with_a_block_more():
    class Unpacking(nn.Module):
        def __init__(self):
            super().__init__()
            self.entry = nn.Conv2d(3, 32, 3, 2, 1)
            self.steps = nn.ModuleList([Forked(32) for _ in range(3)])

        def forward(self, x):
            x, kept = self.entry(x), []
            for step in self.steps:
                x, gate = step(x)
                kept.append(gate)
            first, second, third = kept
            return (x * first * second * third).mean((2, 3))

    with pytest.raises(
        cs.UnscalableNetworkError,
        match=r"it does not run with a block more \(at steps\.0\): ValueError: too many values",
    ):
        cs.scale(Unpacking(), strategy="d", factor=2, resolution=32)


class Gated(nn.Module):
    """Convolutions that filter, in one list, and convolutions that gate them, in another."""

    def __init__(self, depth=4):
        super().__init__()
        self.entry = nn.Conv2d(3, 32, 3, 2, 1)
        sizes = [2**i for i in range(depth)]
        self.filter = nn.ModuleList([nn.Conv2d(32, 32, 3, 1, d, dilation=d) for d in sizes])
        self.gate = nn.ModuleList([nn.Conv2d(32, 32, 3, 1, d, dilation=d) for d in sizes])
        self.exit = nn.Linear(32, 10)

    def forward(self, x):
        x = self.entry(x)
        for kept, gate in zip(self.filter, self.gate, strict=True):
            x = x + kept(x).tanh() * gate(x).sigmoid()
        return self.exit(x.mean((2, 3)))


def test_a_stage_holds_the_lists_that_grow_with_it():
    table = cs.stages(Listed(zipped, depth=3), resolution=32)
    [row] = table.rows
    assert (row.name, row.depth, row.kinds) == ("convs", 3, ("Conv2d",))
    assert row.complexity.params == 3 * (9 * 48**2 + 48 + 2 * 48)
    assert table.outside.params == 27 * 48 + 48 + 480 + 10


def test_blocks_added_behind_a_series_of_dilations_are_told():
    scaled = cs.scale(Gated(), strategy="d", factor=2, resolution=32)
    for convs in (scaled.module.filter, scaled.module.gate):
        dilations = [conv.dilation[0] for conv in convs]
        assert dilations == [1, 2, 4, 8, 8, 8, 8, 8]
    said = (
        "Added blocks are like one of several kinds: like filter.3 (dilation), gate.3 (dilation)."
    )
    assert said in scaled.notes
    checks.check_added_blocks_matter(scaled, 32)
    equal = cs.scale(Listed(zipped), strategy="d", factor=2, resolution=32)
    assert not any("kinds" in note for note in equal.notes)


class Tabled(nn.Module):
    """Layers in a dictionary, which a table runs by name: nothing iterates over them."""

    def __init__(self):
        super().__init__()
        self.table, self.layers = [], nn.ModuleDict()
        for name, layer in (
            ("entry", nn.Conv2d(3, 32, 3, 2, 1)),
            ("one", nn.Conv2d(32, 32, 3, 1, 1)),
            ("norm_one", nn.BatchNorm2d(32)),
            ("act_one", nn.ReLU()),
            ("two", nn.Conv2d(32, 32, 3, 1, 1)),
            ("norm_two", nn.BatchNorm2d(32)),
            ("act_two", nn.ReLU()),
            ("exit", nn.Conv2d(32, 10, 1)),
        ):
            self.layers[name] = layer
            self.table.append(name)

    def forward(self, x):
        for name in self.table:
            x = self.layers[name](x)
        return x.mean((2, 3))


@pytest.mark.parametrize(("factor", "convolutions"), [(2, 4), (0.5, 1)])
def test_layers_that_a_table_runs_by_name_hand_their_output_on(factor, convolutions):
    base = Tabled()
    scaled = cs.scale(base, strategy="d", factor=factor, resolution=32)
    flops = (27 * 32 + convolutions * 9 * 32**2 + 320) * 16**2
    assert scaled.achieved.flops == flops == checks.torch_flops(scaled.module, 32)
    checks.check_state_dict_keys(base, scaled)
    checks.check_runs_forward_and_backward(scaled.module, 32)
    checks.check_added_blocks_matter(scaled, 32)


class Numbered(nn.Module):
    """Convolutions and norms that the code calls by number, as many as an attribute says."""

    def __init__(self, depth=3):
        super().__init__()
        self.num_convs = depth
        self.entry = nn.Conv2d(3, 32, 3, 2, 1)
        for number in range(depth):
            self.add_module(f"conv{number}", nn.Conv2d(32, 32, 3, 1, 1, bias=False))
            self.add_module(f"norm{number}", nn.BatchNorm2d(32))
        self.exit = nn.Linear(32, 10)

    def forward(self, x):
        x = self.entry(x)
        for number in range(self.num_convs):
            norm, conv = getattr(self, f"norm{number}"), getattr(self, f"conv{number}")
            x = norm(conv(x)).relu()
        return self.exit(x.mean((2, 3)))


@pytest.mark.parametrize(("factor", "depth"), [(2, 6), (0.34, 1)])
def test_layers_with_numbers_go_on_counting(factor, depth, tmp_path):
    base = Numbered()
    scaled = cs.scale(base, strategy="d", factor=factor, resolution=32)
    assert scaled.module.num_convs == depth
    assert set(scaled.module.state_dict()) == set(Numbered(depth).state_dict())
    assert scaled.achieved.flops == checks.torch_flops(Numbered(depth), 32)
    checks.check_runs_forward_and_backward(scaled.module, 32)
    checks.check_added_blocks_matter(scaled, 32)
    loaded = cs.load(scaled.save(tmp_path / "net"), base=base)
    assert checks.torch_flops(loaded.module, 32) == scaled.achieved.flops


class Staged(nn.Module):
    """Stages of blocks in lists, as many in each as a list of depths says."""

    def __init__(self, depths=(2, 3)):
        super().__init__()
        self.depths = list(depths)
        self.stages = nn.ModuleList()
        for index, depth in enumerate(depths):
            ins, outs = (3, 32) if index == 0 else (32, 48)
            blocks = [Step(ins, outs, 2), *[Step(outs, outs) for _ in range(depth - 1)]]
            self.stages.append(nn.ModuleList(blocks))
        self.exit = nn.Linear(48, 10)

    def forward(self, x):
        for index, stage in enumerate(self.stages):
            for number in range(self.depths[index]):
                x = stage[number](x) * 0.5
        return self.exit(x.mean((2, 3)))


@pytest.mark.parametrize(("factor", "depths"), [(2, [4, 6]), (0.5, [1, 2])])
def test_a_list_of_depths_follows_the_stages(factor, depths):
    base = Staged()
    scaled = cs.scale(base, strategy="d", factor=factor, resolution=32)
    assert scaled.module.depths == depths == [len(stage) for stage in scaled.module.stages]
    assert scaled.achieved.flops == checks.torch_flops(Staged(depths), 32)
    assert base.depths == [2, 3]
    checks.check_state_dict_keys(base, scaled)
    checks.check_runs_forward_and_backward(scaled.module, 32)
    checks.check_added_blocks_matter(scaled, 32)


class Branched(nn.Module):
    """A block of two branches without an activation, which stands behind both."""

    def __init__(self, ins, outs, stride):
        super().__init__()
        self.branches = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(ins, outs, k, stride, k // 2), nn.BatchNorm2d(outs))
                for k in (1, 3)
            ]
        )

    def forward(self, x):
        return sum(branch(x) for branch in self.branches).relu()


def test_blocks_are_added_and_not_linear_layers_inside_of_them():
    class Numbers(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList([Branched(3, 32, 2), Branched(32, 32, 1)])
            self.exit = nn.Linear(32, 10)

        def forward(self, x):
            return self.exit((self.blocks[1](self.blocks[0](x) * 2) * 2).mean((2, 3)))

    scaled = cs.scale(Numbers(), strategy="d", factor=2, resolution=32)
    blocks = [part for part in scaled.module.modules() if isinstance(part, Branched)]
    assert len(blocks) > 2
    assert all(len(branch) == 2 for block in blocks for branch in block.branches)
    checks.check_added_blocks_matter(scaled, 32)


def test_lists_of_tensors_count_no_blocks():
    stages = tuple(Stage(f"stages.{i}", ("0", "1"), "Conv2d", "1") for i in range(2))
    net = nn.Module()
    net.stages = nn.ModuleList(nn.Sequential(nn.Tanh(), nn.Tanh()) for _ in stages)
    net.grids, net.depths = [torch.empty(0), torch.empty(0)], [2, 2]
    assert counts_beside(net, stages[1], stages) == (Place("", "depths", 1),)


class Flat(nn.Module):
    """Convolutions with norms in one list, amid others: the code bends behind each."""

    def __init__(self, width=32):
        super().__init__()
        self.layers = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(before, width, 3, 1, 1), nn.BatchNorm2d(width))
                for before in (3, width, width)
            ]
            + [nn.AvgPool2d(2)]
        )
        self.exit = nn.Linear(width, 10)

    def forward(self, x):
        for layer in self.layers:
            x = functional.relu(layer(x))
        return self.exit(x.mean((2, 3)))


def test_layers_that_the_code_bends_do_not_hand_on_to_each_other():
    """Two convolutions without anything between would be no more than one."""
    scaled = cs.scale(Flat(), strategy="d", factor=2, resolution=16)
    module = scaled.module.eval()
    x = torch.randn(1, 3, 16, 16)
    expected = x
    for layer in module.layers:
        expected = functional.relu(layer(expected))
    assert len(module.layers) > 4
    assert len(list(module.children())) == 2
    assert torch.equal(module(x), module.exit(expected.mean((2, 3))))
