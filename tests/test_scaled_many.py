"""Many candidates of a family: read from arrays, scaled by arrays of exponents, counted."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from convscale import families
from convscale.errors import InputError
from convscale.families.candidates import read_candidates
from convscale.families.many import count_many
from convscale.families.scaled_many import scale_by_factors, scale_many
from convscale.families.scaling import by_factors
from convscale.strategy import Strategy
from tests.test_paper_modules import random_anynet, random_efficientnet

BASES = (
    "RegNetX-400MF",
    "RegNetY-4.0GF",
    "RegNetZ-500MF",
    "ResNet-18",
    "ResNet-50",
    "ResNeXt-50-32x4d",
    "EfficientNet-B0",
    "MobileNetV2",
)
PARTS = ("depths", "widths", "stem_width", "head_width", "resolution")


def shares(draw, count):
    """Random points of the simplex of exponents, and its corners."""
    found = [np.eye(3)[i % 3].tolist() for i in range(3)]
    for _ in range(count - 3):
        low, high = sorted((draw.random(), draw.random()))
        found.append([low, high - low, 1 - high])
    return found


@pytest.mark.parametrize("rounding", ["reference", "efficientnet"])
@pytest.mark.parametrize("name", BASES)
def test_many_scalings_are_those_one_by_one(name, rounding):
    draw, net = random.Random(name), families.named(name)
    rows = shares(draw, 40)
    factors = [draw.choice([0.25, 0.5, 1, 2, 4, 8, draw.uniform(0.2, 16)]) for _ in rows]
    many = scale_many(net, rows, factor=factors, rounding=rounding)
    for row, ((d, w, r), s) in enumerate(zip(rows, factors, strict=True)):
        strategy = Strategy("mine", d, w, r)
        expected = families.scaled(net, strategy, s, rounding=rounding, group_width="follow")
        found = many.candidates.description(row)
        assert many.description(row) == expected
        assert all(getattr(found, part) == getattr(expected, part) for part in PARTS)
        assert found.architecture() == expected.architecture()


def test_many_scalings_count_as_one_by_one():
    draw = random.Random(5)
    for index in range(12):
        net = random_anynet(draw) if index % 2 else random_efficientnet(draw)
        many = scale_many(net, shares(draw, 8), factor=[draw.uniform(0.3, 9) for _ in range(8)])
        for convention in ("default", "pycls"):
            costs = count_many(many.candidates, convention=convention)
            for row in range(8):
                one = families.count(many.description(row), convention=convention)
                found = (costs.flops[row], costs.params[row], costs.acts[row])
                assert found == (one.flops, one.params, one.acts)


def test_a_share_of_its_own_scales_group_width():
    net = families.named("RegNetY-4.0GF")
    many = scale_many(net, [(0.1, 0.8, 0.1, 0.0), (0.1, 0.8, 0.1, 0.8)], factor=4)
    groups = [many.description(row).group_widths for row in range(2)]
    assert groups == [families.scaled(net, rule, 4).group_widths for rule in ("dWr", "d1_w8_g8_r1")]


def test_factors_that_are_given_are_those_of_a_step():
    net = families.named("EfficientNet-B0")
    many = scale_by_factors(net, [1.2, 1.44], [1.1, 1.21], 1.0, [1.15, 1.3], rounding="reference")
    for row in range(2):
        assert many.description(row) == by_factors(net, many.factors(row))


def test_efficientnets_count_as_one_by_one_with_stems_and_heads_and_stages_of_their_own():
    net = families.named("EfficientNet-B0")
    short = {"depths": (1, 3, 2), "widths": (8, 24, 48)}
    many = read_candidates(
        net,
        depths=[net.depths, (*short["depths"], 0, 0, 0, 0)],
        widths=[net.widths, (*short["widths"], 8, 8, 8, 8)],
        stem_widths=[32, 24],
        head_widths=[1280, 640],
        resolution=np.array([[224, 224], [96, 160]]),
    )
    stages = {name: getattr(net, name)[:3] for name in ("strides", "expansion_ratios", "kernels")}
    second = replace(net, **short, **stages, stem_width=24, head_width=640, resolution=(96, 160))
    assert many.description(1) == second
    costs, expected = count_many(many), [families.count(one) for one in (net, second)]
    assert costs.flops.tolist() == [one.flops for one in expected]
    assert costs.params.tolist() == [one.params for one in expected]
    assert costs.acts.tolist() == [one.acts for one in expected]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"shares": [(0.5, 0.6, 0.1)]},
            r"The shares of candidate 0 are \(0.5, 0.6, 0.1\); those of depth, width and "
            "resolution must be at least 0 and sum to 1.",
        ),
        ({"shares": [(1, 0)]}, r"The shares have the shape \(1, 2\) and the factors \(1,\); .*"),
        ({"shares": [(np.nan, 1, 0)]}, "The shares of candidate 0 are .*"),
        ({"factor": [1, -2]}, "Factors of candidates must be positive and finite."),
        ({"factor": np.nan}, "Factors of candidates must be positive and finite."),
        ({"shares": [(1, 0, 0)] * 2, "factor": [1, 2, 3]}, "2 rows of shares came, and 3 factors."),
        ({"factor": 1e9}, "The factors ask for .* Write a smaller factor or budget."),
        ({"rounding": "up"}, "Unknown rounding 'up'. Use reference, efficientnet."),
    ],
)
def test_scalings_that_are_none_are_refused(given, message):
    asked = {"shares": [(1, 0, 0)], "factor": 2, **given}
    with pytest.raises(InputError, match=f"^{message}$"):
        scale_many(families.named("ResNet-50"), asked.pop("shares"), **asked)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("EfficientNet-B0", {"group_widths": 8}, "EfficientNets have no group widths. .*"),
        ("EfficientNet-B0", {"bottleneck_multipliers": 0.5}, "Expansion ratios .* at least 1."),
        (
            "EfficientNet-B0",
            {"depths": [[1, 1]], "widths": 8, "strides": (1, 1)},
            "The candidates have 2 stages, but like has 7 kernels.",
        ),
        ("ResNet-50", {}, "Candidates of bottleneck blocks need group widths."),
        (
            "ResNet-18",
            {"bottleneck_multipliers": 2.0},
            "Candidates of basic blocks have bottleneck multipliers of 1.",
        ),
        ("ResNet-18", {"head_widths": 64}, "The head widths of candidates came, but like has .*"),
        ("ResNet-18", {"stem_widths": 0}, ".* stem widths .* they must be at least 1."),
        ("ResNet-18", {"stem_widths": [1, 2]}, r".* stem widths .* shape \(2,\); it must be .*"),
        ("ResNet-18", {"resolution": np.array([0])}, "Resolutions of candidates must be sides .*"),
        ("ResNet-18", {"resolution": np.array([1.5])}, "The resolutions .* must be integers."),
    ],
)
def test_arrays_that_are_no_candidates_are_refused(name, given, message):
    net = families.named(name)
    with pytest.raises(InputError, match=f"^{message}$"):
        read_candidates(net, **{"depths": [net.depths], "widths": [net.widths], **given})


def test_what_is_no_description_is_refused():
    with pytest.raises(InputError, match=r"^like is a RegNet; it must be an AnyNet .*$"):
        read_candidates(families.regnet("RegNetX-400MF"), depths=[[1]], widths=[[8]])


def test_samples_are_candidates():
    space = families.Space(bottleneck_multiplier=(0.5, 2.0), like=families.regnet("RegNetY-400MF"))
    found = families.sample(60, space=space, stages=(2, 4), seed=4)
    candidates = found.candidates()
    assert count_many(candidates).flops.tolist() == found.flops.tolist()
    for row in range(60):
        assert candidates.description(row) == found.regnet(row).anynet()


def test_regnets_of_two_plain_layers_are_candidates():
    like = replace(families.regnet("RegNetX-400MF"), block="basic", bottleneck_multiplier=1.0)
    found = families.read_regnets(like, depth=[8, 12], w0=24, wa=24.0, wm=2.5, group_width=16)
    expected = replace(like, depth=12, w0=24, wa=24.0, wm=2.5).anynet()
    assert found.description(1) == expected


def test_parameters_that_are_no_regnets_are_no_candidates():
    with pytest.raises(InputError, match=r"^These are no RegNets: wm must lie above 1.$"):
        families.read_regnets(
            families.regnet("RegNetX-400MF"), depth=8, w0=24, wa=24, wm=1, group_width=8
        )
