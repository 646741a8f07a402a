"""Blocks behind the last map that is read: added ones must change what the network puts out."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

import convscale as cs
from convscale.network.modules.copies import meta_copy
from convscale.network.running.execution import run
from convscale.network.stages.reaching import Reach
from tests import checks


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.a = nn.Conv2d(width, width, 3, 1, 1)
        self.b = nn.Conv2d(width, width, 3, 1, 1)

    def forward(self, x):
        return x + self.b(self.a(x).relu())


class Tapped(nn.Module):
    """Blocks of which some maps are kept by number or by name, and one head for each of these."""

    def __init__(self, how, taps=(1, 3, 5), width=32):
        super().__init__()
        self.how, self.taps = how, taps
        self.stem = nn.Conv2d(3, width, 4, 4)
        blocks = [Block(width) for _ in range(6)]
        self.blocks = nn.Sequential(*blocks) if how == "sequence" else nn.ModuleList(blocks)
        self.heads = nn.ModuleList(nn.Conv2d(width, 8, 1) for _ in taps)

    def forward(self, x):
        x, kept = self.stem(x), []
        for index, (name, block) in enumerate(self.blocks.named_children()):
            x = block(x)
            if name in map(str, self.taps) if self.how == "names" else index in self.taps:
                kept.append(x)
        return sum(head(one) for head, one in zip(self.heads, kept, strict=True))


def tapped_flops(blocks, taps=3, width=32):
    """Flops of `Tapped` at 32 px in closed form: maps of 8 x 8."""
    return 64 * (48 * width + blocks * 2 * 9 * width**2 + taps * 8 * width)


@pytest.mark.parametrize("how", ["list", "sequence", "names"])
@pytest.mark.parametrize("strategy", ["d", "dWr"])
def test_blocks_are_added_in_front_of_the_last_map_that_is_kept(how, strategy):
    base = Tapped(how)
    scaled = cs.scale(base, strategy=strategy, factor=8 if strategy == "dWr" else 2, resolution=32)
    checks.check_state_dict_keys(base, scaled)
    checks.check_runs_forward_and_backward(scaled.module, scaled.resolution)
    assert all(one.grad is not None for one in scaled.module.parameters())
    added = checks.check_added_blocks_matter(scaled, scaled.resolution)
    assert scaled.achieved.flops == checks.torch_flops(scaled.module, scaled.resolution)
    if strategy == "d":
        assert added == 6
        assert scaled.achieved.flops == tapped_flops(12)
    assert not scaled.notes


class Maps(nn.Module):
    """Maps of two sizes, taken behind blocks of some numbers of one sequence."""

    def __init__(self, taps=(2, 5)):
        super().__init__()
        self.taps = taps
        entry, middle = nn.Conv2d(3, 16, 3, 2, 1), nn.Conv2d(16, 32, 3, 2, 1)
        stages = [[nn.Sequential(layer, nn.ReLU())] for layer in (entry, middle)]
        self.blocks = nn.Sequential(
            *stages[0], Block(16), Block(16), *stages[1], Block(32), Block(32)
        )

    def forward(self, x):
        kept = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.taps:
                kept.append(x)
        return kept


@pytest.mark.parametrize("strategy", ["d", "dWr"])
@pytest.mark.parametrize("factor", [0.5, 1.5, 2, 3, 8])
def test_no_block_is_pushed_out_of_what_is_put_out(strategy, factor):
    base = Maps()
    scaled = cs.scale(base, strategy=strategy, factor=factor, resolution=32)
    side = scaled.resolution
    before, after = base(torch.randn(1, 3, 32, 32)), scaled.module(torch.randn(1, 3, side, side))
    halved = (side + 1) // 2
    assert [out.shape[-1] for out in after] == [halved, (halved + 1) // 2]
    if strategy == "d":
        assert [out.shape for out in after] == [out.shape for out in before]
    torch.stack([out.square().mean() for out in after]).sum().backward()
    assert all(one.grad is not None for one in scaled.module.parameters())


@pytest.mark.parametrize("how", ["list", "sequence", "names"])
def test_blocks_behind_the_last_map_that_is_kept_are_refused_more(how):
    """The base runs two blocks for nothing; one more would do as little."""
    with pytest.raises(cs.UnscalableNetworkError, match=r"put out reaches no output \(at blocks.0"):
        cs.scale(Tapped(how, taps=(1, 3)), strategy="d", factor=2, resolution=32)


def test_stages_behind_the_last_map_of_a_backbone_keep_their_depth():
    base = timm.create_model("efficientnet_b0", features_only=True, out_indices=(1, 2, 3))
    scaled = cs.scale(base, strategy="d", factor=2, resolution=64)
    assert [len(stage) for stage in base.blocks] == [1, 2, 2, 3, 3, 4, 1]
    assert [len(stage) for stage in scaled.module.blocks] == [2, 4, 4, 6, 6, 4, 1]
    assert (
        "Depth kept, as what a block more puts out would reach no output: "
        "blocks.5.0, blocks.6.0." in scaled.notes
    )
    added, _ = checks.changed_blocks(scaled)
    sum(map_.square().mean() for map_ in scaled.module(torch.randn(2, 3, 64, 64))).backward()
    for path in added:
        assert all(p.grad is not None for p in scaled.module.get_submodule(path[:-1]).parameters())


class Writing(nn.Module):
    """Convolutions whose results are read, overwritten, written into views or dropped."""

    def __init__(self):
        super().__init__()
        for name in ("read", "dropped", "viewed", "tapped", "behind", "into", "kept", "passed"):
            setattr(self, name, nn.Conv2d(4, 4, 1))

    def forward(self, x):
        self.dropped(x)
        canvas = x.new_zeros(len(x), 8, *x.shape[2:])
        canvas[:, :4] = self.viewed(x)
        canvas[:, 4:].add_(self.into(x))
        tap = self.tapped(x)
        self.behind(tap).flatten(1).relu_()
        later = self.kept(x)
        spare = x.clone()
        spare.mul_(later)  # reads it, and is not read
        return {"all": (canvas + torch.cat([self.read(x), tap], 1), [later])}, self.passed(spare)


class Dropping(Writing):
    def forward(self, x):
        return super().forward(x)[0]


@pytest.mark.parametrize("kind", [Writing, Dropping])
def test_what_reaches_an_output_is_what_a_gradient_reaches(kind):
    net = kind()
    names = [name for name, _ in net.named_children()]
    reach = Reach(names)
    run(meta_copy(net), (torch.empty(1, 4, 8, 8, device="meta"),), reach)
    every = net(torch.randn(1, 4, 8, 8))
    maps = every[0] if kind is Writing else every
    own = [maps["all"][0], *maps["all"][1], *([every[1]] if kind is Writing else [])]
    sum(one.sum() for one in own).backward()
    lost = {name for name in names if getattr(net, name).weight.grad is None}
    assert reach.lost == lost
    assert lost == {"dropped", "behind"} | ({"passed"} if kind is Dropping else set())


@pytest.mark.parametrize("reader", [True, False])
def test_layers_that_only_view_compute_nothing_that_could_be_lost(reader):
    layers = [nn.Conv2d(3, 4, 1), nn.Flatten(), *([nn.Linear(256, 2)] if reader else [])]
    net = nn.Sequential(*layers).to("meta")
    reach = Reach([name for name, _ in net.named_children()])
    run(net, (torch.empty(1, 3, 8, 8, device="meta"),), reach)
    assert reach.lost == frozenset()
