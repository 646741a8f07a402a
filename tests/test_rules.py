"""Rules that count operators of one's own, from Python and from the file of a network."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

import convscale as cs
from convscale.complexity.tally import Counting
from convscale.errors import InputError
from convscale.network.running.execution import run


class Runs(nn.Module):
    """A network of one function, that makes its own tensors on the device it runs on."""

    def __init__(self, function, device):
        super().__init__()
        self.function, self.device = function, device

    def forward(self, _image):
        def zeros(*shape):
            return torch.zeros(*shape, device=self.device)

        return self.function(zeros)


def counted(function, device: str):
    """What one call counts: flops, acts, the operators without a rule, those left out."""
    counter = Counting()
    run(Runs(function, device), (torch.zeros(1, device=device),), counter)
    flops, acts = sum(counter.flops.values()), sum(counter.acts.values())
    return SimpleNamespace(
        flops=flops, acts=acts, uncounted=counter.uncounted, excluded=counter.excluded
    )


class Square(nn.Module):
    """A Fourier transform behind a convolution."""

    def __init__(self):
        super().__init__()
        self.entry = nn.Conv2d(3, 8, 3)

    def forward(self, x):
        return torch.fft.rfft2(self.entry(x)).abs()


def test_a_rule_of_the_callers_counts_an_operator_and_is_nobody_elses():
    def fourier(arguments, output):
        return arguments["self"].numel() * 5, output.numel()

    without = cs.count(Square(), resolution=10)
    ruled = cs.count(Square(), resolution=10, rules={"aten::_fft_r2c": fourier})
    assert [entry.operator for entry in without.uncounted] == ["aten._fft_r2c"]
    assert ruled.uncounted == ()
    assert ruled.flops - without.flops == 8 * 8 * 8 * 5
    assert ruled.acts - without.acts == 8 * 8 * 5  # half of the frequencies, and one
    assert cs.count(Square(), resolution=10) == without


def test_a_rule_that_no_operator_met_is_named():
    rules = {"aten::conv2d": lambda arguments, output: (1, 1)}
    found = cs.count(Square(), resolution=10, rules=rules)
    assert found.notes[0].startswith("The rule of aten::conv2d counted nothing: no operator of")
    assert found.flops == cs.count(Square(), resolution=10).flops


def test_a_rule_counts_an_operator_in_place_too():
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True))
    rules = {"aten::relu": lambda arguments, output: (output.numel(), 0)}
    plain, found = (cs.count(module, resolution=10, rules=given) for given in (None, rules))
    assert found.flops - plain.flops == 8 * 8 * 8
    assert found.notes == ()


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"scale": len}, "'scale' names no operator. Write namespace::name, as in mylib::scale."),
        ({"mylib::scale": 3}, "The rule of mylib::scale is a int. Give a function of .*"),
        ([], "The rules are a list. Give a mapping from operators to rules, .*"),
        (
            {"aten::_fft_r2c": lambda arguments, output: 3.5},
            "The rule of aten::_fft_r2c returned 3.5. It must return flops and acts, .*",
        ),
        (
            {"aten::_fft_r2c": lambda arguments, output: (True, 1)},
            r"The rule of aten::_fft_r2c returned \(True, 1\). It must return flops and acts, .*",
        ),
        (
            {"aten::_fft_r2c": lambda arguments, output: arguments["x"]},
            "The rule of aten::_fft_r2c failed: KeyError: 'x'.",
        ),
    ],
)
def test_a_wrong_rule_is_answered_in_one_line(rules, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        cs.count(Square(), resolution=10, rules=rules)


FILE = """
import torch
from torch import nn

@torch.library.custom_op("convscale_rules{tag}::twice", mutates_args=())
def twice(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return 2 * x * weight.sum()

@twice.register_fake
def _(x, weight):
    return torch.empty_like(x)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.entry = nn.Conv2d(3, 8, 3)
        self.exit = nn.Conv2d(8, 8, 3)

    def forward(self, x):
        return self.exit(twice(self.entry(x), self.entry.weight))

def make():
    return Net()

def rule(arguments, output):
    return arguments["x"].numel(), output.numel()
"""


def test_a_file_brings_the_rules_of_its_operators(tmp_path):
    bare, ruled = tmp_path / "bare.py", tmp_path / "ruled.py"
    bare.write_text(FILE.format(tag=1))
    line = 'CONVSCALE_RULES = {"convscale_rules2::twice": rule}\n'
    ruled.write_text(FILE.format(tag=2) + line)
    convolutions = 27 * 8 * 36 + 72 * 8 * 16
    count = cs.count(f"{bare}:make", resolution=8)
    assert count.flops == convolutions
    assert [entry.operator for entry in count.uncounted] == ["convscale_rules1.twice"]
    count = cs.count(f"{ruled}:make", resolution=8)
    assert count.flops == convolutions + 8 * 36
    assert count.uncounted == ()


def test_a_network_with_an_operator_of_its_own_scales_and_says_what_is_not_counted(tmp_path):
    file = tmp_path / "net.py"
    file.write_text(FILE.format(tag=3))
    scaled = cs.scale(f"{file}:make", strategy="r", factor=4, resolution=18, weights=False)
    assert scaled.resolution == 36
    assert any("convscale_rules3.twice" in note for note in scaled.notes)

    def rule(arguments, output):
        return arguments["x"].numel(), output.numel()

    ruled = cs.scale(
        f"{file}:make",
        strategy="r",
        factor=4,
        resolution=18,
        weights=False,
        rules={"convscale_rules3::twice": rule},
    )
    assert ruled.base.flops == 27 * 8 * 16**2 + 72 * 8 * 14**2 + 8 * 16**2
    assert ruled.achieved.flops == 27 * 8 * 34**2 + 72 * 8 * 32**2 + 8 * 34**2
