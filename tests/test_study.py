"""A comparison has a base row a network, and a row a strategy and factor."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass

import pytest
from torch import nn

from convscale.errors import InputError, UnscalableNetworkError
from convscale.runtime import Conditions, Measurement, Spread
from convscale.scaling import count
from convscale.selection import correlation
from convscale.strategy import parse_strategy
from convscale.study import Comparison, Row, compare
from convscale.study.compare import _time_notes

NAMES = ("resnet18", "mobilenetv3_small_050")


@dataclass
class Steps:
    """What a progress callback was told."""

    seen: list[tuple[int, int]]

    def __call__(self, done: int, total: int) -> None:
        self.seen.append((done, total))


class TwoStages(nn.Module):
    """Residual blocks of equal width, and a classifier."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(2)))
        self.head = nn.Linear(width, 10)

    def forward(self, images):
        return self.head(self.blocks(self.stem(images)).mean((2, 3)))


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x):
        return x + self.conv(x).relu()


@pytest.fixture(scope="module")
def counted() -> Comparison:
    return compare(NAMES, strategies=["w", "dWr"], factors=[2, 4.0], resolution=96)


@pytest.fixture(scope="module")
def measured() -> Comparison:
    steps = Steps([])
    found = compare(
        ["resnet18"],
        strategies=["w", "r"],
        factors=[2.0],
        resolution=64,
        measure=True,
        rounds=4,
        progress=steps,
    )
    done = [step[0] for step in steps.seen]
    assert done == sorted(done)
    assert steps.seen[-1] == (3 + 3 * 4, 3 + 3 * 4)  # three networks, four rounds of them
    return found


def test_there_is_a_base_row_and_one_a_strategy_and_factor(counted):
    asked = [(None, 1.0), ("w", 2.0), ("w", 4.0), ("dWr", 2.0), ("dWr", 4.0)]
    assert counted.networks == tuple(f"timm:{name}" for name in NAMES)
    for network in counted.networks:
        assert [(row.strategy, row.factor) for row in counted.of(network)] == asked


@pytest.mark.parametrize("name", NAMES)
def test_the_base_row_is_the_count_of_the_network(counted, name):
    base = counted.of(f"timm:{name}")[0]
    expected = count(name, resolution=96)
    assert (base.flops, base.params, base.acts) == (expected.flops, expected.params, expected.acts)
    assert base.ratio == {"flops": 1.0, "params": 1.0, "acts": 1.0}
    assert base.resolution == 96


def test_flops_come_to_the_factor_and_ratios_are_over_the_base(counted):
    for network in counted.networks:
        base, *scaled = counted.of(network)
        for row in scaled:
            assert row.ratio["flops"] == row.flops / base.flops
            assert row.ratio["acts"] == row.acts / base.acts
            assert 0.9 * row.factor < row.ratio["flops"] < 1.1 * row.factor or row.notes


def test_what_stands_twice_is_compared_once():
    found = compare(
        ["resnet18", "timm:resnet18"],
        strategies=["w", "w", parse_strategy("w")],
        factors=[2, 2.0],
        resolution=64,
    )
    assert [(row.network, row.strategy) for row in found.rows] == [
        ("timm:resnet18", None),
        ("timm:resnet18", "w"),
    ]


def test_two_modules_of_a_class_are_two_networks():
    nets = [TwoStages(16), TwoStages(32)]
    found = compare([*nets, nets[0]], strategies=["w"], factors=[4.0], resolution=16)
    assert found.networks == ("module:TwoStages", "module:TwoStages#2")
    small, _, large, _ = found.rows
    assert large.params > small.params


def test_factor_1_keeps_its_strategy_beside_the_base_row():
    found = compare(["resnet18"], strategies=["w"], factors=[1.0], resolution=64)
    base, same = found.rows
    assert (base.strategy, same.strategy) == (None, "w")
    assert (same.flops, same.params, same.acts) == (base.flops, base.params, base.acts)


def test_measured_rows_carry_their_spread_and_conditions(measured):
    assert measured.measured
    # Four rounds: a short network is timed twelve times in each, a longer one once.
    assert all(row.latency.repeats == row.processor.repeats for row in measured.rows)
    assert all(4 <= row.latency.repeats <= 48 for row in measured.rows)
    assert measured.conditions.rounds == 4
    assert measured.conditions.interleaved_networks == 3
    assert measured.conditions.rounds == 4
    assert measured.correlation == correlation(measured.rows)
    assert all(r is None or -1 <= r <= 1 for r in measured.correlation.values())


