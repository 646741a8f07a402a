"""Stages as a user sees them: what each is, what it costs, and what can be deepened."""

from __future__ import annotations

import json
import re

import pytest
import torch
from torch import nn

import convscale as cs
from convscale.cli.main import run
from convscale.report.layout import plain_lines
from convscale.report.staged import stage_table
from tests import checks
from tests.networks import Contraption, Plain, plain_flops


def test_resnet50_has_the_stages_of_its_paper():
    found = cs.stages("timm:resnet50")
    assert [row.name for row in found.rows] == ["layer1", "layer2", "layer3", "layer4"]
    assert [row.depth for row in found.rows] == [3, 4, 6, 3]
    assert [row.width for row in found.rows] == [256, 512, 1024, 2048]
    assert [row.resolution for row in found.rows] == [(56, 56), (28, 28), (14, 14), (7, 7)]
    assert [row.stride for row in found.rows] == [1, 2, 2, 2]
    assert [row.reduction for row in found.rows] == [4, 8, 16, 32]
    assert {row.kinds for row in found.rows} == {("Bottleneck",)}


def test_resnext_tells_its_group_widths():
    rows = cs.stages("timm:resnext50_32x4d").rows
    assert [row.group_widths for row in rows] == [(4,), (8,), (16,), (32,)]


def test_efficientnet_b0_has_the_stages_of_its_paper_and_makes_blocks_for_two():
    rows = cs.stages("timm:efficientnet_b0").rows
    assert [row.depth for row in rows] == [1, 2, 2, 3, 3, 4, 1]
    assert [row.width for row in rows] == [16, 24, 40, 80, 112, 192, 320]
    repeats = [row.repeats for row in rows]
    assert repeats == ["made", *["repeated"] * 5, "made"]
    assert {row.group_widths for row in rows} == {(1,)}


def test_dense_stages_have_the_width_of_all_that_was_joined():
    rows = cs.stages("timm:densenet121").rows
    assert [row.depth for row in rows] == [6, 12, 24, 16]
    assert [row.width for row in rows] == [256, 512, 1024, 1024]


def test_channels_that_come_last_are_told_from_positions():
    rows = cs.stages("torchvision:swin_t").rows
    assert [row.width for row in rows] == [96, 192, 384, 768]
    assert [row.resolution for row in rows] == [(56, 56), (28, 28), (14, 14), (7, 7)]


@pytest.mark.parametrize("name", ["timm:resnet50", "timm:vgg16", "torchvision:mobilenet_v2"])
def test_stages_and_what_stands_outside_sum_to_the_count(name):
    found, counted = cs.stages(name), cs.count(name)
    for metric in ("flops", "params", "acts"):
        parts = [getattr(row.complexity, metric) for row in found.rows]
        assert sum(parts) + getattr(found.outside, metric) == getattr(counted, metric)


def test_a_stage_costs_what_the_formula_says():
    found = cs.stages(Plain(width=32, depth=4), resolution=16)
    (row,) = found.rows
    assert (row.depth, row.width, row.stride) == (4, 32, 1)
    body = plain_flops(32, 4, 16) - plain_flops(32, 0, 16)
    assert row.complexity.flops == body
    assert found.outside.flops == plain_flops(32, 0, 16)


def test_a_network_of_ones_own_has_its_stages_too():
    rows = cs.stages(Contraption(), resolution=64).rows
    assert [(row.name, row.depth, row.width) for row in rows] == [("hall", 3, 48), ("attic", 2, 96)]


def test_a_scaled_network_shows_its_new_stages():
    assert [row.depth for row in cs.stages("resnet50@d:2").rows] == [6, 8, 12, 6]


def test_a_stage_that_cannot_be_deepened_says_so():
    class Doubling(nn.Module):
        """It puts its input beside what it makes of it: none can keep the shape."""

        def __init__(self, ins):
            super().__init__()
            self.mix = nn.Conv2d(ins, ins, 3, 1, 1)

        def forward(self, x):
            return torch.cat([x, self.mix(x)], 1)

    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = Doubling(4), Doubling(8)

        def forward(self, x):
            return self.second(self.first(x)).mean((2, 3))

    rows = cs.stages(Fixed(), resolution=32).rows
    assert rows
    assert all(row.repeats == "kept" for row in rows)


def test_a_network_without_stages_says_so_in_a_note():
    found = cs.stages(nn.Conv2d(3, 8, 3), resolution=16)
    assert found.rows == ()
    assert found.notes == ("module:Conv2d has no stage of blocks that can be repeated.",)
    assert found.outside == found.total


def test_a_module_needs_a_resolution():
    message = (
        "Nothing tells the input resolution of module:Plain. Give one: --resolution 224, "
        "or resolution=224 in Python."
    )
    with pytest.raises(cs.InputError, match=f"^{re.escape(message)}$"):
        cs.stages(Plain())


def test_the_command_prints_one_document(capsys):
    assert run(["stages", "resnet18", "--resolution", "128", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema_version"] == 1
    assert (document["network"], document["resolution"]) == ("timm:resnet18", 128)
    assert [stage["resolution"] for stage in document["stages"]] == [
        [32] * 2,
        [16] * 2,
        [8] * 2,
        [4] * 2,
    ]
    shares = [stage["share"]["flops"] for stage in document["stages"]]
    assert abs(sum(shares) + document["outside"]["share"]["flops"] - 1) < 1e-9


def test_the_table_names_every_stage_and_the_total():
    lines = plain_lines(stage_table(cs.stages("resnet50")))
    assert lines[2] == "layer1 Bottleneck 3 its block 256 56 1 16.3% 0.8% 39.7%"
    assert lines[-1] == "total 4.09G 25.6M 11.1M"


class DenseLayer(nn.Module):
    def __init__(self, before, growth):
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(before), nn.Conv2d(before, growth, 3, padding=1)

    def forward(self, maps):
        return self.conv(self.norm(torch.cat(maps, 1)).relu())


class DenseBlock(nn.Module):
    """Layers that read a list of all maps before them."""

    def __init__(self, before, growth, depth):
        super().__init__()
        self.layers = nn.ModuleList(DenseLayer(before + n * growth, growth) for n in range(depth))

    def forward(self, x):
        maps = [x]
        for layer in self.layers:
            maps.append(layer(maps))
        return torch.cat(maps, 1)


class DenseLists(nn.Module):
    """Dense blocks in one list, what stands between them in another."""

    def __init__(self, depths=(3, 4, 3), growth=16):
        super().__init__()
        width = 2 * growth
        self.stem, self.blocks, self.between = nn.Conv2d(3, width, 3), nn.ModuleList(), []
        for depth in depths:
            self.blocks.append(DenseBlock(width, growth, depth))
            width = (width + depth * growth) // 2
            self.between.append(nn.Sequential(nn.Conv2d(2 * width, width, 1), nn.AvgPool2d(2)))
        self.between = nn.ModuleList(self.between)
        self.exit = nn.Linear(width, 10)

    def forward(self, x):
        x = self.stem(x)
        for block, after in zip(self.blocks, self.between, strict=True):
            x = after(block(x))
        return self.exit(x.mean((2, 3)))


def test_dense_blocks_in_a_list_are_deepened_layer_by_layer():
    base = DenseLists()
    found = cs.scale(base, strategy="d", factor=2, resolution=32)
    depths = [len(block.layers) for block in found.module.blocks]
    assert depths == [6, 8, 6]
    for block in found.module.blocks:
        read = [layer.conv.in_channels for layer in block.layers]
        assert read == [read[0] + 16 * n for n in range(len(read))]
    assert found.achieved.flops == checks.torch_flops(found.module, 32)
