"""Networks of three spatial dimensions, volumes and clips, and of several kinds at once."""

from __future__ import annotations

import torch
from torch import nn


def double(ins: int, outs: int) -> nn.Sequential:
    """Two convolutions with their norms."""
    return nn.Sequential(
        nn.Conv3d(ins, outs, 3, padding=1),
        nn.BatchNorm3d(outs),
        nn.ReLU(inplace=True),
        nn.Conv3d(outs, outs, 3, padding=1),
        nn.BatchNorm3d(outs),
        nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    """What is pooled, enlarged again, and concatenated with what it was pooled from."""

    def __init__(self, k=1, d=1):
        super().__init__()
        a, b = 16 * k, 32 * k
        self.down, self.middle, self.up = double(1, a), double(a, b), double(2 * a, a)
        self.pool, self.enlarge = nn.MaxPool3d(2), nn.ConvTranspose3d(b, a, 2, 2)
        self.exit = nn.Conv3d(a, 3, 1)

    def forward(self, x):
        x = self.down(x)
        y = self.enlarge(self.middle(self.pool(x)))
        return self.exit(self.up(torch.cat([x, y], dim=1)))


class Voxels(nn.Module):
    """A pre-activated residual block, flat in one convolution and cubic in the other."""

    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm3d(width),
            nn.ReLU(),
            nn.Conv3d(width, width, (1, 3, 3), padding=(0, 1, 1)),
            nn.BatchNorm3d(width),
            nn.ReLU(),
            nn.Conv3d(width, width, 3, padding=1),
        )

    def forward(self, x):
        return x + self.body(x)


class Brain(nn.Module):
    """Residual stages, of which each is enlarged to scores; the scores are added."""

    def __init__(self, k=1, d=1):
        super().__init__()
        a, b = 16 * k, 32 * k
        self.stem = nn.Conv3d(1, a, 3, padding=1)
        self.down1, self.down2 = nn.Conv3d(a, b, 3, 2, 1), nn.Conv3d(b, b, 3, 2, 1)
        self.stage1 = nn.Sequential(*[Voxels(b) for _ in range(2 * d)])
        self.stage2 = nn.Sequential(*[Voxels(b) for _ in range(2 * d)])
        self.scores1, self.scores2 = nn.Conv3d(a, 4, 1), nn.ConvTranspose3d(b, 4, 2, 2)
        self.scores3 = nn.ConvTranspose3d(b, 4, 4, 4)

    def forward(self, x):
        x = self.stem(x)
        y = self.stage1(self.down1(x))
        z = self.stage2(self.down2(y))
        return self.scores1(x) + self.scores2(y) + self.scores3(z)


class TwoPaths(nn.Module):
    """A slow path on every fourth frame, a fast and narrow one on all, and a way across."""

    def __init__(self, k=1, d=1):
        super().__init__()
        self.slow = nn.Conv3d(3, 64 * k, (1, 5, 5), (1, 2, 2), (0, 2, 2))
        self.fast = nn.Conv3d(3, 16 * k, (5, 5, 5), (1, 2, 2), (2, 2, 2))
        self.across = nn.Conv3d(16 * k, 32 * k, (5, 1, 1), (4, 1, 1), (2, 0, 0))
        self.mix = nn.Conv3d(96 * k, 128 * k, 3, padding=1)
        self.exit = nn.Linear(144 * k, 10)

    def forward(self, x):
        slow, fast = self.slow(x[:, :, ::4]).relu(), self.fast(x).relu()
        slow = self.mix(torch.cat([slow, self.across(fast)], dim=1))
        return self.exit(torch.cat([slow.mean((2, 3, 4)), fast.mean((2, 3, 4))], dim=1))


class Flat(nn.Module):
    """A flatten of known size before the classifier."""

    def __init__(self, k=1, d=1):
        super().__init__()
        self.conv1, self.conv2 = (
            nn.Conv3d(3, 16 * k, 3, padding=1),
            nn.Conv3d(16 * k, 32 * k, 3, padding=1),
        )
        self.pool1, self.pool2 = nn.MaxPool3d((1, 2, 2), (1, 2, 2)), nn.MaxPool3d(2)
        self.fc1, self.fc2 = nn.Linear(32 * k * 4 * 4 * 4, 64 * k), nn.Linear(64 * k, 10)

    def forward(self, x):
        x = self.pool2(self.conv2(self.pool1(self.conv1(x).relu())).relu())
        return self.fc2(self.fc1(x.flatten(1)).relu())


