"""Blocks that code reads by their names stay, while others of their stages go."""

import pytest
import timm
import torch
from torch import nn

import convscale


class _Block(nn.Module):
    def __init__(self, channels, out, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        alike = channels == out and stride == 1
        self.short = nn.Identity() if alike else nn.Conv2d(channels, out, 1, stride)

    def forward(self, x):
        inner = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return torch.relu(inner + self.short(x))


class _Tapped(nn.Module):
    """A dictionary of blocks, of which the forward pass puts out the features of one by name."""

    def __init__(self, tapped):
        super().__init__()
        blocks = {"stem": nn.Conv2d(3, 16, 3, 1, 1)}
        blocks |= {name: _Block(16, 16) for name in ("a", "b", "c")}
        blocks |= {"down": _Block(16, 32, 2), "d": _Block(32, 32)}
        self.blocks = nn.ModuleDict(blocks)
        self.fc = nn.Linear(32, 10)
        self.tapped = tapped

    def forward(self, x):
        for name, block in self.blocks.items():
            x = block(x)
            if name == self.tapped:
                kept = x
        return self.fc(x.mean((2, 3))), kept


@pytest.mark.parametrize(
    ("tapped", "left"),
    [
        ("c", ["stem", "a", "c", "down"]),
        ("b", ["stem", "a", "b", "down"]),
        ("a", ["stem", "a", "down"]),
    ],
)
def test_a_block_read_by_name_stays_and_others_go(tapped, left: list[str]):
    scaled = convscale.scale(_Tapped(tapped).eval(), strategy="d", factor=0.3, resolution=32)
    assert list(scaled.module.blocks._modules) == left
    logits, features = scaled.module(torch.randn(1, 3, 32, 32))
    assert logits.shape == (1, 10)
    assert features.shape == (1, 16, 32, 32)


def test_a_network_scaled_up_goes_down_below_its_base():
    torch.manual_seed(0)
    base = _Tapped("b").eval()
    deeper = convscale.scale(base, strategy="d", factor=2, resolution=32).module
    lesser = convscale.scale(deeper, strategy="d", factor=0.2, resolution=32).module
    assert list(lesser.blocks._modules) == ["stem", "a", "b", "down"]
    lesser(torch.randn(1, 3, 32, 32))


@pytest.mark.parametrize(
    ("name", "features"), [("ghostnet_100", False), ("inception_v4", True)], ids=["ghost", "dict"]
)
def test_a_network_made_deeper_comes_back_to_its_base(name, features):
    base = timm.create_model(name, features_only=features).eval()
    deeper = convscale.scale(base, strategy="d", factor=2, resolution=96).module
    back = convscale.scale(deeper, strategy="d", factor=0.5, resolution=96).module
    assert list(back.state_dict()) == list(base.state_dict())
    back.load_state_dict(base.state_dict())
    image = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        for one, other in zip(base(image), back(image), strict=True):
            torch.testing.assert_close(one, other)


def test_features_named_by_a_block_that_goes_come_from_the_one_before():
    base = timm.create_model("inception_v4", features_only=True).eval()
    lesser = convscale.scale(base, strategy="d", factor=0.5, resolution=96).module
    told = list(lesser.return_layers)
    assert told[2:4] == ["features_7", "features_14"]
    assert [f.shape[1] for f in lesser(torch.randn(1, 3, 96, 96))] == [64, 160, 384, 1024, 1536]
