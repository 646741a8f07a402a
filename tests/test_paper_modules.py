"""Built networks of paper families: counted, compared with other libraries', initialised."""

from __future__ import annotations

import random
from dataclasses import replace
from math import sqrt
from statistics import median

import pytest
import torch

import convscale as cs
from convscale import families
from convscale.complexity.counting import count_module
from convscale.errors import InputError
from convscale.families.rounding import compatible
from convscale.network.sources.family_modules import build_family, described
from convscale.strategy import parse_strategy
from tests.checks import check_runs_forward_and_backward, torch_flops

SIZES = "200MF 400MF 600MF 800MF 1.6GF 3.2GF 4.0GF 6.4GF 8.0GF 12GF 16GF 32GF".split()
CODES = "002 004 006 008 016 032 040 064 080 120 160 320".split()
TWINS = {
    **{f"RegNetX-{size}": f"timm:regnetx_{code}" for size, code in zip(SIZES, CODES, strict=True)},
    **{f"RegNetY-{size}": f"timm:regnety_{code}" for size, code in zip(SIZES, CODES, strict=True)},
    "RegNetZ-500MF": "timm:regnetz_005",
    "RegNetZ-4GF": "timm:regnetz_040_h",
    "ResNet-18": "torchvision:resnet18",
    "ResNet-34": "torchvision:resnet34",
    "ResNet-50": "torchvision:resnet50",
    "ResNet-101": "torchvision:resnet101",
    "ResNet-152": "torchvision:resnet152",
    "ResNeXt-50-32x4d": "torchvision:resnext50_32x4d",
    "ResNeXt-101-32x4d": "timm:resnext101_32x4d",
    "ResNeXt-101-32x8d": "torchvision:resnext101_32x8d",
    "ResNeXt-101-64x4d": "torchvision:resnext101_64x4d",
    "MobileNetV2": "torchvision:mobilenet_v2",
    "EfficientNet-B0": "torchvision:efficientnet_b0",
    **{f"EfficientNet-B{n}": f"timm:tf_efficientnet_b{n}" for n in range(1, 8)},
}
TORCHVISION = {
    "RegNetY-400MF": "torchvision:regnet_y_400mf",
    "RegNetX-800MF": "torchvision:regnet_x_800mf",
}


def on_meta(net):
    with torch.device("meta"):
        return build_family(net)


def counted(net, convention="default", resolution=None):
    module = on_meta(net)
    found = count_module(module, resolution or net.resolution, convention=convention)
    return found.flops, found.params, found.acts


def closed(net, convention="default", resolution=None):
    found = families.count(net, convention=convention, resolution=resolution)
    return found.flops, found.params, found.acts


def random_anynet(draw: random.Random) -> families.AnyNet:
    stages = draw.randint(1, 4)
    block = draw.choice(["bottleneck", "bottleneck", "linear_bottleneck", "basic", "vanilla"])
    widths = [8 * draw.randint(1, 12) for _ in range(stages)]
    if block in ("basic", "vanilla"):
        multipliers, groups = [1.0] * stages, widths
    else:
        multipliers = [draw.choice([0.25, 0.5, 1.0, 2.0, 4.0]) for _ in range(stages)]
        asked = [draw.choice([1, 2, 4, 8, 12, 16]) for _ in range(stages)]
        pairs = [compatible(*entry) for entry in zip(widths, multipliers, asked, strict=True)]
        widths, groups = zip(*pairs, strict=True)
    return families.AnyNet(
        depths=tuple(draw.randint(1, 3) for _ in range(stages)),
        widths=tuple(widths),
        strides=tuple(draw.randint(1, 2) for _ in range(stages)),
        bottleneck_multipliers=tuple(multipliers),
        group_widths=tuple(groups),
        block=block,
        stem=draw.choice(["simple", "pooled", "small"]),
        stem_width=8 * draw.randint(1, 4),
        head_width=draw.choice([0, 40]),
        se_ratio=draw.choice([0.0, 0.25]) if block in ("bottleneck", "linear_bottleneck") else 0.0,
        activation=draw.choice(["relu", "silu", "gelu"]),
        stride_in_1x1=draw.random() < 0.3,
        num_classes=draw.randint(1, 20),
        in_chans=draw.randint(1, 4),
        resolution=draw.choice([32, 47, (33, 50)]),
    )