class Frames(nn.Module):
    """Clips whose frames are seen one by one; no convolution has three dimensions."""

    def __init__(self, k=1, d=1):
        super().__init__()
        self.space = nn.Conv2d(3, 32 * k, 3, padding=1)
        self.time = nn.Conv1d(32 * k, 64 * k, 3, padding=1)
        self.exit = nn.Linear(64 * k, 10)

    def forward(self, x):
        n, c, t, h, w = x.shape
        y = self.space(x.transpose(1, 2).reshape(n * t, c, h, w)).relu().mean((2, 3))
        return self.exit(self.time(y.view(n, t, -1).transpose(1, 2)).relu().mean(-1))


class Spectrogram(nn.Module):
    """Convolutions of two dimensions, then of one along time, which is registered first."""

    def __init__(self, k=1, d=1):
        super().__init__()
        self.tail = nn.Conv1d(32 * k, 64 * k, 3, padding=1)
        self.head, self.exit = nn.Conv2d(1, 32 * k, 3, padding=1), nn.Linear(64 * k, 10)

    def forward(self, x):
        return self.exit(self.tail(self.head(x).relu().mean(2)).relu().mean(-1))


class Channels(nn.Module):
    """Images; a convolution along channels is registered first."""

    def __init__(self, k=1, d=1):
        super().__init__()
        self.along = nn.Conv1d(1, 1, 3, padding=1, bias=False)
        self.stem, self.mix = nn.Conv2d(3, 32 * k, 3, 2, 1), nn.Conv2d(32 * k, 64 * k, 3, 2, 1)
        self.exit = nn.Linear(64 * k, 10)

    def forward(self, x):
        x = self.mix(self.stem(x).relu())
        gate = self.along(x.mean((2, 3)).unsqueeze(1)).squeeze(1).sigmoid()
        return self.exit((x * gate[:, :, None, None]).mean((2, 3)))


class Depths(nn.Module):
    """Images whose channels are filtered as the depth of a volume."""

    def __init__(self, k=1, d=1):
        super().__init__()
        self.along = nn.Conv3d(1, 1, 3, padding=1)
        self.stem, self.exit = nn.Conv2d(3, 32 * k, 3, padding=1), nn.Linear(32 * k, 10)

    def forward(self, x):
        return self.exit(self.along(self.stem(x).unsqueeze(1)).squeeze(1).relu().mean((2, 3)))


class Wavelets(nn.Module):
    """A wave, whose filtered bands are seen as an image: their number stays."""

    def __init__(self, k=1, d=1):
        super().__init__()
        self.image, self.bands = nn.Conv2d(1, 32 * k, 3, 2, 1), nn.Conv1d(1, 64, 16, 8)
        self.exit = nn.Linear(32 * k, 10)

    def forward(self, x):
        return self.exit(self.image(self.bands(x).unsqueeze(1)).relu().mean((2, 3)))


class Repeated(nn.Module):
    """A residue that is the only channel of the input, repeated as often as an attribute says."""

    def __init__(self, k=1, d=1):
        super().__init__()
        self.ins, self.outs = 1, 16 * k
        self.enter, self.norm = nn.Conv3d(1, 16 * k, 5, padding=2), nn.BatchNorm3d(16 * k)
        self.down, self.mix = nn.Conv3d(16 * k, 32 * k, 2, 2), nn.Conv3d(32 * k, 32 * k, 3, 1, 1)
        self.up, self.act = nn.ConvTranspose3d(32 * k, 16 * k, 2, 2), nn.PReLU(32 * k)
        self.exit = nn.Conv3d(32 * k, 2, 1)

    def forward(self, x):
        y = self.norm(self.enter(x)) + x.repeat([1, self.outs // self.ins, 1, 1, 1])
        z = self.act(self.down(y))
        z = z + self.mix(z)
        return self.exit(torch.cat([self.up(z), y], dim=1)).softmax(1)
