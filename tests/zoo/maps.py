"""Networks that put out maps, several maps, or images."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from tests.zoo.parts import conv, linear_conv
from tests.zoo.residual import Basic


class Double(nn.Sequential):
    def __init__(self, ins, outs):
        super().__init__(conv(ins, outs), conv(outs, outs))


class UNet(nn.Module):
    """Down, up by transposed convolutions, and joined with what was seen on the way."""

    def __init__(self, k=1, d=1):
        super().__init__()
        widths = [16 * k, 32 * k, 64 * k]
        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        ins = 3
        for width in widths:
            self.downs.append(Double(ins, width))
            ins = width
        self.bottom = Double(ins, 2 * ins)
        for width in reversed(widths):
            self.ups.append(nn.ConvTranspose2d(2 * width, width, 2, 2))
            self.ups.append(Double(2 * width, width))
        self.last = nn.Conv2d(widths[0], 2, 1)

    def forward(self, x):
        kept = []
        for down in self.downs:
            x = down(x)
            kept.append(x)
            x = functional.max_pool2d(x, 2)
        x = self.bottom(x)
        for i in range(0, len(self.ups), 2):
            x, other = self.ups[i](x), kept.pop()
            if x.shape != other.shape:
                x = functional.interpolate(x, size=other.shape[2:])
            x = self.ups[i + 1](torch.cat((other, x), dim=1))
        return self.last(x)


class RaisedByChannel(nn.Module):
    """A map that transposed convolutions enlarge, each channel alone; blocks before it."""

    def __init__(self, k=1, d=1):
        super().__init__()
        a, b = 16 * k, 32 * k
        self.stem = conv(3, a, 3, 2)
        self.blocks = nn.Sequential(*[Basic(a, a, 1) for _ in range(2 * d)])
        self.expand = nn.Conv2d(a, b, 1)
        self.up = nn.ConvTranspose2d(b, b, 4, 2, 1, groups=b)
        self.last = nn.Conv2d(b, 5, 1)

    def forward(self, x):
        return self.last(self.up(self.expand(self.blocks(self.stem(x)))).relu())


class Drawn(Basic):
    """A block that some images skip in training: a number is drawn for each of them."""

    def forward(self, x):
        y = super().forward(x)
        if not self.training:
            return y
        return x + (y - x) * x.new_empty((x.shape[0], 1, 1, 1)).bernoulli_(0.9).div_(0.9)


class Rebuilt(nn.Module):
    """In training it also rebuilds the image, from a code that attributes lay out as a map."""

    def __init__(self, k=1, d=1):
        super().__init__()
        a = 32 * k
        self.code, self.side = 16 * k, [8, 8]
        self.stem = conv(3, a, 3, 4)
        self.blocks = nn.Sequential(*[Drawn(a, a, 1) for _ in range(2 * d)])
        self.last = nn.Linear(a, 10)
        self.squeeze = conv(a, self.code, 1)
        self.into = nn.Linear(self.code * 64, 32 * k)
        self.out_of = nn.Linear(32 * k, self.code * 64)
        self.rebuild = nn.Sequential(nn.Conv2d(self.code, a, 1), nn.ReLU(), nn.Conv2d(a, 3, 1))

    def forward(self, x):
        x = self.blocks(self.stem(x))
        scores = self.last(x.mean((2, 3)))
        if not self.training:
            return scores
        code = self.into(self.squeeze(x).view(-1, self.into.in_features))
        code = self.out_of(code).relu().view([-1, self.code] + self.side)  # noqa: RUF005
        return scores, self.rebuild(code)


class Pyramid(nn.Module):
    """A detector: lateral convolutions, sums from top to bottom, one head for all levels."""

    def __init__(self, k=1, d=1):
        super().__init__()
        self.body = nn.ModuleDict(
            {
                "c2": conv(3, 16 * k, 3, 2),
                "c3": nn.Sequential(*[Basic(16 * k, 32 * k, 2)], Basic(32 * k, 32 * k, 1)),
                "c4": nn.Sequential(*[Basic(32 * k, 64 * k, 2)], Basic(64 * k, 64 * k, 1)),
            }
        )
        self.lateral = nn.ModuleDict({n: nn.Conv2d(w * k, 48 * k, 1) for n, w in self.levels()})
        self.smooth = nn.ModuleDict(
            {n: nn.Conv2d(48 * k, 48 * k, 3, 1, 1) for n, _ in self.levels()}
        )
        self.classes = nn.Sequential(conv(48 * k, 48 * k), nn.Conv2d(48 * k, 9, 3, 1, 1))
        self.boxes = nn.Sequential(conv(48 * k, 48 * k), nn.Conv2d(48 * k, 4, 3, 1, 1))

    @staticmethod
    def levels():
        return (("c2", 16), ("c3", 32), ("c4", 64))

    def forward(self, x):
        maps = {}
        for name, part in self.body.items():
            maps[name] = x = part(x)
        top, found = None, []
        for name, _ in reversed(self.levels()):
            y = self.lateral[name](maps[name])
            if top is not None:
                y = y + functional.interpolate(top, scale_factor=2.0, mode="nearest")
            top = y
            y = self.smooth[name](y)
            found.append((self.classes(y), self.boxes(y)))
        return found


class Atrous(nn.Module):
    """Dilated convolutions and a pooled branch side by side; the output is a dict."""

    def __init__(self, k=1, d=1):
        super().__init__()
        self.stem = nn.Sequential(conv(3, 32 * k, 3, 2), conv(32 * k, 64 * k, 3, 2))
        self.branches = nn.ModuleList(
            [conv(64 * k, 32 * k, 1)]
            + [
                nn.Sequential(
                    nn.Conv2d(64 * k, 32 * k, 3, padding=rate, dilation=rate, bias=False),
                    nn.BatchNorm2d(32 * k),
                    nn.ReLU(),
                )
                for rate in (2, 4)
            ]
        )
        self.pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(64 * k, 32 * k, 1))
        self.project, self.classes = conv(128 * k, 32 * k, 1), nn.Conv2d(32 * k, 21, 1)

    def forward(self, x):
        size, x = x.shape[-2:], self.stem(x)
        found = [branch(x) for branch in self.branches]
        pooled = self.pooled(x)
        found.append(
            functional.interpolate(pooled, size=x.shape[-2:], mode="bilinear", align_corners=False)
        )
        y = self.classes(self.project(torch.cat(found, 1)))
        return {"out": functional.interpolate(y, size=size, mode="bilinear", align_corners=False)}


class PooledPyramid(nn.Module):
    """Pooled to 1, 2 and 4 positions a side and flattened: inputs of any size fit."""

    def __init__(self, k=1, d=1):
        super().__init__()
        self.body = nn.Sequential(conv(3, 16 * k, 3, 2), conv(16 * k, 32 * k, 3, 2))
        self.fc1, self.fc2 = nn.Linear(32 * k * (1 + 4 + 16), 64 * k), nn.Linear(64 * k, 10)

    def forward(self, x):
        x = self.body(x)
        found = [functional.adaptive_max_pool2d(x, n).flatten(1) for n in (1, 2, 4)]
        return self.fc2(self.fc1(torch.cat(found, dim=1)).relu())


class Placed(nn.Module):
    """Coordinates are channels too."""

    def __init__(self, k=1, d=1):
        super().__init__()
        self.stem, self.mix = nn.Conv2d(5, 32 * k, 3, 2, 1), nn.Conv2d(32 * k + 2, 64 * k, 3, 2, 1)
        self.last = nn.Conv2d(64 * k, 10, 1)

    @staticmethod
    def placed(x):
        b, _, h, w = x.shape
        rows = torch.linspace(-1, 1, h, device=x.device).view(1, 1, h, 1).expand(b, 1, h, w)
        columns = torch.linspace(-1, 1, w, device=x.device).view(1, 1, 1, w).expand(b, 1, h, w)
        return torch.cat([x, rows, columns], 1)

    def forward(self, x):
        x = self.mix(self.placed(self.stem(self.placed(x)).relu())).relu()
        return self.last(x).amax((2, 3))


class Focus(nn.Module):
    """Every second pixel becomes a channel, four times."""

    def __init__(self, k=1, d=1):
        super().__init__()
        self.stem, self.mix = conv(12, 32 * k), conv(128 * k, 64 * k, 1)
        self.body = nn.Sequential(*[Basic(64 * k, 64 * k, 1) for _ in range(2 * d)])
        self.last = nn.Linear(64 * k, 10)

    @staticmethod
    def gathered(x):
        parts = [x[..., i::2, j::2] for j in (0, 1) for i in (0, 1)]
        return torch.cat(parts, 1)

    def forward(self, x):
        x = self.mix(self.gathered(self.stem(self.gathered(x))))
        return self.last(self.body(x).mean([2, 3]))


class SuperResolution(nn.Module):
    """A long skip, then channels become pixels."""

    def __init__(self, k=1, d=1):
        super().__init__()
        w = 32 * k
        self.first = nn.Conv2d(3, w, 3, 1, 1)
        self.body = nn.Sequential(*[Enhance(w) for _ in range(2 * d)], nn.Conv2d(w, w, 3, 1, 1))
        self.up = nn.Sequential(nn.Conv2d(w, 4 * w, 3, 1, 1), nn.PixelShuffle(2))
        self.last = nn.Conv2d(w, 3, 3, 1, 1)

    def forward(self, x):
        y = self.first(x)
        return self.last(self.up(y + self.body(y)))


class Enhance(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, 1, 1), nn.ReLU(True), nn.Conv2d(width, width, 3, 1, 1)
        )

    def forward(self, x):
        return x + self.body(x) * 0.1


class AutoEncoder(nn.Module):
    """Down to few channels and back up to the image."""

    def __init__(self, k=1, d=1):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 32 * k, 4, 2, 1), nn.ReLU(), nn.Conv2d(32 * k, 64 * k, 4, 2, 1), nn.ReLU()
        )
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(64 * k, 32 * k, 4, 2, 1),
            nn.BatchNorm2d(32 * k),
            nn.ReLU(),
            nn.ConvTranspose2d(32 * k, 3, 4, 2, 1),
            nn.Sigmoid(),
        )

    def forward(self, x):
        return self.decoder(self.encoder(x))


class Unpooled(nn.Module):
    """The places of the maxima are kept, and used to go back up."""

    def __init__(self, k=1, d=1):
        super().__init__()
        self.enter, self.deep = conv(3, 32 * k), conv(32 * k, 32 * k)
        self.last = nn.Conv2d(32 * k, 5, 3, 1, 1)

    def forward(self, x):
        x = self.enter(x)
        y, places = functional.max_pool2d(x, 2, return_indices=True)
        y = functional.max_unpool2d(self.deep(y), places, 2, output_size=x.shape[2:])
        return self.last(y)


class Dilated(nn.Module):
    """A residual network that keeps its resolution by dilation, with two heads."""

    def __init__(self, k=1, d=1):
        super().__init__()
        self.stem = conv(3, 32 * k, 3, 2)
        self.a, self.b = DilatedBlock(32 * k, 1), DilatedBlock(32 * k, 2)
        self.widen = linear_conv(32 * k, 64 * k)
        self.main, self.side = nn.Conv2d(64 * k, 7, 1), nn.Conv2d(32 * k, 7, 1)

    def forward(self, x):
        x = self.a(self.stem(x))
        return self.main(self.widen(self.b(x)).relu()), self.side(x)


class DilatedBlock(nn.Module):
    def __init__(self, width, rate):
        super().__init__()
        self.mix = nn.Conv2d(width, width, 3, padding=rate, dilation=rate)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x):
        return (x + self.norm(self.mix(x))).relu()


class Detector(nn.Module):
    """Anchors times (box + classes) a position, reshaped as detectors do, on two scales."""

    def __init__(self, k=1, d=1, anchors=3, classes=4):
        super().__init__()
        self.anchors, self.values = anchors, 5 + classes
        self.a, self.b = conv(3, 32 * k, 3, 2), conv(32 * k, 64 * k, 3, 2)
        self.heads = nn.ModuleList([nn.Conv2d(w * k, anchors * self.values, 1) for w in (32, 64)])

    def forward(self, x):
        a = self.a(x)
        found = []
        for y, part in zip((a, self.b(a)), self.heads, strict=True):
            y = part(y)
            b, _, h, w = y.shape
            y = y.view(b, self.anchors, self.values, h, w).permute(0, 1, 3, 4, 2).contiguous()
            found.append(y.view(b, -1, self.values))
        return torch.cat(found, 1)
