"""The series rule of `selection.series`, against brute force over all paths of small pools."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest

from convscale.errors import BudgetError, InputError
from convscale.selection.budgets import parse_budgets
from convscale.selection.constraints import Constraint, parse_constraint
from convscale.selection.objective import FlopsStandIn, TableErrors
from convscale.selection.pool import Pool
from convscale.selection.select import select
from convscale.selection.series import ordered_budgets, select_series

NEAR = 0.05


def drawn(seed, size=12, names="wdr"):
    """Draw a pool with two limited quantities, and lines of which some share candidates."""
    random = np.random.default_rng(seed)
    flops = random.uniform(1, 20, size).round(2) * 1e9
    acts = (flops / 1e9) ** random.uniform(0.5, 1.2, size) * 1e6
    params = random.uniform(1, 10, size).round(1) * 1e6
    values = {"flops": flops, "acts": acts, "params": params}
    labels = tuple(f"net{at:02d}" for at in range(size))
    lines = {name: [at for at in range(size) if random.random() < 0.6] for name in names}
    return Pool(labels, ("",) * size, values), lines


def brute(pool, lines, budgets, uncertainty, errors=None):
    """Apply the rule by trying every path of every line."""
    flops, acts = pool.values["flops"], pool.values["acts"]
    error = -np.log(flops) if errors is None else np.array(errors)
    margin = float(np.log1p(uncertainty)) if errors is None else uncertainty
    allowed = [pool.values[one.on] <= one.limit for one in budgets]

    def paths(line):
        for path in product(line, repeat=len(budgets)):
            rises = all(flops[a] <= flops[b] for a, b in pairwise(path))
            if rises and all(fits[at] for fits, at in zip(allowed, path, strict=True)):
                yield path

    def mean(values, path):
        return float(np.mean([values[at] for at in path]))

    logs = np.log(acts)
    best = {}
    for name, line in lines.items():
        found = list(paths(line))
        if found:
            best[name] = min(found, key=lambda path: (mean(error, path), mean(logs, path)))
    if not best:
        return None
    first = min(best.values(), key=lambda path: (mean(error, path), mean(logs, path)))

    def equal(path):
        pairs = zip(path, first, strict=True)
        return all(error[at] - error[top] < margin or error[at] <= error[top] for at, top in pairs)

    cheap = {
        name: min(
            filter(equal, paths(lines[name])),
            key=lambda path: (mean(logs, path), mean(error, path)),
        )
        for name, own in best.items()
        if equal(own)
    }
    name = min(cheap, key=lambda one: (mean(logs, cheap[one]), mean(error, cheap[one]), one))
    return name, cheap[name], len(cheap)


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("on", ["acts", "params", "flops"])
def test_the_series_is_that_of_brute_force(seed, on):
    pool, lines = drawn(seed)
    ends = np.quantile(pool.values[on], [0.3, 0.6, 0.9])
    budgets = [Constraint(on, float(end)) for end in ends]
    found = select_series(pool, FlopsStandIn(NEAR), [], budgets, lines, cost="acts")
    expected = brute(pool, lines, budgets, NEAR)
    if expected is None:
        assert found.chosen is None
        return
    assert (found.chosen.name, found.chosen.places, found.equal) == expected
    flops = pool.values["flops"][list(found.places)]
    assert list(flops) == sorted(flops)


@pytest.mark.parametrize("seed", range(15))
def test_with_errors_of_a_table_sizes_rise_too(seed):
    pool, lines = drawn(seed)
    random = np.random.default_rng(100 + seed)
    errors = tuple(random.uniform(20, 30, len(pool)).round(1))
    budgets = [Constraint("acts", float(end)) for end in np.quantile(pool.values["acts"], [0.4, 1])]
    objective = TableErrors("err", errors, uncertainty=0.5)
    found = select_series(pool, objective, [], budgets, lines, cost="acts")
    expected = brute(pool, lines, budgets, 0.5, errors)
    assert (found.chosen.name, found.chosen.places, found.equal) == expected


@pytest.mark.parametrize("seed", range(10))
def test_one_budget_is_an_ordinary_choice(seed):
    pool, _ = drawn(seed)
    budget = Constraint("acts", float(np.median(pool.values["acts"])))
    lines = {"even": range(0, len(pool), 2), "odd": range(1, len(pool), 2)}
    found = select_series(pool, FlopsStandIn(NEAR), [], [budget], lines, cost="acts")
    alone = select(pool, FlopsStandIn(NEAR), [budget], cost="acts")
    assert found.places == (alone.chosen,) == (found.own[0].chosen,)
    assert found.gain(0) == 0
    assert found.cost_ratio(0) == 1


def test_the_order_of_budgets_and_of_candidates_does_not_matter():
    pool, lines = drawn(3)
    limits = [
        Constraint("acts", float(end)) for end in np.quantile(pool.values["acts"], [0.4, 0.9])
    ]
    forth = select_series(pool, FlopsStandIn(NEAR), [], limits, lines, cost="acts")
    back = select_series(
        pool, FlopsStandIn(NEAR), [], [*limits[::-1], limits[0]], lines, cost="acts"
    )
    assert (forth.budgets, forth.chosen) == (back.budgets, back.chosen)
    order = np.random.default_rng(0).permutation(len(pool))
    place = {int(old): new for new, old in enumerate(order)}
    mixed = {name: [place[at] for at in own] for name, own in lines.items()}
    other = select_series(pool.only(order), FlopsStandIn(NEAR), [], limits, mixed, cost="acts")
    labels = pool.only(order).labels
    assert [labels[at] for at in other.places] == [pool.labels[at] for at in forth.places]


@pytest.mark.parametrize("seed", range(10))
def test_another_budget_leaves_the_own_choices_of_the_others(seed):
    pool, lines = drawn(seed)
    limits = [
        Constraint("acts", float(end)) for end in np.quantile(pool.values["acts"], [0.3, 0.7, 1])
    ]
    two = select_series(pool, FlopsStandIn(), [], limits[::2], lines, cost="acts")
    three = select_series(pool, FlopsStandIn(), [], limits, lines, cost="acts")
    assert [one.chosen for one in two.own] == [three.own[0].chosen, three.own[2].chosen]


def test_other_constraints_hold_for_every_network_of_the_series():
    pool, lines = drawn(5)
    budgets = [Constraint("acts", float(end)) for end in np.quantile(pool.values["acts"], [0.5, 1])]
    limit = Constraint("params", float(np.quantile(pool.values["params"], 0.8)))
    found = select_series(pool, FlopsStandIn(), [limit], budgets, lines, cost="acts")
    assert (pool.values["params"][list(found.places)] <= limit.limit).all()


def test_a_budget_that_nothing_keeps_is_named_with_the_nearest():
    pool = Pool(("a", "b"), ("", ""), {"flops": np.array([2e9, 4e9])})
    limits = [Constraint("flops", 1e9), Constraint("flops", 4e9)]
    with pytest.raises(
        BudgetError,
        match=r"The budget of flops at most 1\.00G cannot be kept: .* The nearest is a: flops "
        r"2\.00G, 1\.00G \(100\.0 %\) over the limit of 1\.00G\.",
    ):
        select_series(pool, FlopsStandIn(), [], limits, {"w": [0, 1]})


def test_strategies_that_lack_a_network_are_told():
    pool = Pool(("a", "b"), ("", ""), {"flops": np.array([1e9, 4e9])})
    limits = [Constraint("flops", 1e9), Constraint("flops", 4e9)]
    found = select_series(pool, FlopsStandIn(), [], limits, {"w": [0, 1], "d": [1], "r": []})
    assert (found.chosen.name, found.lacking) == ("w", (("d", 1), ("r", 0)))
    none = select_series(pool, FlopsStandIn(), [], limits, {"d": [1]})
    assert none.chosen is None
    assert none.places == (0, 1)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("2ms,5ms", ["latency_ms<=2ms", "latency_ms<=5ms"]),
        (" 2 ms , 0.005s ", ["latency_ms<=2ms", "latency_ms<=5ms"]),
        ("flops=0.5G,1G", ["flops<=500000000", "flops<=1000000000"]),
        ("memory=1GB", ["memory_bytes<=1000000000B"]),
        ("train-hours=24,2d", ["training_h<=24h", "training_h<=48h"]),
        ("90min,24h", ["training_h<=1.5h", "training_h<=24h"]),
        ("2kWh,3.6MJ", ["energy_kwh<=2kWh", "energy_kwh<=1kWh"]),
        ("throughput=2K,500", ["images_per_second>=2000/s", "images_per_second>=500/s"]),
        ("latency<=2ms,latency<=5ms", ["latency_ms<=2ms", "latency_ms<=5ms"]),
        (["flops<=1G", Constraint("flops", 2e9)], ["flops<=1000000000", "flops<=2000000000"]),
    ],
)
def test_budgets_are_read(text, written):
    found = parse_budgets(text)
    assert [str(one) for one in found] == written
    assert [parse_constraint(str(one)) for one in found] == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0.5G,1G", "Cannot tell of what '0.5G' is a budget. Write times as in 2ms,5ms,12ms, or"),
        ("1GB", "Cannot tell of what '1GB' is a budget."),
        (" , ", "The list of budgets is empty."),
        ("flops=", "The list of budgets is empty."),
        ("speed=1,2", "Unknown quantity 'speed'."),
        ("flops=1G,-2", "-2"),
        ("latency=2,5", "Cannot read '2' as a latency. Write it with its unit: 8ms or 0.008s."),
    ],
)
def test_what_is_no_budget_is_refused(text, said):
    with pytest.raises(InputError) as error:
        parse_budgets(text)
    assert said in error.value.line


@pytest.mark.parametrize(
    ("budgets", "others", "said"),
    [
        ("flops=1G,params=2M", [], "The budgets are on flops and params."),
        ("resolution=224,256", [], "The resolution is no budget"),
        ("flops=1G,2G", ["flops<=4G"], "limited twice: by the budgets, and by flops<=4000000000."),
        ("2ms", ["latency<=5ms"], "The latency is limited twice"),
        ([], [], "The list of budgets is empty."),
    ],
)
def test_budgets_that_are_none_together_are_refused(budgets, others, said):
    with pytest.raises(InputError) as error:
        ordered_budgets(parse_budgets(budgets), [parse_constraint(one) for one in others])
    assert said in error.value.line


def test_budgets_are_sorted_each_once_the_tightest_first():
    limits = ordered_budgets(parse_budgets("5ms,2ms,5ms"), [])
    assert [one.limit for one in limits] == [2, 5]
    rates = ordered_budgets(parse_budgets("throughput=500,2000"), [])
    assert [one.limit for one in rates] == [2000, 500]
