"""Channel groups and stages of networks whose answer is known by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from convscale.network import resolve_base, trace_module
from convscale.network.channels.labels import compressed, reshaped
from convscale.network.stages.stages import find_stages
from convscale.scaling.widths.widths import width_rule
from tests.networks import Contraption, Flattened, Grouped, Plain, Shared, SplitAdd


def widths(module: nn.Module, resolution: int = 32) -> set[int]:
    rule = width_rule(trace_module(module, resolution).channels)
    return {width.base for width in rule.multiples}


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (Plain(32, 3), {32}),  # one residual width
        (Contraption(), {24, 48, 16, 40, 96}),  # 24 stem, 48 hall, 16 + 40 wings, 96 attic
        (Grouped(64, 8), {64}),
        (SplitAdd(), {32}),  # 64 = 32 + 32, and both halves are added
        (Flattened(16), {16}),  # the classifier's input is 16 times it
        (Shared(32), {32}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_the_free_widths_are_those_known_by_hand(network, expected):
    assert widths(network) == expected


def test_concatenated_branches_add_in_what_follows():
    network = Contraption()
    trace = trace_module(network, 32)
    rule = width_rule(trace.channels)
    sizes = rule.sizes(trace.channels.sizes, rule.widths(2.0))
    axes = {name: axes for axes in trace.tensors for name in axes.names}
    joined = axes["attic.0.squeeze_a.weight"].units[1]
    assert trace.channels.size(joined, sizes) == 2 * (16 + 40)


@pytest.mark.parametrize("name", ["timm:resnet50", "timm:densenet121", "timm:convnext_tiny"])
def test_classes_and_input_channels_are_fixed(name):
    network = resolve_base(name)
    module = network.build("meta")
    trace = trace_module(module, network.resolution)
    axes = {name: axes for axes in trace.tensors for name in axes.names}
    parameters = list(module.named_parameters())
    classifier = next(n for n, p in reversed(parameters) if p.ndim == 2)
    assert not trace.channels.scalable(axes[classifier].units[0])
    stem = next(n for n, p in parameters if p.ndim == 4)
    assert not trace.channels.scalable(axes[stem].units[1])
    assert trace.channels.scalable(axes[stem].units[0])


@pytest.mark.parametrize(
    ("name", "depths"),
    [
        ("timm:resnet50", [3, 4, 6, 3]),
        ("timm:resnext50_32x4d", [3, 4, 6, 3]),
        ("timm:regnety_040", [2, 6, 12, 2]),
        ("timm:regnety_032", [2, 5, 13, 1]),
        ("timm:convnext_tiny", [3, 3, 9, 3]),
        ("timm:efficientnet_b0", [1, 2, 2, 3, 3, 4, 1]),
        ("torchvision:efficientnet_b0", [1, 2, 2, 3, 3, 4, 1]),
        ("torchvision:mobilenet_v2", [1, 2, 3, 4, 3, 3, 1]),
        ("torchvision:resnet50", [3, 4, 6, 3]),
        ("timm:resnet10t", [1, 1, 1, 1]),
        ("torchvision:regnet_y_400mf", [1, 3, 6, 6]),
        ("torchvision:convnext_tiny", [3, 3, 9, 3]),
    ],
)
def test_stages_have_the_published_depths(name, depths):
    network = resolve_base(name)
    module = network.build("meta")
    stages = find_stages(module, trace_module(module, network.resolution))
    assert [stage.depth for stage in stages] == depths


def test_stages_are_found_under_unfamiliar_names():
    network = Contraption()
    stages = find_stages(network, trace_module(network, 32))
    assert [(s.container, s.depth, s.kind, s.repeatable) for s in stages] == [
        ("hall", 3, "Wobble", "2"),
        ("attic", 2, "Wobble", "1"),
    ]


shapes = st.lists(st.integers(1, 4), min_size=1, max_size=4)


@given(shape=shapes, data=st.data())
def test_reshaped_labels_are_those_of_the_reshaped_tensor(shape, data):
    """A label is followed through a reshape as the elements themselves would be."""
    total = int(np.prod(shape))
    factors = [d for d in range(1, total + 1) if total % d == 0]
    first = data.draw(st.sampled_from(factors))
    new = data.draw(st.permutations([first, total // first, 1]))
    dims = data.draw(st.sets(st.integers(0, len(shape) - 1)))
    small = [size if dim in dims else 1 for dim, size in enumerate(shape)]
    label = np.arange(int(np.prod(small))).reshape(small)
    full = np.broadcast_to(label, shape).reshape(new)
    followed = reshaped(compressed(label), shape, new)
    assert np.array_equal(np.broadcast_to(followed, new), full)


def test_the_trace_costs_what_the_network_costs():
    network = Contraption()
    trace = trace_module(network, 32)
    import convscale as cs

    total = 0
    for term in trace.terms:
        product = term.flops_scale
        for units in term.flops_units:
            product *= len(units)
        total += product
    assert total == cs.count(network, resolution=32).flops


def test_attention_heads_keep_their_number():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.entry = nn.Conv2d(3, 32, 3, padding=1)
            self.qkv = nn.Conv2d(32, 96, 1)
            self.exit = nn.Conv2d(32, 10, 1)

        def forward(self, x):
            b, _, h, w = x.shape
            q, k, v = self.qkv(self.entry(x)).reshape(b, 3, 4, -1, h * w).unbind(1)
            weights = (q.transpose(-1, -2) @ k).softmax(-1)
            y = (v @ weights.transpose(-1, -2)).reshape(b, -1, h, w)
            return self.exit(y).mean((2, 3))

    module = Attention()
    trace = trace_module(module, 8)
    rule = width_rule(trace.channels)
    axes = {name: axes for axes in trace.tensors for name in axes.names}
    sizes = rule.sizes(trace.channels.sizes, rule.widths(2.0))
    assert trace.channels.size(axes["qkv.weight"].units[0], sizes) == 192
    assert all(multiple % 4 == 0 for multiple in rule.multiples.values())
    torch.manual_seed(0)
