"""Outputs as large as the input stay so: the sides of autoencoders lie on their step."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional

import convscale as cs
from convscale.errors import UnscalableNetworkError
from convscale.quantities import format_resolution
from convscale.scaling.depths.runs import Runs

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


def autoencoder(halvings=2, dims=2):
    """Halve a side h times, rounding up, and double it as often: n becomes ⌈n / 2^h⌉ · 2^h."""
    widths = [3, *(16 * 2**i for i in range(halvings))]
    layers = []
    for old, new in pairwise(widths):
        layers += [CONVOLUTIONS[dims](old, new, 3, 2, 1), nn.ReLU()]
    for old, new in pairwise(widths[::-1]):
        layers += [TRANSPOSED[dims](old, new, 3, 2, 1, output_padding=1), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Variational(nn.Module):
    """A bottleneck of 2x2 positions, which is that of sides of 49 to 64 px, but puts out 64 px."""

    def __init__(self):
        super().__init__()
        sizes = (3, 8, 8, 8, 8, 8)
        self.down = nn.Sequential(*(nn.Conv2d(a, b, 3, 2, 1) for a, b in pairwise(sizes)))
        self.mean = nn.Linear(32, 4)
        self.up = nn.Linear(4, 32)
        self.out = nn.Sequential(
            *(nn.ConvTranspose2d(8, b, 3, 2, 1, output_padding=1) for b in (8, 8, 8, 8, 3))
        )

    def forward(self, x):
        mean = self.mean(self.down(x).flatten(1))
        return self.out(self.up(mean).unflatten(1, (8, 2, 2))), x, mean


class UNet(nn.Module):
    """What goes up is put beside what went down, which runs at multiples of 4 px alone."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.down = nn.ModuleList(nn.Conv2d(16, 16, 3, 2, 1) for _ in range(2))
        self.up = nn.ModuleList(
            (nn.ConvTranspose2d(16, 16, 2, 2), nn.ConvTranspose2d(32, 16, 2, 2))
        )
        self.last = nn.Conv2d(32, 5, 1)

    def forward(self, x):
        maps = [self.first(x)]
        for layer in self.down:
            maps.append(layer(maps[-1]).relu())
        x = maps.pop()
        for layer in self.up:
            x = torch.cat([layer(x), maps.pop()], 1)
        return self.last(x)


def shapes(scaled, dims=2):
    """Return the sides that a scaled network takes, and those that it gives."""
    side = scaled.resolution
    taken = side if isinstance(side, tuple) else (side,) * dims
    given = scaled.module.to("meta")(torch.empty(1, 3, *taken, device="meta"))
    given = given[0] if isinstance(given, tuple) else given
    return taken, tuple(given.shape[2:])


@pytest.mark.parametrize(
    ("halvings", "strategy", "factor", "base", "side", "step", "nearer"),
    [
        (2, "r", 2.0, 32, 44, 4, 45),
        (2, "r", 0.5, 32, 24, 4, 23),
        (2, "r", 4.0, 32, 64, 1, None),
        (2, "dWr", 2.0, 32, 32, 4, 33),
        (3, "r", 2.0, 32, 48, 8, 45),
        (3, "r", 1.5, 224, 272, 8, 274),
        (5, "r", 1.2, 64, 64, 32, 70),
        (2, "r", 2.0, (48, 32), (68, 44), 4, (68, 45)),
    ],
)
def test_reconstructions_are_as_large_as_the_input(
    halvings, strategy, factor, base, side, step, nearer
):
    net = autoencoder(halvings)
    scaled = cs.scale(net, strategy=strategy, factor=factor, resolution=base, weights=False)
    taken, given = shapes(scaled)
    assert scaled.resolution == side
    assert taken == given
    size, other = (format_resolution(one) for one in (side, nearer or 0))
    said = (
        f"The network runs at {size} px, the nearest on a step of {step} px; at {other} px outputs "
        "lose the sides of the input."
    )
    assert (said in scaled.notes) == (step > 1)


def test_the_loss_of_a_scaled_autoencoder_can_be_computed():
    scaled = cs.scale(autoencoder(), strategy="dWr", factor=2.0, resolution=32)
    images = torch.rand(2, 3, scaled.resolution, scaled.resolution)
    loss = functional.mse_loss(scaled.module(images), images)
    loss.backward()
    assert loss.isfinite()


