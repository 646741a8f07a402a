"""Ways of writing networks that other people have: closures, mixtures, indices, unequal splits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
import torchvision
from torch import nn
from torch.nn import functional
from torch.nn.utils import spectral_norm

from tests.zoo.parts import conv, head, linear_conv, two_stages


def padded(x, planes, stride):
    """Every second position, and zeros for the channels that are missing."""
    x = functional.avg_pool2d(x, 1, stride)
    zeros = torch.zeros(x.size(0), planes - x.size(1), x.size(2), x.size(3), device=x.device)
    return torch.cat([x, zeros], dim=1)


class PartlyGiven(nn.Module):
    """The shortcut is a function that was given the width before."""

    def __init__(self, ins, outs, stride):
        super().__init__()
        self.a, self.b = conv(ins, outs, 3, stride), linear_conv(outs, outs, 3)
        self.shortcut = None
        if (ins, stride) != (outs, 1):
            self.shortcut = partial(padded, planes=outs, stride=stride)

    def forward(self, x):
        kept = x if self.shortcut is None else self.shortcut(x)
        return (self.b(self.a(x)) + kept).relu()


class QuarterPadded(nn.Module):
    """The shortcut closes over the width, and pads a quarter of it on each side."""

    def __init__(self, ins, planes, stride):
        super().__init__()
        self.a, self.b = conv(ins, planes, 3, stride), linear_conv(planes, planes, 3)
        self.shortcut = nn.Identity()
        if (ins, stride) != (planes, 1):
            self.shortcut.forward = lambda x: functional.pad(
                x[:, :, ::2, ::2], (0, 0, 0, 0, planes // 4, planes // 4), "constant", 0
            )

    def forward(self, x):
        out = self.b(self.a(x))
        out += self.shortcut(x)
        return functional.relu(out)


class Dynamic(nn.Module):
    """Kernels of four experts, mixed for each image; weights and biases are laid out in rows."""

    def __init__(self, ins, outs, experts=4):
        super().__init__()
        self.ins, self.outs, self.experts = ins, outs, experts
        self.squeeze, self.route = nn.Conv2d(ins, ins // 4, 1), nn.Conv2d(ins // 4, experts, 1)
        self.weight = nn.Parameter(torch.randn(experts, outs, ins, 3, 3) * 0.05)
        self.bias = nn.Parameter(torch.zeros(experts, outs))

    def forward(self, x):
        n, _, h, w = x.size()
        share = self.route(self.squeeze(x.mean((2, 3), keepdim=True)).relu()).view(n, -1)
        share = functional.softmax(share / 30, 1)
        weight = torch.mm(share, self.weight.view(self.experts, -1))
        weight = weight.view(n * self.outs, self.ins, 3, 3)
        bias = torch.mm(share, self.bias).view(-1)
        y = functional.conv2d(x.reshape(1, -1, h, w), weight, bias, padding=1, groups=n)
        return y.view(n, self.outs, h, w)


def dynamic(k=1, d=1):
    w = 32 * k
    return nn.Sequential(conv(3, w, 3, 2), Dynamic(w, 2 * w), nn.ReLU(), conv(2 * w, w), head(w))


class Deformable(nn.Module):
    """A convolution of torchvision's whose offsets another convolution tells."""

    def __init__(self, ins, outs, stride):
        super().__init__()
        self.offset = nn.Conv2d(ins, 18, 3, stride, 1)
        self.mask = nn.Conv2d(ins, 9, 3, stride, 1)
        self.conv = nn.Conv2d(ins, outs, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(outs)
        self.stride = stride

    def forward(self, x):
        y = torchvision.ops.deform_conv2d(
            x,
            self.offset(x),
            self.conv.weight,
            stride=self.stride,
            padding=1,
            mask=self.mask(x).sigmoid(),
        )
        return self.norm(y).relu()


class DualAttention(nn.Module):
    """Attention between channels, which subtracts each row from its largest entry."""

    def __init__(self, k=1, d=1):
        super().__init__()
        self.body, self.exit = nn.Sequential(conv(3, 32 * k), conv(32 * k, 64 * k)), head(64 * k)
        self.gamma = nn.Parameter(torch.ones(1))

    def forward(self, x):
        x = self.body(x)
        b, c, h, w = x.size()
        query = x.view(b, c, -1)
        energy = torch.bmm(query, query.permute(0, 2, 1))
        energy = torch.max(energy, -1, keepdim=True)[0].expand_as(energy) - energy
        out = torch.bmm(energy.softmax(-1), query).view(b, c, h, w)
        return self.exit(self.gamma * out + x)


class Distilled(nn.Module):
    """A quarter of the channels is put aside three times, and joined again at the end."""

    def __init__(self, width):
        super().__init__()
        self.aside = width // 4
        self.rest = width - self.aside
        self.a = nn.Conv2d(width, width, 3, padding=1)
        self.b = nn.Conv2d(self.rest, width, 3, padding=1)
        self.c = nn.Conv2d(self.rest, self.aside, 3, padding=1)
        self.join = nn.Conv2d(3 * self.aside, width, 1)

    def forward(self, x):
        sizes = (self.aside, self.rest)
        first, rest = torch.split(self.a(x).relu(), sizes, dim=1)
        second, rest = torch.split(self.b(rest).relu(), sizes, dim=1)
        return self.join(torch.cat([first, second, self.c(rest)], dim=1)) + x


class Shifted(nn.Conv2d):
    """Adds the mean of the colours, or takes it away: three channels in and out, not trained."""

    def __init__(self, sign):
        super().__init__(3, 3, 1)
        self.weight.data = torch.eye(3).view(3, 3, 1, 1)
        self.bias.data = sign * torch.tensor([0.45, 0.44, 0.40])
        for parameter in self.parameters():
            parameter.requires_grad = False


class Enhanced(nn.Module):
    """Super-resolution: the means of the colours, distilled blocks, twice the side."""

    def __init__(self, k=1, d=1):
        super().__init__()
        w = 64 * k
        self.before, self.after = Shifted(-1), Shifted(1)
        self.enter = nn.Conv2d(3, w, 3, padding=1)
        self.body = nn.Sequential(*[Distilled(w) for _ in range(2 * d)])
        self.leave = nn.Sequential(
            nn.Conv2d(w, 4 * w, 3, padding=1), nn.PixelShuffle(2), nn.Conv2d(w, 3, 3, padding=1)
        )

    def forward(self, x):
        x = self.enter(self.before(x))
        return self.after(self.leave(self.body(x) + x))


class Pooled(nn.Module):
    """Where the largest values stood tells where they go back, in a branch of other layers."""

    def __init__(self, k=1, d=1):
        super().__init__()
        w = 32 * k
        self.enter, self.pool = conv(3, w), nn.MaxPool2d(2, 2, return_indices=True)
        self.inside = nn.Sequential(conv(w, 2 * w), conv(2 * w, 4 * w))
        self.back, self.place = linear_conv(4 * w, w), nn.MaxUnpool2d(2)
        self.exit = nn.Conv2d(w, 5, 1)

    def forward(self, x):
        x, where = self.pool(self.enter(x))
        return self.exit(self.place(self.back(self.inside(x)), where).relu())


class NormedBefore(nn.Module):
    """Spectral norms of the older kind: a hook computes the weight before each run."""

    def __init__(self, k=1, d=1):
        super().__init__()
        widths = (3, 32 * k, 64 * k, 128 * k)
        self.layers = nn.ModuleList(
            [spectral_norm(nn.Conv2d(a, b, 4, 2, 1)) for a, b in pairwise(widths)]
        )
        self.last = spectral_norm(nn.Linear(128 * k, 1))

    def forward(self, x):
        for layer in self.layers:
            x = functional.leaky_relu(layer(x), 0.1)
        return self.last(x.sum((2, 3)))


class Windowed(nn.Module):
    """Attention over the windows that unfold lays out, a number a group of 16 channels."""

    def __init__(self, k=1, d=1):
        super().__init__()
        self.width, self.groups = 64 * k, 4
        self.enter = conv(3, self.width)
        self.kernels = nn.Conv2d(self.width, 9 * self.groups, 1)
        self.unfold, self.exit = nn.Unfold(3, padding=1), head(self.width)

    def forward(self, x):
        x = self.enter(x)
        b, c, h, w = x.shape
        kernels = self.kernels(x).view(b, self.groups, 9, h, w).unsqueeze(2)
        windows = self.unfold(x).view(b, self.groups, c // self.groups, 9, h, w)
        return self.exit((kernels * windows).sum(dim=3).view(b, self.width, h, w))


@dataclass
class Answer:
    """What a network with two heads gives."""

    classes: torch.Tensor
    box: torch.Tensor


class TwoAnswers(nn.Module):
    """A dataclass is put out."""

    def __init__(self, k=1, d=1):
        super().__init__()
        self.body = nn.Sequential(conv(3, 32 * k, 3, 2), conv(32 * k, 64 * k, 3, 2))
        self.classes, self.box = nn.Linear(64 * k, 10), nn.Linear(64 * k, 4)

    def forward(self, x):
        x = self.body(x).mean((2, 3))
        return Answer(self.classes(x), self.box(x))


def of(block):
    return lambda k=1, d=1: two_stages(block, k, d)
