"""The choice has the most flops inside the budget; r is Pearson's of the logarithms."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from convscale.errors import InputError
from convscale.runtime import Spread
from convscale.selection import best_predictor, choose, correlation, parse_latency_budget
from convscale.study import Row


def row(strategy, factor, flops, ms, *, params=10, acts=10, network="net", iqr=0.0, cpu=None):
    latency = None if ms is None else Spread(ms, iqr, 9)
    processor = None if cpu is None else Spread(cpu, 0.0, 9)
    return Row(
        network, strategy, factor, 224, flops, params, acts, latency=latency, processor=processor
    )


BASE = row(None, 1.0, 100, 10.0)
ROWS = [
    BASE,
    row("w", 2.0, 200, 15.0),
    row("dwr", 2.0, 205, 22.0),
    row("w", 4.0, 400, 24.0),
    row("dWr", 4.0, 410, 26.0),
    row("dwr", 4.0, 420, 40.0),
]
positive = st.integers(1, 10**12)
times = st.floats(1e-3, 1e4)


@given(st.lists(st.tuples(positive, positive, positive, times), min_size=3, max_size=20))
def test_r_is_scipys_pearson_of_the_logarithms(values):
    rows = [row("w", 2.0, f, ms, params=p, acts=a) for f, p, a, ms in values]
    found = correlation(rows)
    columns = np.log(np.array([(f, p, a, ms) for f, p, a, ms in values]))
    for index, metric in enumerate(("flops", "params", "acts")):
        if min(np.ptp(columns[:, index]), np.ptp(columns[:, 3])) < 1e-6:
            continue
        expected = scipy.stats.pearsonr(columns[:, index], columns[:, 3]).statistic
        assert found[metric] == pytest.approx(expected, abs=1e-6)


def test_a_power_law_has_r_1_and_a_falling_one_minus_1():
    rows = [row("w", s, int(s * 1e9), 3 * s**0.7, acts=int(1e6 / s)) for s in (1, 2, 4, 8)]
    found = correlation(rows)
    assert found["flops"] == pytest.approx(1.0)
    assert found["acts"] == pytest.approx(-1.0)
    assert found["params"] is None  # it does not vary


def test_processor_time_is_correlated_on_its_own():
    rows = [row("w", s, int(s * 100), 7.0, cpu=s**2) for s in (1, 2, 4)]
    assert correlation(rows)["flops"] is None
    assert correlation(rows, time="processor")["flops"] == pytest.approx(1.0)


@pytest.mark.parametrize("measured", [0, 1, 2])
def test_fewer_than_three_measured_rows_have_no_r(measured):
    rows = [row("w", 2.0, 100 * (i + 1), 5.0 + i if i < measured else None) for i in range(6)]
    assert correlation(rows) == {"flops": None, "params": None, "acts": None}


def test_rows_without_latency_are_left_out():
    timed = [row("w", s, s * 100, 2.0 * s) for s in (1, 2, 4)]
    assert correlation([*timed, row("w", 8, 1, None)]) == correlation(timed)


@pytest.mark.parametrize(
    ("r", "best"),
    [
        ({"flops": 0.9, "params": 0.8, "acts": 0.95}, "acts"),
        ({"flops": 0.9, "params": None, "acts": 0.8}, "flops"),
        ({"flops": -0.9, "params": -0.2, "acts": None}, "params"),
        ({"flops": None, "params": None, "acts": None}, None),
    ],
)
def test_the_best_predictor_has_the_highest_r(r, best):
    assert best_predictor(r) == best


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=12),
    st.integers(1, 9),
)
def test_the_choice_is_the_one_that_trying_all_finds(values, budget):
    rows = [BASE, *(row("w", float(i), f, float(ms)) for i, (f, ms) in enumerate(values, 2))]
    choice = choose(rows, float(budget))
    fitting = [r for r in rows[1:] if r.latency.median <= budget]
    assert choice.feasible == bool(fitting)
    assert len(choice.fitting) == len(fitting)
    assert len(choice.violations) == len(values) - len(fitting)
    if fitting:
        most = max(r.flops for r in fitting)
        fastest = min(r.latency.median for r in fitting if r.flops == most)
        assert (choice.row.flops, choice.row.latency.median) == (most, fastest)


def test_the_base_network_is_no_candidate():
    choice = choose([BASE, row("w", 0.5, 50, 6.0)], 12.0)
    assert choice.row.strategy == "w"
    assert choice.base == BASE
    assert "The base network fits too and has no fewer flops." in choice.reason


def test_the_reason_says_what_was_lost_and_that_flops_stand_in():
    choice = choose(ROWS, 25.0)
    assert choice.row == ROWS[3]
    assert choice.next_best == ROWS[2]
    assert [(m.row, m.excess_ms) for m in choice.violations] == [(ROWS[4], 1.0), (ROWS[5], 15.0)]
    assert choice.reason == (
        "It has the most flops of the 3 of 5 scaled networks that fit; flops stand in for "
        "accuracy. With more flops, even the fastest, dWr at 4x (410), takes 26.0 ms, 1.00 ms too "
        "long."
    )


@pytest.mark.parametrize(
    ("rows", "budget", "said"),
    [
        (ROWS[:2], 20.0, "It is the only scaled network; "),
        (ROWS[:3], 20.0, "Only it fits, of 2 scaled networks; "),
        (ROWS[:3], 20.0, "With more flops, dwr at 2x (205) takes 22.0 ms, 2.00 ms too long."),
        (ROWS, 99.0, "All 5 scaled networks fit, and it has the most flops; "),
    ],
)
def test_the_reason_counts_what_fits(rows, budget, said):
    assert said in choose(rows, budget).reason


@pytest.mark.parametrize("budget", [20.0, 25.0, 50.0])
def test_the_reason_leaves_to_the_choice_what_to_build(budget):
    choice = choose(ROWS, budget)
    assert f"{choice.row.strategy} at {choice.row.factor:g}x" not in choice.reason
    assert choice.reason.count("flops stand in for accuracy") == 1


def test_a_faster_network_with_nearly_as_many_flops_is_pointed_out():
    choice = choose(ROWS, 50.0)
    assert choice.row == ROWS[5]
    said = "Nearly the same, w at 4x has 4.8 % fewer flops and takes 24.0 ms."
    assert said in choice.reason


def test_a_spread_that_reaches_over_the_budget_is_pointed_out():
    near = [row("w", 2.0, 200, 24.0, iqr=2.0)]
    said = "Its 24.0 ms lie nearer to the budget than their interquartile range (2.00 ms)"
    assert said in choose(near, 25.0).reason
    assert said not in choose(near, 27.0).reason


def test_no_network_inside_the_budget_names_the_nearest():
    choice = choose(ROWS, 9.0)
    assert choice.row is None
    assert not choice.feasible
    assert choice.reason == "The nearest, w at 2x, takes 15.0 ms, 6.00 ms too long."


def test_a_choice_is_json():
    document = json.loads(json.dumps(choose(ROWS, 25.0).as_document()))
    assert (document["network"], document["strategy"], document["factor"]) == ("net", "w", 4.0)
    assert document["violations"][0] == {"strategy": "dWr", "factor": 4.0, "excess_ms": 1.0}


@pytest.mark.parametrize(
    ("rows", "budget", "said"),
    [
        (ROWS, 0.0, "The latency budget in ms is 0.0; it must be positive and finite."),
        (ROWS, float("nan"), "The latency budget in ms is nan; it must be positive and finite."),
        (
            [BASE],
            5.0,
            "There is no scaled network to choose from. Give a strategy and a factor.",
        ),
        (
            [BASE, row("w", 2.0, 200, None)],
            5.0,
            "w at 2x has no latency. Measure all networks to choose by it.",
        ),
        (
            [BASE, row("w", 2.0, 200, 5.0, network="other")],
            5.0,
            "Choose for one network at a time, not for net and other.",
        ),
    ],
)
def test_what_cannot_be_chosen_from_gets_one_line(rows, budget, said):
    with pytest.raises(InputError, match=f"^{re.escape(said)}$"):
        choose(rows, budget)


@pytest.mark.parametrize(
    ("text", "ms"),
    [("2.5x", 100.0), (" 1X ", 40.0), ("8ms", 8.0), ("8 ms", 8.0), ("0.5s", 500.0), ("1e2ms", 100)],
)
def test_a_budget_is_a_time_or_a_multiple_of_the_bases(text, ms):
    assert parse_latency_budget(text).limit_ms(40.0) == pytest.approx(ms)


@pytest.mark.parametrize("text", ["", "8", "x", "ms", "0x", "-1ms", "nanx", "infms", "2.5y"])
def test_what_is_no_budget_gets_one_line(text):
    with pytest.raises(InputError, match="latency budget"):
        parse_latency_budget(text)


def test_a_relative_budget_needs_the_bases_latency():
    said = "The latency of the base network is nan; it must be positive and finite."
    with pytest.raises(InputError, match=f"^{re.escape(said)}$"):
        parse_latency_budget("2x").limit_ms(float("nan"))
