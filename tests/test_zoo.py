"""Networks as other zoos have them: scaled to their counterparts by hand, or refused cleanly."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import nn

import convscale as cs
from convscale.network.sources.network import from_module
from convscale.scaling import ScaledNetwork, Scaler
from tests.checks import check_state_dict_keys
from tests.zoo import ZOO, checks
from tests.zoo.records import FIXED_SIDE, NAMED, WRONG

DEEP = [name for name in ZOO if ZOO[name].deep]
# One of each way to write a forward pass that an exporter may stumble over.
EXPORTED = (
    "basic",
    "shortcut padded by size",
    "layer scale, channels last",
    "weight-standardised",
    "hierarchical splits",
    "dense",
    "channel shuffle",
    "packed attention",
    "u-net",
    "feature pyramid",
    "atrous",
    "nested lists",
    "computed names",
)


def cases(names, *asked) -> list:
    """The networks, with those that are known to come out wrong marked: a fix must unmark them."""
    found = []
    for name in names:
        reasons = [WRONG[name, what] for what in (*asked, "all") if (name, what) in WRONG]
        marks = [pytest.mark.xfail(strict=True, reason=reason) for reason in reasons[:1]]
        found.append(pytest.param(name, marks=marks))
    return found


@cache
def base(name: str) -> nn.Module:
    torch.manual_seed(0)
    return ZOO[name].make(1, 1)


@cache
def scaler(name: str) -> Scaler:
    return Scaler(from_module(base(name)), resolution=ZOO[name].side)


@cache
def along_all_axes(name: str) -> ScaledNetwork:
    """Four times the flops: wider, and deeper and finer as far as the network allows."""
    return scaler(name).scale("w" if name in FIXED_SIDE else "dwr", factor=4.0)


@pytest.mark.parametrize("name", cases(ZOO, "w"))
def test_four_times_the_flops_by_width_is_the_network_made_twice_as_wide(name):
    scaled = scaler(name).scale("w", factor=4.0, weights=False)
    assert checks.shapes(scaled.module) == checks.shapes(ZOO[name].make(2, 1))


@pytest.mark.parametrize("name", cases(ZOO, "w"))
def test_half_the_width_is_taken_back_by_twice_the_width(name):
    wide = ZOO[name].make(2, 1)
    half = cs.scale(
        wide, strategy="w", factor=0.25, resolution=ZOO[name].side, weights=False
    )  # fmt: skip
    assert checks.shapes(half.module) == checks.shapes(base(name))


@pytest.mark.parametrize("name", cases(DEEP))
def test_twice_the_depth_is_the_network_made_twice_as_deep(name):
    scaled = scaler(name).scale("d", factor=2.0, weights=False)
    by_hand = checks.shapes(ZOO[name].make(1, 2))
    assert list(checks.shapes(scaled.module).values()) == list(by_hand.values())


@pytest.mark.parametrize("name", sorted(NAMED))
def test_layers_that_are_called_by_name_are_repeated(name):
    """They have no blocks: a convolution is added behind what the code bends."""
    scaled = scaler(name).scale("d", factor=2.0)
    assert checks.check_added_blocks_matter(scaled, ZOO[name].chans) > 0
    check_state_dict_keys(base(name), scaled)
    assert scaled.achieved.flops > scaled.base.flops


@pytest.mark.parametrize("name", cases(ZOO))
def test_outputs_keep_their_shapes_where_the_resolution_stays(name):
    kind, module = ZOO[name], base(name)
    scaled = scaler(name).scale("dw", factor=2.0)
    before = checks.output_shapes(module, kind.side, kind.chans)
    assert checks.output_shapes(scaled.module, kind.side, kind.chans) == before


@pytest.mark.parametrize("name", cases(ZOO, "train"))
def test_a_scaled_network_runs_and_trains(name):
    scaled = along_all_axes(name)
    assert scaled.resolution > ZOO[name].side or name in FIXED_SIDE
    check_state_dict_keys(base(name), scaled)
    checks.check_runs_and_trains(scaled.module, scaled.resolution, ZOO[name].chans)


@pytest.mark.parametrize("name", cases(DEEP))
def test_every_added_block_matters(name):
    scaled = scaler(name).scale("d", factor=2.0)
    assert checks.check_added_blocks_matter(scaled, ZOO[name].chans) > 0


@pytest.mark.parametrize("name", cases(ZOO, "again"))
def test_a_scaled_network_is_scaled_again(name):
    kind = ZOO[name]
    wide = scaler(name).scale("w", factor=4.0, weights=False)
    again = cs.scale(
        wide.module, strategy="w", factor=0.25, resolution=kind.side, weights=False
    )  # fmt: skip
    assert checks.shapes(again.module) == checks.shapes(base(name))


@pytest.mark.parametrize("name", cases(ZOO))
def test_a_saved_network_is_loaded_as_it_was(name, tmp_path):
    scaled = along_all_axes(name)
    loaded = cs.load(scaled.save(tmp_path / "net"), base=base(name))
    x = checks.image(scaled.resolution, ZOO[name].chans)
    before, after = (checks.outputs(net.module.eval(), x) for net in (scaled, loaded))
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("name", EXPORTED)
def test_a_scaled_network_is_exported_as_its_base_is(name):
    scaled, chans = along_all_axes(name), ZOO[name].chans
    for module, side in ((base(name), ZOO[name].side), (scaled.module, scaled.resolution)):
        x = checks.image(side, chans)
        program = torch.export.export(module.eval(), (x,), strict=False)
        found = checks.outputs(program.module(), x)
        for a, b in zip(found, checks.outputs(module, x), strict=True):
            torch.testing.assert_close(a, b)


def test_records_name_networks_of_the_zoo():
    assert NAMED | {name for name, _ in WRONG} <= set(ZOO)
