"""A run: what it costs beside a forward pass, and what it says where the meta device fails."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest
import torch
from torch import nn

import convscale as cs
from benchmarks.counting import NETWORKS, in_fresh_process, rows
from convscale.errors import InputError


@pytest.mark.parametrize("name", NETWORKS)
def test_a_count_takes_at_most_1_2_of_a_forward_pass(name):
    found = {row.counter: row for row in rows(name, repeats=5, slow=False)}
    assert found["convscale"].ratio <= 1.2  # the copy of the module included
    assert found["convscale, the run alone"].ratio <= 1.2
    assert found["convscale"].flops == found["torch FlopCounterMode"].flops


def test_resnet50_is_counted_from_its_name_within_a_second():
    found = in_fresh_process("timm:resnet50")
    assert found.params == 25_557_032
    assert found.cpu_s < 1


def test_a_billion_parameters_are_counted_within_100_megabytes():
    found = in_fresh_process("timm:resnet50@w:45")
    assert found.params > 1e9
    assert found.peak_bytes < 100e6


class Looks(nn.Module):
    """A convolution, and what looks at the values that it puts out."""

    def __init__(self, look) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.gate = Gate(look)
        self.register_buffer("runs", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.runs += 1
        return self.gate(self.stem(x))


class Gate(nn.Module):
    def __init__(self, look) -> None:
        super().__init__()
        self.look = look

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.look(x)


NUMBER = "takes a number out of a tensor, as .item() and an if on its values do"
SEARCH = "asks which elements of a tensor are not zero, as nonzero() and an index by a mask do"
LOOKS = {
    "if": (lambda x: x if x.sum() > 0 else -x, NUMBER),
    "item": (lambda x: x * x.max().item(), NUMBER),
    "float": (lambda x: x * float(x.max()), NUMBER),
    "nonzero": (lambda x: x.flatten()[x.flatten().nonzero()], SEARCH),
    "mask": (lambda x: x[x > 0], SEARCH),
    "where": (lambda x: torch.where(x > 0)[0], SEARCH),
    "numpy": (lambda x: torch.from_numpy(x.numpy()), "turns a tensor into an array of NumPy"),
    "tolist": (
        lambda x: x * sum(x.flatten().tolist()),
        "reads the values of a tensor, as .tolist() and .cpu() do",
    ),
    "unique": (lambda x: x.unique(), "asks which values a tensor has, as unique() does"),
}


@pytest.mark.parametrize("way", LOOKS)
def test_what_depends_on_values_is_counted_by_a_real_pass_and_named(way):
    look, does = LOOKS[way]
    found = cs.count(Looks(look), resolution=8)
    assert (found.flops, found.acts) == (27 * 8 * 36, 8 * 36)
    (note,) = found.notes
    said = "Counted by a real forward pass: the meta device fails, since gate, a Gate, "
    assert note.startswith(f"{said}{does} (test_execution.py:")
    assert note.endswith(" Other values may execute other operators.")


def test_what_depends_on_values_cannot_be_traced_for_scaling():
    message = f"module:Looks cannot run on the meta device: gate, a Gate, {NUMBER} ("
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        cs.scale(Looks(LOOKS["if"][0]), strategy="w", factor=2, resolution=8)


def test_an_operator_without_a_form_for_the_meta_device_is_named():
    @torch.library.custom_op("convscale_tests::bare", mutates_args=())
    def bare(x: torch.Tensor) -> torch.Tensor:
        return x + 1

    found = cs.count(Looks(bare), resolution=8)
    (note,) = found.notes
    assert "gate, a Gate, calls convscale_tests::bare, which has no form that computes" in note
    assert [(e.operator, e.path) for e in found.uncounted] == [("convscale_tests.bare", "gate")]


def test_what_neither_device_runs_is_refused_with_the_module():
    def asks(x):
        return x.to("cuda:7")

    message = r"^module:Looks cannot run at 8 px: .*\(in gate, a Gate\)\..*$"
    with pytest.raises(InputError, match=message):
        cs.count(Looks(asks), resolution=8)


def numbers_to_come() -> tuple:
    state = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    return (state[0].tolist(), *state[1:])


@pytest.mark.parametrize("way", ["on the meta device", "by a real pass"])
def test_a_count_leaves_module_hooks_and_random_numbers_alone(way):
    seen = []
    noise = nn.functional.dropout
    module = Looks(
        (lambda x: noise(x, training=True))
        if way == "on the meta device"
        else (lambda x: noise(x, training=True) * float(x.sum()))
    )
    module.gate.register_forward_hook(lambda *_: seen.append(1))
    module.gate.eval()
    before, numbers = {**module.state_dict()}, numbers_to_come()
    copies = {name: tensor.clone() for name, tensor in before.items()}
    found = cs.count(module, resolution=8)
    assert bool(found.notes) == (way == "by a real pass")
    assert numbers_to_come() == numbers
    assert not seen
    assert (module.training, module.gate.training) == (True, False)
    assert all(torch.equal(copies[name], tensor) for name, tensor in module.state_dict().items())
    assert all(
        tensor is before[name] or tensor.data_ptr() == before[name].data_ptr()
        for name, tensor in module.state_dict().items()
    )
    assert len(module.gate._forward_hooks) == 1


@pytest.mark.parametrize("name", ["timm:resnet18", "torchvision:maskrcnn_resnet50_fpn"])
def test_a_count_by_name_leaves_random_numbers_alone(name):
    numbers = numbers_to_come()
    cs.count(name, resolution=64)
    assert numbers_to_come() == numbers
