"""Two networks stage by stage."""

from __future__ import annotations

import json
import re

import pytest
from torch import nn

import convscale as cs
from convscale.cli.main import run
from convscale.report.layout import plain_lines
from convscale.report.staged import difference_table
from tests.networks import Contraption


def test_resnet101_differs_from_resnet50_in_one_stage_by_seventeen_blocks():
    found = cs.diff("timm:resnet50", "timm:resnet101")
    assert [pair.ratio["depth"] for pair in found.pairs] == [1, 1, 23 / 6, 1]
    assert [pair.ratio["width"] for pair in found.pairs] == [1, 1, 1, 1]
    assert found.only_first == ()
    assert found.only_second == tuple(f"layer3.{block}" for block in range(6, 23))


def test_equal_networks_differ_in_nothing():
    found = cs.diff("resnet18", "timm:resnet18")
    for pair in found.pairs:
        assert set(pair.ratio.values()) - {None} == {1.0}
    assert set(found.ratio.values()) == {1.0}
    assert found.only_first == found.only_second == ()


def test_a_scaled_network_differs_by_its_factors():
    found = cs.diff("resnext50_32x4d", "resnext50_32x4d@w:4")
    for pair in found.pairs:
        assert (pair.ratio["width"], pair.ratio["group_width"]) == (2.0, 2.0)
        assert pair.ratio["flops"] == 4.0
    taller = cs.diff("resnet18", "resnet18@r:4")
    assert [pair.ratio["resolution"] for pair in taller.pairs] == [2.0] * 4


def test_stages_of_unequal_numbers_meet_where_they_reduce_the_input_alike():
    found = cs.diff("resnet50", "efficientnet_b0")
    met = [(p.first.name, p.second.name) for p in found.pairs if p.first and p.second]
    assert met == [(f"layer{i + 1}", f"blocks.{j}") for i, j in enumerate((1, 2, 3, 5))]
    alone = [pair.name for pair in found.pairs if pair.first is None]
    assert alone == ["blocks.0", "blocks.4", "blocks.6"]
    assert all(value is None for p in found.pairs if p.first is None for value in p.ratio.values())


def test_stages_of_other_names_meet_by_place():
    found = cs.diff("resnet50", "regnety_032")
    assert [pair.name for pair in found.pairs] == [f"layer{i} / s{i}" for i in range(1, 5)]
    assert [pair.ratio["depth"] for pair in found.pairs] == [2 / 3, 5 / 4, 13 / 6, 1 / 3]


def test_networks_without_stages_are_compared_in_their_totals():
    found = cs.diff(nn.Conv2d(3, 8, 3), nn.Conv2d(3, 16, 3), resolution=16)
    assert found.pairs == ()
    assert found.ratio == found.outside_ratio == {"flops": 2.0, "params": 2.0, "acts": 2.0}


def test_modules_and_saved_folders_are_networks_too(tmp_path):
    scaled = cs.scale("timm:resnet18", strategy="d", factor=2)
    scaled.save(tmp_path / "deep")
    found = cs.diff("timm:resnet18", str(tmp_path / "deep"))
    assert [pair.ratio["depth"] for pair in found.pairs] == [2.0] * 4
    own = cs.diff(Contraption(), Contraption(num_classes=5), resolution=64)
    assert [pair.ratio["flops"] for pair in own.pairs] == [1.0, 1.0]
    assert own.outside_ratio["params"] < 1


def test_an_unknown_network_is_refused_with_near_names():
    with pytest.raises(cs.UnknownNetworkError, match=re.escape("Did you mean resnet50")):
        cs.diff("resnet18", "resnet5O")


def test_the_command_prints_one_document(capsys):
    assert run(["diff", "resnet18", "resnet34", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["schema_version"], document["network"]) == (1, "timm:resnet18")
    assert document["other"] == "timm:resnet34"
    assert [stage["ratio"]["depth"] for stage in document["stages"]] == [1.5, 2.0, 3.0, 1.5]
    assert document["stages"][2]["second"]["depth"] == 6


def test_the_table_shows_what_changes_and_what_only_one_has():
    lines = plain_lines(difference_table(cs.diff("resnet50", "resnet50@dWr:4")))
    assert lines[0] == "timm:resnet50 at 224 px, and timm:resnet50@dWr:4 at 240 px"
    assert lines[3].startswith("layer2 4 → 5 512 → 888 – 28 → 30 1.03G → ")
    assert lines[-1] == "Only in timm:resnet50@dWr:4: layer2.4, layer3.6."


def test_a_window_of_80_columns_shows_whole_names_and_the_ratios_alone():
    found = cs.diff("resnet50", "resnet50@dWr:4")
    lines = plain_lines(difference_table(found), width=80)
    layer2 = found.pairs[1]
    ratios = layer2.second.complexity.ratio_to(layer2.first.complexity).values()
    assert lines[1] == "stage depth width px flops params acts"
    assert lines[3] == "layer2 4 → 5 512 → 888 28 → 30 " + " ".join(f"{r:.2f}x" for r in ratios)
