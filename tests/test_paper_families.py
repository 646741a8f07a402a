"""Descriptions of the paper families: values, quantisation, what is refused."""

from __future__ import annotations

import dataclasses
import random
import re
from dataclasses import replace
from math import log
from pathlib import Path

import numpy as np
import pytest
import yaml

import convscale as cs
from convscale import families
from convscale.errors import InputError, UnknownNetworkError
from convscale.families.documents import as_document, from_document
from convscale.strategy import parse_strategy

PLAIN = {
    "depths": (3, 4),
    "widths": (64, 128),
    "strides": (1, 2),
    "bottleneck_multipliers": (1.0, 1.0),
    "group_widths": (64, 128),
}


def random_regnet(draw: random.Random) -> families.RegNet:
    return families.RegNet(
        depth=draw.randint(1, 40),
        w0=8 * draw.randint(1, 32),
        wa=draw.choice([0.0, 8.0, round(draw.uniform(0, 256), 1)]),
        wm=draw.choice([1.05, 2.0, 2.25, 2.5, round(draw.uniform(1.1, 3.5), 3)]),
        group_width=draw.choice([1, 4, 8, 24, 64]),
        bottleneck_multiplier=draw.choice([0.25, 0.5, 1.0, 2.0, 4.0]),
        se_ratio=draw.choice([0.0, 0.25]),
    )


def quantised(net: families.RegNet) -> tuple[list[int], list[int]]:
    """The published rule, block by block."""
    widths = []
    for block in range(net.depth):
        u = net.w0 + net.wa * block
        k = round(log(u / net.w0) / log(net.wm))
        widths.append(int(round(net.w0 * net.wm**k / 8) * 8))
    stages = sorted(set(widths))
    return [widths.count(width) for width in stages], stages


def test_a_stage_of_plain_blocks_costs_k2_w2_r2_d():
    # d blocks of two 3x3 convolutions, width w at r = 16, no shortcut and no projection
    net = families.AnyNet(
        depths=(3,),
        widths=(32,),
        strides=(1,),
        bottleneck_multipliers=(1.0,),
        group_widths=(32,),
        block="vanilla",
        stem="small",
        num_classes=10,
    )
    found = families.count(net, resolution=16)
    stem, stage, head = 27 * 32 * 256, 3 * 2 * 9 * 32**2 * 256, 320
    assert found.flops == stem + stage + head
    assert found.params == 27 * 32 + 6 * 9 * 32**2 + 2 * 7 * 32 + 330
    assert found.acts == 7 * 32 * 256 + 10


def test_descriptions_are_immutable_and_compared_by_value():
    net = families.named("ResNet-50")
    assert net == families.named("ResNet-50")
    assert hash(net) == hash(families.named("ResNet-50"))
    with pytest.raises(dataclasses.FrozenInstanceError):
        net.depths = (1,)


def test_resnet50_is_the_anynet_of_the_facts():
    net = families.named("ResNet-50")
    assert net.architecture() == {
        "depths": [3, 4, 6, 3],
        "widths": [256, 512, 1024, 2048],
        "bottleneck_multipliers": [0.25] * 4,
        "group_widths": [64, 128, 256, 512],
        "stem_width": 64,
        "head_width": 0,
    }
    assert families.named("ResNeXt-50-32x4d").group_widths == (4, 8, 16, 32)
    assert families.named("ResNeXt-50-32x4d").bottleneck_multipliers == (0.5,) * 4


@pytest.mark.parametrize("seed", range(30))
def test_regnets_are_quantised_block_by_block(seed):
    net = random_regnet(random.Random(seed))
    depths, widths = quantised(net)
    plain = replace(net, group_width=1, bottleneck_multiplier=1.0).anynet()
    assert (list(plain.depths), list(plain.widths)) == (depths, widths)


def test_ties_of_the_quantisation_round_half_to_even():
    # u_j / w0 = 1, 1.5, 2, 2.5 in base 2.25: levels 0, 0.5, 0.85, 1.13, and half to even is 0
    net = families.RegNet(depth=4, w0=16, wa=8.0, wm=2.25, group_width=8)
    assert net.anynet().depths == tuple(quantised(net)[0]) == (2, 2)


