"""Depth of convolutions that a forward pass calls by name, with activations as functions."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional

import convscale as cs
from convscale.errors import InputError, UnscalableNetworkError
from convscale.network.channels.activations import bend_of
from convscale.network.modules.copies import full_copy
from convscale.scaling.plans.plan import Plan
from tests import checks

WIDTH = 32


class Named(nn.Module):
    """Three convolutions of one width behind a stem; `how` bends what each puts out."""

    def __init__(self, how, norm=nn.Identity):
        super().__init__()
        self.how = how
        self.stem = nn.Conv2d(3, WIDTH, 3, padding=1)
        self.first, self.norm = nn.Conv2d(WIDTH, WIDTH, 3, padding=1), norm(WIDTH)
        self.second, self.other = nn.Conv2d(WIDTH, WIDTH, 3, padding=1), norm(WIDTH)
        self.act = nn.Hardtanh(-1.0, 4.0)
        self.fc = nn.Linear(WIDTH, 10)

    def forward(self, x):
        x = self.how(self, self.stem(x))
        x = self.how(self, self.norm(self.first(x)))
        x = self.how(self, self.other(self.second(x)))
        return self.fc(x.mean((2, 3)))


class Squeeze(nn.Module):
    """A gate on vectors around one convolution, and a head of one channel."""

    def __init__(self):
        super().__init__()
        self.entry = nn.Conv2d(3, WIDTH, 3, padding=1)
        self.down, self.up = nn.Conv2d(WIDTH, 8, 1), nn.Conv2d(8, WIDTH, 1)
        self.head = nn.Conv2d(WIDTH, 1, 1)

    def forward(self, x):
        x = self.entry(x).relu()
        gate = self.up(self.down(x.mean((2, 3), keepdim=True)).relu()).sigmoid()
        return self.head(x * gate).sigmoid()


WAYS = {
    "function": (lambda net, x: functional.relu(x), nn.ReLU()),
    "in place": (lambda net, x: functional.relu(x, inplace=True), nn.ReLU()),
    "method": (lambda net, x: x.tanh(), nn.Tanh()),
    "slope": (lambda net, x: functional.leaky_relu(x, 0.2), nn.LeakyReLU(0.2)),
    "approximate": (lambda net, x: functional.gelu(x, approximate="tanh"), nn.GELU("tanh")),
    "one module": (lambda net, x: net.act(x), nn.Hardtanh(-1.0, 4.0)),
    "behind a pool": (
        lambda net, x: functional.elu(functional.max_pool2d(x, 3, 1, 1), 0.5),
        nn.ELU(0.5),
    ),
}


def deeper(base, **asked):
    return cs.scale(base, strategy="d", factor=2, resolution=16, **asked)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("norm", [nn.Identity, nn.BatchNorm2d])
def test_a_row_gets_rows_behind_it_each_bent_as_the_base_bends_it(way, norm):
    how, bend = WAYS[way]
    base = Named(how, norm)
    scaled = deeper(base)
    assert scaled.achieved.flops == checks.torch_flops(scaled.module, 16)
    added = [path for path, part in scaled.module.named_modules() if path.endswith("_act")]
    assert {str(scaled.module.get_submodule(path)) for path in added} == {str(bend)}
    layer = 16 * 16 * WIDTH * WIDTH * 9
    assert scaled.achieved.flops == checks.torch_flops(base, 16) + len(added) * layer
    assert len(added) == 3  # twice the stem and the two convolutions behind it
    checks.check_state_dict_keys(base, scaled)
    checks.check_runs_forward_and_backward(scaled.module, 16)
    assert checks.check_added_blocks_matter(scaled, 16) == len(scaled.plan.depth[0].added)


def test_added_rows_compute_what_is_written_out():
    scaled = deeper(Named(WAYS["slope"][0]), seed=3).module.eval()
    x = torch.randn(2, 3, 16, 16)
    bent = functional.leaky_relu(scaled.stem(x), 0.2)
    bent = functional.leaky_relu(scaled.norm(scaled.first(bent)), 0.2)
    hidden = functional.conv2d(bent, scaled.second.weight, scaled.second.bias, padding=1)
    rows = [part for part in scaled.other.modules() if isinstance(part, nn.Conv2d)]
    for row in rows:
        hidden = row(functional.leaky_relu(hidden, 0.2))
    expected = scaled.fc(functional.leaky_relu(hidden, 0.2).mean((2, 3)))
    assert len(rows) == 3
    torch.testing.assert_close(scaled(x), expected)


def test_fewer_rows_run_and_a_deeper_network_is_copied_pickled_and_planned_again():
    base = Named(WAYS["function"][0], nn.BatchNorm2d)
    less = cs.scale(base, strategy="d", factor=0.5, resolution=16)
    assert less.achieved.flops == checks.torch_flops(less.module, 16) < checks.torch_flops(base, 16)
    scaled = deeper(base)
    x = torch.randn(2, 3, 16, 16)
    module = scaled.module.eval()
    pickled = pickle.loads(pickle.dumps(scaled.module.second))
    torch.testing.assert_close(pickled(scaled.module.first(module.stem(x))), shown(module, x))
    for other in (copy.deepcopy(module), full_copy(module)):
        assert torch.equal(other(x), module(x))
    document = scaled.plan.as_document()
    assert Plan.from_document(document) == scaled.plan
    document["depth"][0]["bend"]["function"] = "no such function"
    with pytest.raises(InputError, match="no plan that can be read"):
        Plan.from_document(document)


def shown(module, x):
    return module.second(module.first(module.stem(x)))


def test_gates_and_the_layer_that_puts_out_are_no_rows():
    scaled = deeper(Squeeze())
    added = [name for edit in scaled.plan.depth for name in edit.added]
    assert added
    assert all(name.startswith("entry") for name in added)
    checks.check_added_blocks_matter(scaled, 16)


def test_what_bends_by_weights_of_its_own_is_not_repeated():
    """One module with weights for all layers (PReLU) is no function: nothing is added."""
    base = Named(lambda net, x: net.act(x))
    base.act = nn.PReLU()
    with pytest.raises(UnscalableNetworkError, match="depth"):
        deeper(base)


def test_settings_that_have_no_name_are_not_guessed():
    x = torch.zeros(1)
    assert bend_of("softplus", (x, 2.0), {}) is None
    assert str(bend_of("softplus", (x,), {"beta": 2.0}).module()) == str(nn.Softplus(2.0))


class Bent(nn.Module):
    """Rows by name; one activation for all of them, which may write into what it bends."""

    def __init__(self, bend):
        super().__init__()
        self.bend = bend
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.one, self.two, self.three = (nn.Conv2d(16, 16, 3, padding=1) for _ in range(3))
        self.fc = nn.Linear(16, 4)

    def forward(self, x):
        x = self.bend(self.stem(x))
        for layer in (self.one, self.two, self.three):
            x = self.bend(layer(x))
        return self.fc(x.mean((2, 3)))


def test_a_network_with_fewer_rows_trains_where_the_activation_writes_in_place():
    scaled = cs.scale(Bent(nn.ReLU(inplace=True)), strategy="d", factor=0.5, resolution=16)
    left = [own for own in scaled.module.modules() if isinstance(own, nn.Conv2d)]
    assert len(left) < 4
    checks.check_runs_forward_and_backward(scaled.module, 16)


def test_rows_stay_where_the_code_would_bend_what_is_left_again():
    base = Bent(functional.gelu)
    scaled = cs.scale(base, strategy="d", factor=0.5, resolution=16)
    assert any("bend what is left several times" in note for note in scaled.notes)
    x = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(scaled.module.eval()(x), base.eval()(x))
    deeper = cs.scale(base, strategy="d", factor=2, resolution=16).module
    back = cs.scale(deeper, strategy="d", factor=0.25, resolution=16).module
    assert set(back.state_dict()) == set(base.state_dict())
