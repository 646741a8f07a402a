"""What a user keeps, freezes, or scales stage by stage."""

from __future__ import annotations

import json
import re

import pytest
import timm
import torch
from torch import nn

import convscale as cs
from convscale.cli.main import run
from convscale.network import resolve_base
from convscale.scaling import Scaler
from tests import checks
from tests.networks import Straight


class Staged(nn.Module):
    """Two plain stages whose widths are 16 and 32, behind a stem of 16 and before a head of 64."""

    def __init__(self, widths=(16, 32), depths=(2, 2)):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        before, stages = 16, []
        for width, depth in zip(widths, depths, strict=True):
            blocks = [nn.Sequential(nn.Conv2d(before, width, 3, padding=1), nn.ReLU())]
            for _ in range(depth - 1):
                blocks.append(nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU()))
            stages.append(nn.Sequential(*blocks))
            before = width
        self.stages = nn.Sequential(*stages)
        self.head = nn.Conv2d(before, 64, 1)
        self.classifier = nn.Linear(64, 10)

    def forward(self, x):
        return self.classifier(self.head(self.stages(self.stem(x))).mean((2, 3)))


def shapes(module):
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


@pytest.mark.parametrize("factors", [(1, 1, 3, 1), (2, 1, 1, 2), (1, 1, 0.5, 1)])
def test_stage_depths_build_the_network_that_timm_builds_with_them(factors):
    scaled = cs.scale("timm:resnet50", strategy="d", stage_depth=factors, weights=False)
    depths = [round(depth * f) for depth, f in zip((3, 4, 6, 3), factors, strict=True)]
    made = timm.models.resnet.ResNet(timm.models.resnet.Bottleneck, depths)
    assert shapes(scaled.module) == shapes(made)


def test_stage_factors_multiply_those_of_the_strategy():
    scaled = cs.scale(
        Staged(), strategy="dw", factor=16.0, stage_width=(1, 2), stage_depth=(0.5, 1),
        resolution=16,
    )  # fmt: skip
    assert scaled.factors.depth == 4
    assert scaled.factors.width == 2
    by_hand = shapes(Staged(widths=(32, 128), depths=(4, 8)))
    changed = {"stem.weight": (32, 3, 3, 3), "stem.bias": (32,)}
    changed |= {"head.weight": (128, 128, 1, 1), "head.bias": (128,)}
    changed |= {"classifier.weight": (10, 128), "stages.0.0.0.weight": (32, 32, 3, 3)}
    assert shapes(scaled.module) == by_hand | changed


def test_stages_that_are_added_need_one_factor():
    class Added(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 16, 1)
            blocks = [nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()) for _ in range(5)]
            self.near, self.far = nn.Sequential(*blocks[:2]), nn.Sequential(*blocks[2:])
            self.classifier = nn.Linear(16, 10)

        def forward(self, x):
            x = self.near(self.stem(x))
            return self.classifier((x + self.far(nn.functional.relu(x))).mean((2, 3)))

    message = (
        "The stages at near and far share a width (their outputs are added), so 1 and 2 "
        "cannot both hold. Give them one factor in --stage-width."
    )
    with pytest.raises(cs.UnscalableNetworkError, match=f"^{re.escape(message)}$"):
        cs.scale(Added(), strategy="w", factor=4.0, stage_width=(1, 2), resolution=16)


