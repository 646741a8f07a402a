"""Descriptions of the paper families: values, closed forms, many at once, sampling, files."""

from __future__ import annotations

import dataclasses
import random
import re
import tracemalloc
from dataclasses import replace
from math import log, sqrt
from pathlib import Path

import numpy as np
import pytest
import yaml

import convscale as cs
from convscale import families
from convscale.cli.main import run
from convscale.errors import BudgetError, InputError, UnknownNetworkError
from convscale.families.documents import as_document, from_document
from convscale.families.reference import from_reference
from convscale.strategy import parse_strategy
from tests.test_paper_modules import random_anynet, random_efficientnet

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


@pytest.mark.parametrize("convention", ["default", "pycls"])
def test_many_networks_given_stage_by_stage_count_as_one_by_one(convention):
    draw = random.Random(0)
    for _ in range(12):
        like = replace(random_anynet(draw), num_classes=1000)
        stages = len(like.depths)
        rows = []
        while len(rows) < 9:
            other = random_anynet(draw)
            if (len(other.depths), other.block) == (stages, like.block):
                rows.append(other)
        many = families.count_stages(
            like,
            depths=[row.depths for row in rows],
            widths=[row.widths for row in rows],
            group_widths=[row.group_widths for row in rows],
            bottleneck_multipliers=[row.bottleneck_multipliers for row in rows],
            convention=convention,
        )
        for index, row in enumerate(rows):
            changed = {
                name: getattr(row, name)
                for name in ("depths", "widths", "group_widths", "bottleneck_multipliers")
            }
            one = families.count(replace(like, **changed), convention=convention)
            assert (many.flops[index], many.params[index], many.acts[index]) == (
                one.flops,
                one.params,
                one.acts,
            )


@pytest.mark.parametrize("se_ratio", [0.0, 0.25])
@pytest.mark.parametrize("head_width", [0, 256])
def test_many_regnets_given_by_parameters_count_as_one_by_one(se_ratio, head_width):
    draw = random.Random(1)
    like = replace(families.regnet("RegNetX-400MF"), se_ratio=se_ratio, head_width=head_width)
    names = ("depth", "w0", "wa", "wm", "group_width", "bottleneck_multiplier")
    drawn = [random_regnet(draw) for _ in range(300)]
    arrays = {name: np.array([getattr(net, name) for net in drawn]) for name in names}
    many = families.count_regnets(like, resolution=(96, 224), **arrays)
    for index, net in enumerate(drawn):
        one = replace(like, **{name: getattr(net, name) for name in names})
        expected = families.count(one.anynet(), resolution=(96, 224))
        assert many.flops[index] == expected.flops
        assert (many.params[index], many.acts[index]) == (expected.params, expected.acts)


