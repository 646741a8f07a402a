"""The law's exponents, and those that plain networks show."""

import json
from math import isclose, log

import pytest
import torch
from torch import nn

import convscale as cs
from convscale.cli.main import run
from convscale.errors import InputError
from tests.zoo.branches import Dense

# depth, width, resolution, params and acts as powers of s: arXiv 2103.06877, section 3.
LAW = {
    "d": (1, 0, 0, 1, 1),
    "w": (0, 1 / 2, 0, 1, 1 / 2),
    "r": (0, 0, 1 / 2, 0, 1),
    "dw": (1 / 2, 1 / 4, 0, 1, 3 / 4),
    "dr": (1 / 2, 0, 1 / 4, 1 / 2, 1),
    "wr": (0, 1 / 4, 1 / 4, 1 / 2, 3 / 4),
    "dwr": (1 / 3, 1 / 6, 1 / 6, 2 / 3, 5 / 6),
    "dWr": (0.1, 0.4, 0.05, 0.9, 0.6),
}


class Block(nn.Module):
    """One convolution."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(512, 512, 3, padding=1, bias=False)

    def forward(self, x):
        return torch.relu(self.conv(x))


class Plain(nn.Module):
    """Many equal 3x3 convolutions of a large width: the law's network but for its two ends.

    The stem puts out as much as one block and does not deepen: with 8 blocks it alone takes
    0.044 off the exponent of acts under d, with 48 it takes 0.007.
    """

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 512, 1, bias=False)
        self.blocks = nn.Sequential(*(Block() for _ in range(48)))
        self.head = nn.Linear(512, 10)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


def test_the_table_of_laws_holds_the_papers_exponents(capsys):
    assert run(["laws", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["laws"]
    assert [row["strategy"] for row in rows] == list(LAW)
    for row in rows:
        shown = (*row["exponents"].values(), row["growth"]["params"], row["growth"]["acts"])
        expected = LAW[row["strategy"]]
        assert all(isclose(a, b, abs_tol=1e-9) for a, b in zip(shown, expected, strict=True)), row
        assert row["growth"]["flops"] == 1


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.8, 1.0])
def test_fast_scaling_grows_with_alpha_as_the_paper_says(alpha, capsys):
    assert run(["laws", "--strategies", f"dWr@{alpha}", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["laws"]
    assert isclose(row["growth"]["params"], (1 + alpha) / 2)
    assert isclose(row["growth"]["acts"], 1 - alpha / 2)


def test_a_plain_network_shows_the_exponents_of_the_law():
    found = cs.laws(Plain(), resolution=256, factors=[4, 16])
    assert [law.strategy for law in found.laws] == list(LAW)
    for law in found.laws:
        *_, params, acts = LAW[law.strategy]
        assert abs(law.flops.fitted - 1) < 0.02, law
        assert abs(law.params.fitted - params) < 0.02, law
        assert abs(law.acts.fitted - acts) < 0.02, law


def test_the_causes_of_a_deviation_sum_to_it():
    found = cs.laws("timm:resnet18", strategies=["dWr"], factors=[2, 4], resolution=64)
    (law,) = found.laws
    for exponent in (law.flops, law.params, law.acts):
        causes = sum(part for _, part in exponent.causes)
        assert isclose(causes, exponent.fitted - exponent.theory, abs_tol=1e-9)


class Residual(nn.Module):
    """Two 3x3 convolutions and a shortcut, projected where widths differ."""

    def __init__(self, ins, outs):
        super().__init__()
        self.one = nn.Conv2d(ins, outs, 3, padding=1, bias=False)
        self.two = nn.Conv2d(outs, outs, 3, padding=1, bias=False)
        self.project = nn.Conv2d(ins, outs, 1, bias=False) if ins != outs else nn.Identity()

    def forward(self, x):
        return self.project(x) + self.two(self.one(x))


class Widening(nn.Module):
    """One stage of four blocks of width 64, the first of which starts from 16."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 1, bias=False)
        self.blocks = nn.Sequential(Residual(16, 64), *(Residual(64, 64) for _ in range(3)))
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


