"""Layers whose kernels keep no side without a stride: what is added beside them has odd ones."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

import convscale as cs
from tests.checks import perturbed


def generator() -> nn.Module:
    """A picture of 64 px from 100 numbers, by transposed convolutions, as DCGAN has it."""
    widths = (100, 64, 32, 16, 8)
    rows: list[nn.Module] = []
    for place, (taken, put) in enumerate(pairwise(widths)):
        stride, padding = (1, 0) if place == 0 else (2, 1)
        rows += [nn.ConvTranspose2d(taken, put, 4, stride, padding, bias=False)]
        rows += [nn.BatchNorm2d(put), nn.ReLU()]
    return nn.Sequential(*rows, nn.ConvTranspose2d(8, 3, 4, 2, 1, bias=False), nn.Tanh())


def discriminator() -> nn.Module:
    """One number for a picture of 64 px, by convolutions of 4 x 4."""
    rows: list[nn.Module] = []
    for taken, put in ((3, 8), (8, 16), (16, 32), (32, 64)):
        rows += [nn.Conv2d(taken, put, 4, 2, 1, bias=False), nn.BatchNorm2d(put), nn.LeakyReLU(0.2)]
    return nn.Sequential(*rows, nn.Conv2d(64, 1, 4, bias=False), nn.Sigmoid())


@pytest.mark.parametrize(
    ("make", "shape", "kernels"),
    [
        (generator, (2, 100, 1, 1), (64, 32, 16, 8)),
        (discriminator, (2, 3, 64, 64), (8, 16, 32, 64)),
    ],
)
def test_rows_are_added_that_keep_the_sides(make, shape, kernels):
    base = make()
    given = (torch.zeros(1, *shape[1:]),)
    deeper = cs.scale(base, strategy="d", factor=2, example_inputs=given)
    added = {
        name: tuple(tensor.shape)
        for name, tensor in deeper.module.state_dict().items()
        if name not in base.state_dict() and tensor.ndim == 4
    }
    assert list(added.values()) == [(width, width, 3, 3) for width in kernels]
    x = torch.randn(shape)
    assert deeper.module(x).shape == base(x).shape
    again = cs.scale(deeper.module, strategy="d", factor=0.5, example_inputs=given)
    assert set(again.module.state_dict()) == set(base.state_dict())
    module = deeper.module.eval()
    for name in added:
        with torch.no_grad(), perturbed(module.get_submodule(name.rpartition(".")[0])):
            other = module(x)
        assert not torch.equal(other, module(x)), name


@pytest.mark.parametrize(
    ("make", "shape", "rows"),
    [(generator, (1, 100, 1, 1), "0, 3, 6, 9"), (discriminator, (1, 3, 64, 64), "0, 3, 6, 9")],
)
def test_a_note_says_which_added_kernels_are_odd(make, shape, rows):
    given = (torch.zeros(shape),)
    deeper = cs.scale(make(), strategy="d", factor=2, example_inputs=given, weights=False)
    why = "as even ones keep no side of a map without a stride"
    assert f"Kernels are odd in added blocks, {why}: 3x3 in place of 4x4 beside {rows}." in (
        deeper.notes
    )
    wider = cs.scale(make(), strategy="w", factor=2, example_inputs=given, weights=False)
    assert not [note for note in wider.notes if note.startswith("Kernels")]


def test_the_layer_that_puts_the_picture_out_is_not_repeated():
    given = (torch.zeros(1, 100, 1, 1),)
    deeper = cs.scale(generator(), strategy="d", factor=2, example_inputs=given, weights=False)
    assert any(note == "Depth kept, no repeatable block: 12." for note in deeper.notes)


def test_a_kernel_that_is_computed_stays_even():
    base = discriminator()
    nn.utils.parametrizations.spectral_norm(base[3])
    given = (torch.zeros(1, 3, 64, 64),)
    deeper = cs.scale(base, strategy="d", factor=2, example_inputs=given)
    sides = {
        layer.kernel_size
        for path, layer in deeper.module.named_modules()
        if isinstance(layer, nn.Conv2d) and layer.stride == (1, 1) and layer.out_channels > 1
    }
    assert sides == {(3, 3), (4, 4)}
    assert deeper.module(torch.randn(2, 3, 64, 64)).shape == (2, 1, 1, 1)
