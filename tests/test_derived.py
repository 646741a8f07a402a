"""What candidates run is derived from their base's run: equal to what the built ones run."""

from dataclasses import replace

import pytest

from convscale.complexity.operators import record_network
from convscale.prediction.predict import ELEMENTS, predicted, workload_of
from convscale.prediction.store import profile_of
from convscale.scaling import resolve
from convscale.scaling.scaler import Scaler
from convscale.selection.constraints import Constraint
from convscale.strategy import parse_strategy
from convscale.study.costed import Conditions, costs_of
from convscale.study.derived import Derived
from convscale.study.scaled_source import Ask, Found
from convscale.study.traced_source import TracedSource

ASKS = [("w", 1.7), ("d", 2.5), ("d", 0.4), ("r", 0.6), ("dwr", 3.0), ("dWr", 0.3)]
# Plain blocks; depthwise ones with squeeze-and-excitation; grouped ones; layer norms along the
# last axis; branches of several resolutions, which few sides suit; channels that are shuffled.
NETWORKS = [
    "resnet18",
    "mobilenetv3_small_050",
    "regnety_002",
    "convnext_atto",
    "hrnet_w18_small",
    "torchvision:shufflenet_v2_x0_5",
]


@pytest.mark.parametrize("network", NETWORKS)
def test_derived_operators_are_those_of_the_network_that_is_built(network):
    scaler = Scaler(resolve(network, resolution=96), records=True)
    derived = Derived(scaler)
    told = 0
    for name, factor in ASKS:
        rule = parse_strategy(name)
        own = derived.of(rule, scaler.planned(rule, factor))
        built = scaler.scale(name, factor=factor, weights=False)
        if own is not None:
            assert own == record_network(built.as_network(), dtype=ELEMENTS)
            told += 1
    assert told == len(ASKS)


def test_derived_times_are_those_of_the_network_that_is_built():
    profile = profile_of("rtx3090-amp-nchw")
    limits = [Constraint("latency_ms", 80.0)]
    wanted = frozenset(("latency_ms",))
    how = Conditions(profile, 64)
    base = resolve("regnety_002", resolution=128)
    source = TracedSource(base, wanted, how, limits)
    asks = [Ask(parse_strategy(name), factor, name) for name, factor in ASKS * 2]
    found = [one for one in source.answers(asks) if isinstance(one, Found)]
    assert len(found) == len(asks)
    for one in found:
        built = source.built(one.ask).as_network()
        work = workload_of(record_network(built, dtype=ELEMENTS))
        own = predicted(
            work, profile, network=built.name, resolution=built.resolution, batch_size=64
        )
        assert one.values["latency_ms"] == own.latency_ms


def test_candidates_are_built_only_until_every_way_of_differing_was_seen(monkeypatch):
    source = TracedSource(
        resolve("resnet18", resolution=64),
        frozenset(("latency_ms",)),
        Conditions(profile_of("rtx3090-amp-nchw"), 64),
        [Constraint("latency_ms", 80.0)],
    )
    source.answers([Ask(parse_strategy("dwr"), 8.0, "dwr"), Ask(parse_strategy("dwr"), 0.2, "dwr")])
    source.answers([Ask(parse_strategy("d"), factor, "d") for factor in (0.4, 1.5, 3.0)])
    monkeypatch.setattr(source._scaler, "scale", None)
    more = source.answers([Ask(parse_strategy("dWr"), factor, "dWr") for factor in (0.5, 4.0)])
    assert all(isinstance(one, Found) for one in more)


def test_nothing_is_derived_once_a_built_network_ran_something_else():
    scaler = Scaler(resolve("resnet18", resolution=64), records=True)
    rule, derived = parse_strategy("w"), Derived(scaler)
    found = scaler.planned(rule, 2.0)
    own = derived.of(rule, found)
    derived.compare(found, own, own)
    assert derived.is_proved(found)
    derived.compare(found, own, replace(own, calls=own.calls[1:]))
    assert derived.of(rule, found) is None


def test_width_multiples_and_hours_come_from_derived_operators_too():
    base = resolve("resnet18", resolution=64)
    source = TracedSource(base, frozenset(("width_multiple",)), Conditions(), [])
    found = source.answers([Ask(parse_strategy("w"), factor, "w") for factor in (1.5, 2.0, 3.0)])
    for one in found:
        own = costs_of(
            f"resnet18@w:{one.ask.factor:g}", 64, frozenset(("width_multiple",)), source.how
        )
        assert one.values["width_multiple"] == own.values["width_multiple"]
