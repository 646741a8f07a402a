"""Every network of the suite under every strategy: built, counted, run, and as requested."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import nn

import convscale as cs
from convscale.network import resolve_base
from convscale.scaling import Scaler
from tests import checks
from tests.networks import DEEP, NAMED, Contraption, Straight, contraption
from tests.zoo import ZOO

FACTORS = (0.5, 2.0, 4.0)
ALL = [
    (name, strategy, factor)
    for name in NAMED
    for strategy in ("w", "r", "wr", *(("d", "dwr", "dWr") if name in DEEP else ()))
    for factor in FACTORS
]


@cache
def scaler(name: str) -> Scaler:
    return Scaler(resolve_base(name))


@cache
def base_module(name: str) -> nn.Module:
    return resolve_base(name).build("meta")


@cache
def base_output_shape(name: str, resolution: int) -> tuple[int, ...]:
    return checks.output_shape(base_module(name), resolution)


@pytest.mark.parametrize(("name", "strategy", "factor"), ALL)
def test_a_scaled_network_is_what_was_asked(name, strategy, factor):
    base = base_module(name)
    scaled = scaler(name).scale(strategy, factor=factor, weights=False)
    # the closed form, our counter and PyTorch's agree on the network that was built
    flops, shape = checks.counted_run(scaled.module, scaled.resolution)
    assert scaled.achieved.flops == flops
    assert scaled.achieved.params == sum(p.numel() for p in scaled.module.parameters())
    assert shape == base_output_shape(name, scaled.base_resolution)
    assert checks.share_at_requested_width(base, scaled, scaler(name).base.layers) >= 0.95
    checks.check_equal_widths_stay_equal(base, scaled.module)
    checks.check_state_dict_keys(base, scaled)
    if factor == 2.0:
        assert 1.8 <= scaled.ratio["flops"] <= 2.2 or any("Flops grow" in n for n in scaled.notes)
    ratio = scaled.resolution / scaled.base_resolution
    assert abs(ratio - scaled.factors.resolution) * scaled.base_resolution <= 1


@pytest.mark.parametrize("name", DEEP)
@pytest.mark.parametrize("factor", FACTORS)
def test_depth_scales_every_stage_and_rounds_half_to_even(name, factor):
    scaled = scaler(name).scale("d", factor=factor, weights=False)
    for stage in scaler(name).blueprint.stages:
        container = scaled.module.get_submodule(stage.container)
        blocks = [child for child in container.children() if type(child).__name__ == stage.kind]
        assert len(blocks) == max(1, round(stage.depth * factor))


@pytest.mark.parametrize(("name", "strategy"), [(n, s) for n in NAMED for s in ("wr",)])
def test_scaled_networks_train_at_a_small_resolution(name, strategy):
    scaled = cs.scale(name, strategy=strategy, factor=0.5)
    checks.check_runs_forward_and_backward(scaled.module, 64)


@pytest.mark.parametrize("name", DEEP)
def test_added_blocks_change_the_output(name):
    scaled = cs.scale(name, strategy="d", factor=2.0)
    assert checks.check_added_blocks_matter(scaled, 64) == sum(
        max(1, round(stage.depth * 2)) - stage.depth for stage in scaler(name).blueprint.stages
    )
    checks.check_runs_forward_and_backward(scaled.module, 64)


@pytest.mark.parametrize("strategy", ["w", "r", "wr", "d", "dwr", "dWr"])
@pytest.mark.parametrize("factor", FACTORS)
def test_a_network_from_a_file_scales_as_by_hand(strategy, factor):
    name = "tests/networks.py:contraption"
    scaled = cs.scale(name, strategy=strategy, factor=factor, resolution=64)
    base = contraption()
    module, k = scaled.module, scaled.factors.width
    assert abs(module.left_wing.out_channels - 16 * k) <= 8
    assert abs(module.right_wing.out_channels - 40 * k) <= 8
    joined = module.left_wing.out_channels + module.right_wing.out_channels
    assert module.attic[0].squeeze_a.in_channels == joined
    assert module.attic[-1].spread_b.out_channels == module.window.in_features
    assert module.window.out_features == 10
    depths = [len(module.hall), len(module.attic)]
    requested = [max(1, round(d * scaled.factors.depth)) for d in (3, 2)]
    assert all(abs(a - b) <= 1 for a, b in zip(depths, requested, strict=True))
    assert strategy != "d" or depths == requested
    assert scaled.achieved.flops == checks.torch_flops(module, scaled.resolution)
    checks.check_equal_widths_stay_equal(base, module)
    checks.check_state_dict_keys(base, scaled)
    checks.check_runs_forward_and_backward(module, 32)
    checks.check_added_blocks_matter(scaled, 32)


def test_a_made_block_is_what_its_constructor_would_make():
    """EfficientNet's last stage has one block, 192 -> 320 at expansion 6; repeated: 320 -> 320."""
    from timm.models._efficientnet_blocks import InvertedResidual

    scaled = cs.scale("timm:efficientnet_b0", strategy="d", factor=2.0, weights=False)
    made = scaled.module.blocks[6][1]
    with torch.device("meta"):
        built = InvertedResidual(320, 320, 3, exp_ratio=6.0, se_layer=type(made.se))
    shapes = {name: p.shape for name, p in made.named_parameters() if not name.startswith("se.")}
    expected = {n: p.shape for n, p in built.named_parameters() if not n.startswith("se.")}
    assert shapes == expected
    assert made.has_skip
    assert made.se.conv_reduce.out_channels == 80  # a quarter of the block's input


