"""Stochastic depth and dropout in any network: at the rates asked for, and nowhere else."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision.models as zoo
from torch import nn

import convscale as cs
from convscale.training.recipe import Recipe
from convscale.training.regularising import DropBranch, DropInputs, regularise
from convscale.training.subject import prepare

SHAPE = (2, 3, 64, 64)


def drop_paths(module):
    """Return the rates of timm's modules for it, by their paths."""
    return {
        path: part.drop_prob
        for path, part in module.named_modules()
        if type(part).__name__ == "DropPath" and part.drop_prob
    }


def trained(name, **knobs):
    return prepare(name, Recipe(**knobs), classes=10, resolution=64)


@pytest.mark.parametrize(
    "name", ["resnet18", "efficientnet_b0", "convnext_atto", "regnety_002", "resnest14d"]
)
def test_rates_grow_from_block_to_block_as_timms_do_and_reach_the_rate_in_the_last(name):
    own = drop_paths(timm.create_model(name, drop_path_rate=0.2))
    ours = drop_paths(trained(f"timm:{name}", drop_path=0.2).module)
    assert own.keys() == ours.keys()
    highest = max(own.values())  # 0.2, but of EfficientNets 0.2 · 15/16
    assert list(ours.values()) == pytest.approx(
        [0.2 * rate / highest for rate in own.values()], abs=1e-6
    )


def test_a_block_without_a_shortcut_gets_none():
    own = drop_paths(timm.create_model("repvgg_a0", drop_path_rate=0.2))
    assert drop_paths(trained("timm:repvgg_a0", drop_path=0.2).module).keys() == own.keys()


def test_rates_grow_with_the_scale_and_reach_the_blocks_that_were_added():
    found = trained("resnet18@d:2", drop_path=0.1, drop_path_growth=0.05)
    expected = found.regularised.drop_paths
    flops = {net: cs.count(net, resolution=64, num_classes=10).flops for net in ("resnet18",)}
    assert found.scale == pytest.approx(found.complexity.flops / flops["resnet18"])
    rates = list(drop_paths(found.module).values())
    assert len(rates) == 15  # 16 blocks, the first has the rate 0
    assert rates[-1] == pytest.approx(
        Recipe(drop_path=0.1, drop_path_growth=0.05).rates(found.scale)["drop_path"]
    )
    assert rates == pytest.approx([rates[-1] * index / 15 for index in range(1, 16)])
    assert list(expected.values()) == rates


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("torchvision:resnet18", 8),
        ("torchvision:resnet50", 16),
        ("torchvision:regnet_y_400mf", 16),
        ("torchvision:mobilenet_v2", 10),  # those with a shortcut, of 17
        ("torchvision:mobilenet_v3_small", 6),
        ("ResNet-18", 8),
        ("RegNetY-400MF", 16),
        ("EfficientNet-B0", 9),  # 16 blocks, without the first of each stage
    ],
)
def test_residual_blocks_without_a_place_for_it_get_a_hook(name, blocks):
    module = trained(name, drop_path=0.4).module
    hooks = [
        hook.rate
        for part in module.modules()
        for hook in part._forward_hooks.values()
        if isinstance(hook, DropBranch)
    ]
    assert hooks == pytest.approx([0.4 * index / (blocks - 1) for index in range(blocks)])
    assert module.state_dict().keys() == cs.build(name).state_dict().keys()


@pytest.mark.parametrize("block", ["layer1.1", "layer2.0"])
def test_a_branch_that_is_dropped_leaves_the_shortcut(block):
    module = zoo.resnet18()
    regularise(module, drop_path=0.5, dropout=0.0, classes=1000, inputs=SHAPE)
    part = module.get_submodule(block).train()
    (hook,) = part.bn2._forward_hooks.values()
    hook.rate = 1 - 1e-12
    images = torch.rand(4, part.conv1.in_channels, 8, 8)
    with torch.no_grad():
        shortcut = images if part.downsample is None else part.downsample(images)
        assert torch.equal(part(images), shortcut.relu())
        part.eval()
        assert not torch.equal(part(images), shortcut.relu())


