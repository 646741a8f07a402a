"""What is named where flops miss the factor takes them the way that they miss it."""

from __future__ import annotations

import pytest
from torch import nn

import convscale as cs


class Block(nn.Module):
    def __init__(self, inner, width=32):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(width, inner, 1), nn.ReLU(), nn.Conv2d(inner, width, 1))

    def forward(self, x):
        return x + self.body(x)


def network(*inner, outside=3):
    """Blocks of inner widths that cost 64 times these a position, between convolutions."""
    stem, end = nn.Conv2d(3, 32, 4, 4), nn.Conv2d(32, outside, 1)
    return nn.Sequential(stem, nn.Sequential(*map(Block, inner)), end)


def flops(*inner, outside=3):
    """Flops of `network` at 32 px in closed form: maps of 8 x 8."""
    return 64 * (48 * 32 + 64 * sum(inner) + 32 * outside)


SHRINK = "what lies outside repeated blocks does not shrink with depth"
GROW = "what lies outside repeated blocks does not grow with depth"
ROUND = "depths round to whole blocks"
LESS_GONE = "blocks that are taken away cost less than those that stay"
MORE_GONE = "blocks that are taken away cost more than those that stay"
LESS_ADDED = "added blocks cost less than the first of their stages"
MORE_ADDED = "added blocks cost more than others"


@pytest.mark.parametrize(
    ("inner", "outside", "factor", "left", "causes"),
    [
        ((8, 8, 96, 96), 3, 0.5, (8, 8), [MORE_GONE]),
        ((96, 96, 8, 8), 3, 0.5, (96, 96), [LESS_GONE, SHRINK]),
        ((96, 96, 8, 8), 3, 2, (96, 96, *[8] * 6), [LESS_ADDED, GROW]),
        ((8, 8, 96, 96), 3, 2, (8, 8, *[96] * 6), [MORE_ADDED]),
        ((64, 64, 64, 64), 400, 0.5, (64, 64), [SHRINK]),
        ((64, 64, 64, 64), 400, 2, (64,) * 8, [GROW]),
        ((128, 128, 128), 3, 0.5, (128, 128), [ROUND, SHRINK]),
        ((128, 128), 3, 1.2, (128, 128), [ROUND]),
    ],
)
def test_a_miss_by_depth_is_laid_to_what_takes_flops_that_way(inner, outside, factor, left, causes):
    """At the factor 2, half of what lies outside is missing; at a half, as much is too much."""
    base = network(*inner, outside=outside)
    scaled = cs.scale(base, strategy="d", factor=factor, resolution=32, weights=False)
    ratio = flops(*left, outside=outside) / flops(*inner, outside=outside)
    assert scaled.ratio["flops"] == ratio
    told = f"{', and '.join(causes)} ({ratio / factor:.2f} times)."
    [note] = [one for one in scaled.notes if one.startswith("Flops grow")]
    assert note.partition(": ")[2] == told


class Attention(nn.Module):
    """Every position is weighed by every other."""

    def forward(self, x):
        tokens = x.flatten(2)
        return (tokens @ (tokens.transpose(1, 2) @ tokens).softmax(-1)).view_as(x)


@pytest.mark.parametrize("attends", [True, False])
def test_attention_is_a_cause_where_there_is_some(attends):
    """Patches of 96 px make maps of 3 x 3, which cannot become 4.2 x 4.2."""
    inner = Attention() if attends else nn.ReLU()
    base = nn.Sequential(nn.Conv2d(3, 16, 96, 96), inner, nn.Conv2d(16, 3, 1))
    scaled = cs.scale(base, strategy="r", factor=2, resolution=288, weights=False)
    [note] = [one for one in scaled.notes if one.startswith("Flops grow")]
    assert ("attention" in note) is attends
    assert "maps or resolution round" in note


@pytest.mark.parametrize("target", ["factor", "flops"])
def test_where_multiples_are_too_coarse_a_smaller_one_is_offered(target):
    """16 is asked to be 11.3, and 8 and 16 are both far from it."""
    layers = [nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()) for _ in range(4)]
    base = nn.Sequential(nn.Conv2d(3, 16, 3), *layers, nn.Conv2d(16, 10, 1))
    half = {"factor": 0.5, "flops": cs.count(base, resolution=32).flops / 2}[target]
    ask = {target: half, "strategy": "w", "resolution": 32, "weights": False}
    coarse, fine = cs.scale(base, **ask), cs.scale(base, **ask, width_multiple=4)
    offer = "A smaller width multiple may come nearer: --width-multiple 4."
    assert any(note.endswith(offer) for note in coarse.notes)
    assert abs(fine.ratio["flops"] - 0.5) < abs(coarse.ratio["flops"] - 0.5) / 2
    single = cs.scale(base, **{**ask, target: half / 50}, width_multiple=1)
    assert any(note.startswith(("Flops grow", "The nearest")) for note in single.notes)
    assert not any("smaller width multiple" in note for note in single.notes)
