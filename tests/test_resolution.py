"""Networks that fix their input size: told the new one, their tables resampled, or refused."""

from __future__ import annotations

import json

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

import convscale as cs
from convscale.errors import UnscalableNetworkError
from convscale.network.resolution.resampling import Grid, grid_of, resample
from convscale.network.resolution.sizing import Sizing
from convscale.network.sources.network import from_timm
from tests.checks import torch_flops

FACTORY = '''
import torch
from torch import nn
from torch.nn import functional

class Tabled(nn.Module):
    def __init__(self, side):
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 8, 8)
        self.table = nn.Parameter(torch.randn(1, side * side, 32))
        self.register_buffer("order", torch.arange(side * side).flip(0), persistent=False)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 32), nn.ReLU()) for _ in range(3)
        )
        self.head = nn.Linear(32, 10)

    def forward(self, x):
        x = self.stem(x).flatten(2).transpose(1, 2) + self.table[:, self.order]
        for block in self.blocks:
            x = x + block(x)
        return self.head(x.mean(1))

class Flat(nn.Module):
    def __init__(self, image_size=32, num_classes=10):
        super().__init__()
        self.entry = nn.Conv2d(3, 16, 3, padding=1)
        self.exit = nn.Linear(16 * image_size * image_size, num_classes)

    def forward(self, x):
        return self.exit(self.entry(x).flatten(1))

def tabled(img_size=64):
    return Tabled(img_size // 8)

def flat(**options):
    return Flat(**options)

def other(resolution=16):
    """Its resolution is no size of images."""
    return nn.Sequential(nn.Conv2d(3, resolution, 3), nn.Flatten(), nn.Linear(900 * resolution, 10))
'''


@pytest.fixture
def nets(tmp_path):
    (tmp_path / "nets.py").write_text(FACTORY)
    return str(tmp_path / "nets.py")


def timm_counts(name, size):
    """Count the network that timm itself builds for a size, by PyTorch's counter."""
    with torch.device("cpu" if name.startswith("botnet") else "meta"):  # that one reads values
        net = timm.create_model(name, img_size=size).eval().to("meta")
    shapes = {key: tensor.shape for key, tensor in net.state_dict().items()}
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.empty(1, 3, size, size, device="meta"))
    return counter.get_total_flops() / 2, shapes


def tensors_of(module):
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


@pytest.mark.parametrize(
    ("name", "factor", "side"),
    [
        ("coatnet_nano_rw_224", 2.0, 320),
        ("levit_conv_128s", 2.0, 320),
        ("levit_conv_128s", 0.5, 160),
        ("visformer_tiny", 2.0, 316),
        ("botnet26t_256", 2.0, 352),
        ("efficientformerv2_s0", 2.0, 317),
        ("maxvit_tiny_pm_256", 2.0, 352),
        ("resnet50_clip", 2.0, 320),
    ],
)
def test_a_network_that_fixes_its_size_is_what_timm_builds_for_the_new_one(name, factor, side):
    scaled = cs.scale(name, strategy="r", factor=factor, weights=False)
    flops, shapes = timm_counts(name, side)
    assert scaled.resolution == side
    assert scaled.achieved.flops == flops
    assert {key: t.shape for key, t in scaled.module.state_dict().items()} == shapes
    assert f"The network is built for {side} px by its constructor (img_size)." in scaled.notes


def test_torchvision_is_told_the_size_as_a_pair():
    scaled = cs.scale("torchvision:maxvit_t", strategy="r", factor=4.0, weights=False)
    with torch.device("meta"):
        net = torchvision.models.maxvit_t(input_size=(448, 448)).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            net(torch.empty(1, 3, 448, 448))
    assert scaled.resolution == 448
    assert scaled.origin.options == {"input_size": (448, 448)}
    assert scaled.achieved.flops == counter.get_total_flops() / 2


