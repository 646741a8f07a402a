"""A run at another resolution tells as much as one that is followed, or says that it does not."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from convscale.network import resolve_base, trace_module
from convscale.network.modules.copies import meta_copy
from convscale.network.modules.pausing import collector_at_rest
from convscale.network.running.feeding import Feed
from convscale.network.tracing.rerun import Run, again
from convscale.network.tracing.trace import Trace
from convscale.scaling import resolve
from convscale.scaling.scaler import Scaler
from convscale.scaling.variants.closed_form import ClosedForm

NETWORKS = [
    ("timm:resnet18", 64, 90),
    ("timm:resnext50_32x4d", 64, 75),
    ("timm:mobilenetv3_large_100", 64, 91),
    ("timm:convnext_atto", 64, 91),
    ("timm:densenet121", 64, 96),
    ("timm:cspresnet50", 64, 80),
    ("timm:ghostnet_100", 64, 81),
    ("torchvision:shufflenet_v2_x1_0", 64, 96),
    ("torchvision:googlenet", 96, 128),
]


def both(module: nn.Module, base: int, resolution: int) -> tuple[Trace, Trace | None]:
    """Follow a run, and read it off one that was followed at the base resolution."""
    known = trace_module(meta_copy(module), base)
    followed = trace_module(meta_copy(module), resolution)
    copied = meta_copy(module)
    return followed, again(known, resolution, Run(copied, Feed(resolution)))


@pytest.mark.parametrize(("name", "base", "resolution"), NETWORKS)
def test_a_run_at_another_resolution_shows_what_following_it_shows(
    name: str, base: int, resolution: int
) -> None:
    followed, read = both(resolve_base(name).build("meta"), base, resolution)
    if read is None:  # parts that run in training alone are followed at every resolution
        assert name == "torchvision:googlenet"
        return
    for sizes in (followed.channels.sizes, 2 * followed.channels.sizes):
        assert ClosedForm(read).complexity(sizes) == ClosedForm(followed).complexity(sizes)
    assert np.array_equal(read.channels.group_of_unit, followed.channels.group_of_unit)
    assert np.array_equal(read.channels.fixed, followed.channels.fixed)
    assert read.output_shapes == followed.output_shapes
    assert read.calls == followed.calls
    assert read.compared == followed.compared
    assert read.kept == followed.kept
    assert _borders(read) == _borders(followed)
    assert _sizes(read) == _sizes(followed)


def _borders(trace: Trace) -> dict[str, object]:
    return {
        path: (border.order, border.input_shape, border.output_shape)
        for path, border in trace.borders.items()
    }


def _sizes(trace: Trace) -> dict[str, list[object]]:
    wider = 2 * trace.channels.sizes
    return {
        path: [call and (call.function, call.expected(trace.channels, wider)) for call in calls]
        for path, calls in trace.shaped.items()
    }


class Pooled(nn.Module):
    """Pool maps of more than 8 positions a side once more than others."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        if x.shape[-1] > 8:
            x = functional.max_pool2d(x, 2)
        return self.second(x)


class Flat(nn.Module):
    """Lay a map with its positions into one axis, which the code names."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        return x.view(x.shape[0], x.shape[1] * x.shape[2] * x.shape[3])


def test_a_run_of_other_operators_says_nothing() -> None:
    assert both(Pooled(), 8, 16)[1] is None
    assert both(Pooled(), 8, 9)[1] is not None


def test_a_run_that_names_channels_with_their_positions_says_nothing() -> None:
    assert both(Flat(), 8, 10)[1] is None


def test_a_run_of_other_weights_says_nothing() -> None:
    known = trace_module(nn.Conv2d(3, 8, 3, device="meta"), 8)
    other = nn.Conv2d(3, 8, 5, device="meta")
    assert again(known, 10, Run(other, Feed(10))) is None


def test_flops_at_another_resolution_are_those_of_the_formula() -> None:
    _, read = both(nn.Conv2d(3, 8, 3), 8, 10)
    assert read is not None
    assert read.terms[0].flops == 8 * 8 * 8 * 3 * 3 * 3


@collector_at_rest()
def _failing() -> None:
    assert not gc.isenabled()
    raise ValueError("inside")


def test_the_collector_goes_on_after_an_error() -> None:
    with pytest.raises(ValueError, match="inside"):
        _failing()
    assert gc.isenabled()


def test_a_collector_that_is_off_stays_off() -> None:
    gc.disable()
    try:
        with collector_at_rest():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.parametrize("network", ["resnet18", "mobilenetv3_small_050", "convnext_atto"])
def test_recorded_operators_of_another_side_are_those_of_a_run_that_is_followed_there(
    network: str,
) -> None:
    blueprint = Scaler(resolve(network, resolution=64), records=True).blueprint
    for side in (32, 96, 160):
        read = blueprint.variant(None, side)
        followed = Scaler(resolve(network, resolution=side), records=True).blueprint.base()
        assert read.traced.like is not None
        assert read.traced.sized is not None
        assert followed.traced.sized is not None
        for factor in (1.0, 1.5):
            widths = followed.rule.widths(factor)
            assert read.complexity(widths) == followed.complexity(widths)
            calls = read.traced.sized.at(read.sizes(widths))
            assert calls == followed.traced.sized.at(followed.sizes(widths))
