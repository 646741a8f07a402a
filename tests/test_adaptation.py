"""Coefficients carried over to another device: laws, bounds, and the choice of networks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convscale.prediction.adaptation import Moves, Prior, adapt, soft
from convscale.prediction.design import Candidate, choose

# A device of which everything is known: seconds of a network are a sum of what it does times
# what that costs; narrow layers are so many times as slow as wide ones.
START = {"bytes": 1.0, "macs": 2.0, "calls": 0.5, "narrow": 2.0, "norm": 1.5}
COSTS = ("bytes", "macs", "calls")
MOVES = Moves(tuple(START), COSTS)
# The law holds without a misfit here.
EXACT = Prior(misfit=0.01)


def work(networks: int, seed: int = 0) -> np.ndarray:
    return np.exp(np.random.default_rng(seed).normal(size=(networks, len(START))))


def law(amounts: np.ndarray):
    def log_seconds(c):
        costs = [
            c["bytes"],
            c["macs"],
            c["calls"],
            c["bytes"] * c["narrow"],
            c["bytes"] * c["norm"],
        ]
        parts = amounts * np.array(costs)
        share = parts / parts.sum(axis=1, keepdims=True)
        moved = share[:, 0] + share[:, 3] + share[:, 4]
        along = np.column_stack([moved, share[:, 1], share[:, 2], share[:, 3], share[:, 4]])
        return np.log(parts.sum(axis=1)), along

    return log_seconds


def seconds(c, amounts: np.ndarray) -> np.ndarray:
    return np.exp(law(amounts)(c)[0])


def off(c, truth, amounts: np.ndarray) -> float:
    """The mean miss of the predictions, as a share."""
    return float(np.abs(seconds(c, amounts) / seconds(truth, amounts) - 1).mean())


def slower(factor: float) -> dict[str, float]:
    return {name: value * (factor if name in COSTS else 1) for name, value in START.items()}


FEW, OTHERS = work(10), work(300, seed=1)


def test_the_slopes_of_the_test_are_those_of_its_times():
    for place, name in enumerate(START):
        up, down = (law(FEW)({**START, name: START[name] * np.exp(h)})[0] for h in (1e-5, -1e-5))
        assert law(FEW)(START)[1][:, place] == pytest.approx((up - down) / 2e-5, abs=1e-8)


def test_a_device_that_is_three_times_as_slow_is_found_from_one_network():
    found = adapt(START, law(FEW[:1]), 3 * seconds(START, FEW[:1]), COSTS)
    assert found.common == pytest.approx(3, rel=1e-3)
    others = seconds(found.coefficients, OTHERS) / seconds(START, OTHERS)
    assert others == pytest.approx(3, rel=1e-3)


def test_ten_networks_find_a_device_whose_memory_and_compute_moved_apart():
    truth = START | {"bytes": 6.0, "macs": 4.0, "calls": 0.1}
    found = adapt(START, law(FEW), seconds(truth, FEW), COSTS, prior=EXACT)
    assert off(found.coefficients, truth, OTHERS) < 0.02
    # The common factor alone would miss by far more.
    assert min(off(slower(factor), truth, OTHERS) for factor in np.linspace(1, 8, 29)) > 0.1


def test_ten_networks_find_coefficients_that_moved_one_by_one():
    truth = {"bytes": 1.3, "macs": 1.5, "calls": 0.8, "narrow": 3.0, "norm": 1.0}
    found = adapt(START, law(FEW), seconds(truth, FEW), COSTS, prior=EXACT)
    assert off(found.coefficients, truth, OTHERS) < 0.03
    assert min(off(slower(factor), truth, OTHERS) for factor in np.linspace(0.5, 2, 29)) > 0.1


@pytest.mark.parametrize("wrong", [100.0, 0.01])
@pytest.mark.parametrize("which", range(10))
def test_one_timing_that_is_wrong_by_a_hundred_moves_the_others_little(which, wrong):
    truth = slower(4)
    timed = seconds(truth, FEW)
    timed[which] *= wrong
    found = adapt(START, law(FEW), timed, COSTS)
    assert off(found.coefficients, truth, OTHERS) < 0.05


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(-14, 14), min_size=1, max_size=10))
def test_no_timings_move_a_coefficient_beyond_its_bound(logs):
    found = adapt(START, law(FEW[: len(logs)]), np.exp(np.array(logs)), COSTS)
    for name in START:
        beyond = found.coefficients[name] / START[name] / found.common ** (name in COSTS)
        assert 1 / 8 * (1 - 1e-9) <= beyond <= 8 * (1 + 1e-9)


def test_residuals_are_what_the_coefficients_leave():
    timed = seconds(slower(2), FEW) * np.exp(np.linspace(-0.2, 0.2, 10))
    found = adapt(START, law(FEW), timed, COSTS)
    left = np.log(timed / seconds(found.coefficients, FEW))
    assert found.residuals == pytest.approx(left)


def test_what_the_form_misses_on_both_devices_is_told_from_what_differs():
    truth = slower(4) | {"macs": 3.0}
    missed = np.random.default_rng(5).normal(0, 0.2, size=10)
    found = adapt(
        START, law(FEW), seconds(truth, FEW) * np.exp(missed), COSTS, residuals=missed, prior=EXACT
    )
    assert found.shared == pytest.approx(1, abs=0.02)
    assert off(found.coefficients, truth, OTHERS) < 0.02


@pytest.mark.parametrize("factor", [-30.0, 30.0])
def test_the_share_of_what_is_missed_on_both_devices_is_bounded(factor):
    missed = np.random.default_rng(5).normal(0, 0.2, size=10)
    timed = seconds(START, FEW) * np.exp(factor * missed)
    assert 0 <= adapt(START, law(FEW), timed, COSTS, residuals=missed).shared <= 1.6


def test_without_times_that_tell_the_share_is_what_was_expected():
    none = np.zeros(10)
    found = adapt(START, law(FEW), seconds(START, FEW), COSTS, residuals=none)
    assert found.shared == pytest.approx(0.8, abs=1e-6)


def test_half_the_square_of_a_soft_error_is_minus_the_logarithm_of_students_t():
    from scipy.stats import t

    errors = np.linspace(-50, 50, 101)
    loss = t.logpdf(0, df=4) - t.logpdf(errors, df=4)
    assert soft(errors)[0] ** 2 / 2 == pytest.approx(loss)
    slope = (soft(errors + 1e-5)[0] - soft(errors - 1e-5)[0]) / 2e-5
    assert soft(errors)[1] == pytest.approx(slope, rel=1e-4)


def candidates(count: int = 40, seed: int = 3):
    rng = np.random.default_rng(seed)
    listed = [
        Candidate(f"net{at:02}", "224", f"family{at % 13}", float(rng.lognormal()))
        for at in range(count)
    ]
    return listed, law(work(count, seed))(START)[1]


def test_the_choice_does_not_depend_on_the_order_of_the_candidates():
    listed, along = candidates()
    chosen = [listed[at].network for at in choose(listed, along, MOVES, 10)]
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(listed))
        shuffled = [listed[at] for at in order]
        again = choose(shuffled, along[order], MOVES, 10)
        assert [shuffled[at].network for at in again] == chosen


def test_a_network_is_chosen_once_and_no_more_than_there_are():
    listed, along = candidates(count=6)
    assert sorted(choose(listed, along, MOVES, 10)) == list(range(6))


def test_of_twins_the_cheaper_is_chosen():
    listed = [Candidate("a", "224", "x", 1.0), Candidate("b", "224", "x", 0.1)]
    assert choose(listed, np.ones((2, 5)) / 5, MOVES, 1, thrift=0.5) == (1,)


def test_what_may_not_be_measured_is_not_chosen_but_told_of():
    listed, along = candidates()
    allowed = [at % 4 == 0 for at in range(len(listed))]
    chosen = choose(listed, along, MOVES, 8, allowed=allowed)
    assert len(chosen) == 8
    assert all(allowed[at] for at in chosen)
    assert len(choose(listed, along, MOVES, 40, allowed=allowed)) == sum(allowed)


def test_the_chosen_tell_more_than_drawn_ones():
    listed, along = candidates()
    truth = {"bytes": 5.0, "macs": 2.0, "calls": 1.0, "narrow": 3.0, "norm": 1.0}
    amounts = work(40, 3)

    def miss(which) -> float:
        found = adapt(START, law(amounts[which]), seconds(truth, amounts[which]), COSTS)
        return off(found.coefficients, truth, amounts)

    chosen = miss(list(choose(listed, along, MOVES, 4, thrift=0)))
    rng = np.random.default_rng(0)
    drawn = [miss(rng.choice(40, 4, replace=False)) for _ in range(30)]
    assert chosen < np.mean(drawn)
