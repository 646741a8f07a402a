"""Networks whose blocks join, split, shuffle or choose between branches."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from tests.zoo.parts import Chain, conv, head, linear_conv


class Mixed(nn.Module):
    """Four branches of unequal widths, joined."""

    def __init__(self, ins, a, b, c, e):
        super().__init__()
        self.one = conv(ins, a, 1)
        self.two = nn.Sequential(conv(ins, b // 2, 1), conv(b // 2, b))
        self.three = nn.Sequential(conv(ins, c, 1), conv(c, c), conv(c, c))
        self.four = nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(ins, e, 1))

    def forward(self, x):
        return torch.cat([self.one(x), self.two(x), self.three(x), self.four(x)], 1)


class Inception(nn.Module):
    """With a second head that runs while training only."""

    def __init__(self, k=1, d=1):
        super().__init__()
        self.stem = conv(3, 32 * k, 3, 2)
        self.a = Mixed(32 * k, 16 * k, 32 * k, 16 * k, 16 * k)
        self.b = Mixed(80 * k, 32 * k, 64 * k, 32 * k, 16 * k)
        self.aux = nn.Sequential(conv(80 * k, 32 * k, 1), head(32 * k))
        self.exit = head(144 * k)

    def forward(self, x):
        x = self.a(self.stem(x))
        side = self.aux(x) if self.training else None
        x = self.exit(self.b(x))
        return (x, side) if self.training else x


class Factorised(nn.Module):
    """Kernels of 1×7 and 7×1, and branches that fork again."""

    def __init__(self, k=1, d=1):
        super().__init__()
        w = 32 * k
        self.stem = conv(3, w, 3, 2)
        self.row = nn.Conv2d(w, w, (1, 7), padding=(0, 3))
        self.column = nn.Conv2d(w, w, (7, 1), padding=(3, 0))
        self.fork_a = nn.Conv2d(w, 2 * w, (1, 3), padding=(0, 1))
        self.fork_b = nn.Conv2d(w, w, (3, 1), padding=(1, 0))
        self.exit = head(3 * w)

    def forward(self, x):
        x = self.column(self.row(self.stem(x)).relu()).relu()
        return self.exit(torch.cat([self.fork_a(x), self.fork_b(x)], 1).relu())


class Fire(nn.Module):
    def __init__(self, ins, squeeze, expand):
        super().__init__()
        self.squeeze = nn.Conv2d(ins, squeeze, 1)
        self.left, self.right = nn.Conv2d(squeeze, expand, 1), nn.Conv2d(squeeze, expand, 3, 1, 1)

    def forward(self, x):
        x = self.squeeze(x).relu()
        return torch.cat([self.left(x).relu(), self.right(x).relu()], 1)


class Fires(nn.Module):
    """A convolution as the classifier, pooled at the end."""

    def __init__(self, k=1, d=1):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 32 * k, 3, 2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            Fire(32 * k, 16 * k, 32 * k),
            Fire(64 * k, 16 * k, 32 * k),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            Fire(64 * k, 32 * k, 64 * k),
        )
        self.last = nn.Conv2d(128 * k, 10, 1)

    def forward(self, x):
        x = self.last(functional.dropout(self.features(x), training=self.training)).relu()
        return functional.adaptive_avg_pool2d(x, (1, 1)).view(x.size(0), 10)


class DenseLayer(nn.Module):
    def __init__(self, ins, growth):
        super().__init__()
        self.norm, self.mix = nn.BatchNorm2d(ins), nn.Conv2d(ins, growth, 3, 1, 1, bias=False)

    def forward(self, x):
        return torch.cat([x, self.mix(self.norm(x).relu())], 1)


class Dense(nn.Module):
    def __init__(self, k=1, d=1, layers=3):
        super().__init__()
        growth, w = 16 * k, 32 * k
        self.stem = nn.Conv2d(3, w, 3, 1, 1, bias=False)
        self.block_a = nn.Sequential(*[DenseLayer(w + i * growth, growth) for i in range(layers)])
        w += layers * growth
        self.between = nn.Sequential(
            nn.BatchNorm2d(w), nn.ReLU(), nn.Conv2d(w, 48 * k, 1), nn.AvgPool2d(2)
        )
        w = 48 * k
        self.block_b = nn.Sequential(*[DenseLayer(w + i * growth, growth) for i in range(layers)])
        w += layers * growth
        self.norm, self.exit = nn.BatchNorm2d(w), head(w)

    def forward(self, x):
        x = self.block_b(self.between(self.block_a(self.stem(x))))
        return self.exit(self.norm(x).relu())


class Masked(nn.Conv2d):
    """A convolution whose kernel is standardised, and masked by a tensor of its shape."""

    def __init__(self, ins, outs, *args, **options):
        super().__init__(ins, outs, *args, **options)
        self.register_parameter("mask", nn.Parameter(torch.rand_like(self.weight)))

    def forward(self, x):
        centred = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        kernel = centred / (centred.pow(2).mean((1, 2, 3), keepdim=True) + 1e-5).sqrt()
        return functional.conv2d(
            input=x, weight=kernel * self.mask, bias=self.bias, padding=self.padding
        )


def masked_dense(k=1, d=1):
    net = DenseStages(k, d)
    for layer in [part for part in net.modules() if type(part) is DenseLayer]:
        layer.mix = Masked(layer.mix.in_channels, layer.mix.out_channels, 3, padding=1)
    return net


class DenseStages(nn.Module):
    """Dense blocks in sequences that stand in a sequence, each led by its transition."""

    def __init__(self, k=1, d=1):
        super().__init__()
        growth, w = 16 * k, 32 * k
        stages = [conv(3, w)]
        for layers in (2 * d, 3 * d):
            between = [linear_conv(w, 48 * k), nn.AvgPool2d(2)] if len(stages) > 1 else []
            w = 48 * k if between else w
            layers = [DenseLayer(w + i * growth, growth) for i in range(2 * layers)]
            w += len(layers) * growth
            stages.append(nn.Sequential(*between, *layers))
        self.features = nn.Sequential(*stages)
        self.norm, self.exit = nn.BatchNorm2d(w), head(w)

    def forward(self, x):
        return self.exit(self.norm(self.features(x)).relu())


class Aggregated(nn.Module):
    """All layers of a stage are kept and joined once, at its end."""

    def __init__(self, k=1, d=1):
        super().__init__()
        w = 32 * k
        self.stem = conv(3, w, 3, 2)
        self.layers = nn.ModuleList([conv(w, w) for _ in range(4)])
        self.join = conv(5 * w, 2 * w, 1)
        self.exit = head(2 * w)

    def forward(self, x):
        kept = [self.stem(x)]
        for layer in self.layers:
            kept.append(layer(kept[-1]))
        return self.exit(self.join(torch.cat(kept, dim=1)))


def shuffled(x, groups):
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


class Shuffle(nn.Module):
    """Half of the channels passes; the halves are shuffled afterwards."""

    def __init__(self, ins, outs, stride):
        super().__init__()
        self.stride, half = stride, outs // 2
        start = ins if stride > 1 else half
        self.near = None
        if stride > 1:
            self.near = nn.Sequential(
                nn.Conv2d(ins, ins, 3, stride, 1, groups=ins), conv(ins, half, 1)
            )
        self.far = nn.Sequential(
            conv(start, half, 1),
            nn.Conv2d(half, half, 3, stride, 1, groups=half),
            conv(half, half, 1),
        )

    def forward(self, x):
        if self.near is None:
            kept, changed = x.chunk(2, dim=1)
            out = torch.cat([kept, self.far(changed)], dim=1)
        else:
            out = torch.cat([self.near(x), self.far(x)], dim=1)
        return shuffled(out, 2)


def shuffle(k=1, d=1):
    a, b = 64 * k, 128 * k
    stages = [
        nn.Sequential(Shuffle(32 * k, a, 2), *[Shuffle(a, a, 1) for _ in range(2 * d - 1)]),
        nn.Sequential(Shuffle(a, b, 2), *[Shuffle(b, b, 1) for _ in range(2 * d - 1)]),
    ]
    return Chain(conv(3, 32 * k), stages, head(b))


class UnequalShuffle(nn.Module):
    """What it takes, or half of it, stands beside what is made of the rest; both are shuffled."""

    def __init__(self, ins, outs, *, first=False):
        super().__init__()
        self.first = first
        taken = ins if first else ins // 2
        self.body = nn.Sequential(
            conv(taken, outs // 2, 1),
            linear_conv(outs // 2, outs // 2, 3, 1 + first),
            conv(outs // 2, outs - taken, 1),
        )
        self.beside = linear_conv(ins, ins, 3, 2) if first else None

    def forward(self, x):
        kept, x = (x, x) if self.first else torch.chunk(x, 2, 1)
        kept = kept if self.beside is None else self.beside(kept)
        x = torch.cat((kept, self.body(x)), 1)
        n, c, h, w = x.size()
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


def unequal_shuffle(k=1, d=1):
    a, b = 32 * k, 96 * k
    stages = [
        [UnequalShuffle(ins, outs, first=True)] + [UnequalShuffle(outs, outs) for _ in range(more)]
        for ins, outs, more in ((a, b, 3 * d + d - 1), (b, 2 * b, 2 * d + d - 1))
    ]
    return Chain(conv(3, a), [nn.Sequential(*blocks) for blocks in stages], head(2 * b))


def shuffled_stem(k=1, d=1):
    """The stem's own channels are halved and shuffled, with no layer between."""
    return Chain(conv(3, 48 * k), [Shuffle(48 * k, 48 * k, 1) for _ in range(3 * d)], head(48 * k))


