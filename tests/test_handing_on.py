"""Added blocks stand in the module that runs them, and a network that has some is scaled again."""

import copy

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

import convscale as cs
from convscale.network.tracing.chains import followers_of
from tests import checks
from tests.test_rows import WAYS, Named

NETWORKS = ["mobilenet_v2", "vgg11_bn", "alexnet"]


def scaled(name, strategy="d", factor=2.0):
    return cs.scale(f"torchvision:{name}", strategy=strategy, factor=factor).module.eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_part_cut_out_of_a_network_has_all_that_it_runs(name):
    net = scaled(name)
    own = copy.deepcopy(net.features)
    x = torch.randn(1, 3, 96, 96)
    wanted = net.features(x)
    assert len(own.state_dict()) > len(torchvision.models.get_model(name).features.state_dict())
    assert own.double()(x.double()).dtype == torch.double  # nothing that runs is left behind
    torch.testing.assert_close(own.float()(x), wanted)
    with torch.no_grad():
        for weight in own.parameters():
            weight.zero_()
    own.load_state_dict(net.features.state_dict())
    torch.testing.assert_close(own(x), wanted)
    extractor = create_feature_extractor(net, {"features": "out"})
    torch.testing.assert_close(extractor(x)["out"], wanted)
    count = [sum(p.numel() for p in one.parameters()) for one in (extractor.features, net.features)]
    assert count[0] == count[1]


@pytest.mark.parametrize(
    ("strategy", "first", "second"), [("d", 2, 2), ("d", 2, 0.5), ("d", 1.5, 1.5), ("dw", 4, 0.25)]
)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_with_added_blocks_is_scaled_again(name, strategy, first, second):
    net = scaled(name, strategy, first)
    base = torchvision.models.get_model(name)
    again = cs.scale(net, strategy=strategy, factor=second, resolution=224)
    assert again.achieved.flops == checks.torch_flops(again.module, 224)
    assert again.achieved.params == sum(p.numel() for p in again.module.parameters())
    if name != "alexnet":  # of whose flops few are in blocks
        whole = again.achieved.flops / checks.torch_flops(base, 224)
        assert whole / (first * second) == pytest.approx(1, rel=0.2)
    checks.check_runs_forward_and_backward(again.module, 64)


def test_rows_behind_rows_are_rows_of_one_stage():
    base = Named(WAYS["slope"][0], nn.BatchNorm2d)
    once = cs.scale(base, strategy="d", factor=2, resolution=16).module
    twice = cs.scale(once, strategy="d", factor=2, resolution=16)
    assert [name for name, _ in once.other.named_children()] == [f"second_{n}" for n in (1, 2, 3)]
    assert list(twice.module.other._modules)[:3] == list(once.other._modules)
    assert all(
        not followers_of(part)
        for part in twice.module.other.modules()
        if part is not twice.module.other
    )
    back = cs.scale(once, strategy="d", factor=0.5, resolution=16).module.eval()
    assert set(back.state_dict()) == set(base.state_dict())
    x = torch.randn(2, 3, 16, 16)
    back.load_state_dict(base.state_dict())
    torch.testing.assert_close(back(x), base.eval()(x))  # nothing bends twice


class Tapped(nn.Module):
    """Layers in a list that the forward pass counts: it keeps what some of them put out."""

    def __init__(self, kind, *, normed):
        super().__init__()
        layers, before = [], 3
        for width in (16, 16, None, 32, 32, None, 64, 64):
            if width is None:
                layers.append(nn.MaxPool2d(2))
                continue
            layers.append(nn.Conv2d(before, width, 3, padding=1))
            layers += [nn.BatchNorm2d(width)] * normed + [nn.ReLU()]
            before = width
        self.layers = nn.ModuleList(layers) if kind is nn.ModuleList else kind(*layers)
        self.taps = [n for n, own in enumerate(layers) if isinstance(own, nn.MaxPool2d)]
        self.taps.append(len(layers) - 1)
        self.exit = nn.Linear(112, 3)

    def forward(self, x):
        kept = []
        for number, layer in enumerate(self.layers):
            x = layer(x)
            if number in self.taps:
                kept.append(x.mean((2, 3)))
        return self.exit(torch.cat(kept, 1))


@pytest.mark.parametrize("kind", [nn.Sequential, nn.ModuleList])
@pytest.mark.parametrize("normed", [True, False])
def test_layers_in_a_list_keep_their_numbers_and_are_bent_between(kind, normed):
    base = Tapped(kind, normed=normed)
    scaled = cs.scale(base, strategy="d", factor=2, resolution=32)
    layers = scaled.module.layers
    assert [type(own).__name__ for own in layers] == [type(own).__name__ for own in base.layers]
    added = [own for own in layers.modules() if isinstance(own, nn.Sequential)]
    rows = [own for own in added if own is not layers]
    kinds = [nn.Conv2d, *([nn.BatchNorm2d] if normed else []), nn.ReLU]
    assert rows
    assert all([type(own) for own in row] == kinds for row in rows)
    assert scaled.achieved.flops == checks.torch_flops(scaled.module, 32)
    assert scaled.module(torch.randn(2, 3, 32, 32)).shape == (2, 3)


class Keyed(nn.Module):
    """A block that is told a number by name, and may run whatever convolutions are found in it."""

    def __init__(self, *, searches):
        super().__init__()
        self.first, self.second = (nn.Conv2d(16, 16, 3, padding=1) for _ in range(2))
        self.searches = searches

    def forward(self, x, *, scale):
        y = x
        for part in self.modules() if self.searches else (self.first, self.second):
            if isinstance(part, nn.Conv2d):
                y = part(y.relu())
        return x + scale * y


class ThreeKeyed(nn.Module):
    def __init__(self, *, searches):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.one, self.two, self.three = (Keyed(searches=searches) for _ in range(3))
        self.exit = nn.Linear(16, 4)

    def forward(self, x):
        x = self.one(self.stem(x), scale=0.5)
        x = self.three(self.two(x, scale=0.5), scale=0.5)
        return self.exit(x.mean((2, 3)))


@pytest.mark.parametrize("factor", [2, 0.5])
def test_blocks_that_are_told_something_by_name_are_added_and_taken_away(factor):
    base = ThreeKeyed(searches=False)
    scaled = cs.scale(base, strategy="d", factor=factor, resolution=16)
    assert scaled.achieved.flops == checks.torch_flops(scaled.module, 16)
    assert scaled.ratio["flops"] == pytest.approx(factor, rel=0.4)
    checks.check_runs_forward_and_backward(scaled.module, 16)


def test_blocks_that_would_run_what_is_added_themselves_are_refused():
    with pytest.raises(cs.UnscalableNetworkError, match=r"runs no block that is added \(at one\)"):
        cs.scale(ThreeKeyed(searches=True), strategy="d", factor=2, resolution=16)
