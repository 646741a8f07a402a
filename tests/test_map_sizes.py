"""Networks that hold sizes of their maps: at another resolution they are those made for it."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

import convscale as cs
from convscale.scaling import Scaler
from convscale.scaling.resolving import resolve
from tests.zoo.parts import conv, tensors


def down(side: int) -> int:
    """The side of a map behind a convolution of stride 2 that is padded by half its kernel."""
    return (side + 1) // 2


class Pooled(nn.Module):
    """A classifier that is a convolution, and a pool over its whole map."""

    def __init__(self, side, pool=nn.AvgPool2d):
        super().__init__()
        self.body = nn.Sequential(conv(3, 16, 3, 2), conv(16, 32, 3, 2))
        self.last, self.pool = nn.Conv2d(32, 10, 1), pool(down(down(side)))

    def forward(self, x):
        return self.pool(self.last(self.body(x))).flatten(1)


class Attribute(nn.Module):
    """The window is an attribute of the network, in a dictionary, and the call names its input."""

    def __init__(self, side):
        super().__init__()
        self.body, self.last = conv(3, 16, 3, 2), nn.Linear(16, 10)
        self.options = {"window": (down(side), down(side)), "bias": True}

    def forward(self, x):
        x = functional.max_pool2d(input=self.body(x), kernel_size=self.options["window"])
        return self.last(x[:, :, 0, 0])


class Gated(nn.Module):
    """Blocks with a gate of a pool over the whole map: a larger map they would see in part."""

    def __init__(self, side, blocks=2):
        super().__init__()
        self.stem = conv(3, 16, 3, 2)
        self.blocks = nn.ModuleList([Gate(down(side)) for _ in range(blocks)])
        self.last = nn.Linear(16, 10)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.last(x.mean((2, 3)))


class Gate(nn.Module):
    def __init__(self, side):
        super().__init__()
        self.mix, self.pool, self.gate = conv(16, 16), nn.AvgPool2d(side), nn.Conv2d(16, 16, 1)

    def forward(self, x):
        x = self.mix(x)
        return x * self.gate(self.pool(x)).sigmoid()


class Resized(nn.Module):
    """Blocks that come back to the size of their map, which each holds as a pair."""

    def __init__(self, side, blocks=2):
        super().__init__()
        self.stem = conv(3, 16, 3, 2)
        self.blocks = nn.ModuleList([Resize(down(side)) for _ in range(blocks)])
        self.last = nn.Linear(16, 10)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.last(x.mean((2, 3)))


class Resize(nn.Module):
    def __init__(self, side):
        super().__init__()
        self.mix, self.size = conv(16, 16, 3, 2), (side, side)

    def forward(self, x):
        return functional.interpolate(self.mix(x), size=self.size, mode="bilinear")


class Fused(nn.Module):
    """Maps of three sizes are joined at the middle one; scores are as large as the image."""

    def __init__(self, side):
        super().__init__()
        self.a, self.b, self.c = (conv(i, o, 3, 2) for i, o in ((3, 16), (16, 32), (32, 32)))
        middle = down(down(side))
        self.pool = nn.AdaptiveMaxPool2d((middle, middle))
        self.sizes = [(down(side), down(side)), (middle, middle)]
        self.up = nn.Upsample(size=side, mode="nearest")
        self.last = nn.Conv2d(80, 5, 1)

    def forward(self, x):
        a = self.a(x)
        b = self.b(a)
        c = functional.interpolate(self.c(b), self.sizes[1])
        return self.up(self.last(torch.cat((self.pool(a), b, c), 1)))


class Pyramid(nn.Module):
    """Bins of 1, 2 and 4: they are no sizes of maps; what they are brought back to is one."""

    def __init__(self, side):
        super().__init__()
        self.stem, self.last = conv(3, 16, 3, 2), nn.Conv2d(64, 5, 1)
        self.pools = nn.ModuleList([nn.AdaptiveAvgPool2d(n) for n in (1, 2, 4)])
        self.out_size = down(side)

    def forward(self, x):
        x = self.stem(x)
        found = [functional.interpolate(pool(x), size=self.out_size) for pool in self.pools]
        return self.last(torch.cat((x, *found), 1))


class Laid(nn.Module):
    """Positions are laid into a row and back by their number and their side in attributes."""

    def __init__(self, side):
        super().__init__()
        self.stem, self.query = conv(3, 16, 3, 2), nn.Conv2d(16, 16, 1)
        self.side, self.positions, self.heads = down(side), down(side) ** 2, 4
        self.last = nn.Linear(16, 10)

    def forward(self, x):
        x = self.stem(x)
        b, c = x.shape[:2]
        q = self.query(x).view(b, self.heads, c // self.heads, self.positions)
        scores = (q.transpose(2, 3) @ q).softmax(-1)
        return self.last((q @ scores).reshape(b, c, self.side, self.side).mean((2, 3)))


class Windowed(nn.Module):
    """A signal is cut into as many windows as an attribute says."""

    def __init__(self, side):
        super().__init__()
        self.mix, self.parts = nn.Conv1d(2, 16, 3, padding=1), side // 50
        self.last = nn.Linear(16, 4)

    def forward(self, x):
        x = self.mix(x)
        x = x.view(len(x), 16, self.parts, 50).softmax(-1).mean(2)
        return self.last(x.square().sum(-1))


class Folded(nn.Module):
    """Windows are taken out as a row, mixed, and laid back over a map of a size that is held."""

    def __init__(self, side):
        super().__init__()
        self.stem, self.mix = conv(3, 8, 3, 2), nn.Conv1d(32, 32, 1)
        self.out, self.last = nn.Fold((down(side), down(side)), 2, stride=2), nn.Linear(8, 10)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.out(self.mix(functional.unfold(x, 2, stride=2)))
        return self.last(x.mean((2, 3)))


class Halved(nn.Module):
    """The last window is one of those that halve a map, and its map is as small as it."""

    def __init__(self, side):
        super().__init__()
        steps = [layer for _ in range(4) for layer in (conv(16, 16), nn.MaxPool2d(2, 2))]
        last = nn.MaxPool2d(max(2, side // 16), max(2, side // 16))
        self.body = nn.Sequential(conv(3, 16), *steps, conv(16, 16), last)
        self.last = nn.Linear(16, 10)

    def forward(self, x):
        return self.last(self.body(x).flatten(1))


class Signal(nn.Module):
    def __init__(self, side):
        super().__init__()
        self.a, self.b = nn.Conv1d(2, 16, 5, 2, 2), nn.Conv1d(16, 16, 5, 2, 2)
        self.pool, self.last = nn.AvgPool1d(down(down(side))), nn.Linear(16, 4)

    def forward(self, x):
        return self.last(self.pool(self.b(self.a(x).relu()).relu()).flatten(1))


class Volume(nn.Module):
    def __init__(self, side):
        super().__init__()
        self.a = nn.Conv3d(1, 16, 3, 2, 1)
        self.pool, self.last = nn.AvgPool3d((down(side),) * 3, stride=1), nn.Linear(16, 4)

    def forward(self, x):
        return self.last(self.pool(self.a(x).relu()).flatten(1))


# A network made for a side, the side, the shape of its input without sides, and the factor.
NETS = {
    "average": (Pooled, 32, (2, 3), 4.0),
    "maximum": (lambda side: Pooled(side, nn.MaxPool2d), 32, (2, 3), 4.0),
    "power": (lambda side: Pooled(side, lambda n: nn.LPPool2d(2, n)), 32, (2, 3), 4.0),
    "smaller": (Pooled, 32, (2, 3), 0.5),
    "attribute": (Attribute, 32, (2, 3), 2.0),
    "gated": (Gated, 32, (2, 3), 1.2),
    "resized": (Resized, 32, (2, 3), 2.0),
    "fused": (Fused, 64, (2, 3), 2.0),
    "pyramid": (Pyramid, 32, (2, 3), 4.0),
    "laid": (Laid, 32, (2, 3), 4.0),
    "windowed": (Windowed, 200, (2, 2), 1.5),
    "folded": (Folded, 32, (2, 3), 4.0),
    "halved": (Halved, 32, (2, 3), 4.0),
    "signal": (Signal, 256, (2, 2), 2.0),
    "volume": (Volume, 16, (2, 1), 4.0),
}


def image(shape, resolution):
    count = {2: 1, 1: 3}.get(shape[1], 2)
    lengths = resolution if isinstance(resolution, tuple) else (resolution,) * count
    return torch.randn((*shape, *lengths), generator=torch.Generator().manual_seed(1))


def outputs(module, x):
    with torch.no_grad():
        return list(tensors(module.eval()(x)))


def counted(module, x):
    """Count multiply-adds of one image by PyTorch's counter."""
    with FlopCounterMode(display=False) as counter:
        outputs(module, x[:1])
    return counter.get_total_flops() / 2


