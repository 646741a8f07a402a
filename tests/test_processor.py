"""The runtime model on CPUs: laws that any coefficients obey, and what a compiler saves."""

from __future__ import annotations

import numpy as np
import pytest

from convscale.complexity.calls import Geometry, OperatorCall
from convscale.complexity.operators import record_network
from convscale.network import resolve_base
from convscale.prediction import (
    Execution,
    coefficients_of,
    executed,
    network_seconds,
    operator_seconds,
    workload,
)

RUN = Execution("cpu", mode="compiled", dtype="float32")
VALUES = coefficients_of(RUN)
NETWORKS = ("resnet18", "regnety_004", "mobilenetv3_small_050", "convnext_atto", "ghostnet_100")


def recorded(name):
    operators = record_network(resolve_base(f"timm:{name}"), dtype="float8")
    return workload(operators.calls)


def convolution(ins, outs, side, *, kernel=1, groups=1, stride=1):
    geometry = Geometry(ins, outs, side * side, (kernel, kernel), (stride, stride), groups)
    kind = "convolution 1x1" if kernel == 1 else "convolution kxk"
    if groups > 1:
        kind = "convolution depthwise" if groups == ins else "convolution grouped"
    weights = geometry.flops // geometry.rows
    return OperatorCall(
        "conv",
        "aten.convolution",
        kind,
        flops=geometry.flops,
        bytes_read=ins * side * side * stride**2 + weights,
        bytes_written=outs * side * side,
        weight_bytes=weights,
        geometry=geometry,
    )


def seconds(*calls, run=RUN, values=VALUES, batch=1):
    return float(operator_seconds(workload(calls), values, run, batch).sum())


@pytest.mark.parametrize("name", NETWORKS)
def test_what_takes_time_takes_more_when_any_coefficient_grows(name):
    work = executed(recorded(name), RUN)
    before = float(network_seconds(work, VALUES, RUN, 1))
    for slower in VALUES:
        if slower == "cache":  # the more is held, the less is waited for
            continue
        more = float(network_seconds(work, {**VALUES, slower: 1.5 * VALUES[slower]}, RUN, 1))
        assert more >= before * (1 - 1e-12), slower


def test_times_double_when_all_coefficients_with_a_unit_double():
    work = executed(recorded("regnety_004"), RUN)
    units = ("multiply", "memory", "launch", "step")
    twice = {name: VALUES[name] * (2 if name in units else 1) for name in VALUES}
    one, two = (float(network_seconds(work, values, RUN, 4)) for values in (VALUES, twice))
    assert two == pytest.approx(2 * one)


def test_a_large_product_of_full_vectors_runs_at_the_rate_of_its_class():
    call = convolution(4096, 4096, 64)
    values = {**VALUES, "memory": 1e-12, "launch": 1e-12, "multiply": 0.01}
    # half the rate at 4 outputs, at 8 products and at 8 rows: all of them far away
    losses = (1 + 4 / 4096) * (1 + 8 / 4096) * (1 + 8 / 4096)
    assert seconds(call, values=values) == pytest.approx(call.flops * 0.01e-9 * losses)


def test_weights_are_read_once_a_batch_and_images_each():
    values = {**VALUES, "multiply": 1e-15, "launch": 1e-12, "uncached": 1e-12, "compute": 1e-12}
    call = convolution(64, 64, 32)
    one, two, three = (seconds(call, values=values, batch=batch) for batch in (1, 2, 3))
    moved = 2 * 64 * 32 * 32 * 4 * VALUES["memory"] * 1e-9
    assert two - one == pytest.approx(moved, rel=1e-6)
    assert three - two == pytest.approx(moved, rel=1e-6)
    weights = 64 * 64 * 4 * VALUES["memory"] * VALUES["weights"] * 1e-9
    assert one - moved == pytest.approx(weights, rel=1e-6)


def test_channels_that_do_not_fill_vectors_cost_more_a_flop():
    full, odd = (convolution(channels, channels, 28) for channels in (64, 60))
    assert seconds(odd) / odd.flops > seconds(full) / full.flops


def test_narrow_groups_cost_more_a_flop():
    def rate(width):
        call = convolution(64, 64, 28, kernel=3, groups=64 // width)
        return seconds(call) / call.flops

    assert rate(4) > rate(8) > rate(16) > rate(32)


def test_half_precision_moves_half_the_bytes():
    call = OperatorCall("a", "aten.relu", "activation", bytes_read=10**6, bytes_written=10**6)
    values = {**VALUES, "launch": 1e-12, "compute": 1e-12, "uncached": 1e-12}
    half = Execution("cpu", mode="compiled", dtype="bfloat16")
    full, less = (seconds(call, run=run, values=values) for run in (RUN, half))
    assert full == pytest.approx(2 * less, rel=1e-6)


@pytest.mark.parametrize("name", NETWORKS)
def test_compiled_execution_is_predicted_to_be_faster_than_eager(name):
    work = recorded(name)
    eager = Execution("cpu", dtype="float32")
    slow, fast = (
        float(network_seconds(executed(work, run), VALUES, run, 1)) for run in (eager, RUN)
    )
    assert fast < slow


def test_candidates_take_what_they_take_one_by_one():
    works = [workload([convolution(8 * n, 16 * n, 14, kernel=3)]) for n in (1, 3)]
    shared = ("kind", "sources", "flow")
    arrays = {
        name: np.stack([getattr(one, name) for one in works], axis=1)
        for name in vars(works[0])
        if name not in shared
    }
    both = type(works[0])(**arrays, **{name: getattr(works[0], name) for name in shared})
    together = network_seconds(both, VALUES, RUN, 2)
    assert together == pytest.approx([float(network_seconds(one, VALUES, RUN, 2)) for one in works])
