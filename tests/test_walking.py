"""The walk over modules is PyTorch's, and building without values builds the same network."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from torch import nn

from convscale.network.modules.undrawn import Undrawn
from convscale.network.modules.walking import has_weights, walk
from convscale.network.sources.network import from_timm


def shared() -> nn.Module:
    mix = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU())
    net = nn.ModuleDict({"a": mix, "b": nn.Sequential(mix, mix[0]), "c": nn.Sequential()})
    net.register_module("none", None)
    return net


@pytest.mark.parametrize(
    "build",
    [
        shared,
        lambda: timm.create_model("hrnet_w18_small"),
        lambda: timm.create_model("repvgg_a0"),
        lambda: torchvision.models.get_model("deeplabv3_resnet50", weights_backbone=None),
    ],
)
def test_a_walk_is_that_of_pytorch(build):
    with torch.device("meta"):
        net = build()
    own = walk(net)
    wanted = list(net.named_modules())
    assert [path for path, _ in own] == [path for path, _ in wanted]
    assert all(one is other for (_, one), (_, other) in zip(own, wanted, strict=True))
    for _, part in wanted:
        assert has_weights(part) == (len(list(part.parameters())) > 0)


@pytest.mark.parametrize("name", ["convnext_atto", "regnetz_b16", "mobilevit_xxs"])
def test_a_network_built_without_values_has_the_shapes_of_the_one_with_them(name):
    blank = from_timm(name, {}).build("meta")
    full = timm.create_model(name)
    assert {key: t.shape for key, t in blank.state_dict().items()} == {
        key: t.shape for key, t in full.state_dict().items()
    }


def test_tensors_with_values_are_drawn():
    with Undrawn():
        layer = nn.Linear(4, 4)
        nn.init.constant_(layer.weight, 3.0)
        layer.bias.data.fill_(2.0).mul_(2)
    assert (layer.weight == 3).all()
    assert (layer.bias == 4).all()
