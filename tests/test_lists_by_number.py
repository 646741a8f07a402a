"""Lists whose modules a forward pass takes by number: they go on counting with blocks amid them."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

import convscale as cs
from tests.zoo.parts import conv


class Skips(nn.Module):
    """A stack of blocks whose outputs are all added up, each through its own layer or none."""

    def __init__(self, widths=(16, 16, 32, 32)) -> None:
        super().__init__()
        before = (8, *widths[:-1])
        self.stem = conv(3, 8, 3, 2)
        self.blocks = nn.ModuleList(
            conv(old, new, 3) for old, new in zip(before, widths, strict=True)
        )
        last = widths[-1]
        self.skips = nn.ModuleList(
            None if width == last else nn.Conv2d(width, last, 1) for width in widths
        )
        self.fc = nn.Linear(last, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, total = self.stem(x), 0
        for number, block in enumerate(self.blocks):
            x = block(x)
            skip = self.skips[number]
            total = total + (x if skip is None else skip(x))
        return self.fc(total.mean((2, 3)))


@pytest.mark.parametrize(("factor", "depth"), [(0.5, 2), (2, 8), (4, 16)])
def test_blocks_amid_a_list_are_added_and_taken_away(factor, depth):
    base = Skips()
    scaled = cs.scale(base, strategy="d", factor=factor, resolution=32)
    blocks = scaled.module.blocks
    assert len(blocks) == len(scaled.module.skips) == depth
    assert [blocks[i] for i in range(len(blocks))] == list(blocks) == list(blocks[:])
    assert blocks[-1] is list(blocks)[-1]
    if factor > 1:
        assert base.state_dict().keys() < scaled.module.state_dict().keys()
        assert "blocks.1_1.0.weight" in scaled.module.state_dict()
        assert "blocks.4.0.weight" in scaled.module.state_dict()
    x = torch.randn(2, 3, 32, 32)
    output = scaled.module.eval()(x)
    for other in (copy.deepcopy(scaled.module), pickle.loads(pickle.dumps(scaled.module))):
        torch.testing.assert_close(other(x), output)


def test_a_list_with_blocks_amid_it_is_scaled_again():
    once = cs.scale(Skips(), strategy="dWr", factor=0.5, resolution=32)
    assert "Positions" not in repr(once.module)
    twice = cs.scale(once.module, strategy="d", factor=2, resolution=32)
    assert twice.module.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert len(twice.module.blocks) > len(once.module.blocks)


def test_a_list_with_blocks_amid_it_is_changed_as_any_list():
    blocks = cs.scale(Skips(), strategy="d", factor=2, resolution=32).module.blocks
    plain = list(blocks)
    names = list(blocks._modules)
    other, last = nn.Identity(), nn.Identity()
    blocks[2] = other
    blocks.append(last)
    blocks.insert(-1, other)
    blocks.extend([other])
    del blocks[0]
    assert list(blocks) == [plain[1], other, *plain[3:], other, last, other]
    assert [*blocks._modules][: len(plain) - 1] == names[1:]
    del blocks[-3:]
    assert len(blocks) == len(plain) - 1