def test_a_first_block_unlike_the_others_is_named_as_the_cause_that_it_is():
    """Under d: 4s blocks, 4s - 1 of them repeated, whose cost by hand is, a position,

    acts 128, flops 9·64² · 2 = 73728; of the first block acts 192 and flops
    9·64·(16 + 64) + 16·64 = 47104. With four repeated blocks alone the slope is 1.
    """
    steps = [2, 4, 8, 16]
    (law,) = cs.laws(Widening(), strategies=["d"], factors=steps, resolution=32).laws

    def logs(first, each):
        return [log((first + (4 * s - 1) * each) / (first + 3 * each)) for s in steps]

    x, y = logs(47104, 73728), logs(192, 128)
    apart = sum(a * b for a, b in zip(x, y, strict=True)) / sum(a * a for a in x)
    causes = dict(law.acts.causes)
    assert isclose(causes["first blocks"], apart - 1, abs_tol=1e-9)
    assert causes["rounding"] == pytest.approx(0, abs=1e-9)
    assert causes["rest"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", ["efficientnet_b0", "resnet18", "torchvision:vgg11"])
def test_depth_leaves_no_difference_without_a_name(name):
    (law,) = cs.laws(name, strategies=["d"], factors=[2, 4], resolution=64).laws
    for exponent in (law.flops, law.params, law.acts):
        assert dict(exponent.causes)["rest"] == pytest.approx(0, abs=1e-9)


def test_dense_blocks_are_named_as_a_cause():
    (law,) = cs.laws(Dense(), strategies=["d"], factors=[2], resolution=32).laws
    assert law.flops.causes == (("dense blocks", pytest.approx(law.flops.deviation)),)


class Attention(nn.Module):
    """Queries, keys and values of one head, by `fused` or by plain products."""

    def __init__(self, fused):
        super().__init__()
        self.fused = fused
        self.qkv = nn.Conv2d(64, 192, 1, bias=False)
        self.out = nn.Conv2d(64, 64, 1, bias=False)

    def forward(self, x):
        q, k, v = self.qkv(x).flatten(2).transpose(1, 2).chunk(3, dim=2)
        if self.fused:
            mixed = nn.functional.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])
            mixed = mixed[:, 0]
        else:
            mixed = (q @ k.transpose(1, 2)).softmax(dim=2) @ v
        return x + self.out(mixed.transpose(1, 2).reshape(x.shape))


class Attentive(nn.Module):
    """A stem and two blocks of attention."""

    def __init__(self, fused):
        super().__init__()
        self.stem = nn.Conv2d(3, 64, 1, bias=False)
        self.blocks = nn.Sequential(*(Attention(fused) for _ in range(2)))
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


@pytest.mark.parametrize("fused", [True, False])
def test_products_without_weights_are_named_attention_and_not_depthwise(fused):
    """Without stem and head, with width 64·f and 64 positions, a block puts out by hand

    acts 64·(4·64·f), and by attention 64·64 + 64·64·f; flops 64·4·64²·f², and 2·64·64·64·f.
    """
    steps = [4, 16]
    (law,) = cs.laws(Attentive(fused), strategies=["w"], factors=steps, resolution=8).laws
    causes = dict(law.acts.causes)
    assert "depthwise" not in causes or causes["depthwise"] == pytest.approx(0, abs=1e-12)

    def slope(products):
        def costs(f):
            acts = 4 * 64**2 * f + products * (64**2 + 64**2 * f)
            return 4 * 64**3 * f**2 + products * 2 * 64**3 * f, acts

        (flops, acts), grown = costs(1), [costs(s**0.5) for s in steps]
        x = [log(one / flops) for one, _ in grown]
        y = [log(one / acts) for _, one in grown]
        return sum(a * b for a, b in zip(x, y, strict=True)) / sum(a * a for a in x)

    assert causes["attention"] == pytest.approx(slope(1) - slope(0), abs=1e-9)


def test_the_command_shows_law_fit_and_difference_for_a_network(capsys):
    assert run(["laws", "resnet18", "--strategies", "w", "--resolution", "64"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split()[:3] == ["w", "acts", "0.5"] for line in lines), lines


def test_an_entry_of_a_table_follows_no_law():
    with pytest.raises(InputError, match=r"is one step and follows no law\. Use a formula, such"):
        cs.laws("resnet18", strategies=["efficientnet-table@b1"])


@pytest.mark.parametrize(
    ("option", "value"), [("--resolution", "128"), ("--num-classes", "10"), ("--in-chans", "1")]
)
def test_the_law_itself_takes_no_option_of_a_network(option, value, capsys):
    assert run(["laws", option, value]) == 2
    assert capsys.readouterr().err.startswith(f"convscale: {option} came without a network;")
