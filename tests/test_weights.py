"""Weights of scaled networks: kept, drawn, reproducible, complete; and folders that hold them."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

import convscale as cs
from convscale.scaling.building.weights import Redraw
from tests.networks import Contraption, Plain, Shared


def test_drawn_weights_keep_the_distribution_rescaled_by_fan_in():
    old = nn.Parameter(torch.empty(64, 32, 3, 3).uniform_(-0.1, 0.1))
    new = Redraw(0)("conv.weight", old, (128, 128, 3, 3))
    assert float(new.abs().max()) <= 0.1 / 2 + 1e-6  # fan-in four times, bound half
    assert float(new.std()) == pytest.approx(float(old.detach().std()) / 2, rel=0.02)
    assert float(new.mean()) == pytest.approx(0, abs=1e-3)


def test_complex_parameters_are_drawn_too():
    old = nn.Parameter(torch.rand(16, 16, 4, dtype=torch.complex64) - (0.5 + 0.5j))
    new = Redraw(0)("kernel", old, (64, 64, 4))
    assert new.dtype == torch.complex64
    assert float(new.abs().std()) == pytest.approx(float(old.detach().abs().std()) / 2, rel=0.1)
    pool = set(torch.view_as_real(old.detach() / 2).flatten().tolist())
    assert set(torch.view_as_real(new)[0, 0].flatten().tolist()) <= pool


def test_constants_stay_constant():
    new = Redraw(0)("norm.weight", nn.Parameter(torch.full((8,), 1e-6)), (12,))
    assert torch.equal(new, torch.full((12,), 1e-6))


def test_the_same_seed_gives_the_same_weights_and_another_one_others():
    def weights(seed):
        scaled = cs.scale("timm:resnet10t", strategy="dWr", factor=2.0, seed=seed)
        return scaled.module.state_dict()

    first, again, other = weights(3), weights(3), weights(4)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_scaling_draws_from_no_global_random_state():
    torch.manual_seed(7)
    state = torch.get_rng_state()
    cs.scale("timm:resnet10t", strategy="w", factor=2.0)
    assert torch.equal(state, torch.get_rng_state())


def test_tensors_that_keep_their_shape_keep_their_values():
    base = Contraption()
    base.hall[1].calm_a.running_mean.fill_(0.25)
    scaled = cs.scale(base, strategy="d", factor=2.0, resolution=64).module
    before, after = base.state_dict(), scaled.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert not torch.equal(scaled.hall[4].spread_b.weight, scaled.hall[2].spread_b.weight)


def test_trained_statistics_of_resized_norms_start_afresh():
    base = Contraption()
    for part in base.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(1, 2)
    scaled = cs.scale(base, strategy="w", factor=4.0, resolution=64).module
    norms = [part for part in scaled.modules() if isinstance(part, nn.BatchNorm2d)]
    assert all(torch.equal(n.running_mean, torch.zeros(n.num_features)) for n in norms)
    assert all(torch.equal(n.running_var, torch.ones(n.num_features)) for n in norms)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_mode_dtype_and_device_are_the_bases(dtype):
    base = Plain().to(dtype).eval()
    scaled = cs.scale(base, strategy="dWr", factor=4.0, resolution=32).module
    assert {parameter.dtype for parameter in scaled.parameters()} == {dtype}
    assert not scaled.training
    assert {p.device.type for p in scaled.parameters()} == {"cpu"}


def test_a_module_on_the_meta_device_is_scaled_there():
    scaled = cs.scale(Plain().to("meta"), strategy="w", factor=4.0, resolution=32)
    assert all(parameter.is_meta for parameter in scaled.module.parameters())
    with pytest.raises(cs.InputError, match="^The network is on the meta device and has no .*$"):
        scaled.save("never-written")


def test_frozen_parameters_stay_frozen():
    base = Plain()
    base.entry.weight.requires_grad_(False)
    scaled = cs.scale(base, strategy="w", factor=4.0, resolution=32).module
    assert not scaled.entry.weight.requires_grad
    assert scaled.exit.weight.requires_grad


def test_shared_tensors_stay_shared_and_buffers_follow():
    base = Shared()
    base.again = base.twice
    scaled = cs.scale(base, strategy="w", factor=4.0, resolution=16).module
    assert scaled.again.weight is scaled.twice.weight
    assert scaled.blur.shape == (64, 1, 3, 3)
    assert torch.equal(scaled.blur, torch.full((64, 1, 3, 3), 1 / 9))
    assert torch.equal(scaled.gain, torch.full((64, 1, 1), 0.5))


def test_no_uninitialised_memory_remains():
    """Every tensor of the scaled network lies within what its distribution can give."""
    scaled = cs.scale("timm:efficientnet_b0", strategy="dWr", factor=2.0)
    for name, tensor in scaled.module.state_dict().items():
        assert bool(tensor.isfinite().all()), name
        assert tensor.numel() == 0 or float(tensor.abs().max()) < 1e3, name


def test_the_networks_own_initialiser_is_used():
    class Own(Plain):
        def init_weights(self):
            for parameter in self.parameters():
                nn.init.constant_(parameter, 0.125)

    base = Own()
    scaled = cs.scale(base, strategy="w", factor=4.0, resolution=32).module
    assert scaled.body[0].mix.weight.unique().tolist() == [0.125]
    assert torch.equal(scaled.exit.bias, base.exit.bias)  # its shape stayed: so do its values


def test_an_initialiser_that_fails_is_named_and_the_drawn_weights_stay():
    class Own(Plain):
        def init_weights(self):
            self.body[0].mix.weight.fill_(float("nan"))
            raise RuntimeError("no")

    scaled = cs.scale(Own(), strategy="w", factor=4.0, resolution=32)
    assert scaled.notes[-1] == "The network's own initialiser failed (RuntimeError: no)."
    assert bool(scaled.module.body[0].mix.weight.isfinite().all())


@pytest.mark.parametrize("strategy", ["w", "d", "r", "dWr"])
def test_a_saved_network_comes_back_equal(tmp_path, strategy):
    scaled = cs.scale("timm:resnet10t", strategy=strategy, factor=2.0, num_classes=7)
    again = cs.load(scaled.save(tmp_path / "net"))
    before, after = scaled.module.state_dict(), again.module.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert again.as_document() == scaled.as_document()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(scaled.module.eval()(x), again.module.eval()(x))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net"]


def test_a_saved_network_whose_modules_ask_for_the_version_of_their_weights_comes_back(tmp_path):
    scaled = cs.scale("torchvision:mnasnet0_5", strategy="w", factor=2.0, weights=True)
    again = cs.load(scaled.save(tmp_path / "net"))
    before, after = scaled.module.state_dict(), again.module.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_saved_network_can_be_scaled_and_saved_again(tmp_path):
    first = cs.scale("timm:resnet18", strategy="w", factor=2.0).save(tmp_path / "first")
    second = cs.scale(str(first), strategy="d", factor=2.0)
    assert second.network == str(first)
    third = cs.load(second.save(tmp_path / "second"))
    assert third.achieved == second.achieved
    count = cs.count(str(tmp_path / "second"))
    assert (count.flops, count.params) == (second.achieved.flops, second.achieved.params)
    assert cs.count("resnet18@w:2@d:2").flops == second.achieved.flops


def test_a_network_from_a_module_needs_its_base_to_load(tmp_path):
    scaled = cs.scale(Contraption(), strategy="dWr", factor=2.0, resolution=64)
    folder = scaled.save(tmp_path / "net")
    with pytest.raises(cs.InputError, match="^.* was scaled from module:Contraption, .*base=.*$"):
        cs.load(folder)
    again = cs.load(folder, base=Contraption())
    assert torch.equal(again.module.doorway.weight, scaled.module.doorway.weight)
    with pytest.raises(cs.InputError, match="does not fit the base|has no tensor|cannot be"):
        cs.load(folder, base=Plain())


def test_a_folder_never_names_code_that_is_run(tmp_path):
    marker = tmp_path / "ran"
    source = tmp_path / "evil.py"
    source.write_text(f"open({str(marker)!r}, 'w')\ndef make(): pass\n")
    folder = cs.scale("timm:resnet10t", strategy="w", factor=0.5).save(tmp_path / "net")
    path = folder / "convscale.json"
    document = json.loads(path.read_text())
    document["origin"]["network"] = f"{source}:make"
    path.write_text(json.dumps(document))
    with pytest.raises(cs.InputError, match="^.* no code that a folder names is run.*$"):
        cs.load(folder)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "convscale.json").write_text("{"), "cannot be read"),
        (lambda f: (f / "convscale.json").write_text("[]"), "is not of schema version 1"),
        (lambda f: (f / "convscale.json").write_text('{"schema_version": 1}'), "does not describe"),
        (lambda f: (f / "convscale.json").unlink(), "holds no convscale.json"),
        (lambda f: (f / "model.safetensors").unlink(), "cannot be read"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\x80\x04N."), "cannot be read"),
    ],
)
def test_a_damaged_folder_is_refused_in_one_line(tmp_path, damage, message):
    folder = cs.scale("timm:resnet10t", strategy="w", factor=0.5).save(tmp_path / "net")
    damage(folder)
    with pytest.raises(cs.InputError, match=message):
        cs.load(folder)


def test_a_folder_that_exists_is_not_written_to(tmp_path):
    scaled = cs.scale("timm:resnet10t", strategy="w", factor=0.5)
    with pytest.raises(cs.InputError, match="^The folder .* exists. Write the name of a new one.$"):
        scaled.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


class Centred(nn.Module):
    """Subtract a mean of each channel that training gathers, `how` it is written."""

    def __init__(self, how):
        super().__init__()
        self.how, self.conv, self.exit = how, nn.Conv2d(3, 32, 3, 2, 1), nn.Linear(32, 10)
        self.register_buffer("mean", torch.zeros(32))
        self.register_buffer("seen", torch.zeros(1, 32, 1, 1, dtype=torch.long))
        self.register_buffer("fixed", torch.full((32,), 2.0))

    def forward(self, x):
        x = self.conv(x)
        if self.training:
            self.how(self, x.detach().mean((0, 2, 3)))
            self.seen += x.detach().isfinite().all(0).all(-1).all(-1).view(1, -1, 1, 1)
        return self.exit(((x - self.mean[:, None, None]) * self.fixed[:, None, None]).mean((2, 3)))


def in_place(net, mean):
    net.mean.mul_(0.9).add_(mean, alpha=0.1)


def through_data(net, mean):
    net.mean.data.copy_(0.9 * net.mean + 0.1 * mean)


def anew(net, mean):
    net.mean = 0.9 * net.mean + 0.1 * mean


@pytest.mark.parametrize("how", [in_place, through_data, anew])
def test_statistics_in_buffers_of_ones_own_follow_the_width(how, tmp_path):
    base = Centred(how)
    for _ in range(3):
        base(torch.randn(4, 3, 16, 16) + 1)
    assert len(set(base.mean.tolist())) > 1
    scaled = cs.scale(base, strategy="w", factor=4, resolution=16)
    assert torch.allclose(scaled.module.mean, base.mean.mean().expand(64))
    assert torch.equal(scaled.module.seen, torch.full((1, 64, 1, 1), 3))
    assert torch.equal(scaled.module.fixed, torch.full((64,), 2.0))
    scaled.module(torch.randn(4, 3, 16, 16)).sum().backward()
    assert len(set(scaled.module.mean.tolist())) > 1
    scaled.save(tmp_path / "wide")
    loaded = cs.load(tmp_path / "wide", base=base).module
    assert torch.equal(loaded.mean, scaled.module.mean)


def test_values_of_a_buffer_that_training_does_not_change_are_not_made_up():
    base = Centred(in_place)
    base.fixed.copy_(torch.linspace(0, 1, 32))
    with pytest.raises(
        cs.UnscalableNetworkError, match=r"'fixed' differs along an axis .* training does not"
    ):
        cs.scale(base, strategy="w", factor=4, resolution=16)


@pytest.mark.parametrize(
    ("dims", "layout"), [(2, torch.channels_last), (3, torch.channels_last_3d)]
)
@pytest.mark.parametrize("strategy", ["w", "d"])
def test_channels_stay_last_where_they_were(dims, layout, strategy):
    kind = (None, None, nn.Conv2d, nn.Conv3d)[dims]
    pairs = [(kind(a, 16, 3, padding=1), nn.ReLU()) for a in (3, 16, 16)]
    base = nn.Sequential(*(layer for pair in pairs for layer in pair))
    for last in (True, False):
        laid = base.to(memory_format=layout if last else torch.contiguous_format)
        scaled = cs.scale(laid, strategy=strategy, factor=4, resolution=16).module
        kernels = [own for own in scaled.parameters() if own.ndim > 1]
        assert all(own.is_contiguous(memory_format=layout) == last for own in kernels)


class AppliedInitialiser(nn.Module):
    """A network whose initialiser takes one module after the other."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 16, 3), nn.Linear(16, 10)
        self.apply(self.initialize_weights)

    @staticmethod
    def initialize_weights(module):
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 0.25)

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))


def test_an_initialiser_that_takes_a_module_is_applied_to_all():
    base = AppliedInitialiser()
    scaled = cs.scale(base, strategy="w", factor=4, resolution=16)
    assert not [note for note in scaled.notes if "initialiser" in note]
    assert scaled.module.body.weight.shape[0] == 32
    assert bool((scaled.module.body.weight == 0.25).all())
    torch.testing.assert_close(scaled.module.head.bias, base.head.bias)