def random_efficientnet(draw: random.Random) -> families.EfficientNet:
    stages = draw.randint(1, 4)
    return families.EfficientNet(
        depths=tuple(draw.randint(1, 3) for _ in range(stages)),
        widths=tuple(8 * draw.randint(1, 6) for _ in range(stages)),
        strides=tuple(draw.randint(1, 2) for _ in range(stages)),
        expansion_ratios=tuple(draw.choice([1, 2.5, 4, 6]) for _ in range(stages)),
        kernels=tuple(draw.choice([3, 5, 7]) for _ in range(stages)),
        stem_width=8 * draw.randint(1, 4),
        head_width=draw.choice([0, 64]),
        se_ratio=draw.choice([0.0, 0.25]),
        num_classes=draw.randint(1, 20),
        in_chans=draw.randint(1, 4),
        resolution=draw.choice([32, 47, (33, 50)]),
    )


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("convention", ["default", "pycls"])
def test_random_networks_count_what_their_closed_form_says(seed, convention):
    draw = random.Random(seed)
    net = (random_anynet if seed % 3 else random_efficientnet)(draw)
    assert counted(net, convention) == closed(net, convention)


SMALL = [
    "RegNetX-200MF",
    "RegNetY-400MF",
    "RegNetZ-500MF",
    "ResNet-18",
    "ResNet-50",
    "ResNeXt-50-32x4d",
    "MobileNetV2",
    "EfficientNet-B0",
]


@pytest.mark.parametrize("name", SMALL)
def test_named_networks_count_what_their_closed_form_says(name):
    net = families.named(name)
    assert counted(net, "pycls") == closed(net, "pycls")
    assert closed(net)[0] == torch_flops(on_meta(net), net.resolution)


@pytest.mark.parametrize(("ours", "theirs"), [*TWINS.items(), *TORCHVISION.items()])
def test_named_networks_cost_what_other_libraries_build(ours, theirs):
    net = families.named(ours)
    found = cs.count(theirs, resolution=net.resolution)
    assert closed(net) == (found.flops, found.params, found.acts)


def test_the_parameters_of_the_regnets_are_the_published_ones():
    from timm.models.regnet import model_cfgs

    for name, twin in TWINS.items():
        if name.startswith("RegNet"):
            mine, theirs = families.regnet(name), model_cfgs[twin.removeprefix("timm:")]
            assert (mine.depth, mine.w0, mine.wa, mine.wm, mine.group_width) == (
                theirs.depth,
                theirs.w0,
                theirs.wa,
                theirs.wm,
                theirs.group_size,
            )
            assert mine.se_ratio == theirs.se_ratio


def test_the_regnetz_of_the_facts_have_their_published_costs():
    # rounded as published: 0.507 GMAC, 7.12 M, 5.86 M; 4.068 GMAC, 28.94 M, 24.29 M
    for name, published in {
        "RegNetZ-500MF": ("0.507", "7.12", "5.86"),
        "RegNetZ-4GF": ("4.068", "28.94", "24.29"),
    }.items():
        flops, params, acts = closed(families.named(name))
        assert (f"{flops / 1e9:.3f}", f"{params / 1e6:.2f}", f"{acts / 1e6:.2f}") == published


@pytest.mark.parametrize("name", ["RegNetY-400MF", "RegNetZ-500MF", "ResNet-18", "MobileNetV2"])
def test_networks_run_forward_and_backward(name):
    small = replace(families.named(name), num_classes=7, in_chans=1)
    module = build_family(small)
    check_runs_forward_and_backward(module, 48, in_chans=1)
    assert module.eval()(torch.zeros(1, 1, 48, 48)).shape == (1, 7)


def test_a_description_is_read_back_from_its_module():
    for name in SMALL:
        assert described(on_meta(families.named(name))) == families.named(name)


def test_residual_networks_start_as_their_authors_start_them():
    torch.manual_seed(0)
    module = build_family(families.named("RegNetY-1.6GF"))
    for part in module.modules():
        if isinstance(part, torch.nn.Conv2d) and part.weight.numel() > 20_000:
            fan_out = part.out_channels * part.kernel_size[0] ** 2
            assert float(part.weight.detach().std()) == pytest.approx(sqrt(2 / fan_out), rel=0.05)
        if isinstance(part, torch.nn.BatchNorm2d):
            assert bool((part.weight == 1).all())
            assert bool((part.bias == 0).all())
    assert float(module.head.classifier.weight.detach().std()) == pytest.approx(0.01, rel=0.02)
    assert not bool(module.head.classifier.bias.any())


