"""How surely a metric tells the time: coefficients, their intervals, the fit of two metrics."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import optimize, stats

from convscale.report.association import (
    verdict,
)
from convscale.runtime import Conditions, Spread
from convscale.selection.association import BOTH, associate
from convscale.selection.statistics import (
    COEFFICIENTS,
    estimate,
    log_pearson,
    non_negative_fit,
    pearson,
    resamples,
    spearman,
)

HERE = Conditions("cpu", "x86_64", 2, "float32", 1, "contiguous", "2.6.0")


def costed(flops, params, acts, wall_ms):
    return SimpleNamespace(
        flops=flops, params=params, acts=acts, latency=Spread(wall_ms, 0, 3), processor=None
    )


@pytest.mark.parametrize("seed", range(5))
def test_the_coefficients_are_those_of_scipy(seed):
    rng = np.random.default_rng(seed)
    x = rng.lognormal(size=20).round(1) + 0.1  # some are equal
    y = x * rng.lognormal(size=20)
    assert float(pearson(x, y)) == pytest.approx(stats.pearsonr(x, y).statistic)
    logs = stats.pearsonr(np.log(x), np.log(y)).statistic
    assert float(log_pearson(x, y)) == pytest.approx(logs)
    assert float(spearman(x, y)) == pytest.approx(stats.spearmanr(x, y).statistic)


@pytest.mark.parametrize("name", COEFFICIENTS)
def test_many_pairs_at_once_are_correlated_as_one_by_one(name):
    rng = np.random.default_rng(3)
    x, y = rng.lognormal(size=(2, 7, 12))
    one_by_one = [float(COEFFICIENTS[name](a, b)) for a, b in zip(x, y, strict=True)]
    assert COEFFICIENTS[name](x, y).tolist() == pytest.approx(one_by_one)


@pytest.mark.parametrize("name", COEFFICIENTS)
def test_what_does_not_vary_has_no_correlation(name):
    assert np.isnan(COEFFICIENTS[name](np.full(5, 7.1), np.arange(1.0, 6.0)))


def test_logarithms_of_zero_have_no_correlation():
    assert np.isnan(log_pearson(np.array([0.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0])))


@pytest.mark.parametrize("seed", range(5))
def test_the_fit_is_that_of_another_solver_with_bounds(seed):
    rng = np.random.default_rng(seed)
    columns, values = rng.normal(size=(15, 3)), rng.normal(size=15)
    other = optimize.lsq_linear(columns, values, bounds=(0, np.inf), tol=1e-12)
    assert non_negative_fit(columns, values) == pytest.approx(other.x, abs=1e-6)


def test_the_model_of_flops_and_acts_finds_the_law_behind_the_times():
    rng = np.random.default_rng(0)
    flops, acts = rng.integers(10**8, 10**10, 12), rng.integers(10**6, 10**8, 12)
    rows = [costed(f, 1, a, 2e-8 * f + 3e-7 * a + 4) for f, a in zip(flops, acts, strict=True)]
    found = associate(rows)
    model = found.model
    assert (model.ms_per_flop, model.ms_per_act, model.constant_ms) == pytest.approx(
        (2e-8, 3e-7, 4)
    )
    assert model.mean_error == pytest.approx(0, abs=1e-9)
    assert found.r[BOTH]["linear"].value == pytest.approx(1)
    assert found.lead.best == BOTH


def test_the_interval_of_many_pairs_is_that_of_fisher():
    rng = np.random.default_rng(1)
    x = rng.normal(size=400)
    y = x + rng.normal(size=400)
    drawn = resamples(400)
    found = estimate(float(pearson(x, y)), pearson(x[drawn], y[drawn]))
    fisher = stats.pearsonr(x, y).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((fisher.low, fisher.high), abs=0.015)


def test_the_interval_covers_the_true_r_about_as_often_as_it_says():
    rng = np.random.default_rng(2)
    true_r, trials, covered = 0.9, 200, 0
    drawn = resamples(48)[:500]
    for _ in range(trials):
        x, noise = rng.normal(size=(2, 48))
        y = true_r * x + (1 - true_r**2) ** 0.5 * noise
        found = estimate(float(pearson(x, y)), pearson(x[drawn], y[drawn]))
        covered += found.low <= true_r <= found.high
    assert 0.88 * trials <= covered <= 0.99 * trials


def test_a_time_of_zero_is_left_out():
    rows = [costed(f, f, f, f) for f in (100, 200, 400)]
    assert associate([*rows, costed(300, 300, 300, 0)]).r == associate(rows).r


def test_few_networks_have_no_interval_and_two_no_correlation():
    rows = [costed(f, f, f, f) for f in (100, 200, 400, 900)]
    found = associate(rows)
    assert found.r["flops"]["log"].value == pytest.approx(1)
    assert found.r["flops"]["log"].low is None
    assert not found.lead.beyond_noise
    assert associate(rows[:2]).r["flops"]["log"] is None


def rows_of(acts, flops, times):
    params = np.random.default_rng(9).lognormal(10, 1, len(acts))
    return [
        costed(1e6 * f, p, 1e3 * a, t)
        for f, p, a, t in zip(flops, params, acts, times, strict=True)
    ]


def test_a_metric_that_tells_far_more_leads_beyond_the_noise():
    rng = np.random.default_rng(4)
    acts = rng.lognormal(10, 1, 40)
    times = acts * rng.lognormal(0, 0.1, 40)
    flops = np.full(40, 7.0)
    found = associate(rows_of(acts, flops, times))
    assert found.r["flops"]["log"] is None
    assert found.lead.best in ("acts", BOTH)
    without = {p: r["log"].value for p, r in found.r.items() if r["log"] is not None}
    assert min(without["acts"], without[BOTH]) - without["params"] > 0.5


def test_metrics_that_tell_equally_much_are_within_the_noise():
    rng = np.random.default_rng(4)
    acts = rng.lognormal(10, 1, 40)
    times = acts * rng.lognormal(0, 0.3, 40)
    flops = acts * rng.lognormal(0, 0.02, 40)
    found = associate(rows_of(acts, flops, times))
    assert abs(found.lead.difference.value) < 0.01
    assert not found.lead.beyond_noise
    assert "within the noise" in verdict(found, of="wall time")


def test_a_lead_that_all_resamples_show_is_beyond_the_noise():
    rng = np.random.default_rng(5)
    flops, acts = rng.lognormal(10, 1, (2, 40))
    found = associate(rows_of(acts, flops, 3 * flops + 5 * acts))
    assert found.lead.best == BOTH
    assert found.lead.beyond_noise
    assert "which is beyond the noise" in verdict(found, of="wall time")