@pytest.mark.parametrize("strategy", ["w", "dWr"])
def test_a_stem_and_a_head_that_are_kept_keep_their_widths(strategy):
    scaler = Scaler(resolve_base("timm:efficientnet_b0"))
    widths = {}
    for keep in ((), ("stem",), ("head",), ("stem", "head")):
        module = scaler.scale(strategy, factor=4.0, keep=keep, weights=False).module
        widths[keep] = (module.conv_stem.out_channels, module.conv_head.out_channels)
    stem, head = widths[()]
    assert stem > 48
    assert head > 1920
    assert widths == {
        (): (stem, head), ("stem",): (32, head), ("head",): (stem, 1280),
        ("stem", "head"): (32, 1280),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "pattern", "prefixes", "other"),
    [
        ("timm:resnet50", "layer1", ("layer1.",), "layer3.0.conv1"),
        ("timm:regnety_008", "s2.*", ("s2.",), "s4.b1.conv2.conv"),
        ("timm:convnext_atto", "stages.1", ("stages.1.",), "stages.3.blocks.0.mlp.fc1"),
        (
            "torchvision:mobilenet_v3_small",
            "features.[0-3]",
            tuple(f"features.{i}." for i in range(4)),
            "features.9.block.0.0",
        ),
    ],
)
def test_frozen_modules_keep_their_tensors_and_others_grow(name, pattern, prefixes, other):
    scaled = cs.scale(name, strategy="dWr", factor=3.0, freeze=[pattern])
    base = resolve_base(name).build("cpu")
    before, after = shapes(base), shapes(scaled.module)
    frozen = {name: shape for name, shape in before.items() if name.startswith(prefixes)}
    assert len(frozen) > 4
    assert frozen == {name: shape for name, shape in after.items() if name.startswith(prefixes)}
    assert scaled.module.get_submodule(other).weight.numel() > 1.5 * (
        base.get_submodule(other).weight.numel()
    )
    assert any(
        note.startswith(f"Widths kept as asked: those of {pattern}") for note in scaled.notes
    )
    checks.check_runs_forward_and_backward(scaled.module, 64)


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("timm:vovnet39a", ("stem.",)),
        ("timm:hgnet_tiny", ("stem.",)),
        ("timm:fastvit_t8", ("stem.",)),
        ("timm:vgg16", ("features.0.",)),
        ("torchvision:alexnet", ("features.0.",)),
    ],
)
def test_a_stem_whose_layers_look_like_a_stage_is_kept_too(name, stem):
    scaled = cs.scale(name, strategy="w", factor=4.0, keep=("stem",), weights=False)
    before, after = shapes(resolve_base(name).build("meta")), shapes(scaled.module)
    kept = [key for key in before if key.startswith(stem)]
    assert kept
    assert all(after[key] == before[key] for key in kept)
    grown = [key for key in before if len(before[key]) == 4 and after[key][0] > before[key][0]]
    assert len(grown) >= 4
    assert "Widths kept as asked: those of stem" in scaled.notes[0]


@pytest.mark.parametrize(
    ("name", "pattern", "frozen"),
    [
        ("timm:resnet50", "*.downsample", ".downsample."),
        ("timm:resnet50", "*.conv2", ".conv2."),
        ("timm:efficientnet_b0", "*.se", ".se."),
    ],
)
def test_blocks_are_added_around_modules_that_are_frozen_in_them(name, pattern, frozen):
    scaled = cs.scale(name, strategy="dw", factor=4.0, freeze=[pattern])
    before, after = shapes(resolve_base(name).build("cpu")), shapes(scaled.module)
    kept = [key for key in before if frozen in key]
    assert len(kept) > 4
    assert all(after[key] == before[key] for key in kept)
    assert len(after) > len(before)
    checks.check_runs_forward_and_backward(scaled.module, 64)


def test_a_text_alone_is_one_name():
    options = {"strategy": "w", "factor": 4.0, "weights": False}
    for one in ({"keep": "stem"}, {"freeze": "layer1"}):
        many = {name: [value] for name, value in one.items()}
        alone, listed = (cs.scale("timm:resnet18", **options, **kept) for kept in (one, many))
        assert alone.achieved == listed.achieved
        assert alone.notes == listed.notes


def test_widths_that_are_smaller_than_two_multiples_are_named():
    scaled = cs.scale("timm:resnet50", strategy="w", factor=2.0, width_multiple=64, weights=False)
    assert scaled.module.conv1.out_channels % 64
    assert all(
        layer.out_channels % 64 == 0
        for layer in scaled.module.modules()
        if isinstance(layer, nn.Conv2d) and layer.out_channels >= 128
    )
    assert scaled.notes[0] == (
        "Widths of which the multiple 64 is more than half come on smaller steps, lest they miss "
        "what is asked for: 64."
    )


def test_no_block_goes_that_holds_a_frozen_module():
    scaled = cs.scale("timm:resnet18", strategy="d", factor=0.5, freeze=["layer2.1.conv2"])
    assert {"layer2.1.conv2.weight", "layer2.0.conv2.weight"} <= shapes(scaled.module).keys()
    assert "layer1.1.conv2.weight" not in shapes(scaled.module)
    assert "Depth not reduced, as blocks hold frozen modules: layer2." in scaled.notes


def test_a_budget_is_met_around_what_is_kept():
    scaled = cs.scale(
        "timm:resnet50", strategy="dWr", flops=12e9, keep=("stem",), freeze=("layer1",),
        stage_depth=(1, 1, 2, 1), weights=False,
    )  # fmt: skip
    assert scaled.achieved.flops == pytest.approx(12e9, rel=0.01)
    assert scaled.achieved.flops == checks.torch_flops(scaled.module, scaled.resolution)


