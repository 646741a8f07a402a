"""Networks of one and three spatial dimensions: found, counted, scaled, shown and saved."""

from __future__ import annotations

import json
from math import prod

import pytest
import torch
import torchvision.models as zoo
from torch import nn
from torchvision.models.video import resnet as video

import convscale as cs
from convscale.cli.main import run
from convscale.network import resolve_base
from convscale.network.running.probing import with_input
from convscale.network.sources.inputs import input_shape
from convscale.network.sources.network import from_module
from convscale.quantities import sides
from convscale.runtime import Subject, measure_together
from convscale.strategy import named_strategies, parse_strategy
from tests.checks import torch_flops
from tests.zoo import ZOO, checks, lines, volumes

CLIPS = ("r3d_18", "mc3_18", "r2plus1d_18")
LAW_1 = "The network has one spatial dimension: the law is d·w²·r = s."
LAW_3 = "The network has three spatial dimensions: the law is d·w²·r³ = s."


class Strip(nn.Module):
    """A row of k-wide convolutions of one width and stride 1, in any number of dimensions."""

    def __init__(self, dims: int, width: int = 32, depth: int = 4):
        super().__init__()
        conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[dims]
        self.entry = conv(3, width, 1)
        self.body = nn.Sequential(
            *[nn.Sequential(conv(width, width, 3, padding=1), nn.ReLU()) for _ in range(depth)]
        )
        self.exit = nn.Linear(width, 10)

    def forward(self, x):
        return self.exit(self.body(self.entry(x)).flatten(2).mean(-1))


def strip_flops(dims: int, width: int, depth: int, positions: int) -> int:
    body = depth * 3**dims * width**2 * positions
    return 3 * width * positions + body + 10 * width


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_strategy_multiplies_flops_by_the_factor_in_any_number_of_dimensions(dims):
    for strategy in named_strategies():
        factors = strategy.in_dims(dims).factors(8.0)
        assert factors.depth * factors.width**2 * factors.resolution**dims == pytest.approx(8)
        assert strategy.in_dims(dims).growth == strategy.growth


def test_an_entry_of_a_table_keeps_its_factors_in_any_number_of_dimensions():
    entry = parse_strategy("efficientnet-table@b3").in_dims(3)
    own = entry.factors(entry.scale)
    assert entry.scale == own.depth * own.width**2 * own.resolution**3
    assert (own.depth, own.width, own.resolution) == (1.4, 1.2, 300 / 224)


@pytest.mark.parametrize(("dims", "side"), [(1, 64), (2, 8), (3, 4)])
def test_a_plain_network_is_scaled_as_its_closed_form_says(dims, side):
    base, positions = Strip(dims), side**dims
    assert cs.count(base, resolution=side).flops == strip_flops(dims, 32, 4, positions)
    wide = cs.scale(base, strategy="w", factor=4, resolution=side, weights=False)
    assert wide.achieved.flops == strip_flops(dims, 64, 4, positions)
    deep = cs.scale(base, strategy="d", factor=2, resolution=side, weights=False)
    assert deep.achieved.flops == strip_flops(dims, 32, 8, positions)
    fine = cs.scale(base, strategy="r", factor=2**dims, resolution=side, weights=False)
    assert fine.resolution == 2 * side
    assert fine.achieved.flops == strip_flops(dims, 32, 4, positions * 2**dims)


@pytest.mark.parametrize("strategy", ["w", "wr", "dwr", "dWr"])
@pytest.mark.parametrize(
    ("make", "side"), [(lambda: lines.Heart(4), 1024), (lambda: "r3d_18", None)]
)
def test_a_budget_of_flops_is_met(make, side, strategy):
    budget = 2.5 * cs.count(make(), resolution=side).flops
    scaled = cs.scale(make(), strategy=strategy, flops=budget, resolution=side, weights=False)
    assert scaled.achieved.flops == pytest.approx(budget, rel=0.03)


@pytest.mark.parametrize(("dims", "side"), [(1, 4096), (3, 32), (3, (16, 112, 112))])
def test_a_budget_is_met_by_resolution_within_a_step_of_the_longest_side(dims, side):
    positions = prod(sides(side, dims))
    budget = 4 * strip_flops(dims, 32, 4, positions)
    found = cs.scale(Strip(dims), strategy="r", flops=budget, resolution=side, weights=False)
    step = dims / (max(sides(side, dims)) * 4 ** (1 / dims))
    assert found.achieved.flops == pytest.approx(budget, rel=step)


