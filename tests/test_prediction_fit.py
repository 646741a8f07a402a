"""The runtime model: its laws, its derivatives, and coefficients that are found again."""

from dataclasses import replace

import numpy as np
import pytest

from convscale.complexity.calls import Geometry, OperatorCall
from convscale.errors import InputError
from convscale.prediction.classes import classes_of
from convscale.prediction.dual import Dual
from convscale.prediction.fitting import FitOptions, Timing, fit, fit_stack, predicted_seconds
from convscale.prediction.form import (
    Execution,
    coefficients_of,
    network_seconds,
    operator_costs,
    operator_seconds,
)
from convscale.prediction.law import COSTS, law_of
from convscale.prediction.stack import Stack
from convscale.prediction.store import profile_of
from convscale.prediction.workload import workload

RUNS = (
    Execution(),
    Execution(layout="nhwc"),
    Execution(dtype="float32", hardware="cpu"),
    Execution(work="training"),
)


def convolution(ins, outs, side, kernel=3, groups=1, stride=1):
    geometry = Geometry(ins, outs, side**2, (kernel, kernel), (stride, stride), groups)
    kind = "convolution kxk" if kernel > 1 else "convolution 1x1"
    if groups > 1:
        kind = "convolution depthwise" if groups == ins else "convolution grouped"
    weights = ins // groups * outs * kernel**2
    return OperatorCall(
        "conv",
        "aten.convolution",
        kind,
        flops=geometry.flops,
        bytes_read=ins * (side * stride) ** 2 + weights,
        bytes_written=outs * side**2,
        weight_bytes=weights,
        geometry=geometry,
    )


def pointwise(name, kind, size, reads=1):
    return OperatorCall("act", f"aten.{name}", kind, bytes_read=reads * size, bytes_written=size)


