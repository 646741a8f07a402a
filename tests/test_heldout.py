"""What is left out of a fit does not reach it; intervals cover what they say."""

import csv
from pathlib import Path

import numpy as np
import pytest

from convscale.complexity.calls import OperatorCall
from convscale.prediction.execution import Execution
from convscale.prediction.fitted import fitted_profile
from convscale.prediction.heldout import Errors, baseline, fitted, left_out
from convscale.prediction.interval import COVERAGES, covered, factors, intervals
from convscale.prediction.records import record_of
from convscale.prediction.stack import Stack
from convscale.prediction.timing import Timing
from convscale.prediction.workload import workload

RUN = Execution()
TABLES = Path(__file__).parents[2] / "shared" / "data" / "timm"


def synthetic(slower=1.0):
    """Networks of four families that take a nanosecond a byte; one family may be slower."""
    generator = np.random.default_rng(0)
    timings = []
    for place in range(24):
        size = int(generator.integers(1000, 90_000))
        calls = [
            OperatorCall("a", "aten.relu", "activation", bytes_read=size, bytes_written=size),
            OperatorCall("b", "aten.add", "elementwise", bytes_read=2 * size, bytes_written=size),
        ]
        family = "abcd"[place % 4]
        factor = slower if family == "a" else 1.0
        timings.append(Timing(f"n{place}", family, workload(calls), 64, factor * size * 6.4e-7))
    return timings


@pytest.mark.parametrize("model", [fitted(RUN), baseline("acts", "constant")])
def test_times_of_a_family_do_not_change_its_own_prediction(model):
    own, changed = (Stack.of(synthetic(slower)) for slower in (1.0, 10.0))
    first = np.array([family == "a" for family in own.families])
    found = [left_out(stack, stack.families, model)[first] for stack in (own, changed)]
    assert np.array_equal(*found)
    others = [left_out(stack, stack.families, model)[~first] for stack in (own, changed)]
    assert not np.allclose(*others, rtol=1e-6)


def test_errors_are_those_of_hand():
    found = Errors.of(np.array([1.0, 2.2, 2.4, 8.0]), np.array([1.0, 2.0, 3.0, 4.0]), groups=2)
    assert found.mape == pytest.approx(100 * (0 + 0.1 + 0.2 + 1.0) / 4)
    assert (found.within_10, found.spearman) == (50.0, 1.0)


def test_intervals_cover_new_misses_as_often_as_they_say():
    generator = np.random.default_rng(1)
    misses = generator.standard_t(4, 40_000) * 0.05
    seen, new = misses[:20_000], misses[20_000:]
    for coverage in COVERAGES:
        low, high = np.log(factors(seen, coverage))
        inside = np.mean((-new >= low) & (-new <= high))
        assert inside == pytest.approx(coverage, abs=0.015)
    groups = [str(place % 40) for place in range(40_000)]
    for coverage, share in covered(misses, groups).items():
        assert share == pytest.approx(coverage, abs=0.02)


def test_intervals_of_other_misses_cover_what_lies_between_their_quantiles():
    """Intervals from -0.1 to 0.1 hold misses of up to that, whatever these would tell alone."""
    groups = ["a", "b"] * 100
    known = np.tile([-0.1, -0.1, 0.1, 0.1], 50)
    misses = np.concatenate([np.full(100, 0.05), np.full(100, 0.3)])
    assert covered(misses, groups, [0.9], known=known) == {0.9: 0.5}


def test_a_higher_coverage_has_the_wider_interval():
    found = intervals(np.random.default_rng(2).normal(0, 0.1, 300))
    ends = np.array(list(found.values()))
    assert (np.diff(ends[:, 0]) <= 0).all()
    assert (np.diff(ends[:, 1]) >= 0).all()


def test_a_profile_names_its_errors_and_those_of_the_baselines():
    timings = [
        Timing(one.network, f"{one.family}{place % 2}", one.workload, 64, one.seconds, 64)
        for place, one in enumerate(synthetic())
    ]
    timings = [*timings, Timing("x", "e", timings[0].workload, 64, timings[0].seconds, 64)]
    profile = fitted_profile(timings, RUN, name="mine", conditions={})
    (errors,) = profile.errors
    assert (errors.protocol, errors.networks, errors.groups) == ("families", 25, 5)
    assert set(errors.baselines_mape_pct) == {"flops", "acts", "flops + acts + constant"}
    assert not fitted_profile(timings, RUN, name="mine", conditions={}, held_out=False).errors


def test_a_slice_of_a_public_table_is_met_better_than_by_the_baseline():
    table = TABLES / "benchmark-infer-amp-nchw-pt240-cu124-rtx3090.csv"
    if not table.exists():
        pytest.skip("the public tables are not there")
    names = (
        "resnet18 resnet50 resnet101 resnext50_32x4d wide_resnet50_2 vgg11 vgg16 vgg13_bn "
        "densenet121 densenet169 mobilenetv2_100 mobilenetv3_large_100 efficientnet_b0 "
        "regnetx_008 regnety_016 regnety_032 dla34 dla60 hrnet_w18_small convnext_atto "
        "convnext_femto ghostnet_100 rexnet_100 dpn68 seresnet50".split()
    )
    with table.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["model"] in names]
    timings = []
    for row in rows:
        if row["infer_img_size"] != "224":
            continue
        record, batch = record_of(row["model"], 224), int(row["infer_batch_size"])
        seconds = batch / float(row["infer_samples_per_sec"])
        timings.append(Timing(row["model"], record.family, record.work, batch, seconds, 224))
    stack = Stack.of(timings)
    own = left_out(stack, stack.families, fitted(RUN))
    plain = left_out(stack, stack.families, baseline("flops", "acts", "constant"))
    count = len(set(stack.families))
    found, beside = (Errors.of(each, stack.seconds, groups=count) for each in (own, plain))
    assert len(timings) >= 20
    assert found.mape < 0.7 * beside.mape
