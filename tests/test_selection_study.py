"""The study of choices by predicted latency: regret and violations, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.selection import Held, folded, score, upper

TRUE = (1.0, 10.0)
ERRORS = {("small", 224): 30.0, ("large", 224): 20.0}


def held(share):
    return [
        Held(name, 224, name, true, share * true)
        for name, true in zip(("small", "large"), TRUE, strict=True)
    ]


def budgets():
    # percentiles of two values lie between them linearly: 1 + 9 · 5 % and 1 + 9 · 95 %
    return np.geomspace(1.45, 9.55, 30)


def test_true_latencies_give_no_regret_and_no_violation():
    found = score(held(1.0), ERRORS, 0.5)
    assert (found.mean_regret, found.violations, found.nothing) == (0.0, 0.0, 0)
    assert (found.candidates, found.choices) == (2, 30)


def test_predictions_of_half_the_time_violate_and_regret_nothing():
    found = score(held(0.5), ERRORS, 0.5)
    over = (budgets() >= 5.0) & (budgets() * 1.05 < 10.0)
    assert found.violations == pytest.approx(over.mean())
    assert found.mean_regret == 0.0


def test_predictions_of_twice_the_time_regret_and_violate_nothing():
    third = [*held(1.0), Held("middle", 224, "middle", 4.0, 8.0)]
    errors = {**ERRORS, ("middle", 224): 25.0}
    found = score(third, errors, 0.5)
    # percentiles of 1, 4 and 10: 1 + 3 · 10 % and 4 + 6 · 90 %
    missed = (np.geomspace(1.3, 9.4, 30) >= 4.0) & (np.geomspace(1.3, 9.4, 30) < 8.0)
    assert found.mean_regret == pytest.approx(5.0 * missed.mean())
    assert found.violations == 0.0


def test_folds_hold_whole_families():
    groups = folded(["a", "b", "a", "c", "b"], 2)
    assert groups[0] == groups[2]
    assert groups[1] == groups[4]
    assert len(set(groups)) == 2
    assert len(set(folded(["a", "b", "c"], 10**6))) == 3


def test_what_is_kept_is_wider_for_networks_of_more_doubt():
    """Misses of ln 1.1 at a doubt of 1 make one of ln 1.1 · √4 at a doubt of 4."""
    one = [Held(str(place), 224, str(place), 1.1, 1.0) for place in range(20)]
    bounds = upper([*one, Held("unsure", 224, "unsure", 1.0, 1.0, doubt=4.0)], 0.9)
    assert bounds[-1] == pytest.approx(1.1**2)
    assert bounds[0] == pytest.approx(1.1)
    assert upper(one, 0.5).tolist() == [1.0] * 20