def test_stages_without_blocks_at_the_end_cost_nothing():
    like = families.named("RegNetY-400MF")
    short = replace(
        like,
        **{
            name: getattr(like, name)[:3]
            for name in ("depths", "widths", "strides", "bottleneck_multipliers", "group_widths")
        },
        head_width=40,
    )
    many = families.count_stages(
        replace(like, head_width=40),
        depths=[[*short.depths, 0]],
        widths=[like.widths],
        group_widths=[like.group_widths],
    )
    assert int(many.flops[0]) == families.count(short).flops
    assert int(many.params[0]) == families.count(short).params


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depths": [1.0, 2.0]}, "The depths of candidates are float64; they must be integers."),
        ({"depths": [[0, 2]]}, "Depths of candidates must be at least 0, and 1 in the first .*"),
        (
            {"group_widths": [24, 128]},
            "The group width 24 of stage 1 of candidate 0 does not divide its inner width 64.",
        ),
        ({"widths": [1 << 30, 1 << 30]}, "The flops of some candidates may exceed 63 bits. .*"),
        (
            {"depths": [[1, 1, 1]], "widths": 64, "group_widths": 64},
            "The candidates have 3 stages, but 2 strides .*",
        ),
        ({"widths": [8, 8, 8]}, "The widths of candidates have the shape \\(3,\\), .* depths."),
        ({"convention": "half"}, "Unknown convention 'half'. Use default, pycls."),
        ({"bottleneck_multipliers": np.inf}, "Widths, group widths and .* positive and finite, .*"),
        ({"bottleneck_multipliers": 1e30}, "The inner widths of candidates reach 1.28e\\+32; .*"),
        (
            {"bottleneck_multipliers": 0.001},
            "The group width 64 of stage 1 of candidate 0 does not divide its inner width 0.",
        ),
        ({"bottleneck_multipliers": "many"}, "The bottleneck multipliers .* no array of .*"),
        ({"strides": (-2, 2)}, "The strides are \\(-2, 2\\); they must be integers of at least 1."),
        ({"strides": (1.5, 2)}, "The strides are \\(1.5, 2\\); they must be .*"),
        ({"strides": (0, 2)}, "The strides are \\(0, 2\\); they must be .*"),
        (
            {"widths": np.array([64, 2**63 + 8], np.uint64)},
            "The widths of candidates reach 9223372036854775816; they must fit 63 bits.",
        ),
        ({"depths": [[1, 2], [1]]}, "The depths of candidates are no array of numbers: .*"),
        ({"like": families.named("EfficientNet-B0")}, "like is an EfficientNet; it must be an .*"),
        ({"like": families.regnet("RegNetX-400MF")}, "like is a RegNet; it must be an AnyNet .*"),
    ],
)
def test_candidates_that_are_no_networks_are_refused(changes, message):
    given = {name: PLAIN[name] for name in ("depths", "widths", "group_widths")}
    with pytest.raises(InputError, match=f"^{message}$"):
        families.count_stages(**{"like": families.AnyNet(**PLAIN), **given, **changes})


def test_a_projection_that_few_candidates_have_is_part_of_what_may_not_fit():
    """Stages as wide as each other have none, and the bound of these candidates is such a one."""
    like = families.AnyNet(**{**PLAIN, "strides": (1, 1), "stem_width": 1 << 20})
    wide, few = 1 << 20, 1 << 19
    with pytest.raises(InputError, match="may exceed 63 bits"):
        families.count_stages(
            like,
            depths=[[1, 1], [1, 1]],
            widths=[[wide, few], [few, wide]],
            group_widths=1,
            bottleneck_multipliers=2.0**-18,
            resolution=4096,
        )


@pytest.mark.parametrize("wm", [1.0000001, 1.0 + 2**-40, 1.001, 1.03])
def test_a_base_near_one_quantises_each_block(wm):
    """Where levels are closer than blocks, a block keeps its width to half a level and 8."""
    net = families.RegNet(depth=30, w0=8, wa=8.0, wm=wm, group_width=8)
    assert (list(net.anynet().depths), list(net.anynet().widths)) == quantised(net)
    many = families.count_regnets(
        net, depth=[30, 30], w0=8, wa=8.0, wm=[wm, 2.5], group_width=[8, 8]
    )
    both = (net, replace(net, wm=2.5))
    assert many.flops.tolist() == [families.count(one.anynet()).flops for one in both]


def test_regnets_that_one_by_one_are_none_are_none_together():
    like = families.regnet("RegNetX-400MF")
    given = {"depth": 13, "w0": 24, "wa": 36.0, "wm": 2.5, "group_width": 16}
    with pytest.raises(InputError, match="group width 16 of stage . does not divide"):
        replace(like, **given, bottleneck_multiplier=0.7).anynet()
    with pytest.raises(InputError, match="group width 16 of stage . of candidate 1 does not div"):
        families.count_regnets(like, bottleneck_multiplier=[1.0, 0.7], **given)
    with pytest.raises(InputError, match="^These are no RegNets: widths must fit 63 bits.$"):
        families.count_regnets(like, bottleneck_multiplier=1e30, **given)
    with pytest.raises(InputError, match="^like is an AnyNet; it must be a RegNet, .*$"):
        families.count_regnets(families.AnyNet(**PLAIN), **given)


