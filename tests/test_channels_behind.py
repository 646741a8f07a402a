"""Inputs whose channels stand behind their sides: images, sequences, clips."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import convscale as cs
from convscale.input_sizes import InputSize
from convscale.network.sources.inputs import Inputs, image_sides


def row(kind, norm, width, depth):
    return nn.Sequential(
        *(
            nn.Sequential(kind(width, width, 3, padding=1), norm(width), nn.ReLU())
            for _ in range(depth)
        )
    )


class Image(nn.Module):
    """An image of (batch, height, width, channels); the map that it gives is laid out likewise."""

    example = torch.zeros(1, 64, 48, 3)

    def __init__(self, width=32):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.body = row(nn.Conv2d, nn.BatchNorm2d, width, 3)
        self.head = nn.Conv2d(width, 5, 1)

    def forward(self, x):
        return self.head(self.body(self.stem(x.permute(0, 3, 1, 2)))).permute(0, 2, 3, 1)


class Sequence(nn.Module):
    """A sequence of (batch, steps, features), as of speech."""

    example = torch.zeros(1, 200, 40)

    def __init__(self, width=64):
        super().__init__()
        self.stem = nn.Conv1d(40, width, 5, padding=2)
        self.body = row(nn.Conv1d, nn.BatchNorm1d, width, 3)
        self.head = nn.Linear(2 * width, 10)

    def forward(self, x):
        x = self.body(self.stem(x.transpose(1, 2)))
        return self.head(torch.cat([x.mean(2), x.std(2)], 1))


class TwoImages(nn.Module):
    """Colours and distances, in two towers; the one of the second input is registered first."""

    def __init__(self, width=16):
        super().__init__()
        self.far = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.ReLU())
        self.near = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU())
        self.head = nn.Conv2d(2 * width, 5, 1)

    def forward(self, image, distance):
        maps = self.near(image.permute(0, 3, 1, 2)), self.far(distance.permute(0, 3, 1, 2))
        return self.head(torch.cat(maps, 1)).mean((2, 3))


class Clip(nn.Module):
    """A clip of (batch, frames, height, width, channels)."""

    example = torch.zeros(1, 8, 32, 32, 3)

    def __init__(self, width=16):
        super().__init__()
        self.stem = nn.Conv3d(3, width, 3, padding=1)
        self.body = row(nn.Conv3d, nn.BatchNorm3d, width, 2)
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        return self.head(self.body(self.stem(x.movedim(-1, 1))).mean((2, 3, 4)))


class Unshuffled(nn.Module):
    """An image whose sides are folded into channels, as many as a side has pixels."""

    def __init__(self, width=32):
        super().__init__()
        self.fold = nn.PixelUnshuffle(4)
        self.stem = nn.Conv2d(48, width, 3, padding=1)

    def forward(self, x):
        return self.stem(self.fold(x)).mean((2, 3))


SIDES = {Image: (64, 48), Sequence: (200,), Clip: (8, 32, 32)}


@pytest.mark.parametrize("kind", SIDES)
@pytest.mark.parametrize("strategy", ["w", "d", "r", "dWr"])
def test_the_sides_grow_and_the_channels_stay(kind, strategy):
    own = SIDES[kind]
    scaled = cs.scale(kind(), strategy=strategy, factor=4, example_inputs=(kind.example,))
    assert scaled.base_resolution == own
    (given,) = scaled.inputs
    assert given.shape == (1, *scaled.resolution, kind.example.shape[-1])
    if strategy == "r":  # r**n = 4 for as many sides
        factor = 4 ** (1 / len(own))
        near = [
            abs(new / old / factor - 1) for new, old in zip(scaled.resolution, own, strict=True)
        ]
        assert max(near) < 0.05
    expected = (1, *scaled.resolution, 5) if kind is Image else (1, 10)
    output = scaled.module.train()(torch.randn(given.shape).repeat_interleave(2, 0))
    assert output.shape == (2, *expected[1:])
    output.sum().backward()
    assert all(one.grad is not None for one in scaled.module.parameters())


def test_sizes_may_be_given_and_are_kept_in_folders(tmp_path):
    scaled = cs.scale(Image(), strategy="dWr", factor=4, example_inputs=(InputSize((64, 64, 3)),))
    (size,) = scaled.inputs
    assert size.sizes == (scaled.resolution, scaled.resolution, 3)
    assert scaled.resolution > 64
    scaled.save(tmp_path / "net")
    loaded = cs.load(tmp_path / "net", base=Image())
    assert loaded.resolution == scaled.resolution
    x = torch.randn(1, *size.sizes)
    assert torch.equal(loaded.module.eval()(x), scaled.module.eval()(x))


class Frames(nn.Module):
    """Frames of (batch, frames, height, width, channels), each of them an image."""

    example = torch.zeros(1, 4, 48, 48, 3)

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), row(nn.Conv2d, nn.BatchNorm2d, 16, 2)
        )
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        maps = self.body(x.flatten(0, 1).permute(0, 3, 1, 2)).mean((2, 3))
        return self.head(maps.unflatten(0, x.shape[:2]).mean(1))


class Placed(Image):
    """An image that gets two maps of its places, so that no convolution takes its own channels."""

    example = torch.zeros(1, 48, 48, 3)

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(5, 32, 3, padding=1)

    def forward(self, x):
        places = torch.linspace(-1, 1, x.shape[1]), torch.linspace(-1, 1, x.shape[2])
        maps = torch.meshgrid(*places, indexing="ij")
        maps = [one.to(x)[None, :, :, None].expand(len(x), -1, -1, 1) for one in maps]
        return super().forward(torch.cat([x, *maps], -1))


class Steps(nn.Module):
    """A sequence with as many steps as the next convolution takes channels."""

    example = torch.zeros(1, 64, 6)

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(6, 64, 3, padding=1), row(nn.Conv1d, nn.BatchNorm1d, 64, 2)
        )
        self.head = nn.Linear(64, 5)

    def forward(self, x):
        return self.head(self.body(x.transpose(1, 2)).mean(2))


@pytest.mark.parametrize("kind", [Frames, Placed, Steps])
def test_sides_are_told_by_what_the_network_runs_on(kind):
    scaled = cs.scale(kind(), strategy="r", factor=4, example_inputs=(kind.example,))
    (given,) = scaled.inputs
    own = kind.example.shape[-2] * (4 if kind is Steps else 2)
    count = 1 if kind is Steps else 2
    assert given.shape == (
        *kind.example.shape[: -count - 1],
        *[own] * count,
        kind.example.shape[-1],
    )
    assert scaled.module.eval()(given).shape[-1] == 5
    assert scaled.ratio["flops"] == pytest.approx(4, rel=0.02)


@pytest.mark.parametrize("strategy", ["r", "dWr"])
def test_two_images_grow_together(strategy):
    given = (torch.zeros(1, 64, 48, 3), torch.zeros(1, 64, 48, 1))
    scaled = cs.scale(TwoImages(), strategy=strategy, factor=4, example_inputs=given)
    assert [one.shape for one in scaled.inputs] == [(1, *scaled.resolution, n) for n in (3, 1)]
    assert all(new > old for new, old in zip(scaled.resolution, (64, 48), strict=True))
    assert scaled.module(*scaled.inputs).shape == (1, 5)


class Bytes(Image):
    def forward(self, x):
        return super().forward(x.float() / 255)


def test_images_of_bytes_grow_likewise():
    pixels = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    scaled = cs.scale(Bytes(), strategy="r", factor=2, example_inputs=(pixels,))
    (given,) = scaled.inputs
    assert given.shape == (1, *[scaled.resolution] * 2, 3)
    assert given.dtype == torch.uint8
    assert abs(scaled.resolution / 64 / 2**0.5 - 1) < 0.02
    assert scaled.module(given).shape == (*given.shape[:3], 5)


def test_a_network_that_was_scaled_is_scaled_again():
    once = cs.scale(Sequence(), strategy="dWr", factor=2, example_inputs=(Sequence.example,))
    twice = cs.scale(once.module, strategy="dWr", factor=2, example_inputs=once.inputs)
    straight = cs.scale(Sequence(), strategy="dWr", factor=4, example_inputs=(Sequence.example,))
    assert twice.base_resolution == once.resolution
    assert twice.resolution[0] == pytest.approx(straight.resolution[0], rel=0.02)


@pytest.mark.parametrize(
    ("module", "shape", "expected"),
    [
        (Unshuffled(), (1, 3, 48, 48), 48),
        (Unshuffled(), (1, 3, 64, 48), (64, 48)),  # as long as the convolution takes channels
        (nn.Conv2d(64, 8, 3), (1, 64, 64, 64), 64),
        (nn.Conv2d(1, 8, 3), (1, 28, 28, 1), 28),
        (nn.Conv2d(1, 8, 3), (1, 1, 28, 28), 28),
        (nn.Sequential(nn.Conv2d(3, 64, 3), nn.Conv2d(64, 8, 3)), (1, 64, 64, 3), 64),
        (nn.Sequential(nn.Conv2d(1, 8, 3), nn.Conv2d(3, 8, 3)), (1, 64, 64, 3), 64),
        (nn.Conv1d(40, 8, 3), (1, 40, 40), (40,)),
        (nn.Conv1d(40, 8, 3), (1, 17, 40), (17,)),
        (nn.Sequential(nn.Conv1d(40, 17, 3), nn.Conv1d(17, 8, 3)), (1, 17, 40), (40,)),
    ],
)
def test_where_the_channels_are(module, shape, expected):
    assert image_sides(module, Inputs((torch.zeros(shape),))) == expected