@pytest.mark.parametrize(("dims", "side"), [(1, 4096), (3, 32)])
def test_a_plain_network_shows_the_law(dims, side):
    found = cs.laws(Strip(dims, width=256, depth=32), resolution=side)
    assert found.notes == ({1: LAW_1, 3: LAW_3}[dims],)
    for law in found.laws:
        assert law.flops.fitted == pytest.approx(1, abs=0.02), law.strategy
        assert law.params.fitted == pytest.approx(law.params.theory, abs=0.02), law.strategy
        assert law.acts.fitted == pytest.approx(law.acts.theory, abs=0.02), law.strategy


@pytest.mark.parametrize("name", [name for name in ZOO if not isinstance(ZOO[name].side, int)])
def test_a_count_of_signals_and_volumes_is_half_of_what_pytorch_counts(name):
    kind, module = ZOO[name], ZOO[name].make(1, 1).to("meta")
    assert cs.count(module, resolution=kind.side).flops == torch_flops(
        module, kind.side, kind.chans
    )


# Clips of torchvision


@pytest.mark.parametrize(("name", "size"), [(n, (16, 112, 112)) for n in CLIPS])
def test_a_video_network_has_the_clips_of_its_published_weights(name, size):
    count = cs.count(name)
    weights = next(iter(zoo.get_model_weights(name)))
    assert count.resolution == size
    assert count.params == weights.meta["num_params"]
    assert round(count.flops / 1e9, 3) == weights.meta["_ops"]


def test_frames_may_be_fewer_than_the_published_ones():
    assert cs.count("s3d").resolution == (128, 224, 224)
    count = cs.count("s3d", resolution=(16, 224, 224))
    assert round(count.flops / 1e9, 3) == zoo.video.S3D_Weights.KINETICS400_V1.meta["_ops"]


@pytest.mark.parametrize("name", [*CLIPS, "s3d"])
def test_four_times_the_flops_by_width_double_every_width_of_a_video_network(name):
    scaled = cs.scale(name, strategy="w", factor=4, weights=False)
    base = zoo.get_model(name, weights=None).to("meta")
    before, after = (dict(net.named_parameters()) for net in (base, scaled.module))
    for key, old in before.items():
        kept = {3, 400} if "fc" in key or "classifier" in key or old.shape[1:2] == (3,) else ()
        first = [n if n in kept else 2 * n for n in old.shape[:2]]
        assert list(after[key].shape) == [*first, *old.shape[2:]], key
    x = torch.zeros(1, 3, 16, 224, 224, device="meta")
    assert scaled.module.eval()(x).shape == (1, 400)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("r3d_18", lambda: [video.Conv3DSimple] * 4),
        ("mc3_18", lambda: [video.Conv3DSimple, *[video.Conv3DNoTemporal] * 3]),
    ],
)
def test_twice_the_depth_is_the_video_network_made_with_twice_the_blocks(name, make):
    scaled = cs.scale(name, strategy="d", factor=2, weights=False)
    by_hand = video.VideoResNet(video.BasicBlock, make(), [4, 4, 4, 4], video.BasicStem)
    assert checks.shapes(scaled.module) == checks.shapes(by_hand)


def test_all_sides_of_a_clip_are_scaled_equally():
    scaled = cs.scale("r3d_18", strategy="r", factor=8, resolution=(8, 32, 48), weights=False)
    assert scaled.resolution == (16, 64, 96)
    base = zoo.get_model("r3d_18", weights=None).to("meta")
    assert scaled.achieved.flops == torch_flops(base, (16, 64, 96))
    assert scaled.notes[0] == LAW_3


def test_stages_of_clips_have_three_sides_and_the_stride_of_those_that_shrink():
    rows = cs.stages("mc3_18").rows
    assert [row.resolution for row in rows][:2] == [(16, 56, 56), (16, 28, 28)]
    assert [row.stride for row in rows] == [1, 2, 2, 2]
    assert [row.reduction for row in rows] == [2, 4, 8, 16]


# The number of dimensions


@pytest.mark.parametrize(
    ("make", "size", "dims", "chans"),
    [
        (lines.Heart, 256, 1, 12),
        (lines.Points, 64, 1, 3),
        (lines.Bare, 512, 1, 0),
        (lines.Spectrum, 512, 1, 0),
        (volumes.UNet, 16, 3, 1),
        (volumes.Frames, (8, 16, 16), 3, 3),
        (volumes.Frames, 8, 3, 3),
        (volumes.Spectrogram, 32, 2, 1),
        (volumes.Spectrogram, (16, 32), 2, 1),
        (volumes.Channels, 32, 2, 3),
        (volumes.Channels, (32, 48), 2, 3),
        (volumes.Depths, 32, 2, 3),
        (volumes.Wavelets, 512, 1, 1),
    ],
)
def test_dimensions_and_channels_are_found(make, size, dims, chans):
    module = make()
    seen: list[torch.Size] = []
    hook = module.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape))
    assert with_input(from_module(module), size).dims == dims
    measure_together([_subject(module, size)], rounds=1)
    hook.remove()
    assert seen[-1] == input_shape(chans, sides(size, dims), batch=1)


