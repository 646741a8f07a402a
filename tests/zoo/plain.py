"""Networks of a plain sequence, and of unusual ways to hold or call their parts."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from tests.zoo.parts import Chain, conv, head
from tests.zoo.residual import Basic


class Alex(nn.Module):
    """Flattened maps and two wide linear layers."""

    def __init__(self, k=1, d=1):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 32 * k, 5, 2, 2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(32 * k, 48 * k, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
        )
        self.pool = nn.AdaptiveAvgPool2d((3, 3))
        self.classifier = nn.Sequential(
            nn.Dropout(),
            nn.Linear(48 * k * 9, 128 * k),
            nn.ReLU(inplace=True),
            nn.Linear(128 * k, 128 * k),
            nn.ReLU(inplace=True),
            nn.Linear(128 * k, 10),
        )

    def forward(self, x):
        return self.classifier(torch.flatten(self.pool(self.features(x)), 1))


class LocalResponse(nn.Module):
    """Normalised over neighbouring channels; flattened by view with a computed size."""

    def __init__(self, k=1, d=1):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 32 * k, 3, 2, 1), nn.Conv2d(32 * k, 32 * k, 3, 2, 1)
        self.norm = nn.LocalResponseNorm(5)
        self.size = 32 * k * 8 * 8
        self.fc = nn.Linear(self.size, 10)

    def forward(self, x):
        x = self.norm(self.conv1(x).relu())
        return self.fc(self.conv2(x).relu().view(-1, self.size))


class Visual(nn.Module):
    """Layers made in a loop, from a list of widths and the letter M."""

    def __init__(self, k=1, d=1):
        super().__init__()
        layers, ins = [], 3
        for step in (32, 32, "M", 64, 64, "M", 128):
            if step == "M":
                layers.append(nn.MaxPool2d(2, 2))
                continue
            layers += [nn.Conv2d(ins, step * k, 3, padding=1), nn.ReLU(True)]
            ins = step * k
        self.features, self.fc = nn.Sequential(*layers), nn.Linear(128 * k, 10)

    def forward(self, x):
        for layer in self.features:
            x = layer(x)
        return self.fc(functional.adaptive_avg_pool2d(x, 1).squeeze(-1).squeeze(-1))


def network_in_network(k=1, d=1):
    def part(ins, outs, kernel, stride):
        return [conv(ins, outs, kernel, stride), conv(outs, outs, 1), conv(outs, outs, 1)]

    w = 32 * k
    return nn.Sequential(
        *part(3, w, 5, 2),
        nn.MaxPool2d(2),
        *part(w, 2 * w, 3, 1),
        nn.Conv2d(2 * w, 10, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


class Discriminator(nn.Module):
    """Spectral norms, leaky activations, one number an image."""

    def __init__(self, k=1, d=1):
        super().__init__()
        normed = parametrizations.spectral_norm
        self.body = nn.Sequential(
            normed(nn.Conv2d(3, 32 * k, 4, 2, 1)),
            nn.LeakyReLU(0.2),
            normed(nn.Conv2d(32 * k, 64 * k, 4, 2, 1)),
            nn.InstanceNorm2d(64 * k, affine=True),
            nn.LeakyReLU(0.2),
        )
        self.last = nn.Conv2d(64 * k, 1, 4, 1, 1)

    def forward(self, x):
        return self.last(self.body(x)).mean((1, 2, 3))


class WeightNormed(nn.Module):
    """Directions and lengths of weights are parameters of their own."""

    def __init__(self, k=1, d=1):
        super().__init__()
        normed = parametrizations.weight_norm
        self.a = normed(nn.Conv2d(3, 32 * k, 3, 2, 1))
        self.b = normed(nn.Conv2d(32 * k, 64 * k, 3, 2, 1))
        self.exit = nn.Linear(64 * k, 10)

    def forward(self, x):
        return self.exit(self.b(self.a(x).relu()).relu().mean((2, 3)))


class Siamese(nn.Module):
    """One body looks at an image and at its mirror image; what differs is classified."""

    def __init__(self, k=1, d=1):
        super().__init__()
        self.body = nn.Sequential(conv(3, 32 * k, 3, 2), Basic(32 * k, 64 * k, 2))
        self.compare = nn.Linear(64 * k, 10)

    def forward(self, x):
        left, right = (self.body(y).mean((2, 3)) for y in (x, x.flip(-1)))
        return self.compare((left - right).abs())


class Line(nn.Module):
    """A network of sequences: convolutions of one dimension."""

    def __init__(self, k=1, d=1):
        super().__init__()
        self.a = nn.Conv1d(3, 32 * k, 5, 2, 2)
        self.b = nn.Sequential(nn.Conv1d(32 * k, 64 * k, 3, 2, 1), nn.BatchNorm1d(64 * k))
        self.exit = nn.Linear(64 * k, 10)

    def forward(self, x):
        return self.exit(self.b(self.a(x).relu()).relu().mean(-1))


class Volume(nn.Module):
    """A network of volumes: convolutions of three dimensions."""

    def __init__(self, k=1, d=1):
        super().__init__()
        self.a, self.b = nn.Conv3d(1, 16 * k, 3, 2, 1), nn.Conv3d(16 * k, 32 * k, 3, 2, 1)
        self.norm, self.exit = nn.BatchNorm3d(32 * k), nn.Linear(32 * k, 10)

    def forward(self, x):
        return self.exit(self.norm(self.b(self.a(x).relu())).relu().mean((2, 3, 4)))


class Gray(nn.Module):
    """One input channel, and a flatten of known size."""

    def __init__(self, k=1, d=1):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 16 * k, 5), nn.Conv2d(16 * k, 32 * k, 5)
        self.fc1, self.fc2 = nn.Linear(32 * k * 5 * 5, 64 * k), nn.Linear(64 * k, 10)

    def forward(self, x):
        x = functional.max_pool2d(self.conv1(x).relu(), 2)
        x = functional.max_pool2d(self.conv2(x).relu(), 2)
        x = x.view(x.size(0), -1)
        return functional.log_softmax(self.fc2(self.fc1(x).relu()), dim=1)


class Laid(nn.Module):
    """Weights in channels-last memory."""

    def __init__(self, k=1, d=1):
        super().__init__()
        self.body = Chain(conv(3, 32 * k, 3, 2), [Basic(32 * k, 64 * k, 2)], head(64 * k))
        self.to(memory_format=torch.channels_last)

    def forward(self, x):
        return self.body(x.contiguous(memory_format=torch.channels_last))


class Optional(nn.Module):
    """Arguments that need not be given, and several outputs on demand."""

    def __init__(self, k=1, d=1):
        super().__init__()
        self.stem, self.body, self.exit = conv(3, 32 * k), Basic(32 * k, 64 * k, 2), head(64 * k)

    def forward(self, x, scale=None, *, return_features=False):
        features = self.body(self.stem(x))
        if scale is not None:
            features = features * scale
        return (self.exit(features), features) if return_features else self.exit(features)


class Owner(nn.Module):
    """Parameters and buffers that the network itself holds."""

    def __init__(self, k=1, d=1):
        super().__init__()
        w = 32 * k
        self.kernel = nn.Parameter(torch.randn(w, 3, 3, 3) * 0.1)
        self.offset = nn.Parameter(torch.zeros(1, w, 1, 1))
        self.register_buffer("mean", torch.tensor([0.4, 0.4, 0.4]).view(1, 3, 1, 1))
        self.register_buffer("gate", torch.ones(w))
        self.gains = nn.ParameterList([nn.Parameter(torch.ones(w)) for _ in range(2)])
        self.mix, self.exit = nn.Conv2d(w, w, 3, 1, 1), nn.Linear(w, 10)

    def forward(self, x):
        x = functional.conv2d(x - self.mean, self.kernel, stride=2, padding=1) + self.offset
        for gain in self.gains:
            x = self.mix(x * gain.view(1, -1, 1, 1)).relu() * self.gate[None, :, None, None]
        return self.exit(x.mean((2, 3)))


class Nested(nn.Module):
    """Lists in lists, and a dict of modules called by name."""

    def __init__(self, k=1, d=1):
        super().__init__()
        w = 32 * k
        self.grid = nn.ModuleList(
            [nn.ModuleList([conv(3 if i == j == 0 else w, w) for j in range(2)]) for i in range(2)]
        )
        self.named = nn.ModuleDict(OrderedDict(wide=conv(w, 2 * w, 1), narrow=conv(2 * w, w, 1)))
        self.exit = head(w)

    def forward(self, x):
        for row in self.grid:
            for cell in row:
                x = cell(x)
        return self.exit(self.named["narrow"](self.named["wide"](x)))


class Conditional(nn.Module):
    """What runs depends on the shape that arrives."""

    def __init__(self, k=1, d=1):
        super().__init__()
        self.stem, self.body = conv(3, 32 * k), conv(32 * k, 64 * k)
        self.project = nn.Conv2d(32 * k, 64 * k, 1)
        self.exit = nn.Linear(64 * k, 10)

    def forward(self, x):
        x = self.stem(x)
        if x.shape[-1] > 16:
            x = functional.avg_pool2d(x, 2)
        y = self.body(x)
        if y.shape[1] != x.shape[1]:
            x = self.project(x)
        return self.exit((x + y).mean((2, 3)))


class Twice(nn.Module):
    """One convolution is used at two places, its weight at a third."""

    def __init__(self, k=1, d=1):
        super().__init__()
        w = 32 * k
        self.stem, self.mix, self.norms = conv(3, w), nn.Conv2d(w, w, 3, 1, 1), nn.ModuleList()
        self.norms.extend([nn.BatchNorm2d(w) for _ in range(2)])
        self.exit = head(w)

    def forward(self, x):
        x = self.stem(x)
        for norm in self.norms:
            x = norm(self.mix(x)).relu()
        return self.exit(functional.conv2d(x, self.mix.weight, padding=1))


class Grouped(nn.Module):
    """Positions and channels cut into a grid by reshape with attributes, and mixed."""

    def __init__(self, k=1, d=1):
        super().__init__()
        self.parts, self.each = 4, 16 * k
        w = self.parts * self.each
        self.stem, self.mix = conv(3, w, 3, 2), nn.Linear(self.each, self.each)
        self.exit = nn.Linear(w, 10)

    def forward(self, x):
        x = self.stem(x)
        b, _, h, w = x.shape
        y = x.reshape(b, self.parts, self.each, h * w).permute(0, 3, 1, 2)
        y = self.mix(y).reshape(b, h * w, self.parts * self.each)
        return self.exit(y.mean(1))


class Learned(nn.Module):
    """A table of positions is added to the map."""

    def __init__(self, k=1, d=1):
        super().__init__()
        self.stem, self.table = conv(3, 32 * k, 3, 4), nn.Parameter(torch.zeros(1, 32 * k, 8, 8))
        self.body, self.exit = Basic(32 * k, 32 * k, 1), head(32 * k)

    def forward(self, x):
        x = self.stem(x)
        table = self.table
        if table.shape[2:] != x.shape[2:]:
            table = functional.interpolate(table, size=x.shape[2:], mode="bicubic")
        return self.exit(self.body(x + table))


class Blurred(nn.Module):
    """A fixed kernel, a channel each, held in a buffer and expanded when it runs."""

    def __init__(self, k=1, d=1):
        super().__init__()
        self.stem, self.body, self.exit = conv(3, 32 * k), conv(32 * k, 64 * k), head(64 * k)
        kernel = torch.tensor([1.0, 2.0, 1.0])
        self.register_buffer("kernel", (kernel[:, None] * kernel[None, :] / 16)[None, None])

    def blurred(self, x):
        c = x.shape[1]
        return functional.conv2d(x, self.kernel.expand(c, 1, 3, 3), None, 2, 1, 1, c)

    def forward(self, x):
        return self.exit(self.blurred(self.body(self.blurred(self.stem(x)))))


class Named(nn.Module):
    """Blocks held by attributes whose names are computed."""

    def __init__(self, k=1, d=1):
        super().__init__()
        self.number = 3
        self.stem = conv(3, 32 * k, 3, 2)
        for i in range(self.number):
            setattr(self, f"block{i}", Basic(32 * k, 32 * k, 1))
        self.exit = head(32 * k)

    def forward(self, x):
        x = self.stem(x)
        for i in range(self.number):
            x = getattr(self, f"block{i}")(x)
        return self.exit(x)
