"""Widths that a network's code fixes: kept and named where that can be told, else refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

import convscale as cs
from tests.zoo.parts import conv, head


class Mixed(nn.Module):
    """A part that writes its width of 64 out, in one way or another."""

    def __init__(self, how):
        super().__init__()
        self.query, self.how = nn.Conv2d(64, 64, 1), how

    def forward(self, x):
        return x + self.how(self.query(x))


def viewed(x):
    return x.view(x.shape[0], 4, 16, *x.shape[2:]).flip(2).reshape(x.shape)


def split(x):
    return torch.cat([part.flip(2) for part in torch.split(x, 16, 1)][:4], 1)


def sliced(x):
    gated = x[:, :32] * x[:, 32:].sigmoid()
    return torch.cat([gated, gated], 1)


def narrowed(x):
    return torch.cat([x.narrow(1, 0, 32).sigmoid(), x.narrow(1, start=32, length=32)], 1)


def padded(x):
    return functional.pad(x[:, :32], (0, 0, 0, 0, 16, 16))


def weighted(x):
    return x * torch.linspace(0, 1, 64, device=x.device).view(1, 64, 1, 1)


def repeated(x):
    return x + torch.cat((x.mean(1, keepdim=True),) * 64, 1)


def checked(x):
    if x.shape[1] != 64:
        raise ValueError("64 channels, please")
    return x


def network(how):
    return nn.Sequential(
        conv(3, 32), conv(32, 64, 3, 2), Mixed(how), conv(64, 96, 3, 2), conv(96, 96), head(96)
    )


@pytest.mark.parametrize(
    ("how", "call"),
    [
        (viewed, "view"),
        (split, "split"),
        (sliced, "a slice"),
        (narrowed, "narrow"),
        (padded, "pad"),
    ],
)
def test_a_width_that_the_code_writes_out_stays_and_is_named(how, call):
    scaled = cs.scale(network(how), strategy="w", factor=4, resolution=32)
    note = next(note for note in scaled.notes if note.startswith("Widths kept of"))
    assert "the code writes their sizes out" in note
    assert f"{call} in 2" in note
    assert "2.query" in note
    assert scaled.module[4][0].weight.shape[:2] == (192, 192)
    assert scaled.module(torch.randn(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize(
    ("how", "call"), [(weighted, "mul"), (repeated, "add"), (checked, "a size")]
)
def test_a_width_that_a_call_fails_with_otherwise_stays_and_is_named(how, call):
    scaled = cs.scale(network(how), strategy="dw", factor=4, resolution=32)
    expected = f"Widths kept of 1.0, 2.query: what reads them does not follow ({call} in 2)."
    assert expected in scaled.notes
    assert scaled.module[2].query.weight.shape == (64, 64, 1, 1)
    assert scaled.module[-2][0].weight.shape[:2] == (136, 136)
    assert scaled.module(torch.randn(2, 3, 32, 32)).shape == (2, 10)


class Sealed(Mixed):
    """A part that refuses weights of another width."""

    def forward(self, x):
        if self.query.weight.shape[0] != 64:
            raise ValueError("64 channels, please")
        return super().forward(x)


def test_a_refusal_names_the_module_to_freeze_and_freezing_it_helps():
    base = network(weighted)
    base[2] = Sealed(torch.relu)
    with pytest.raises(
        cs.UnscalableNetworkError, match=r"\(in 2, a Sealed\)\. .*--freeze '2'\), or use a strategy"
    ):
        cs.scale(base, strategy="w", factor=4, resolution=32)
    scaled = cs.scale(base, strategy="w", factor=4, resolution=32, freeze=("2",))
    assert scaled.module[2].query.weight.shape == (64, 64, 1, 1)
    assert scaled.module[4][0].weight.shape[:2] == (192, 192)


def test_a_forward_pass_that_reads_values_is_refused_with_the_reason():
    class Reading(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.exit = conv(3, 32), head(32)

        def forward(self, x):
            x = self.conv(x)
            return self.exit(x if x.mean().item() > 0 else -x)

    reason = r"\(test_refusals\.py:\d+\)\. .* must follow from shapes, not from values of tensors"
    with pytest.raises(cs.UnscalableNetworkError, match=reason):
        cs.scale(Reading(), strategy="w", factor=2, resolution=32)


def test_products_of_a_width_with_itself_follow_it():
    class Bilinear(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.exit = nn.Sequential(conv(3, 64), conv(64, 16)), nn.Linear(256, 10)

        def forward(self, x):
            x = self.body(x).flatten(2)
            return self.exit((x @ x.transpose(1, 2)).flatten(1))

    scaled = cs.scale(Bilinear(), strategy="w", factor=4, resolution=32, weights=False)
    assert scaled.module.body[0][0].out_channels == 128
    assert scaled.module.body[1][0].out_channels == 32
    assert scaled.module.exit.in_features == 32 * 32


class Rewriting(nn.Module):
    """Half of its flops lie in a width that the code writes out, none in layers of another kind."""

    def __init__(self):
        super().__init__()
        self.entry, self.wide = conv(3, 64), conv(64, 256, 3, 2)
        self.held, self.exit = conv(256, 256), head(256)

    def forward(self, x):
        x = self.held(self.wide(self.entry(x)))
        return self.exit(x.view(x.shape[0], 2, 128, *x.shape[2:]).flip(1).reshape(x.shape))


def test_widths_that_the_code_writes_out_are_the_cause_of_a_miss():
    [note] = [
        one
        for one in cs.scale(Rewriting(), strategy="w", factor=2, resolution=32).notes
        if one.startswith("Flops grow")
    ]
    assert "widths that are kept do not grow" in note
    assert "depthwise" not in note


@pytest.mark.parametrize(("factor", "said"), [(1e-9, "out of reach"), (0.2, None)])
def test_a_factor_below_the_smallest_network_is_said_to_be_out_of_reach(factor, said):
    base = nn.Sequential(*[conv(3 if i == 0 else 64, 64) for i in range(5)], head(64))
    scaled = cs.scale(base, strategy="w", factor=factor, resolution=32)
    if said is None:
        assert not any("out of reach" in note for note in scaled.notes)
        return
    missed = scaled.achieved.flops / (factor * scaled.base.flops)
    [note] = [one for one in scaled.notes if one.startswith("Flops grow")]
    assert f"which is {said} ({missed:.3g} times what was asked for)" in note
    assert "widths are at their least, a multiple each" in note
    with pytest.raises(cs.BudgetError, match="times the flops of its base, not 1e-09 times"):
        cs.scale(base, strategy="w", factor=factor, resolution=32, strict=True)


def test_a_factor_that_is_nearly_met_is_no_error_under_strict():
    base = nn.Sequential(*[conv(3 if i == 0 else 64, 64) for i in range(5)], head(64))
    scaled = cs.scale(base, strategy="w", factor=4, resolution=32, strict=True)
    assert 3.6 <= scaled.ratio["flops"] <= 4.4


class Matched(nn.Module):
    """Its wide layer stays, as what it puts out is multiplied by a table of the network's own."""

    def __init__(self):
        super().__init__()
        self.entry, self.wide = nn.Conv2d(3, 32, 9), nn.Conv2d(32, 64, 9, 2)
        self.table = nn.Parameter(torch.randn(10, 16, 8))

    def forward(self, x):
        x = self.wide(self.entry(x))
        x = x.view(x.shape[0], 8, 8, -1).permute(0, 1, 3, 2).reshape(x.shape[0], -1, 8)
        return torch.einsum("bid,ced->bice", x, self.table).sum(1).norm(dim=-1)


