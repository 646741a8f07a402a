"""What single operators of a GPU take, by the closed form of each."""

import pytest
import torch
from timm.layers import LayerNorm2d
from torch import nn

from convscale.complexity.calls import Geometry, OperatorCall
from convscale.complexity.operators import record_network
from convscale.network import resolve_base
from convscale.prediction.flow import flow
from convscale.prediction.form import Execution, coefficients_of, operator_seconds
from convscale.prediction.workload import workload

SIZE = 10_000_000  # elements
UNCACHED = {"launch": 1e-12, "weights": 1e-12, "uncached": 1e-12}  # every byte takes as long
LAST = torch.channels_last


def pointwise(name, kind, *sources, reads=1, writes=1):
    return OperatorCall(
        "a",
        f"aten.{name}",
        kind,
        bytes_read=reads * SIZE,
        bytes_written=writes * SIZE,
        sources=sources,
    )


def seconds(calls, run, values):
    """Seconds of the last operator, for one image."""
    return float(operator_seconds(workload(calls), values, run, 1)[-1])


@pytest.mark.parametrize(("reads", "share"), [(1, 1 / 2), (4, 1 / 5)])
def test_an_average_pooling_takes_longer_the_more_of_what_it_moves_is_written(reads, share):
    """Of stride 1, and of stride 2: a window is read for every value that is written."""
    run = Execution(dtype="float16")
    values = coefficients_of(run) | UNCACHED
    found = seconds([pointwise("avg_pool2d", "pooling", reads=reads)], run, values)
    rate = values["memory"] * values["memory.average pooling"]
    assert found == pytest.approx(
        (reads + 1) * SIZE * 2 * rate * (1 + values["window"] * share) * 1e-9, rel=1e-6
    )


def test_a_group_norm_with_channels_last_costs_a_copy_by_its_own_factor():
    values = coefficients_of(Execution()) | UNCACHED
    call = pointwise("native_group_norm", "norm")
    last, first = (
        seconds([call], Execution(layout=layout, dtype="float16"), values)
        for layout in ("nhwc", "nchw")
    )
    copied = SIZE * 2 * 2 * values["moved"] * values["memory"] * 1e-9  # read and written
    assert last - first == pytest.approx(copied, rel=1e-6)


def test_a_batch_that_fills_the_cache_takes_half_of_what_not_fitting_costs():
    run = Execution(dtype="float16")
    values = coefficients_of(run) | UNCACHED | {"cache": 2.0, "uncached": 1.0}  # 20 MB
    call = OperatorCall("a", "aten.relu", "activation", bytes_read=5_000_000, bytes_written=0)
    batches = {n: float(operator_seconds(workload([call]), values, run, n).sum()) for n in (2, 200)}
    fits, large = (batches[n] / (n * 1e7 * values["memory"] * 1e-9) for n in (2, 200))
    assert fits == pytest.approx(1.5, rel=1e-3)
    assert large == pytest.approx(2.0, rel=1e-3)  # a hundred times as large: 1 + 1 / (1 + 1e-4)


def test_a_batch_norm_in_full_precision_is_slower_than_its_bytes_are_more():
    values = coefficients_of(Execution()) | UNCACHED
    half = [pointwise("mm", "linear"), pointwise("native_batch_norm", "norm", 0)]
    full = [pointwise("native_group_norm", "norm"), pointwise("native_batch_norm", "norm", 0)]
    one, other = (seconds(calls, Execution(), values) for calls in (half, full))
    assert other == pytest.approx(2 * one * (1 + values["norm.full"]), rel=1e-6)


def test_a_depthwise_filter_of_one_position_is_slower_by_its_factor():
    run = Execution(dtype="float16", layout="nhwc")
    plain = coefficients_of(run) | UNCACHED
    geometry = Geometry(256, 256, 56**2, (1, 1), (1, 1), 256)
    call = OperatorCall(
        "a",
        "aten.convolution",
        "convolution depthwise",
        flops=geometry.flops,
        bytes_read=256 * 56**2 + 256,
        bytes_written=256 * 56**2,
        weight_bytes=256,
        geometry=geometry,
    )
    times = [seconds([call], run, plain | {"single": slow}) for slow in (1e-12, 0.5)]
    assert times[1] == pytest.approx(1.5 * times[0], rel=1e-6)


class Branches(nn.Module):
    """A sum of a convolution's result and of a norm of it."""

    def __init__(self, norm):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 16, 1), norm

    def forward(self, x):
        x = self.conv(x)
        return x + self.norm(x)


def test_a_sum_of_tensors_that_are_laid_out_differently_is_told_as_pytorch_lays_them():
    """A norm over channels leaves them last in memory, whatever came."""
    for layout in (torch.contiguous_format, LAST):
        net = Branches(LayerNorm2d(16)).eval().to(memory_format=layout)
        with torch.no_grad():
            x = net.conv(torch.rand(2, 3, 8, 8).to(memory_format=layout))
            differs = x.stride() != net.norm(x).stride()
        found = flow(record_network(resolve_base(net), resolution=8, dtype="float32").calls)
        own = found.mixed_nhwc if layout == LAST else found.mixed
        assert bool(own[found.names.index("add")]) == differs == (layout != LAST)


def test_a_gate_of_one_position_has_no_layout_that_differs():
    net = nn.Sequential(nn.Conv2d(3, 16, 1), Gated())
    found = flow(record_network(resolve_base(net), resolution=8, dtype="float32").calls)
    assert not found.mixed.any()
    assert not found.mixed_nhwc.any()


class Gated(nn.Module):
    def forward(self, x):
        return x * x.mean((2, 3), keepdim=True)


def test_a_sum_of_layouts_takes_longer_by_its_factor():
    values = coefficients_of(Execution()) | UNCACHED
    calls = [
        pointwise("convolution", "convolution 1x1"),
        pointwise("native_group_norm", "norm", 0),
        pointwise("add", "elementwise", 0, 1, reads=2),
    ]
    last, first = (seconds(calls, Execution(layout=one), values) for one in ("nhwc", "nchw"))
    assert last == pytest.approx((1 + values["mixed"]) * first, rel=1e-6)