def _subject(module: nn.Module, size) -> Subject:
    found = with_input(from_module(module), size)
    return Subject(found.name, module, size, found.in_chans, found.dims or 2)


def test_names_of_libraries_tell_their_dimensions():
    assert resolve_base("timm:resnet18").dims == 2
    assert resolve_base("torchvision:resnet18").dims == 2
    assert resolve_base("torchvision:r3d_18").dims == 3


@pytest.mark.parametrize(
    ("network", "size", "message"),
    [
        (lines.Heart, (64, 64), r"The resolution 64x64 has 2 sides; module:Heart takes 1\."),
        (volumes.UNet, (16, 16), r"The resolution 16x16 has 2 sides; module:UNet takes 3\. Write"),
        (volumes.Channels, (4, 8, 8), r"The resolution 4x8x8 has 3 sides; module:Channels takes 2"),
        (lambda: "resnet18", (64,), r"The resolution 64 has 1 side; timm:resnet18 takes 2\."),
        (lambda: "RegNetY-400MF", (8, 64, 64), r"The resolution 8x64x64 has 3 sides; RegNetY-400"),
        (lines.Heart, None, r"Nothing tells .* module:Heart\. Give one: --resolution 16000, or"),
        (volumes.UNet, None, r"Nothing tells .* --resolution 16x112x112, or resolution=\(16, 112"),
    ],
)
def test_another_number_of_sides_is_refused(network, size, message):
    with pytest.raises(cs.InputError, match=rf"^{message}"):
        cs.scale(network(), strategy="w", factor=2, resolution=size)


@pytest.mark.parametrize("side", [20, (8, 20)])
def test_a_network_of_linear_layers_is_refused(side):
    dense = nn.Sequential(nn.Dropout(), nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10))
    for call in (cs.count, cs.stages):
        with pytest.raises(
            cs.InputError,
            match=r"^module:Sequential takes vectors: its first layer, 1, is linear, and it has no "
            r"convolution\. Give a convolutional network\.$",
        ):
            call(dense, resolution=side)


def test_linear_layers_that_take_an_image_flattened_are_no_vectors():
    dense = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 64), nn.Linear(64, 10))
    assert cs.count(dense, resolution=8).flops == 192 * 64 + 64 * 10
    with pytest.raises(cs.InputError, match="It has no convolution; give a convolutional network"):
        cs.count(dense, resolution=9)


@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU])
def test_recurrent_layers_are_as_wide_as_the_rest_unless_they_are_frozen(cell):
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Sequential(nn.Conv1d(1, 16, 9, 4, 4), nn.ReLU(), nn.Conv1d(16, 32, 5))
            self.cell, self.exit = cell(32, 24, batch_first=True), nn.Linear(24, 10)

        def forward(self, x):
            return self.exit(self.cell(self.conv(x).transpose(1, 2))[0][:, -1])

    base = Recurrent()
    for freeze, width in (((), 48), (("cell",), 24)):
        scaled = cs.scale(base, strategy="w", factor=4, resolution=256, freeze=freeze)
        module = scaled.module
        assert (module.cell.input_size, module.cell.hidden_size) == (
            64 if not freeze else 32,
            width,
        )
        assert module.cell.weight_ih_l0.shape[1] == module.cell.input_size
        assert module.cell.weight_hh_l0.shape[1] == module.exit.in_features == width
        assert module.cell._flat_weights[0] is module.cell.weight_ih_l0
        assert bool(module(torch.randn(2, 1, 256)).isfinite().all())
        assert freeze or not any(note.startswith("Widths kept of") for note in scaled.notes)


# The forms of a resolution


def test_a_scaled_resolution_has_the_form_that_was_given():
    for given, found in ((64, 128), ((64,), (128,))):
        scaled = cs.scale(Strip(1), strategy="r", factor=2, resolution=given, weights=False)
        assert (scaled.resolution, scaled.base_resolution) == (found, given)
        assert scaled.notes == (LAW_1,)
    for given, found in ((4, 8), ((4, 4, 4), (8, 8, 8))):
        scaled = cs.scale(Strip(3), strategy="r", factor=8, resolution=given, weights=False)
        assert (scaled.resolution, scaled.base.resolution) == (found, given)


@pytest.mark.parametrize(("dims", "side"), [(1, 64), (3, 6), (3, (4, 6, 8))])
def test_a_saved_network_keeps_its_dimensions(dims, side, tmp_path):
    base = Strip(dims)
    scaled = cs.scale(base, strategy="dWr", factor=3, resolution=side)
    loaded = cs.load(scaled.save(tmp_path / "net"), base=base)
    assert (loaded.dims, loaded.strategy) == (dims, scaled.strategy)
    assert loaded.resolution == scaled.resolution
    assert loaded.achieved == scaled.achieved


