"""One architecture of each family of timm, by width and by all axes, scaled."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from convscale.network import resolve_base
from convscale.scaling import Scaler
from tests import checks
from tests.timm_families import FAMILIES, LARGE

LIST = Path(__file__).parents[2] / "shared" / "golden" / "timm_conv_architectures.txt"
CASES = [
    (name, strategy)
    for name in FAMILIES
    for strategy in ("w", "dWr")
    if strategy == "w" or name not in LARGE
]


@cache
def scaler(name: str) -> Scaler:
    return Scaler(resolve_base(f"timm:{name}"))


@pytest.fixture(autouse=True)
def _forget():
    yield
    if scaler.cache_info().currsize > 1:  # the tests of a network stand together
        scaler.cache_clear()


@pytest.mark.parametrize(("name", "strategy"), CASES)
def test_a_family_is_scaled_by_two(name, strategy):
    scaled = scaler(name).scale(strategy, factor=2.0, weights=False)
    base = scaler(name).blueprint.module
    flops = scaled.achieved.flops
    assert (flops, (1, 1000)) == checks.counted_run(scaled.module, scaled.resolution)
    checks.check_state_dict_keys(base, scaled)
    if not 1.8 <= scaled.ratio["flops"] <= 2.2:
        assert any(note.startswith("Flops grow") for note in scaled.notes)


def test_the_sample_holds_every_family_once_or_more():
    if not LIST.exists():
        pytest.skip("the list of architectures is not at hand")
    import timm
    from timm.models import _registry

    architectures = LIST.read_text().split()
    assert len(FAMILIES) == len(set(FAMILIES)) == 80
    assert set(FAMILIES) <= set(architectures)
    assert all(timm.is_model(name) for name in FAMILIES)
    module_of = _registry._model_to_module
    assert {module_of[name] for name in FAMILIES} == {module_of[name] for name in architectures}


def test_records_name_networks_of_the_sample():
    assert set(LARGE) <= set(FAMILIES)
