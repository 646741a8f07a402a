"""Networks whose blocks add something to their input."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from tests.zoo.parts import Chain, conv, head, linear_conv, two_stages


def shortcut(ins: int, outs: int, stride: int) -> nn.Module:
    return nn.Identity() if (ins, stride) == (outs, 1) else linear_conv(ins, outs, 1, stride)


class Basic(nn.Module):
    def __init__(self, ins, outs, stride):
        super().__init__()
        self.a, self.b = conv(ins, outs, 3, stride), linear_conv(outs, outs, 3)
        self.skip = shortcut(ins, outs, stride)

    def forward(self, x):
        return (self.b(self.a(x)) + self.skip(x)).relu()


class Bottleneck(nn.Module):
    groups = 1

    def __init__(self, ins, outs, stride):
        super().__init__()
        inner = outs // 2
        self.reduce = conv(ins, inner, 1)
        self.mix = conv(inner, inner, 3, stride, self.groups)
        self.expand = linear_conv(inner, outs)
        self.skip = shortcut(ins, outs, stride)

    def forward(self, x):
        return (self.expand(self.mix(self.reduce(x))) + self.skip(x)).relu()


class GroupedBottleneck(Bottleneck):
    groups = 2  # group widths 8 and 16


class PreActivated(nn.Module):
    def __init__(self, ins, outs, stride):
        super().__init__()
        self.norm_a, self.norm_b = nn.BatchNorm2d(ins), nn.BatchNorm2d(outs)
        self.a = nn.Conv2d(ins, outs, 3, stride, 1, bias=False)
        self.b = nn.Conv2d(outs, outs, 3, 1, 1, bias=False)
        self.skip = None
        if (ins, stride) != (outs, 1):
            self.skip = nn.Conv2d(ins, outs, 1, stride, bias=False)

    def forward(self, x):
        y = self.norm_a(x).relu()
        kept = x if self.skip is None else self.skip(y)
        return self.b(self.norm_b(self.a(y)).relu()) + kept


class Lambda(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Padded(nn.Module):
    """The shortcut takes every second position and pads channels with zeros."""

    def __init__(self, ins, outs, stride):
        super().__init__()
        self.a, self.b = conv(ins, outs, 3, stride), linear_conv(outs, outs, 3)
        self.skip = nn.Identity()
        if (ins, stride) != (outs, 1):
            extra = (outs - ins) // 2
            self.skip = Lambda(
                lambda x: functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, extra, outs - ins - extra))
            )

    def forward(self, x):
        return (self.b(self.a(x)) + self.skip(x)).relu()


class PaddedBySize(nn.Module):
    """A pyramid's block: what is missing to the output's width is padded when it is seen."""

    def __init__(self, ins, outs, stride):
        super().__init__()
        self.norm = nn.BatchNorm2d(ins)
        self.a, self.b = conv(ins, outs, 3, stride), linear_conv(outs, outs, 3)
        self.pool = nn.AvgPool2d(2) if stride == 2 else nn.Identity()

    def forward(self, x):
        y, kept = self.b(self.a(self.norm(x))), self.pool(x)
        missing = y.shape[1] - kept.shape[1]
        if missing:
            zeros = torch.zeros(
                kept.shape[0], missing, *kept.shape[2:], device=x.device, dtype=x.dtype
            )
            kept = torch.cat([kept, zeros], 1)
        return y + kept


class Pyramid(nn.Module):
    """Every block adds 16 channels."""

    def __init__(self, k=1, d=1):
        super().__init__()
        self.stem = conv(3, 16 * k)
        widths = [16 * k * (i + 1) for i in range(5)]
        strides = (1, 1, 2, 1)
        self.layers = nn.Sequential(
            *[PaddedBySize(a, b, s) for a, b, s in zip(widths, widths[1:], strides, strict=False)]
        )
        self.exit = head(widths[-1])

    def forward(self, x):
        return self.exit(self.layers(self.stem(x)))


class Shaken(nn.Module):
    """Two branches, mixed by chance while training and evenly afterwards."""

    def __init__(self, ins, outs, stride):
        super().__init__()
        self.left = nn.Sequential(conv(ins, outs, 3, stride), linear_conv(outs, outs, 3))
        self.right = nn.Sequential(conv(ins, outs, 3, stride), linear_conv(outs, outs, 3))
        self.skip = shortcut(ins, outs, stride)

    def forward(self, x):
        share = torch.rand(x.shape[0], 1, 1, 1, device=x.device) if self.training else 0.5
        return (share * self.left(x) + (1 - share) * self.right(x) + self.skip(x)).relu()


class Dropped(nn.Module):
    """A block that is left out by chance while training."""

    def __init__(self, ins, outs, stride):
        super().__init__()
        self.block, self.drop = Basic(ins, outs, stride), nn.Dropout2d(0.1)
        self.keep = 0.8

    def forward(self, x):
        y = self.drop(self.block(x))
        if self.training:
            mask = torch.empty(x.shape[0], 1, 1, 1, device=x.device).bernoulli_(self.keep)
            y = y * mask / self.keep
        return y


class ChannelsLast(nn.Module):
    """Depthwise, a norm over the last axis, two linear layers, and a layer scale."""

    def __init__(self, width):
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width)
        self.grow, self.shrink = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.gamma = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, x):
        y = self.depthwise(x).permute(0, 2, 3, 1)
        y = self.shrink(functional.gelu(self.grow(self.norm(y)))) * self.gamma
        return x + y.permute(0, 3, 1, 2)


class FirstNorm(nn.Module):
    """A norm over channels at axis 1, written out."""

    def __init__(self, width):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x):
        centred = x - x.mean(1, keepdim=True)
        normed = centred / (centred.square().mean(1, keepdim=True) + 1e-6).sqrt()
        return self.weight[:, None, None] * normed + self.bias[:, None, None]


class LayerScaled(nn.Module):
    def __init__(self, k=1, d=1):
        super().__init__()
        a, b = 32 * k, 64 * k
        self.downs = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(3, a, 2, 2), FirstNorm(a)),
                nn.Sequential(FirstNorm(a), nn.Conv2d(a, b, 2, 2)),
            ]
        )
        self.stages = nn.ModuleList(
            nn.Sequential(*[ChannelsLast(w) for _ in range(2 * d)]) for w in (a, b)
        )
        self.norm, self.exit = nn.LayerNorm(b), nn.Linear(b, 10)

    def forward(self, x):
        for i in range(2):
            x = self.stages[i](self.downs[i](x))
        return self.exit(self.norm(x.mean((-2, -1))))


class StandardConv(nn.Conv2d):
    """A convolution whose weights are standardised when it runs."""

    def forward(self, x):
        weight = self.weight
        mean = weight.mean((1, 2, 3), keepdim=True)
        var = weight.var((1, 2, 3), keepdim=True, unbiased=False)
        weight = (weight - mean) / (var + 1e-5).sqrt()
        return functional.conv2d(
            x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )


class Standardised(nn.Module):
    def __init__(self, ins, outs, stride):
        super().__init__()
        self.norm = nn.GroupNorm(8, ins)
        self.a = StandardConv(ins, outs, 3, stride, 1)
        self.norm_b = nn.GroupNorm(8, outs)
        self.b = StandardConv(outs, outs, 3, 1, 1)
        self.skip = None
        if (ins, stride) != (outs, 1):
            self.skip = StandardConv(ins, outs, 1, stride)

    def forward(self, x):
        y = self.norm(x).relu()
        kept = x if self.skip is None else self.skip(y)
        return kept + self.b(self.norm_b(self.a(y)).relu())


class GainConv(nn.Conv2d):
    """A standardised convolution with a gain a channel, as in networks without norms."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.gain = nn.Parameter(torch.ones(self.out_channels, 1, 1, 1))

    def forward(self, x):
        fan_in = self.weight[0].numel()
        weight = functional.layer_norm(self.weight, self.weight.shape[1:]) * self.gain
        return functional.conv2d(x, weight / fan_in**0.5, self.bias, self.stride, self.padding)