def test_a_made_block_leaves_out_the_projection():
    """RegNetY-3.2GF's last stage has one block, with a projection that a repeated one lacks."""
    scaled = cs.scale("timm:regnety_032", strategy="d", factor=2.0, weights=False)
    made = scaled.module.s4.b2
    assert isinstance(made.downsample, nn.Identity)
    assert made.conv2.conv.stride == (1, 1)
    assert made.conv2.conv.in_channels // made.conv2.conv.groups == 24


def test_width_scaling_moves_a_bottleneck_with_group_width():
    """Under the reference rounding ResNet-50 at `w` 2 comes back unchanged; here it must not."""
    scaled = scaler("timm:resnet50").scale("w", factor=2.0, weights=False)
    assert scaled.module.layer1[0].conv1.out_channels == 88  # 64·√2 = 90.5
    scaled = scaler("timm:resnext50_32x4d").scale("w", factor=4.0, weights=False)
    conv = scaled.module.layer1[0].conv2
    assert (conv.out_channels, conv.in_channels // conv.groups) == (256, 8)


@pytest.mark.parametrize("name", NAMED)
def test_factor_one_is_the_identity(name):
    scaled = scaler(name).scale("wr", factor=1.0, weights=False)
    assert scaled.achieved == cs.Complexity(
        *(getattr(scaler(name).base, metric) for metric in ("flops", "params", "acts"))
    )
    shapes = {key: tensor.shape for key, tensor in scaled.module.state_dict().items()}
    assert shapes == {k: t.shape for k, t in base_module(name).state_dict().items()}
    assert scaled.resolution == scaled.base_resolution


@pytest.mark.parametrize("name", ["timm:resnet50", "timm:densenet121", "timm:convnext_tiny"])
def test_scaling_twice_is_close_to_scaling_once(name):
    once = scaler(name).scale("w", factor=4.0, weights=False)
    first = scaler(name).scale("w", factor=2.0, weights=False)
    second = cs.scale(first.module, strategy="w", factor=2.0, resolution=224, weights=False)
    assert second.achieved.flops == pytest.approx(once.achieved.flops, rel=0.12)


BUDGETS = [
    (name, strategy, metric, factor)
    for name in NAMED
    for strategy in ("w", "wr", *(("dwr", "dWr") if name in DEEP else ()))
    for metric, factor in (("flops", 1.7), ("params", 3.1), ("acts", 0.6))
]


def test_budgets_are_met_within_one_per_cent_at_the_median_and_three_at_the_95th():
    misses = []
    for name, strategy, metric, factor in BUDGETS:
        budget = getattr(scaler(name).base, metric) * factor
        scaled = scaler(name).scale(strategy, weights=False, **{metric: budget})
        misses.append(abs(getattr(scaled.achieved, metric) / budget - 1))
        assert misses[-1] <= 0.03 or "misses the budget" in scaled.notes[-1]
    misses.sort()
    assert misses[len(misses) // 2] <= 0.01
    assert misses[int(0.95 * len(misses))] <= 0.03


def test_pure_depth_meets_a_budget_within_one_block():
    budget = 7.0e9
    scaled = scaler("timm:resnet50").scale("d", flops=budget, weights=False)
    one_block = 220e6  # every block of ResNet-50 but the downsampling ones costs 218 Mflops
    assert abs(scaled.achieved.flops - budget) <= one_block


def test_pure_resolution_meets_a_budget_within_one_step():
    scaled = scaler("timm:resnet50").scale("r", flops=8.0e9, weights=False)
    neighbours = [
        cs.count("resnet50", resolution=scaled.resolution + step).flops for step in (-1, 1)
    ]
    miss = abs(scaled.achieved.flops - 8.0e9)
    assert all(miss <= abs(flops - 8.0e9) for flops in neighbours)


@pytest.mark.parametrize("strategy", ["w", "d", "r", "dWr"])
def test_a_budget_below_the_smallest_network_is_refused(strategy):
    message = f"^The budget of 1.00K flops lies below the smallest network of strategy '{strategy}'"
    with pytest.raises(cs.InputError, match=message):
        cs.scale("timm:resnet18", strategy=strategy, flops=1000, weights=False)


def test_a_strict_budget_that_cannot_be_met_is_an_error():
    block = [nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()) for _ in range(2)]
    net = nn.Sequential(nn.Conv2d(3, 32, 1), nn.Sequential(*block))
    asked = {"strategy": "d", "params": 1.25 * 2 * (32 * 32 * 9 + 32), "resolution": 8}
    with pytest.raises(cs.BudgetError, match="^The nearest network of strategy 'd' has .*$"):
        cs.scale(net, strict=True, **asked)
    assert cs.scale(net, **asked).notes  # two blocks and three are a quarter off


@pytest.mark.parametrize("strategy", ["d", "dWr"])
def test_a_network_without_stages_refuses_depth(strategy):
    message = f"^Strategy '{strategy}' scales depth, but the network has no stage of blocks.*$"
    with pytest.raises(cs.UnscalableNetworkError, match=message):
        cs.scale(Straight(), strategy=strategy, factor=2.0, resolution=32)


@pytest.mark.parametrize(
    ("name", "depths"),
    [
        ("timm:densenet121", (12, 24, 48, 32)),
        ("timm:dpn68", (6, 8, 24, 6)),
        ("timm:vgg16", (4, 4, 6, 6, 6)),
        ("timm:inception_v3", None),
        ("timm:rexnet_100", (2, 4, 4, 12, 10)),
    ],
)
def test_dense_flat_and_called_blocks_are_deepened(name, depths):
    found = scaler(name).scale("d", factor=2.0)
    base, side = base_module(name), 96 if "inception" in name else 64
    checks.check_state_dict_keys(base, found)
    assert found.achieved.flops == checks.torch_flops(found.module, found.resolution)
    if depths is not None:
        stages = scaler(name).blueprint.stages
        added = {(e.container, e.after): len(e.added) // len(e.template) for e in found.plan.depth}
        for stage, depth in zip(stages, depths, strict=True):
            last = stage.modules(stage.blocks[-1])[-1]
            assert stage.depth + added[stage.container, last] == depth
    assert checks.check_added_blocks_matter(found, side) > 0
    checks.check_runs_forward_and_backward(found.module, side)


class Joined(nn.Module):
    """A grouped convolution on the sum of a concatenation and a convolution."""

    def __init__(self):
        super().__init__()
        self.entry = nn.Conv2d(3, 24, 3, padding=1)
        self.left, self.right = nn.Conv2d(24, 16, 1), nn.Conv2d(24, 40, 1)
        self.mix = nn.Conv2d(56, 56, 3, padding=1)
        self.grouped = nn.Conv2d(56, 56, 3, padding=1, groups=7)
        self.exit = nn.Linear(56, 10)

    def forward(self, x):
        x = self.entry(x)
        x = torch.cat([self.left(x), self.right(x)], 1)
        return self.exit(self.grouped(x + self.mix(x)).mean((2, 3)))


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0, 3.0, 4.0])
def test_a_grouped_convolution_on_a_concatenation_can_be_run(factor):
    scaled = cs.scale(Joined(), strategy="w", factor=factor, resolution=16)
    grouped = scaled.module.grouped
    assert grouped.in_channels == scaled.module.left.out_channels + scaled.module.right.out_channels
    assert grouped.in_channels % grouped.groups == grouped.out_channels % grouped.groups == 0
    assert abs(grouped.out_channels - 56 * factor**0.5) <= 8
    checks.check_runs_forward_and_backward(scaled.module, 16)


