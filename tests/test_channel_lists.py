"""Lists of channels, by which heads are put on encoders, follow the widths."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import convscale as cs


class Encoder(nn.Module):
    """Stages whose maps are put out, the image first, and the channels of all of them in a list."""

    def __init__(self, widths: tuple[int, ...] = (32, 32, 64, 128)) -> None:
        super().__init__()
        self._out_channels = [3, *widths]
        self.feature_widths = widths
        self._out_feature_channels = {f"res{i}": width for i, width in enumerate(widths[1:], 2)}
        self.kernel_sizes = [32, 64]  # not channels, though as large
        self.depths = [2, 2]
        pairs = zip((3, *widths), widths, strict=False)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(taken, put, 3, 2, 1), nn.BatchNorm2d(put), nn.ReLU())
            for taken, put in pairs
        )

    @property
    def out_channels(self) -> list[int]:
        return self._out_channels[1:]

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        maps = [x]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps


class Segmenter(nn.Module):
    """An encoder, and a head that takes its last map."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.head = nn.Conv2d(128, 5, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(x)[-1])


@pytest.mark.parametrize(("strategy", "factor"), [("w", 4), ("w", 0.5), ("dw", 3)])
@pytest.mark.parametrize("make", [Segmenter, Encoder])
def test_lists_tell_the_channels_of_maps(make, strategy, factor):
    scaled = cs.scale(make(), strategy=strategy, factor=factor, resolution=64)
    encoder = scaled.module.encoder if make is Segmenter else scaled.module
    maps = encoder(torch.randn(2, 3, 64, 64))
    put = [one.shape[1] for one in maps]
    assert encoder._out_channels == put
    assert put[0] == 3
    assert put[1] != 32
    assert encoder.out_channels == put[1:]
    assert encoder.feature_widths == tuple(put[1:])
    assert encoder._out_feature_channels == {"res2": put[2], "res3": put[3], "res4": put[4]}
    assert (encoder.kernel_sizes, encoder.depths) == ([32, 64], [2, 2])
    again = cs.scale(scaled.module, strategy="w", factor=0.5, resolution=64, weights=False)
    encoder = again.module.encoder if make is Segmenter else again.module
    assert encoder.out_channels == [stage[0].out_channels for stage in encoder.stages]


class Pyramid(nn.Module):
    """A block that lists the widths of its two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.widths = [64, 32]
        self.wide, self.narrow = nn.Conv2d(32, 64, 3, padding=1), nn.Conv2d(64, 32, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.narrow(self.wide(x).relu())


def test_lists_in_added_blocks_tell_the_new_channels_too():
    base = nn.Sequential(
        nn.Conv2d(3, 32, 3, 2, 1), nn.Sequential(Pyramid(), Pyramid()), nn.Conv2d(32, 5, 1)
    )
    scaled = cs.scale(base, strategy="dw", factor=8, resolution=64)
    blocks = list(scaled.module[1])
    assert len(blocks) > 2
    for block in blocks:
        assert block.widths == [block.wide.out_channels, block.narrow.out_channels]
        assert block.widths[0] > 64


class Timed(Encoder):
    """An encoder that embeds a time in as many numbers as its list of channels says."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(32, 128)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        waves = torch.arange(self.feature_widths[0], device=x.device).float().sin()
        maps = super().forward(x)
        return [*maps[:-1], maps[-1] + self.embed(waves)[:, None, None]]


class Trained(Encoder):
    """An encoder that reads its list of channels in training only."""

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        if self.training:
            assert self._out_feature_channels["res2"] == 32
        return super().forward(x)


@pytest.mark.parametrize("factor", [0.5, 0.6, 1.5, 2])
def test_lists_that_a_forward_pass_reads_stay(factor):
    scaled = cs.scale(Timed(), strategy="w", factor=factor, resolution=64)
    put = [one.shape[1] for one in scaled.module(torch.randn(2, 3, 64, 64))]
    assert scaled.module.feature_widths[0] == scaled.module.embed.in_features
    assert scaled.module.feature_widths[1:] == (32, 64, 128)
    assert scaled.module._out_channels == put != [3, 32, 32, 64, 128]
    scaled = cs.scale(Trained(), strategy="w", factor=factor, resolution=64)
    put = [one.shape[1] for one in scaled.module.train()(torch.randn(2, 3, 64, 64))]
    assert scaled.module._out_feature_channels == {"res2": 32, "res3": 64, "res4": 128}
    assert scaled.module.feature_widths == tuple(put[1:])


class Saved(Segmenter):
    """A network with a way of its own to be saved."""

    def save_pretrained(self, folder: str) -> None:
        raise NotImplementedError(folder)


@pytest.mark.parametrize(("strategy", "told"), [("w", True), ("d", True), ("r", False)])
def test_that_its_own_way_to_save_writes_the_base_is_said(strategy, told, tmp_path):
    scaled = cs.scale(Saved(), strategy=strategy, factor=2, resolution=64)
    assert any(note.startswith("Its save_pretrained writes") for note in scaled.notes) is told
    assert not any(
        "save_pretrained" in n
        for n in cs.scale(
            Segmenter(), strategy=strategy, factor=2, resolution=64, weights=False
        ).notes
    )
