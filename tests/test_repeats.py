"""Added blocks that run as those they are copies of are read off one run that follows nothing."""

import pytest
import torch
from torch import nn

from convscale.network import resolve_base
from convscale.network.modules.copies import meta_copy
from convscale.network.running.feeding import Feed
from convscale.network.stages.repeats import without_repeats
from convscale.network.tracing.rerun import Run
from convscale.scaling.depths import runs
from convscale.scaling.scaler import Scaler
from convscale.strategy import parse_strategy

NETWORKS = (
    "timm:resnet50",
    "timm:efficientnet_b0",
    "timm:convnext_atto",
    "timm:regnety_002",
    "timm:repvgg_a0",
    "timm:mobilenetv3_small_100",
    "timm:poolformer_s12",
    "torchvision:shufflenet_v2_x1_0",
)


@pytest.mark.parametrize("name", NETWORKS)
def test_blocks_that_are_not_followed_give_the_network_that_followed_ones_give(name, monkeypatch):
    def scaled() -> list[object]:
        scaler = Scaler(resolve_base(name), resolution=64)
        asked = (("dWr", 2.0), ("dwr", 0.6), ("d", 2.0), ("dw", 3.0))
        found = [scaler.scale(own, factor=factor, weights=False) for own, factor in asked]
        return [(one.plan, one.achieved, one.resolution, one.notes) for one in found]

    fast = scaled()
    monkeypatch.setattr(runs, "without_repeats", lambda seen, copies: None)
    assert fast == scaled()


@pytest.mark.parametrize("name", ["timm:resnet18", "timm:resnet50", "timm:convnext_atto"])
def test_scaling_on_all_axes_follows_the_base_and_takes_one_run_more(name, monkeypatch):
    made = []
    for what in ("trace_module", "Run"):
        own = getattr(runs, what)

        def counted(*args, own=own, what=what, **kwargs):
            made.append(what)
            return own(*args, **kwargs)

        monkeypatch.setattr(runs, what, counted)
    Scaler(resolve_base(name)).scale("dWr", factor=2.0, weights=False)
    assert made == ["trace_module", "Run"]


def seen_sides(monkeypatch) -> list[int]:
    """Return a list that grows with the side of every run that follows nothing."""
    sides, own = [], runs.Run

    def seen(module, feed, *more):
        sides.append(feed.resolution)
        return own(module, feed, *more)

    monkeypatch.setattr(runs, "Run", seen)
    return sides


def test_recorded_copies_run_at_the_base_side_and_are_read_off_the_base_at_others(monkeypatch):
    sides = seen_sides(monkeypatch)
    scaler = Scaler(resolve_base("timm:resnet18"), resolution=64, records=True)
    for name in ("dr", "r", "dwr"):
        for factor in (2.0, 3.0, 4.0):
            scaler.planned(parse_strategy(name), factor)
    assert sides.count(64) == 1  # with a block more in each stage
    assert len(sides) > 3
    assert len(set(sides)) == len(sides)


def test_a_side_at_which_the_network_does_not_run_is_tried_once(monkeypatch):
    sides = seen_sides(monkeypatch)
    scaler = Scaler(resolve_base("timm:hrnet_w18_small"), resolution=64, records=True)
    for name in ("r", "dr", "r"):
        assert scaler.planned(parse_strategy(name), 2.3).variant.resolution % 16 == 0
        scaler.blueprint.forget(0)
    refused = [side for side in sides if side % 16]
    assert refused
    assert len(set(refused)) == len(refused)


class Block(nn.Module):
    """Add to what arrives; from the third block on by another operator."""

    def __init__(self, at: int, norm: nn.Module) -> None:
        super().__init__()
        self.at, self.norm, self.conv = at, norm, nn.Conv2d(4, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.norm(self.conv(x))
        return x.relu() if self.at > 1 else x


def run_of(blocks: list[nn.Module]) -> Run:
    return Run(meta_copy(nn.Sequential(nn.Conv2d(3, 4, 1), *blocks)), Feed(8))


def test_a_copy_that_runs_as_its_block_leaves_the_run_of_the_others():
    seen = run_of([Block(0, nn.BatchNorm2d(4)), Block(1, nn.BatchNorm2d(4))])
    rest, alone = without_repeats(seen, {"2": "1"}), run_of([Block(0, nn.BatchNorm2d(4))])
    assert rest is not None
    for what in ("script", "products", "shapes", "calls", "functions", "tensors"):
        assert getattr(rest, what) == getattr(alone, what)
    assert {path for path, _ in seen.script} - {path for path, _ in rest.script} == {
        "2",
        "2.conv",
        "2.norm",
    }


def test_a_copy_that_runs_otherwise_is_told_apart():
    norm = nn.BatchNorm2d(4)
    shared = [Block(0, norm), Block(1, norm)]
    other = [Block(1, nn.BatchNorm2d(4)), Block(2, nn.BatchNorm2d(4))]
    wider = [nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)]
    strided = [nn.Conv2d(4, 4, 1, stride=2), nn.Conv2d(4, 4, 1, stride=2)]
    for blocks in (shared, other, wider, strided):
        assert without_repeats(run_of(blocks), {"2": "1"}) is None