@pytest.mark.parametrize(
    ("dims", "base", "factor", "side"),
    [
        (1, (64,), 1.4, (88,)),  # 89.6
        (3, (16, 32, 32), 1.5, (20, 36, 36)),  # 18.3 and 36.6
    ],
)
def test_signals_and_volumes_keep_their_sides(dims, base, factor, side):
    net = autoencoder(dims=dims)
    scaled = cs.scale(net, strategy="r", factor=factor, resolution=base, weights=False)
    assert shapes(scaled, dims) == (side, side)


@pytest.mark.parametrize(("strategy", "times"), [("r", 2.7), ("wr", 2.7), ("wr", 0.5), ("r", 0.4)])
def test_budgets_are_met_at_sides_that_are_kept(strategy, times):
    net = autoencoder()
    budget = times * cs.count(net, resolution=128).flops
    scaled = cs.scale(net, strategy=strategy, flops=budget, resolution=128, weights=False)
    taken, given = shapes(scaled)
    assert taken == given
    assert scaled.resolution % 4 == 0
    assert scaled.achieved.flops == pytest.approx(budget, rel=0.06)


def test_moves_of_the_resolution_keep_the_sides():
    """At 62 px it has fewer flops than at 64, the nearest on a step of 2 px, but loses them."""
    net = autoencoder()
    budget = 3.9 * cs.count(net, resolution=32).flops
    scaled = cs.scale(net, strategy="r", flops=budget, resolution=32, weights=False)
    assert shapes(scaled) == ((64, 64), (64, 64))


def test_a_network_that_keeps_them_nowhere_comes_with_a_note():
    class Fixed(nn.Module):
        """It puts out 32 px whatever it takes."""

        def __init__(self):
            super().__init__()
            self.body = nn.Conv2d(3, 8, 3, padding=1)

        def forward(self, x):
            return functional.interpolate(self.body(x), size=(32, 32))

    scaled = cs.scale(Fixed(), strategy="r", factor=2.0, resolution=32, weights=False)
    assert shapes(scaled) == ((45, 45), (32, 32))
    assert scaled.notes[0] == (
        "At 45 px outputs lose the sides of the input, which they have at 32 px: output 1 (32 px). "
        "No side near was found at which they keep them; a strategy without r does."
    )


def test_one_output_of_several_that_is_not_as_large_is_told():
    scaled = cs.scale(Variational(), strategy="r", factor=0.94, resolution=64, weights=False)
    assert shapes(scaled) == ((62, 62), (64, 64))
    assert any("which they have at 64 px: output 1 (64 px)." in note for note in scaled.notes)


def test_a_network_that_runs_on_a_step_alone_says_so():
    scaled = cs.scale(UNet(), strategy="r", factor=2.0, resolution=32, weights=False)
    assert scaled.notes == (
        "The network runs at 44 px, the nearest on a step of 4 px; those on smaller steps do not "
        "run.",
    )


@pytest.mark.parametrize(
    ("net", "given"),
    [
        (nn.Conv2d(3, 5, 3, padding=1), 45),
        (nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2)), 90),
        (nn.Conv2d(3, 5, 3, 2, 1), 23),
        (nn.Sequential(nn.Conv2d(3, 5, 3), nn.Upsample(size=32)), 45),
        (nn.Sequential(nn.Conv2d(3, 32, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), None),
    ],
)
def test_other_outputs_cost_no_run_more(net, given, monkeypatch):
    tried = []
    made = Runs._made_for

    def noted(self, models, resolution, deepening):
        tried.append(resolution)
        return made(self, models, resolution, deepening)

    monkeypatch.setattr(Runs, "_made_for", noted)
    scaled = cs.scale(net, strategy="r", factor=2.0, resolution=32, weights=False)
    assert scaled.resolution == 45
    assert set(tried) <= {32, 45}
    assert not any("lose the sides" in note for note in scaled.notes)
    if given is not None:
        assert shapes(scaled)[1] == (given, given)


def test_sides_at_which_nothing_runs_are_refused_as_before():
    with pytest.raises(UnscalableNetworkError, match="does not run at 91 px"):
        cs.scale(Variational(), strategy="r", factor=2.0, resolution=64, weights=False)