def test_one_scaler_answers_with_and_without_control():
    scaler = Scaler(resolve_base("timm:resnet18"))
    plain = scaler.scale("w", factor=4.0, weights=False).achieved
    held = scaler.scale("w", factor=4.0, freeze=("layer4",), weights=False).achieved
    assert held.params < 0.6 * plain.params
    assert scaler.scale("w", factor=4.0, weights=False).achieved == plain


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"stage_depth": (1, 2)},
            cs.InputError,
            "--stage-depth came with 2 numbers, but the stages of the network are 4: layer1 (2), "
            "layer2 (2), layer3 (2), layer4 (2). Write a number for each.",
        ),
        (
            {"stage_width": (1, 2, float("nan"), 1)},
            cs.InputError,
            "The width factor of a stage is nan; it must be positive and finite.",
        ),
        (
            {"keep": ("neck",)},
            cs.InputError,
            "Cannot keep 'neck'. What can be kept are the axes d, w and r, the stem and the head; "
            "for other modules write --freeze PATTERN.",
        ),
        (
            {"freeze": ("layer9",)},
            cs.InputError,
            "No module matches 'layer9' of the modules to freeze. Did you mean layer4 or layer3 "
            "or layer2? Write a module's path or a pattern of it; for all that begin so, write "
            "layer9*.",
        ),
        (
            {"freeze": ("*",)},
            cs.UnscalableNetworkError,
            "Strategy 'dw' scales depth, but the stages that could be deepened are frozen, or hold "
            "frozen blocks. Leave it out: --keep d, or use a strategy without d, such as w.",
        ),
    ],
)
def test_a_control_that_cannot_hold_is_refused_in_a_line(options, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        cs.scale("timm:resnet18", strategy="dw", factor=2.0, weights=False, **options)


def test_a_network_without_stages_has_no_stem_to_keep():
    message = (
        "The network has no stage of blocks, so that nothing tells its stem. Name the modules "
        "that stay: --freeze PATTERN."
    )
    with pytest.raises(cs.UnscalableNetworkError, match=f"^{re.escape(message)}$"):
        cs.scale(Straight(), strategy="w", factor=2.0, keep=("stem",), resolution=32)


def test_the_command_line_takes_factors_of_stages_without_a_target(capsys):
    arguments = ["scale", "timm:resnet18", "--strategy", "d", "--stage-depth", "1,1,3,1", "--json"]
    assert run(arguments) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["requested"] == {"factor": 1.0}
    # two blocks in stage 3 become six: four of 2 · 9 · 256² parameters and 4 · 256 of norms
    added = 4 * (2 * 9 * 256**2 + 4 * 256)
    assert document["achieved"]["params"] == document["base"]["params"] + added


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            "--stage-depth=1,b,1,1",
            "Cannot read 'b' as an entry of the depth factors of stages. Write 1,1,3,1.",
        ),
        (
            "--stage-width=1,x,1,1",
            "Cannot read 'x' as an entry of the width factors of stages. Write 1,1,2,2.",
        ),
    ],
)
def test_a_list_of_factors_that_cannot_be_read_is_told_what_a_list_looks_like(
    capsys, option, message
):
    assert run(["scale", "timm:resnet18", "--strategy", "dWr", option]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("axis", "factors"),
    [("w", {"stage_width": (1, 1, 2, 1)}), ("d", {"stage_depth": (1, 1, 2, 1)})],
)
def test_an_axis_is_not_kept_and_given_factors_at_once(axis, factors):
    with pytest.raises(cs.InputError, match=f"^The axis {axis} cannot be kept where stages have"):
        cs.scale("timm:resnet18", strategy="dWr", factor=2, keep=(axis,), **factors)


def test_a_stage_gets_its_width_whose_channels_are_shuffled():
    name = "torchvision:shufflenet_v2_x1_0"
    module = cs.scale(name, strategy="w", factor=1.0, stage_width=(1, 1, 2)).module
    block = module.stage4[1].branch2
    assert [block[at].out_channels for at in (0, 3, 5)] == [464, 464, 464]
    assert module.stage3[1].branch2[0].out_channels == 116
    assert module(torch.randn(2, 3, 64, 64)).shape == (2, 1000)


def test_other_blocks_amid_those_of_a_stage_get_its_width_too():
    name, width = "timm:edgenext_small", (1, 1, 1, 1.5)
    module = cs.scale(name, strategy="w", factor=1.0, stage_width=width).module
    attention = module.stages[3].blocks[2].xca
    assert attention.qkv.weight.shape == (3 * 456, 456)
    assert module.stages[2].blocks[8].xca.qkv.weight.shape == (3 * 160, 160)