@pytest.mark.parametrize("strategy", ["w", "r", "dWr"])
def test_networks_of_gray_images_scale(strategy):
    scaled = cs.scale("timm:resnet18", strategy=strategy, factor=2.0, in_chans=1, weights=False)
    assert scaled.module.conv1.in_channels == 1
    assert scaled.achieved.flops == checks.torch_flops(scaled.module, scaled.resolution, 1)
    gray = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 10, 1))
    assert cs.scale(gray, strategy="w", factor=4.0, resolution=8).module[0].out_channels == 32


def test_blocks_that_are_called_by_name_hand_their_output_to_added_ones():
    class ByName(nn.Module):
        def __init__(self):
            super().__init__()
            self.entry = nn.Conv2d(3, 16, 3, padding=1)
            self.one, self.two = Contraption().hall[1], Contraption().hall[1]
            self.grow = nn.Conv2d(16, 48, 1)
            self.exit = nn.Linear(48, 10)

        def forward(self, x):
            return self.exit(self.two(self.one(self.grow(self.entry(x)))).mean((2, 3)))

    scaled = cs.scale(ByName(), strategy="d", factor=2.0, resolution=16)
    assert "two.two_1.calm_a.weight" in set(scaled.module.state_dict())
    assert checks.check_added_blocks_matter(scaled, 16) == 2
    halved = cs.scale(ByName(), strategy="d", factor=0.5, resolution=16)
    checks.check_state_dict_keys(ByName(), halved)
    checks.check_runs_forward_and_backward(halved.module, 16)


