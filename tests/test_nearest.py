"""A budget gives no network that is farther from it than what the strategy gives by a factor."""

import pytest
from torch import nn

import convscale as cs


def narrow():
    """Few widths, each a few multiples: flops jump where they round."""
    rows = [(3, 8), (8, 8), (8, 16), (16, 16), (16, 32), (32, 32)]
    layers = [
        layer
        for a, b in rows
        for layer in (nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU())
    ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


@pytest.mark.parametrize("strategy", ["dWr", "w", "dw"])
@pytest.mark.parametrize("wanted", [0.4, 0.5, 0.6, 0.8, 1.5])
def test_no_factor_gives_a_network_nearer_to_a_budget(strategy, wanted):
    net = narrow()
    budget = wanted * cs.count(net, resolution=32).flops
    asked = {"strategy": strategy, "resolution": 32, "weights": False}
    found = cs.scale(net, flops=budget, **asked).ratio["flops"]
    others = [cs.scale(net, factor=s, **asked).ratio["flops"] for s in (wanted, wanted * 1.1)]
    misses = [abs(other / wanted - 1) for other in others]
    assert abs(found / wanted - 1) <= max(min(misses), 0.03)
