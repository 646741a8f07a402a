"""Arrays of candidates, and samples of design spaces, against networks one by one."""

from __future__ import annotations

import random
import tracemalloc
from dataclasses import replace
from math import log, sqrt

import numpy as np
import pytest

from convscale import families
from convscale.errors import BudgetError, InputError
from tests.test_paper_families import PLAIN, quantised, random_regnet
from tests.test_paper_modules import random_anynet


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
        (
            {"convention": "half"},
            "The closed form of paper families does not count in the convention 'half'. Use .*",
        ),
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