def test_descriptions_take_numbers_of_numpy_and_hold_plain_ones():
    given = {name: tuple(np.array(values)) for name, values in PLAIN.items()}
    net = families.AnyNet(**given, resolution=np.int16(96))
    assert net == families.AnyNet(**PLAIN, resolution=96)
    assert from_document(yaml.safe_load(yaml.safe_dump(as_document(net)))) == net
    values = {"depth": np.int64(13), "w0": np.uint8(24), "wa": np.float64(36.0), "wm": 2.5}
    one = families.RegNet(**values, group_width=np.int32(16))
    assert one == families.RegNet(depth=13, w0=24, wa=36.0, wm=2.5, group_width=16)
    assert {type(getattr(one, name)) for name in ("depth", "w0", "group_width")} == {int}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"group_widths": (48, 128)},
            "the group width 48 of stage 1 does not divide its inner width 64",
        ),
        ({"block": "dense"}, "block is 'dense', it must be one of bottleneck, .*, vanilla"),
        ({"se_ratio": 2}, "se_ratio is 2, it must be a number in \\[0, 1\\]"),
        ({"resolution": (1, 2, 3)}, "resolution is \\(1, 2, 3\\), it must be a side or .* in px"),
        ({"stride_in_1x1": 3}, "stride_in_1x1 is 3, it must be True or False"),
        ({"depths": (1, 10**9)}, "depths have 1000000001 blocks in all, they must be at most .*"),
        (
            {"block": "basic", "se_ratio": 0.25},
            "se_ratio is 0.25, basic blocks have none: it must be 0",
        ),
        ({"widths": (2**63, 64)}, "widths is \\(9.*8, 64\\), they must be at most 1048576"),
        ({"strides": (1, 2**20)}, "strides is \\(1, 1048576\\), they must be at most 32768"),
        ({"num_classes": 2**63}, "num_classes is 9223372036854775808, it must be at most 1048576"),
        ({"stem_width": 2**62}, "stem_width is 4611686018427387904, it must be at most 1048576"),
        ({"resolution": 10**20 - 1}, "resolution is 99999999999999999999, it must be at most .*"),
        (
            {"bottleneck_multipliers": (1e308, 1)},
            "the inner width of stage 1 is 1e\\+308 times 64, it must be at most 1048576",
        ),
        ({"depths": (4096, 1)}, "depths have 4097 blocks in all, they must be at most 4096"),
        ({"depths": ()}, "depths is \\(\\), it must be a list with a value a stage"),
        ({"widths": (64, True)}, "widths is \\(64, True\\), it must be a list of integers of .*"),
        (
            {"block": "basic", "group_widths": (8, 128)},
            "stage 1 of basic blocks has multiplier 1 and group width 8, they must be 1 and .* 64",
        ),
    ],
)
def test_what_is_no_network_is_refused(changes, message):
    with pytest.raises(InputError, match=f"^This is no anynet: {message}.$"):
        families.AnyNet(**{**PLAIN, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"wa": 1e300}, "wa is 1e\\+300, it must be at most 1048576"),
        ({"wm": 1e300}, "wm is 1e\\+300, it must be at most 1048576"),
        ({"depth": 4097}, "depth is 4097, it must be at most 4096"),
        ({"group_width": 2**63}, "group_width is 9223372036854775808, it must be at most 1048576"),
        ({"bottleneck_multiplier": 1e300}, "bottleneck_multiplier is 1e\\+300, it must be at .*"),
    ],
)
def test_regnets_beyond_the_limits_are_refused(changes, message):
    with pytest.raises(InputError, match=f"^This is no regnet: {message}.$"):
        replace(families.regnet("RegNetX-400MF"), **changes)


def test_expansions_beyond_the_limit_are_refused():
    net = families.named("EfficientNet-B0")
    with pytest.raises(InputError, match="^This is no eff.*stage 7 are 1e\\+300 times its w"):
        replace(net, expansion_ratios=(1, 6, 6, 6, 6, 6, 1e300))


def test_documents_hold_plain_values_only():
    for name in families.names():
        net = families.named(name)
        assert from_document(yaml.safe_load(yaml.safe_dump(as_document(net)))) == net


@pytest.mark.parametrize(
    ("notation", "exponents"),
    [
        # depth, width, group width, resolution as powers of s (arXiv 2103.06877)
        ("wg", (0, 1 / 2, 1 / 2, 0)),
        ("dwg", (1 / 2, 1 / 4, 1 / 4, 0)),
        ("dwgr", (1 / 3, 1 / 6, 1 / 6, 1 / 6)),
        ("d1_w8_g8_r1", (0.1, 0.4, 0.4, 0.05)),
        ("d1_w8_g4_r1", (0.1, 0.4, 0.2, 0.05)),
        ("d1_w2_g2_r0", (1 / 3, 1 / 3, 1 / 3, 0)),
        ("dWr", (0.1, 0.4, 0, 0.05)),
        ("w", (0, 1 / 2, 0, 0)),
    ],
)
def test_group_width_has_the_share_that_its_notation_names(notation, exponents):
    factors = parse_strategy(notation).named_only().factors(16.0)
    got = (factors.depth, factors.width, factors.group_width, factors.resolution)
    assert [log(value, 16) for value in got] == pytest.approx(exponents)


PAGE = (Path(__file__).parent.parent / "docs" / "families.md").read_text(encoding="utf-8")


def test_the_examples_of_the_page_on_families_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    assert len(blocks) == 4
    for block in blocks:
        exec(compile(block, "families.md", "exec"), {})
    assert families.read_yaml("leanest.yaml").family == "anynet"


@pytest.mark.parametrize("name", ["RegNetX-400MF", "EfficientNet-B0"])
def test_lists_are_held_as_tuples(name):
    net = families.named(name)
    listed = {key: list(v) if isinstance(v, tuple) else v for key, v in vars(net).items()}
    made = type(net)(**listed)
    assert made == net
    assert hash(made) == hash(net)


def test_names_that_go_on_are_suggested_first():
    with pytest.raises(UnknownNetworkError, match="Did you mean ResNeXt-50-32x4d or "):
        cs.count("ResNeXt-50")
