"""Searches against brute force: the choice, the front, and what a dense grid would have found."""

from __future__ import annotations

import numpy as np
import pytest

import convscale as cs
from convscale.families import count_many
from convscale.families.registry import named
from convscale.families.scaled_many import scale_many
from convscale.selection.constraints import parse_constraint
from convscale.selection.objective import FlopsStandIn
from convscale.selection.rays import Ray
from convscale.selection.select import select

GPU = "rtx3090-amp-nchw"


@pytest.fixture(scope="module")
def searched():
    """A pool of some thousand scaled versions with three quantities."""
    found = cs.select(
        "RegNetX-800MF", limits=["latency<=30ms", "params<=20M"], profile=GPU, batch_size=64
    )
    return found.found


def by_brute_force(pool, limits, uncertainty):
    """Choose with nothing but loops: the most flops, and of nearly equal ones the least latency."""
    rows = [
        (pool.labels[at], {name: float(own[at]) for name, own in pool.values.items()})
        for at in range(len(pool))
    ]
    fitting = [(label, row) for label, row in rows if all(row[o] <= limit for o, limit in limits)]
    most = max(row["flops"] for _, row in fitting)
    near = [
        (label, row)
        for label, row in fitting
        if row["flops"] * (1 + uncertainty) > most or row["flops"] == most
    ]
    return min(near, key=lambda pair: (pair[1]["latency_ms"], -pair[1]["flops"], pair[0]))[0]


@pytest.mark.parametrize("uncertainty", [0.0, 0.05, 0.2])
@pytest.mark.parametrize(("ms", "params"), [(30, 20e6), (12, 20e6), (30, 6e6), (9, 5e6)])
def test_the_choice_is_that_of_brute_force(searched, ms, params, uncertainty):
    limits = [("latency_ms", ms), ("params", params)]
    asked = [parse_constraint(f"latency<={ms}ms"), parse_constraint(f"params<={params}")]
    chosen = select(searched.pool, FlopsStandIn(uncertainty), asked).label
    assert chosen == by_brute_force(searched.pool, limits, uncertainty)


def test_a_relaxed_limit_never_gives_fewer_flops(searched):
    best = []
    for ms in np.geomspace(6, 40, 12):
        asked = [parse_constraint(f"latency<={ms}ms"), parse_constraint("params<=20M")]
        found = select(searched.pool, FlopsStandIn(0.0), asked)
        best.append(searched.pool.values["flops"][found.chosen])
    assert best == sorted(best)
    assert best[0] < best[-1]


def test_the_front_is_undominated_and_complete(searched):
    pool = searched.pool
    cost, gain = pool.values["latency_ms"], pool.values["flops"]
    kept = pool.values["params"] <= 20e6
    expected = {
        at
        for at in np.flatnonzero(kept)
        if not (
            kept & (cost <= cost[at]) & (gain >= gain[at]) & ((cost < cost[at]) | (gain > gain[at]))
        ).any()
    }
    assert set(searched.front) == expected


def test_the_order_of_candidates_does_not_matter(searched):
    rng = np.random.default_rng(1)
    asked = [parse_constraint("latency<=20ms"), parse_constraint("params<=12M")]
    labels = {
        select(searched.pool.only(rng.permutation(len(searched.pool))), FlopsStandIn(), asked).label
        for _ in range(4)
    }
    assert len(labels) == 1


def test_no_two_candidates_are_the_same_network(searched):
    pool = searched.pool
    assert len(set(pool.labels)) == len(pool)


@pytest.mark.parametrize(
    ("network", "flops", "params"),
    [("RegNetY-4.0GF", 9e9, 30e6), ("EfficientNet-B0", 0.9e9, 9e6), ("ResNet-50", 3e9, 30e6)],
)
def test_a_dense_grid_finds_hardly_more_than_the_search(network, flops, params):
    shares = [(d / 12, w / 12, (12 - d - w) / 12) for d in range(13) for w in range(13 - d)]
    factors = np.exp(np.linspace(np.log(0.2), np.log(6), 120))
    rows = np.repeat([(d, w, r, w) for d, w, r in shares], len(factors), axis=0)
    grid = scale_many(named(network), rows, factor=np.tile(factors, len(shares)))
    costs = count_many(grid.candidates)
    best = int(costs.flops[(costs.flops <= flops) & (costs.params <= params)].max())
    found = cs.select(network, limits=[f"flops<={flops}", f"params<={params}"], uncertainty=0)
    assert found.found.pool.values["flops"][found.found.chosen] >= 0.995 * best


