"""Widths that multiply, lists beside blocks, kernels made as the network runs, several answers."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from tests.zoo.parts import conv, head, linear_conv, two_stages


class Bilinear(nn.Module):
    """All channels times all channels, flattened for the classifier."""

    def __init__(self, k=1, d=1):
        super().__init__()
        w = 32 * k
        self.features = nn.Sequential(conv(3, w, 3, 2), conv(w, w, 3, 2))
        self.fc = nn.Linear(w**2, 10)

    def forward(self, x):
        x = self.features(x)
        n, c, h, w = x.size()
        x = x.view(n, c, h * w)
        x = torch.bmm(x, torch.transpose(x, 1, 2)) / (h * w)
        x = torch.sqrt(x.view(n, c**2).abs() + 1e-5)
        return self.fc(functional.normalize(x))


class Transform(nn.Module):
    """A square matrix for each cloud of points, put out as one row and added to the identity."""

    def __init__(self, k, w):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv1d(k, w, 1), nn.Conv1d(w, 4 * w, 1)
        self.fc1, self.fc2 = nn.Linear(4 * w, 2 * w), nn.Linear(2 * w, k * k)
        self.k = k

    def forward(self, x):
        b = x.size()[0]
        x = functional.relu(self.conv2(functional.relu(self.conv1(x))))
        x = torch.max(x, 2, keepdim=True)[0].view(b, -1)
        x = self.fc2(functional.relu(self.fc1(x)))
        x = x + torch.eye(self.k).flatten().view(1, self.k * self.k).repeat(b, 1)
        return x.view(-1, self.k, self.k)


class Aligned(nn.Module):
    """Points, and then their features, are multiplied by learned matrices."""

    def __init__(self, k=1, d=1):
        super().__init__()
        w = 32 * k
        self.stn, self.fstn = Transform(3, w), Transform(w, w)
        self.conv1, self.conv2 = nn.Conv1d(3, w, 1), nn.Conv1d(w, 4 * w, 1)
        self.fc = nn.Linear(4 * w, 10)

    def forward(self, x):
        x = torch.bmm(x.transpose(2, 1), self.stn(x)).transpose(2, 1)
        x = functional.relu(self.conv1(x))
        x = torch.bmm(x.transpose(2, 1), self.fstn(x)).transpose(2, 1)
        return self.fc(torch.max(self.conv2(x), 2)[0])


class Column(nn.Module):
    """A convolution whose kernel is kept in one column, and binarised."""

    def __init__(self, ins, outs, stride):
        super().__init__()
        self.stride, self.shape = stride, (outs, ins, 3, 3)
        self.weights = nn.Parameter(torch.rand((ins * outs * 9, 1)) * 0.001)

    def forward(self, x):
        real = self.weights.view(self.shape)
        scale = real.abs().mean((1, 2, 3), keepdim=True).detach()
        binary, clamped = scale * torch.sign(real), torch.clamp(real, -1.0, 1.0)
        kernel = binary.detach() - clamped.detach() + clamped
        return functional.conv2d(x, kernel, stride=self.stride, padding=1)


class Binary(nn.Module):
    """A block around it, with a bias to learn before."""

    def __init__(self, ins, outs, stride):
        super().__init__()
        self.move = nn.Parameter(torch.zeros(1, ins, 1, 1))
        self.conv, self.norm = Column(ins, outs, stride), nn.BatchNorm2d(outs)
        self.down = None
        if (ins, stride) != (outs, 1):
            self.down = nn.Sequential(nn.AvgPool2d(stride), linear_conv(ins, outs))

    def forward(self, x):
        y = self.norm(self.conv(functional.hardtanh(x + self.move.expand_as(x))))
        return y + (x if self.down is None else self.down(x))


class RoutedConv(nn.Module):
    """Kernels of four experts, mixed by an einsum."""

    def __init__(self, ins, outs, stride, experts=4):
        super().__init__()
        self.ins, self.outs, self.stride = ins, outs, stride
        self.weight = nn.Parameter(torch.randn(experts, outs, ins, 3, 3) * 0.05)
        self.route = nn.Linear(ins, experts)

    def forward(self, x):
        b, c, h, w = x.shape
        share = torch.sigmoid(self.route(functional.adaptive_avg_pool2d(x, 1).flatten(1)))
        weight = torch.einsum("bn,noikl->boikl", share, self.weight)
        weight = weight.reshape(b * self.outs, self.ins, 3, 3)
        y = functional.conv2d(x.reshape(1, b * c, h, w), weight, None, self.stride, 1, groups=b)
        return y.view(b, self.outs, y.shape[-2], y.shape[-1])


class Routed(nn.Module):
    """A residual block of such convolutions."""

    def __init__(self, ins, outs, stride):
        super().__init__()
        self.a, self.norm = RoutedConv(ins, outs, stride), nn.BatchNorm2d(outs)
        self.b, self.last = RoutedConv(outs, outs, 1), nn.BatchNorm2d(outs)
        same = (ins, stride) == (outs, 1)
        self.down = nn.Identity() if same else linear_conv(ins, outs, 1, stride)

    def forward(self, x):
        y = self.last(self.b(functional.relu(self.norm(self.a(x)))))
        return functional.relu(y + self.down(x))


class Packed(nn.Module):
    """A kernel of experts that is kept in rows; grouped as the network says."""

    def __init__(self, ins, outs, groups=1, experts=4):
        super().__init__()
        self.ins, self.outs, self.groups = ins, outs, groups
        self.weight = nn.Parameter(torch.randn(experts, outs * ins // groups * 9) * 0.05)

    def forward(self, x, share):
        b, c, h, w = x.shape
        weight = torch.matmul(share, self.weight)
        weight = weight.view(b * self.outs, self.ins // self.groups, 3, 3)
        x = x.reshape(1, b * c, h, w)
        y = functional.conv2d(x, weight, padding=1, groups=self.groups * b)
        return y.permute([1, 0, 2, 3]).view(b, self.outs, h, w)


class Conditional(nn.Module):
    """Plain and depthwise kernels in rows, one routing for both."""

    def __init__(self, k=1, d=1):
        super().__init__()
        w = 32 * k
        self.enter, self.route = conv(3, w, 3, 2), nn.Linear(w, 4)
        self.wide, self.deep = Packed(w, 2 * w), Packed(2 * w, 2 * w, groups=2 * w)
        self.fc = nn.Linear(2 * w, 10)

    def forward(self, x):
        x = self.enter(x)
        share = torch.sigmoid(self.route(x.mean((2, 3))))
        x = functional.relu(self.wide(x, share))
        return self.fc(functional.relu(self.deep(x, share)).mean((2, 3)))


class Modulated(nn.Module):
    """A kernel for each image: its inputs are scaled by a style, its outputs normalised."""

    def __init__(self, ins, outs, kernel, style):
        super().__init__()
        self.ins, self.outs, self.kernel = ins, outs, kernel
        self.weight = nn.Parameter(torch.randn(1, outs, ins, kernel, kernel))
        self.style = nn.Linear(style, ins)

    def forward(self, x, style):
        b, c, h, w = x.shape
        weight = self.weight * self.style(style).view(b, 1, c, 1, 1)
        size = torch.rsqrt(weight.pow(2).sum([2, 3, 4]) + 1e-8)
        weight = weight * size.view(b, self.outs, 1, 1, 1)
        weight = weight.view(b * self.outs, c, self.kernel, self.kernel)
        y = functional.conv2d(
            x.view(1, b * c, h, w), weight, padding=self.kernel // 2, groups=b
        )  # fmt: skip
        return y.view(b, self.outs, y.shape[2], y.shape[3])


class Styled(nn.Module):
    """An encoder tells the style of a generator."""

    def __init__(self, k=1, d=1):
        super().__init__()
        w, s = 32 * k, 64 * k
        self.encoder = nn.Sequential(conv(3, w, 3, 2), conv(w, 2 * w, 3, 2))
        self.mapping = nn.Sequential(nn.Linear(2 * w, s), nn.LeakyReLU(0.2), nn.Linear(s, s))
        self.a, self.b = Modulated(2 * w, 2 * w, 3, s), Modulated(2 * w, w, 3, s)
        self.colours = Modulated(w, 3, 1, s)

    def forward(self, x):
        x = self.encoder(x)
        style = self.mapping(x.mean((2, 3)))
        x = functional.leaky_relu(self.b(functional.leaky_relu(self.a(x, style)), style))
        return self.colours(functional.interpolate(x, scale_factor=4), style)


class Blurring(nn.Module):
    """Every channel is an image of its own for the filter that blurs it."""

    def __init__(self, k=1, d=1):
        super().__init__()
        w = 32 * k
        line = torch.tensor([1.0, 3.0, 3.0, 1.0])
        self.register_buffer("kernel", line[None, :] * line[:, None] / 64)
        self.a, self.b = conv(3, w), conv(w, 2 * w)
        self.last, self.fc = conv(2 * w + 1, 2 * w), nn.Linear(2 * w, 1)

    def blurred(self, x):
        n, c, h, w = x.shape
        x = functional.pad(x.view(-1, 1, h, w), (1, 1, 1, 1))
        x = functional.conv2d(x, self.kernel[None, None], stride=2)
        return x.view(n, c, x.shape[2], x.shape[3])

    def forward(self, x):
        x = self.b(self.blurred(self.a(x)))
        n, c, h, w = x.shape
        spread = torch.sqrt(x.view(n, -1, 1, c, h, w).var(0, unbiased=False) + 1e-8)
        spread = spread.mean([2, 3, 4], keepdims=True).squeeze(2).repeat(n, 1, h, w)
        return self.fc(self.last(torch.cat([x, spread], 1)).mean((2, 3)))


class Linearly(nn.Module):
    """What arrives is added in place to the first channels of what is put out."""

    def __init__(self, ins, outs, stride):
        super().__init__()
        self.use_shortcut, self.in_channels = stride == 1 and ins <= outs, ins
        self.out = nn.Sequential(
            conv(ins, 2 * ins, 1), conv(2 * ins, 2 * ins, 3, stride, 2 * ins),
            linear_conv(2 * ins, outs),
        )  # fmt: skip

    def forward(self, x):
        out = self.out(x)
        if self.use_shortcut:
            out[:, 0 : self.in_channels] += x
        return out


class Rex(nn.Module):
    """Widths grow from block to block."""

    def __init__(self, k=1, d=1):
        super().__init__()
        a, b, c, e = (w * k for w in (32, 48, 64, 80))
        self.features = nn.Sequential(
            conv(3, a, 3, 2), Linearly(a, b, 1), Linearly(b, c, 2), Linearly(c, e, 1)
        )
        self.exit = head(e)

    def forward(self, x):
        return self.exit(self.features(x))


class Joints(nn.Module):
    """A block over a graph: what neighbours tell, and a convolution in time."""

    def __init__(self, ins, outs, stride, parts=3):
        super().__init__()
        self.parts, self.conv = parts, nn.Conv2d(ins, outs * parts, 1)
        self.time = nn.Sequential(
            nn.BatchNorm2d(outs), nn.ReLU(),
            nn.Conv2d(outs, outs, (9, 1), (stride, 1), (4, 0)), nn.BatchNorm2d(outs),
        )  # fmt: skip
        self.residual = lambda x: x
        if (ins, stride) != (outs, 1):
            self.residual = linear_conv(ins, outs, 1, (stride, 1))

    def forward(self, x, graph):
        kept = self.residual(x)
        x = self.conv(x)
        n, c, t, v = x.size()
        x = x.view(n, self.parts, c // self.parts, t, v)
        x = self.time(torch.einsum("nkctv,kvw->nctw", (x, graph)).contiguous())
        return functional.relu(x + kept), graph


class Skeleton(nn.Module):
    """Each block has a weight for every edge, in a list of its own that is zipped with blocks."""

    def __init__(self, k=1, d=1):
        super().__init__()
        w = 32 * k
        self.register_buffer("graph", torch.rand(3, 32, 32))
        self.enter = conv(3, w)
        first = [Joints(w, w, 1) for _ in range(2 * d)]
        second = [Joints(w, 2 * w, 2), *[Joints(2 * w, 2 * w, 1) for _ in range(2 * d - 1)]]
        self.blocks = nn.ModuleList([*first, *second])
        self.edges = nn.ParameterList([torch.ones(3, 32, 32) for _ in self.blocks])
        self.exit = nn.Conv2d(2 * w, 10, 1)

    def forward(self, x):
        x = self.enter(x)
        for block, edge in zip(self.blocks, self.edges, strict=False):
            x, _ = block(x, self.graph * edge)
        x = functional.avg_pool2d(x, x.size()[2:])
        return self.exit(x).view(x.size(0), -1)


class Simple(nn.Module):
    """Two convolutions, and what arrived."""

    def __init__(self, width):
        super().__init__()
        self.a, self.b = conv(width, width), linear_conv(width, width)

    def forward(self, x):
        return self.b(self.a(x))


class Scaled(nn.Module):
    """Blocks by name, each with a scale in a list."""

    def __init__(self, k=1, d=1):
        super().__init__()
        w = 32 * k
        self.enter, self.exit = conv(3, w), head(w)
        self.blocks = nn.ModuleDict({f"block{i}": Simple(w) for i in range(3 * d)})
        self.scales = nn.ParameterList([nn.Parameter(torch.ones(1)) for _ in range(3 * d)])

    def forward(self, x):
        x = self.enter(x)
        for scale, (_, block) in zip(self.scales, self.blocks.items(), strict=False):
            x = x + scale * block(x)
        return self.exit(x)


class Joined(nn.Module):
    """A split whose second half runs through blocks; all that was put out is joined."""

    def __init__(self, ins, outs, count):
        super().__init__()
        self.half = outs // 2
        self.enter = conv(ins, 2 * self.half, 1)
        self.leave = conv((2 + count) * self.half, outs, 1)
        self.m = nn.ModuleList(Simple(self.half) for _ in range(count))

    def forward(self, x):
        y = list(self.enter(x).split((self.half, self.half), 1))
        y.extend(block(y[-1]) for block in self.m)
        return self.leave(torch.cat(y, 1))


class Detecting(nn.Module):
    """Layers in a table that says where each reads from."""

    def __init__(self, k=1, d=1):
        super().__init__()
        w = 32 * k
        table = [
            (-1, conv(3, w, 3, 2)), (-1, Joined(w, w, 2 * d)), (-1, conv(w, 2 * w, 3, 2)),
            (-1, Joined(2 * w, 2 * w, 2 * d)), (-1, nn.Upsample(None, 2, "nearest")),
            ([-1, 1], None), (-1, nn.Conv2d(3 * w, 12, 1)),
        ]  # fmt: skip
        layers = []
        for source, layer in table:
            layer = layer or Joining()
            layer.source = source
            layers.append(layer)
        self.model = nn.ModuleList(layers)

    def forward(self, x):
        y = []
        for layer in self.model:
            if layer.source != -1:
                x = [x if at == -1 else y[at] for at in layer.source]
            x = layer(x)
            y.append(x)
        return x


class Joining(nn.Module):
    """Join what several layers put out."""

    def forward(self, x):
        return torch.cat(x, 1)


class Stacked(nn.Module):
    """Heat maps are put out after each of two stacks, and go into the second."""

    def __init__(self, k=1, d=1):
        super().__init__()
        w = 64 * k
        self.enter = conv(3, w, 3, 2)
        self.stacks = nn.ModuleList([conv(w, w) for _ in range(2)])
        self.score = nn.ModuleList([nn.Conv2d(w, 16, 1) for _ in range(2)])
        self.back = nn.ModuleList([nn.Conv2d(16, w, 1)])

    def forward(self, x):
        x, out = self.enter(x), []
        for i, stack in enumerate(self.stacks):
            y = stack(x)
            out.append(self.score[i](y))
            if i == 0:
                x = x + y + self.back[i](out[-1])
        return out


class Context(nn.Module):
    """Coarse scores of classes are put out too, and say which places belong together."""

    def __init__(self, k=1, d=1, classes=7):
        super().__init__()
        w = 32 * k
        self.body, self.coarse = (
            nn.Sequential(conv(3, w, 3, 2), conv(w, w)),
            nn.Conv2d(w, classes, 1),
        )
        self.query, self.key, self.value = (linear_conv(w, w) for _ in range(3))
        self.last, self.width = nn.Conv2d(2 * w, classes, 1), w

    def forward(self, x):
        x = self.body(x)
        coarse = self.coarse(x)
        b, c, h, w = x.size()
        share = functional.softmax(coarse.view(b, coarse.size(1), -1), dim=2)
        means = torch.matmul(share, x.view(b, c, -1).permute(0, 2, 1))
        means = means.permute(0, 2, 1).contiguous().unsqueeze(3)
        query = self.query(x).view(b, self.width, -1).permute(0, 2, 1)
        key = self.key(means).view(b, self.width, -1)
        value = self.value(means).view(b, self.width, -1).permute(0, 2, 1)
        near = functional.softmax(torch.matmul(query, key) / math.sqrt(self.width), dim=-1)
        context = torch.matmul(near, value).permute(0, 2, 1).contiguous().view(b, -1, h, w)
        return self.last(torch.cat([context, x], 1)), coarse


class Shuffled(nn.Module):
    """Two halves of each group of channels, one with a norm that has a group a channel."""

    def __init__(self, ins, outs, stride):
        super().__init__()
        self.a, self.b = conv(ins, outs, 3, stride), linear_conv(outs, outs, 3)
        self.groups, own = 4, outs // 8
        shape = (1, own, 1, 1)
        self.scale, self.bias = nn.Parameter(torch.zeros(shape)), nn.Parameter(torch.ones(shape))
        self.norm = nn.GroupNorm(own, own)
        same = (ins, stride) == (outs, 1)
        self.down = None if same else linear_conv(ins, outs, 1, stride)

    def attended(self, x):
        b, _, h, w = x.shape
        first, second = x.reshape(b * self.groups, -1, h, w).chunk(2, dim=1)
        mean = functional.adaptive_avg_pool2d(first, 1)
        first = first * torch.sigmoid(self.scale * mean + self.bias)
        second = second * torch.sigmoid(self.norm(second))
        x = torch.cat([first, second], dim=1).reshape(b, -1, h, w)
        return x.reshape(b, 2, -1, h, w).permute(0, 2, 1, 3, 4).reshape(b, -1, h, w)

    def forward(self, x):
        kept = x if self.down is None else self.down(x)
        return functional.relu(self.attended(self.b(self.a(x))) + kept)


class Remembering:
    """Keeps what a module put out."""

    def __init__(self, module):
        self.seen = None
        self.hook = module.register_forward_hook(self.see)

    def see(self, module, inputs, output):
        del module, inputs
        self.seen = output


class Hooked(nn.Module):
    """A u-net whose encoder is watched: by a hook's own object, and by a closure."""

    def __init__(self, k=1, d=1):
        super().__init__()
        w = 32 * k
        self.encoder = nn.Sequential(
            conv(3, w), nn.MaxPool2d(2), conv(w, 2 * w), nn.MaxPool2d(2), conv(2 * w, 4 * w)
        )
        self.first, self.maps = Remembering(self.encoder[0]), {}
        self.encoder[2].register_forward_hook(self.saver("second"))
        self.a, self.b, self.exit = conv(6 * w, 2 * w), conv(3 * w, w), nn.Conv2d(w, 6, 1)

    def saver(self, name):
        def save(module, inputs, output):
            del module, inputs
            self.maps[name] = output

        return save

    def forward(self, x):
        x = functional.interpolate(self.encoder(x), scale_factor=2)
        x = functional.interpolate(self.a(torch.cat([x, self.maps["second"]], 1)), scale_factor=2)
        return self.exit(self.b(torch.cat([x, self.first.seen], 1)))


def of(block):
    return lambda k=1, d=1: two_stages(block, k, d)
