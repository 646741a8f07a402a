"""Times of many candidates at once, against the same form applied to one network at a time."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

import convscale as cs
from convscale import families
from convscale.errors import InputError
from convscale.prediction.described import described_workload
from convscale.prediction.execution import Execution
from convscale.prediction.form import coefficients_of, network_seconds
from convscale.prediction.fusion import executed
from convscale.prediction.many import many_seconds
from convscale.prediction.predict import predicted
from convscale.prediction.predictions import predict_many
from convscale.prediction.profile import Doubts, Seen
from convscale.prediction.workload import workload
from tests.device_profiles import hand_made
from tests.test_described import recorded
from tests.test_paper_modules import random_anynet, random_efficientnet
from tests.test_scaled_many import shares

RUNS = (
    Execution(),
    Execution(layout="nhwc"),
    Execution(dtype="float16"),
    Execution(mode="compiled"),
    Execution("cpu", "nchw", "compiled", "inference", "float32"),
    Execution("gpu", "nhwc", "eager", "training", "amp"),
)
BASES = ("RegNetX-400MF", "RegNetY-400MF", "RegNetZ-500MF", "ResNet-18", "ResNet-50", "MobileNetV2")


def coefficients(run, seed=0):
    """Positive numbers near those that a fit starts from, none like another."""
    draw = random.Random(seed)
    return {name: value * draw.uniform(0.5, 2) for name, value in coefficients_of(run).items()}


def alone(net, run, batch):
    work = executed(described_workload(net), run)
    return float(network_seconds(work, coefficients(run), run, batch))


def like(net, rows):
    """Other networks as candidates of a family."""
    names = ["depths", "widths"]
    if isinstance(net, families.AnyNet):
        names += ["group_widths", "bottleneck_multipliers"]
    return families.read_candidates(net, **{n: [getattr(row, n) for row in rows] for n in names})


@pytest.mark.parametrize("run", RUNS, ids=lambda run: f"{run.mode} {run.layout} {run.dtype}")
def test_many_random_networks_take_as_long_as_each(run):
    draw = random.Random(11)
    for index in range(10):
        make = random_anynet if index % 3 else random_efficientnet
        net, rows = make(draw), []
        while len(rows) < 8:
            other = make(draw)
            alike = len(other.depths) == len(net.depths)
            if alike and getattr(other, "block", None) == getattr(net, "block", None):
                rows.append(other)
        found = like(net, rows)
        many = many_seconds(found, coefficients(run), run, 32)
        expected = [alone(found.description(row), run, 32) for row in range(len(rows))]
        assert many.tolist() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", [*BASES, "EfficientNet-B0"])
def test_many_scaled_networks_take_as_long_as_each(name):
    draw, net = random.Random(name), families.named(name)
    rows = shares(draw, 30)
    found = families.scale_many(net, rows, factor=[draw.uniform(0.2, 9) for _ in rows])
    for run in (RUNS[0], RUNS[4]):
        many = many_seconds(found.candidates, coefficients(run), run, 4)
        expected = [alone(found.description(row), run, 4) for row in range(len(found))]
        assert many.tolist() == pytest.approx(expected, rel=1e-9)


def test_networks_with_and_without_last_stages_take_as_long_as_each():
    net = families.named("RegNetY-400MF")
    depths = [(1, 3, 6, 6), (2, 1, 1, 0), (1, 0, 0, 0), (1, 3, 6, 1)]
    found = families.read_candidates(
        net, depths=depths, widths=[net.widths] * 4, group_widths=net.group_widths
    )
    many = many_seconds(found, coefficients(RUNS[0]), RUNS[0], 8)
    expected = [alone(found.description(row), RUNS[0], 8) for row in range(4)]
    assert many.tolist() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", [*BASES, "EfficientNet-B0"])
@pytest.mark.parametrize("run", [RUNS[0], RUNS[4]], ids=["eager", "compiled"])
def test_a_description_takes_as_long_as_its_module(name, run):
    net = families.named(name)
    work = executed(recorded(net), run)
    built = float(network_seconds(work, coefficients(run), run, 16))
    assert alone(net, run, 16) == pytest.approx(built, rel=1e-9)


@pytest.mark.parametrize("run", RUNS, ids=lambda run: f"{run.mode} {run.layout} {run.dtype}")
def test_layers_that_read_as_few_channels_as_an_image_take_as_long_as_each(run):
    net = families.named("ResNet-50")
    widths = [(8, 16, 24, 256), (256, 8, 16, 8), net.widths, (16, 24, 24, 24)]
    inner = [[width // 4 for width in row] for row in widths]
    found = families.read_candidates(
        net,
        depths=[net.depths] * 4,
        widths=widths,
        group_widths=inner,
        bottleneck_multipliers=0.25,
        stem_widths=[4, 64, 64, 3],
    )
    many = many_seconds(found, coefficients(run), run, 8)
    expected = [alone(found.description(row), run, 8) for row in range(4)]
    assert many.tolist() == pytest.approx(expected, rel=1e-9)


def test_a_step_takes_what_its_operators_take_and_more_where_one_is_added():
    """A block more in a stage adds the same time each: its operators, whatever the depth."""
    net, run = families.named("ResNet-18"), RUNS[0]
    depths = [(2, depth, 2, 2) for depth in (2, 3, 4, 9)]
    many = many_seconds(
        like(net, [replace(net, depths=d) for d in depths]), coefficients(run), run, 8
    )
    one, two, seven = np.diff(many[[0, 1]]), np.diff(many[[1, 2]]), np.diff(many[[0, 3]])
    assert one > 0
    assert two == pytest.approx(one, rel=1e-9)
    assert seven == pytest.approx(7 * one, rel=1e-9)


def test_no_candidates_take_no_time():
    net = families.named("ResNet-18")
    none = np.zeros((0, 4), int)
    found = families.read_candidates(net, depths=none, widths=none)
    assert many_seconds(found, coefficients(RUNS[0]), RUNS[0], 8).shape == (0,)
    assert workload([]).operators == 0


def profile(**changes):
    run = changes.pop("execution", RUNS[0])
    return hand_made(execution=run, coefficients=coefficients(run), **changes)


NARROW = Seen((64, 128), (160.0, 200.0), (1e9, 2e9), (8.0, 300.0), ("linear", "norm", "activation"))


def unsure(run, seed=3):
    """Errors of the classes of a form, none like another; of some nothing is known."""
    draw = random.Random(seed)
    classes = sorted({name.partition(".")[2] for name in coefficients_of(run) if "." in name})
    known = draw.sample(classes, len(classes) * 3 // 4)
    return Doubts(0.03, {name: draw.uniform(0.001, 0.2) for name in ["once a pass", *known]})


@pytest.mark.parametrize("seen", [hand_made().seen, NARROW], ids=["inside", "outside"])
@pytest.mark.parametrize("run", RUNS, ids=lambda run: f"{run.mode} {run.layout} {run.dtype}")
@pytest.mark.parametrize("name", ["RegNetY-400MF", "MobileNetV2", "ResNet-18", "EfficientNet-B0"])
def test_many_predictions_are_those_one_by_one(name, run, seen):
    draw, net = random.Random(name), families.named(name)
    rows = shares(draw, 20)
    many = families.scale_many(net, rows, factor=[draw.uniform(0.2, 9) for _ in rows]).candidates
    given = profile(seen=seen, execution=run, doubts=unsure(run))
    found = predict_many(many, profile=given, batch_size=48, coverage=0.85)
    if seen is not NARROW:
        assert np.ptp(found.interval_ms[1] / found.latency_ms) > 1e-4
    for row in range(20):
        one = many.description(row)
        expected = predicted(
            described_workload(one),
            given,
            network=name,
            resolution=one.resolution,
            batch_size=48,
            coverage=0.85,
        )
        assert found.latency_ms[row] == pytest.approx(expected.latency_ms, rel=1e-9)
        interval = [bound[row] for bound in found.interval_ms]
        assert interval == pytest.approx(expected.interval_ms, rel=1e-9)
        assert found.images_per_second[row] == pytest.approx(expected.images_per_second, rel=1e-9)


@pytest.mark.parametrize("name", ["RegNetY-400MF", "EfficientNet-B0"])
def test_predictions_of_descriptions_are_those_of_their_modules(name):
    net, given = families.named(name), profile()
    module = cs.build(net, weights=False)
    built = cs.predict(module, profile=given, batch_size=8, resolution=net.resolution)
    found = predict_many(like(net, [net]), profile=given, batch_size=8)
    assert found.latency_ms[0] == pytest.approx(built.latency_ms, rel=1e-9)
    assert [bound[0] for bound in found.interval_ms] == pytest.approx(built.interval_ms, rel=1e-9)
    one = cs.predict(name, profile=given, batch_size=8)
    assert one.latency_ms == pytest.approx(built.latency_ms, rel=1e-9)
    assert one.shares == pytest.approx(built.shares, rel=1e-9)
    assert (one.network, one.resolution, one.notes) == (name, built.resolution, built.notes)


def test_a_name_with_options_is_predicted_in_closed_form_with_them():
    given = profile()
    asked = {"num_classes": 10, "in_chans": 1, "resolution": (96, 128)}
    one = cs.predict("ResNet-18", profile=given, batch_size=8, **asked)
    net = replace(families.named("ResNet-18"), num_classes=10, in_chans=1)
    module = cs.build(net, weights=False)
    built = cs.predict(module, profile=given, batch_size=8, resolution=(96, 128))
    assert one.latency_ms == pytest.approx(built.latency_ms, rel=1e-9)
    assert one.resolution == built.resolution


def test_kinds_that_only_some_run_widen_the_intervals_of_these_alone():
    """Without squeeze-and-excitation or a second block nothing of MobileNetV2 is added up."""
    net = families.named("MobileNetV2")
    depths = [(1,) * 7, (1, 2, 1, 1, 1, 1, 1)]
    given = profile()
    kinds = tuple(kind for kind in given.seen.kinds if kind != "elementwise")
    found = predict_many(
        net,
        depths=depths,
        widths=[net.widths] * 2,
        profile=profile(seen=replace(given.seen, kinds=kinds)),
        batch_size=32,
    )
    assert found.widened.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"widths": None}, "Candidates need widths: an array each."),
        ({"profile": "none-such"}, "Unknown profile 'none-such'. .*"),
        ({"batch_size": 0}, "The batch size .*"),
        ({"coverage": 1.5}, "The coverage is 1.5; it must be below 1, such as 0.9."),
        ({"coverage": 0.99}, "The coverage is 0.99; mine has intervals from 0.5 to 0.95. .*"),
        ({"group_widths": [[5, 5, 5, 5]]}, "The group width 5 of stage 1 of candidate 0 .*"),
        ({"like": "RegNetX-400MF"}, "like is a str; it must be an AnyNet .*"),
    ],
)
def test_predictions_that_cannot_be_made_are_refused(given, message):
    net = families.named("RegNetX-400MF")
    asked = {"like": net, "profile": profile(), "group_widths": 16}
    asked |= {"depths": [net.depths], "widths": [net.widths], **given}
    with pytest.raises(InputError, match=f"^{message}$"):
        predict_many(asked.pop("like"), **asked)


def test_arrays_beside_candidates_are_refused():
    net = families.named("ResNet-18")
    found = like(net, [net])
    with pytest.raises(InputError, match="^The candidates have depths already. Leave them out.$"):
        predict_many(found, depths=[net.depths], profile=profile())
