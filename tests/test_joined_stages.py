"""Networks of two halves that are deepened each in its own way, and lists read by their numbers."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn
from torch.nn import functional

import convscale as cs
from tests import checks
from tests.zoo.parts import conv
from tests.zoo.residual import Basic


class Fuse(nn.Module):
    """Join what comes from below with what was kept; two convolutions, called by name."""

    def __init__(self, ins, kept, outs, deeper=0):
        super().__init__()
        self.conv1 = conv(ins + kept, outs)
        self.attention = nn.Identity()
        self.conv2 = conv(outs, outs)
        self.more = nn.Sequential(*[conv(outs, outs) for _ in range(deeper)])

    def forward(self, x, kept):
        x = torch.cat([functional.interpolate(x, size=kept.shape[2:]), kept], dim=1)
        return self.more(self.conv2(self.attention(self.conv1(x))))


class Tapped(nn.Module):
    """An encoder read by the numbers of its layers, of which the decoder takes some."""

    def __init__(self, layers, taps, widths, deeper=0):
        super().__init__()
        self.stem, self.features, self.taps = conv(3, widths[0]), layers, taps
        self.fuse = nn.ModuleList(
            Fuse(low, high, high, deeper)
            for low, high in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.last = nn.Conv2d(widths[0], 4, 1)

    def forward(self, x):
        kept, x = [], self.stem(x)
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in self.taps:
                kept.append(x)
        for fuse in self.fuse:
            x = fuse(x, kept.pop())
        return self.last(x)


def blocks(d=1):
    """Residual blocks: 2·d each of three widths; the decoder has 2·d convolutions a level."""
    widths = (16, 32, 64)
    layers = [Basic(16, 16, 1) for _ in range(2 * d)]
    for ins, outs in ((16, 32), (32, 64)):
        layers += [Basic(ins, outs, 2), *[Basic(outs, outs, 1) for _ in range(2 * d - 1)]]
    return Tapped(nn.ModuleList(layers), (2 * d - 1, 4 * d - 1), widths, 2 * d - 2)


def rows(d=1):
    """Convolutions in a flat sequence, pooled in between, that is not run as one."""
    widths, layers, taps = (16, 32, 64), [], []
    for ins, outs in zip((16, 16, 32), widths, strict=True):
        for _ in range(2 * d):
            layers += conv(ins, outs)
            ins = outs
        taps.append(len(layers) - 1)
        layers.append(nn.MaxPool2d(2))
    return Tapped(nn.Sequential(*layers[:-1]), taps[:-1], widths, 2 * d - 2)


class Timed(nn.Module):
    """A residual block that takes the embedding of a time beside the map."""

    def __init__(self, width):
        super().__init__()
        self.a, self.b, self.time = conv(width, width), conv(width, width), nn.Linear(8, width)

    def forward(self, x, time):
        return x + self.b(self.a(x) + self.time(time)[:, :, None, None])


class Level(nn.Module):
    """Two blocks called by name, with the same time, and what is kept from between them."""

    def __init__(self, width, deeper):
        super().__init__()
        self.block1, self.block2 = Timed(width), Timed(width)
        self.more = nn.ModuleList(Timed(width) for _ in range(deeper))

    def forward(self, x, time):
        x = kept = self.block1(x, time)
        x = self.block2(x, time)
        for block in self.more:
            x = block(x, time)
        return x, kept


class Denoiser(nn.Module):
    """Two levels down, one up; the time is the same for all images."""

    def __init__(self, d=1):
        super().__init__()
        self.stem, self.embed = conv(3, 16), nn.Linear(1, 8)
        self.high, self.down = Level(16, 2 * d - 2), nn.Conv2d(16, 32, 3, 2, 1)
        self.low, self.up = Level(32, 2 * d - 2), nn.ConvTranspose2d(32, 16, 2, 2)
        self.last = nn.Conv2d(32 + 32, 3, 1)

    def forward(self, x):
        time = self.embed(torch.ones(x.shape[0], 1, device=x.device)).relu()
        high, first = self.high(self.stem(x), time)
        low, second = self.low(self.down(high), time)
        kept = (first, high, self.up(second), self.up(low))
        return self.last(torch.cat(kept, dim=1))


KINDS = {"denoiser": Denoiser, "blocks": blocks, "rows": rows}


def in_order(module, x):
    """The layers with weights in the order in which they run."""
    seen = []
    hooks = [
        part.register_forward_hook(lambda part, *_: seen.append(part))
        for part in module.modules()
        if not any(True for _ in part.children()) and any(True for _ in part.parameters())
    ]
    with torch.no_grad():
        output = module(x)
    for hook in hooks:
        hook.remove()
    return seen, output


@pytest.mark.parametrize("kind", KINDS)
def test_twice_the_depth_is_in_both_halves(kind):
    scaled = cs.scale(KINDS[kind](), strategy="d", factor=2.0, resolution=32, weights=False)
    shapes, by_hand = (
        Counter(tuple(p.shape) for p in module.state_dict().values())
        for module in (scaled.module, KINDS[kind](2))
    )
    assert shapes == by_hand


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_kept_is_still_the_last_of_its_stage(kind):
    """With its weights, the network made by hand puts out the same."""
    torch.manual_seed(0)
    scaled = cs.scale(KINDS[kind](), strategy="d", factor=2.0, resolution=32)
    by_hand, x = KINDS[kind](2).eval(), torch.randn(1, 3, 32, 32)
    module = scaled.module.eval()
    (own, expected), (theirs, _) = in_order(module, x), in_order(by_hand, x)
    for one, other in zip(own, theirs, strict=True):
        other.load_state_dict(one.state_dict())
    torch.testing.assert_close(by_hand(x), expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("strategy", "factor"), [("d", 2), ("dwr", 8), ("d", 0.5)])
def test_it_trains_and_every_added_block_matters(kind, strategy, factor):
    base = KINDS[kind]()
    scaled = cs.scale(base, strategy=strategy, factor=factor, resolution=32)
    checks.check_state_dict_keys(base, scaled)
    checks.check_runs_forward_and_backward(scaled.module, scaled.resolution)
    assert factor < 1 or checks.check_added_blocks_matter(scaled, scaled.resolution) > 0


def test_a_miss_is_laid_to_added_blocks_where_little_lies_outside():
    """Of a level's two convolutions the first takes three times what it puts out."""
    scaled = cs.scale(rows(), strategy="d", factor=2.0, resolution=32, weights=False)
    counts = [cs.count(rows(d), resolution=32).flops for d in (1, 2)]
    assert scaled.ratio["flops"] == pytest.approx(counts[1] / counts[0])
    assert [note.partition(": ")[2].partition(" (")[0] for note in scaled.notes] == [
        "added blocks cost less than the first of their stages"
    ]
