"""Pieces that several networks of the zoo share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import is_dataclass

import torch
from torch import nn


def conv(ins: int, outs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution, its norm, its activation."""
    return nn.Sequential(
        nn.Conv2d(ins, outs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outs),
        nn.ReLU(),
    )


def linear_conv(ins: int, outs: int, kernel: int = 1, stride: int = 1) -> nn.Sequential:
    """A convolution and its norm."""
    return nn.Sequential(
        nn.Conv2d(ins, outs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outs)
    )


def head(width: int, classes: int = 10) -> nn.Sequential:
    """Pool and classify."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))


class Step(nn.Module):
    """A convolution, its norm and its activation, as one module of its own class."""

    def __init__(self, ins: int, outs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(ins, outs, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(outs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.relu(self.norm(self.conv(x)))


class Chain(nn.Module):
    """A stem, stages and a head, one after the other."""

    def __init__(self, stem: nn.Module, stages: list[nn.Module], exit: nn.Module) -> None:
        super().__init__()
        self.stem = stem
        self.stages = nn.Sequential(*stages)
        self.exit = exit

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.exit(self.stages(self.stem(x)))


def two_stages(block: type[nn.Module], k: int, d: int, *, width: int = 32) -> Chain:
    """A network of two stages of a block that takes (ins, outs, stride): 2·d blocks each."""
    a, b = width * k, 2 * width * k
    first = [block(a, a, 1) for _ in range(2 * d)]
    second = [block(a, b, 2), *[block(b, b, 1) for _ in range(2 * d - 1)]]
    return Chain(conv(3, a), [nn.Sequential(*first), nn.Sequential(*second)], head(b))


def tensors(output: object) -> Iterator[torch.Tensor]:
    """All tensors of an output, in order."""
    if isinstance(output, torch.Tensor):
        yield output
    elif isinstance(output, dict):
        for value in output.values():
            yield from tensors(value)
    elif is_dataclass(output):
        yield from tensors(vars(output))
    elif isinstance(output, list | tuple):
        for value in output:
            yield from tensors(value)
