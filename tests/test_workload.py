"""A workload: the operators of a network as arrays, against its counts and its modules."""

import numpy as np
import pytest
import torch
from torch import nn

import convscale as cs
from convscale.complexity.calls import KINDS
from convscale.complexity.counting import count_network
from convscale.complexity.operators import record_network
from convscale.network import resolve_base
from convscale.prediction import workload

NETWORKS = ("timm:resnet18", "timm:regnety_004", "timm:ghostnet_100", "torchvision:densenet121")


@pytest.mark.parametrize("name", NETWORKS)
def test_flops_are_rows_times_products_times_outputs(name):
    network = resolve_base(name)
    found = workload(record_network(network).calls, item_bytes=4)
    assert found.flops.sum() == count_network(network).flops
    products = found.rows * found.inner * found.outs
    assert np.array_equal(found.flops, products)


def test_elements_are_those_of_the_tensors():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
    found = workload(record_network(resolve_base(net), resolution=16).calls, item_bytes=4)
    assert [KINDS[kind] for kind in found.kind] == ["convolution kxk", "activation"]
    assert found.read.tolist() == [3 * 256, 8 * 256]
    assert found.written.tolist() == [8 * 256, 8 * 256]
    assert found.weights.tolist() == [8 * 27 + 8, 0]


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

    def forward(self, x):
        y = self.first(x)
        return self.second(torch.relu(y)).view(-1, 3, 8, 8) + y


def test_sources_are_the_calls_that_wrote_what_is_read():
    calls = record_network(resolve_base(Residual()), resolution=8).calls
    assert [(call.operator, call.sources) for call in calls] == [
        ("aten.convolution", ()),
        ("aten.relu", (0,)),
        ("aten.convolution", (1,)),
        ("aten.add", (0, 2)),
    ]


@pytest.mark.parametrize("name", NETWORKS)
def test_every_operator_reads_what_an_earlier_one_wrote(name):
    calls = record_network(resolve_base(name)).calls
    for position, call in enumerate(calls):
        assert all(source < position for source in call.sources)
    starting = [call for call in calls if not call.sources]
    assert all(call.kind.startswith(("convolution", "padding", "constant")) for call in starting)


def test_a_number_to_the_power_of_a_tensor_is_recorded():
    class Wave(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return self.conv(x) * 10000 ** torch.arange(4, device=x.device).view(4, 1, 1)

    found = cs.operators(Wave(), resolution=8)
    assert "aten.pow" in {call.operator for call in found.calls}
    assert found.total.flops == cs.count(Wave(), resolution=8).flops