def test_layers_that_stay_are_named_where_flops_miss_a_factor():
    [note] = [
        one
        for one in cs.scale(Matched(), strategy="w", factor=2, resolution=28).notes
        if one.startswith("Flops grow")
    ]
    assert "not its square (widths that stay, depthwise, stem, classifier)" in note


def test_a_factor_that_a_network_of_another_size_meets_is_not_out_of_reach():
    halved = cs.scale(Matched(), strategy="r", factor=0.5, resolution=28)
    assert halved.ratio["flops"] < 0.25
    [note] = [one for one in halved.notes if one.startswith("Flops grow")]
    assert "which is missed by far" in note


class Compared(nn.Module):
    """A convolution that runs on 64 channels only."""

    def __init__(self):
        super().__init__()
        self.entry, self.more = nn.Conv2d(3, 64, 3, 2, 1), nn.Conv2d(64, 64, 1)
        self.last, self.exit = nn.Conv2d(64, 64, 1), nn.Linear(64, 10)

    def forward(self, x):
        x = self.entry(x)
        if x.shape[1] == 64:
            x = x + self.more(x)
        return self.exit(self.last(x).mean((2, 3)))


def test_a_layer_that_the_scaled_network_leaves_out_is_named_with_what_is_counted():
    """Of 88 channels the maps of 16 x 16 are counted without `more`, and were planned with it."""
    ran, more, width = 256 * 27 * 88 + 256 * 88**2 + 880, 256 * 88**2, 88 * 256
    figures = (
        f"has {ran:,} flops and {2 * width + 10:,} acts, "
        f"not {ran + more:,} and {3 * width + 10:,} as planned: more does not run any "
        "more, as where the code compares the width with a number. Keep the widths there "
        "(--freeze 'more'), or use a strategy without w."
    )
    with pytest.raises(cs.UnscalableNetworkError) as refused:
        cs.scale(Compared(), strategy="w", factor=2, resolution=32, weights=False)
    assert figures in str(refused.value)
    kept = cs.scale(Compared(), strategy="w", factor=2, resolution=32, freeze=["more"])
    assert kept.module.more.weight.shape == (64, 64, 1, 1)
    assert kept.module.last.weight.shape == (88, 64, 1, 1)


