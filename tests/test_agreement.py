"""Counts of timm's architectures against PyTorch's counter and against timm's published tables."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import nn

import convscale as cs
from benchmarks.agreement import LIST, TABLES, Entry, Row, compare, entries, near
from benchmarks.agreement_page import CAUSES, cause_of, page
from tests.timm_families import FAMILIES

SAMPLE = FAMILIES[::2]


@cache
def published() -> dict[str, Entry]:
    """The architectures of the tables at their smallest sizes."""
    if not TABLES.exists():
        return {}
    known = [entry for entry in entries(LIST.read_text().split(), TABLES) if entry.resolution]
    by_size = sorted(known, key=lambda entry: -(entry.resolution or 0))
    return {entry.architecture: entry for entry in by_size}


@cache
def row_of(name: str) -> Row:
    return compare(published().get(name, Entry(name)))


@pytest.mark.parametrize("name", SAMPLE)
def test_counts_are_half_of_pytorchs_and_params_the_sum_over_parameters(name):
    row = row_of(name)
    assert row.torch_flops == 2 * row.flops
    assert row.params == row.parameters


@pytest.mark.parametrize("name", SAMPLE)
def test_the_convention_fvcore_gives_the_published_figures(name):
    if name not in published():
        pytest.skip("the tables are not at hand, or do not hold the network")
    row = row_of(name)
    assert row.agrees_with_table or cause_of(name), row


def test_the_sample_is_of_forty_families():
    assert len(set(SAMPLE)) == 40


def test_the_tables_lack_the_depthwise_convolutions_of_convmixer():
    nn_of = pytest.importorskip("fvcore.nn", reason="fvcore is not installed")
    layer, x = nn.Conv2d(4, 4, 3, groups=4, padding="same"), torch.zeros(1, 4, 8, 8)
    counter = nn_of.FlopCountAnalysis(layer, x).unsupported_ops_warnings(False)
    assert counter.total() == 0
    assert dict(counter.unsupported_ops()) == {"aten::_convolution_mode": 1}
    # 32 blocks of 768 channels at 32x32 positions, kernels of 7x7: timm's tables have 19.55
    # GMAC and 25.95 M acts
    found = cs.count("timm:convmixer_768_32", resolution=224, convention="fvcore")
    unseen = 32 * 768 * 32 * 32
    assert near((found.flops - 49 * unseen) / 1e9, 19.55)
    assert near((found.acts - unseen) / 1e6, 25.95)


def test_the_tables_hold_another_network_under_the_name_of_ecaresnext50t():
    # 2.70 GMAC, 10.09 M acts and 15.41 M params at 224 px
    found = cs.count("timm:ecaresnext26t_32x4d", resolution=224, convention="fvcore")
    assert near(found.flops / 1e9, 2.70)
    assert near(found.acts / 1e6, 10.09)
    assert near(found.params / 1e6, 15.41)


def test_a_page_names_what_differs_and_why():
    alike = Row("net", 224, 5, 3, 2, 10, 3, 4_110_000_000, 11_110_000, 4.11, 11.11)
    other = Row("convmixer_768_32", 224, 5, 3, 2, 11, 3, 20_780_000_000, 51_119_000, 19.55, 25.95)
    text = page([alike, other])
    assert "| 2 | 1 (50.0 %) |" in text
    line = f"| convmixer_768_32 | 224 | 19.55 | 20.78 | 25.95 | 51.12 | {CAUSES['convmixer']} |"
    assert line in text.splitlines()
    assert "| convmixer_768_32 | 224 | 5 | 6 |" in text.splitlines()


@pytest.mark.parametrize(
    ("value", "printed", "agrees"),
    [(4.1149, 4.11, True), (4.1310, 4.11, False), (0.034, 0.03, True), (0.0351, 0.03, False)],
)
def test_near_is_half_a_per_cent_or_half_a_digit(value, printed, agrees):
    assert near(value, printed) == agrees
