"""What plans derive of other depths is what runs of these depths show."""

import pytest
import torch
from torch import nn

from convscale.complexity.operators import record_network
from convscale.errors import UnscalableNetworkError
from convscale.prediction.predict import ELEMENTS
from convscale.scaling import resolve
from convscale.scaling.scaler import Scaler
from convscale.scaling.variants.deepest import Deepest
from convscale.scaling.variants.deriving import derived_calls
from convscale.strategy import parse_strategy
from convscale.study.costed import Conditions
from convscale.study.traced_source import TracedSource

ASKS = [("d", 1.7), ("dwr", 2.0), ("dWr", 0.4), ("dr", 2.5)]


class Layer(nn.Module):
    def __init__(self, inputs: int, growth: int = 16) -> None:
        super().__init__()
        self.inner = nn.Conv2d(inputs, 32, 1)
        self.outer = nn.Conv2d(32, growth, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, self.outer(self.inner(x).relu())], 1)


class Dense(nn.Module):
    """Two stages of dense layers, each of which reads all that was put out before."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, stride=2, padding=1)
        self.one = nn.Sequential(Layer(32), Layer(48), Layer(64))
        self.between = nn.Conv2d(80, 48, 1, stride=2)
        self.two = nn.Sequential(Layer(48), Layer(64), Layer(80), Layer(96))
        self.head = nn.Linear(112, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.two(self.between(self.one(self.stem(x)))).mean((2, 3)))


@pytest.mark.parametrize("network", [Dense, "densenet121"])
def test_dense_blocks_of_any_depth_are_those_of_the_network_that_is_built(network):
    own = network if isinstance(network, str) else network()
    scaler = Scaler(resolve(own, resolution=64), records=True)
    assert scaler.blueprint.runs_each_depth
    shown = []
    for name, factor in ASKS:
        found = scaler.planned(parse_strategy(name), factor)
        built = scaler.scale(name, factor=factor, weights=False)
        assert found.complexity == built.achieved
        calls = derived_calls(found)
        assert calls is not None
        assert tuple(calls) == record_network(built.as_network(), dtype=ELEMENTS).calls
        shown.append(found.variant.gone is not None)
    assert any(shown)  # some were read from a deeper run


def test_depths_are_followed_once_a_deeper_run_shows_something_else(monkeypatch):
    plans = Scaler(resolve(Dense(), resolution=64)).blueprint.planning()
    monkeypatch.setattr(Deepest, "_is_told", lambda *_: False)
    for depths in ((3, 5), (4, 4)):
        assert plans.variant(depths, 64).gone is None
        assert not plans._planning._holds


def test_stages_that_must_be_equally_deep_are_followed():
    def show(depths, resolution):
        del depths, resolution
        raise UnscalableNetworkError("They do not fit.")

    deepest = Deepest((2, 2), (True, True), (1, 1), 64, show, lambda *_: None)
    with pytest.raises(UnscalableNetworkError, match=r"They do not fit\."):
        deepest.traced((3, 3), 64)
    assert not deepest._holds


def test_few_deeper_networks_tell_many_depths():
    """Evenly deeper ones tell all that strategies ask for, by few factors between them."""
    plans = Scaler(resolve(Dense(), resolution=64)).blueprint.planning()
    own = (3, 4)
    for times in range(1, 25):
        depths = tuple(round(depth * (1 + times / 4)) for depth in own)
        assert plans.variant(depths, 64).depths == depths
    runs = plans._planning._deep
    assert len(runs) <= 10
    for depths in ((5, 30), (40, 6)):  # no stage is run deep for the sake of another
        plans.variant(depths, 64)
        assert sum(runs[-1]) <= 1.6 * sum(depths)


def test_exponents_between_strategies_deepen_dense_blocks_where_depths_are_told(monkeypatch):
    def between(wanted="flops"):
        base = resolve(Dense(), resolution=64)
        return TracedSource(base, frozenset((wanted,)), Conditions(), ()).between

    assert between() >= {"d", "w", "r"}
    assert between("training_memory_bytes") >= {"d", "w", "r"}
    assert "d" not in between("memory_bytes")  # each depth would be built and run dry
    monkeypatch.setattr(Deepest, "_is_told", lambda *_: False)
    assert between() >= {"w", "r"}
    assert "d" not in between()
