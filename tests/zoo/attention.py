"""Networks whose blocks weigh channels or positions."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from tests.zoo.parts import Chain, conv, head


class ChannelKernel(nn.Module):
    """A gate by a 1-d convolution across channels."""

    def __init__(self, width):
        super().__init__()
        self.mix, self.gate = conv(width, width), nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x):
        y = self.mix(x)
        pooled = y.mean((2, 3)).unsqueeze(1)
        return x + y * self.gate(pooled).sigmoid().transpose(1, 2).unsqueeze(-1)


class ChannelThenPlace(nn.Module):
    """A gate of channels (from mean and maximum), then one of positions."""

    def __init__(self, width):
        super().__init__()
        self.mix = conv(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, width // 2), nn.ReLU(), nn.Linear(width // 2, width)
        )
        self.place = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x):
        y = self.mix(x)
        b, c = y.size(0), y.size(1)
        gate = self.mlp(functional.adaptive_avg_pool2d(y, 1).view(b, c))
        gate = gate + self.mlp(functional.adaptive_max_pool2d(y, 1).view(b, c))
        y = y * gate.sigmoid().view(b, c, 1, 1)
        both = torch.cat([y.mean(1, keepdim=True), y.max(1, keepdim=True)[0]], dim=1)
        return x + y * self.place(both).sigmoid()


class Selective(nn.Module):
    """Kernels of two sizes, chosen channel by channel with a softmax over both."""

    def __init__(self, width):
        super().__init__()
        self.paths = nn.ModuleList([conv(width, width, 3), conv(width, width, 5)])
        self.reduce = nn.Sequential(
            nn.Conv2d(width, width // 2, 1, bias=False), nn.BatchNorm2d(width // 2), nn.ReLU()
        )
        self.select = nn.Conv2d(width // 2, 2 * width, 1, bias=False)

    def forward(self, x):
        y = torch.stack([path(x) for path in self.paths], dim=1)
        b, n, c, _, _ = y.shape
        share = self.select(self.reduce(y.sum(1).mean((2, 3), keepdim=True)))
        share = share.view(b, n, c, 1, 1).softmax(1)
        return x + (y * share).sum(1)


class SplitAttention(nn.Module):
    """Twice the channels in two groups, summed with a softmax between them."""

    def __init__(self, width, radix=2):
        super().__init__()
        self.radix = radix
        self.mix = conv(width, width * radix, 3, 1, radix)
        self.fc1, self.fc2 = nn.Conv2d(width, width // 2, 1), nn.Conv2d(width // 2, 2 * width, 1)

    def forward(self, x):
        y = self.mix(x)
        b, rc = y.shape[:2]
        y = y.reshape(b, self.radix, rc // self.radix, *y.shape[2:])
        gap = self.fc2(self.fc1(y.sum(1).mean((2, 3), keepdim=True)).relu())
        share = gap.view(b, 1, self.radix, -1).transpose(1, 2).softmax(1)
        return x + (y * share.reshape(b, self.radix, -1, 1, 1)).sum(1)


class HeadAttention(nn.Module):
    """Attention between positions with a fixed number of heads."""

    def __init__(self, width, heads=2):
        super().__init__()
        self.heads, self.head_width = heads, width // heads
        self.scale = self.head_width**-0.5
        self.norm = nn.BatchNorm2d(width)
        self.qkv = nn.Conv2d(width, 3 * width, 1, bias=False)
        self.out = nn.Conv2d(width, width, 1)

    def forward(self, x):
        b, c, h, w = x.shape
        q, k, v = self.qkv(self.norm(x)).chunk(3, dim=1)
        q = q.view(b, self.heads, self.head_width, h * w)
        k = k.view(b, self.heads, self.head_width, h * w)
        v = v.view(b, self.heads, self.head_width, h * w)
        share = (q.transpose(2, 3) @ k * self.scale).softmax(-1)
        y = (v @ share.transpose(2, 3)).reshape(b, c, h, w)
        return x + self.out(y)


class PackedAttention(nn.Module):
    """Tokens, a packed projection, PyTorch's fused attention."""

    def __init__(self, width, heads=2):
        super().__init__()
        self.heads = heads
        self.norm, self.qkv = nn.LayerNorm(width), nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x):
        b, c, h, w = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        qkv = self.qkv(self.norm(tokens)).reshape(b, h * w, 3, self.heads, c // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        y = functional.scaled_dot_product_attention(q, k, v)
        tokens = tokens + self.out(y.transpose(1, 2).reshape(b, h * w, c))
        return tokens.transpose(1, 2).reshape(b, c, h, w)


class NonLocal(nn.Module):
    """Attention with half the width inside."""

    def __init__(self, width):
        super().__init__()
        self.inner = width // 2
        self.theta, self.phi, self.g = (nn.Conv2d(width, self.inner, 1) for _ in range(3))
        self.out = nn.Conv2d(self.inner, width, 1)

    def forward(self, x):
        b = x.size(0)
        theta = self.theta(x).view(b, self.inner, -1).permute(0, 2, 1)
        phi, g = self.phi(x).view(b, self.inner, -1), self.g(x).view(b, self.inner, -1)
        share = torch.softmax(torch.matmul(theta, phi) / self.inner**0.5, -1)
        y = torch.matmul(share, g.permute(0, 2, 1)).permute(0, 2, 1).contiguous()
        return x + self.out(y.view(b, self.inner, *x.size()[2:]))


class GlobalContext(nn.Module):
    """One weighted mean of all positions, added to each."""

    def __init__(self, width):
        super().__init__()
        self.mask = nn.Conv2d(width, 1, 1)
        self.add = nn.Sequential(
            nn.Conv2d(width, width // 2, 1),
            nn.LayerNorm([width // 2, 1, 1]),
            nn.ReLU(),
            nn.Conv2d(width // 2, width, 1),
        )

    def forward(self, x):
        b, c, h, w = x.size()
        share = self.mask(x).view(b, 1, h * w).softmax(2).unsqueeze(-1)
        context = torch.matmul(x.view(b, c, h * w).unsqueeze(1), share)
        return x + self.add(context.view(b, c, 1, 1))


class Coordinates(nn.Module):
    """Gates along rows and along columns."""

    def __init__(self, width):
        super().__init__()
        self.reduce = conv(width, width // 2, 1)
        self.rows, self.columns = nn.Conv2d(width // 2, width, 1), nn.Conv2d(width // 2, width, 1)

    def forward(self, x):
        _, _, h, w = x.shape
        rows, columns = x.mean(3, keepdim=True), x.mean(2, keepdim=True).permute(0, 1, 3, 2)
        y = self.reduce(torch.cat([rows, columns], dim=2))
        rows, columns = torch.split(y, [h, w], dim=2)
        return x * self.rows(rows).sigmoid() * self.columns(columns.permute(0, 1, 3, 2)).sigmoid()


class Gated(nn.Module):
    """A linear unit whose one half gates the other."""

    def __init__(self, width):
        super().__init__()
        self.norm, self.both = nn.GroupNorm(1, width), nn.Conv2d(width, 4 * width, 1)
        self.depthwise = nn.Conv2d(2 * width, 2 * width, 3, 1, 1, groups=2 * width)
        self.out = nn.Conv2d(2 * width, width, 1)

    def forward(self, x):
        value, gate = self.both(self.norm(x)).chunk(2, 1)
        return x + self.out(functional.gelu(self.depthwise(gate)) * value)


class Unfolded(nn.Module):
    """Attention between the same pixels of all patches (2×2), then folded back."""

    def __init__(self, width, patch=2):
        super().__init__()
        self.patch = patch
        self.enter, self.leave = conv(width, 2 * width, 1), conv(2 * width, width, 1)
        self.encoder = nn.TransformerEncoderLayer(
            2 * width, 2, 4 * width, dropout=0.0, batch_first=True
        )
        self.join = conv(2 * width, width)

    def forward(self, x):
        y = self.enter(x)
        b, c, h, w = y.shape
        p, rows, columns = self.patch, h // self.patch, w // self.patch
        y = y.reshape(b * c * rows, p, columns, p).transpose(1, 2)
        y = y.reshape(b, c, rows * columns, p * p).transpose(1, 3)
        y = self.encoder(y.reshape(b * p * p, rows * columns, c))
        y = y.contiguous().view(b, p * p, rows * columns, c).transpose(1, 3)
        y = y.reshape(b * c * rows, columns, p, p).transpose(1, 2).reshape(b, c, h, w)
        return self.join(torch.cat([x, self.leave(y)], 1))


class MultiHead(nn.Module):
    """PyTorch's own multi-head attention on a coarse map."""

    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attend = nn.MultiheadAttention(width, 2, batch_first=True)

    def forward(self, x):
        tokens = self.norm(x.flatten(2).transpose(1, 2))
        y, _ = self.attend(tokens, tokens, tokens, need_weights=False)
        return x + y.transpose(1, 2).reshape(x.shape)


def of(block):
    """Blocks of one width, in two stages that a convolution parts."""

    def make(k=1, d=1):
        a, b = 32 * k, 64 * k
        first = nn.Sequential(*[block(a) for _ in range(2 * d)])
        second = nn.Sequential(*[block(b) for _ in range(2 * d)])
        return Chain(conv(3, a, 3, 2), [first, conv(a, b, 3, 2), second], head(b))

    return make