class GroupShuffle(nn.Module):
    """Grouped pointwise convolutions with a shuffle between them."""

    def __init__(self, width, groups=4):
        super().__init__()
        self.groups = groups
        self.a = conv(width, width // 2, 1, groups=groups)
        self.mix = nn.Conv2d(width // 2, width // 2, 3, 1, 1, groups=width // 2)
        self.b = nn.Sequential(
            nn.Conv2d(width // 2, width, 1, groups=groups, bias=False), nn.BatchNorm2d(width)
        )

    def forward(self, x):
        return (x + self.b(self.mix(shuffled(self.a(x), self.groups)))).relu()


def group_shuffle(k=1, d=1):
    w = 128 * k
    return Chain(conv(3, w, 3, 2), [GroupShuffle(w) for _ in range(2 * d)], head(w))


class Ghost(nn.Module):
    """Half of the output by a convolution, the other half cheaply from the first."""

    def __init__(self, ins, outs, kernel=1):
        super().__init__()
        self.outs, half = outs, (outs + 1) // 2
        self.primary = conv(ins, half, kernel)
        self.cheap = conv(half, half, 3, groups=half)

    def forward(self, x):
        first = self.primary(x)
        return torch.cat([first, self.cheap(first)], 1)[:, : self.outs]


def ghost(k=1, d=1):
    a, b = 32 * k, 64 * k
    return Chain(conv(3, a), [Ghost(a, b), nn.MaxPool2d(2), Ghost(b, b, 3)], head(b))


class HighResolution(nn.Module):
    """Two resolutions side by side that exchange what they have."""

    def __init__(self, k=1, d=1):
        super().__init__()
        a, b = 16 * k, 32 * k
        self.stem, self.enter = conv(3, a), conv(a, b, 3, 2)
        self.fine = nn.ModuleList([conv(a, a) for _ in range(2)])
        self.coarse = nn.ModuleList([conv(b, b) for _ in range(2)])
        self.down = nn.ModuleList([linear_conv(a, b, 3, 2) for _ in range(2)])
        self.up = nn.ModuleList([linear_conv(b, a) for _ in range(2)])
        self.exit = head(a + b)

    def forward(self, x):
        x = self.stem(x)
        streams = [x, self.enter(x)]
        for i in range(2):
            fine, coarse = self.fine[i](streams[0]), self.coarse[i](streams[1])
            lifted = functional.interpolate(self.up[i](coarse), scale_factor=2, mode="nearest")
            streams = [(fine + lifted).relu(), (coarse + self.down[i](fine)).relu()]
        joined = functional.interpolate(streams[1], size=streams[0].shape[2:], mode="bilinear")
        return self.exit(torch.cat([streams[0], joined], 1))


class Reparametrised(nn.Module):
    """3×3, 1×1 and identity in parallel, each with its norm."""

    def __init__(self, ins, outs, stride):
        super().__init__()
        self.large, self.small = (
            linear_conv(ins, outs, 3, stride),
            linear_conv(ins, outs, 1, stride),
        )
        self.same = nn.BatchNorm2d(ins) if (ins, stride) == (outs, 1) else None

    def forward(self, x):
        y = self.large(x) + self.small(x)
        return functional.relu(y if self.same is None else y + self.same(x))


class MixedKernels(nn.Module):
    """A depthwise convolution with another kernel for each part of the channels."""

    def __init__(self, width):
        super().__init__()
        self.sizes = [width // 2, width // 4, width // 4]
        self.parts = nn.ModuleList(
            [
                nn.Conv2d(n, n, kernel, padding=kernel // 2, groups=n)
                for n, kernel in zip(self.sizes, (3, 5, 7), strict=True)
            ]
        )

    def forward(self, x):
        split = torch.split(x, self.sizes, 1)
        return torch.cat([part(piece) for part, piece in zip(self.parts, split, strict=True)], 1)


def mixed_kernels(k=1, d=1):
    w = 64 * k
    return Chain(conv(3, w, 3, 2), [MixedKernels(w), conv(w, w, 1)], head(w))


class Experts(nn.Module):
    """A convolution whose weights are a mixture that the image chooses."""

    def __init__(self, ins, outs, experts=4):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(experts, outs, ins, 3, 3) * 0.05)
        self.route = nn.Linear(ins, experts)

    def forward(self, x):
        n, c, h, w = x.shape
        share = self.route(x.mean((2, 3))).sigmoid()
        outs = self.weight.shape[1]
        weight = (share @ self.weight.flatten(1)).view(n * outs, c, 3, 3)
        y = functional.conv2d(x.reshape(1, n * c, h, w), weight, padding=1, groups=n)
        return y.view(n, outs, h, w)


def experts(k=1, d=1):
    return Chain(conv(3, 32 * k), [Experts(32 * k, 64 * k), nn.ReLU()], head(64 * k))


class Maxout(nn.Module):
    """The larger of two halves, channel by channel."""

    def __init__(self, ins, outs):
        super().__init__()
        self.both = nn.Conv2d(ins, 2 * outs, 3, 1, 1)

    def forward(self, x):
        a, b = torch.split(self.both(x), self.both.out_channels // 2, 1)
        return torch.max(a, b)


def maxout(k=1, d=1):
    return Chain(Maxout(3, 32 * k), [nn.MaxPool2d(2), Maxout(32 * k, 64 * k)], head(64 * k))


class Partial(nn.Module):
    """A quarter of the channels is convolved, the rest passes untouched."""

    def __init__(self, width):
        super().__init__()
        self.part = width // 4
        self.rest = width - self.part
        self.mix = nn.Conv2d(self.part, self.part, 3, 1, 1, bias=False)
        self.grow, self.shrink = conv(width, 2 * width, 1), nn.Conv2d(2 * width, width, 1)

    def forward(self, x):
        a, b = torch.split(x, [self.part, self.rest], dim=1)
        return x + self.shrink(self.grow(torch.cat((self.mix(a), b), 1)))


def partial(k=1, d=1):
    w = 64 * k
    return Chain(conv(3, w, 3, 2), [nn.Sequential(*[Partial(w) for _ in range(2 * d)])], head(w))