def test_efficientnets_start_as_their_authors_start_them():
    torch.manual_seed(0)
    module = build_family(families.named("EfficientNet-B0"))
    block = module.stages[6][0]
    depthwise, project = (layer.conv.weight.detach() for layer in (block.depthwise, block.project))
    assert float(depthwise.std()) == pytest.approx(sqrt(2 / 9), rel=0.05)
    assert float(project.std()) == pytest.approx(sqrt(2 / 320), rel=0.05)
    classifier = module.head.classifier.weight.detach()
    assert float(classifier.abs().max()) == pytest.approx(1000**-0.5, rel=1e-3)
    assert float(classifier.std()) == pytest.approx(1000**-0.5 / sqrt(3), rel=0.01)
    assert block.project.norm.eps == 1e-3


@pytest.mark.parametrize("rounding", ["reference", "nearest"])
def test_a_scaled_family_is_saved_loaded_and_scaled_again(rounding, tmp_path):
    scaled = cs.scale(
        "RegNetX-200MF", strategy="dWr", factor=2, rounding=rounding, num_classes=10, in_chans=1
    )
    folder = scaled.save(tmp_path / "half")
    loaded = cs.load(folder)
    before, after = scaled.module.state_dict(), loaded.module.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert loaded.as_document() == scaled.as_document()
    assert cs.count(str(folder)).as_dict() == scaled.achieved.as_dict()
    again = cs.scale(str(folder), strategy="w", factor=2, weights=False)
    assert 1.8 < again.ratio["flops"] < 2.2


def test_a_reference_scaled_folder_is_scaled_again_by_the_reference_rule(tmp_path):
    first = cs.scale("RegNetX-200MF", strategy="d", factor=2, rounding="reference")
    folder = first.save(tmp_path / "deep")
    again = cs.scale(str(folder), strategy="d", factor=2, rounding="reference", weights=False)
    once = cs.scale("RegNetX-200MF", strategy="d", factor=4, rounding="reference", weights=False)
    assert again.achieved == once.achieved


def test_a_family_is_scaled_by_its_trace_under_nearest_rounding():
    scaled = cs.scale("RegNetY-400MF", strategy="w", factor=4, weights=False)
    form = scaled.as_document()["architecture"]
    assert form["depths"] == [1, 3, 6, 6]
    assert form["group_widths"] == [16, 16, 16, 16]
    assert 1.8 < sqrt(scaled.ratio["flops"]) < 2.2
    named = cs.scale("RegNetY-400MF", strategy="w", factor=4, weights=False, group_width="named")
    assert named.as_document()["architecture"]["group_widths"] == [8, 8, 8, 8]


def test_families_are_compared_and_scaled_on_the_spot():
    found = cs.compare(["ResNet-18"], strategies=["w"], factors=[2], resolution=64)
    assert [row.network for row in found.rows] == ["ResNet-18"] * 2
    assert cs.count("ResNet-18@w:2", resolution=64).flops == found.rows[1].flops


@pytest.mark.parametrize(
    ("name", "notation", "metric", "times", "rounding"),
    [
        ("RegNetY-4.0GF", "dWr", "flops", 4.0, "reference"),
        ("RegNetX-400MF", "d1_w8_g8_r1", "flops", 2.6, "reference"),
        ("ResNet-50", "wg", "acts", 3.0, "reference"),
        ("EfficientNet-B0", "dwr", "params", 0.4, "efficientnet"),
    ],
)
def test_a_budget_is_met_as_nearly_as_any_factor_does(name, notation, metric, times, rounding):
    net, strategy = families.named(name), parse_strategy(notation).named_only()
    budget = times * families.count(net).as_dict()[metric]
    arguments = {metric: budget, "rounding": rounding, "weights": False}
    found = cs.scale(name, strategy=strategy, **arguments)
    misses = []
    for step in range(-1000, 1001):  # every factor from a tenth to ten times the budget's
        made = families.scaled(net, strategy, times * 1.0023**step, rounding=rounding)
        got = families.count(made).as_dict()[metric]
        misses.append(abs(got - budget))
    assert abs(found.achieved.as_dict()[metric] - budget) <= min(misses)
    assert found.requested == {metric: budget}
    assert found.factors == strategy.factors(found.factor)