class NormFree(nn.Module):
    def __init__(self, ins, outs, stride):
        super().__init__()
        self.a, self.b = GainConv(ins, outs, 3, stride, 1), GainConv(outs, outs, 3, 1, 1)
        self.skip = GainConv(ins, outs, 1, stride) if (ins, stride) != (outs, 1) else nn.Identity()
        self.strength = nn.Parameter(torch.tensor(0.1))

    def forward(self, x):
        return self.skip(x) + self.strength * self.b(self.a(x.relu()).relu())


class Reversible(nn.Module):
    """Each half of the channels is changed by a function of the other half."""

    def __init__(self, width):
        super().__init__()
        half = width // 2
        self.f = nn.Sequential(nn.BatchNorm2d(half), nn.ReLU(), nn.Conv2d(half, half, 3, 1, 1))
        self.g = nn.Sequential(nn.BatchNorm2d(half), nn.ReLU(), nn.Conv2d(half, half, 3, 1, 1))

    def forward(self, x):
        a, b = torch.chunk(x, 2, dim=1)
        a = a + self.f(b)
        b = b + self.g(a)
        return torch.cat([a, b], 1)


def reversible(k=1, d=1):
    a, b = 32 * k, 64 * k
    stages = [
        nn.Sequential(*[Reversible(a) for _ in range(2 * d)]),
        conv(a, b, 3, 2),
        nn.Sequential(*[Reversible(b) for _ in range(2 * d)]),
    ]
    return Chain(conv(3, a), stages, head(b))