@pytest.mark.parametrize("strategy", ["dwr", "dWr"])
def test_all_axes_scale_with_the_size_told(strategy):
    scaled = cs.scale("levit_conv_128s", strategy=strategy, factor=2.0, weights=False)
    assert scaled.ratio["flops"] == pytest.approx(2, rel=0.1)
    budget = cs.scale("levit_conv_128s", strategy=strategy, flops=1e9, weights=False)
    assert budget.resolution > 224
    assert budget.achieved.flops == pytest.approx(1e9, rel=0.03)


def test_widths_of_tables_are_those_of_the_resolution_that_is_tried():
    options = {"strategy": "dWr", "factor": 2.0, "weights": False}
    scaled = cs.scale("maxvit_tiny_tf_224", **options, freeze=["*.rel_pos"])
    assert scaled.ratio["flops"] == pytest.approx(2, rel=0.1)
    found = cs.scale("maxvit_tiny_tf_224", **options)  # one-hot rows, whose number is no width
    assert found.ratio["flops"] == pytest.approx(2, rel=0.1)
    assert found.notes[0].startswith(
        "Widths kept around stages.0.blocks.0.attn_block.attn.rel_pos."
    )
    assert found.resolution == scaled.resolution


def test_networks_whose_tensors_know_no_size_are_not_told():
    assert not Sizing(from_timm("repvgg_a0", {}), 224).bound
    assert cs.scale("repvgg_a0", strategy="r", factor=2.0, weights=False).origin.options == {}
    assert Sizing(from_timm("resnet18", {}), 224).at(256) is None


def test_the_base_may_be_built_for_another_size_than_its_own():
    flops, _ = timm_counts("levit_conv_128s", 288)
    assert cs.count("levit_conv_128s", resolution=288).flops == flops
    scaled = cs.scale("levit_conv_128s", strategy="w", factor=2, resolution=288, weights=False)
    assert (scaled.base.flops, scaled.resolution) == (flops, 288)


def test_a_rectangle_is_told_as_a_pair():
    scaled = cs.scale("visformer_tiny", strategy="r", factor=4.0, resolution=(128, 64))
    assert scaled.resolution == (256, 128)
    assert scaled.origin.options == {"img_size": (256, 128)}
    assert scaled.module.pos_embed1.shape[2:] == (32, 16)


def test_a_saved_network_that_was_told_its_size_loads_and_scales_again(tmp_path):
    scaled = cs.scale("levit_conv_128s", strategy="dwr", factor=2.0)
    folder = scaled.save(tmp_path / "told")
    loaded = cs.load(folder)
    images = torch.randn(1, 3, scaled.resolution, scaled.resolution)
    assert torch.equal(loaded.module.eval()(images), scaled.module.eval()(images))
    again = cs.scale(str(folder), strategy="dwr", factor=2.0)
    assert again.resolution > scaled.resolution
    assert again.ratio["flops"] == pytest.approx(2, rel=0.1)
    twice = cs.load(again.save(tmp_path / "twice"))
    images = torch.randn(1, 3, again.resolution, again.resolution)
    assert torch.equal(twice.module.eval()(images), again.module.eval()(images))
    assert cs.count("levit_conv_128s@dwr:2").flops == scaled.achieved.flops
    assert cs.count(str(folder)).flops == scaled.achieved.flops


def test_trained_weights_are_carried_over_and_indices_are_not(tmp_path):
    scaled = cs.scale("coatnet_pico_rw_224", strategy="d", factor=1.0)
    with torch.no_grad():
        for tensor in (*scaled.module.parameters(), *scaled.module.buffers()):
            if tensor.is_floating_point():
                tensor.normal_().abs_()
    before = tensors_of(scaled.module)
    folder = scaled.save(tmp_path / "trained")
    after = tensors_of(cs.scale(str(folder), strategy="r", factor=2.0).module)
    fresh = tensors_of(timm.create_model("coatnet_pico_rw_224", img_size=320))
    kinds = {"same": 0, "table": 0, "index": 0}
    for name, old in before.items():
        if not old.is_floating_point() and not name.endswith("num_batches_tracked"):
            assert torch.equal(after[name], fresh[name])
            kinds["index"] += 1
        elif old.shape == after[name].shape:
            assert torch.equal(after[name], old)
            kinds["same"] += 1
        else:
            way = timm.layers.pos_embed_rel.resize_rel_pos_bias_table_levit
            wanted = way(old, tuple(after[name].shape), antialias=True)
            assert torch.allclose(after[name], wanted, atol=1e-5)
            kinds["table"] += 1
    assert all(kinds.values())