class Encoded(nn.Module):
    """Nothing bends, and a classifier sees all positions: neither d nor r can follow."""

    def __init__(self):
        super().__init__()
        self.entry, self.exit = nn.Conv2d(3, 16, 4, 4), nn.Linear(16 * 64, 10)

    def forward(self, x):
        return self.exit(self.entry(x).flatten(1))


@pytest.mark.parametrize("strategy", ["d", "w", "r", "dWr", "d1_w8_g8_r1"])
def test_by_factor_one_every_network_is_itself(strategy):
    base = Encoded()
    same = cs.scale(base, strategy=strategy, factor=1, resolution=32)
    before, after = base.state_dict(), same.module.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert same.notes == ()
    with pytest.raises(cs.UnscalableNetworkError, match="scales depth"):
        cs.scale(base, strategy="d", factor=2, resolution=32)


def test_a_detector_is_refused_with_the_part_that_scales_and_takes_it_back():
    from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_fpn as detector

    base = detector(weights=None, weights_backbone=None).eval()
    before = r"what is before it by itself, such as its backbone\."
    with pytest.raises(cs.UnscalableNetworkError, match=before):
        cs.scale(base, strategy="w", factor=2, resolution=64)
    base.backbone = cs.scale(base.backbone, strategy="dWr", factor=2, resolution=64).module
    with torch.no_grad():
        found = base([torch.rand(3, 64, 64)])
    assert found[0].keys() == {"boxes", "labels", "scores"}


class Clip(nn.Module):
    """Frames of a clip, each an image."""

    def __init__(self):
        super().__init__()
        self.body, self.exit = nn.Sequential(conv(3, 32), conv(32, 32)), head(32)

    def forward(self, x):
        b, t, c, h, w = x.shape
        return self.exit(self.body(x.view(b * t, c, h, w))).view(b, t, -1).mean(1)


def test_a_network_that_takes_no_image_is_told_how_to_give_what_it_takes():
    with pytest.raises(cs.InputError, match=r"if that is no image, by --input-size or exampl"):
        cs.scale(Clip(), strategy="w", factor=2, resolution=32)
    given = torch.zeros(1, 4, 3, 32, 32)
    scaled = cs.scale(Clip(), strategy="w", factor=2, example_inputs=given)
    assert scaled.module.body[0][0].out_channels > 32


@pytest.mark.parametrize("option", ["keep", "freeze"])
def test_names_that_are_no_text_are_refused_and_none_is_none(option):
    net = nn.Sequential(conv(3, 32), conv(32, 32), head(32))
    with pytest.raises(cs.InputError, match=r"^0 is no name or pattern\. Write text"):
        cs.scale(net, strategy="w", factor=2, resolution=32, **{option: [0]})
    scaled = cs.scale(net, strategy="w", factor=2, resolution=32, **{option: None})
    assert scaled.module[0][0].out_channels > 32