def test_hooks_of_the_user_do_not_see_our_runs():
    base = Contraption()
    seen = []
    base.doorway.register_forward_hook(lambda *_: seen.append(1))
    scaled = cs.scale(base, strategy="w", factor=2.0, resolution=32)
    assert seen == []
    scaled.module.eval()(torch.zeros(1, 3, 32, 32))
    assert seen == [1]


def test_an_axis_can_be_kept_and_the_others_share_its_part():
    scaled = scaler("timm:vgg16").scale("dwr", factor=4.0, keep=("d",), weights=False)
    assert scaled.strategy.width == scaled.strategy.resolution == pytest.approx(0.5)
    assert scaled.notes[0].startswith("Kept d: the exponents of dwr become depth 0, width 0.5")


def test_a_reshape_to_a_fixed_number_is_named_and_never_wrong():
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.entry = nn.Conv2d(3, 16, 3, padding=1)
            self.exit = nn.Linear(16, 10)

        def forward(self, x):
            return self.exit(self.entry(x).mean((2, 3)).view(-1, 16))

    message = (
        r"^Strategy 'w' scales width, but none is left, as the code writes their sizes out \(view "
        r"in the network\)\. Use a strategy without w\.$"
    )
    with pytest.raises(cs.UnscalableNetworkError, match=message):
        cs.scale(Fixed(), strategy="w", factor=4.0, resolution=32)


def test_a_network_that_cannot_change_its_resolution_says_so():
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.entry = nn.Conv2d(3, 16, 3, padding=1)
            self.exit = nn.Linear(16 * 32 * 32, 10)

        def forward(self, x):
            return self.exit(self.entry(x).flatten(1))

    with pytest.raises(cs.UnscalableNetworkError, match="^The resolution cannot be scaled by 2: "):
        cs.scale(Fixed(), strategy="r", factor=4.0, resolution=32)
    scaled = cs.scale(Fixed(), strategy="w", factor=4.0, resolution=32)
    assert scaled.module.exit.in_features == 32 * 32 * 32


def test_rectangles_scale_on_both_sides():
    scaled = cs.scale("resnet18", strategy="r", factor=4.0, resolution=(128, 64), weights=False)
    assert scaled.resolution == (256, 128)


def test_the_contraption_is_not_changed_by_scaling():
    base = Contraption().train()
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    scaled = cs.scale(base, strategy="dWr", factor=4.0, resolution=64)
    assert scaled.network == "module:Contraption"
    assert scaled.module.training
    assert all(torch.equal(before[k], t) for k, t in base.state_dict().items())


@pytest.mark.parametrize("name", ["x0_5", "x1_0", "x1_5"])
@pytest.mark.parametrize("factor", [0.5, 2.0, 4.0])
def test_channels_that_are_shuffled_again_and_again_come_to_their_widths(name, factor):
    name = f"torchvision:shufflenet_v2_{name}"
    scaled = scaler(name).scale("w", factor=factor)
    share = checks.share_at_requested_width(base_module(name), scaled, scaler(name).base.layers)
    assert share >= 0.95
    assert bool(scaled.module.eval()(torch.zeros(1, 3, 64, 64)).isfinite().all())