def test_parameters_that_are_no_regnets_are_refused_with_all_mistakes():
    like = families.regnet("RegNetX-400MF")
    message = "^These are no RegNets: w0 must be positive multiples of 8; wm must lie above 1.$"
    with pytest.raises(InputError, match=message):
        families.count_regnets(like, depth=[12], w0=[20], wa=[8.0], wm=[1.0], group_width=[8])


def test_samples_meet_their_constraints_and_count_as_their_networks():
    space = families.Space(
        depth=(8, 40),
        bottleneck_multiplier=(0.5, 2.0),
        like=families.regnet("RegNetY-400MF"),
    )
    limits = {"flops": (2e8, 6e8), "params": (0, 6e6), "acts": (0, 6e6), "stages": (3, 4)}
    found = families.sample(200, space=space, **limits, seed=3)
    assert len(found) == 200
    for index in range(200):
        net = found.regnet(index)
        stages, cost = net.anynet(), families.count(net.anynet())
        assert cost.flops == found.flops[index]
        assert 2e8 <= cost.flops <= 6e8
        assert cost.params == found.params[index] <= 6e6
        assert cost.acts == found.acts[index] <= 6e6
        assert len(stages.depths) == found.stages[index]
        assert 3 <= len(stages.depths) <= 4
        assert net.bottleneck_multiplier in (0.5, 1.0, 2.0)
        assert 8 <= net.w0 <= 256
        assert net.w0 % 8 == 0
        assert round(net.wa, 1) == net.wa
        assert round(net.wm, 3) == net.wm


def test_samples_are_uniform_in_depth_and_log_uniform_in_the_rest():
    found = families.sample(40_000, seed=5)
    counts = np.bincount(found.depth)[12:29]
    expected = 40_000 / 17
    assert np.abs(counts - expected).max() < 5 * sqrt(expected)
    for values, low, high in ((found.wa, 8, 256), (found.wm, 2, 3), (found.w0, 8, 256)):
        places = (np.log(values) - log(low)) / log(high / low)
        assert abs(places.mean() - 0.5) < 0.02
        assert abs(places.std() - sqrt(1 / 12)) < 0.02
        assert values.min() >= low
        assert values.max() <= high


@pytest.mark.parametrize(
    ("low", "high", "step", "expected"),
    [
        (2.0, 2.8, 0.4, [2.0, 2.4, 2.8]),
        (8.1, 9.0, 0.3, [8.1, 8.4, 8.7, 9.0]),
        (2.5, 7.5, 2.5, [2.5, 5.0, 7.5]),
        (24.3, 24.5, 0.1, [24.3, 24.4, 24.5]),
        (8, 24, 8, [8, 16, 24]),
        (1 / 3, 1.0, 1 / 3, [1 / 3, 2 / 3, 1.0]),
        (2e-7, 4e-7, 1e-7, [2e-7, 3e-7, 4e-7]),
    ],
)
def test_intervals_are_drawn_on_their_grid_and_within_their_ends(low, high, step, expected):
    drawn = families.Interval(low, high, step).draw(np.random.default_rng(0), 2000)
    found = sorted(set(drawn.tolist()))
    assert found == (expected if step > 1e-6 else pytest.approx(expected, rel=1e-12))


def test_integers_of_numpy_are_taken():
    space = families.Space(depth=(np.int64(12), np.int32(28)))
    found = families.sample(np.int64(5), space=space, seed=np.uint8(7), stages=np.int64(4))
    plain = families.sample(5, seed=7, stages=4)
    assert found.flops.tolist() == plain.flops.tolist()


def test_descriptions_take_numbers_of_numpy_and_hold_plain_ones():
    given = {name: tuple(np.array(values)) for name, values in PLAIN.items()}
    net = families.AnyNet(**given, resolution=np.int16(96))
    assert net == families.AnyNet(**PLAIN, resolution=96)
    assert from_document(yaml.safe_load(yaml.safe_dump(as_document(net)))) == net
    values = {"depth": np.int64(13), "w0": np.uint8(24), "wa": np.float64(36.0), "wm": 2.5}
    one = families.RegNet(**values, group_width=np.int32(16))
    assert one == families.RegNet(depth=13, w0=24, wa=36.0, wm=2.5, group_width=16)
    assert {type(getattr(one, name)) for name in ("depth", "w0", "group_width")} == {int}