def like_by_hand(module, by_hand, x):
    """Tell whether a network gives what the one does that is made for its size by hand."""
    by_hand.load_state_dict(module.state_dict())
    pairs = zip(outputs(module, x), outputs(by_hand, x), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("name", NETS)
def test_sizes_of_maps_become_those_of_the_network_made_for_the_resolution(name, tmp_path):
    make, side, shape, factor = NETS[name]
    net = make(side)
    before = copy.deepcopy({path: vars(part) for path, part in net.named_modules() if path})
    scaled = cs.scale(net, strategy="r", factor=factor, resolution=side)
    assert (scaled.resolution > side) == (factor > 1) != (scaled.resolution < side)
    x = image(shape, scaled.resolution)
    assert like_by_hand(scaled.module, make(scaled.resolution), x)
    assert counted(make(scaled.resolution), x) == scaled.achieved.flops
    assert any(note.startswith("Sizes of maps follow to ") for note in scaled.notes)
    after = {path: vars(part) for path, part in net.named_modules() if path}
    for path, values in before.items():
        plain = {key: value for key, value in values.items() if not key.startswith("_")}
        assert plain == {key: after[path][key] for key in plain}
    loaded = cs.load(scaled.save(tmp_path / "net"), base=make(side)).module
    pairs = zip(outputs(loaded, x), outputs(scaled.module, x), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    again = cs.scale(scaled.module, strategy="r", factor=2.0, resolution=scaled.resolution)
    assert again.resolution > scaled.resolution
    assert like_by_hand(again.module, make(again.resolution), image(shape, again.resolution))


@pytest.mark.parametrize("make", [Gated, Resized])
def test_blocks_that_are_added_hold_the_sizes_of_their_maps(make, tmp_path):
    net = make(32)
    scaled = cs.scale(net, strategy="dwr", factor=8.0, resolution=32)
    depth = len(scaled.module.blocks)
    assert depth > 2
    assert scaled.resolution > 32
    x = image((2, 3), scaled.resolution)
    assert all(bool(y.isfinite().all()) for y in outputs(scaled.module, x))
    loaded = cs.load(scaled.save(tmp_path / "net"), base=make(32)).module
    assert torch.equal(outputs(loaded, x)[0], outputs(scaled.module, x)[0])
    for found in (scaled.module, loaded):
        held = [block.pool.kernel_size if make is Gated else block.size for block in found.blocks]
        own = down(scaled.resolution)
        assert held == [own if make is Gated else (own, own)] * depth
    scaled.module.train()(x).sum().backward()
    assert all(p.grad is not None for p in scaled.module.parameters())


def test_sides_that_differ_follow_each_its_own():
    class Pair(nn.Module):
        def __init__(self, height, width):
            super().__init__()
            self.body = nn.Sequential(conv(3, 16, 3, 2), conv(16, 16, 3, 2))
            self.size = (down(height), down(width))
            self.pool = nn.AvgPool2d((down(height), down(width)), stride=1)
            self.last = nn.Linear(16, 10)

        def forward(self, x):
            x = self.body[0](x) + functional.interpolate(
                self.body[1][0](self.body[0](x)), self.size
            )
            return self.last(self.pool(x).flatten(1))

    scaled = cs.scale(Pair(64, 32), strategy="r", factor=4.0, resolution=(64, 32))
    assert scaled.resolution == (128, 64)
    assert like_by_hand(scaled.module, Pair(128, 64), image((2, 3), (128, 64)))


def test_sizes_follow_beside_inputs_that_are_given():
    class Two(nn.Module):
        def __init__(self, side):
            super().__init__()
            self.body, self.pool = conv(3, 16, 3, 2), nn.AvgPool2d(down(side))
            self.other, self.last = nn.Linear(6, 16), nn.Linear(16, 10)

        def forward(self, picture, facts):
            return self.last(self.pool(self.body(picture)).flatten(1) + self.other(facts))

    inputs = (torch.zeros(1, 3, 32, 32), torch.zeros(1, 6))
    network = replace(resolve(Two(32)), inputs=inputs)
    scaled = Scaler(network).scale("r", factor=4.0)
    assert scaled.module.pool.kernel_size == 32
    x = image((2, 3), 64), torch.randn(2, 6)
    by_hand = Two(64)
    by_hand.load_state_dict(scaled.module.state_dict())
    assert torch.equal(scaled.module.eval()(*x), by_hand.eval()(*x))


def test_an_exported_network_holds_the_new_sizes():
    scaled = cs.scale(Fused(64), strategy="r", factor=2.0, resolution=64)
    x = image((2, 3), scaled.resolution)
    program = torch.export.export(scaled.module.eval(), (x,), strict=False)
    torch.testing.assert_close(program.module()(x), scaled.module(x))


FACTORY = """
from torch import nn

class Sized(nn.Module):
    def __init__(self, in_size=32):
        super().__init__()
        self.in_size = in_size
        self.body = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 10, 1))
        self.up = nn.Upsample(size=in_size)
        self.pool = nn.AvgPool2d(16)

    def forward(self, x):
        x = self.body(x)
        return self.pool(x).flatten(1), self.up(x)

def told(in_size=32):
    return Sized(in_size)

def untold():
    return Sized()
"""


@pytest.mark.parametrize(("name", "options"), [("told", {"in_size": 64}), ("untold", {})])
def test_a_factory_is_told_its_size_and_what_it_does_not_tell_follows(name, options, tmp_path):
    (tmp_path / "nets.py").write_text(FACTORY)
    base = f"{tmp_path / 'nets.py'}:{name}"
    scaled = cs.scale(base, strategy="r", factor=4.0, resolution=32)
    assert scaled.origin.options == options
    assert (scaled.module.pool.kernel_size, scaled.module.up.size) == (32, 64)
    assert scaled.module.in_size == (64 if options else 32)
    counted = cs.count(f"{base}@r:4", resolution=32)
    assert counted.flops == scaled.achieved.flops == 32 * 32 * (16 * 27 + 160)
    loaded = cs.load(scaled.save(tmp_path / "net"), base=base).module
    x = image((2, 3), 64)
    pairs = list(zip(outputs(loaded, x), outputs(scaled.module, x), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    assert [tuple(a.shape) for a, _ in pairs] == [(2, 10), (2, 10, 64, 64)]
    again = cs.scale(f"{base}@r:4", strategy="r", factor=4.0, resolution=32, weights=False)
    assert (again.resolution, again.module.pool.kernel_size) == (128, 64)


class Written(nn.Module):
    """The window stands in the code; behind it is a linear layer, or nothing."""

    def __init__(self, last):
        super().__init__()
        self.body, self.last = nn.Sequential(conv(3, 16, 3, 2), nn.Conv2d(16, 10, 1)), last

    def forward(self, x):
        return self.last(functional.avg_pool2d(self.body(x), 16).flatten(1))


@pytest.mark.parametrize("factor", [4.0, 0.25])
@pytest.mark.parametrize("last", [nn.Identity(), nn.Linear(10, 10)])
def test_a_window_in_the_code_is_named_where_it_keeps_the_resolution(last, factor):
    with pytest.raises(
        cs.UnscalableNetworkError,
        match=r"What does not follow is the window of avg_pool2d in the network, 16x16 as its "
        r"whole map: the code writes it out; take it from the map's shape, or from an attribute\. ",
    ):
        cs.scale(Written(last), strategy="r", factor=factor, resolution=32)


def test_a_window_in_the_code_is_noted_where_it_sees_a_part_of_its_map():
    scaled = cs.scale(Written(nn.Identity()), strategy="r", factor=1.5, resolution=32)
    assert scaled.resolution == 39
    assert (
        "The window of avg_pool2d in the network stays 16x16, as the code writes it out, in a map "
        "of 20x20." in scaled.notes
    )


@pytest.mark.parametrize("groups", [1, 16])
def test_a_convolution_over_the_whole_map_is_named_where_it_keeps_the_resolution(groups):
    layers = [nn.Conv2d(3, 16, 3, 2, 1), nn.Conv2d(16, 16, 16, groups=groups), nn.Conv2d(16, 10, 1)]
    net = nn.Sequential(*layers, nn.Flatten())
    with pytest.raises(
        cs.UnscalableNetworkError,
        match=r"gives 1x\d+ numbers at 64 px, not 1x10\. What does not follow is the window of "
        r"conv2d in 1, 16x16 as its whole map: it is a weight\. Leave ",
    ):
        cs.scale(net, strategy="r", factor=4.0, resolution=32)


def test_rows_of_positions_may_become_longer():
    """What a network gives for each position is no vector that must stay."""

    class Rows(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.last = conv(3, 16, 3, 2), nn.Conv2d(16, 1, 1)

        def forward(self, x):
            return self.last(self.body(x)).flatten(1)

    scaled = cs.scale(Rows(), strategy="r", factor=4.0, resolution=32)
    assert outputs(scaled.module, image((2, 3), 64))[0].shape == (2, 32 * 32)


def test_a_window_read_off_the_map_is_none_that_the_code_writes_out():
    class Read(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.last = (
                nn.Sequential(conv(3, 16, 3, 2), conv(16, 32, 3, 2)),
                nn.Linear(32, 10),
            )

        def forward(self, x):
            x = self.body(x)
            return self.last(functional.avg_pool2d(x, x.size()[3])[:, :, 0, 0])

    class Written(Read):
        def forward(self, x):
            return self.last(functional.avg_pool2d(self.body(x), 8)[:, :, 0, 0])

    assert cs.scale(Read(), strategy="r", factor=2.0, resolution=32).notes == ()
    (note,) = cs.scale(Written(), strategy="r", factor=2.0, resolution=32).notes
    assert note.endswith("stays 8x8, as the code writes it out, in a map of 12x12.")
