"""The conventions: published figures, fvcore itself, and what each adds by hand."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import convscale as cs
from convscale.cli.count import count as count_command
from convscale.complexity.conventions import CONVENTIONS
from convscale.errors import InputError
from convscale.network import resolve_base
from convscale.network.sources.inputs import example_inputs
from convscale.report.conventions import conventions_table
from convscale.report.layout import plain_lines

# ResNet-50 at 224 px, as published.
RESNET50 = {
    "default": (4_089_184_256, 11_114_984),
    "pycls": (4_089_185_256, 11_315_688),
    "fvcore": (4_111_512_576, 11_114_984),
    "torch": (8_178_368_512, 11_114_984),
}


@pytest.mark.parametrize("name", ["timm:resnet50", "torchvision:resnet50", "ResNet-50"])
@pytest.mark.parametrize("convention", RESNET50)
def test_resnet50_has_its_published_figures(name, convention):
    count = cs.count(name, convention=convention)
    assert (count.flops, count.acts) == RESNET50[convention]
    assert count.params == 25_557_032
    assert count.flops == sum(layer.flops for layer in count.layers)
    assert count.convention == convention


def test_every_convention_at_once_is_each_of_them_alone():
    every = cs.count_conventions("timm:efficientnet_b0")
    assert list(every) == list(CONVENTIONS) == list(RESNET50)
    for name, count in every.items():
        assert count == cs.count("timm:efficientnet_b0", convention=name)


def test_edges_add_up_to_the_difference_from_the_default():
    every = cs.count_conventions("timm:convnext_atto")
    for name in ("pycls", "fvcore"):
        edges = every[name].edges
        added = (sum(edge.flops for edge in edges), sum(edge.acts for edge in edges))
        base = every["default"]
        assert added == (every[name].flops - base.flops, every[name].acts - base.acts)
        assert {edge.what for edge in edges} <= {edge.what for edge in CONVENTIONS[name].edges}


FVCORE = [
    "timm:resnet18",
    "timm:efficientnet_b0",
    "timm:convnext_atto",
    "timm:densenet121",
    "timm:hrnet_w18_small",
    "timm:mobilevit_xxs",
    "timm:coatnet_nano_cc_224",
    "timm:ghostnet_100",
    "timm:dla34",
    "timm:nf_resnet26",
    "timm:efficientnet_b0_gn",
    "torchvision:mobilenet_v3_small",
    "torchvision:shufflenet_v2_x1_0",
    "torchvision:squeezenet1_1",
    "torchvision:fcn_resnet50",
]


def by_fvcore(module: nn.Module, *inputs: torch.Tensor) -> tuple[int, int]:
    nn_of = pytest.importorskip("fvcore.nn", reason="fvcore is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        counters = [
            make(module.eval(), inputs)
            .unsupported_ops_warnings(False)
            .uncalled_modules_warnings(False)
            for make in (nn_of.FlopCountAnalysis, nn_of.ActivationCountAnalysis)
        ]
        flops, acts = (int(counter.total()) for counter in counters)
    return flops, acts


@pytest.mark.parametrize("name", FVCORE)
def test_the_convention_fvcore_is_what_fvcore_counts(name):
    from timm.layers import set_fused_attn

    set_fused_attn(False)  # fvcore does not know fused attention
    try:
        module = resolve_base(name).build("cpu")
    finally:
        set_fused_attn(True)
    resolution = 64 if "fcn" in name else resolve_base(name).resolution
    found = cs.count(module, resolution=resolution, convention="fvcore")
    assert (found.flops, found.acts) == by_fvcore(module, *example_inputs(module, resolution))


EDGES = {
    "batch norm": (nn.BatchNorm2d(4), 2),
    "batch norm without weights": (nn.BatchNorm2d(4, affine=False), 1),
    "batch norm with moments": (nn.BatchNorm2d(4, track_running_stats=False), 5),
    "layer norm": (nn.LayerNorm(8), 5),
    "layer norm without weights": (nn.LayerNorm(8, elementwise_affine=False), 4),
    "group norm": (nn.GroupNorm(2, 4), 5),
    "group norm without weights": (nn.GroupNorm(2, 4, affine=False), 4),
    "instance norm": (nn.InstanceNorm2d(4, affine=True), 5),
    "instance norm without weights": (nn.InstanceNorm2d(4), 4),
    "instance norm of running moments": (nn.InstanceNorm2d(4, track_running_stats=True), 4),
    "average pooling to a pixel": (nn.AdaptiveAvgPool2d(1), 1),
    "average pooling to more": (nn.AdaptiveAvgPool2d((2, 3)), 1),
    "a mean is no pooling": (
        type("Mean", (nn.Module,), {"forward": lambda _, x: x.mean((2, 3))})(),
        0,
    ),
    "bilinear upsampling": (nn.Upsample(scale_factor=2, mode="bilinear"), 16),
    "nearest upsampling": (nn.Upsample(scale_factor=2), 4),
    "bicubic upsampling": (nn.Upsample(scale_factor=2, mode="bicubic"), 0),
    "max-pooling": (nn.MaxPool2d(2), 0),
}


@pytest.mark.parametrize("name", EDGES)
def test_an_edge_of_fvcore_is_so_many_flops_an_element_of_its_input(name):
    part, times = EDGES[name]
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), part)
    convolution = 27 * 4 * 64
    found = cs.count(network, resolution=8, convention="fvcore")
    assert found.flops == convolution + times * 4 * 64
    assert found.acts == 4 * 64
    assert (found.flops, found.acts) == by_fvcore(network, torch.zeros(1, 3, 8, 8))


def test_pycls_adds_the_bias_of_a_linear_layer_whatever_operators_it_becomes():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.entry = nn.Conv2d(3, 4, 3, padding=1)
            self.mix = nn.Linear(4, 6)

        def forward(self, x):
            return F.max_pool2d(self.mix(self.entry(x).transpose(1, 3)).transpose(1, 3), 2)

    found = cs.count(Net(), resolution=8, convention="pycls")
    assert found.flops == (27 * 4 + 4 * 6) * 64 + (4 + 6) * 64
    assert found.acts == (4 + 6) * 64 + 6 * 16


def test_torch_is_what_its_counter_says():
    module = resolve_base("torchvision:mobilenet_v2").build("meta").eval()
    with FlopCounterMode(display=False) as counter:
        module(torch.zeros(1, 3, 224, 224, device="meta"))
    count = cs.count("torchvision:mobilenet_v2", convention="torch")
    assert count.flops == counter.get_total_flops()


def test_the_operators_of_a_network_follow_the_convention_too():
    for name in RESNET50:
        found = cs.operators("timm:resnet18", convention=name).total
        count = cs.count("timm:resnet18", convention=name)
        assert (found.flops, found.acts) == (count.flops, count.acts)


@pytest.mark.parametrize("convention", ["fvcore", "torch"])
@pytest.mark.parametrize("rounding", [None, "reference"])
def test_scaled_networks_are_counted_in_the_convention(convention, rounding):
    scaled = cs.scale(
        "RegNetX-400MF",
        strategy="dWr",
        factor=2,
        rounding=rounding,
        convention=convention,
        weights=False,
    )
    assert scaled.base == cs.count("RegNetX-400MF", convention=convention)
    again = cs.count(scaled.module, resolution=scaled.resolution, convention=convention)
    assert scaled.achieved.as_dict() == again.as_dict()


def test_a_closed_form_counts_in_no_other_convention_than_it_has():
    message = "^The closed form of paper families does not count in the convention 'fvcore'. Use.*$"
    with pytest.raises(InputError, match=message):
        cs.families.count(cs.families.named("ResNet-50"), convention="fvcore")
    with pytest.raises(InputError, match=message):
        cs.scale(
            "RegNetX-400MF", strategy="dWr", flops=8e8, rounding="reference", convention="fvcore"
        )


def test_the_command_shows_every_convention_side_by_side():
    document = count_command("resnet50", convention="all", json=True)
    assert isinstance(document, dict)
    assert json.loads(json.dumps(document)) == document
    figures = {name: (one["flops"], one["acts"]) for name, one in document["conventions"].items()}
    assert figures == RESNET50
    assert (document["flops"], document["convention"]) == (4_089_184_256, "default")
    assert document["conventions"]["pycls"]["adds"] == [
        {
            "what": "biases of convolutions and linear layers",
            "amount": "1 flop an output element",
            "flops": 1000,
            "acts": 0,
        },
        {"what": "outputs of max-pooling", "amount": "acts", "flops": 0, "acts": 200_704},
    ]
    adds = {row["what"]: row["flops"] for row in document["conventions"]["fvcore"]["adds"]}
    assert adds["batch norm in evaluation"] == 2 * (11_114_984 - 1000)
    assert adds["adaptive average pooling of images"] == 2048 * 49
    lines = plain_lines(conventions_table(cs.count_conventions("resnet50")))
    assert lines[0] == "timm:resnet50 at 224 px, in every convention"
    assert "fvcore 4,111,512,576 25,557,032 11,114,984 fvcore, and timm's published tables" in lines


def test_an_unknown_convention_is_answered_with_those_there_are():
    message = "^Unknown convention 'half'. Use default, pycls, fvcore, torch.$"
    with pytest.raises(InputError, match=message):
        cs.count("resnet18", convention="half")


def test_the_document_lists_what_the_code_adds():
    text = (Path(__file__).parent.parent / "docs" / "counting.md").read_text()
    for name, convention in CONVENTIONS.items():
        assert f"| `{name}`: {convention.source} |" in text
        for edge in convention.edges:
            assert f"| {edge.what} | {edge.amount} |" in text


@pytest.mark.parametrize(
    ("name", "metric", "budget", "convention"),
    [
        ("timm:resnet50", "flops", 8e9, "torch"),
        ("timm:efficientnet_b0", "flops", 1e9, "fvcore"),
        ("torchvision:squeezenet1_0", "acts", 10e6, "pycls"),
    ],
)
def test_a_budget_is_met_in_the_convention_that_it_is_counted_in(name, metric, budget, convention):
    scaled = cs.scale(
        name, strategy="dWr", **{metric: budget}, convention=convention, strict=True, weights=False
    )
    assert getattr(scaled.achieved, metric) == pytest.approx(budget, rel=0.01)
    assert scaled.requested == {metric: budget}
    again = cs.count(scaled.module, resolution=scaled.resolution, convention=convention)
    assert getattr(again, metric) == getattr(scaled.achieved, metric)
    if (convention, metric) == ("torch", "flops"):
        with FlopCounterMode(display=False) as counter:
            scaled.module.eval()(torch.zeros(1, 3, *[scaled.resolution] * 2, device="meta"))
        assert counter.get_total_flops() == scaled.achieved.flops


def test_weights_come_with_the_network_that_was_found_in_a_convention():
    options = {"strategy": "w", "flops": 6e9, "convention": "torch"}
    scaled = cs.scale("timm:resnet18", **options)
    bare = cs.scale("timm:resnet18", **options, weights=False)
    assert scaled.achieved == bare.achieved
    assert scaled.notes == bare.notes
    assert next(scaled.module.parameters()).device.type == "cpu"


def test_a_budget_between_two_depths_is_missed_in_its_convention():
    """A block of ResNet-18 has an eighth of its flops: 1 or 2 more come to 1.13 or 1.25 times."""
    flops = 1.2 * cs.count("timm:resnet18", convention="torch").flops
    options = {"strategy": "d", "flops": flops, "convention": "torch", "weights": False}
    scaled = cs.scale("timm:resnet18", **options)
    assert scaled.achieved.flops / flops == pytest.approx(1.25 / 1.2, rel=0.01)
    assert scaled.notes[-1].startswith("The nearest network misses the budget of ")
    with pytest.raises(cs.BudgetError, match=r"flops in the convention torch, not "):
        cs.scale("timm:resnet18", **options, strict=True)
