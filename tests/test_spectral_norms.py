"""Spectral norms: estimates of weights that stay are the base's, others are found again."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm

import convscale as cs


@pytest.mark.parametrize("normed", [spectral_norm, parametrizations.spectral_norm])
def test_estimates_stay_with_their_weights(normed):
    base = nn.Sequential(
        normed(nn.Conv2d(3, 16, 3, padding=1)),
        nn.LeakyReLU(0.2),
        normed(nn.Conv2d(16, 16, 3, padding=1)),
        nn.LeakyReLU(0.2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 2),
    )
    for _ in range(20):
        base.train()(torch.randn(2, 3, 32, 32))  # an estimate follows its weight in training
    base.eval()
    image = torch.randn(2, 3, 32, 32)
    wanted = base(image)
    larger = cs.scale(base, strategy="r", factor=2.25, resolution=32).module
    assert torch.equal(larger.eval()(image), wanted)
    wide = cs.scale(base, strategy="w", factor=4, resolution=32).module.eval()
    wide(image)
    for layer in (wide[0], wide[2]):
        norm = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)
        assert norm.item() == pytest.approx(1, abs=0.1)
