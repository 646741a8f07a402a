"""Blocks that compare two of their widths as they run: a shortcut stays, and none arises."""

from __future__ import annotations

import operator
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import convscale as cs


class Adds(TorchDispatchMode):
    """Count the additions of a run."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.overloadpacket is torch.ops.aten.add
        return func(*args, **(kwargs or {}))


def adds(module: nn.Module, side: int = 32) -> int:
    with Adds() as seen, torch.no_grad():
        module.eval()(torch.zeros(1, 3, side, side))
    return seen.count


class Block(nn.Module):
    """An inverted bottleneck with a shortcut where the widths that it was given compare so."""

    def __init__(self, taken: int, put: int, names: tuple[str, str], compare) -> None:
        super().__init__()
        self.names, self.compare = names, compare
        for name, value in zip(names, (taken, put), strict=True):
            setattr(self, name, value)
        self.expand, self.project = nn.Conv2d(taken, 4 * taken, 1), nn.Conv2d(4 * taken, put, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.project(self.expand(x).relu())
        first, second = self.names
        return torch.add(y, x) if self.compare(getattr(self, first), getattr(self, second)) else y


def network(names: tuple[str, str], compare, widths=(32, 40, 40, 48, 48)) -> nn.Module:
    blocks = (Block(taken, put, names, compare) for taken, put in pairwise(widths))
    pooled = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 10))
    return nn.Sequential(nn.Conv2d(3, widths[0], 3, 2, 1), *blocks, *pooled)


@pytest.mark.parametrize(
    "names",
    [
        ("in_channels", "out_channels"),
        ("out_channels", "in_channels"),
        ("inplanes", "planes"),
        ("in_features", "out_features"),
        ("taken", "put"),
    ],
)
@pytest.mark.parametrize("factor", [0.25, 0.5, 0.7, 1.3, 2, 3, 4])
def test_a_block_has_its_shortcut_and_no_other(names, factor):
    base = network(names, operator.eq)
    assert adds(base) == 2
    scaled = cs.scale(base, strategy="w", factor=factor, resolution=32)
    assert adds(scaled.module) == 2
    again = cs.scale(scaled.module, strategy="w", factor=1 / factor, resolution=32)
    assert adds(again.module) == 2


def test_added_blocks_have_the_shortcut_too():
    base = network(("in_channels", "out_channels"), operator.eq)
    scaled = cs.scale(base, strategy="dw", factor=4, resolution=32)
    blocks = [part for part in scaled.module.modules() if isinstance(part, Block)]
    keeping = [b for b in blocks if b.expand.in_channels == b.project.out_channels]
    assert len(keeping) > 2
    assert adds(scaled.module) == len(keeping)


class Ordered(nn.Module):
    """A projection beside the block where it puts out more than it takes."""

    def __init__(self, taken: int, put: int) -> None:
        super().__init__()
        self.in_channels, self.out_channels = taken, put
        self.body = nn.Conv2d(taken, put, 3, 1, 1)
        self.beside = nn.Conv2d(taken, put, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        beside = self.beside(x) if self.in_channels < self.out_channels else 0
        return torch.add(self.body(x).relu(), beside)


@pytest.mark.parametrize("factor", [0.25, 0.5, 2, 4])
def test_an_order_of_widths_stays(factor):
    blocks = (Ordered(32, 48), Ordered(48, 48), Ordered(48, 64))
    rest = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    base = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1), *blocks, *rest)
    scaled = cs.scale(base, strategy="w", factor=factor, resolution=32)
    run = [path for path, part in scaled.module.named_modules() if path.endswith("beside")]
    seen: list[str] = []
    for path in run:
        part = scaled.module.get_submodule(path)
        part.register_forward_hook(lambda *_, path=path: seen.append(path))
    scaled.module.eval()(torch.randn(1, 3, 32, 32))
    assert seen == ["1.beside", "3.beside"]