def test_the_document_follows_the_contract(counted, measured):
    document = json.loads(json.dumps(counted.as_document(), allow_nan=False))
    assert document["schema_version"] == 1
    assert document["network"] == [f"timm:{name}" for name in NAMES]
    assert document["correlation"] is None
    first = document["rows"][0]
    assert (first["strategy"], first["factor"]) == (None, 1.0)
    assert "latency_ms" not in first
    document = json.loads(json.dumps(measured.as_document(), allow_nan=False))
    assert document["network"] == "timm:resnet18"
    assert set(document["correlation"]) == {"flops", "params", "acts"}
    assert set(document["rows"][0]["latency_ms"]) == {"median", "iqr", "repeats", "interval"}


def test_the_table_has_a_line_a_row(counted, measured):
    table = counted.as_table()
    assert list(table["flops"]) == [row.flops for row in counted.rows]
    assert list(table["strategy"]) == [row.strategy for row in counted.rows]
    assert table["latency_ms"].isna().all()
    assert list(measured.as_table()["latency_ms"]) == [r.latency.median for r in measured.rows]


def test_latencies_that_are_uncertain_are_pointed_out():
    here = Conditions("cpu", "x86_64", 2, "float32", 2, "contiguous", "2.6.0")
    calm = Measurement("net", 8, 1, "inference", here, (1.0, 1.01, 1.02), (2.0,) * 3)
    wild = Measurement("net", 8, 1, "inference", here, (1.0, 1.5, 2.0), (0.9,) * 3)
    assert list(_time_notes([calm, calm], asked=1)) == []
    short, shared, wide = _time_notes([calm, wild], asked=5)
    assert short == "Stopped after 1 of 5 rounds: the time limit was reached."
    assert shared.startswith("1 of 2 networks ran for only about 30 % of their wall time")
    assert wide.startswith("1 of 2 latencies have an interquartile range above a fifth")


def test_the_labels_name_the_networks_again():
    row = Row("timm:resnet18", "dWr", 4.0, 224, 1, 1, 1, latency=Spread(1.0, 0.0, 3))
    assert row.label == "timm:resnet18@dWr:4"


def test_what_cannot_be_scaled_is_noted_where_something_can():
    # Its one layer cannot be repeated: even without its stride it would change the sides.
    net = nn.Sequential(
        nn.ConvTranspose2d(3, 16, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(4096, 10)
    )
    found = compare([TwoStages(), net], strategies=["w", "d"], factors=[2.0], resolution=8)
    assert ("module:TwoStages", "d") in {(row.network, row.strategy) for row in found.rows}
    assert ("module:Sequential", "d") not in {(row.network, row.strategy) for row in found.rows}
    assert len(found.notes) >= 1


def test_what_cannot_be_scaled_at_all_is_an_error():
    net = nn.Sequential(
        nn.ConvTranspose2d(3, 16, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(4096, 10)
    )
    with pytest.raises(UnscalableNetworkError):
        compare([net], strategies=["d"], factors=[2.0], resolution=8)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"networks": []}, "The list of networks is empty. Give at least one."),
        ({"strategies": []}, "The list of strategies is empty. Give at least one."),
        ({"factors": []}, "The list of factors is empty. Give at least one."),
        ({"factors": [2.0, 0.0]}, "The factor is 0.0; it must be positive and finite."),
        ({"factors": [math.inf]}, "The factor is inf; it must be positive and finite."),
        ({"measure": True, "device": "tpu"}, "Unknown device 'tpu'. Use cpu, cuda, cuda:1 (the "),
        ({"measure": True, "batch_size": 0}, "The batch size is 0; it must be at least 1."),
        ({"measure": True, "threads": 0}, "The number of threads is 0; it must be at least 1."),
        ({"measure": True, "rounds": 0}, "The number of rounds is 0; it must be at least 1."),
        ({"measure": True, "time_limit_s": 0.1}, "The time limit is 0.1 s; it must be at least"),
        ({"resolution": 0}, "The resolution is 0; it must be at least 1."),
    ],
)
def test_bad_values_get_one_line(options, said):
    given = {"networks": ["resnet18"], "strategies": ["w"], "factors": [2.0], **options}
    with pytest.raises(InputError, match=f"^{re.escape(said)}"):
        compare(given.pop("networks"), **given)


def test_an_unknown_strategy_is_refused():
    with pytest.raises(InputError, match="Unknown axis 'q' in strategy 'dWq'"):
        compare(["resnet18"], strategies=["w", "dWq"], factors=[2.0])
