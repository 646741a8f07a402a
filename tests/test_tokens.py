"""Networks over tokens: their embeddings are widths like others."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import convscale as cs

TOKENS = torch.randint(0, 300, (1, 40))


class Bytes(nn.Module):
    """Causal convolutions over embedded tokens and positions, whose weights the head shares."""

    def __init__(self, *, shared):
        super().__init__()
        self.words, self.places = nn.Embedding(300, 64), nn.Embedding(128, 64)
        self.blocks = nn.ModuleList(nn.Conv1d(64, 64, 3, dilation=2**n) for n in range(3))
        self.exit = nn.Linear(64, 300)
        if shared:
            self.exit.weight = self.words.weight

    def forward(self, x):
        y = (self.words(x) + self.places(torch.arange(x.shape[1]))).transpose(1, 2)
        for level, block in enumerate(self.blocks):
            y = y + functional.relu(block(functional.pad(y, (2 * 2**level, 0))))
        return self.exit(y.transpose(1, 2))


class Sentences(nn.Module):
    """Windows of several lengths, each over all of an embedding, as over the side of an image."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(300, 64)
        self.windows = nn.ModuleList(nn.Conv2d(1, 48, (k, 64)) for k in (3, 4, 5))
        self.exit = nn.Linear(144, 4)

    def forward(self, x):
        x = self.words(x).unsqueeze(1)
        return self.exit(torch.cat([w(x).relu().squeeze(3).amax(2) for w in self.windows], 1))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("factor", "width"), [(4, 128), (0.25, 32)])
def test_embeddings_are_as_wide_as_the_rest(shared, factor, width):
    scaled = cs.scale(Bytes(shared=shared), strategy="w", factor=factor, example_inputs=TOKENS)
    net = scaled.module
    assert net.words.weight.shape == (300, width) == net.exit.weight.shape
    assert net.places.weight.shape == (128, width)
    assert all(block.weight.shape == (width, width, 3) for block in net.blocks)
    assert (net.exit.weight is net.words.weight) == shared
    assert net(TOKENS).shape == (1, 40, 300)


def test_windows_over_a_whole_embedding_keep_it():
    scaled = cs.scale(Sentences(), strategy="w", factor=4, example_inputs=TOKENS)
    assert [tuple(w.weight.shape) for w in scaled.module.windows] == [
        (96, 1, k, 64) for k in (3, 4, 5)
    ]
    assert scaled.module(TOKENS).shape == (1, 4)
    with pytest.raises(cs.UnscalableNetworkError, match=r"no input .* has the sides of an image"):
        cs.scale(Sentences(), strategy="r", factor=2, example_inputs=TOKENS)
