"""Scaled networks as backbones: what they say of their features is what comes out."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from timm.models import FeatureListNet
from torch import nn
from torchvision.models import _utils as segmentation
from torchvision.models.detection.backbone_utils import (
    BackboneWithFPN,
    _mobilenet_extractor,
    _resnet_fpn_extractor,
)
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.models.segmentation.lraspp import _lraspp_mobilenetv3

import convscale as cs
from convscale.quantities import sides

# One of each kind: residual, squeezed, inverted, grouped, dense, aggregated, plain, split.
BACKBONES = """
resnet18 resnext26ts seresnet18 skresnet18 resnetv2_50 mobilenetv2_035 mobilenetv3_small_050
efficientnet_lite0 lcnet_035 regnetx_002 convnext_atto densenet121 dla34 vgg11_bn
cspresnet50 selecsls42 darknet17 repvgg_a0 gernet_s mixnet_s
""".split()
# Those with timm's own way to intermediate features.
FORWARDED = "resnet18 mobilenetv2_035 regnetx_002 convnext_atto vgg11_bn".split()


def meta(name: str, **options) -> nn.Module:
    with torch.device("meta"):
        return timm.create_model(name, pretrained=False, **options)


def scaled_up(module: nn.Module, resolution: int = 64) -> cs.ScaledNetwork:
    return cs.scale(module, strategy="dWr", factor=2, resolution=resolution, weights=False)


def features(module: nn.Module, side: int) -> list[torch.Tensor]:
    with torch.no_grad():
        return list(module.eval()(torch.zeros(1, 3, side, side, device="meta")))


@pytest.mark.parametrize("name", BACKBONES)
def test_feature_info_tells_the_channels_and_reductions_of_the_scaled_features(name):
    base = meta(name, features_only=True)
    scaled = scaled_up(base)
    maps = features(scaled.module, 64)
    info = scaled.module.feature_info
    assert info.channels() == [out.shape[1] for out in maps]
    assert info.reduction() == [64 // out.shape[-1] for out in maps]
    assert info.reduction() == base.feature_info.reduction()
    assert info.channels()[-1] > base.feature_info.channels()[-1]
    assert base.feature_info.channels() == [out.shape[1] for out in features(base, 64)]


@pytest.mark.parametrize(
    ("name", "flat"),
    [("resnet18", False), ("regnetx_002", False), ("mobilenetv2_035", True), ("vgg11_bn", True)],
)
def test_a_scaled_classifier_gives_its_features_through_a_list(name, flat):
    scaled = scaled_up(meta(name)).module
    listed = FeatureListNet(scaled, out_indices=(1, 2, 3), flatten_sequential=flat)
    assert listed.feature_info.channels() == [out.shape[1] for out in features(listed, 64)]


@pytest.mark.parametrize("name", FORWARDED)
def test_intermediates_have_the_channels_that_feature_info_tells(name):
    scaled = scaled_up(meta(name)).module.eval()
    told = [entry["num_chs"] for entry in scaled.feature_info]
    image = torch.zeros(1, 3, 64, 64, device="meta")
    _, found = scaled.forward_intermediates(image)
    assert [out.shape[1] for out in found] == told


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "convnext_atto"])
def test_a_scaled_network_tells_what_its_classifier_takes(name):
    scaled = scaled_up(meta(name)).module
    assert scaled.num_features == features(_Trunk(scaled), 64)[0].shape[0]
    assert scaled.head_hidden_size == scaled.get_classifier().in_features


class _Trunk(nn.Module):
    """The channels that a timm network has before its head."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image):
        return self.network.forward_features(image)


def test_torchvisions_extractor_reads_the_stages_of_a_scaled_network():
    module = torchvision.models.resnet18(weights=None)
    scaled = cs.scale(module, strategy="dWr", factor=2, resolution=64)
    nodes = {"layer1": "low", "layer4": "high"}
    found = create_feature_extractor(scaled.module.eval(), nodes)(torch.zeros(1, 3, 64, 64))
    assert found["low"].shape[2:] == (16, 16)
    assert found["high"].shape[1] == scaled.module.fc.in_features > 512


