"""Published strategies give the networks that their authors published, as timm builds them."""

from functools import cache

import pytest
import timm
import torch

import convscale as cs
from convscale.errors import InputError
from convscale.network import resolve_base
from convscale.scaling import Scaler
from tests.checks import torch_flops

# Base, entry of a table, timm's network of that entry, its resolution (None: timm's own).
PUBLISHED = [
    ("timm:efficientnet_b0", "efficientnet-table@b1", "tf_efficientnet_b1", 240),
    ("timm:efficientnet_b0", "efficientnet-table@b3", "tf_efficientnet_b3", 300),
    ("timm:efficientnet_b0", "efficientnet-table@b7", "tf_efficientnet_b7", 600),
    ("timm:efficientnet_b0", "tinynet@a", "tinynet_a", None),
    ("timm:efficientnet_b0", "tinynet@e", "tinynet_e", None),
    ("timm:convnext_tiny", "convnext@small", "convnext_small", 224),
    ("timm:convnext_tiny", "convnext@base", "convnext_base", 224),
    ("timm:mobilenetv2_100", "mobilenetv2@1.4", "mobilenetv2_140", 224),
]


@cache
def scaler(name):
    return Scaler(resolve_base(name))


@pytest.mark.parametrize(("base", "entry", "name", "side"), PUBLISHED)
def test_an_entry_of_a_table_has_the_flops_and_params_of_the_published_network(
    base, entry, name, side
):
    found = scaler(base).scale(entry, weights=False)
    with torch.device("meta"):
        published = timm.create_model(name)
    side = side or published.default_cfg["input_size"][-1]
    assert found.resolution == side
    assert found.achieved.params == sum(p.numel() for p in published.parameters())
    assert found.achieved.flops == torch_flops(published.eval(), side)


def test_an_entry_of_a_table_takes_no_factor():
    with pytest.raises(InputError, match="has factors of its own .*: leave out the factor or budg"):
        cs.scale("efficientnet_b0", strategy="efficientnet-table@b1", factor=2)


def test_a_formula_takes_any_factor():
    """EfficientNet's α, β, γ (arXiv 1905.11946) at two steps: s = (1.2·1.1²·1.15²)²."""
    step = 1.2 * 1.1**2 * 1.15**2
    found = scaler("timm:efficientnet_b0").scale("efficientnet", factor=step**2, weights=False)
    factors = found.factors
    assert factors.depth == pytest.approx(1.2**2)
    assert factors.width == pytest.approx(1.1**2)
    assert factors.resolution == pytest.approx(1.15**2)


def test_a_scaled_entry_comes_back_from_its_folder_with_its_rules(tmp_path):
    made = cs.scale("timm:mobilenetv2_100", strategy="mobilenetv2@1.4", resolution=64)
    again = cs.load(made.save(tmp_path / "wide"))
    assert again.achieved == made.achieved
    assert again.strategy.rules == made.strategy.rules