class Squeezed(nn.Module):
    """Inverted residual with squeeze-and-excitation and hard activations."""

    def __init__(self, ins, outs, stride, expansion=4, act=nn.Hardswish):
        super().__init__()
        inner = ins * expansion
        self.grow = nn.Sequential(
            nn.Conv2d(ins, inner, 1, bias=False), nn.BatchNorm2d(inner), act()
        )
        self.depthwise = nn.Sequential(
            nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False),
            nn.BatchNorm2d(inner),
            act(),
        )
        self.reduce, self.expand = nn.Conv2d(inner, ins, 1), nn.Conv2d(ins, inner, 1)
        self.shrink = linear_conv(inner, outs)
        self.residual = (ins, stride) == (outs, 1)

    def forward(self, x):
        y = self.depthwise(self.grow(x))
        gate = self.expand(self.reduce(y.mean((2, 3), keepdim=True)).relu())
        y = self.shrink(y * functional.hardsigmoid(gate))
        return x + y if self.residual else y


class Mobile(nn.Module):
    """Inverted residuals built from a list of settings, and a wide head."""

    def __init__(self, k=1, d=1):
        super().__init__()
        settings = [(16, 2 * d, 1), (32, 2 * d, 2), (48, 3 * d, 2)]
        ins = 16 * k
        self.conv_stem, self.bn = nn.Conv2d(3, ins, 3, 2, 1, bias=False), nn.BatchNorm2d(ins)
        stages = []
        for width, depth, stride in settings:
            blocks = []
            for i in range(depth):
                blocks.append(Squeezed(ins, width * k, stride if i == 0 else 1))
                ins = width * k
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)
        self.head = nn.Conv2d(ins, 160 * k, 1)
        self.classifier = nn.Linear(160 * k, 10)

    def forward(self, x):
        x = functional.hardswish(self.bn(self.conv_stem(x)))
        x = functional.hardswish(self.head(functional.adaptive_avg_pool2d(self.blocks(x), 1)))
        return self.classifier(functional.dropout(x.flatten(1), 0.2, self.training))


class Hierarchical(nn.Module):
    """Splits of the inner width, each convolved after adding the one before it."""

    def __init__(self, ins, outs, stride, parts=4):
        super().__init__()
        self.width, self.parts = outs // parts, parts
        self.reduce = conv(ins, outs, 1)
        self.convs = nn.ModuleList(
            [nn.Conv2d(self.width, self.width, 3, stride, 1) for _ in range(parts - 1)]
        )
        self.pool = nn.AvgPool2d(3, stride, 1) if stride == 2 else nn.Identity()
        self.expand, self.skip = linear_conv(outs, outs), shortcut(ins, outs, stride)
        self.first = stride == 2

    def forward(self, x):
        splits = torch.split(self.reduce(x), self.width, 1)
        found, y = [], splits[0]
        for i, part in enumerate(self.convs):
            y = splits[i] if i == 0 or self.first else y + splits[i]
            y = part(y).relu()
            found.append(y)
        found.append(self.pool(splits[-1]))
        return (self.expand(torch.cat(found, 1)) + self.skip(x)).relu()


