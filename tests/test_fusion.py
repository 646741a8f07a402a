"""Fusion: graphs whose kernels are counted by hand, laws on real networks."""

import numpy as np
import pytest
import torch
from torch import nn

from convscale.complexity.calls import KINDS
from convscale.complexity.operators import record_network
from convscale.errors import InputError
from convscale.network import resolve_base
from convscale.prediction import fused, workload

SIDE = 8
AREA = SIDE * SIDE


def fused_kernels(module, channels=4):
    network = resolve_base(nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False), module))
    calls = record_network(network, resolution=SIDE).calls
    found = fused(workload(calls, item_bytes=4))
    kinds = [KINDS[kind] for kind in found.kind]
    return list(zip(kinds, found.read.tolist(), found.written.tolist(), strict=True))


PRODUCT = ("convolution 1x1", 4 * AREA, 4 * AREA)


def test_a_norm_and_an_activation_are_one_kernel():
    chain = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.Hardswish()).eval()
    assert fused_kernels(chain) == [PRODUCT, ("norm", 4 * AREA, 4 * AREA)]


class Gated(nn.Module):
    """Squeeze and excitation, the gate made by a convolution."""

    def __init__(self):
        super().__init__()
        self.norm, self.gate = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1, bias=False)

    def forward(self, x):
        x = torch.relu(self.norm(x))
        return x * torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True)))


def test_a_mean_joins_what_makes_its_input_and_a_sigmoid_what_it_gates():
    assert fused_kernels(Gated().eval()) == [
        PRODUCT,
        ("norm", 4 * AREA, 4 * AREA + 4),  # norm, relu and mean; both results are read outside
        ("convolution 1x1", 4, 4),
        ("elementwise", 4 * AREA + 4, 4 * AREA),  # sigmoid and product
    ]


class Shortcut(nn.Module):
    """A residual block whose shortcut is a convolution with a norm."""

    def __init__(self):
        super().__init__()
        self.side, self.side_norm = nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4)
        self.first, self.norm = nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4)
        self.second, self.last_norm = nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4)

    def forward(self, x):
        y = torch.relu(self.norm(self.first(x)))
        y = self.last_norm(self.second(y))
        return torch.relu(self.side_norm(self.side(x)) + y)


def test_the_norm_of_a_shortcut_becomes_part_of_the_addition():
    found = fused_kernels(Shortcut().eval())
    joined = ("elementwise", 8 * AREA, 4 * AREA)  # both norms, the addition, the activation
    assert sorted(found) == sorted([PRODUCT] * 4 + [("norm", 4 * AREA, 4 * AREA), joined])


class Joined(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.after = nn.BatchNorm2d(4), nn.BatchNorm2d(8)

    def forward(self, x):
        return torch.relu(self.after(torch.cat([x, torch.relu(self.norm(x))], 1)))


def test_a_concatenation_is_written_by_what_makes_its_parts():
    found = fused_kernels(Joined().eval())
    assert [(read, written) for _, read, written in found[1:]] == [(4 * AREA, 8 * AREA)]


def test_what_a_window_slides_over_is_written_first():
    chain = nn.Sequential(nn.ReLU(), nn.MaxPool2d(2), nn.Sigmoid())
    found = fused_kernels(chain)
    assert found[:2] == [PRODUCT, ("activation", 4 * AREA, 4 * AREA)]
    kind, read, written = found[2]
    assert (kind, read) == ("pooling", 4 * AREA)
    # a quarter of the positions, and the indices (8 bytes) that PyTorch's operator puts out
    assert written >= AREA


class Centred(nn.Module):
    def forward(self, x):
        x = torch.relu(x)
        return torch.tanh(x - torch.sigmoid(x.mean((2, 3), keepdim=True)))


def test_what_is_larger_than_a_reduction_is_another_kernel():
    # relu, mean and sigmoid, the relu written for the difference; then all the rest
    assert [(read, written) for _, read, written in fused_kernels(Centred())[1:]] == [
        (4 * AREA, 4 * AREA + 4),
        (4 * AREA + 4, 4 * AREA),
    ]


NETWORKS = ("resnet18", "regnety_004", "ghostnet_100", "densenet121", "convnext_atto", "dla34")


@pytest.mark.parametrize("name", NETWORKS)
def test_fusion_leaves_products_and_removes_traffic(name):
    before = workload(record_network(resolve_base(f"timm:{name}")).calls, item_bytes=4)
    after = fused(before)
    assert after.operators < before.operators
    assert after.flops.sum() == before.flops.sum()
    assert after.weights.sum() == pytest.approx(before.weights.sum())
    for moved in ("read", "written"):
        assert getattr(after, moved).sum() < getattr(before, moved).sum()
    products = (kind.flops > 0 for kind in (before, after))
    first, second = products
    assert np.array_equal(np.sort(before.flops[first]), np.sort(after.flops[second]))


@pytest.mark.parametrize("name", NETWORKS)
def test_kernels_run_after_those_that_write_what_they_read(name):
    found = fused(workload(record_network(resolve_base(f"timm:{name}")).calls))
    assert len(found.sources) == found.operators
    for place, sources in enumerate(found.sources):
        assert all(source < place for source in sources)


@pytest.mark.parametrize("name", NETWORKS)
def test_fusing_twice_changes_nothing_that_products_do(name):
    once = fused(workload(record_network(resolve_base(f"timm:{name}")).calls))
    again = fused(once)
    assert again.flops.sum() == once.flops.sum()
    assert again.read.sum() <= once.read.sum() * (1 + 1e-12)


def test_candidates_are_fused_together():
    found = workload(record_network(resolve_base("timm:resnet18")).calls, item_bytes=4)
    arrays = {name: getattr(found, name) for name in ("flops", "read", "written", "weights")}
    both = {name: np.stack([array, 2 * array], axis=1) for name, array in arrays.items()}
    rest = ("kind", "rows", "inner", "outs", "groups", "kernel", "stride", "repeats", "sources")
    many = fused(type(found)(**both, **{name: getattr(found, name) for name in rest}))
    alone = fused(found)
    for name in arrays:
        assert np.array_equal(getattr(many, name)[:, 0], getattr(alone, name))
        assert np.array_equal(getattr(many, name)[:, 1], 2 * getattr(alone, name))


def test_a_workload_without_sources_is_refused():
    found = workload(record_network(resolve_base("timm:resnet18")).calls)
    with pytest.raises(InputError, match="fusion needs those of each"):
        fused(found.only(found.flops > 0))
