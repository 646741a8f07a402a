"""Blocks of other zoos: bare parameters, mirrored maps, octaves, groups of places, pyramids."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from tests.zoo import attention
from tests.zoo.parts import conv

of = attention.of


class Bare(nn.Module):
    """No module inside: a kernel, a norm's parameters and its statistics, all the block's own."""

    def __init__(self, w):
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(w, w, 3, 3) * 0.05)
        self.gamma, self.beta = nn.Parameter(torch.ones(w)), nn.Parameter(torch.zeros(w))
        self.register_buffer("mean", torch.zeros(w))
        self.register_buffer("var", torch.ones(w))

    def forward(self, x):
        y = functional.conv2d(x, self.kernel, None, 1, 1)
        y = functional.batch_norm(y, self.mean, self.var, self.gamma, self.beta, self.training)
        return x + functional.relu(y)


class Mirrored(nn.Module):
    """Half of the channels come from a convolution, the others are their negatives."""

    def __init__(self, w):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(w, w // 2, 3, 1, 1), nn.BatchNorm2d(w // 2)

    def forward(self, x):
        y = self.norm(self.conv(x))
        return x + functional.relu(torch.cat([y, -y], 1))


class Octave(nn.Module):
    """Half of the channels at half the resolution; both halves tell each other."""

    def __init__(self, w):
        super().__init__()
        self.half = w // 2
        self.keep, self.down, self.up, self.low = (
            nn.Conv2d(self.half, self.half, 3, 1, 1) for _ in range(4)
        )

    def forward(self, x):
        fine, coarse = x[:, : self.half], functional.avg_pool2d(x[:, self.half :], 2)
        size = fine.shape[-2:]
        fine_out = self.keep(fine) + functional.interpolate(self.up(coarse), size=size)
        coarse_out = self.low(coarse) + self.down(functional.avg_pool2d(fine, 2))
        return x + torch.cat([fine_out, functional.interpolate(coarse_out, size=size)], 1)


class PlacesInGroups(nn.Module):
    """Groups of channels, laid into the batch, each weigh their places; the groups stay eight."""

    def __init__(self, w, groups=8):
        super().__init__()
        self.conv, self.groups = conv(w, w), groups
        self.weight = nn.Parameter(torch.zeros(1, groups, 1, 1))
        self.bias = nn.Parameter(torch.ones(1, groups, 1, 1))

    def forward(self, x):
        y = self.conv(x)
        b, c, h, w = y.size()
        y = y.view(b * self.groups, -1, h, w)
        t = (y * y.mean((2, 3), keepdim=True)).sum(1).view(b * self.groups, -1)
        t = (t - t.mean(1, keepdim=True)) / (t.std(1, keepdim=True) + 1e-5)
        t = t.view(b, self.groups, h, w) * self.weight + self.bias
        t = t.view(b * self.groups, 1, h, w)
        return x + (y * torch.sigmoid(t)).view(b, c, h, w)


class KernelPyramid(nn.Module):
    """Kernels of three sizes, the larger the more groups; a sum of unequal parts."""

    def __init__(self, w):
        super().__init__()
        self.convs = nn.ModuleList(
            [
                nn.Conv2d(w, w // 4, 3, 1, 1),
                nn.Conv2d(w, w // 4, 5, 1, 2, groups=4),
                nn.Conv2d(w, w // 2, 7, 1, 3, groups=8),
            ]
        )
        self.norm = nn.BatchNorm2d(w)

    def forward(self, x):
        return x + self.norm(torch.cat([conv(x) for conv in self.convs], 1)).relu()


class AsManyHeads(nn.Module):
    """As many heads as channels in each at first, so that sizes do not tell one from the other."""

    def __init__(self, w, heads=4):
        super().__init__()
        self.heads, self.key_dim, self.wide = heads, w // 8, w // 2
        self.kv = nn.Conv2d(w, heads * (self.key_dim + self.wide), 1)
        self.q = nn.Conv2d(w, heads * self.key_dim, 1)
        self.out = nn.Conv2d(heads * self.wide, w, 1)

    def forward(self, x):
        b, _, h, w = x.shape
        k, v = self.kv(x).view(b, self.heads, -1, h * w).split([self.key_dim, self.wide], dim=2)
        q = self.q(x).view(b, self.heads, self.key_dim, -1)
        share = (q.transpose(-2, -1) @ k * self.key_dim**-0.5).softmax(-1)
        return x + self.out((v @ share.transpose(-2, -1)).reshape(b, -1, h, w))