def test_a_saved_clip_network_is_counted_and_measured_by_its_folder(tmp_path):
    scaled = cs.scale("mc3_18", strategy="w", factor=0.02, resolution=16)
    folder = str(scaled.save(tmp_path / "net"))
    assert cs.count(folder).flops == scaled.achieved.flops
    assert cs.measure(folder, repeats=1).resolution == 16


def test_networks_of_three_dimensions_are_scaled_on_the_spot():
    found = cs.count("mc3_18@r:8", resolution=(8, 16, 16))
    assert found.resolution == (16, 32, 32)
    assert found.flops == torch_flops(zoo.get_model("mc3_18").to("meta"), (16, 32, 32))


def test_compare_takes_signals():
    table = cs.compare(
        [lines.Heart()], strategies=["w", "r"], factors=[2], resolution=128, measure=True, rounds=1
    )
    assert [row.resolution for row in table.rows] == [128, 128, 256]
    assert all(row.latency is not None for row in table.rows)


@pytest.mark.parametrize(
    ("line", "resolution"),
    [
        ("count mc3_18 --json", [16, 112, 112]),
        ("count mc3_18 --resolution 8x32x48 --json", [8, 32, 48]),
        ("scale mc3_18 --strategy w --factor 2 --resolution 16 --json", 16),
        ("stages r3d_18 --json", [16, 112, 112]),
    ],
)
def test_json_tells_all_sides(line, resolution, capsys):
    assert run(line.split()) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["resolution"] == resolution
    assert document["network"].startswith("torchvision:")


def test_tables_show_all_sides(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    assert run("diff r3d_18 r3d_18@r:2".split()) == 0
    out = capsys.readouterr().out
    assert "torchvision:r3d_18 at 16x112x112 px" in out
    assert "16x56x56 → 20x71x71" in out


def test_weights_in_channels_last_memory_of_volumes_get_such_an_input():
    net = nn.Sequential(nn.Conv3d(3, 8, 3), nn.ReLU(), nn.Conv3d(8, 8, 3))
    net = net.to(memory_format=torch.channels_last_3d)
    seen = []
    net.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    found = measure_together([Subject("net", net, (6, 8, 8), dims=3)], rounds=1)[0]
    assert found.conditions.memory_format == "channels_last"
    assert seen[0].is_contiguous(memory_format=torch.channels_last_3d)


# Networks built for one size

FIXED = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, dims, sides):
        super().__init__()
        conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
        self.patches = conv(1, 32, 4, 4)
        positions = 1
        for side in sides:
            positions *= side // 4
        self.table = nn.Parameter(torch.randn(1, 32, positions))
        self.exit = nn.Linear(32, 10)

    def forward(self, x):
        return self.exit((self.patches(x).flatten(2) + self.table).relu().mean(-1))

def signal(input_size=64):
    return Net(1, [input_size])

def volume(img_size=(8, 16, 16)):
    return Net(3, img_size)
"""


@pytest.mark.parametrize(
    ("factory", "size", "factor", "found", "positions"),
    [("signal", 64, 2, 128, 32), ("volume", (8, 16, 16), 8, (16, 32, 32), 256)],
)
def test_networks_built_for_one_size_are_built_again(
    factory, size, factor, found, positions, tmp_path
):
    (tmp_path / "nets.py").write_text(FIXED)
    network = f"{tmp_path}/nets.py:{factory}"
    scaled = cs.scale(network, strategy="r", factor=factor, resolution=size)
    assert scaled.resolution == found
    assert scaled.module.table.shape == (1, 32, positions)
    assert scaled.achieved.flops == 4 ** len(sides(found, 1)) * 32 * positions + 320
    assert bool(scaled.module(torch.randn(1, 1, *sides(found, 1))).isfinite().all())


class Skipping(nn.Module):
    """A network whose last layers are registered before those that read its input."""

    def __init__(self) -> None:
        super().__init__()
        self.beside = nn.ModuleList(nn.Conv1d(width, 32, 1) for width in (16, 24))
        self.first, self.second = nn.Conv1d(8, 16, 3, padding=1), nn.Conv1d(16, 24, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x).relu()
        y = self.second(x).relu()
        return (self.beside[0](x) + self.beside[1](y)).mean(2)


def test_channels_are_those_with_which_a_network_runs():
    scaled = cs.scale(Skipping(), strategy="w", factor=2, resolution=(64,))
    assert scaled.in_chans == 8
    assert scaled.module.first.in_channels == 8
    assert scaled.module(torch.randn(2, 8, 64)).shape == (2, 32)