class Chunked(nn.Module):
    """Three parts of which the last is narrower, as chunk cuts them; depthwise kernels."""

    def __init__(self, ins, outs, stride):
        super().__init__()
        part = -(-outs // 3)
        self.reduce = conv(ins, outs, 1, stride)
        self.convs = nn.ModuleList(
            [nn.Conv2d(size, size, 3, 1, 1, groups=size) for size in (part, outs - 2 * part)]
        )
        self.expand, self.skip = linear_conv(outs, outs), shortcut(ins, outs, stride)

    def forward(self, x):
        first, second, third = self.reduce(x).chunk(3, 1)
        parts = [first, self.convs[0](second), self.convs[1](third)]
        return (self.expand(torch.cat(parts, 1)) + self.skip(x)).relu()


class CrossStage(nn.Module):
    """Half of the channels goes through the blocks, the other half around them."""

    def __init__(self, ins, outs, stride, depth):
        super().__init__()
        self.down = conv(ins, outs, 3, stride)
        self.expand = conv(outs, outs, 1)
        self.blocks = nn.Sequential(*[Basic(outs // 2, outs // 2, 1) for _ in range(depth)])
        self.after, self.join = conv(outs // 2, outs // 2, 1), conv(outs, outs, 1)

    def forward(self, x):
        around, through = self.expand(self.down(x)).chunk(2, dim=1)
        return self.join(torch.cat([self.after(self.blocks(through)), around], dim=1))


def cross_stage(k=1, d=1):
    stages = [CrossStage(32 * k, 64 * k, 2, 2 * d), CrossStage(64 * k, 128 * k, 2, 3 * d)]
    return Chain(conv(3, 32 * k), stages, head(128 * k))


class Darknet(nn.Module):
    """Built from a list of words, as configuration files hold it."""

    def __init__(self, k=1, d=1):
        super().__init__()
        config = [["conv", 32, 1], ["conv", 64, 2], ["res", 64, 2 * d], ["conv", 128, 2]]
        config += [["res", 128, 3 * d]]
        ins = 3
        self.layers = nn.ModuleList()
        for kind, width, number in config:
            outs = width * k
            if kind == "conv":
                self.layers.append(conv(ins, outs, 3, number))
            else:
                self.layers.append(nn.Sequential(*[Dark(outs) for _ in range(number)]))
            ins = outs
        self.exit = head(ins)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.exit(x)


class Dark(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1 = self._conv(width, width // 2, 1)
        self.conv2 = self._conv(width // 2, width, 3)

    @staticmethod
    def _conv(ins, outs, kernel):
        return nn.Sequential(
            nn.Conv2d(ins, outs, kernel, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(outs),
            nn.LeakyReLU(0.1),
        )

    def forward(self, x):
        return x + self.conv2(self.conv1(x))


class Shared(nn.Module):
    """One block, run over and over."""

    def __init__(self, k=1, d=1):
        super().__init__()
        self.stem, self.block, self.exit = conv(3, 32 * k), Basic(32 * k, 32 * k, 1), head(32 * k)

    def forward(self, x):
        x = self.stem(x)
        for _ in range(3):
            x = self.block(x)
        return self.exit(x)


class Sharing(Basic):
    """A block whose second convolution is that of the stage's first."""

    def __init__(self, ins, outs, stride, leader):
        super().__init__(ins, outs, stride)
        if leader is not None:
            self.b = nn.Sequential(leader.b[0], nn.BatchNorm2d(outs))


def sharing(k=1, d=1):
    a, b = 32 * k, 64 * k
    stages = []
    for ins, outs, stride in ((a, a, 1), (a, b, 2)):
        blocks = [Sharing(ins, outs, stride, None)]
        blocks += [Sharing(outs, outs, 1, blocks[0]) for _ in range(2 * d - 1)]
        stages.append(nn.Sequential(*blocks))
    return Chain(conv(3, a), stages, head(b))


def of(block):
    return lambda k=1, d=1: two_stages(block, k, d)
