"""What a wider network puts out has as many positions as before, or the network is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

import convscale as cs


class Overlapping(nn.Module):
    """Conv-TasNet in small: frames of a signal, masked, made samples again and added up."""

    def __init__(self, width=64, frame=16):
        super().__init__()
        self.frame = frame
        self.encoder = nn.Conv1d(1, width, frame, frame // 2, bias=False)
        self.body = nn.Sequential(nn.Conv1d(width, width, 3, 1, 1), nn.ReLU())
        self.basis = nn.Linear(width, frame, bias=False)

    def forward(self, x):
        frames = self.encoder(x).relu()
        samples = self.basis((frames * self.body(frames).sigmoid()).transpose(1, 2))
        length = (samples.shape[1] + 1) * self.frame // 2
        kernel, step = (1, self.frame), (1, self.frame // 2)
        folded = functional.fold(samples.transpose(1, 2), (1, length), kernel, stride=step)
        return folded.view(len(x), -1)


@pytest.mark.parametrize("strategy", ["w", "dWr"])
@pytest.mark.parametrize("factor", [0.25, 4, 16])
def test_frames_that_are_added_up_keep_their_length(strategy, factor):
    base = Overlapping()
    keep = ("r", "d") if strategy == "dWr" else ()
    scaled = cs.scale(base, strategy=strategy, factor=factor, resolution=800, keep=keep)
    x = torch.randn(2, 1, 800)
    assert scaled.module(x).shape == base(x).shape
    assert scaled.module.basis.out_features == 16
    assert (scaled.module.encoder.out_channels > 64) == (factor > 1)


class Counted(nn.Module):
    """Puts out what code makes of the number of channels."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.body = nn.Sequential(
            nn.Conv2d(3, 64, 3, 2, 1), nn.ReLU(), nn.Conv2d(64, 64, 3, 1, 1), nn.ReLU()
        )
        self.exit = nn.Conv2d(64, 64, 3, 1, 1)

    def forward(self, x):
        return self.how(self.exit(self.body(x)).relu())


@pytest.mark.parametrize(
    ("how", "told"),
    [
        (lambda x: functional.adaptive_avg_pool2d(x, (x.shape[1] // 16, 1)).mean(1), "1×8×1"),
        (lambda x: torch.zeros(len(x), x.shape[1]) + x.mean(), "1×128"),
    ],
)
def test_other_positions_than_the_base_puts_out_are_refused(how, told):
    base = Counted(how)
    with pytest.raises(cs.UnscalableNetworkError, match=rf"puts out {told} in place of .*--freeze"):
        cs.scale(base, strategy="w", factor=4, resolution=16)
    scaled = cs.scale(base, strategy="w", factor=4, resolution=16, freeze=["exit"])
    assert scaled.module.body[0].out_channels > 64
    assert scaled.module(torch.randn(1, 3, 16, 16)).shape == base(torch.randn(1, 3, 16, 16)).shape
