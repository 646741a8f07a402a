"""What networks hold beside layers: strides in tensors, tensors of classes of their own, gaps."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from tests.zoo.parts import conv, head


class Anchored(nn.Module):
    """A detector that decodes: strides and steps are numbers out of tensors."""

    def __init__(self, k, d):
        super().__init__()
        a, b = 32 * k, 64 * k
        self.stem = conv(3, a, stride=2)
        self.first = nn.Sequential(*[conv(a, a) for _ in range(2 * d)])
        self.down = conv(a, b, stride=2)
        self.second = nn.Sequential(*[conv(b, b) for _ in range(2 * d)])
        self.heads = nn.ModuleList([nn.Conv2d(a, 5, 1), nn.Conv2d(b, 5, 1)])
        self.strides = torch.tensor([2.0, 4.0])

    def forward(self, x):
        fine = self.first(self.stem(x))
        found = []
        for place, map_ in enumerate([fine, self.second(self.down(fine))]):
            y = self.heads[place](map_)
            dims = torch.arange(2, y.ndim).tolist()
            y = y - y.mean(dims, keepdim=True)
            across = torch.arange(y.shape[-1]).type_as(y) + 0.5
            stride = torch.full((y.shape[-1],), self.strides[place])
            box, score = y.split((4, 1), 1)
            box = (box + across) * stride if self.strides[place] > 1 else box
            found.append(torch.cat([box, score.sigmoid()], 1).flatten(2).type(x.type()))
        return torch.cat(found, 2)


class Tagged(torch.Tensor):
    """A tensor that a library marks as its own."""


class OwnTensors(nn.Module):
    """Maps are tensors of a class of their own, and the result is one again."""

    def __init__(self, k, d):
        super().__init__()
        w = 32 * k
        self.stem = conv(3, w, stride=2)
        self.blocks = nn.Sequential(*[conv(w, w) for _ in range(2 * d)])
        self.last = nn.Conv2d(2 * w, 5, 1)

    def forward(self, x):
        x = self.stem(x.as_subclass(Tagged))
        x = torch.cat([self.blocks(x), x], 1)
        return self.last(x).as_subclass(torch.Tensor).as_subclass(Tagged)


class Gap(nn.Module):
    """A list beside the blocks, with nothing in it for those that need no projection."""

    def __init__(self, k, d):
        super().__init__()
        w = 64 * k
        widths = [w // 2] * d + [w] * (3 * d)
        self.stem = conv(3, widths[0], stride=2)
        self.blocks, self.skips = nn.ModuleList(), nn.ModuleList()
        before = widths[0]
        for width in widths:
            self.blocks.append(conv(before, width))
            self.skips.append(None if width == w else nn.Conv2d(width, w, 1))
            before = width
        self.exit = head(w)

    def forward(self, x):
        x, total = self.stem(x), 0
        for place, block in enumerate(self.blocks):
            x = block(x)
            skip = self.skips[place]
            total = total + (x if skip is None else skip(x))
        return self.exit(functional.relu(total))


class _Joined(nn.Module):
    """Two convolutions beside a map that is put together: what they put out is as wide."""

    def __init__(self, w, d):
        super().__init__()
        self.path = nn.Sequential(*[conv(w, w) for _ in range(2 * d)])

    def forward(self, x):
        return x + self.path(x)


class Crossed(nn.Module):
    """The image joins a map that was shuffled out of four times as many channels."""

    def __init__(self, k, d):
        super().__init__()
        w = 16 * k
        self.stem, self.up = conv(3, w, stride=2), nn.Conv2d(w, 4 * w, 1)
        self.shuffle, self.join = nn.PixelShuffle(2), _Joined(w + 3, d)
        self.last = nn.Conv2d(w + 3, 5, 1)

    def forward(self, x):
        y = self.shuffle(self.up(self.stem(x)))
        y = functional.interpolate(y, x.shape[-2:]) if y.shape[-2:] != x.shape[-2:] else y
        return self.last(self.join(torch.cat([y, x], 1)))


class Recurrent(nn.Module):
    """Columns of a map are read one after the other; the state begins as wide as a number says.

    That is the layer's own, or one beside it.
    """

    def __init__(self, k, d, kind=nn.LSTM):
        super().__init__()
        w, self.width = 32 * k, 0 if kind is nn.LSTM else 16 * k
        self.stem = conv(3, w, stride=2)
        self.blocks = nn.Sequential(*[conv(w, w) for _ in range(2 * d)])
        self.read = kind(w, 16 * k, num_layers=2, bidirectional=True, batch_first=True)
        self.last = nn.Linear(32 * k, 10)

    def forward(self, x):
        y = self.blocks(self.stem(x)).mean(2).transpose(1, 2)
        state = torch.zeros(4, len(x), self.width) if self.width else None
        y, _ = self.read(y, state)
        return self.last(y[:, -1])


class _ComplexConv(nn.Module):
    """A kernel of complex numbers, as two of real ones."""

    def __init__(self, ins, outs):
        super().__init__()
        self.real, self.imag = (nn.Conv2d(ins, outs, 3, 1, 1) for _ in range(2))

    def forward(self, z):
        real = self.real(z.real) - self.imag(z.imag)
        return torch.view_as_complex(torch.stack([real, self.real(z.imag) + self.imag(z.real)], -1))


class Spectral(nn.Module):
    """Complex maps: the image's spectrum, complex kernels, and a filter of frequencies."""

    def __init__(self, k, d):
        super().__init__()
        w = 16 * k
        self.stem = _ComplexConv(3, w)
        self.blocks = nn.Sequential(*[_ComplexConv(w, w) for _ in range(2 * d)])
        self.mix, self.last = nn.Conv2d(2 * w, w, 1), nn.Conv2d(w, 4, 1)
        self.filter = nn.Parameter(torch.ones(w, 1, 1))

    def forward(self, x):
        y = torch.view_as_real(self.blocks(self.stem(torch.fft.fft2(x))))
        y = self.mix(torch.cat([y[..., 0], y[..., 1]], 1))
        z = torch.fft.rfft2(y, norm="ortho") * self.filter
        return self.last(y + torch.fft.irfft2(z, s=y.shape[-2:], norm="ortho"))


class GroupedDiscriminator(nn.Module):
    """Spectral norm of grouped kernels that are longer than their groups are wide."""

    def __init__(self, k, d):
        super().__init__()
        w, normed = 32 * k, nn.utils.parametrizations.spectral_norm
        self.layers = nn.Sequential(
            normed(nn.Conv2d(3, w, 3, 1, 1)),
            nn.LeakyReLU(0.1),
            normed(nn.Conv2d(w, w, (9, 1), 2, (4, 0), groups=4)),
            nn.LeakyReLU(0.1),
            normed(nn.Conv2d(w, 2 * w, (9, 1), 2, (4, 0), groups=4)),
            nn.LeakyReLU(0.1),
        )
        self.last = nn.Conv2d(2 * w, 1, 3, 1, 1)

    def forward(self, x):
        return self.last(self.layers(x))
