"""Workloads of paper families in closed form, against those of their built modules."""

from __future__ import annotations

import random
from dataclasses import fields, replace

import numpy as np
import pytest

from convscale import families
from convscale.complexity.operators import record_network
from convscale.network import resolve_base
from convscale.prediction.described import described_workload
from convscale.prediction.flow import Flow
from convscale.prediction.fusion import fused
from convscale.prediction.workload import QUANTITIES, workload
from tests.test_paper_modules import random_anynet, random_efficientnet

NAMES = (
    "RegNetX-400MF",
    "RegNetY-4.0GF",
    "RegNetZ-500MF",
    "ResNet-18",
    "ResNet-50",
    "ResNeXt-50-32x4d",
    "EfficientNet-B0",
    "EfficientNet-B3",
    "MobileNetV2",
)
HELD = tuple(field.name for field in fields(Flow))[1:]


def recorded(net, resolution=None):
    """The operators of the built network; a byte is an element."""
    operators = record_network(resolve_base(net), resolution=resolution, dtype="float8")
    return workload(operators.calls)


def lines(work):
    """All operators in any order, repeated ones as often as they run."""
    columns = [getattr(work, name) for name in ("kind", *QUANTITIES) if name != "repeats"]
    if work.flow is not None:
        columns += [np.array([hash(name) for name in work.flow.names])]
        columns += [getattr(work.flow, name) for name in HELD]
    table = np.stack(np.broadcast_arrays(*columns), axis=1)
    table = np.repeat(table, work.repeats.astype(int), axis=0)
    return table[np.lexsort(table.T[::-1])]


@pytest.mark.parametrize("name", NAMES)
def test_every_operator_of_a_published_network_is_that_of_its_module(name):
    expected = recorded(families.named(name))
    found = described_workload(families.named(name))
    assert np.array_equal(lines(found), lines(expected))


def test_every_operator_of_a_random_network_is_that_of_its_module():
    draw = random.Random(7)
    for index in range(24):
        net = random_anynet(draw) if index % 3 else random_efficientnet(draw)
        expected = lines(recorded(net))
        assert np.array_equal(lines(described_workload(net)), expected), net


def test_operators_stand_in_the_order_of_the_pass_with_what_they_read():
    """Blocks that stand once make no difference where no stage has more than two."""
    draw = random.Random(3)
    for index in range(24):
        net = random_anynet(draw) if index % 3 else random_efficientnet(draw)
        depths = tuple(min(depth, 2) for depth in net.depths)
        net = replace(net, depths=(*depths[:-1], draw.randint(1, 3)))
        expected, found = recorded(net), described_workload(net)
        assert found.sources == expected.sources
        assert found.flow.names == expected.flow.names
        for name in ("kind", *QUANTITIES):
            given, wanted = getattr(found, name), getattr(expected, name)
            assert np.array_equal(np.broadcast_to(given.T, wanted.shape), wanted), name
        for name in HELD:
            assert np.array_equal(getattr(found.flow, name), getattr(expected.flow, name)), name


@pytest.mark.parametrize("name", NAMES)
def test_fused_kernels_of_a_description_are_those_of_its_module(name):
    net = families.named(name)
    assert np.array_equal(lines(fused(described_workload(net))), lines(fused(recorded(net))))
