"""The paper families against networks scaled by the authors' rule, in every integer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import convscale as cs
from convscale import families
from convscale.cli.main import run
from convscale.families import rounding
from convscale.strategy import parse_strategy

GOLDEN = Path(__file__).parent.parent.parent / "shared" / "golden" / "anynet_effnet_scaled.json"
CASES = json.loads(GOLDEN.read_text()) if GOLDEN.is_file() else []
needs_golden = pytest.mark.skipif(not CASES, reason=f"{GOLDEN.name} is not beside the project")


def scaled_as(case):
    net = families.named(case["base"])
    if case["type"] == "none":
        return net
    factors = parse_strategy(case["type"]).named_only().factors(case["s"])
    return families.scaled(net, factors)


def integers(net):
    """Every integer that a golden case has."""
    form, cost = net.architecture(), families.count(net, convention="pycls")
    return {
        "depths": form["depths"],
        "widths": form["widths"],
        "bot_muls": form["bottleneck_multipliers"],
        "group_ws": form["group_widths"],
        "stem_w": form["stem_width"],
        "head_w": form["head_width"],
        "strides": list(net.strides),
        "im_size": net.resolution,
        "test_im_size": net.test_resolution,
        **cost.as_dict(),
    }


@needs_golden
@pytest.mark.parametrize("base", ["EfficientNet-B0", "RegNetX-400MF", "RegNetY-4.0GF", "ResNet-50"])
def test_every_integer_of_the_golden_networks_is_met(base):
    cases = [case for case in CASES if case["base"] == base]
    assert len(cases) == 33
    for case in cases:
        got = integers(scaled_as(case))
        assert got == {name: case[name] for name in got}, (case["type"], case["s"])


@needs_golden
@pytest.mark.parametrize("base", ["EfficientNet-B0", "RegNetX-400MF", "RegNetY-4.0GF", "ResNet-50"])
def test_scale_builds_the_golden_networks(base):
    case = next(c for c in CASES if (c["base"], c["type"], c["s"]) == (base, "d1_w8_g8_r1", 4))
    found = cs.scale(
        base,
        strategy="d1_w8_g8_r1",
        factor=4,
        rounding="reference",
        convention="pycls",
        weights=False,
    )
    assert found.achieved.as_dict() == {name: case[name] for name in ("flops", "params", "acts")}
    document = found.as_document()
    assert document["architecture"] == {
        "depths": case["depths"],
        "widths": case["widths"],
        "bottleneck_multipliers": case["bot_muls"],
        "group_widths": case["group_ws"],
        "stem_width": case["stem_w"],
        "head_width": case["head_w"],
    }
    assert (document["resolution"], document["test_resolution"]) == (
        case["im_size"],
        case["test_im_size"],
    )


@needs_golden
def test_the_command_prints_a_golden_network_as_json(capsys):
    command = "scale RegNetY-4.0GF --strategy d1_w8_g8_r1 --factor 4 --rounding reference"
    assert run([*command.split(), "--convention", "pycls", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["network"] == "RegNetY-4.0GF"
    assert document["achieved"] == {
        "flops": 15_608_249_240,
        "params": 68_144_472,
        "acts": 26_542_408,
    }
    assert document["base"]["flops"] == 3_973_301_344
    assert document["architecture"]["group_widths"] == [112, 112, 112, 112]


@pytest.mark.parametrize(
    ("rule", "values"),
    [
        (rounding.reference_depth, {0.4: 1, 1.5: 2, 2.5: 2, 3.5: 4}),
        (rounding.reference_width, {3.0: 8, 12.0: 16, 20.0: 16, 100.0: 96, 100.1: 104}),
        (
            rounding.reference_group_width,
            {0.2: 1, 1.4: 1, 1.6: 2, 2.6: 4, 5.4: 4, 5.6: 8, 12.0: 16, 20.0: 16},
        ),
        (rounding.reference_resolution, {226.0: 224, 227.9: 228, 158.4: 160}),
        (rounding.efficientnet_width, {17.6: 16, 26.4: 24, 35.2: 32, 11.3: 16, 52.8: 56}),
        (rounding.efficientnet_depth, {1.0: 1, 1.1: 2, 2.4: 3, 3.0: 3}),
    ],
)
def test_sizes_round_as_published(rule, values):
    assert {value: rule(value) for value in values} == values


@pytest.mark.parametrize(
    ("given", "fitting"),
    [
        ((384, 1.0, 64), (384, 64)),  # fits as it is
        ((40, 1.0, 16), (32, 16)),  # 2.5 groups round to 2, half to even
        ((56, 1.0, 16), (64, 16)),  # 3.5 groups round to 4
        ((24, 1.0, 64), (24, 24)),  # no group is wider than the layer
        ((360, 0.25, 64), (256, 64)),  # inner width 90 is 1.4 groups
        ((24, 4.0, 4), (24, 4)),  # inner width 96, a multiple of lcm(4, 4)
        ((24, 4.0, 10), (25, 10)),  # 96 becomes 100, a multiple of lcm(10, 4) = 20
    ],
)
def test_widths_and_group_widths_are_made_to_fit(given, fitting):
    assert rounding.compatible(*given) == fitting


def test_group_width_is_scaled_only_where_the_strategy_names_it():
    net = families.named("RegNetX-400MF")
    for notation, group in {"w": 16, "wg": 32, "d0_w2_g1_r0": 24}.items():
        factors = parse_strategy(notation).named_only().factors(4.0)
        assert families.scaled(net, factors).group_widths == (group,) * 4, notation
    followed = families.scaled(net, parse_strategy("w").factors(4.0))
    assert followed.group_widths == (32,) * 4


def test_a_group_width_of_one_is_scaled_like_any_other_and_a_note_says_so(tmp_path):
    net = families.AnyNet(
        depths=(1, 1),
        widths=(32, 64),
        strides=(2, 2),
        bottleneck_multipliers=(1.0, 1.0),
        group_widths=(1, 1),
    )
    families.write_yaml(net, tmp_path / "depthwise.yaml")
    name = str(tmp_path / "depthwise.yaml")
    found = cs.scale(name, strategy="wg", factor=4, rounding="reference", weights=False)
    assert found.as_document()["architecture"]["group_widths"] == [2, 2]
    assert "The rule scales a group width of 1 like any other." in found.notes
    kept = cs.scale(name, strategy="w", factor=4, rounding="reference", weights=False)
    assert kept.as_document()["architecture"]["group_widths"] == [1, 1]


def test_stem_and_head_stay_in_an_anynet_and_are_scaled_in_an_efficientnet():
    factors = parse_strategy("w").named_only().factors(4.0)
    regnetz = families.scaled(families.named("RegNetZ-500MF"), factors)
    assert (regnetz.stem_width, regnetz.head_width) == (32, 1024)
    assert regnetz.bottleneck_multipliers == (4.0,) * 4
    efficientnet = families.scaled(families.named("EfficientNet-B0"), factors)
    assert (efficientnet.stem_width, efficientnet.head_width) == (64, 2560)
    assert efficientnet.expansion_ratios == (1, 6, 6, 6, 6, 6, 6)


def test_resnet50_under_width_alone_comes_back_unchanged_by_the_reference_rule():
    net = families.named("ResNet-50")
    factors = parse_strategy("w").named_only().factors(2.0)
    assert families.scaled(net, factors) == net


def test_both_resolutions_of_any_network_become_multiples_of_four():
    net = families.named("EfficientNet-B5")
    scaled = families.scaled(net, parse_strategy("r").factors(0.3))
    # 456 · 0.3^(1/2) = 249.8 and 521 · 0.3^(1/2) = 285.4
    assert (scaled.resolution, scaled.test_resolution) == (248, 284)