def test_samples_of_a_base_near_one_count_as_their_networks():
    space = families.Space(depth=(40, 60), wm=families.Interval(1.001, 1.002, 0.001))
    found = families.sample(5, space=space)
    for index in range(5):
        assert families.count(found.regnet(index).anynet()).flops == found.flops[index]


def test_samples_are_reproducible_from_their_seed():
    first, second = (families.sample(100, flops=(3e8, 5e8), seed=7) for _ in range(2))
    assert all(
        np.array_equal(getattr(first, name), getattr(second, name))
        for name in ("depth", "w0", "wa", "wm", "group_width", "flops")
    )
    other = families.sample(100, flops=(3e8, 5e8), seed=8)
    assert not np.array_equal(first.flops, other.flops)


def test_every_network_of_a_narrow_window_lies_in_it():
    found = families.sample(10_000, flops=(3.6e8, 4.4e8), stages=4)
    assert len(found.flops) == 10_000
    assert found.flops.min() >= 3.6e8
    assert found.flops.max() <= 4.4e8


def test_impossible_constraints_end_with_what_was_found(monkeypatch):
    monkeypatch.setattr("convscale.families.sampling._HOPELESS", 50_000)
    with pytest.raises(BudgetError, match="^Of 65,536 networks drawn, 0 meet the constraints. .*$"):
        families.sample(1, flops=(1, 2))
    with pytest.raises(BudgetError, match="^Of 65,536 networks drawn, 0 meet the constraints. .*$"):
        families.sample(1, stages=50)  # more than any network of the space has


def test_narrow_integers_are_counted_as_wide_ones():
    net = families.named("RegNetY-32GF")
    stages = {"depths": [net.depths], "widths": [net.widths], "group_widths": [net.group_widths]}
    narrow = {name: np.array(values, np.int16) for name, values in stages.items()}
    assert int(families.count_stages(net, **narrow).flops[0]) == families.count(net).flops


def test_the_memory_of_many_candidates_is_that_of_the_answer():
    """Chunks of 8192 keep the rest below 8 MiB, however many candidates there are."""
    net, count = families.named("RegNetY-400MF"), 400_000
    columns = {
        "depths": np.full((count, 4), 3, np.int16),
        "widths": np.full((count, 4), 64, np.int16),
        "group_widths": np.full((count, 4), 8, np.int16),
    }
    tracemalloc.start()
    found = families.count_stages(net, **columns)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak - 3 * found.flops.nbytes < 8 * 2**20