def test_a_budget_that_no_network_meets_within_a_hundredth_is_noted():
    found = cs.scale(
        "RegNetY-4.0GF", strategy="dWr", flops=16e9, rounding="reference", weights=False
    )
    assert abs(found.achieved.flops / 16e9 - 1) > 0.01
    assert found.notes == (
        "Rounding to whole blocks, widths and groups misses the 16.0G flops by +1.1%.",
    )


def test_budgets_are_missed_by_less_than_a_hundredth_at_the_median():
    misses = []
    for name in ("RegNetX-400MF", "ResNet-50", "EfficientNet-B0"):
        net = families.named(name)
        for notation in ("wg", "r", "dwr", "d1_w8_g8_r1"):
            for factor in (2, 8):
                budget = factor * families.count(net).flops
                s = families.solved(net, notation, "flops", budget)
                got = families.count(families.scaled(net, notation, s)).flops
                misses.append(abs(got / budget - 1))
    assert median(misses) < 0.01


@pytest.mark.parametrize(
    ("keep", "others"),
    [(("r",), "d1_w8_g8"), (("d",), "w8_g8_r1"), (("w",), "d1_r1"), (("w", "r"), "d")],
)
@pytest.mark.parametrize("rounding", ["reference", "efficientnet"])
def test_kept_axes_stay_and_the_others_share_the_factor(keep, others, rounding):
    arguments = {"factor": 4, "rounding": rounding, "weights": False}
    found = cs.scale("RegNetX-400MF", strategy="d1_w8_g8_r1", keep=keep, **arguments)
    same = cs.scale("RegNetX-400MF", strategy=others, **arguments)
    assert found.as_document()["architecture"] == same.as_document()["architecture"]
    assert (found.achieved, found.resolution) == (same.achieved, same.resolution)
    assert found.notes[0].startswith(f"Kept {', '.join(keep)}: the exponents of d1_w8_g8_r1 become")


def test_the_note_on_kept_axes_is_that_of_any_network():
    arguments = {"strategy": "dWr", "keep": ("d",), "factor": 2, "weights": False}
    traced = cs.scale("ResNet-18", **arguments)
    for rounding in ("reference", "efficientnet"):
        found = cs.scale("ResNet-18", rounding=rounding, **arguments)
        assert found.notes[0] in traced.notes
        assert found.strategy.factors(2).width == traced.strategy.factors(2).width


def test_group_widths_stay_where_widths_do():
    arguments = {"strategy": "d1_w8_g8_r1", "keep": ("w",), "factor": 4, "weights": False}
    for rounding in ("nearest", "reference", "efficientnet"):
        form = cs.scale("RegNetX-200MF", rounding=rounding, **arguments)
        base = families.named("RegNetX-200MF")
        assert form.as_document()["architecture"]["group_widths"] == list(base.group_widths)


def test_what_the_rule_rounds_although_it_is_kept_is_noted(tmp_path):
    net = replace(families.named("ResNet-18"), resolution=225)
    families.write_yaml(net, tmp_path / "net.yaml")
    found = cs.scale(
        str(tmp_path / "net.yaml"),
        strategy="dWr",
        factor=2,
        rounding="reference",
        keep=("r",),
        weights=False,
    )
    assert found.resolution == 224
    assert "The rule rounds the resolution 225 that r keeps to 224." in found.notes