def test_stochastic_depth_that_a_network_brings_is_set_and_told():
    found = trained("torchvision:efficientnet_b0", drop_path=0.1)
    rates = [p.p for p in found.module.modules() if type(p).__name__ == "StochasticDepth"]
    assert rates == pytest.approx([0.1 * index / 15 for index in range(16)])
    assert any("stochastic depth was 0.1875; the recipe sets 0.1" in n for n in found.notes)


def test_what_has_no_place_for_stochastic_depth_is_told():
    found = trained("torchvision:squeezenet1_1", drop_path=0.1)
    assert found.notes[0] == "Stochastic depth at 0.1 was left out: no block has a place for it."
    assert "Stochastic" not in str(trained("torchvision:squeezenet1_1").notes)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("timm:resnet18", "fc"),
        ("timm:efficientnet_b0", "classifier"),
        ("timm:convnext_atto", "head.fc"),
        ("timm:regnety_002", "head.fc"),
        ("timm:densenet121", "classifier"),
        ("torchvision:resnet18", "fc"),
        ("torchvision:mobilenet_v2", "classifier.1"),
        ("torchvision:alexnet", "classifier.6"),
        ("torchvision:squeezenet1_1", "classifier.1"),
        ("EfficientNet-B0", "head.classifier"),
        ("resnet18@dWr:2", "fc"),
    ],
)
def test_the_classifier_sees_dropout_at_the_rate_in_training_alone(name, layer):
    module = trained(name, dropout=0.75).module
    shares = []

    def note(_, inputs):
        shares.append(float((inputs[0] == 0).double().mean()))

    module.get_submodule(layer).register_forward_pre_hook(note)
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.ReLU | nn.ReLU6):  # whose zeros are no dropout's
            part.forward = lambda values: values.abs() + 1
    with torch.no_grad():
        module.eval()(torch.rand(SHAPE))
        module.train()(torch.rand(8, *SHAPE[1:]))
    evaluated, training = shares
    assert training - evaluated * 0.25 == pytest.approx(0.75, abs=0.05)


def test_dropout_of_the_network_is_that_of_the_recipe():
    found = trained("torchvision:efficientnet_b0", dropout=0.0)
    assert found.module.classifier[0].p == 0.0
    assert any("dropout before the classifier was 0.2; the recipe sets 0" in n for n in found.notes)


def test_dropout_elsewhere_in_the_network_stays_and_is_told():
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.Dropout2d(0.3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Dropout(0.5), nn.Linear(8, 8), nn.Dropout(0.2), nn.Linear(8, 10), nn.Dropout(0.0),
    )  # fmt: skip
    found = prepare(net, Recipe(), classes=10, resolution=8)
    assert [part.p for part in found.module if hasattr(part, "p")] == [0.3, 0.5, 0.0, 0.0]
    assert found.notes == (
        "The network's dropout before the classifier was 0.2; the recipe sets 0.",
        "Dropout that the network has elsewhere stays: 1 at 0.3, 4 at 0.5.",
    )


def test_hooks_average_to_what_they_take():
    torch.manual_seed(0)
    ones = torch.ones(40_000, 1)
    branch = DropBranch(0.3)(nn.Identity(), (), ones)
    (inputs,) = DropInputs(0.3)(nn.Identity(), (ones,))
    for values in (branch, inputs):
        assert float(values.mean()) == pytest.approx(1.0, abs=0.02)
        assert float((values == 0).double().mean()) == pytest.approx(0.3, abs=0.01)
        assert sorted(set(values.flatten().tolist())) == pytest.approx([0.0, 1 / 0.7])


def test_a_module_in_hand_is_not_changed():
    net = zoo.resnet18(num_classes=10)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = prepare(net, Recipe(drop_path=0.5, dropout=0.5), classes=10, resolution=64)
    assert found.module is not net
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in net.modules())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(
        torch.equal(value, before[name]) for name, value in found.module.state_dict().items()
    )