@pytest.mark.parametrize(("side", "new"), [(14, 20), (14, 7)])
@pytest.mark.parametrize("prefix", [0, 1])
def test_absolute_tables_are_resampled_as_timm_does(side, new, prefix):
    table = torch.randn(1, side * side + prefix, 8)
    grid = grid_of(tuple(table.shape), (1, new * new + prefix, 8), 16 * side, 16 * new)
    wanted = timm.layers.resample_abs_pos_embed(table, [new, new], num_prefix_tokens=prefix)
    assert grid is not None
    assert torch.allclose(resample(table, grid), wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("old", "new", "before", "after", "wanted"),
    [
        ((8, 32, 16), (8, 40, 20), (256, 128), (320, 160), Grid((1, 2), (32, 16), (40, 20))),
        ((1, 128, 8), (1, 200, 8), (256, 128), (320, 160), Grid((1,), (16, 8), (20, 10))),
        ((729, 8), (1521, 8), 224, 320, Grid((0,), (27, 27), (39, 39))),
        ((27, 64), (39, 64), 224, 320, Grid((0,), (27,), (39,))),
        ((7, 8), (8, 8), 224, 232, Grid((0,), (7,), (8,))),
        ((1, 50, 8), (1, 103, 8), 224, 320, None),
        ((7, 7, 7), (8, 8, 8), 224, 256, None),
    ],
)
def test_the_grid_of_a_table_shows_in_how_it_grows(old, new, before, after, wanted):
    assert grid_of(old, new, before, after) == wanted


def test_a_factory_is_told_its_size(nets, tmp_path):
    scaled = cs.scale(f"{nets}:tabled", strategy="dwr", factor=4.0, resolution=64)
    side = scaled.resolution // 8
    assert scaled.module.table.shape[:2] == (1, side * side)
    assert torch.equal(scaled.module.order, torch.arange(side * side).flip(0))
    folder = scaled.save(tmp_path / "told")
    loaded = cs.load(folder, base=f"{nets}:tabled")
    images = torch.randn(1, 3, scaled.resolution, scaled.resolution)
    assert torch.equal(loaded.module.eval()(images), scaled.module.eval()(images))
    options = json.loads((folder / "convscale.json").read_text())["origin"]["options"]
    assert options == {"img_size": scaled.resolution}


def test_a_factory_that_passes_options_on_is_told_by_those_of_its_class(nets):
    scaled = cs.scale(f"{nets}:flat", strategy="r", factor=4.0, resolution=32)
    assert scaled.module.exit.in_features == 16 * 64 * 64
    assert (
        "Fresh weights, since their shape depends on the resolution: exit.weight." in scaled.notes
    )
    assert cs.count(f"{nets}:flat", resolution=48).params == 448 + 16 * 48 * 48 * 10 + 10


def test_an_option_that_changes_layers_is_no_size(nets):
    with pytest.raises(cs.UnscalableNetworkError, match=r"^The resolution .* --keep r, .*$"):
        cs.scale(f"{nets}:other", strategy="r", factor=4.0, resolution=32)


def test_what_cannot_be_told_is_refused_with_a_way_out():
    def layer():
        return nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())

    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.entry = nn.Conv2d(3, 16, 3, padding=1)
            self.middle = nn.Sequential(*(layer() for _ in range(3)))
            self.exit = nn.Linear(16 * 32 * 32, 10)

        def forward(self, x):
            return self.exit(self.middle(self.entry(x)).flatten(1))

    for strategy, factor in (("r", 4.0), ("dWr", 2.0)):  # far, and so near that steps round to it
        with pytest.raises(cs.UnscalableNetworkError, match=r"^The resolution .* --keep r, .*$"):
            cs.scale(Flat(), strategy=strategy, factor=factor, resolution=32, weights=False)
    kept = cs.scale(Flat(), strategy="dWr", factor=2.0, resolution=32, keep=["r"], weights=False)
    assert kept.resolution == 32
    assert kept.notes[0].startswith("Kept r: the exponents of dWr become depth 0.111, width 0.889")
    with pytest.raises(cs.UnscalableNetworkError, match=r"--keep r"):
        cs.scale("efficientformer_l1", strategy="r", factor=2.0, weights=False)


