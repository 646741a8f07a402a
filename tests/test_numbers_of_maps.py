"""Numbers of all channels, which hold no width; lists of hooks; what notes say of outputs."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

import convscale as cs
from tests import checks
from tests.zoo.parts import conv, head


class Penalised(nn.Module):
    """Scores, and one number beside them."""

    def __init__(self, number):
        super().__init__()
        self.body, self.last, self.number = (
            nn.Sequential(conv(3, 64), conv(64, 64)),
            nn.Linear(64, 10),
            number,
        )

    def forward(self, x):
        x = self.body(x)
        return self.last(x.mean((2, 3))), self.number(x)


@pytest.mark.parametrize(
    "number",
    [
        lambda x: x.pow(2).mean(),
        lambda x: x.sum(),
        lambda x: x.norm(),
        lambda x: x.max(),
        lambda x: x.std(),
    ],
)
def test_one_number_of_a_map_keeps_no_width(number):
    scaled = cs.scale(Penalised(number), strategy="w", factor=4.0, resolution=16)
    assert checks.layer_widths(scaled.module)["body.1.0"] == (128, 128)
    assert scaled.notes == ()
    scores, one = scaled.module(torch.randn(2, 3, 16, 16))
    assert (scores.shape, one.shape) == ((2, 10), ())


class Deviations(nn.Module):
    """A map of one channel more: how much the images of a batch differ."""

    def forward(self, x):
        more = x.std(0, unbiased=False).mean().view(1, 1, 1, 1)
        return torch.cat([x, more.expand(len(x), 1, *x.shape[2:])], dim=1)


def test_a_channel_of_one_number_stays_one():
    net = nn.Sequential(conv(3, 64), Deviations(), conv(65, 64), *head(64))
    scaled = cs.scale(net, strategy="w", factor=4.0, resolution=16)
    assert checks.layer_widths(scaled.module)["2.0"] == (128, 129)


class Tapped(nn.Module):
    """A hook puts a map into a list of the network's own, by a variable that it closes over."""

    def __init__(self):
        super().__init__()
        self.first, self.second = conv(3, 32, 3, 2), conv(32, 32, 3, 2)
        self.last, self.seen = nn.Conv2d(32, 5, 1), []
        seen = self.seen
        self.first.register_forward_hook(lambda module, given, made: seen.append(made))

    def forward(self, x):
        self.seen.clear()
        x = self.second(self.first(x))
        return self.last(self.seen[0] + functional.interpolate(x, scale_factor=2))


def test_a_hook_fills_the_list_of_its_own_network():
    net, images = Tapped(), torch.randn(2, 3, 32, 32)
    scaled = cs.scale(net, strategy="w", factor=4.0, resolution=32)
    assert cs.count(net, resolution=32).params == sum(p.numel() for p in net.parameters())
    assert scaled.module(images).shape == net(images).shape
    assert net.seen[0].shape[1] == 32
    assert scaled.module.seen[0].shape[1] == 64


class Boxes(nn.Module):
    """A detector's rows of boxes: the code writes out how many anchors and numbers each has."""

    def __init__(self):
        super().__init__()
        self.body, self.last = (
            nn.Sequential(conv(3, 32, 3, 2), conv(32, 64, 3, 2)),
            nn.Conv2d(64, 27, 1),
        )

    def forward(self, x):
        x = self.last(self.body(x))
        n, _, h, w = x.shape
        return x.view(n, 3, 9, h, w).permute(0, 1, 3, 4, 2).sigmoid().reshape(n, -1, 9)


@pytest.mark.parametrize("factor", [1.0, 4.0])
def test_rows_of_boxes_are_said_to_be_no_features(factor):
    scaled = cs.scale(Boxes(), strategy="w", factor=factor, resolution=32)
    assert scaled.module(torch.randn(1, 3, 32, 32)).shape == (1, 3 * 8 * 8, 9)
    assert not any("feature maps" in note for note in scaled.notes)


def test_features_that_scale_are_said_to():
    net = nn.Sequential(conv(3, 32, 3, 2), conv(32, 64, 3, 2))
    (note,) = cs.scale(net, strategy="w", factor=4.0, resolution=32).notes
    assert note.startswith("Outputs taken for feature maps scale with the width: output 1 of 64")
    assert cs.scale(net, strategy="w", factor=1.0, resolution=32).notes == ()


def test_what_cannot_get_weights_is_refused_without_them_too():
    class Placed(nn.Module):
        """Adds a table that nobody trains: a sine of the channel's number."""

        def __init__(self):
            super().__init__()
            self.body, self.last = conv(3, 32), nn.Linear(32, 10)
            self.register_buffer("table", torch.arange(32.0).sin()[:, None, None])

        def forward(self, x):
            return self.last((self.body(x) + self.table).mean((2, 3)))

    for weights in (False, True):
        with pytest.raises(cs.UnscalableNetworkError, match="^The buffer 'table' differs along"):
            cs.scale(Placed(), strategy="w", factor=4.0, resolution=16, weights=weights)
    assert cs.scale(Placed(), strategy="r", factor=4.0, resolution=16, weights=False).notes == ()


def test_a_prelu_says_how_many_parameters_it_has():
    net = nn.Sequential(
        nn.Conv2d(3, 32, 3), nn.PReLU(32), nn.Conv2d(32, 32, 3), nn.PReLU(), *head(32)
    )
    scaled = cs.scale(net, strategy="w", factor=4.0, resolution=16).module
    assert [scaled[index].num_parameters for index in (1, 3)] == [64, 1]
