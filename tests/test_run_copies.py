"""Copies that are run and thrown away: they share tensors without values, and nothing else."""

import pytest
import torch
from torch import nn

import convscale as cs
from convscale.network import resolve_base
from convscale.network.modules.copies import meta_copy
from convscale.scaling.scaler import Scaler


class Held(nn.Module):
    """A tensor that is registered, and stands in a list beside it."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, 4))
        self.register_buffer("steps", torch.tensor([2.0, 3.0]))
        self.every = [self.weight, {"again": self.steps}]


def test_a_copy_that_is_run_has_the_tensors_and_not_the_attributes():
    base = meta_copy(Held())
    copied = meta_copy(base, run=True)
    assert copied.weight is base.weight
    assert copied.every is not base.every
    assert copied.every[0] is copied.weight
    assert copied.every[1]["again"] is copied.steps
    copied.weight = nn.Parameter(torch.zeros(2, 2, device="meta"))
    assert base.weight.shape == (4, 4)


def test_what_has_values_is_never_shared():
    base = Held()
    copied = meta_copy(base, run=True)
    assert copied.weight.is_meta
    assert copied.every[0] is copied.weight


@pytest.mark.parametrize("name", ["timm:resnet18", "timm:efficientnet_b0"])
def test_networks_scaled_from_one_base_share_no_tensor_with_each_other(name):
    scaler = Scaler(resolve_base(name))
    found = [scaler.scale("dWr", factor=2, weights=False).module for _ in range(2)]
    owned = [
        {id(tensor) for tensor in one.parameters()} for one in (*found, scaler.blueprint.module)
    ]
    assert not owned[0] & owned[1]
    assert not (owned[0] | owned[1]) & owned[2]


def test_scaling_leaves_the_shapes_and_flags_of_its_base():
    scaler = Scaler(resolve_base("timm:resnet18"))
    own = scaler.blueprint.module
    before = {name: (tuple(p.shape), p.requires_grad) for name, p in own.named_parameters()}
    scaler.scale("dwr", factor=2, weights=False).module.requires_grad_(False)
    assert before == {name: (tuple(p.shape), p.requires_grad) for name, p in own.named_parameters()}
    assert cs.count(own, resolution=224).flops == cs.count("timm:resnet18").flops
