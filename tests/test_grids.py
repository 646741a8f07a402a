"""Axes that are laid into one: kernels in rows, and the groups of their convolutions."""

from __future__ import annotations

import pytest

from convscale.network import resolve_base
from convscale.scaling import Scaler


@pytest.fixture(scope="module")
def conditional():
    scaler = Scaler(resolve_base("timm:tf_efficientnet_cc_b0_4e"))
    return scaler.scale("w", factor=4.0, weights=False)


def test_kernels_in_rows_grow_with_both_widths_and_experts_stay(conditional):
    block = conditional.module.blocks[4][0]
    rows, width = block.conv_pw.weight.shape
    assert (rows, block.routing_fn.out_features) == (4, 4)
    assert width == block.conv_pw.in_channels * block.conv_pw.out_channels
    assert block.conv_dw.weight.shape[1] == block.conv_dw.groups * 25
    assert (block.conv_pw.in_channels, block.conv_dw.groups) == (160, 960)  # 80 and 480, doubled


def test_flops_of_such_a_network_grow_as_asked(conditional):
    # 4 times, but for the depthwise layers, the stem and the classifier, which double
    assert 3.6 < conditional.ratio["flops"] < 4.0


def test_branches_of_an_added_depthwise_block_have_groups_of_their_own():
    scaled = Scaler(resolve_base("timm:fastvit_mci0")).scale("dWr", factor=2.0, weights=False)
    assert 1.8 < scaled.ratio["flops"] < 2.2