class Positions(nn.Module):
    """Tables of its own: over a map, over its rows and columns, and over tokens behind a class."""

    def __init__(self, side=64):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU())
        self.map = nn.Parameter(torch.randn(1, 16, side // 2, side // 2))
        self.rows = nn.ParameterList([torch.randn(16, side // 2, 1)])
        self.columns = nn.Embedding(side // 2, 16)  # looked up: on the meta device all fits
        self.down = nn.Conv2d(16, 32, 4, 4)
        self.start = nn.Parameter(torch.zeros(1, 1, 32))
        self.tokens = nn.Parameter(torch.randn(1, (side // 8) ** 2 + 1, 32))
        self.mixer = nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 32), nn.ReLU())
        self.head = nn.Linear(32, 10)

    def forward(self, x):
        x = self.stem(x) + self.map
        x = (
            self.down(x + self.rows[0] + self.columns(torch.arange(x.shape[3])).T[:, None])
            .flatten(2)
            .transpose(1, 2)
        )
        x = torch.cat((self.start.expand(len(x), -1, -1), x), 1) + self.tokens
        return self.head((x + self.mixer(x))[:, 0])


@pytest.mark.parametrize("factor", [4.0, 0.25])
def test_tables_of_a_module_follow_without_its_constructor(factor, tmp_path):
    net = Positions()
    scaled = cs.scale(net, strategy="r", factor=factor, resolution=64)
    own = Positions(scaled.resolution)
    shapes = {name: tensor.shape for name, tensor in own.state_dict().items()}
    assert {name: t.shape for name, t in scaled.module.state_dict().items()} == shapes
    assert torch.equal(scaled.module.stem[0].weight, net.stem[0].weight)
    side = scaled.resolution // 8
    wanted = timm.layers.resample_abs_pos_embed(net.tokens, [side, side], num_prefix_tokens=1)
    assert torch.allclose(scaled.module.tokens, wanted, atol=1e-5)
    assert cs.count(own, resolution=scaled.resolution).flops == scaled.achieved.flops
    loaded = cs.load(scaled.save(tmp_path / "moved"), base=net)
    images = torch.randn(1, 3, scaled.resolution, scaled.resolution)
    assert torch.equal(loaded.module.eval()(images), scaled.module.eval()(images))
    assert net.map.shape[2:] == (32, 32)


def test_tables_of_a_module_follow_beside_its_widths():
    scaled = cs.scale(Positions(), strategy="wr", factor=4.0, resolution=64)
    side = -(-scaled.resolution // 2)
    assert scaled.module.map.shape == (1, 24, side, side)
    assert scaled.module(torch.randn(2, 3, scaled.resolution, scaled.resolution)).isfinite().all()


def test_a_wide_step_says_so_where_the_base_is_the_nearest():
    scaled = cs.scale("halonet26t", strategy="dWr", factor=2.0, weights=False)
    assert scaled.resolution == 256
    assert any("256 px, the nearest on a step of 256 px" in note for note in scaled.notes)
    assert cs.scale("halonet26t", strategy="r", factor=4.0, weights=False).resolution == 512


def test_a_network_that_halves_its_maps_often_takes_a_step_of_as_many_pixels():
    class Halving(nn.Module):
        """Seven times down, and up again by twice the side: all maps must be even."""

        def __init__(self):
            super().__init__()
            self.down = nn.ModuleList(nn.Conv2d(3 if i == 0 else 8, 8, 3, 2, 1) for i in range(7))
            self.last = nn.Conv2d(8, 5, 1)

        def forward(self, x):
            maps = []
            for layer in self.down:
                x = layer(x).relu()
                maps.append(x)
            for other in reversed(maps[:-1]):
                x = functional.interpolate(x, scale_factor=2) + other
            return self.last(x)

    for factor, side in ((1.6, 768), (1.2, 640)):
        scaled = cs.scale(Halving(), strategy="r", factor=factor, resolution=640, weights=False)
        assert scaled.resolution == side
        assert any(f"{side} px, the nearest on a step of 128 px" in note for note in scaled.notes)


def test_code_that_calls_others_at_another_resolution_is_refused_by_its_module():
    """ConViT makes its relative positions anew where their number has changed."""
    with pytest.raises(UnscalableNetworkError, match=r"--freeze 'blocks\.0\.attn'"):
        cs.scale("convit_tiny", strategy="dWr", factor=2.0, weights=False)
    found = cs.scale("convit_tiny", strategy="w", factor=2.0, weights=False)
    assert found.ratio["flops"] == pytest.approx(2.0, abs=0.2)


class Bound(nn.Module):
    """A network for one size, for the reason that `how` has."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.entry = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU())
        self.mix, self.exit = nn.Linear(256, 256), nn.Linear(32, 10)
        self.table = nn.Parameter(torch.zeros(31 * 31, 4))
        self.register_buffer("index", torch.arange(256)[:, None] + torch.arange(256))

    def forward(self, x):
        return self.exit(self.how(self, self.entry(x)).mean((2, 3)))


def mixed(net, x):
    return net.mix(x.flatten(2)).view(x.shape)


def written(net, x):
    return x.view(x.shape[0], x.shape[1], 16, 16).flip(2)


def biased(net, x):
    y = x.flatten(2)
    scores = y.transpose(1, 2) @ y + net.table[net.index].mean(-1)
    return (y @ scores.softmax(-1)).view(x.shape)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        (mixed, r"What does not follow is mix\.weight \(256x256\), which linear reads in mix\."),
        (written, r"not follow are the sizes that view names in the network: 1, 32, 16, 16\."),
        (biased, r"is table \(961x4\), index \(256x256\), which add reads in the network\."),
    ],
)
def test_a_refusal_names_what_does_not_follow_the_resolution(how, reason):
    with pytest.raises(
        cs.UnscalableNetworkError,
        match=r"does not run at 45 px: .* Nor does it at 46, 44, 48 and 1 more px\. .*" + reason,
    ):
        cs.scale(Bound(how), strategy="r", factor=2, resolution=32)


class Waved(nn.Module):
    """Sines of the positions in a buffer, added to the map."""

    def __init__(self, side=8):
        super().__init__()
        self.entry = nn.Conv2d(3, 16, 4, 4)
        angles = torch.arange(side)[None] / side * torch.arange(1, 17)[:, None] / 4
        self.register_buffer("waves", (angles.sin()[:, :, None] + angles.cos()[:, None])[None])
        self.body, self.exit = nn.Conv2d(16, 16, 3, 1, 1), nn.Linear(16, 10)

    def forward(self, x):
        return self.exit(self.body(self.entry(x) + self.waves).relu().mean((2, 3)))


@pytest.mark.parametrize(("factor", "side"), [(4, 64), (0.25, 16)])
def test_tables_in_buffers_are_resampled_as_those_in_parameters(factor, side):
    base = Waved()
    scaled = cs.scale(base, strategy="r", factor=factor, resolution=32)
    assert scaled.resolution == side
    assert f"Position tables resampled to {side} px: waves." in scaled.notes
    expected = functional.interpolate(
        base.waves, size=(side // 4, side // 4), mode="bicubic", antialias=True
    )
    assert torch.allclose(scaled.module.waves, expected, atol=1e-6)
    assert "waves" in dict(scaled.module.named_buffers())
    scaled.module(torch.randn(2, 3, side, side)).sum().backward()
    assert scaled.achieved.flops == torch_flops(scaled.module, side)
