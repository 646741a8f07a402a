"""The paper families against networks scaled by the authors' rule, in every integer."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import convscale as cs
from convscale import families
from convscale.cli.main import run
from convscale.errors import InputError
from convscale.families import rounding
from convscale.strategy import parse_strategy

GOLDEN = Path(__file__).parent.parent.parent / "shared" / "golden" / "anynet_effnet_scaled.json"
CASES = json.loads(GOLDEN.read_text()) if GOLDEN.is_file() else []
needs_golden = pytest.mark.skipif(not CASES, reason=f"{GOLDEN.name} is not beside the project")


def scaled_as(case):
    net = families.named(case["base"])
    if case["type"] == "none":
        return net
    return families.scaled(net, case["type"], case["s"])


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
        assert families.scaled(net, notation, 4).group_widths == (group,) * 4, notation
    followed = families.scaled(net, "w", 4, group_width="follow")
    assert followed.group_widths == (32,) * 4
    limited = families.scaled(net, "w", 4, rounding="efficientnet")
    assert limited.group_widths == (32,) * 4


@pytest.mark.parametrize("group_width", [None, "named", "follow"])
def test_a_budget_is_solved_for_with_the_group_widths_of_the_networks_that_are_scaled(group_width):
    net = families.named("RegNetX-400MF")
    for s in (2.0, 5.0):
        wanted = families.scaled(net, "w", s, group_width=group_width)
        budget = families.count(wanted).flops
        found = families.solved(net, "w", "flops", budget, group_width=group_width)
        assert families.scaled(net, "w", found, group_width=group_width) == wanted
    assert (
        found
        == cs.scale(
            net,
            strategy="w",
            flops=budget,
            rounding="reference",
            group_width=group_width,
            weights=False,
        ).factor
    )


@pytest.mark.parametrize(
    ("base", "strategy", "own"),
    [
        ("ResNet-50", "resnet-rs@101-160", "stage_depth 1, 1, 3.83, 1"),
        ("MobileNetV2", "mobilenetv2@0.5", "head_at_least 1280"),
        ("EfficientNet-B0", "tinynet@e", "keep stem; head_at_least 1280"),
        ("EfficientNet-B0", "efficientnetv2@b1", "max_resolution 512"),
    ],
)
@pytest.mark.parametrize("rounding", ["reference", "efficientnet"])
def test_a_strategy_with_rules_of_its_own_is_refused(base, strategy, own, rounding):
    told = (
        f"Strategy {strategy!r} has rules of its own ({own}), which rounding {rounding!r} does "
        "not follow. Write --rounding nearest."
    )
    with pytest.raises(InputError, match=f"^{re.escape(told)}$"):
        cs.scale(base, strategy=strategy, rounding=rounding, weights=False)
    with pytest.raises(InputError, match=f"^{re.escape(told)}$"):
        families.scaled(families.named(base), strategy, rounding=rounding)


def test_rules_of_a_strategy_file_are_not_dropped_by_the_reference_rule(tmp_path, capsys):
    file = tmp_path / "capped.yaml"
    file.write_text("name: capped\nweights: {d: 1, w: 1, r: 1}\nmax_resolution: 240\n")
    command = f"scale RegNetX-200MF --strategy {file} --factor 8 --rounding reference"
    assert run(command.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "has rules of its own (max_resolution 240), which rounding 'reference' does" in err


@pytest.mark.parametrize(("entry", "twin"), [("b1", "EfficientNet-B1"), ("b3", "EfficientNet-B3")])
def test_the_table_of_efficientnet_gives_its_networks_by_the_closed_form_too(entry, twin):
    wanted = families.named(twin)
    found = cs.scale(
        "EfficientNet-B0",
        strategy=f"efficientnet-table@{entry}",
        rounding="efficientnet",
        weights=False,
    )
    assert found.resolution == wanted.resolution
    assert found.achieved.as_dict() == families.count(wanted).as_dict()


def test_what_the_reference_rule_does_not_take_is_refused():
    net = families.named("RegNetX-200MF")
    with pytest.raises(
        InputError, match=r"^Rounding 'reference' rounds widths to multiples of 8, n"
    ):
        cs.scale(net, strategy="w", factor=2, rounding="reference", width_multiple=16)
    with pytest.raises(InputError, match=r"^Strategy 'w' needs a factor\. Write it behind the st"):
        families.scaled(net, "w")
    with pytest.raises(
        InputError, match=r"factors of its own .*: leave out the factor or budget\.$"
    ):
        families.scaled(net, "mobilenet@0.5", 2)
    with pytest.raises(InputError, match=r"^Factors\(.*\) is no strategy\. Write one, as 'dWr', a"):
        families.scaled(net, parse_strategy("w").factors(2), 2)


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
    regnetz = families.scaled(families.named("RegNetZ-500MF"), "w", 4)
    assert (regnetz.stem_width, regnetz.head_width) == (32, 1024)
    assert regnetz.bottleneck_multipliers == (4.0,) * 4
    efficientnet = families.scaled(families.named("EfficientNet-B0"), "w", 4)
    assert (efficientnet.stem_width, efficientnet.head_width) == (64, 2560)
    assert efficientnet.expansion_ratios == (1, 6, 6, 6, 6, 6, 6)


def test_resnet50_under_width_alone_comes_back_unchanged_by_the_reference_rule():
    net = families.named("ResNet-50")
    assert families.scaled(net, "w", 2) == net


def test_both_resolutions_of_any_network_become_multiples_of_four():
    net = families.named("EfficientNet-B5")
    scaled = families.scaled(net, "r", 0.3)
    # 456 · 0.3^(1/2) = 249.8 and 521 · 0.3^(1/2) = 285.4
    assert (scaled.resolution, scaled.test_resolution) == (248, 284)