def test_along_one_strategy_a_grid_of_factors_finds_no_more():
    found = cs.select("resnet18", limits=["flops<=3G"], strategies=["dw"], uncertainty=0)
    flops = found.found.pool.values["flops"][found.found.chosen]
    grid = [
        cs.scale("resnet18", strategy="dw", factor=s, weights=False).achieved.flops
        for s in np.linspace(1.3, 1.9, 7)
    ]
    assert flops >= max(one for one in grid if one <= 3e9) * 0.97


def test_a_confidence_keeps_limits_with_the_end_of_the_interval():
    asked = {"limits": ["latency<=30ms"], "profile": GPU, "batch_size": 64}
    even, sure = (
        cs.select("RegNetX-800MF", confidence=level, candidates=2000, **asked)
        for level in (0.5, 0.9)
    )
    told = cs.predict(sure.chosen.network, profile=GPU, batch_size=64, coverage=0.8)
    bound = sure.found.pool.bounds["latency_ms"][sure.found.chosen]
    assert bound == pytest.approx(told.interval_ms[1], rel=1e-9)
    assert bound <= 30
    flops = [one.found.pool.values["flops"][one.found.chosen] for one in (even, sure)]
    assert flops[1] < flops[0]


def test_widths_of_a_traced_network_are_multiples_of_what_was_asked():
    found = cs.select(
        "resnet18", limits=["flops<=3G", "width_multiple%32"], strategies=["w", "dWr"]
    )
    label = found.chosen.network
    assert label.endswith(":nearest32")
    widths = {
        call.geometry.out_channels
        for call in cs.operators(label).calls
        if call.kind.startswith("convolution")
    }
    assert all(width % 32 == 0 for width in widths)


def test_a_network_without_an_axis_is_searched_along_the_others():
    from torch import nn

    up = [nn.ConvTranspose2d(a, b, 2, 2) for a, b in ((3, 16), (16, 32))]
    layers = [up[0], nn.ReLU(), up[1], nn.ReLU()]
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))
    flops = 2 * cs.count(net, resolution=32).flops
    found = cs.select(net, limits=[f"flops<={flops}"], resolution=32, strategies=["d", "w"])
    assert found.chosen.scaled.ask.series == "w"
    note = next(note for note in found.notes if note.startswith("Left out"))
    assert "@d." in note
    assert "scales depth" in note
    assert found.command is None
    assert found.build().achieved.flops <= flops


@pytest.mark.parametrize("edge", np.linspace(-2.0, 1.0, 13))
@pytest.mark.parametrize("below", [-0.02, -0.17, -0.6])
@pytest.mark.parametrize("above", [0.005, 0.05])
def test_a_step_of_rounding_is_found_along_a_strategy(edge, below, above):
    ray = Ray(start=0.1, most=12)
    while (at := ray.next()) is not None:
        steps = np.floor((at - edge) / 0.3)
        ray = ray.with_margin(at, above + 0.3 * steps if at >= edge else below + 0.3 * (steps + 1))
    assert ray.low[0] < edge <= ray.high[0]
    assert ray.high[0] - ray.low[0] < 0.021


def test_what_fits_along_one_share_of_width_is_as_good_as_on_a_dense_grid():
    limits = ["flops<=2.52G"]
    found = cs.select("RegNetY-4.0GF", strategies=["dWr@0.6"], limits=limits, uncertainty=0.0)
    grid = [
        cs.count(f"RegNetY-4.0GF@dWr@0.6:{factor:.4g}:reference").flops
        for factor in np.geomspace(0.4, 0.8, 60)
    ]
    assert found.as_document()["values"]["flops"] >= max(flops for flops in grid if flops <= 2.52e9)


def test_a_range_of_sides_that_holds_at_the_base_holds_back_no_width():
    limits = ["flops<=2G", "resolution<=224"]
    ranged, free = (
        cs.select("RegNetY-400MF", limits=own, strategies=["w"]).found
        for own in (limits, limits[:1])
    )
    flops = [one.pool.values["flops"][one.chosen] for one in (ranged, free)]
    assert flops[0] == flops[1] > 1.8e9


@pytest.mark.parametrize("most", [256, 320, 1000])
def test_a_range_of_sides_is_filled_along_the_resolution_where_all_else_is_loose(most):
    limits = [f"resolution<={most}", "flops<=200G"]
    found = cs.select("resnet18", limits=limits, strategies=["r"]).found
    sides = found.pool.values["resolution_px"]
    assert max(sides[sides <= most]) >= 0.97 * most
    assert sides[found.chosen] <= most