def test_torchvisions_getter_of_layers_scales_with_the_features_that_it_hands_out():
    body = torchvision.models.resnet18(weights=None)
    getter = segmentation.IntermediateLayerGetter(body, {"layer2": "low", "layer4": "high"})
    scaled = cs.scale(getter, strategy="dWr", factor=2, resolution=64).module.eval()
    found = scaled(torch.zeros(1, 3, 64, 64))
    assert list(found) == ["low", "high"]
    assert found["low"].shape[1] == scaled["layer2"][-1].bn2.num_features > 128
    assert found["high"].shape[1] == scaled["layer4"][-1].bn2.num_features > 512


def test_a_detection_backbone_tells_the_channels_of_its_pyramid():
    body = torchvision.models.resnet18(weights=None)
    layers = {f"layer{level}": str(level) for level in (1, 2, 3, 4)}
    base = BackboneWithFPN(body, layers, [64, 128, 256, 512], 256)
    result = cs.scale(base, strategy="dWr", factor=2, resolution=64)
    assert any("Outputs keep their channels" in n and "fpn.layer_blocks" in n for n in result.notes)
    scaled = result.module.eval()
    found = scaled(torch.zeros(1, 3, 64, 64))
    assert list(found) == ["1", "2", "3", "4", "pool"]
    assert {out.shape[1] for out in found.values()} == {scaled.out_channels}
    # Straight from convolutions that nothing reads: they stay, as the head behind them needs.
    assert scaled.out_channels == base.out_channels
    assert scaled.body["layer4"][-1].bn2.num_features > 512


def test_torchvisions_own_pyramid_stands_on_a_scaled_resnet():
    """It takes each stage to be twice as wide as the one before, as they are by a factor of 4."""
    body = cs.scale("torchvision:resnet50", strategy="w", factor=4).module
    assert body.inplanes == body.fc.in_features == 4096
    found = _resnet_fpn_extractor(body, 5).eval()(torch.zeros(1, 3, 64, 64))
    assert {out.shape[1] for out in found.values()} == {256}


@pytest.mark.parametrize(("strategy", "factor"), [("d", 2), ("dwr", 2), ("d", 0.5)])
def test_torchvisions_own_heads_find_the_stages_of_a_deepened_mobilenet_by_their_numbers(
    strategy, factor
):
    asked = {"strategy": strategy, "factor": factor, "resolution": 64}
    body = cs.scale(torchvision.models.mobilenet_v3_large(weights=None), **asked).module
    found = _mobilenet_extractor(body, True, 6).eval()(torch.zeros(1, 3, 64, 64))
    assert {out.shape[1] for out in found.values()} == {256}
    body = cs.scale(torchvision.models.mobilenet_v3_large(weights=None), **asked).module
    head = _lraspp_mobilenetv3(body, 21).eval()
    assert head(torch.zeros(1, 3, 64, 64))["out"].shape == (1, 21, 64, 64)


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0"])
def test_added_blocks_tell_the_channels_that_they_put_out(name):
    with torch.device("meta"):
        module = getattr(torchvision.models, name)(weights=None)
    scaled = cs.scale(module, strategy="dw", factor=4, resolution=64, weights=False)
    assert any(edit.added for edit in scaled.plan.depth)
    seen = _told_and_put_out(scaled.module, 64)
    assert len(seen) > len(_told_and_put_out(module, 64))
    assert [told for told, _ in seen] == [real for _, real in seen]


def _told_and_put_out(module: nn.Module, side: int) -> list[tuple[int, int]]:
    """What each block tells in `out_channels`, and the channels of its output."""
    seen: list[tuple[int, int]] = []

    def look(block, _, output):
        seen.append((block.out_channels, output.shape[1]))

    hooks = [
        part.register_forward_hook(look)
        for part in module.modules()
        if "out_channels" in vars(part) and not isinstance(part, nn.Conv2d)
    ]
    features(module, side)
    for hook in hooks:
        hook.remove()
    return seen


