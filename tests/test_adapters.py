"""Adapters: a layer whose operators nobody can follow says itself what its sizes count."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

import convscale as cs


@torch.library.custom_op("convscale_tests::mix", mutates_args=())
def mix(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Mix channels: an operator from outside PyTorch."""
    return torch.from_numpy(weight.detach().numpy() @ x.detach().flatten(2).numpy()).reshape(
        x.shape[0], weight.shape[0], *x.shape[2:]
    )


@mix.register_fake
def _(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    assert x.shape[1] == weight.shape[1]
    return x.new_empty(x.shape[0], weight.shape[0], *x.shape[2:])


@torch.library.custom_op("convscale_tests::turn", mutates_args=())
def turn(x: torch.Tensor, channels: int) -> torch.Tensor:
    """Roll channels by half their number, which it is told."""
    return x.roll(channels // 2, 1)


@turn.register_fake
def _(x: torch.Tensor, channels: int) -> torch.Tensor:
    if x.shape[1] != channels:
        raise ValueError(f"told {channels} channels, got {x.shape[1]}")
    return torch.empty_like(x)


class Mix(nn.Module):
    convscale_adapter = cs.Adapter({"weight": ("out", "in")})

    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs))

    def forward(self, x):
        return torch.ops.convscale_tests.mix(x, self.weight)


class Turn(nn.Module):
    convscale_adapter = cs.Adapter(attributes={"channels": "in"}, keeps=True)

    def __init__(self, channels):
        super().__init__()
        self.channels = channels

    def forward(self, x):
        return torch.ops.convscale_tests.turn(x, self.channels)


class Bare(Mix):
    """The same layer, whose author says nothing."""

    convscale_adapter = None


def network(middle=Mix, k=1):
    return nn.Sequential(
        nn.Conv2d(3, 16 * k, 3, 2, 1),
        nn.ReLU(),
        middle(16 * k, 32 * k),
        nn.Conv2d(32 * k, 32 * k, 3, 1, 1),
        Turn(32 * k),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32 * k, 10),
    )


def shapes(module):
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def test_layers_with_adapters_widen_like_the_network_written_twice_as_wide():
    scaled = cs.scale(network(), strategy="w", factor=4, resolution=16)
    assert shapes(scaled.module) == shapes(network(k=2))
    assert scaled.module[4].channels == 64
    assert scaled.module(torch.zeros(2, 3, 16, 16)).shape == (2, 10)


def test_a_scaled_network_with_adapters_is_scaled_again():
    twice = cs.scale(network(), strategy="w", factor=4, resolution=16).module
    again = cs.scale(twice, strategy="w", factor=1 / 4, resolution=16)
    assert shapes(again.module) == shapes(network())
    assert again.module[4].channels == 32


def test_without_an_adapter_the_operator_is_named_and_its_widths_stay():
    scaled = cs.scale(network(Bare), strategy="w", factor=4, resolution=16)
    found = shapes(scaled.module)
    assert found["2.weight"] == (32, 16)
    assert found["3.weight"] == (64, 32, 3, 3)
    assert any("convscale_tests.mix" in note for note in scaled.notes)


@pytest.mark.parametrize(
    ("adapter", "line"),
    [
        (
            cs.Adapter({"weight": ("in", "out")}),
            "The adapter of 2 says that axis 0 of weight counts its input channels, which are "
            "16; it is 32.",
        ),
        (
            cs.Adapter({"kernel": ("out", "in")}),
            "The adapter of 2 tells of a tensor 'kernel' with 2 axes; it has no such tensor.",
        ),
        (
            cs.Adapter({"weight": ("out",)}),
            "The adapter of 2 tells of a tensor 'weight' with 1 axes; it has the shape [32, 16].",
        ),
        (
            cs.Adapter(attributes={"channels": "in"}),
            "The adapter of 2 says that channels counts its input channels, which are 16; it is "
            "None.",
        ),
        (
            cs.Adapter({"weight": ("out", "in")}, dim=4),
            "The adapter of 2 says that dimension 4 holds the channels; what it takes or gives has "
            "4 dimensions.",
        ),
        ("out in", "Wrong.convscale_adapter is 'out in'; it must be a convscale.Adapter."),
    ],
)
def test_an_adapter_that_does_not_fit_its_layer_is_refused(adapter, line):
    wrong = type("Wrong", (Mix,), {"convscale_adapter": adapter})
    with pytest.raises(cs.InputError, match=f"^{re.escape(line)}$"):
        cs.scale(network(wrong), strategy="w", factor=4, resolution=16)


@pytest.mark.parametrize(
    ("tensors", "attributes", "line"),
    [
        ({"weight": "out"}, {}, r"^An adapter cannot say 'out' of the tensor 'weight'\. Write wh"),
        ({"weight": ("output", "in")}, {}, r"^An adapter cannot say \('output', 'in'\) of the t"),
        ({}, {"channels": None}, r"^An adapter cannot say None of the attribute 'channels'\. Wr"),
    ],
)
def test_an_adapter_that_counts_something_else_is_refused(tensors, attributes, line):
    with pytest.raises(cs.InputError, match=line):
        cs.Adapter(tensors, attributes)
