"""The shipped profiles of a CPU and of training, against the public tables they were fitted to."""

from __future__ import annotations

import csv
from pathlib import Path
from statistics import mean

import pytest

import convscale as cs

TABLES = Path(__file__).parents[2] / "shared" / "data" / "timm"
CPU = "benchmark-infer-fp32-nchw-pt240-cpu-i7_12700h-dynamo.csv"
TRAINING = "benchmark-train-amp-nhwc-pt112-cu113-rtx3090.csv"


def timed(table, network, side):
    """Return images a step, and milliseconds a step."""
    work = "train" if "train" in table else "infer"
    with (TABLES / table).open(newline="") as file:
        for row in csv.DictReader(file):
            if (row["model"], int(row[f"{work}_img_size"])) == (network, side):
                batch = int(row[f"{work}_batch_size"])
                return batch, 1e3 * batch / float(row[f"{work}_samples_per_sec"])
    raise AssertionError(f"{table} has no {network} at {side} px")


@pytest.mark.skipif(not TABLES.exists(), reason="the public tables are not here")
@pytest.mark.parametrize(
    ("profile", "table", "network", "side"),
    [
        ("i7-12700h-fp32-compiled", CPU, "resnet50", 224),
        ("i7-12700h-fp32-compiled", CPU, "mobilenetv3_large_100", 224),
        ("i7-12700h-fp32-compiled", CPU, "vgg16", 224),
        ("i7-12700h-fp32-compiled", CPU, "regnety_004", 224),
        ("i7-12700h-fp32-compiled", CPU, "convnext_tiny", 288),
        ("rtx3090-train-amp-nhwc", TRAINING, "resnet50", 224),
        ("rtx3090-train-amp-nhwc", TRAINING, "gernet_s", 224),
        ("rtx3090-train-amp-nhwc", TRAINING, "hrnet_w18", 224),
    ],
)
def test_intervals_of_the_shipped_profiles_hold_public_timings(profile, table, network, side):
    batch, milliseconds = timed(table, network, side)
    found = cs.predict(network, profile=profile, batch_size=batch, resolution=side, coverage=0.95)
    low, high = found.interval_ms
    assert low <= milliseconds <= high


@pytest.mark.parametrize("name", ["i7-12700h-fp32-compiled", "rtx3090-train-amp-nhwc"])
def test_shipped_profiles_say_their_errors_and_miss_less_than_simple_models(name):
    profile = cs.profile(name)
    protocols = {errors.protocol: errors for errors in profile.errors}
    assert set(protocols) == {"families", "super-families"}
    for errors in protocols.values():
        assert errors.mape_pct < min(errors.baselines_mape_pct.values())
    excluded = len(profile.excluded)
    assert excluded <= 0.03 * (excluded + protocols["families"].networks)
    if profile.execution.hardware == "cpu":  # what the project promises of this table
        assert protocols["families"].mape_pct <= 12
        assert protocols["families"].within_10_pct >= 52
        assert protocols["families"].groups >= 40


SHIPPED = (
    "rtx3090-amp-nchw",
    "rtx3090-amp-nhwc",
    "rtx4090-amp-nhwc",
    "i7-12700h-fp32-compiled",
    "rtx3090-train-amp-nhwc",
)


@pytest.mark.parametrize("name", SHIPPED)
def test_intervals_cover_left_out_families_within_five_points_of_what_they_say(name):
    families = next(one for one in cs.profile(name).errors if one.protocol == "families")
    assert set(families.covered_pct) >= {"0.5", "0.8", "0.9", "0.95"}
    for stated, share in families.covered_pct.items():
        assert share == pytest.approx(100 * float(stated), abs=5.0)


@pytest.mark.parametrize("name", SHIPPED[:3])
def test_shipped_profiles_are_less_sure_of_operators_that_few_families_run(name):
    """Batch norms, activations and sums are in most of timm's convolutional networks."""
    errors = cs.profile(name).doubts.classes
    few = mean(errors[one] for one in ("group norm", "matrix product", "sum"))
    most = mean(errors[one] for one in ("batch norm", "relu", "elementwise"))
    assert few > 2 * most