@pytest.mark.parametrize("factor", [0.5, 1.3, 1.5, 3.0, 5.0])
def test_halves_that_are_shuffled_without_a_layer_between_stay_halves(factor):
    scaled = cs.scale(ZOO["shuffled stem"].make(), strategy="w", factor=factor, resolution=32)
    stem, unit = scaled.module.stem[0], scaled.module.stages[0]
    assert stem.out_channels == 2 * unit.far[0][0].in_channels == 2 * unit.far[2][0].out_channels
    assert abs(stem.out_channels - 48 * factor**0.5) <= 16
    assert scaled.module(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


class Coupled(nn.Module):
    """Reversible couplings: two lists that the forward pass goes through side by side."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.f, self.g = (nn.ModuleList(self.block() for _ in range(3)) for _ in "fg")
        self.exit = nn.Linear(32, 10)

    @staticmethod
    def block():
        return nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())

    def forward(self, x):
        a, b = self.stem(x).chunk(2, 1)
        for f, g in zip(self.f, self.g, strict=False):
            a = a + f(b)
            b = b + g(a)
        return self.exit(torch.cat([a, b], 1).mean((2, 3)))


@pytest.mark.parametrize("target", [{"factor": 2.0}, {"factor": 4.0}, {"flops": 40e6}])
@pytest.mark.parametrize("strategy", ["dw", "dwr", "dWr"])
def test_lists_that_run_side_by_side_stay_equally_deep(strategy, target):
    scaled = cs.scale(Coupled(), strategy=strategy, resolution=32, weights=False, **target)
    assert len(scaled.module.f) == len(scaled.module.g)


def test_a_multiple_that_the_base_does_not_keep_is_kept_as_far_as_it_does_and_noted():
    scaled = cs.scale("resnet18", strategy="w", factor=2, width_multiple=24, weights=False)
    assert scaled.module.layer1[0].conv1.out_channels == 88
    assert scaled.notes == (
        "Widths keep the multiple 24 as far as the base's do; these do not: 64, 128, 256 and 1 "
        "more.",
    )


def test_a_sequence_whose_layers_all_change_the_shape_is_told_so():
    layers = (nn.ConvTranspose2d(3, 16, 2, 2), nn.ReLU(), nn.ConvTranspose2d(16, 32, 2, 2))
    net = nn.Sequential(*layers, nn.ReLU())
    with pytest.raises(cs.UnscalableNetworkError, match="none of its blocks can be repeated"):
        cs.scale(net, strategy="d", factor=2, resolution=32)


def test_a_scaled_network_itself_is_told_apart_from_its_module():
    scaled = cs.scale("resnet10t", strategy="w", factor=2, weights=False)
    with pytest.raises(cs.InputError, match=r"^A ScaledNetwork is no network\. Give its module"):
        cs.scale(scaled, strategy="w", factor=2)


class Called(nn.Module):
    """Three blocks that the forward pass calls by name."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        for place in "abc":
            block = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
            setattr(self, f"block_{place}", block)
        self.exit = nn.Linear(16, 10)

    def forward(self, x):
        x = self.block_c(self.block_b(self.block_a(self.stem(x))))
        return self.exit(x.mean((2, 3)))


@pytest.mark.parametrize("factor", [0.4, 0.5, 0.8, 1.5])
def test_blocks_that_were_added_behind_a_named_one_are_taken_away_again(factor):
    deeper = cs.scale(Called(), strategy="d", factor=2, resolution=16).module
    again = cs.scale(deeper, strategy="d", factor=factor, resolution=16)
    alive = [m for m in again.module.modules() if isinstance(m, nn.BatchNorm2d)]
    assert abs(len(alive) - 6 * factor) <= 1
    x = torch.randn(2, 3, 16, 16)
    before = again.module(x)
    for block in alive:  # every block that is left is one that runs
        with torch.no_grad():
            block.bias += 1.0
        assert not torch.equal(again.module(x), before)
        before = again.module(x)


@pytest.mark.parametrize("strategy", ["d", "dwr"])
def test_pyramids_lose_blocks_and_what_stands_behind_takes_what_arrives(strategy):
    scaled = cs.scale("rexnet_100", strategy=strategy, factor=0.5)
    base = base_module("timm:rexnet_100").features
    kinds = [
        [type(block) is type(base[1]) for block in own] for own in (scaled.module.features, base)
    ]
    assert sum(kinds[0]) < sum(kinds[1])
    assert len(kinds[0]) == len(kinds[1])  # those that went pass on what they take
    assert scaled.achieved.flops == checks.torch_flops(scaled.module, scaled.resolution)
    assert 0.4 <= scaled.ratio["flops"] <= 0.6
    checks.check_runs_forward_and_backward(scaled.module, 64)


@pytest.mark.parametrize("network", ["densenet121", "densenet169"])
def test_flops_that_outgrow_a_depth_are_laid_to_the_dense_blocks_that_are_added(network):
    scaled = cs.scale(network, strategy="d", factor=4, weights=False)
    [note] = [one for one in scaled.notes if one.startswith("Flops grow")]
    assert "dense blocks cost more" in note
    assert "does not grow" not in note
    scaled = cs.scale(network, strategy="w", factor=4, weights=False)
    assert not any("dense blocks" in one for one in scaled.notes)
