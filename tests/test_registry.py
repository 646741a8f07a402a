"""Published strategies give the networks that their authors published, as timm builds them."""

import json
import re
from functools import cache
from math import ceil

import pytest
import timm
import torch
from torch import nn

import convscale as cs
from convscale.cli.main import run
from convscale.errors import InputError, UnscalableNetworkError
from convscale.network import resolve_base
from convscale.report.parts import cards
from convscale.report.tables import plain_lines, scaled_table
from convscale.scaling import Scaler
from convscale.selection import Choice
from tests.checks import torch_flops

# Base, entry of a table, timm's network of that entry, its resolution (None: timm's own).
PUBLISHED = [
    ("timm:efficientnet_b0", "efficientnet-table@b1", "tf_efficientnet_b1", 240),
    ("timm:efficientnet_b0", "efficientnet-table@b3", "tf_efficientnet_b3", 300),
    ("timm:efficientnet_b0", "efficientnet-table@b7", "tf_efficientnet_b7", 600),
    ("timm:efficientnet_b0", "tinynet@a", "tinynet_a", None),
    ("timm:efficientnet_b0", "tinynet@e", "tinynet_e", None),
    ("timm:convnext_tiny", "convnext@small", "convnext_small", 224),
    ("timm:convnext_tiny", "convnext@base", "convnext_base", 224),
    ("timm:convnext_tiny", "convnext@xlarge", "convnext_xlarge", 224),
    ("timm:mobilenetv2_100", "mobilenetv2@1.4", "mobilenetv2_140", 224),
    ("timm:mobilenetv2_100", "mobilenetv2@0.5", "mobilenetv2_050", 224),
    ("timm:mobilenetv3_large_100", "mobilenetv2@0.75", "mobilenetv3_large_075", 224),
    ("torchvision:mnasnet1_0", "mobilenetv2@0.5", "mnasnet_050", 224),
    ("timm:resnetrs50", "resnet-rs@101-160", "resnetrs101", 160),
    ("timm:resnetrs50", "resnet-rs@270-256", "resnetrs270", 256),
    ("torchvision:resnet50", "resnet-rs@152-192", "resnet152", 269),
    ("EfficientNet-B0", "efficientnet-table@b5", "tf_efficientnet_b5", 456),
]


@cache
def scaler(name):
    return Scaler(resolve_base(name))


@pytest.mark.parametrize(("base", "entry", "name", "side"), PUBLISHED)
def test_an_entry_of_a_table_has_the_flops_and_params_of_the_published_network(
    base, entry, name, side
):
    found = scaler(base).scale(entry, weights=False)
    with torch.device("meta"):
        published = timm.create_model(name)
    side = side or published.default_cfg["input_size"][-1]
    assert found.resolution == side
    assert found.achieved.params == sum(p.numel() for p in published.parameters())
    assert found.achieved.flops == torch_flops(published.eval(), side)


@pytest.mark.parametrize(("entry", "side"), [("b1", 240), ("b2", 260), ("b3", 300)])
def test_efficientnetv2_rounds_widths_to_the_nearest_multiple(entry, side):
    """timm's generator of these networks has `round_limit=0.`; at 0.9 its b3 is another one."""
    base = Scaler(resolve_base("timm:tf_efficientnetv2_b0"), resolution=224)
    found = base.scale(f"efficientnetv2@{entry}", weights=False)
    with torch.device("meta"):
        published = timm.create_model(f"tf_efficientnetv2_{entry}")
    assert found.resolution == side
    assert found.achieved.params == sum(p.numel() for p in published.parameters())
    assert found.achieved.flops == torch_flops(published.eval(), side)


