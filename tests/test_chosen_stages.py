"""Which stages are chosen, where several sets of them would run with a block more."""

import torch
import torch.nn.functional as F
from torch import nn

import convscale


def _conv(channels, out, stride=1):
    conv = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU())


class _Residual(nn.Module):
    def __init__(self, channels, out, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1)
        alike = stride == 1 and channels == out
        self.beside = nn.Identity() if alike else nn.Conv2d(channels, out, 1, stride)

    def forward(self, x):
        return (self.conv2(self.conv1(x).relu()) + self.beside(x)).relu()


class _Pooled(nn.Module):
    """A pyramid of pools: branches side by side, which stand in a list."""

    def __init__(self, channels, out):
        super().__init__()
        sizes = (1, 2, 3, 6)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(size), nn.Conv2d(channels, channels, 1))
            for size in sizes
        )
        self.bottleneck = nn.Conv2d((1 + len(sizes)) * channels, out, 1)

    def forward(self, x):
        branches = [F.interpolate(stage(x), size=x.shape[2:]) for stage in self.stages]
        return self.bottleneck(torch.cat([*branches, x], 1)).relu()


class _Up(nn.Module):
    def __init__(self, channels, out):
        super().__init__()
        self.conv = nn.Conv2d(channels, out, 3, 1, 1)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2)).relu()


class _Parsing(nn.Module):
    """Residual stages, a pyramid of pools, and ups that hold more than half of the flops."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        self.layer1 = nn.Sequential(_Residual(16, 16), _Residual(16, 16))
        self.layer2 = nn.Sequential(_Residual(16, 32, 2), _Residual(32, 32))
        self.psp = _Pooled(32, 128)
        self.up1, self.up2, self.up3 = _Up(128, 64), _Up(64, 16), _Up(16, 16)
        self.final = nn.Conv2d(16, 5, 1)

    def forward(self, x):
        x = self.psp(self.layer2(self.layer1(self.stem(x))))
        return self.final(self.up3(self.up2(self.up1(x))))


def test_branches_side_by_side_are_no_depth():
    base = _Parsing().eval()
    rows = convscale.stages(base, resolution=64).rows
    assert [row.name for row in rows] == ["layer1", "layer2"]
    deeper = convscale.scale(base, strategy="d", factor=2, resolution=64).module
    assert len(deeper.psp.stages) == 4
    assert [len(deeper.get_submodule(name)) for name in ("layer1", "layer2")] == [4, 4]


class _Double(nn.Module):
    def __init__(self, channels, out):
        super().__init__()
        self.double_conv = nn.Sequential(*_conv(channels, out), *_conv(out, out))

    def forward(self, x):
        return self.double_conv(x)


class _Decoding(nn.Module):
    def __init__(self, channels, out):
        super().__init__()
        self.up = nn.ConvTranspose2d(channels, out, 2, 2)
        self.conv = _Double(channels, out)

    def forward(self, x, skip):
        return self.conv(torch.cat([skip, self.up(x)], 1))


class _UNet(nn.Module):
    """Pairs of convolutions: an encoder's behind pools, a decoder's behind transposed ones."""

    def __init__(self):
        super().__init__()
        self.inc = _Double(3, 16)
        self.down1, self.down2 = (
            nn.Sequential(nn.MaxPool2d(2), _Double(width, 2 * width)) for width in (16, 32)
        )
        self.up1, self.up2 = _Decoding(64, 32), _Decoding(32, 16)
        self.outc = nn.Conv2d(16, 2, 1)

    def forward(self, x):
        first = self.inc(x)
        second = self.down1(first)
        return self.outc(self.up2(self.up1(self.down2(second), second), first))


def test_a_unet_made_deeper_comes_back_to_its_base():
    base = _UNet().eval()
    deeper = convscale.scale(base, strategy="d", factor=2, resolution=32).module
    assert len(deeper.inc.double_conv) == 12
    back = convscale.scale(deeper, strategy="d", factor=0.5, resolution=32).module
    assert back.state_dict().keys() == base.state_dict().keys()


class _Pairs(nn.Module):
    """Four plain layers in a sequence, of which two change the width or the sides."""

    def __init__(self):
        super().__init__()
        layers = (_conv(3, 16), _conv(16, 16), _conv(16, 32, 2), _conv(32, 32))
        self.f, self.fc = nn.Sequential(*layers), nn.Linear(64, 1)

    def forward(self, left, right):
        both = [self.f(x).mean((2, 3)) for x in (left, right)]
        return self.fc(torch.cat(both, 1))


def test_added_layers_count_in_the_stage_of_the_layer_that_runs_them():
    base, images = _Pairs().eval(), (torch.randn(1, 3, 32, 32), torch.randn(1, 3, 32, 32))
    deeper = convscale.scale(base, strategy="d", factor=2, example_inputs=images).module
    assert len(deeper.state_dict()) > len(base.state_dict())
    back = convscale.scale(deeper, strategy="d", factor=0.5, example_inputs=images).module
    assert back.state_dict().keys() == base.state_dict().keys()


def test_blocks_with_linear_layers_are_blocks():
    rows = convscale.stages("timm:edgenext_xx_small").rows
    assert [row.name for row in rows] == ["stages.0.blocks", "stages.2.blocks"]


class Modulated(nn.Module):
    """A convolution whose kernel a style scales."""

    def __init__(self, taken: int, put: int, kernel: int = 3) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(put, taken, kernel, kernel) / (3 * taken**0.5))
        self.modulation = nn.Linear(16, taken)

    def forward(self, x: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        x = x * self.modulation(style)[:, :, None, None]
        return F.conv2d(x, self.weight, padding=self.weight.shape[-1] // 2)


class Styled(nn.Module):
    """A modulated convolution, and what bends behind it."""

    def __init__(self, taken: int, put: int) -> None:
        super().__init__()
        self.conv, self.bias = Modulated(taken, put), nn.Parameter(torch.zeros(1, put, 1, 1))

    def forward(self, x: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        return F.leaky_relu(self.conv(x, style) + self.bias, 0.2)


class StyleNet(nn.Module):
    """Two styled blocks at each size, called by twos, and a picture from each size."""

    def __init__(self) -> None:
        super().__init__()
        pairs = [(Styled(32, width), Styled(width, width)) for width in (32, 32, 32)]
        self.convs = nn.ModuleList(block for pair in pairs for block in pair)
        self.pictures = nn.ModuleList(Modulated(32, 3, kernel=1) for _ in pairs)

    def forward(self, x: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        pictures = []
        blocks = zip(self.convs[::2], self.convs[1::2], self.pictures, strict=True)
        for first, second, picture in blocks:
            x = F.interpolate(x, scale_factor=2)
            x = second(first(x, style), style)
            pictures.append(picture(x, style).mean((2, 3)))
        return torch.stack(pictures).sum(0)


def test_blocks_that_bend_are_repeated_and_not_the_convolution_inside():
    given = (torch.zeros(1, 32, 4, 4), torch.zeros(1, 16))
    base = StyleNet()
    deeper = convscale.scale(base, strategy="d", factor=2, example_inputs=given)
    added = {name for name in deeper.module.state_dict() if name not in base.state_dict()}
    assert any(name.endswith(".bias") and "modulation" not in name for name in added)
    blocks = sum(isinstance(part, Styled) for part in deeper.module.modules())
    inner = sum(isinstance(part, Modulated) for part in deeper.module.modules())
    assert blocks > 6
    assert inner == blocks + 3
