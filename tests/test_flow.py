"""How tensors are held along a network, against what PyTorch does with the same layers."""

from __future__ import annotations

import pytest
import torch
from timm.layers import BlurPool2d, StdConv2d
from torch import nn

from convscale.complexity.operators import record_network
from convscale.network import resolve_base
from convscale.prediction.flow import flow

LAST = torch.channels_last
LAYERS = {
    "plain": lambda: nn.Conv2d(16, 16, 3, padding=1),
    "depthwise": lambda: nn.Conv2d(16, 16, 3, padding=1, groups=16),
    "standardised": lambda: StdConv2d(16, 16, 3, padding=1),
    "blur": lambda: BlurPool2d(16),
}


def _calls(layer: nn.Module):
    net = nn.Sequential(nn.Conv2d(3, 16, 1), nn.GroupNorm(4, 16), layer, nn.Conv2d(16, 16, 1))
    found = record_network(resolve_base(net), resolution=32, dtype="float32").calls
    return flow(found), [call.kind.startswith("convolution") for call in found]


@pytest.mark.parametrize("name", LAYERS)
def test_a_convolution_behind_a_group_norm_runs_in_the_layout_that_pytorch_gives_it(name):
    """In a network with channels last; a group norm of a GPU puts channels first."""
    layer = LAYERS[name]().to(memory_format=LAST).eval()
    with torch.no_grad():
        out = layer(torch.rand(2, 16, 8, 8))
    stays_first = not out.is_contiguous(memory_format=LAST)
    found, convolves = _calls(LAYERS[name]())
    own = [place for place, one in enumerate(convolves) if one][1]
    assert bool(found.first_nhwc[own]) == stays_first
    # where channels are brought to the end, it is one copy, of it or of what follows it
    moved = [bool(found.moved_nhwc[place]) for place, one in enumerate(convolves) if one]
    assert moved == ([False, False, True] if stays_first else [False, True, False])


def test_a_reflecting_border_puts_channels_first():
    """The kernel of a GPU for reflecting borders knows no other layout."""
    found, _ = _calls(nn.ReflectionPad2d(1))
    place = found.names.index("reflection_pad2d")
    assert found.moved_nhwc[place] == 0  # behind a group norm channels are first already
    net = nn.Sequential(nn.Conv2d(3, 16, 1), nn.ReflectionPad2d(1), nn.Conv2d(16, 16, 3))
    calls = record_network(resolve_base(net), resolution=32, dtype="float32").calls
    found = flow(calls)
    assert found.moved_nhwc[found.names.index("reflection_pad2d")] == 1
    last = max(at for at, call in enumerate(calls) if call.kind.startswith("convolution"))
    assert found.moved_nhwc[last] == 1  # and back
