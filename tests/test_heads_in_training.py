"""Heads that run in training only, where the network does not train at the resolution."""

import pytest
import torch
from torch import nn

import convscale
from convscale.network import trace_module


class _Aside(nn.Module):
    """A head on 4 x 4 maps or larger, which runs in training."""

    def __init__(self):
        super().__init__()
        self.stem, self.body = nn.Conv2d(3, 16, 3, 2, 1), nn.Conv2d(16, 32, 3, 2, 1)
        self.first, self.second = nn.Conv2d(32, 24, 1), nn.Conv2d(24, 48, 4)
        self.aside, self.head = nn.Linear(48, 10), nn.Linear(32, 10)

    def forward(self, x):
        x = self.body(self.stem(x).relu()).relu()
        logits = self.head(x.mean((2, 3)))
        if not self.training:
            return logits
        return logits, self.aside(self.second(self.first(x).relu()).mean((2, 3)))


@pytest.mark.parametrize(("resolution", "inner"), [(8, (24, 48)), (32, (32, 64))])
def test_a_head_stays_whole_where_it_does_not_run(resolution, inner):
    scaled = convscale.scale(_Aside(), strategy="w", factor=2, resolution=resolution)
    module = scaled.module.train()
    first, second = module.first, module.second
    assert module.body.out_channels == first.in_channels > 32
    assert first.out_channels == second.in_channels
    assert (first.out_channels, second.out_channels) == inner
    assert [tuple(one.shape) for one in module(torch.randn(2, 3, 32, 32))] == [(2, 10), (2, 10)]
    kept = "Widths kept of what runs in training only, as it fails at 8 px: first."
    assert (kept in scaled.notes) is (resolution == 8)


class _Supervised(nn.Module):
    """Heads that always run, of which a training pass puts out all (deep supervision)."""

    def __init__(self, *, stacked):
        super().__init__()
        self.stacked = stacked
        self.first, self.second = nn.Conv2d(3, 16, 3, 1, 1), nn.Conv2d(16, 32, 3, 2, 1)
        self.beside, self.head = nn.Conv2d(32, 5, 1), nn.Conv2d(16, 5, 1)

    def forward(self, x):
        x = self.first(x).relu()
        beside = self.beside(self.second(x).relu())
        answer = self.head(x)
        if not self.training:
            return answer
        if self.stacked:
            return torch.stack((answer, nn.functional.interpolate(beside, answer.shape[2:])), 1)
        return answer, beside


@pytest.mark.parametrize("stacked", [True, False])
@pytest.mark.parametrize("factor", [0.5, 2, 4])
def test_a_head_that_is_read_in_training_only_keeps_its_classes(stacked, factor):
    scaled = convscale.scale(
        _Supervised(stacked=stacked), strategy="w", factor=factor, resolution=32
    )
    module = scaled.module
    assert module.first.out_channels != 16
    assert module.beside.out_channels == module.head.out_channels == 5
    output = module.train()(torch.randn(2, 3, 32, 32))
    shapes = [output.shape[2:3]] * 2 if stacked else [one.shape[1:2] for one in output]
    assert shapes == [(5,), (5,)]


def test_positions_of_a_pool_are_no_head_that_only_training_reads():
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 8, 3),
        nn.Flatten(),
        nn.LazyLinear(4),
    )
    net(torch.zeros(1, 3, 32, 32))
    assert not trace_module(net.to("meta").eval(), 32).trains
    beside = _Supervised(stacked=False).to("meta").eval()
    assert trace_module(beside, 32).trains