def test_what_a_scaled_network_tells_is_saved_and_loaded(tmp_path):
    scaled = cs.scale("timm:resnet18", strategy="dWr", factor=1.5, resolution=64)
    loaded = cs.load(scaled.save(tmp_path / "saved"))
    assert loaded.module.feature_info == scaled.module.feature_info
    assert loaded.module.num_features == scaled.module.num_features > 512
    assert loaded.module.pretrained_cfg == scaled.module.pretrained_cfg
    side, _ = sides(loaded.resolution)
    listed = FeatureListNet(loaded.module.eval(), out_indices=(2, 4))
    maps = listed(torch.zeros(1, 3, side, side))
    assert listed.feature_info.channels() == [out.shape[1] for out in maps]


# Lists that hold several stages: code counts their blocks, or takes all but the last.
COUNTED = """
rexnet_100 vovnet39a inception_v4 starnet_s050 halo2botnet50ts_256 repghostnet_050 resnet50_clip
xception41 mobilenetv2_100
""".split()


@pytest.mark.parametrize("name", COUNTED)
@pytest.mark.parametrize(("strategy", "factor"), [("d", 2.0), ("dWr", 0.5)])
def test_intermediates_of_lists_of_several_stages_are_those_that_feature_info_tells(
    name, strategy, factor
):
    base = cs.scale(f"timm:{name}", strategy="w", factor=1, weights=False)
    scaled = cs.scale(f"timm:{name}", strategy=strategy, factor=factor, weights=False)
    found = []
    for one in (base, scaled):
        side = sides(one.resolution)[0]
        with torch.no_grad():
            maps = one.module.eval().forward_intermediates(
                torch.zeros(1, 3, side, side, device="meta"), intermediates_only=True
            )
        assert [out.shape[1] for out in maps] == [e["num_chs"] for e in one.module.feature_info]
        found.append([-(-side // out.shape[-1]) for out in maps])
    assert len(found[0]) == len(found[1])
    assert strategy != "d" or found[0] == found[1]


@pytest.mark.parametrize("name", ["vgg11_bn", "dpn68"])
@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_features_are_taken_where_the_stages_of_a_deepened_network_end(name, factor):
    base = meta(name).eval()
    module = cs.scale(base, strategy="d", factor=factor, resolution=64, weights=False).module
    image = torch.zeros(1, 3, 64, 64, device="meta")
    with torch.no_grad():
        before = base.forward_intermediates(image, intermediates_only=True)
        after = module.forward_intermediates(image, intermediates_only=True)
    assert [map_.shape[2:] for map_ in after] == [map_.shape[2:] for map_ in before]
    assert [map_.shape[1] for map_ in after] == [entry["num_chs"] for entry in module.feature_info]


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_features_end_where_they_did_in_a_network_that_calls_its_layers_by_name(factor):
    base = meta("inception_v3").eval()
    module = cs.scale(base, strategy="d", factor=factor, resolution=75, weights=False).module
    image = torch.zeros(1, 3, 75, 75, device="meta")
    with torch.no_grad():
        before = base.forward_intermediates(image, intermediates_only=True)
        after = module.forward_intermediates(image, intermediates_only=True)
    assert [map_.shape for map_ in after] == [map_.shape for map_ in before]


class Embedding(nn.Module):
    """Scores, and beside them the features that they are made from."""

    def __init__(self):
        super().__init__()
        self.body, self.exit = timm.create_model("resnet18", num_classes=0), nn.Linear(512, 10)

    def forward(self, x):
        features = self.body(x)
        return self.exit(features), features


def test_an_embedding_beside_scores_stays_and_a_note_says_so():
    with torch.device("meta"):
        base = Embedding()
    scaled = cs.scale(base, strategy="w", factor=2, resolution=64, weights=False)
    note = "Outputs taken for embeddings keep their width, as what puts them out: output 2 (1×512)."
    assert note in scaled.notes
    assert scaled.module.exit.in_features == 512
    assert not any("embeddings" in note for note in scaled_up(meta("resnet18")).notes)
