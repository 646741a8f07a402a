"""Fusion: graphs whose kernels are counted by hand, laws on real networks."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from convscale.complexity.calls import KINDS
from convscale.complexity.operators import record_network
from convscale.errors import InputError
from convscale.network import resolve_base
from convscale.prediction import fused, kernels, workload

SIDE = 8
AREA = SIDE * SIDE


def fused_kernels(module, channels=4):
    """Return the kernels of a module behind a convolution: kind, elements read and written."""
    network = resolve_base(nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False), module))
    before = workload(record_network(network, resolution=SIDE).calls, item_bytes=4)
    after = fused(before)
    found = []
    for members in map(list, kernels(before)):
        (lead,) = (place for place in members if after.launches[place])
        moved = after.read[members].sum(), after.written[members].sum()
        found.append((KINDS[after.kind[lead]], *map(float, moved)))
    return found


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
    for same in ("flops", "weights", "elements", "repeats", "rows"):
        assert np.array_equal(getattr(after, same), getattr(before, same))
    for moved in ("read", "written"):
        assert np.all(getattr(after, moved) <= getattr(before, moved) * (1 + 1e-12))
        assert getattr(after, moved).sum() < getattr(before, moved).sum()
    assert after.launches.sum() == len(kernels(before)) < before.operators
    products = before.flops > 0
    assert np.all(after.launches[products] == 1)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_operator_is_in_one_kernel_and_runs_after_what_it_reads(name):
    found = workload(record_network(resolve_base(f"timm:{name}")).calls)
    turn = {}
    for number, members in enumerate(kernels(found)):
        assert not turn.keys() & set(members)
        turn |= dict.fromkeys(members, number)
    assert set(turn) == set(range(found.operators))
    for reader, sources in enumerate(found.sources):
        assert all(turn[writer] <= turn[reader] for writer in sources)


def test_the_norm_and_the_activation_of_resnet18_cost_no_kernel_of_their_own():
    # 20 convolutions, the classifier, and for each convolution one kernel of norms, additions
    # and activations but for the three shortcuts'; the pooling; the last mean joins its block
    found = kernels(workload(record_network(resolve_base("timm:resnet18")).calls))
    assert len(found) == 20 + 1 + 20 - 3 + 1


def test_candidates_are_fused_together():
    found = workload(record_network(resolve_base("timm:resnet18")).calls, item_bytes=4)
    arrays = {name: getattr(found, name) for name in ("flops", "read", "written", "weights")}
    both = {name: np.stack([array, 2 * array], axis=1) for name, array in arrays.items()}
    many = fused(replace(found, **both))
    alone = fused(found)
    for name in arrays:
        assert np.array_equal(getattr(many, name)[:, 0], getattr(alone, name))
        assert np.array_equal(getattr(many, name)[:, 1], 2 * getattr(alone, name))


def test_a_workload_without_sources_is_refused():
    found = workload(record_network(resolve_base("timm:resnet18")).calls)
    with pytest.raises(InputError, match="fusion needs those of each"):
        fused(found.only(found.flops > 0))