def network(generator):
    """A random chain of operators, as no family of networks has it."""
    calls = [convolution(3, 32, 112, stride=2)]
    for _ in range(int(generator.integers(4, 12))):
        width, side = int(generator.integers(2, 64)) * 8, int(generator.choice([7, 14, 28, 56]))
        groups = int(generator.choice([1, 1, width, width // 8]))
        kernel = (
            int(generator.choice([1, 3, 5, 7])) if groups > 1 else int(generator.choice([1, 3]))
        )
        calls.append(convolution(width, width, side, kernel, groups))
        calls.append(pointwise("native_batch_norm", "norm", width * side**2))
        calls.append(pointwise("relu_", "activation", width * side**2))
        calls.append(pointwise("add", "elementwise", width * side**2, reads=2))
    return workload(calls)


@pytest.mark.parametrize("run", RUNS)
def test_slopes_are_those_of_finite_differences(run):
    work = network(np.random.default_rng(0))
    values = coefficients_of(run)
    duals = {name: Dual.of(name, value) for name, value in values.items()}
    slopes = dict.fromkeys(values, 0.0)
    for _, seconds in operator_costs(work, duals, run, 64.0):
        for name, slope in seconds.slopes.items():
            slopes[name] += float(np.sum(slope))
    for name in values:
        ends = [
            operator_seconds(work, {**values, name: values[name] * np.exp(step)}, run, 64).sum()
            for step in (1e-5, -1e-5)
        ]
        assert slopes[name] == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5, abs=1e-12)


@pytest.mark.parametrize("run", RUNS)
def test_a_batch_twice_as_large_doubles_what_grows_with_it(run):
    work = network(np.random.default_rng(1))
    values = {**coefficients_of(run), "step": 0.0, "launch": 0.0, "weights": 0.0}
    values |= {name: 0.0 for name in values if name.startswith(("wave.", "rows"))} | {
        "uncached": 0.0
    }
    one, two = (operator_seconds(work, values, run, batch) for batch in (16, 32))
    assert np.allclose(two, 2 * one, rtol=1e-12)


@pytest.mark.parametrize("run", RUNS)
def test_time_grows_with_the_batch_and_with_every_coefficient(run):
    work = network(np.random.default_rng(2))
    values = coefficients_of(run)
    before = float(network_seconds(work, values, run, 32))
    assert float(network_seconds(work, values, run, 33)) > before
    for name in values:
        more = float(network_seconds(work, {**values, name: 1.1 * values[name]}, run, 32))
        assert more <= before if name == "cache" else more >= before, name


def test_one_operator_takes_what_its_roofline_says():
    call = pointwise("relu_", "activation", 1000)
    run, values = Execution(dtype="float32"), coefficients_of(Execution())
    values |= {"memory": 2.0, "memory.relu": 3.0, "uncached": 0.0, "launch": 5.0, "step": 7.0}
    # 2·1000 elements of 4 bytes an image, at 2·3 ns a byte, 10 images; 5 µs, and 7 µs a step
    expected = 2 * 1000 * 4 * 6e-9 * 10 + 5e-6
    assert operator_seconds(workload([call]), values, run, 10).sum() == pytest.approx(expected)
    whole = float(network_seconds(workload([call]), values, run, 10))
    assert whole == pytest.approx(expected + 7e-6)


def test_candidates_take_what_they_take_one_by_one():
    generator = np.random.default_rng(3)
    calls = [[convolution(8 * n, 16 * n, 14, groups=1), convolution(8, 8 * n, 7)] for n in (1, 3)]
    works = [workload(own) for own in calls]
    names = ("flops", "read", "written", "weights", "rows", "inner", "outs", "elements")
    stacked = {name: np.stack([getattr(one, name) for one in works], axis=1) for name in names}
    same = ("repeats", "groups", "kernel", "stride", "launches")
    ones = {name: getattr(works[0], name)[:, None] for name in same}
    both = replace(works[0], **stacked, **ones)
    run = Execution()
    values = {
        name: value * generator.uniform(0.5, 2) for name, value in coefficients_of(run).items()
    }
    together = network_seconds(both, values, run, 64)
    alone = [float(network_seconds(one, values, run, 64)) for one in works]
    assert together.tolist() == pytest.approx(alone, rel=1e-12)


@pytest.mark.parametrize("run", RUNS)
def test_timings_made_from_known_coefficients_are_met_within_two_percent(run):
    generator = np.random.default_rng(4)
    truth = {
        name: value * float(np.exp(generator.normal(0, 0.4)))
        for name, value in coefficients_of(run).items()
    } | {"multiply": 2e-4, "memory": 5e-3}
    works = [network(generator) for _ in range(120)]
    timings = [
        Timing(
            f"net{n}", f"family{n % 20}", work, 256, float(network_seconds(work, truth, run, 256))
        )
        for n, work in enumerate(works)
    ]
    found = fit(timings[:90], run, options=FitOptions(ridge=1e-6))  # hardly held to its start
    unseen = Stack.of(timings[90:])
    misses = predicted_seconds(unseen, found, run) / unseen.seconds - 1
    assert np.abs(misses).mean() < 0.02


def test_a_wild_timing_hardly_moves_the_others():
    generator = np.random.default_rng(5)
    run, truth = Execution(), {**coefficients_of(Execution()), "multiply": 1e-4}
    works = [network(generator) for _ in range(40)]
    seconds = [float(network_seconds(work, truth, run, 256)) for work in works]
    timings = [
        Timing("a", f"f{n}", w, 256, s) for n, (w, s) in enumerate(zip(works, seconds, strict=True))
    ]
    wild = [*timings[:-1], Timing("a", "f39", works[-1], 256, 10 * seconds[-1])]
    stack = Stack.of(timings[:-1])
    moved = [predicted_seconds(stack, fit(own, run), run) for own in (wild, timings[:-1])]
    assert np.abs(moved[0] / moved[1] - 1).max() < 0.05


def test_equal_operators_of_a_network_stand_once_and_count_as_often():
    call = pointwise("relu_", "activation", 640)
    run = Execution()
    stack = Stack.of([Timing("a", "b", workload([call, call, call]), 8, 1e-3)])
    assert stack.work.operators == 1
    whole = float(network_seconds(workload([call] * 3), coefficients_of(run), run, 8))
    assert predicted_seconds(stack, coefficients_of(run), run)[0] == pytest.approx(whole)


def test_some_of_a_stack_are_what_they_are_alone():
    generator = np.random.default_rng(6)
    run = Execution()
    timings = [Timing("a", f"f{n % 3}", network(generator), 64, 1.0) for n in range(6)]
    which = np.array([True, False, True, True, False, False])
    part = Stack.of(timings).only(which)
    alone = Stack.of([one for one, keep in zip(timings, which, strict=True) if keep])
    values = coefficients_of(run)
    assert np.allclose(predicted_seconds(part, values, run), predicted_seconds(alone, values, run))
    assert np.allclose(part.weights, alone.weights)
    assert fit_stack(part, run) == pytest.approx(fit_stack(alone, run))


def test_an_unknown_condition_is_refused_with_what_there_is():
    with pytest.raises(InputError, match="Unknown layout 'nwhc'. Use nchw, nhwc."):
        Execution(layout="nwhc")


def test_kernels_of_depthwise_convolutions_are_classes_by_side_and_stride():
    calls = [convolution(64, 64, 14, side, 64, stride) for side, stride in SIDES]
    found = [list(classes_of(workload([call]), "nhwc")) for call in calls]
    assert found == [
        ["depthwise 3 last"],
        ["depthwise 3 strided last"],
        ["depthwise 5 last"],
        ["depthwise 7 strided last"],
        ["depthwise larger last"],
    ]


SIDES = ((3, 1), (3, 2), (5, 1), (7, 2), (9, 1))


def test_a_kernel_that_is_not_square_is_a_class_of_its_own():
    call = convolution(64, 64, 14, 3, 64)
    line = replace(call, geometry=replace(call.geometry, kernel=(1, 5)))
    assert list(classes_of(workload([line]))) == ["depthwise oblong"]


def test_interpolating_few_positions_takes_as_long_as_many_of_as_many_channels():
    run = Execution()
    values = {**coefficients_of(run), "launch": 1e-12, "memory.bilinear": 1e-12}
    few, many = (
        operator_seconds(workload([interpolation(64, side)]), values, run, 8).sum()
        for side in (7, 14)
    )
    # both loop over 64 channels of 8 images, with a byte's time of 5e5 bytes in each
    assert few == pytest.approx(64 * 8 * 5e5 * values["serial"] * values["memory"] * 1e-9)
    assert many == pytest.approx(few)


def interpolation(channels, side):
    size = channels * side**2
    return OperatorCall(
        "up",
        "aten.upsample_bilinear2d",
        "resizing",
        bytes_read=size // 4,
        bytes_written=size,
        output_shapes=((1, channels, side, side),),
    )


def test_a_strided_depthwise_convolution_of_few_channels_is_faster_by_its_factor():
    run = Execution(layout="nhwc")
    values = {**coefficients_of(run), "launch": 1e-12, "weights": 1e-12, "cache": 1e-12}
    per_channel = [
        float(operator_seconds(workload([call]), values, run, 8).sum()) / width
        for width in (64, 128)
        for call in [convolution(width, width, 14, 3, width, 2)]
    ]
    assert per_channel[0] == pytest.approx(values["narrow.strided"] * per_channel[1], rel=1e-3)


def test_a_strided_depthwise_convolution_with_more_elements_than_32_bits_index_is_slower():
    run = Execution(layout="nhwc")
    values = {**coefficients_of(run), "launch": 1e-12, "weights": 1e-12, "uncached": 1e-12}
    work = workload([convolution(256, 256, 112, 3, 256, 2)])
    # what is read, 256 channels at 224 px, comes to 2^31 elements between 167 and 168 images
    below, above = (float(operator_seconds(work, values, run, n).sum()) / n for n in (167, 168))
    assert above == pytest.approx(values["huge"] * below, rel=1e-6)


@pytest.mark.parametrize(("channels", "side"), [(16, 14), (64, 4)])
def test_channels_first_few_channels_or_positions_get_the_slower_depthwise_kernel(channels, side):
    run = Execution(layout="nchw")
    flops_alone = {"launch": 1e-12, "weights": 1e-12, "memory": 1e-20}
    values = {**coefficients_of(run), **flops_alone}
    slow, fast = (
        float(operator_seconds(workload([call]), values, run, 8).sum()) / call.flops
        for call in (convolution(n, n, px, 3, n) for n, px in ((channels, side), (64, 14)))
    )
    assert slow == pytest.approx(values["native"] * fast, rel=1e-6)


@pytest.mark.parametrize("name", ["rtx3090-amp-nchw", "rtx3090-amp-nhwc", "rtx4090-amp-nhwc"])
def test_a_step_of_a_shipped_gpu_takes_less_than_a_millisecond_by_itself(name):
    assert profile_of(name).coefficients["step"] < 1000


def test_where_starting_kernels_takes_longer_than_running_them_it_decides():
    """Sixteen images of thirty kernels: the GPU runs them in no time, and waits for each."""
    run = Execution()
    call = OperatorCall("a", "aten.relu", "activation", bytes_read=64, bytes_written=64)
    values = {**coefficients_of(run), "host": 25.0, "step": 0.0, "launch": 1.0}
    seconds = float(network_seconds(workload([call] * 30), values, run, 16))
    assert seconds == pytest.approx(30 * 25e-6, rel=1e-6)
    large = float(network_seconds(workload([call] * 30), values, run, 10**9))
    alone = float(network_seconds(workload([call] * 30), {**values, "host": 1e-9}, run, 10**9))
    assert large == pytest.approx(alone, rel=1e-9)  # and never adds to what the GPU needs


@pytest.mark.parametrize("batch", [1, 300, 10**6])
def test_all_costs_twice_are_all_times_twice(batch):
    run, work = Execution(), network(np.random.default_rng(1))
    once = coefficients_of(run)
    twice = once | {name: 2 * once[name] for name in COSTS}
    assert float(network_seconds(work, twice, run, batch)) == pytest.approx(
        2 * float(network_seconds(work, once, run, batch))
    )


@pytest.mark.parametrize("batch", [1, 300, 10**6])
def test_logarithms_of_times_follow_coefficients_as_finite_differences_say(batch):
    run = Execution()
    call = OperatorCall("a", "aten.relu", "activation", bytes_read=6400, bytes_written=6400)
    stack = Stack.of([Timing("net", "nets", workload([call] * 40), batch, 1e-3)])
    law, values = law_of(stack, run), coefficients_of(run)
    _, slopes = law(values)
    for name, slope in zip(values, slopes[0], strict=True):
        up, down = (law({**values, name: values[name] * np.exp(by)})[0] for by in (1e-5, -1e-5))
        assert slope == pytest.approx(float((up - down)[0]) / 2e-5, rel=1e-5, abs=1e-9)
    assert np.allclose(np.exp(law(values)[0]), predicted_seconds(stack, values, run))