def test_a_file_holds_the_multipliers_that_the_registry_has_not(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("name: mine\nrounding: efficientnet\ntable: {big: {width: 1.25}}\n")
    found = scaler("timm:mobilenetv1_100").scale(f"{mine}@big", weights=False)
    with torch.device("meta"):
        published = timm.create_model("mobilenetv1_125")
    assert found.achieved.params == sum(p.numel() for p in published.parameters())
    assert found.achieved.flops == torch_flops(published.eval(), 224)


def test_a_head_is_kept_wide_only_where_it_is_a_layer_of_its_own():
    """ConvNeXt's classifier takes in the last stage's width, 320 in `atto`: x 1.4, to 8."""
    found = scaler("timm:convnext_atto").scale("mobilenetv2@1.4", weights=False)
    assert found.module.head.fc.in_features == 448
    assert any("the network's is the width of its last stage" in note for note in found.notes)


@pytest.mark.parametrize("entry", ["convnext@small", "resnet-rs@101-160"])
def test_depths_of_stages_are_refused_where_there_are_other_stages(entry):
    with pytest.raises(
        UnscalableNetworkError,
        match=r"has depths for 4 stages, but the stages of timm:efficientnet_b0 are 7: .* Use a ne",
    ):
        scaler("timm:efficientnet_b0").scale(entry, weights=False)


def test_a_base_at_another_side_than_the_tables_is_told():
    note = "The sides of resnet-rs@101-192 are those of a base at 160 px; this one is at 224 px."
    found = scaler("timm:resnet18").scale("resnet-rs@101-192", weights=False)
    assert note in found.notes
    own = Scaler(resolve_base("timm:resnet18"), resolution=160)
    found = own.scale("resnet-rs@101-192", weights=False)
    assert found.resolution == 192
    assert not any("sides of" in note for note in found.notes)


def test_the_depth_of_each_stage_is_told():
    found = scaler("timm:convnext_tiny").scale("convnext@small", weights=False)
    assert found.notes[0] == "The factors of depth in the stages are 1, 1, 3, 1."


class Inner(nn.Module):
    """A 1x1 convolution to half the width, and a 3x3 back."""

    def __init__(self, width):
        super().__init__()
        self.one = nn.Conv2d(width, width // 2, 1, bias=False)
        self.two = nn.Conv2d(width // 2, width, 3, padding=1, bias=False)

    def forward(self, x):
        return x + self.two(self.one(x)).relu()


class Yolo(nn.Module):
    """Stages of 3, 9 and 1 blocks behind convolutions of stride 2, by YOLOv5's multiples."""

    def __init__(self, depth=1.0, width=1.0):
        super().__init__()
        stem, *wide = (ceil(channels * width / 8) * 8 for channels in (64, 72, 128, 248))
        self.stem = nn.Conv2d(3, stem, 3, padding=1, bias=False)
        self.down, self.stages = nn.ModuleList(), nn.ModuleList()
        for blocks, outs in zip((3, 9, 1), wide, strict=True):
            number = max(round(blocks * depth), 1) if blocks > 1 else blocks
            self.down.append(nn.Conv2d(stem, outs, 3, 2, 1, bias=False))
            self.stages.append(nn.Sequential(*(Inner(outs) for _ in range(number))))
            stem = outs
        self.head = nn.Linear(stem, 10)

    def forward(self, x):
        x = self.stem(x)
        for down, stage in zip(self.down, self.stages, strict=True):
            x = stage(down(x))
        return self.head(x.mean((2, 3)))


# Multiples of depth and width: the public model files of YOLOv5.
YOLO = {"n": (0.33, 0.25), "s": (0.33, 0.5), "m": (0.67, 0.75), "x": (1.33, 1.25)}


@pytest.mark.parametrize("size", YOLO)
def test_multiples_give_the_network_that_was_written_at_the_other_size(size):
    found = cs.scale(Yolo(), strategy=f"yolov5@{size}", resolution=32, weights=False)
    other = Yolo(*YOLO[size])
    assert found.achieved.params == sum(p.numel() for p in other.parameters())
    assert found.achieved.flops == torch_flops(other.eval(), 32)


def test_an_entry_of_a_table_takes_no_factor():
    with pytest.raises(InputError, match="has factors of its own .*: leave out the factor or budg"):
        cs.scale("efficientnet_b0", strategy="efficientnet-table@b1", factor=2)


def test_a_formula_takes_any_factor():
    """EfficientNet's α, β, γ (arXiv 1905.11946) at two steps: s = (1.2·1.1²·1.15²)²."""
    step = 1.2 * 1.1**2 * 1.15**2
    found = scaler("timm:efficientnet_b0").scale("efficientnet", factor=step**2, weights=False)
    factors = found.factors
    assert factors.depth == pytest.approx(1.2**2)
    assert factors.width == pytest.approx(1.1**2)
    assert factors.resolution == pytest.approx(1.15**2)


@pytest.mark.parametrize(
    ("base", "entry"),
    [
        ("timm:mobilenetv2_100", "mobilenetv2@1.4"),
        ("timm:resnet10t", "resnet-rs@101-160"),
    ],
)
def test_a_scaled_entry_comes_back_from_its_folder_with_its_rules(base, entry, tmp_path):
    made = cs.scale(base, strategy=entry, resolution=64)
    again = cs.load(made.save(tmp_path / "made"))
    assert again.achieved == made.achieved
    assert again.strategy.name == entry
    assert again.strategy.rules == made.strategy.rules
    assert again.strategy.stage_depth == made.strategy.stage_depth


def test_strategies_are_listed_with_exponents(capsys):
    """A law's of any s; an entry's of its own s, of which they make its factors."""
    assert run(["strategies", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    laws = [row for row in (*listed["strategies"], *listed["published"]) if row["exponents"]]
    assert {"d", "dWr", "efficientnet"} <= {row["strategy"] for row in laws}
    entries = [entry for row in listed["published"] for entry in row["entries"]]
    own = [entry for entry in entries if entry["factor"] != pytest.approx(1)]
    for row in (*laws, *own):
        e = row["exponents"]
        assert e["depth"] + 2 * e["width"] + 2 * e["resolution"] == pytest.approx(1)
    for entry in own:
        made = {axis: entry["factor"] ** power for axis, power in entry["exponents"].items()}
        assert made == pytest.approx(entry["factors"])
    assert all(entry["exponents"] is None for entry in entries if entry not in own)


def test_an_entry_is_asked_for_by_its_name():
    found = scaler("timm:efficientnet_b0").scale("efficientnet-table@b1", weights=False)
    lines = plain_lines(scaled_table(found))
    assert lines[0] == "timm:efficientnet_b0 scaled by efficientnet-table@b1"
    said = next(line for line in lines if line.startswith("Requested"))
    assert said.startswith("Requested efficientnet-table@b1. Factors before rounding: depth 1.100")
    # The contract's document has the factor: 1.1 · 1² · (240 / 224)².
    assert found.as_document()["requested"] == {"factor": pytest.approx(1.1 * (240 / 224) ** 2)}


@pytest.mark.parametrize("rounding", [None, "reference"])
def test_a_note_names_the_entry_that_rounding_misses(rounding):
    found = cs.scale(
        "ResNet-18", strategy="mobilenet@0.25", rounding=rounding, resolution=64, weights=False
    )
    told = [note for note in found.notes if "mobilenet@0.25" in note]
    assert len(told) == 1
    assert "0.0625" in told[0]  # 0.25²
    assert "factor of 0.0625" not in told[0]


def test_the_command_that_the_page_gives_for_an_entry_has_no_factor():
    found = cs.compare(["resnet18"], strategies=["mobilenet@0.5", "w"], factors=[2], resolution=64)
    for row in found.rows[1:]:
        choice = Choice("timm:resnet18", row, budget_ms=1.0, reason="")
        page = re.sub("<[^>]*>", "", cards([choice], found))
        assert ("--factor" in page) == (row.strategy == "w")
        assert f"convscale scale timm:resnet18 --strategy {row.strategy} --" in page