WIDE = families.Space(w0=families.Interval(8, 1 << 20, 8))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: families.Space(depth=(9, 3), bottleneck_multiplier=(0.3, 1)),
            "This is no design space: depth is \\(9, 3\\), it must be an interval within 1 and "
            "1024; bottleneck_multiplier must be an interval between powers of two.",
        ),
        (
            lambda: families.Space(w0=families.Interval(9, 64, 8)),
            "This is no design space: the ends of w0, 9 and 64, are no multiples of its step 8.",
        ),
        (
            lambda: families.sample(5, flops=(2, 1)),
            "The range of flops is \\(2, 1\\); write \\(least, most\\).",
        ),
        (
            lambda: families.sample(5, flops=("few", "many")),
            "The range of flops is \\('few', 'many'\\); write \\(least, most\\).",
        ),
        (
            lambda: families.sample(5, seed=-1),
            "The seed is -1; it must be an integer of at least 0.",
        ),
        (
            lambda: families.Space(depth=("a", 3)),
            "This is no design space: depth is \\('a', 3\\), it must be an interval within .*",
        ),
        (lambda: families.Space(depth=(1, 2, 3)), ".*: depth is \\(1, 2, 3\\), it must be .*"),
        (lambda: families.Space(depth=(12.5, 28.5)), ".*: depth is \\(12.5, 28.5\\), it must .*"),
        (
            lambda: families.Space(w0=(8, 256, 8)),
            ".*: w0 is \\(8, 256, 8\\), it must be an Interval\\(low, high, step\\).",
        ),
        (
            lambda: families.Space(w0=families.Interval("a", 256, 8)),
            ".*: w0 has the values 'a', 256 and 8, they must be numbers.",
        ),
        (
            lambda: families.Space(bottleneck_multiplier=("a", 1)),
            ".*: bottleneck_multiplier must be an interval between powers of two.",
        ),
        (
            lambda: families.Space(like=families.named("RegNetX-400MF")),
            ".*: like must be a RegNet, such as families.regnet\\('RegNetX-400MF'\\).",
        ),
        (
            lambda: families.Space(wa=families.Interval(8, 8e10, 8)),
            ".*: wa ends at 80000000000.0, it must be at most 1048576.",
        ),
        (
            lambda: families.sample(3, resolution=1 << 24, space=WIDE),
            "The flops of some candidates may exceed 63 bits. .*",
        ),
        (
            lambda: families.sample(3, stages=(1, 2, 3)),
            "The number of stages is \\(1, 2, 3\\); write an integer of at least 1, or .*",
        ),
        (lambda: families.sample(3, stages=(4, 2)), "The number of stages is \\(4, 2\\); .*"),
        (lambda: families.sample(0), "The number of networks is 0; it must be at least 1."),
    ],
)
def test_wrong_design_spaces_are_answered_in_one_line(make, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        make()


@pytest.mark.parametrize("seed", range(15))
def test_descriptions_survive_a_yaml_file(seed, tmp_path):
    draw = random.Random(seed)
    for net in (random_anynet(draw), random_efficientnet(draw)):
        families.write_yaml(net, tmp_path / "net.yaml")
        assert families.read_yaml(tmp_path / "net.yaml") == net
    regnet = random_regnet(draw)
    families.write_yaml(regnet, tmp_path / "net.yaml")
    assert families.read_yaml(tmp_path / "net.yaml") == regnet.anynet()


REFERENCE = {
    "RegNetY-4.0GF": """
MODEL: {TYPE: regnet, NUM_CLASSES: 1000}
REGNET: {SE_ON: true, DEPTH: 22, W0: 96, WA: 31.41, WM: 2.24, GROUP_W: 64}
OPTIM: {LR_POLICY: cos}
""",
    "RegNetX-400MF": """
MODEL: {TYPE: anynet, NUM_CLASSES: 1000}
ANYNET:
  STEM_TYPE: simple_stem_in
  STEM_W: 32
  BLOCK_TYPE: res_bottleneck_block
  DEPTHS: [1, 2, 7, 12]
  WIDTHS: [32, 64, 160, 384]
  STRIDES: [2, 2, 2, 2]
  BOT_MULS: [1.0, 1.0, 1.0, 1.0]
  GROUP_WS: [16, 16, 16, 16]
TRAIN: {IM_SIZE: 224}
TEST: {IM_SIZE: 256}
""",
    "EfficientNet-B0": """
MODEL: {TYPE: effnet, NUM_CLASSES: 1000}
EN:
  STEM_W: 32
  STRIDES: [1, 2, 2, 2, 1, 2, 1]
  DEPTHS: [1, 2, 2, 3, 3, 4, 1]
  WIDTHS: [16, 24, 40, 80, 112, 192, 320]
  EXP_RATIOS: [1, 6, 6, 6, 6, 6, 6]
  KERNELS: [3, 3, 5, 3, 5, 5, 3]
  HEAD_W: 1280
""",
    "ResNeXt-50-32x4d": """
MODEL: {TYPE: resnet, DEPTH: 50, NUM_CLASSES: 1000}
RESNET: {TRANS_FUN: bottleneck_transform, NUM_GROUPS: 32, WIDTH_PER_GROUP: 4, STRIDE_1X1: false}
""",
    "RegNetZ-4GF": """
MODEL: {TYPE: regnet, NUM_CLASSES: 1000, ACTIVATION_FUN: silu}
REGNET:
  BLOCK_TYPE: res_bottleneck_linear_block
  SE_ON: True
  DEPTH: 28
  W0: 48
  WA: 14.5
  WM: 2.226
  GROUP_W: 8
  BOT_MUL: 4.0
  HEAD_W: 1536
TRAIN: {IM_SIZE: 256}
TEST: {IM_SIZE: 293}
""",
}


@pytest.mark.parametrize("name", REFERENCE)
def test_files_of_the_reference_code_are_read(name, tmp_path):
    path = tmp_path / "net.yaml"
    path.write_text(REFERENCE[name])
    assert families.read_yaml(path) == families.named(name)


BESIDE = """
OPTIM: {LR_POLICY: cos, WEIGHT_DECAY: 5.0e-5, MAX_EPOCH: 100}
DATA_LOADER: {NUM_WORKERS: 8}
BN: {USE_CUSTOM_WEIGHT_DECAY: true}
OUT_DIR: somewhere
NUM_GPUS: 8
3: 4
"""


@pytest.mark.parametrize("name", REFERENCE)
def test_sections_beside_the_network_and_small_letters_do_not_matter(name, tmp_path):
    document = yaml.safe_load(REFERENCE[name]) | yaml.safe_load(BESIDE)
    document["MODEL"]["LOSS_FUN"] = "cross_entropy"
    document["TRAIN"] = {"BATCH_SIZE": 512, **document.get("TRAIN", {})}
    path = tmp_path / "net.yaml"
    path.write_text(yaml.safe_dump(document))
    assert families.read_yaml(path) == families.named(name)
    small = {
        str(section).lower(): {entry.lower(): value for entry, value in entries.items()}
        for section, entries in yaml.safe_load(REFERENCE[name]).items()
    }
    path.write_text(yaml.safe_dump(small))
    assert families.read_yaml(path) == families.named(name)


def test_what_a_file_leaves_out_has_the_default_of_the_reference_code(tmp_path):
    path = tmp_path / "net.yaml"
    path.write_text(
        "MODEL: {TYPE: anynet}\n"
        "ANYNET: {DEPTHS: [1, 2], WIDTHS: [32, 64], STRIDES: [1, 2]}\n"
        "TRAIN:\n"  # all entries left out
    )
    net = families.read_yaml(path)
    assert (net.bottleneck_multipliers, net.group_widths) == ((1, 1), (1, 1))
    assert (net.num_classes, net.resolution, net.test_resolution) == (10, 224, 256)
    assert (net.stem_width, net.head_width, net.se_ratio) == (32, 0, 0.0)
    assert (net.block, net.stem, net.activation) == ("bottleneck", "simple", "relu")


def test_what_a_file_sets_to_null_has_the_default_of_the_reference_code(tmp_path):
    path = tmp_path / "net.yaml"
    path.write_text(
        "MODEL: {TYPE: anynet, ACTIVATION_FUN: null}\n"
        "ANYNET: {DEPTHS: [1, 2], WIDTHS: [32, 64], STRIDES: [1, 2], BOT_MULS: null,\n"
        "  GROUP_WS: [null, null], HEAD_W: null, STEM_TYPE: null, SE_ON: null}\n"
        "TEST: {IM_SIZE: null}\n"
    )
    net = families.read_yaml(path)
    assert (net.bottleneck_multipliers, net.group_widths) == ((1, 1), (1, 1))
    assert (net.head_width, net.stem, net.se_ratio) == (0, "simple", 0.0)
    assert (net.activation, net.test_resolution) == ("relu", 256)


@pytest.mark.parametrize("block", ["res_basic_block", "vanilla_block"])
def test_widths_of_basic_regnets_fit_the_group_width_that_they_do_not_have(block):
    """24, 56, 152 and 368 become multiples of 16, half to even, as in the reference code."""
    net = from_reference(
        {
            "MODEL": {"TYPE": "regnet"},
            "REGNET": {"BLOCK_TYPE": block, "DEPTH": 13, "W0": 24, "WA": 36.44, "WM": 2.49},
        }
    )
    assert net.anynet().widths == net.anynet().group_widths == (32, 64, 160, 368)
    values = ("depth", "w0", "wa", "wm", "group_width")
    for multiplier in (1.0, 0.25, 2.0):
        one = replace(net, bottleneck_multiplier=multiplier)
        many = families.count_regnets(
            net,
            **{name: [getattr(net, name)] for name in values},
            bottleneck_multiplier=multiplier,
        )
        cost = families.count(one.anynet())
        assert (many.flops, many.params, many.acts) == (cost.flops, cost.params, cost.acts)


def test_small_resnets_of_the_reference_code_have_three_stages():
    net = from_reference(
        {
            "MODEL": {"TYPE": "resnet", "DEPTH": 56},
            "TRAIN": {"DATASET": "cifar10", "IM_SIZE": 32},
            "TEST": {"IM_SIZE": 32},
        }
    )
    # arXiv 1512.03385, section 4.2: 6n + 2 layers, 0.85 M params at n = 9
    assert (net.depths, net.widths, net.resolution) == ((9, 9, 9), (16, 32, 64), 32)
    assert f"{families.count(net).params / 1e6:.2f}" == "0.86"  # with projections
    assert net.num_classes == 10


def test_a_file_stands_for_a_network_on_the_command_line(tmp_path, capsys):
    path = tmp_path / "net.yaml"
    path.write_text(REFERENCE["RegNetX-400MF"])
    assert run(["count", str(path), "--json"]) == 0
    document = yaml.safe_load(capsys.readouterr().out)
    assert document["network"] == str(path)
    assert document["flops"] == families.count(families.named("RegNetX-400MF")).flops
    scaled = cs.scale(str(path), strategy="w", factor=2, num_classes=10, weights=False)
    assert scaled.module.head.classifier.out_features == 10


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("family: anynet\ndepths: [1\n", "net.yaml is no YAML: while parsing a flow sequence .*"),
        ("- 1\n", "net.yaml: A description is a table of entries, but \\[1\\] came. .*"),
        ("family: vgg\n", "net.yaml: The family is 'vgg'; it must be one of anynet, regnet, .*"),
        (
            "family: regnet\ndepht: 12\nw0: 20\nwa: 8.0\nwm: 2\ngroup_width: x\nstem: deep\n",
            "net.yaml: This is no regnet: depht is no entry of it, did you mean depth\\?; "
            "depth is missing; w0 is 20, it must be a multiple of 8; "
            "group_width is 'x', it must be an integer of at least 1; "
            "stem is 'deep', it must be one of simple, pooled, small.",
        ),
        (
            "family: anynet\ndepths: [1, 2]\nwidths: [8]\nstrides: [1, 2]\n"
            "bottleneck_multipliers: [1, 1]\ngroup_widths: [8, 8]\n",
            "net.yaml: This is no anynet: all lists must have a value a stage, but their lengths "
            "are depths 2, widths 1, strides 2, group_widths 2, bottleneck_multipliers 2.",
        ),
        (
            "MODEL: {TYPE: regnet, NUM_CLASSES: many}\nREGNET: {W0: 20, BLOCK_TYPE: best}\n",
            "net.yaml: REGNET.BLOCK_TYPE is 'best', it must be one of .*; MODEL.NUM_CLASSES is "
            "'many', it must be an integer; This is no regnet: w0 is 20, it must be .*",
        ),
        ("MODEL: {TYPE: vit}\n", "net.yaml: MODEL.TYPE is 'vit', it must be one of anynet, .*"),
        ("MODEL:\n", "net.yaml: MODEL.TYPE is missing, it must be one of anynet, .*"),
        ("MODEL: {TYPE: 3}\n", "net.yaml: MODEL.TYPE is 3, it must be one of anynet, .*"),
        ("DEPTHS: [1]\n", "net.yaml: The family is missing; it must be one of anynet, .*"),
        (
            "MODEL: {TYPE: regnet}\nREGNET: {DEPHT: 22, W0: 20, GROUPW: 64}\n",
            "net.yaml: REGNET.DEPHT is no entry of it, did you mean DEPTH\\?; REGNET.GROUPW is no "
            "entry of it, did you mean GROUP_W\\?; This is no regnet: w0 is 20, .*",
        ),
        (
            "MODEL: {TYPE: regnet}\nREGNETS: {DEPTH: 22}\n",
            "net.yaml: REGNET is missing, did you mean REGNETS\\?.",
        ),
        (
            "MODEL: {TYPE: effnet, NUM_CLASSES: -1}\nEN: {DEPTHS: [1, x], WIDTHS: [8, 8]}\n",
            "net.yaml: EN.DEPTHS is \\[1, 'x'\\], it must be a list of numbers; EN.STRIDES is "
            "missing; EN.EXP_RATIOS is missing; EN.KERNELS is missing; This is no efficientnet: "
            "num_classes is -1, it must be an integer of at least 1.",
        ),
        (
            "MODEL: {TYPE: resnet, DEPTH: 9}\nTRAIN: {DATASET: cifar10}\n"
            "RESNET: {TRANS_FUN: bottleneck_transform, NUM_GROUPS: 2}\n",
            "net.yaml: RESNET.TRANS_FUN is 'bottleneck_transform', on cifar10 it must be basic_.*"
            "; MODEL.DEPTH is 9, on cifar10 it must be 6n \\+ 2.",
        ),
        (
            "MODEL: {TYPE: regnet, NUM_CLASES: 1000}\nTRAIN: {IMG_SIZE: 96, BATCH_SIZE: 8}\n",
            "net.yaml: MODEL.NUM_CLASES is no entry of it, did you mean NUM_CLASSES\\?; "
            "TRAIN.IMG_SIZE is no entry of it, did you mean IM_SIZE\\?.",
        ),
        (
            "family: anynet\nwidths: [8]\nwidths: [16]\n",
            "net.yaml: widths stands twice, in lines 2 and 3. This is no anynet: depths is .*",
        ),
        (
            "MODEL: {TYPE: regnet}\nREGNET: {WA: 5, wa: 6}\n",
            "net.yaml: REGNET.WA stands twice, in capitals and in small letters.",
        ),
        ("MODEL: {TYPE: resnet}\n", "net.yaml: RESNET.TRANS_FUN is .*; MODEL.DEPTH is 0, .*"),
        ("MODEL: {TYPE: anynet}\nANYNET: 3\n", "net.yaml: ANYNET is 3, it must be a table .*"),
    ],
)
def test_all_mistakes_of_a_file_are_named_in_one_line(text, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.yaml").write_text(text)
    with pytest.raises(InputError, match=f"^{message}$") as caught:
        families.read_yaml("net.yaml")
    assert run(["count", "net.yaml"]) == 2
    assert capsys.readouterr().err == f"convscale: {caught.value.line}\n"


def test_an_entry_that_stands_twice_is_a_mistake_by_itself(tmp_path):
    path = tmp_path / "net.yaml"
    path.write_text("family: regnet\ndepth: 22\nw0: 24\nwa: 24.48\nwm: 2.54\nwm: 2.5\n"
                    "group_width: 16\n")  # fmt: skip
    with pytest.raises(InputError, match=r"net.yaml: wm stands twice, in lines 5 and 6\.$"):
        families.read_yaml(path)
    path.write_text("family: regnet\ndepth: 22\nw0: 24\nwa: 2448e-2\nwm: 2.54e0\ngroup_width: 16\n")
    assert families.read_yaml(path) == families.named("RegNetX-400MF")


def test_a_yaml_file_cannot_run_code(tmp_path):
    path = tmp_path / "net.yaml"
    path.write_text("!!python/object/apply:os.system ['false']\n")
    with pytest.raises(InputError, match="^.*net.yaml is no YAML: could not determine a con.*$"):
        families.read_yaml(path)


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
    assert len(blocks) == 3
    for block in blocks:
        exec(compile(block, "families.md", "exec"), {})
    assert families.read_yaml("leanest.yaml").family == "anynet"


def test_the_files_of_the_page_on_families_are_one_network(tmp_path):
    for number, block in enumerate(re.findall(r"```yaml\n(.*?)```", PAGE, re.S)):
        path = tmp_path / f"{number}.yaml"
        path.write_text(block)
        assert families.read_yaml(path) == families.named("RegNetY-4.0GF")


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
