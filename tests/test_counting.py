"""Counts against published figures, PyTorch's own counter, and closed forms."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import convscale as cs
from convscale.errors import InputError
from tests.checks import torch_flops
from tests.networks import NAMED, Contraption, Plain, Shared, plain_flops


def test_resnet50_matches_the_published_counts():
    count = cs.count("resnet50", resolution=224)
    assert (count.flops, count.params, count.acts) == (4_089_184_256, 25_557_032, 11_114_984)
    assert count.network == "timm:resnet50"
    assert count.uncounted == ()


@pytest.mark.parametrize("name", [*NAMED, "timm:botnet26t_256", "timm:coatnet_0_224"])
def test_count_agrees_with_torch_flop_counter(name):
    from convscale.network import resolve_base

    network = resolve_base(name)
    module = network.build("meta")
    count = cs.count(name)
    assert count.flops == torch_flops(module, network.resolution)
    assert count.params == sum(parameter.numel() for parameter in module.parameters())
    assert count.flops == sum(layer.flops for layer in count.layers)
    assert count.params == sum(layer.params for layer in count.layers)
    assert count.acts == sum(layer.acts for layer in count.layers)


@pytest.mark.parametrize(("width", "depth", "resolution"), [(8, 1, 16), (32, 4, 32), (48, 7, 21)])
def test_a_plain_network_costs_its_closed_form(width, depth, resolution):
    count = cs.count(Plain(width, depth), resolution=resolution)
    assert count.flops == plain_flops(width, depth, resolution)
    assert count.params == 4 * width + depth * 9 * width**2 + 11 * width - width + 10
    assert count.acts == (1 + depth) * width * resolution**2 + 10


def test_a_rectangular_input_is_counted_with_both_sides():
    assert cs.count(Plain(), resolution=(16, 8)).flops * 2 == pytest.approx(
        cs.count(Plain(), resolution=16).flops, rel=1e-3
    )


def test_a_module_used_twice_counts_twice_in_flops_and_once_in_params():
    network = Shared(width=32)
    count = cs.count(network, resolution=8)
    layer = next(layer for layer in count.layers if layer.path == "twice")
    assert layer.flops == 2 * 9 * 32 * 32 * 64
    assert layer.params == 9 * 32 * 32 + 32
    # the blur is a functional convolution with a buffer: flops, but no params
    assert count.flops == torch_flops(network, 8)
    assert count.params == sum(parameter.numel() for parameter in network.parameters())


def test_counting_leaves_the_network_as_it_was():
    network = Contraption().train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    cs.count(network, resolution=32)
    assert network.training
    assert not network._forward_hooks
    assert not network.hall[0]._forward_hooks
    after = network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_an_operator_without_a_rule_is_listed_and_never_silently_zero():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.entry = nn.Conv2d(3, 8, 3)
            self.ring = nn.LSTM(8, 8, batch_first=True)

        def forward(self, x):
            return self.ring(self.entry(x).flatten(2).transpose(1, 2))[0]

    count = cs.count(Recurrent(), resolution=8)
    assert count.flops >= 27 * 8 * 36
    met = {entry.operator for entry in count.uncounted}
    counted_ring = any(layer.path == "ring" for layer in count.layers)
    assert met or counted_ring


def test_a_custom_operator_is_reported_as_uncounted():
    @torch.library.custom_op("convscale_tests::mystery", mutates_args=())
    def mystery(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return x * weight.sum()

    @mystery.register_fake
    def _(x, weight):
        return torch.empty_like(x)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.entry = nn.Conv2d(3, 8, 3)

        def forward(self, x):
            return mystery(self.entry(x), self.entry.weight)

    count = cs.count(Net(), resolution=8)
    assert [(e.operator, e.calls, e.path) for e in count.uncounted] == [
        ("convscale_tests.mystery", 1, "")
    ]
    assert count.flops == 27 * 8 * 36


def test_a_network_that_needs_real_tensors_is_counted_with_a_note():
    class Peeks(nn.Module):
        def __init__(self):
            super().__init__()
            self.mix = nn.Conv2d(3, 8, 3)

        def forward(self, x):
            y = self.mix(x)
            return y if float(y.sum()) >= -1e30 else -y

    count = cs.count(Peeks(), resolution=8)
    assert count.flops == 27 * 8 * 36
    assert count.notes[0].startswith("Counted by a real forward pass: the meta device fails")


def test_grayscale_modules_tell_their_input_channels():
    count = cs.count(nn.Sequential(nn.Conv2d(1, 4, 3)), resolution=8)
    assert count.flops == 9 * 4 * 36


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resolution": 0}, "The resolution is 0; it must be at least 1."),
        (
            {"resolution": 32, "convention": "half"},
            "Unknown convention 'half'. Use default, pycls, fvcore, torch.",
        ),
        ({}, "Nothing tells the input resolution of module:Plain. Give one: --resolution 224.*"),
        ({"resolution": 8, "num_classes": 5}, "num_classes and in_chans apply to names.*"),
    ],
)
def test_wrong_arguments_are_answered_in_one_line(arguments, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        cs.count(Plain(), **arguments)


def test_a_resolution_at_which_the_network_cannot_run_is_named():
    class Needs(nn.Module):
        def __init__(self):
            super().__init__()
            self.mix = nn.Conv2d(3, 8, 7)

        def forward(self, x):
            return self.mix(x)

    message = r"^module:Needs cannot run at 3 px: RuntimeError: .* \(in mix, a Conv2d\).*$"
    with pytest.raises(InputError, match=message):
        cs.count(Needs(), resolution=3)


def test_unknown_networks_are_answered_with_near_names():
    with pytest.raises(cs.UnknownNetworkError, match="^Unknown network 'resnet5O'.*resnet50.*$"):
        cs.count("resnet5O")
    with pytest.raises(cs.UnknownNetworkError, match="^timm has no network 'resnet5O'.*resnet50"):
        cs.count("timm:resnet5O")
    with pytest.raises(cs.UnknownNetworkError, match="^torchvision has no network 'resnet5O'.*"):
        cs.count("torchvision:resnet5O")
