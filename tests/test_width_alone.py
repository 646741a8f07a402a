"""Scaling in width asks nothing about depth: finding stages takes many runs of the network."""

from __future__ import annotations

import pytest

import convscale as cs
from convscale.errors import ConvscaleError
from convscale.scaling.depths.deepenable import Deepenable


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "mobilenetv3_small_100"])
@pytest.mark.parametrize("target", [{"factor": 2.0}, {"factor": 1.07}, {"params": 6e6}])
def test_no_stage_is_looked_for(name, target, monkeypatch):
    def found(self):
        raise AssertionError("stages were looked for")

    monkeypatch.setattr(Deepenable, "found", property(found))
    scaled = cs.scale(f"timm:{name}", strategy="w", weights=False, **target)
    assert scaled.achieved.params > 0
    with pytest.raises((AssertionError, ConvscaleError)):
        cs.scale(f"timm:{name}", strategy="d", factor=2, weights=False)
