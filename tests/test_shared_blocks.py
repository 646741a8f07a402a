"""Depth of blocks that a forward pass runs several times, and of dense blocks there and back."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

import convscale as cs
from tests import checks
from tests.networks import Wobble


class Towers(nn.Module):
    """A head of equal blocks, run on maps of three sizes."""

    def __init__(self, depth=3):
        super().__init__()
        self.entry = nn.Conv2d(3, 32, 3, 2, 1)
        self.down = nn.ModuleList([nn.Conv2d(32, 32, 3, 2, 1) for _ in range(2)])
        self.tower = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(32, 32, 3, 1, 1), nn.GroupNorm(4, 32), nn.ReLU())
                for _ in range(depth)
            ]
        )
        self.exit = nn.Conv2d(32, 5, 1)

    def forward(self, x):
        maps = [self.entry(x).relu()]
        for layer in self.down:
            maps.append(layer(maps[-1]).relu())
        found = []
        for x in maps:
            for block in self.tower:
                x = block(x)
            found.append(self.exit(x).flatten(2))
        return torch.cat(found, 2)


def towers_flops(depth, side):
    """Flops of `Towers` at a side that 8 divides: maps have half of it, a quarter, an eighth."""
    maps = [(side // 2) ** 2, (side // 4) ** 2, (side // 8) ** 2]
    head = sum((depth * 9 * 32**2 + 5 * 32) * positions for positions in maps)
    return 27 * 32 * maps[0] + 9 * 32**2 * (maps[1] + maps[2]) + head


@pytest.mark.parametrize(("factor", "depth"), [(2, 6), (0.34, 1)])
def test_blocks_that_run_on_several_maps_are_deepened(factor, depth):
    base = Towers()
    scaled = cs.scale(base, strategy="d", factor=factor, resolution=32)
    assert len(scaled.module.tower) == depth
    assert scaled.achieved.flops == towers_flops(depth, 32)
    assert scaled.achieved.flops == checks.torch_flops(scaled.module, 32)
    checks.check_state_dict_keys(base, scaled)
    checks.check_runs_forward_and_backward(scaled.module, 32)
    checks.check_added_blocks_matter(scaled, 32)
    assert [row.depth for row in cs.stages(scaled.module, resolution=32).rows] == [depth]


class Twins(nn.Module):
    """One body for both halves of an image."""

    def __init__(self, depth=2):
        super().__init__()
        blocks = [Wobble(3, 32, 2), *[Wobble(32, 32, 1) for _ in range(depth - 1)]]
        self.body, self.exit = nn.Sequential(*blocks), nn.Linear(64, 2)

    def forward(self, x):
        left, right = (self.body(half).mean((2, 3)) for half in x.chunk(2, 3))
        return self.exit(torch.cat([left, right], 1))


def test_a_body_that_runs_on_two_inputs_is_deepened():
    base = Twins()
    scaled = cs.scale(base, strategy="d", factor=2, resolution=32)
    assert [name for name, _ in scaled.module.body.named_children()] == ["0", "1", "2", "3"]
    assert scaled.achieved.flops == checks.torch_flops(Twins(4), 32)
    checks.check_runs_forward_and_backward(scaled.module, 32)
    checks.check_added_blocks_matter(scaled, 32)


class Grow(nn.Module):
    def __init__(self, ins):
        super().__init__()
        self.conv = nn.Conv2d(ins, 16, 3, 1, 1)

    def forward(self, x):
        return torch.cat([x, self.conv(x).relu()], 1)


def grown(ins, depth):
    return nn.Sequential(*[Grow(ins + 16 * i) for i in range(depth)])


class There(nn.Module):
    """Dense blocks there and back: what leads back takes its width from the dense blocks."""

    def __init__(self, depth=2):
        super().__init__()
        more = 16 * depth
        self.entry = nn.Conv2d(3, 32, 3, 1, 1)
        self.there, self.deepest = grown(32, depth), grown(32 + more, depth)
        self.up = nn.ConvTranspose2d(32 + 2 * more, 32, 2, 2)
        self.back = grown(64 + more, depth)
        self.exit = nn.Conv2d(64 + 2 * more, 4, 1)

    def forward(self, x):
        x = self.there(self.entry(x))
        y = self.up(self.deepest(functional.max_pool2d(x, 2)))
        return self.exit(self.back(torch.cat([x, y], 1)))


@pytest.mark.parametrize(("factor", "depth"), [(2, 4), (0.5, 1)])
def test_transposed_convolutions_take_what_dense_blocks_give(factor, depth):
    scaled = cs.scale(There(), strategy="d", factor=factor, resolution=16)
    assert [len(part) for part in (scaled.module.there, scaled.module.back)] == [depth] * 2
    assert scaled.achieved.flops == checks.torch_flops(There(depth), 16)
    assert scaled.module.up.in_channels == 32 + 32 * depth
    checks.check_runs_forward_and_backward(scaled.module, 16)
    checks.check_added_blocks_matter(scaled, 16)


class _Skip(nn.Module):
    """A level of a U-Net that holds the levels below; its blocks are the network's own too."""

    def __init__(self, down, below, up):
        super().__init__()
        self.down, self.below, self.up = down, below, up

    def forward(self, x):
        x = self.down(x)
        return self.up(x + functional.interpolate(self.below(x), size=x.shape[2:]))


def _unit(taken, put, stride=1):
    norm = nn.BatchNorm2d(put)
    return nn.Sequential(nn.Conv2d(taken, put, 3, stride, 1), norm, nn.LeakyReLU())


class Nested(nn.Module):
    """Blocks that stand in lists of the network's and in levels that hold each other."""

    def __init__(self):
        super().__init__()
        self.downs = nn.ModuleList(
            nn.Sequential(_unit(taken, 16, stride), _unit(16, 16))
            for taken, stride in ((3, 1), (16, 2), (16, 2))
        )
        self.ups = nn.ModuleList(nn.Sequential(_unit(16, 16)) for _ in range(2))
        self.levels = _Skip(
            self.downs[0], _Skip(self.downs[1], self.downs[2], self.ups[1]), self.ups[0]
        )
        self.exit = nn.Conv2d(16, 3, 1)

    def forward(self, x):
        return self.exit(self.levels(x))


@pytest.mark.parametrize("strategy", ["d", "dw"])
def test_blocks_that_stand_in_two_places_are_added_with_weights_of_their_own(strategy):
    base = Nested()
    scaled = cs.scale(base, strategy=strategy, factor=3, resolution=32)
    module = scaled.module
    convs = {id(part): part for part in module.modules() if isinstance(part, nn.Conv2d)}
    weights = {id(part.weight) for part in convs.values()}
    calls: list[int] = []
    for part in convs.values():
        part.register_forward_hook(lambda own, *_: calls.append(id(own.weight)))
    module.eval()(torch.randn(1, 3, 32, 32))
    assert len(calls) == len(set(calls)) == len(weights) > 9
    assert scaled.achieved.params == sum(weight.numel() for weight in module.parameters())
    assert checks.check_added_blocks_matter(scaled, 32) > 0
