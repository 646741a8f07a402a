"""Selection as numbers: constraints, errors, the front, the choice and its reasons."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convscale.errors import BudgetError, InputError
from convscale.prediction.profile import Band
from convscale.selection.confidence import one_sided
from convscale.selection.constraints import Constraint, parse_constraint, parse_range
from convscale.selection.error_law import ErrorLaw, fit_error_law, fit_series
from convscale.selection.front import undominated
from convscale.selection.metrics import METRICS, metric, parse_hours, parse_kwh
from convscale.selection.objective import FlopsStandIn, TableErrors
from convscale.selection.pool import Pool
from convscale.selection.reasons import reason_of
from convscale.selection.select import select
from tests.device_profiles import hand_made

AMOUNTS = st.floats(1e-3, 1e15)


@st.composite
def problems(draw, uncertainty=0.0):
    """A pool with errors, and limits of latency and params."""
    size = draw(st.integers(1, 12))
    few = st.integers(1, 8)
    columns = [[float(draw(few)) for _ in range(size)] for _ in range(3)]
    labels = tuple(f"net{i}" for i in range(size))
    series = tuple(draw(st.sampled_from("abc")) for _ in range(size))
    values = {"latency_ms": np.array(columns[0]), "params": np.array(columns[1])}
    limits = (Constraint("latency_ms", draw(few)), Constraint("params", draw(few)))
    return (
        Pool(labels, series, values),
        TableErrors("top1_err", tuple(columns[2]), uncertainty),
        limits,
    )


def chosen_or_none(pool, objective, limits):
    try:
        return select(pool, objective, limits)
    except BudgetError:
        return None


def error_of(found):
    return math.inf if found is None else float(found.estimate.error[found.chosen])


# ---- units and constraints -----------------------------------------------------------------


@given(st.sampled_from([m.name for m in METRICS]), AMOUNTS)
def test_every_constraint_reads_back_as_it_is_written(name, limit):
    if name in ("resolution_px", "width_multiple") or name.endswith("_bytes"):
        limit = float(max(1, round(limit)))
    sense = "%" if name == "width_multiple" else ">=" if metric(name).at_least else "<="
    made = Constraint(name, limit, sense)
    assert parse_constraint(str(made)) == made


@pytest.mark.parametrize(
    ("text", "on", "limit"),
    [
        ("latency<=8ms", "latency_ms", 8.0),
        ("latency_ms <= 0.008s", "latency_ms", 8.0),
        ("throughput>=2K", "images_per_second", 2000.0),
        ("params<=40M", "params", 40e6),
        ("flops<=1.6G", "flops", 1.6e9),
        ("memory_bytes<=8GB", "memory_bytes", 8e9),
        ("training_memory_bytes<=1GiB", "training_memory_bytes", 2.0**30),
        ("training_h<=24", "training_h", 24.0),
        ("energy<=500Wh", "energy_kwh", 0.5),
        ("download_bytes<=50MB", "download_bytes", 50e6),
        ("width_multiple%16", "width_multiple", 16.0),
    ],
)
def test_limits_are_read_with_their_units(text, on, limit):
    found = parse_constraint(text)
    assert (found.on, found.limit) == (on, pytest.approx(limit, rel=1e-12))


def test_times_and_energies_agree_in_all_units():
    assert parse_hours("90min") == parse_hours("1.5h") == parse_hours("5400s") == 1.5
    assert parse_kwh("3.6MJ") == parse_kwh("1000Wh") == parse_kwh("1") == 1.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("latency<=5", "Cannot read '5' as a latency. Write it with its unit"),
        ("speed<=5", "Unknown quantity 'speed'. Use latency_ms, images_per_second"),
        ("params=40M", "Cannot read 'params=40M' as a constraint."),
        ("params<=-4", "The params is -4"),
        ("width_multiple%8.5", "Cannot read '8.5' as a multiple. Write an integer."),
    ],
)
def test_a_wrong_constraint_is_refused_in_a_line(text, said):
    with pytest.raises(InputError) as caught:
        parse_constraint(text)
    assert caught.value.line.startswith(said)


def test_ranges_have_one_end_or_two():
    assert [one.limit for one in parse_range("160..320", "resolution_px")] == [160, 320]
    assert [one.sense for one in parse_range("160..", "resolution_px")] == [">="]
    assert [one.sense for one in parse_range("..320", "resolution_px")] == ["<="]
    for text in ("160", "..", "320..160"):
        with pytest.raises(InputError, match="range"):
            parse_range(text, "resolution_px")


def test_a_violation_is_the_amount_beyond_the_limit():
    values = np.array([40.0, 50.0, 75.0])
    assert Constraint("params", 50.0).excess(values).tolist() == [0, 0, 25]
    assert Constraint("params", 50.0).relative(values).tolist() == [0, 0, 0.5]
    assert Constraint("images_per_second", 50.0, ">=").excess(values).tolist() == [10, 0, 0]
    # 24 is a multiple of 8; of 20 only 4 divides 8; 7 has nothing in common with it
    divided = Constraint("width_multiple", 8.0, "%").excess(np.array([24.0, 20.0, 7.0]))
    assert divided.tolist() == [0, 4, 7]


def test_what_is_not_known_never_fits():
    pool = Pool(("a", "b"), ("", ""), {"params": np.array([1.0, np.nan])})
    errors = TableErrors("e", (1.0, 2.0))
    with pytest.raises(InputError, match="The params of b are not known, and params at most 5"):
        select(pool, errors, [Constraint("params", 5.0)])
    with pytest.raises(InputError, match="The latency of the candidates is not known"):
        select(pool, errors, [Constraint("latency_ms", 5.0)])
    with pytest.raises(InputError, match="The e of b is not known"):
        select(pool, TableErrors("e", (1.0, math.nan)), [], cost="params")


# ---- the front -----------------------------------------------------------------------------


@given(
    st.integers(1, 3).flatmap(
        lambda k: st.lists(st.lists(st.integers(0, 5), min_size=k, max_size=k), max_size=25)
    )
)
def test_the_front_is_what_brute_force_finds(rows):
    points = np.array(rows, float).reshape(len(rows), -1 if rows else 2)

    def dominated(row):
        return any((other <= row).all() and (other < row).any() for other in points)

    assert undominated(points).tolist() == [not dominated(row) for row in points]


# ---- the choice ----------------------------------------------------------------------------


@given(problems())
def test_the_choice_is_what_brute_force_finds(problem):
    pool, objective, limits = problem
    rows = zip(
        objective.errors, pool.values["latency_ms"], pool.values["params"], pool.labels, strict=True
    )
    fitting = sorted(
        (error, ms, label)
        for error, ms, params, label in rows
        if ms <= limits[0].limit and params <= limits[1].limit
    )
    found = chosen_or_none(pool, objective, limits)
    if not fitting:
        assert found is None
    else:
        assert found.label == fitting[0][2]
        assert int(found.fits.sum()) == len(fitting)


@given(problems(), st.integers(0, 1), st.integers(0, 5))
def test_relaxing_a_constraint_never_worsens_the_error(problem, which, more):
    pool, objective, limits = problem
    relaxed = list(limits)
    relaxed[which] = replace(limits[which], limit=limits[which].limit + more)
    before, after = (chosen_or_none(pool, objective, each) for each in (limits, relaxed))
    assert error_of(after) <= error_of(before)


@given(problems(uncertainty=1.5), st.integers(0, 5))
def test_relaxing_the_cost_never_worsens_the_error_with_an_uncertainty(problem, more):
    pool, objective, limits = problem
    relaxed = (replace(limits[0], limit=limits[0].limit + more), limits[1])
    before, after = (chosen_or_none(pool, objective, each) for each in (limits, relaxed))
    assert error_of(after) <= error_of(before)


@given(problems(uncertainty=1.5))
def test_of_equal_errors_the_cheapest_wins(problem):
    pool, objective, limits = problem
    found = chosen_or_none(pool, objective, limits)
    if found is None:
        return
    errors, costs = np.array(objective.errors), pool.values["latency_ms"]
    least = errors[found.fits].min()
    equal = found.fits & (errors < least + 1.5)
    assert costs[found.chosen] == costs[equal].min()
    assert sorted(found.equal) == np.flatnonzero(equal).tolist()


@given(problems(uncertainty=1.0), st.randoms(use_true_random=False))
def test_the_order_of_candidates_does_not_matter(problem, random):
    pool, objective, limits = problem
    order = list(range(len(pool)))
    random.shuffle(order)
    turned = replace(objective, errors=tuple(objective.errors[i] for i in order))
    first = chosen_or_none(pool, objective, limits)
    second = chosen_or_none(pool.only(order), turned, limits)
    if first is None:
        assert second is None
        return
    assert reason_of(first) == reason_of(second)
    names = [[one.pool.labels[at] for at in one.front] for one in (first, second)]
    assert names[0] == names[1]


@given(problems())
def test_a_constraint_binds_where_it_alone_keeps_something_better_out(problem):
    pool, objective, limits = problem
    found = chosen_or_none(pool, objective, limits)
    if found is None:
        return
    for place, limit in enumerate(limits):
        free = select(pool, objective, [one for one in limits if one is not limit])
        better = error_of(free) < error_of(found)
        named = [one for one in found.binding if one.constraint is limits[place]]
        assert bool(named) == better
        if named:
            assert named[0].without == free.chosen


@given(problems())
def test_the_next_best_of_each_other_series_fits_or_is_the_nearest(problem):
    pool, objective, limits = problem
    found = chosen_or_none(pool, objective, limits)
    if found is None:
        return
    assert {one.series for one in found.rivals} == set(pool.series) - {pool.series[found.chosen]}
    most = pool.violations(limits).max(axis=0)
    for rival in found.rivals:
        own = [at for at in range(len(pool)) if pool.series[at] == rival.series]
        assert most[rival.at] == min(most[own])
        if rival.missed is None:
            fitting = [at for at in own if most[at] == 0]
            assert objective.errors[rival.at] == min(objective.errors[at] for at in fitting)


def test_a_limit_binds_where_without_it_an_equal_of_something_better_is_chosen():
    """b is chosen without the limit, and fits; what the limit keeps out is c."""
    pool = Pool(tuple("abc"), ("",) * 3, {"latency_ms": np.array([1.0, 3.0, 4.4])})
    errors = TableErrors("err", (24.2, 22.9, 21.2), uncertainty=2.0)
    found = select(pool, errors, [Constraint("latency_ms", 4.0)])
    assert found.label == "a"
    (bound,) = found.binding
    assert (pool.labels[bound.without], bound.chosen) == ("c", False)
    assert (
        "What binds is the limit of the latency: without it, c would have the least err (err "
        "21.20): latency 4.40 ms, 400 us (10.0 %) over the limit of 4.00 ms." in reason_of(found)
    )


def test_what_is_better_and_misses_several_limits_is_named_with_them():
    values = {"latency_ms": np.array([3.0, 6.0, 9.0]), "params": np.array([5e6, 12e6, 90e6])}
    pool = Pool(tuple("abc"), ("",) * 3, values)
    limits = [Constraint("latency_ms", 5.0), Constraint("params", 10e6)]
    found = select(pool, TableErrors("err", (24.0, 22.0, 21.0)), limits)
    assert (found.label, found.binding) == ("a", ())
    assert (
        "No constraint binds alone: whatever is better misses several. The nearest is b (err "
        "22.00): latency 6.00 ms, 1.00 ms (20.0 %) over the limit of 5.00 ms; params 12.0M, 2.00M "
        "(20.0 %) over the limit of 10.0M." in reason_of(found)
    )


def test_where_nothing_is_better_the_reason_says_that_and_what_ended_the_search():
    pool = Pool(("a", "b"), ("", ""), {"latency_ms": np.array([3.0, 4.0])})
    found = select(pool, TableErrors("err", (24.0, 22.0)), [Constraint("latency_ms", 5.0)])
    assert "No constraint binds: b has the least err of all candidates. " in reason_of(found)
    ended = reason_of(found, tried=True, ended="the range of factors, up to 16")
    assert (
        "b has the least err of all that were tried; what ends the search is the range of factors, "
        "up to 16." in ended
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("memory<=8GB", "memory of inference at most 7.45 GiB (8 GB)"),
        ("download<=2.5MB", "download size at most 2.4 MiB"),
        ("download<=50MB", "download size at most 47.7 MiB (50 MB)"),
        ("memory<=1.5GB", "memory of inference at most 1.40 GiB (1.5 GB)"),
        ("memory<=512MiB", "memory of inference at most 512.0 MiB"),
    ],
)
def test_a_size_is_told_in_the_unit_in_which_it_was_asked_for_too(text, said):
    limit = parse_constraint(text)
    assert limit.sentence == said
    assert limit.miss(2 * limit.limit).endswith(f"limit of {said.partition('most ')[2]}")
    assert parse_constraint(str(limit)) == limit


def test_a_reason_without_constraints_has_no_gap():
    pool = Pool(("a", "b"), ("", ""), {"latency_ms": np.array([3.0, 4.0])})
    assert "  " not in reason_of(select(pool, TableErrors("err", (24.0, 22.0)), []))


def test_the_front_is_of_those_that_keep_all_but_the_cost():
    pool = Pool(
        tuple("abcd"),
        ("",) * 4,
        {"latency_ms": np.array([1.0, 2, 3, 9]), "params": np.array([5.0, 99, 5, 5])},
    )
    errors = TableErrors("e", (30.0, 20.0, 25.0, 10.0))
    found = select(pool, errors, [Constraint("latency_ms", 4.0), Constraint("params", 10.0)])
    assert found.label == "c"
    # b is better than c, but too large; d is too slow, which the front shows
    assert [pool.labels[at] for at in found.front] == ["a", "c", "d"]
    assert [one.constraint.on for one in found.binding] == ["latency_ms", "params"]


def test_an_infeasible_request_names_what_binds_and_the_nearest():
    values = {"latency_ms": np.array([6.0, 10.0]), "params": np.array([20e6, 5e6])}
    pool = Pool(("near", "far"), ("", ""), values)
    limits = [Constraint("latency_ms", 5.0), Constraint("params", 10e6)]
    with pytest.raises(BudgetError) as caught:
        select(pool, TableErrors("e", (1.0, 2.0)), limits)
    assert caught.value.exit_status == 3
    assert caught.value.line == (
        "None of 2 candidates keeps every constraint. The nearest is far: latency 10.0 ms, "
        "5.00 ms (100.0 %) over the limit of 5.00 ms. Taken alone, latency at most 5.00 ms is kept "
        "by 0, params at most 10.0M is kept by 1."
    )


def test_flops_stand_in_and_say_so():
    values = {"flops": np.array([4.0e9, 4.1e9, 9e9]), "latency_ms": np.array([3.0, 4.0, 9.0])}
    pool = Pool(tuple("abc"), ("",) * 3, values)
    found = select(pool, FlopsStandIn(), [Constraint("latency_ms", 5.0)])
    assert found.label == "a"  # 2.5 % fewer flops are none
    assert "flops stand in for accuracy" in reason_of(found)
    assert select(pool, FlopsStandIn(0.0), [Constraint("latency_ms", 5.0)]).label == "b"


# ---- confidence ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("confidence", "factor"),
    [(0.5, 1.0), (0.75, 1.06), (0.9, 1.12), (0.95, 1.2), (0.975, 1.3), (0.625, 1.06**0.5)],
)
def test_a_confidence_is_the_upper_end_of_an_interval(confidence, factor):
    # an interval of coverage c is exceeded with the probability (1 - c) / 2
    profile = hand_made()
    side = one_sided(profile, confidence)
    low, high = profile.factors(side.coverage)
    assert side.upper_ms(10.0, (10 * low, 10 * high)) == pytest.approx(10 * factor)


@pytest.mark.parametrize("confidence", [0.0, 0.4, 0.99, 1.0, math.nan])
def test_a_confidence_that_no_interval_gives_is_refused(confidence):
    with pytest.raises(InputError, match="confidence"):
        one_sided(replace(hand_made(), bands=(Band(0.5, 0.9, 1.1),)), confidence)


# ---- the law -------------------------------------------------------------------------------


def law_of(acts, *, e0=15.0, b=8.0, c=0.5):
    return e0 + b * (acts / 1e7) ** -c


@settings(max_examples=20, deadline=None)
@given(st.floats(5, 20), st.floats(3, 15), st.floats(0.3, 1.0))
def test_the_law_is_found_again_between_its_points(e0, b, c):
    acts = np.geomspace(2e6, 8e7, 12)
    law = fit_series(acts, law_of(acts, e0=e0, b=b, c=c))
    between = np.geomspace(3e6, 6e7, 7)
    assert law.error(between) == pytest.approx(law_of(between, e0=e0, b=b, c=c), rel=0.01)


def test_one_bad_point_moves_the_law_little():
    acts = np.geomspace(2e6, 8e7, 12)
    errors = law_of(acts)
    errors[5] += 15.0
    found = fit_series(acts, errors).error(acts)
    assert np.abs(np.delete(found - law_of(acts), 5)).max() < 1.0


def test_few_points_are_less_sure_than_many():
    random = np.random.default_rng(0)
    many = np.geomspace(2e6, 8e7, 24)
    noisy = law_of(many) + random.normal(0, 0.2, many.size)
    at = np.array([1.2e7])
    wide = [float(fit_series(many[:n], noisy[:n]).uncertainty(at)[0]) for n in (1, 2, 4, 24)]
    assert wide == sorted(wide, reverse=True)
    assert wide[-1] < 0.5 < wide[0]


def test_the_uncertainty_covers_networks_that_were_not_fitted():
    random = np.random.default_rng(1)
    inside = []
    for _ in range(60):
        acts = np.exp(random.uniform(np.log(2e6), np.log(8e7), 8))
        truth = law_of(acts) + random.normal(0, 0.4, 8)
        law = fit_series(acts[:-1], truth[:-1])
        inside.append(abs(law.error(acts[-1:])[0] - truth[-1]) < law.uncertainty(acts[-1:])[0])
    assert 0.55 < np.mean(inside) < 0.95  # 68 % are meant


def test_a_law_fits_shares_as_it_fits_percent():
    acts = np.geomspace(2e6, 8e7, 6)
    percent, share = fit_series(acts, law_of(acts)), fit_series(acts, law_of(acts) / 100)
    assert share.error(acts) == pytest.approx(percent.error(acts) / 100)
    assert share.uncertainty(acts) == pytest.approx(percent.uncertainty(acts) / 100, rel=1e-4)


def test_the_difference_within_a_series_is_surer_than_between_two():
    acts = np.array([1e7, 2e7, 2e7])
    law = fit_series([5e6, 1e7, 4e7], [25.0, 23.0, 19.5])
    pool = Pool(tuple("abc"), ("one", "one", "two"), {"acts": acts})
    found = ErrorLaw("e", {"one": law, "two": law}).estimate(pool)
    margin = found.margin(0)
    assert margin[1] < margin[2]


def test_series_have_laws_of_their_own():
    acts = np.geomspace(2e6, 8e7, 5)
    pool = Pool(
        tuple(map(str, range(11))),
        ("a",) * 5 + ("b",) * 5 + ("a",),
        {"acts": np.concatenate([acts, acts, [1e7]])},
    )
    errors = [*law_of(acts), *law_of(acts, e0=30.0), math.nan]
    law = fit_error_law(pool, errors, name="top1_err")
    assert set(law.laws) == {"a", "b"}
    estimate = law.estimate(pool)
    assert estimate.error[-1] == pytest.approx(law_of(np.array([1e7]))[0], rel=0.02)
    assert estimate.error[5] - estimate.error[0] == pytest.approx(15.0, abs=0.5)
