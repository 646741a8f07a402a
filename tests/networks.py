"""Networks written by hand, with answers in closed form, and the named ones of the suite."""

from __future__ import annotations

import torch
from torch import nn

# Named networks for which every strategy that scales width or resolution must hold, and those
# for which depth must hold too.
DEEP = (
    "timm:resnet50",
    "timm:resnext50_32x4d",
    "timm:regnety_032",
    "timm:efficientnet_b0",
    "timm:convnext_tiny",
)
NAMED = (
    *DEEP,
    "timm:densenet121",
    "timm:mobilenetv3_large_100",
    "timm:vgg16",
    "torchvision:resnet50",
    "torchvision:mobilenet_v2",
)


class Plain(nn.Module):
    """A stack of k×k convolutions of one width, depth and stride: flops k²·w²·r²·d."""

    def __init__(self, width: int = 32, depth: int = 4, kernel: int = 3) -> None:
        super().__init__()
        self.entry = nn.Conv2d(3, width, 1)
        self.body = nn.Sequential(*[Step(width, kernel) for _ in range(depth)])
        self.exit = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.exit(self.body(self.entry(x)).mean((2, 3)))


class Step(nn.Module):
    """A convolution and its activation, added to its input."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(width, width, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.mix(x).relu()


def plain_flops(width: int, depth: int, resolution: int, kernel: int = 3) -> int:
    """Flops of `Plain` in closed form."""
    body = depth * kernel**2 * width**2 * resolution**2
    return 3 * width * resolution**2 + body + 10 * width


class Wobble(nn.Module):
    """A residual block with a projection, under names that no library uses."""

    def __init__(self, ins: int, outs: int, hop: int) -> None:
        super().__init__()
        self.squeeze_a = nn.Conv2d(ins, outs // 2, 1, bias=False)
        self.calm_a = nn.BatchNorm2d(outs // 2)
        self.spread_b = nn.Conv2d(outs // 2, outs, 3, hop, 1, bias=False)
        self.calm_b = nn.BatchNorm2d(outs)
        fits = ins == outs and hop == 1
        self.detour = nn.Identity() if fits else nn.Conv2d(ins, outs, 1, hop, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.calm_a(self.squeeze_a(x)).relu()
        return (self.calm_b(self.spread_b(y)) + self.detour(x)).relu()


class Contraption(nn.Module):
    """Two residual stages and one concatenation of unequal branches."""

    def __init__(self, num_classes: int = 10, in_chans: int = 3) -> None:
        super().__init__()
        self.doorway = nn.Conv2d(in_chans, 24, 3, 2, 1)
        self.hall = nn.Sequential(Wobble(24, 48, 1), Wobble(48, 48, 1), Wobble(48, 48, 1))
        self.left_wing = nn.Conv2d(48, 16, 1)
        self.right_wing = nn.Conv2d(48, 40, 3, padding=1)
        self.attic = nn.Sequential(Wobble(56, 96, 2), Wobble(96, 96, 1))
        self.window = nn.Linear(96, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.hall(self.doorway(x).relu())
        x = torch.cat([self.left_wing(x), self.right_wing(x)], dim=1)
        return self.window(self.attic(x).mean((2, 3)))


def contraption(num_classes: int = 10, in_chans: int = 3) -> nn.Module:
    """Make a `Contraption`: the factory of `tests/networks.py:contraption`."""
    return Contraption(num_classes, in_chans)


class Grouped(nn.Module):
    """A grouped, a depthwise and a pointwise convolution in a row."""

    def __init__(self, width: int = 64, groups: int = 8) -> None:
        super().__init__()
        self.entry = nn.Conv2d(3, width, 3, padding=1)
        self.grouped = nn.Conv2d(width, width, 3, padding=1, groups=groups)
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.exit = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.depthwise(self.grouped(self.entry(x)).relu()).relu()
        return self.exit(x.mean((2, 3)))


class SplitAdd(nn.Module):
    """A convolution whose output is cut in two; one half is added to another branch."""

    def __init__(self) -> None:
        super().__init__()
        self.entry = nn.Conv2d(3, 64, 3, padding=1)
        self.side = nn.Conv2d(32, 32, 3, padding=1)
        self.exit = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = self.entry(x).relu().chunk(2, dim=1)
        return self.exit((self.side(first) + second).mean((2, 3)))


class Straight(nn.Module):
    """Two convolutions without anything that bends: no row of layers can be repeated."""

    def __init__(self) -> None:
        super().__init__()
        self.entry = nn.Conv2d(3, 64, 3, padding=1)
        self.side = nn.Conv2d(64, 64, 3, padding=1)
        self.exit = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.exit(self.side(self.entry(x)).mean((2, 3)))


class Flattened(nn.Module):
    """A flatten before the classifier: its input is channels times positions."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.classifier = nn.Linear(16 * width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.flatten(self.pool(self.features(x)), 1))


class Shared(nn.Module):
    """One convolution used twice, and a layer scale that the network itself owns."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.entry = nn.Conv2d(3, width, 3, padding=1)
        self.twice = nn.Conv2d(width, width, 3, padding=1)
        self.gain = nn.Parameter(torch.full((width, 1, 1), 0.5))
        self.register_buffer("blur", torch.full((width, 1, 3, 3), 1 / 9))
        self.exit = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.twice(self.twice(self.entry(x)).relu()) * self.gain
        x = nn.functional.conv2d(x, self.blur, padding=1, groups=x.shape[1])
        return self.exit(x.mean((2, 3)))
