"""Networks of one spatial dimension: signals, audio, sequences, clouds of points."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import weight_norm as hooked_weight_norm
from torch.nn.utils.parametrizations import weight_norm

Norm = Callable[[int], nn.Module]


class Beat(nn.Module):
    """A residual block of wide kernels."""

    def __init__(self, ins: int, outs: int, stride: int, norm: Norm):
        super().__init__()
        self.conv1 = nn.Conv1d(ins, outs, 7, stride, 3, bias=False)
        self.conv2 = nn.Conv1d(outs, outs, 7, 1, 3, bias=False)
        self.norm1, self.norm2 = norm(outs), norm(outs)
        self.skip: nn.Module = nn.Identity()
        if ins != outs or stride > 1:
            self.skip = nn.Sequential(nn.Conv1d(ins, outs, 1, stride, bias=False), norm(outs))

    def forward(self, x):
        y = self.norm2(self.conv2(self.norm1(self.conv1(x)).relu()))
        return (y + self.skip(x)).relu()


class Heart(nn.Module):
    """A residual network on twelve leads."""

    def __init__(self, k=1, d=1, norm: Norm = nn.BatchNorm1d):
        super().__init__()
        a, b = 32 * k, 64 * k
        self.stem = nn.Sequential(nn.Conv1d(12, a, 15, 2, 7), norm(a), nn.ReLU(), nn.MaxPool1d(2))
        self.layer1 = nn.Sequential(*[Beat(a, a, 1, norm) for _ in range(2 * d)])
        rest = [Beat(b, b, 1, norm) for _ in range(2 * d - 1)]
        self.layer2 = nn.Sequential(Beat(a, b, 2, norm), *rest)
        self.pool, self.fc = nn.AdaptiveAvgPool1d(1), nn.Linear(b, 5)

    def forward(self, x):
        return self.fc(self.pool(self.layer2(self.layer1(self.stem(x)))).flatten(1))


group_normed = partial(Heart, norm=partial(nn.GroupNorm, 8))


class Chomp(nn.Module):
    """Cut off what padding let see the future."""

    def __init__(self, size: int):
        super().__init__()
        self.size = size

    def forward(self, x):
        return x[:, :, : -self.size].contiguous()


class Temporal(nn.Module):
    """A residual block of dilated causal convolutions."""

    def __init__(self, ins: int, outs: int, dilation: int, norm: Callable[..., nn.Module]):
        super().__init__()
        pad: dict[str, Any] = {"padding": 2 * dilation, "dilation": dilation}
        self.conv1 = norm(nn.Conv1d(ins, outs, 3, **pad))
        self.conv2 = norm(nn.Conv1d(outs, outs, 3, **pad))
        self.chomp, self.dropout = Chomp(2 * dilation), nn.Dropout(0.1)
        self.downsample = nn.Conv1d(ins, outs, 1) if ins != outs else None

    def forward(self, x):
        y = self.dropout(self.chomp(self.conv1(x)).relu())
        y = self.dropout(self.chomp(self.conv2(y)).relu())
        return (y + (x if self.downsample is None else self.downsample(x))).relu()


class Causal(nn.Module):
    """A temporal convolutional network: dilations double from block to block."""

    def __init__(self, k=1, d=1, norm: Callable[..., nn.Module] = weight_norm):
        super().__init__()
        w = 32 * k
        blocks = [Temporal(w if i else 4, w, 2**i, norm) for i in range(4 * d)]
        self.network, self.exit = nn.Sequential(*blocks), nn.Linear(w, 10)

    def forward(self, x):
        return self.exit(self.network(x)[:, :, -1])


hooked = partial(Causal, norm=hooked_weight_norm)


class Gate(nn.Module):
    """A gated dilated convolution that puts out a residue and a skip."""

    def __init__(self, width: int, dilation: int):
        super().__init__()
        self.dilation = dilation
        self.both = nn.Conv1d(width, 2 * width, 2, dilation=dilation)
        self.residue, self.skip = nn.Conv1d(width, width, 1), nn.Conv1d(width, 2 * width, 1)

    def forward(self, x):
        a, b = self.both(functional.pad(x, (self.dilation, 0))).chunk(2, dim=1)
        y = a.tanh() * b.sigmoid()
        return x + self.residue(y), self.skip(y)


class Wave(nn.Module):
    """Skips of gated blocks and what the last one puts out, summed."""

    def __init__(self, k=1, d=1):
        super().__init__()
        self.start = nn.Conv1d(1, 32 * k, 1)
        self.blocks = nn.ModuleList([Gate(32 * k, 2**i) for i in range(3 * d)])
        self.end = nn.Sequential(nn.ReLU(), nn.Conv1d(64 * k, 64 * k, 1), nn.ReLU())
        self.last, self.logits = nn.Conv1d(32 * k, 64 * k, 1), nn.Conv1d(64 * k, 16, 1)

    def forward(self, x):
        x, skips = self.start(x), []
        for block in self.blocks:
            x, skip = block(x)
            skips.append(skip)
        return self.logits(self.end(sum(skips, start=self.last(x))))


class Audio(nn.Module):
    """Raw audio: a kernel of 80 samples, then pooling after each convolution."""

    def __init__(self, k=1, d=1):
        super().__init__()
        a, b = 32 * k, 64 * k
        self.conv1, self.conv2 = nn.Conv1d(1, a, 80, 4), nn.Conv1d(a, a, 3)
        self.conv3, self.conv4 = nn.Conv1d(a, b, 3), nn.Conv1d(b, b, 3)
        self.bn1, self.bn2 = nn.BatchNorm1d(a), nn.BatchNorm1d(a)
        self.bn3, self.bn4 = nn.BatchNorm1d(b), nn.BatchNorm1d(b)
        self.pool, self.fc = nn.MaxPool1d(4), nn.Linear(b, 35)

    def forward(self, x):
        x = self.pool(self.bn1(self.conv1(x)).relu())
        x = self.pool(self.bn2(self.conv2(x)).relu())
        x = self.pool(self.bn3(self.conv3(x)).relu())
        x = self.bn4(self.conv4(x)).relu()
        x = functional.avg_pool1d(x, x.shape[-1]).permute(0, 2, 1)
        return functional.log_softmax(self.fc(x), dim=2)


class Separable(nn.Module):
    """A depthwise and a pointwise convolution, squeezed, added to the input."""

    def __init__(self, width: int):
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, 11, padding=5, groups=width, bias=False)
        self.pointwise, self.norm = nn.Conv1d(width, width, 1, bias=False), nn.BatchNorm1d(width)
        self.squeeze, self.excite = nn.Linear(width, width // 4), nn.Linear(width // 4, width)

    def forward(self, x):
        y = self.norm(self.pointwise(self.depthwise(x)))
        gate = self.excite(self.squeeze(y.mean(-1)).relu()).sigmoid()
        return (x + y * gate.unsqueeze(-1)).relu()


class Speech(nn.Module):
    """A row of separable blocks on 64 bands, and a score for each letter and time."""

    def __init__(self, k=1, d=1):
        super().__init__()
        self.enter = nn.Conv1d(64, 64 * k, 3, 2, 1)
        self.blocks = nn.Sequential(*[Separable(64 * k) for _ in range(2 * d)])
        self.exit = nn.Conv1d(64 * k, 29, 1)

    def forward(self, x):
        return self.exit(self.blocks(self.enter(x))).log_softmax(1)


class Denoiser(nn.Module):
    """Gated linear units in an encoder and a decoder of waves."""

    def __init__(self, k=1, d=1):
        super().__init__()
        a, b = 32 * k, 64 * k
        self.down1 = nn.Sequential(nn.Conv1d(1, a, 8, 4, 2), nn.ReLU(), *self.gated(a))
        self.down2 = nn.Sequential(nn.Conv1d(a, b, 8, 4, 2), nn.ReLU(), *self.gated(b))
        self.up2 = nn.Sequential(*self.gated(b), nn.ConvTranspose1d(b, a, 8, 4, 2), nn.ReLU())
        self.up1 = nn.Sequential(*self.gated(a), nn.ConvTranspose1d(a, 1, 8, 4, 2))

    @staticmethod
    def gated(width: int) -> list[nn.Module]:
        return [nn.Conv1d(width, 2 * width, 1), nn.GLU(dim=1)]

    def forward(self, x):
        y = self.down1(x)
        return self.up1(self.up2(self.down2(y)) + y)


class Points(nn.Module):
    """A cloud of points, turned by a matrix of its own, and the largest of their features."""

    def __init__(self, k=1, d=1):
        super().__init__()
        a, b = 64 * k, 128 * k
        self.look1, self.look2 = nn.Conv1d(3, a, 1), nn.Conv1d(a, b, 1)
        self.turn = nn.Linear(b, 9)
        self.conv1, self.conv2 = nn.Conv1d(3, a, 1), nn.Conv1d(a, b, 1)
        self.bn1, self.bn2, self.bn3 = (nn.BatchNorm1d(w) for w in (a, b, a))
        self.fc1, self.fc2 = nn.Linear(b, a), nn.Linear(a, 40)

    def forward(self, x):
        seen = self.look2(self.look1(x).relu()).max(2)[0]
        turn = self.turn(seen).view(-1, 3, 3) + torch.eye(3, device=x.device)
        x = torch.bmm(x.transpose(2, 1), turn).transpose(2, 1)
        x = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return self.fc2(self.bn3(self.fc1(x.max(2)[0])).relu())


class Shuffled(nn.Module):
    """Half of the channels go through a branch; then both halves are shuffled."""

    def __init__(self, width: int):
        super().__init__()
        half = width // 2
        self.branch = nn.Sequential(
            nn.Conv1d(half, half, 1, bias=False),
            nn.BatchNorm1d(half),
            nn.Conv1d(half, half, 3, 1, 1, groups=half, bias=False),
            nn.Conv1d(half, half, 1, bias=False),
            nn.ReLU(),
        )

    def forward(self, x):
        a, b = x.chunk(2, dim=1)
        x = torch.cat((a, self.branch(b)), 1)
        n, c, length = x.shape
        return x.view(n, 2, c // 2, length).transpose(1, 2).contiguous().view(n, -1, length)


class Heads(nn.Module):
    """Attention between times."""

    def __init__(self, width: int):
        super().__init__()
        self.norm, self.qkv = nn.GroupNorm(1, width), nn.Conv1d(width, 3 * width, 1)
        self.proj = nn.Conv1d(width, width, 1)

    def forward(self, x):
        n, c, length = x.shape
        parts = self.qkv(self.norm(x)).chunk(3, dim=1)
        q, k, v = (part.reshape(n, 4, c // 4, length).transpose(2, 3) for part in parts)
        y = functional.scaled_dot_product_attention(q, k, v).transpose(2, 3)
        return x + self.proj(y.reshape(n, c, length))


class Row(nn.Module):
    """A row of one block on a signal."""

    def __init__(self, block: type[nn.Module], k=1, d=1):
        super().__init__()
        self.stem = nn.Conv1d(1, 32 * k, 9, 4, 4)
        self.blocks = nn.Sequential(*[block(32 * k) for _ in range(2 * d)])
        self.fc = nn.Linear(32 * k, 10)

    def forward(self, x):
        return self.fc(self.blocks(self.stem(x)).mean(-1))


shuffled, attending = partial(Row, Shuffled), partial(Row, Heads)


class Padded(nn.Module):
    """A shortcut without weights: a map of zeros makes up for channels that it lacks."""

    def __init__(self, ins: int, outs: int, stride: int):
        super().__init__()
        self.stride, self.conv = stride, nn.Conv1d(ins, outs, 3, stride, 1)

    def forward(self, x):
        y, short = self.conv(x), x[..., :: self.stride]
        if y.shape[1] > short.shape[1]:
            size = (short.shape[0], y.shape[1] - short.shape[1], short.shape[2])
            short = torch.cat([short, torch.zeros(size, device=x.device)], dim=1)
        return (y + short).relu()


class Growing(nn.Module):
    """Blocks with shortcuts padded by zeros."""

    def __init__(self, k=1, d=1):
        super().__init__()
        a, b = 32 * k, 64 * k
        self.stem = nn.Conv1d(1, a, 3, padding=1)
        self.layer1 = nn.Sequential(*[Padded(a, a, 1) for _ in range(2 * d)])
        rest = [Padded(b, b, 1) for _ in range(2 * d - 1)]
        self.layer2 = nn.Sequential(Padded(a, b, 2), *rest)
        self.fc = nn.Linear(b, 10)

    def forward(self, x):
        return self.fc(self.layer2(self.layer1(self.stem(x))).mean(-1))


class Bare(nn.Module):
    """A signal without an axis of channels."""

    def __init__(self, k=1, d=1):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv1d(1, 32 * k, 9, 4, 4), nn.Conv1d(32 * k, 64 * k, 9, 4, 4)
        self.exit = nn.Linear(64 * k, 10)

    def forward(self, x):
        return self.exit(self.conv2(self.conv1(x.unsqueeze(1)).relu()).relu().mean(-1))


class Spectrum(nn.Module):
    """A signal without an axis of channels, whose spectrum over time is an image."""

    def __init__(self, k=1, d=1):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 32 * k, 3, 2, 1), nn.Conv2d(32 * k, 64 * k, 3, 2, 1)
        self.exit = nn.Linear(64 * k, 10)
        self.register_buffer("window", torch.hann_window(64))

    def forward(self, x):
        x = torch.stft(x, 64, 16, window=self.window, return_complex=True).abs().unsqueeze(1)
        return self.exit(self.conv2(self.conv1(x).relu()).relu().mean((2, 3)))
