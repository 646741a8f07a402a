"""Blocks that are lists of modules, which a forward pass takes apart: nobody calls the blocks."""

import pytest
import torch
from torch import nn

import convscale


class _Named(nn.Module):
    """Blocks as dictionaries or lists of a convolution and its norm."""

    def __init__(self, kind):
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 16, 3, 2, 1), nn.Linear(16, 10)
        parts = [{"conv": nn.Conv2d(16, 16, 3, 1, 1), "bn": nn.BatchNorm2d(16)} for _ in range(3)]
        made = [kind(one if kind is nn.ModuleDict else one.values()) for one in parts]
        self.blocks = nn.ModuleList(made)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            conv, norm = block.values() if isinstance(block, nn.ModuleDict) else block
            x = x + norm(conv(x)).relu()
        return self.head(x.mean((2, 3)))


class _Normed(nn.Module):
    def __init__(self, channels, inner):
        super().__init__()
        self.norm, self.inner = nn.GroupNorm(1, channels), inner

    def forward(self, x):
        return self.inner(self.norm(x))


class _Layers(nn.Module):
    def __init__(self, channels, depth):
        super().__init__()
        self.layers = nn.ModuleList()
        for _ in range(depth):
            spread = nn.Conv2d(channels, channels, 5, 1, 2, groups=channels)
            wide = (nn.Conv2d(channels, 4 * channels, 1), nn.GELU())
            mlp = nn.Sequential(*wide, nn.Conv2d(4 * channels, channels, 1))
            pair = (_Normed(channels, spread), _Normed(channels, mlp))
            self.layers.append(nn.ModuleList(pair))

    def forward(self, x):
        for mixer, mlp in self.layers:
            x = mixer(x) + x
            x = mlp(x) + x
        return x


class _Mixing(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.first = nn.Conv2d(3, 16, 4, 4), _Layers(16, 2)
        self.down, self.second = nn.Conv2d(16, 32, 2, 2), _Layers(32, 4)
        self.head = nn.Linear(32, 10)

    def forward(self, x):
        return self.head(self.second(self.down(self.first(self.stem(x)))).mean((2, 3)))


@pytest.mark.parametrize("kind", [nn.ModuleDict, nn.ModuleList])
def test_lists_of_layers_are_blocks(kind):
    base = _Named(kind).eval()
    scaled = convscale.scale(base, strategy="d", factor=2, resolution=32)
    assert len(scaled.module.blocks) == 6
    assert isinstance(scaled.module.blocks[5], kind)
    assert scaled.module(torch.randn(2, 3, 32, 32)).shape == (2, 10)
    back = convscale.scale(scaled.module, strategy="d", factor=0.5, resolution=32).module
    assert back.state_dict().keys() == base.state_dict().keys()


def test_stages_of_such_blocks_are_told_and_go_deeper_by_themselves():
    base = _Mixing().eval()
    rows = convscale.stages(base, resolution=32).rows
    assert [(row.name, len(row.blocks)) for row in rows] == [
        ("first.layers", 2),
        ("second.layers", 4),
    ]
    deeper = convscale.scale(base, strategy="d", factor=2, resolution=32).module
    assert (len(deeper.first.layers), len(deeper.second.layers)) == (4, 8)
    lesser = convscale.scale(base, strategy="d", factor=0.5, resolution=32).module
    assert (len(lesser.first.layers), len(lesser.second.layers)) == (1, 2)


def test_what_an_added_block_of_that_kind_computes_reaches_the_output():
    torch.manual_seed(0)
    deeper = convscale.scale(_Mixing().eval(), strategy="dw", factor=4, resolution=32).module.eval()
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        before = deeper(image)
        deeper.first.layers[2][1].inner[2].bias += 1.0
        assert not torch.allclose(before, deeper(image))


class _Levels(nn.Module):
    """Levels of two blocks and a layer that halves the sides and doubles the width."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 16, 3, 1, 1), nn.Linear(64, 10)
        self.downs = nn.ModuleList()
        for width in (16, 32):
            blocks = (_Normed(width, nn.Conv2d(width, width, 3, 1, 1)) for _ in range(2))
            self.downs.append(nn.ModuleList([*blocks, nn.Conv2d(width, 2 * width, 4, 2, 1)]))

    def forward(self, x):
        x = self.stem(x)
        for first, second, down in self.downs:
            x = down(second(first(x).relu()).relu())
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize(("strategy", "low", "high"), [("w", 3.6, 4.4), ("dw", 3.0, 5.0)])
def test_lists_of_layers_that_change_the_width_are_scaled_as_well(strategy, low, high):
    base = _Levels().eval()
    scaled = convscale.scale(base, strategy=strategy, factor=4, resolution=32)
    assert low < scaled.ratio["flops"] < high
    assert scaled.module(torch.randn(2, 3, 32, 32)).shape == (2, 10)


class _Stem(nn.Module):
    """A block that a network repeats before its stages of lists."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, 1, 1)

    def forward(self, x):
        return x + self.conv(x).relu()


class _Staged(nn.Module):
    """Stages that hold, behind a layer which makes maps smaller, layers in lists of two.

    The stages are sequences of other depths, or lists of such a layer and what follows, which the
    forward pass takes apart.
    """

    def __init__(self, depths, *, taken_apart):
        super().__init__()
        self.taken_apart = taken_apart
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 2, 2), _Stem(16), _Stem(16))
        kind = nn.ModuleList if taken_apart else _sequence
        self.stages = nn.ModuleList(
            kind([nn.Conv2d(16 * 2**place, 32 * 2**place, 2, 2), _Layers(32 * 2**place, depth)])
            for place, depth in enumerate(depths)
        )
        self.head = nn.Linear(16 * 2 ** len(depths), 10)

    def forward(self, x):
        x = self.stem(x)
        for stage in self.stages:
            if self.taken_apart:
                down, layers = stage
                x = layers(down(x))
            else:
                x = stage(x)
        return self.head(x.mean((2, 3)))


def _sequence(parts):
    return nn.Sequential(*parts)


@pytest.mark.parametrize("taken_apart", [True, False])
@pytest.mark.parametrize(("factor", "depths"), [(2, (2, 4, 20)), (0.5, (1, 1, 5)), (3, (3, 6, 30))])
def test_layers_in_lists_are_the_blocks_of_stages_that_stand_alone(taken_apart, factor, depths):
    base = _Staged((1, 2, 10), taken_apart=taken_apart)
    scaled = convscale.scale(base, strategy="d", factor=factor, resolution=32)
    module = scaled.module
    assert tuple(len(stage[1].layers) for stage in module.stages) == depths
    assert sum(isinstance(part, _Stem) for part in module.modules()) == max(1, round(2 * factor))
    assert module(torch.randn(2, 3, 32, 32)).shape == (2, 10)