@pytest.mark.parametrize(
    ("network", "arguments", "message"),
    [
        (
            "timm:resnet18",
            {"factor": 2, "rounding": "reference"},
            "Rounding 'reference' is a rule for paper families, and timm:resnet18 is none. "
            "Use nearest, or a name such as RegNetY-4.0GF.",
        ),
        (
            "ResNet-18",
            {"factor": 2, "rounding": "reference", "keep": ("d", "w", "r")},
            "Nothing is left to scale by 'dWr' with d, w, r kept.",
        ),
        (
            "ResNet-18",
            {"factor": 2, "rounding": "reference", "keep": ("r", "stem")},
            "Rounding 'reference' keeps and freezes no parts and gives stages .* Use nearest .*",
        ),
        (
            "ResNet-18",
            {"factor": 2, "group_width": "grow"},
            "Unknown rule 'grow' for group width. Use named or follow.",
        ),
        (
            "ResNet-18",
            {"flops": 1e3, "rounding": "reference"},
            "The budget of 1.00K flops lies below the smallest network of strategy 'dWr', .*",
        ),
        (
            "ResNet-18",
            {"factor": 1e30, "rounding": "reference"},
            "The factors ask for .* blocks, widths of .* Write a smaller factor or budget.",
        ),
    ],
)
def test_what_cannot_be_scaled_so_is_answered_in_one_line(network, arguments, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        cs.scale(network, strategy="dWr", weights=False, **arguments)


def test_a_wrong_family_name_is_answered_with_near_ones():
    with pytest.raises(cs.UnknownNetworkError, match="^Unknown network 'RegNetY-4.OGF'.*4.0GF.*"):
        cs.count("RegNetY-4.OGF")


def test_pycls_counts_of_any_network_add_biases_and_max_pooling():
    # FACTS: ResNet-50 at 224 px in the convention pycls
    found = cs.count("timm:resnet50", resolution=224, convention="pycls")
    assert (found.flops, found.params, found.acts) == (4_089_185_256, 25_557_032, 11_315_688)
    assert found.convention == "pycls"


TINY = families.AnyNet(
    depths=(1, 2),
    widths=(32, 64),
    strides=(2, 2),
    bottleneck_multipliers=(1.0, 1.0),
    group_widths=(16, 16),
    num_classes=10,
    resolution=64,
)


def test_a_description_goes_wherever_a_name_goes():
    net = families.named("RegNetX-200MF")
    assert cs.count(net) == cs.count("RegNetX-200MF")
    assert cs.stages(net) == cs.stages("RegNetX-200MF")
    assert cs.diff(net, "RegNetX-200MF") == cs.diff("RegNetX-200MF", "RegNetX-200MF")
    assert cs.compare(net, strategies=["w"], factors=[2]) == cs.compare(
        "RegNetX-200MF", strategies=["w"], factors=[2]
    )
    assert cs.count(families.regnet("RegNetX-200MF")) == cs.count(net)


def test_a_description_without_a_name_is_called_by_its_kind():
    assert cs.count(TINY).network == "description:AnyNet"
    assert cs.count(TINY).as_dict() == families.count(TINY).as_dict()
    seven = replace(TINY, num_classes=7)
    assert cs.count(TINY, num_classes=7).params == families.count(seven).params
    rows = cs.compare([TINY, seven], strategies=["d"], factors=[2]).rows
    assert {row.network for row in rows} == {"description:AnyNet", "description:AnyNet#2"}
    assert cs.measure(TINY, repeats=3).network == "description:AnyNet"
    assert cs.laws(TINY).network == "description:AnyNet"


@pytest.mark.parametrize("rounding", ["nearest", "reference"])
def test_a_scaled_description_comes_back_from_its_folder(rounding, tmp_path):
    scaled = cs.scale(TINY, strategy="w", factor=4, rounding=rounding)
    folder = scaled.save(tmp_path / "wide")
    again = cs.load(folder)
    assert again.achieved == scaled.achieved
    images = torch.zeros(1, 3, 64, 64)
    assert torch.equal(again.module.eval()(images), scaled.module.eval()(images))
    assert cs.count(str(folder)).as_dict() == scaled.achieved.as_dict()


def test_a_description_is_built():
    module = cs.build(TINY)
    assert described(module) == TINY
    assert module(torch.zeros(2, 3, 64, 64)).shape == (2, 10)
    assert cs.build("ResNet-18", num_classes=3, weights=False).head.classifier.out_features == 3


def test_what_is_no_network_is_refused():
    with pytest.raises(InputError, match=r"^3 is no network\. Give a name, an nn\.Module, or"):
        cs.count(3)


def test_a_scaled_network_is_shown_without_its_modules():
    shown = repr(cs.scale("RegNetX-200MF", strategy="d", factor=2, weights=False))
    assert "RegNetX-200MF" in shown
    assert len(shown) < 1500


def test_a_request_far_out_of_reach_is_missed_by_a_number_that_can_be_read():
    scaled = cs.scale("RegNetX-400MF", strategy="dWr", factor=1e-300, rounding="reference")
    (note,) = (note for note in scaled.notes if "misses" in note)
    ratio = scaled.achieved.flops / cs.count("RegNetX-400MF").flops
    assert note.endswith(f"misses the factor 1e-300 by {ratio / 1e-300:.3g} times.")
