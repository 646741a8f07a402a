"""The runtime model of training steps: laws that any coefficients obey."""

from __future__ import annotations

import pytest

from convscale.complexity.calls import Geometry, OperatorCall
from convscale.complexity.operators import record_network
from convscale.network import resolve_base
from convscale.prediction import (
    Execution,
    coefficients_of,
    network_seconds,
    operator_seconds,
    workload,
)

RUN = Execution(layout="nhwc", work="training")
VALUES = coefficients_of(RUN)


def convolution(ins, outs, side, *, kernel=1, groups=1):
    geometry = Geometry(ins, outs, side * side, (kernel, kernel), (1, 1), groups)
    kind = "convolution 1x1" if kernel == 1 else "convolution kxk"
    if groups > 1:
        kind = "convolution depthwise" if groups == ins else "convolution grouped"
    weights = geometry.flops // geometry.rows
    return OperatorCall(
        "conv",
        "aten.convolution",
        kind,
        flops=geometry.flops,
        bytes_read=ins * side * side + weights,
        bytes_written=outs * side * side,
        weight_bytes=weights,
        geometry=geometry,
    )


def seconds(*calls, run=RUN, values=VALUES, batch=64):
    return float(operator_seconds(workload(calls), values, run, batch).sum())


@pytest.mark.parametrize("name", ["resnet18", "regnety_004", "mobilenetv3_small_050"])
def test_a_step_takes_longer_when_any_coefficient_grows(name):
    operators = record_network(resolve_base(f"timm:{name}"), dtype="float8")
    work = workload(operators.calls)
    before = float(network_seconds(work, VALUES, RUN, 32))
    for slower in VALUES:
        more = float(network_seconds(work, {**VALUES, slower: 1.5 * VALUES[slower]}, RUN, 32))
        assert more >= before * (1 - 1e-12), slower


def test_weights_cost_the_same_whatever_the_batch():
    """Two batches differ by images alone: what is left of one for no image are the weights."""
    call = convolution(512, 512, 7)
    values = {**VALUES, "launch": 1e-9, "multiply": 1e-15}
    one, two, three = (seconds(call, values=values, batch=batch) for batch in (1, 2, 3))
    assert two - one == pytest.approx(three - two)
    # 4 bytes a weight, each as dear as `weights` bytes moved
    assert 2 * one - two == pytest.approx(512 * 512 * 4 * 8 * VALUES["memory"] * 1e-9, rel=1e-6)


def test_a_large_product_runs_at_the_rate_of_its_class():
    call = convolution(4096, 4096, 64)
    values = {**VALUES, "memory": 1e-12, "launch": 1e-9, "multiply": 1e-3}
    losses = (1 + 16 / 4096) ** 2  # half the rate at 16 outputs, and at 16 products
    assert seconds(call, values=values, batch=1) == pytest.approx(call.flops * 1e-12 * losses)


def test_a_step_is_no_shorter_than_its_launches():
    call = OperatorCall("a", "aten.relu", "activation", bytes_read=64, bytes_written=64)
    values = {**VALUES, "launch": 7.0}
    assert seconds(*[call] * 100, values=values, batch=1) == pytest.approx(100 * 7e-6, rel=1e-3)


def test_few_groups_and_narrow_groups_cost_more_a_flop():
    def rate(width, groups):
        call = convolution(width * groups, width * groups, 28, kernel=3, groups=groups)
        return seconds(call, values={**VALUES, "memory": 1e-12}) / call.flops

    assert rate(32, 2) > rate(32, 8) > rate(32, 32)
    assert rate(2, 32) > rate(4, 32) > rate(8, 32)


def test_half_precision_halves_what_activations_move():
    call = OperatorCall("a", "aten.relu", "activation", bytes_read=10**7, bytes_written=10**7)
    full, half = (Execution(work="training", dtype=dtype) for dtype in ("float32", "float16"))
    assert seconds(call, run=full) == pytest.approx(2 * seconds(call, run=half), rel=1e-3)
