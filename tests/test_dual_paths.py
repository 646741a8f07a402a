"""Networks that add one part of a width and concatenate the rest, sliced at the same channel."""

import torch
from torch import nn

import convscale as cs


class DualPath(nn.Module):
    """A block that adds `width` channels to what came, and appends `more` of its own."""

    def __init__(self, ins, width, more):
        super().__init__()
        self.width = width
        self.norm = nn.BatchNorm2d(ins)
        self.conv = nn.Conv2d(ins, width + more, 3, padding=1, bias=False)

    def forward(self, x):
        y = self.conv(self.norm(x).relu())
        added = x[:, : self.width] + y[:, : self.width]
        return torch.cat([added, x[:, self.width :], y[:, self.width :]], dim=1)


class DualPaths(nn.Module):
    """In the block with four parts of 16 behind the 64 channels, both slices are halves."""

    def __init__(self, blocks=6):
        super().__init__()
        self.stem = nn.Conv2d(3, 64 + 16, 3, padding=1, bias=False)
        self.blocks = nn.Sequential(
            *(DualPath(64 + 16 * (1 + n), 64, 16) for n in range(blocks)),
        )
        self.head = nn.Linear(64 + 16 * (1 + blocks), 10)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


def test_a_rest_that_is_as_wide_as_the_sum_by_chance_keeps_its_own_width():
    scaled = cs.scale(DualPaths(), strategy="w", factor=2.0, resolution=16)
    # 64 and 16 times 2^0.5 are 90.5 and 22.6; the multiples of 8 nearest to them are 88 and 24
    net = scaled.module
    assert net.stem.out_channels == 88 + 24
    assert [block.conv.out_channels for block in net.blocks] == [88 + 24] * 6
    assert [block.norm.num_features for block in net.blocks] == [88 + 24 * n for n in range(1, 7)]
    assert [block.width for block in net.blocks] == [88] * 6
    assert net(torch.zeros(2, 3, 16, 16)).shape == (2, 10)
    assert not any("kept" in note for note in scaled.notes)
