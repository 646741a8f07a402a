"""Networks that make an image of a vector: no input has sides; widths and depth alone grow."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

import convscale as cs
from convscale.input_sizes import InputSize
from tests.cli_answers import document, refusal


class Block(nn.Module):
    """A convolution whose weight is modulated by the style of each image."""

    def __init__(self, inputs: int, outputs: int, style: int) -> None:
        super().__init__()
        self.inputs, self.outputs = inputs, outputs
        self.weight = nn.Parameter(torch.randn(1, outputs, inputs, 3, 3) / inputs**0.5)
        self.style = nn.Linear(style, inputs)

    def forward(self, x: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        weight = self.weight * self.style(style).view(n, 1, c, 1, 1)
        weight = weight.view(n * self.outputs, c, 3, 3)
        x = functional.conv2d(x.reshape(1, n * c, h, w), weight, padding=1, groups=n)
        return functional.leaky_relu(x.view(n, self.outputs, h, w), 0.2)


class Modulated(nn.Module):
    """StyleGAN2 in small: a learned map, grown and modulated by a mapping of the vector."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.mapping = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
        self.start = nn.Parameter(torch.randn(1, width, 4, 4))
        self.blocks = nn.ModuleList(Block(width, width, 64) for _ in range(4))
        self.image = nn.Conv2d(width, 3, 1)

    def forward(self, vector: torch.Tensor) -> torch.Tensor:
        style = self.mapping(vector)
        x = self.start.repeat(vector.shape[0], 1, 1, 1)
        for number, block in enumerate(self.blocks):
            x = functional.interpolate(x, scale_factor=2) if number < 2 else x
            x = block(x, style)
        return self.image(x)


class Projected(nn.Module):
    """A vector that a linear layer turns into a first map."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.width = width
        self.first = nn.Linear(32, width * 16)
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(width, width, 3, 1, 1), nn.BatchNorm2d(width), nn.ReLU())
                for _ in range(3)
            )
        )
        self.image = nn.ConvTranspose2d(width, 3, 4, 2, 1)

    def forward(self, vector: torch.Tensor) -> torch.Tensor:
        return self.image(self.blocks(self.first(vector).view(-1, self.width, 4, 4)))


VECTOR = InputSize((32,))


def own_flops(module: nn.Module) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module.eval()(torch.zeros(1, 32))
    return counter.get_total_flops() // 2


@pytest.mark.parametrize(("kind", "side"), [(Modulated, 16), (Projected, 8)])
def test_widths_and_depth_of_a_generator_follow(kind, side, tmp_path):
    net = kind()
    wide = cs.scale(net, strategy="w", factor=4.0, example_inputs=VECTOR)
    assert wide.resolution == side  # of the image that is made
    assert wide.module.image.in_channels == 128
    assert wide.module.image.out_channels == 3
    assert not wide.notes or all("not understood" not in note for note in wide.notes)
    deep = cs.scale(net, strategy="d", factor=2.0, example_inputs=VECTOR)
    assert deep.achieved.params > deep.base.params
    for number, scaled in enumerate((wide, deep)):
        assert scaled.achieved.flops == own_flops(scaled.module)
        assert scaled.module(torch.randn(2, 32)).shape == (2, 3, side, side)
        loaded = cs.load(scaled.save(tmp_path / str(number)), base=net)
        vector = torch.randn(1, 32)
        assert torch.equal(loaded.module.eval()(vector), scaled.module.eval()(vector))
    again = cs.scale(wide.module, strategy="dw", factor=2.0, example_inputs=VECTOR)
    assert again.achieved.flops == own_flops(again.module)


def test_the_resolution_of_a_generator_is_refused_or_left_out():
    with pytest.raises(cs.UnscalableNetworkError, match=r"no input .* --keep r"):
        cs.scale(Modulated(), strategy="dWr", factor=2.0, example_inputs=VECTOR)
    with pytest.raises(cs.UnscalableNetworkError, match="Use a strategy without r"):
        cs.scale(Projected(), strategy="r", factor=2.0, example_inputs=VECTOR)
    kept = cs.scale(Modulated(), strategy="dWr", factor=2.0, keep="r", example_inputs=VECTOR)
    assert kept.resolution == 16
    same = cs.scale(Modulated(), strategy="dWr", factor=1.0, example_inputs=VECTOR)
    assert same.achieved.flops == same.base.flops


def test_the_commands_take_a_generator(tmp_path, capsys):
    file = tmp_path / "nets.py"
    file.write_text(
        "from tests.test_generators import Modulated\n\ndef net():\n    return Modulated()\n"
    )
    asked = (f"{file}:net", "--input-size=32")
    found = document(capsys, "scale", *asked, "--strategy=dw", "--factor=4")
    assert found["resolution"] == 16
    assert 3.6 < found["ratio"]["flops"] < 4.4
    assert document(capsys, "stages", *asked)["stages"]
    assert "--keep r" in refusal(capsys, 3, "scale", *asked, "--strategy=dWr", "--factor=4")


def test_inputs_that_make_no_image_are_refused():
    with pytest.raises(cs.InputError, match=r"None of the inputs has the sides of an image"):
        cs.stages(
            nn.Sequential(nn.Linear(5, 5), nn.Conv2d(3, 8, 1)), example_inputs=InputSize((5,))
        )
