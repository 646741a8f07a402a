"""`convscale select NETWORK…`: scaled versions searched, and what is said of them is built."""

from __future__ import annotations

import inspect
import json

import numpy as np
import pytest
from torch.nn import Conv2d

import convscale as cs
from convscale.cli.main import run
from convscale.errors import BudgetError, InputError
from convscale.families import read_candidates
from convscale.families.registry import named
from convscale.families.widths import width_multiples
from convscale.prediction.plan import TrainingPlan
from convscale.prediction.schedule import Schedule
from convscale.report.selection_plot import alpha_frame, selection_drawing, selection_page
from convscale.selection.constraints import parse_constraint
from convscale.selection.lattice import UNIT, around, exponents_of, lattice
from convscale.strategy import parse_strategy
from convscale.study.costed import width_multiple
from convscale.study.space import strategies_of
from tests.device_profiles import hand_made

PROFILE = hand_made()
GPU, TRAINING = "rtx3090-amp-nchw", "rtx3090-train-amp-nhwc"
AXES = ("depth", "width", "resolution")
FEW = {"strategies": ("w", "dWr"), "candidates": 12}


def chosen_values(found):
    return {name: own[found.found.chosen] for name, own in found.found.pool.values.items()}


def counted(label):
    found = cs.count(label)
    return {"flops": found.flops, "params": found.params, "acts": found.acts}


# ---- what is said of the winner is what is built -------------------------------------------


@pytest.mark.parametrize(
    ("network", "limits"),
    [
        ("RegNetY-4.0GF", ["flops<=8G", "params<=40M"]),
        ("RegNetZ-500MF", ["acts<=4M"]),
        ("EfficientNet-B0", ["params<=3M", "resolution<=200"]),
        ("ResNet-50", ["download<=50MB", "flops<=2G"]),
    ],
)
def test_the_winner_of_a_family_counts_what_is_said_when_it_is_built_by_its_name(network, limits):
    found = cs.select(network, limits=limits)
    values = chosen_values(found)
    assert counted(found.chosen.network) == {name: values[name] for name in counted(network)}
    assert cs.count(found.chosen.network).resolution == found.chosen.resolution
    for limit in map(parse_constraint, limits):
        assert values[limit.on] <= limit.limit
    built = found.build()
    assert built.achieved.as_dict() == counted(found.chosen.network)


@pytest.mark.parametrize("network", ["resnet18", "torchvision:mobilenet_v2", "regnetx_002"])
def test_the_winner_of_a_traced_network_counts_what_is_said_when_it_is_built(network):
    base = cs.count(network)
    limits = [f"flops<={1.5 * base.flops}", f"params<={1.4 * base.params}"]
    found = cs.select(network, limits=limits, **FEW)
    values = chosen_values(found)
    label = found.chosen.network
    assert counted(label) == {name: values[name] for name in counted(label)}
    assert values["flops"] <= 1.5 * base.flops
    assert values["flops"] > base.flops


def test_every_candidate_can_be_built_by_its_name_at_its_side():
    found = cs.select("RegNetX-400MF", limits=["flops<=1G"])
    pool = found.found.pool
    rng = np.random.default_rng(0)
    for at in rng.choice(len(pool), 12, replace=False):
        label = pool.labels[at]
        assert counted(label) == {
            name: pool.values[name][at] for name in ("flops", "params", "acts")
        }
        assert cs.count(label).resolution == found.entries[at].resolution


def test_predictions_of_candidates_are_those_of_the_built_networks():
    for network, limit in (("RegNetY-400MF", "latency<=30ms"), ("resnet18", "latency<=40ms")):
        found = cs.select(network, limits=[limit], profile=GPU, batch_size=64, **FEW)
        told = cs.predict(found.chosen.network, profile=GPU, batch_size=64)
        assert chosen_values(found)["latency_ms"] == pytest.approx(told.latency_ms, rel=1e-9)


def test_memory_and_trainings_of_candidates_are_those_of_the_built_networks():
    training = {"images": 50_000, "epochs": 90, "devices": 2, "power_w": 300.0}
    for network in ("RegNetX-200MF", "resnet18"):
        found = cs.select(
            network,
            limits=["training_h<=2", "energy<=5kWh", "memory<=200MB"],
            batch_size=2,
            train_profile=TRAINING,
            **training,
            **FEW,
        )
        values, label = chosen_values(found), found.chosen.network
        plan = cs.plan(label, profile=TRAINING, **training)
        assert values["training_h"] == pytest.approx(plan.total_s / 3600, rel=1e-9)
        assert values["energy_kwh"] == pytest.approx(plan.energy_kwh, rel=1e-9)
        peak = cs.memory(label, batch_size=2).inference.peak_bytes
        assert values["memory_bytes"] == peak


@pytest.mark.parametrize(
    "name", ["RegNetY-4.0GF", "ResNet-50", "ResNet-18", "EfficientNet-B0", "MobileNetV2"]
)
def test_widths_of_a_family_are_multiples_of_what_the_built_network_shows(name):
    net = named(name)
    more = (
        {}
        if name in ("EfficientNet-B0", "MobileNetV2")
        else {
            "group_widths": [net.group_widths],
            "bottleneck_multipliers": [net.bottleneck_multipliers],
        }
    )
    found = read_candidates(net, depths=[net.depths], widths=[net.widths], **more)
    assert width_multiples(found).tolist() == [width_multiple(cs.operators(name))]


def test_a_schedule_takes_what_a_plan_takes():
    from convscale.prediction.prediction import Prediction

    profile = hand_made(work="training")
    step = Prediction("net", 224, 250, "mine", profile.execution, 400.0, (360.0, 450.0), 0.9)
    plan = TrainingPlan(step, images=999_999, epochs=7, devices=3, efficiency=0.9, power_w=250.0)
    schedule = Schedule(profile, 999_999, 7, 250, devices=3, efficiency=0.9, power_w=250.0)
    assert schedule.hours(400.0) == pytest.approx(plan.total_s / 3600)
    assert schedule.energy_kwh(schedule.hours(400.0)) == pytest.approx(plan.energy_kwh)


def test_a_table_without_times_takes_the_training_that_is_described(tmp_path, capsys):
    table = tmp_path / "zoo.csv"
    table.write_text("model,top1_err\nresnet18,30\nresnet34,26\n")
    words = ["--table", str(table), "--error", "top1_err", "--train-profile", TRAINING]
    training = ["--images", "50000", "--epochs", "90", "--power", "300W"]
    found = document(capsys, *words, *training, "--train-hours", "100", "--energy", "100kWh")
    plan = cs.plan("resnet34", profile=TRAINING, images=50_000, epochs=90, power_w=300.0)
    assert found["network"] == "timm:resnet34"
    assert found["train_profile"] == TRAINING
    assert found["values"]["training_h"] == pytest.approx(plan.total_s / 3600)
    assert found["values"]["energy_kwh"] == pytest.approx(plan.energy_kwh)
    assert run(["select", *words, *training[:4], "--energy", "5kWh"]) == 2
    assert "The energy of a training needs the power of a device" in capsys.readouterr().err


# ---- the space that is searched ------------------------------------------------------------


def test_points_of_the_lattice_are_strategies_with_these_shares():
    points = [*lattice(4, axes=frozenset("dwgr")), *lattice(10, axes=frozenset("dwr"))]
    for point in points:
        for follows in (True, False):
            strategy = parse_strategy(point.notation(follows=follows))
            assert exponents_of(strategy, follows=follows) == point
    assert len({*lattice(4, axes=frozenset("dwr"))}) == 15


def test_neighbours_differ_by_one_step_between_two_axes():
    point = exponents_of(parse_strategy("dwr"), follows=True)
    near = list(around(point, 2, axes=frozenset("dwr")))
    assert len(near) == 6
    for one in near:
        moved = (
            one.depth - point.depth,
            one.width - point.width,
            one.resolution - point.resolution,
        )
        assert sorted(moved) == [-2, 0, 2]
        assert one.depth + one.width + one.resolution == UNIT


def test_equal_strategies_are_tried_once():
    names = [one.name for one in strategies_of(["dWr", "d1_w8_r1", "w", "dWr@1"])]
    assert names == ["dWr", "w"]


def test_no_factor_leaves_the_range_not_even_of_a_table():
    found = cs.select("RegNetX-400MF", limits=["flops<=1G"], factors=(0.8, 1.5))
    asks = [entry.scaled.ask for entry in found.entries if entry.scaled.ask.strategy]
    scales = [getattr(ask.strategy, "scale", ask.factor) for ask in asks]
    assert 0.8 <= min(scales) < max(scales) <= 1.5


def test_two_searches_give_the_same_answer():
    first, second = (
        cs.select("EfficientNet-B0", limits=["flops<=1G"], candidates=300).as_document()
        for _ in range(2)
    )
    assert first == second


# ---- the command ---------------------------------------------------------------------------


def document(capsys, *words):
    assert run(["select", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_document_says_how_the_winner_is_built(capsys):
    found = document(capsys, "RegNetY-4.0GF", "--flops", "8G", "--strategies", "dwr,dWr")
    assert found["base"] == {"network": "RegNetY-4.0GF", "resolution": 224}
    assert found["strategy"] in ("dwr", "dWr")
    words = found["command"].split()[1:]
    assert run([*words, "--json"]) == 0
    built = json.loads(capsys.readouterr().out)
    assert built["achieved"]["flops"] == found["values"]["flops"]
    assert built["resolution"] == found["resolution"]
    assert [point["alpha"] for point in found["alpha_curve"]] == pytest.approx([1 / 3, 0.8])


def test_several_networks_are_searched_together(capsys):
    found = document(
        capsys, "RegNetX-400MF", "RegNetY-400MF", "--flops", "1G", "--strategies", "w,d"
    )
    assert found["bases"] == ["RegNetX-400MF", "RegNetY-400MF"]
    bases = {other["base"]["network"] for other in found["others"]}
    assert bases == {"RegNetX-400MF", "RegNetY-400MF"}


def test_nothing_that_fits_is_exit_3_with_the_nearest(capsys):
    assert run(["select", "RegNetY-4.0GF", "--flops", "1G", "--params", "0.1M"]) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("convscale: None of ")
    assert "over the limit of 100K" in captured.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["RegNetY-4.0GF"], "Nothing limits how large the network may become"),
        (["RegNetY-4.0GF", "--resolution-range", "160..320"], "Nothing limits how large"),
        (["resnet5", "--flops", "1G"], "Unknown network 'resnet5'"),
        (["resnet18", "--flops", "1G", "--strategies", "q"], "Unknown axis 'q'"),
        (["RegNetY-4.0GF", "--flops", "1G", "--factors", "8..2"], "The range of factors 8..2 is"),
        (["RegNetY-4.0GF", "--flops", "1G", "--factors", "2"], "Cannot read '2' as a range"),
        (["RegNetY-4.0GF", "--flops", "1G", "--exponents", "no"], "Write on or off"),
        (["RegNetY-4.0GF", "--latency", "5ms"], "The latency of the candidates is not known"),
        (["RegNetY-4.0GF", "--train-hours", "5"], "The training time of the candidates is not"),
        (["RegNetY-4.0GF", "--train-hours", "5", "--images", "1M"], "Give --train-profile and"),
        (["RegNetY-4.0GF", "RegNetY-4.0GF", "--flops", "1G"], "came twice"),
        (["RegNetY-4.0GF", "--flops", "1G", "--error", "top1"], "Errors are those of a table"),
        (["RegNetY-4.0GF", "--flops", "1G", "--confidence", "0.9"], "A confidence is that of"),
        (["RegNetY-4.0GF", "--flops", "1G", "--table", "no.csv"], "Networks and a table were"),
        (["resnet18", "--flops", "1G", "--rounding", "reference"], "is a rule for paper families"),
        (["RegNetY-4.0GF", "--flops", "1G", "--candidates", "0"], "number of candidates"),
    ],
)
def test_a_wrong_request_is_one_line(words, said, capsys):
    assert run(["select", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert captured.err.count("\n") == 1


def test_trials_give_laws_for_the_strategies_that_were_tried(tmp_path):
    sizes = np.array([2e6, 4e6, 8e6, 16e6])
    lines = ["network,strategy,acts,top1_err"]
    for strategy, b in (("w", 8.0), ("dwr", 9.0)):
        errors = 15 + b * (sizes / 8e6) ** -0.5
        lines += [
            f"RegNetX-400MF@{strategy}:{s:g},{strategy},{a:g},{e:.4f}"
            for s, a, e in zip((0.5, 1, 2, 4), sizes, errors, strict=True)
        ]
    table = tmp_path / "trials.csv"
    table.write_text("\n".join(lines))
    found = cs.select("RegNetX-400MF", table=table, error="top1_err", law=True, limits=["acts<=8M"])
    pool, estimate = found.found.pool, found.found.estimate
    own = [at for at, name in enumerate(pool.series) if name == "w"]
    acts = pool.values["acts"][own]
    assert estimate.error[own] == pytest.approx(15 + 8 * (acts / 8e6) ** -0.5, rel=0.05)
    other = [at for at, name in enumerate(pool.series) if name not in ("w", "dwr")]
    near = [
        min(own, key=lambda i, a=a: abs(pool.values["acts"][i] - a))
        for a in pool.values["acts"][other]
    ]
    assert (estimate.uncertainty[other] > estimate.uncertainty[near]).all()
    assert "one law over all" in found.reason


def test_a_module_is_searched_at_a_resolution():
    import torchvision

    module = torchvision.models.resnet18()
    with pytest.raises(InputError, match="resolution"):
        cs.select(module, limits=["flops<=1G"])
    found = cs.select(module, limits=["flops<=1G"], strategies=("w",), resolution=64)
    assert found.found.pool.values["flops"][found.found.chosen] <= 1e9
    with pytest.raises(BudgetError):
        cs.select(module, limits=["flops<=10"], strategies=("w",), resolution=64)


def test_the_options_stand_in_the_signature():
    for choose in (cs.select, cs.select_series):
        known = inspect.signature(choose).parameters
        assert known["confidence"].default is None
        assert known["batch_size"].default == 1
        assert known["dtype"].default == "float32"
        assert "options" not in known


def test_an_option_that_is_none_is_refused_with_the_nearest():
    with pytest.raises(TypeError, match=r"There is no option 'limit'\. Did you mean 'limits'\?"):
        cs.select("RegNetY-4.0GF", limit=["flops<=8G"])


TRIALS = "network,err\n"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("resnet34@w:1,24\nresnet34@w:2,22\nresnet34@w:4,21\n", "No trial is of resnet10t: the"),
        ("resnet10t@w:1,30\nresnet10t@w:2,\nresnet10t@w:4,25\n", "1 of 3 trials have no err, and"),
        ("resnet10t@w:1,30\nresnet10t@w:1,30.1\n", "The law is fitted to 1 network alone: how"),
        ("resnet10t@w:1,30\nresnet10t@w:2,28\n", "The law is fitted to 2 networks alone: how"),
    ],
)
def test_trials_that_tell_little_are_said_so(tmp_path, lines, said):
    table = tmp_path / "trials.csv"
    table.write_text(TRIALS + lines)
    asked = {"table": table, "error": "err", "law": True, "limits": ["flops<=1G"], **FEW}
    found = cs.select("resnet10t", resolution=64, **asked)
    assert any(note.startswith(said) for note in found.notes)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0", "The confidence is 0; it must be at least 0.5"),
        ("-0.1", "The confidence is -0.1; it must be at least 0.5"),
        ("1", "The confidence is 1; it must be at least 0.5"),
        ("nan", "The confidence is nan; it must be at least 0.5"),
        ("x", "Cannot read 'x' as a confidence. Write 0.9 or 90%."),
    ],
)
def test_a_confidence_that_is_none_is_refused(text, said, capsys):
    words = ["select", "RegNetX-400MF", "--latency", "20ms", "--profile", GPU, "--confidence", text]
    assert run(words) == 2
    assert said in capsys.readouterr().err


# ---- what ends a search ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "factors", "high", "advice"),
    [
        (["flops<=4G"], (0.5, 1.5), 1.5, "A wider range is written --factors 1..256."),
        (["params<=1G"], None, 16, "; or limit flops, latency, acts or the resolution too."),
    ],
)
def test_the_end_of_the_range_of_factors_is_told_with_what_limits_leave(
    limits, factors, high, advice
):
    found = cs.select("RegNetX-400MF", limits=limits, factors=factors, **FEW)
    (note,) = [one for one in found.notes if one.startswith("No limit ends")]
    assert note.endswith(advice)
    limit = parse_constraint(limits[0])
    used = 100 * getattr(cs.count(found.chosen.network), limit.on) / limit.limit
    assert f"that of the {limit.on} is nearest, {used:.2g} % of it are taken." in note
    assert f"what ends the search is the range of factors, up to {high}." in found.reason


def test_the_number_of_candidates_is_told_where_it_ends_the_search():
    found = cs.select("RegNetX-400MF", limits=["flops<=1G"], candidates=1)
    assert found.reason.count("what ends the search is the number of candidates, 1 from") == 1


def test_a_family_is_searched_by_memory_in_mixed_precision_and_the_winner_needs_it():
    asked = {"precision": "mixed", "batch_size": 2}
    found = cs.select("RegNetX-400MF", limits=["memory<=60MB"], candidates=400, **asked)
    assert len(found.found.pool) > 100
    own = cs.memory(found.chosen.network, optimizer=None, **asked)
    assert chosen_values(found)["memory_bytes"] == own.inference.peak_bytes <= 60_000_000


def test_select_needs_an_optimizer():
    with pytest.raises(InputError, match=r"^The optimizer is that of a step of training\."):
        cs.select("RegNetX-400MF", limits=["flops<=1G"], optimizer=None)


@pytest.mark.parametrize(
    ("network", "strategy", "group"),
    [
        ("RegNetX-400MF", "w", 0.0),  # by the authors' rule it is scaled only where it is named
        ("RegNetX-400MF", "d1_w8_g8_r1", 0.8),
        ("ResNet-50", "w", 0.0),  # one group, of a width that stays
        ("ResNet-18", "w", None),
        ("EfficientNet-B0", "w", None),
    ],
)
def test_the_share_of_group_width_is_told_of_networks_that_have_groups(network, strategy, group):
    found = cs.select(network, limits=["flops<=2G"], strategies=[strategy], candidates=8)
    shares = next(
        one["exponents"] for one in found.as_document()["front"] if one["strategy"] == strategy
    )
    assert shares["group_width"] == group
    assert shares["depth"] + shares["width"] + shares["resolution"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("network", "multiple", "said"),
    [
        ("ResNet-18", 7, "are multiples of 64, and rounding holds to no others: ask for one that"),
        (
            "ResNet-18",
            32,
            "are multiples of 64, and rounding nearest holds to 32: write",
        ),
        ("RegNetX-400MF", 48, "are multiples of 32, and rounding holds to no others"),
    ],
)
def test_a_multiple_of_widths_that_no_candidate_has_is_told_with_those_of_the_base(
    network, multiple, said
):
    limits = ["flops<=350M", f"width_multiple%{multiple}"]
    asked = {"limits": limits, "strategies": ["w"], "candidates": 10, "factors": (0.1, 0.4)}
    with pytest.raises(BudgetError, match=f"kept by [01]\\. The widths of {network} {said}"):
        cs.select(network, **asked)


def test_rounding_nearest_keeps_a_multiple_that_the_widths_of_the_base_have():
    limits = ["flops<=350M", "width_multiple%32"]
    found = cs.select("ResNet-18", limits=limits, strategies=["w"], rounding="nearest")
    widths = [one.out_channels for one in found.build().module.modules() if isinstance(one, Conv2d)]
    assert widths
    assert {width % 32 for width in widths} == {0}


# ---- along α --------------------------------------------------------------------------------


def test_the_curve_along_alpha_says_what_fits_and_shows_the_choice():
    found = cs.select("RegNetX-400MF", limits=["acts<=4M"], strategies=["dr", "dWr", "w"])
    curve = alpha_frame(found)
    assert curve["kind"].tolist().count("chosen") == 1
    assert curve["error"][curve["kind"] == "chosen"].tolist() == [chosen_values(found)["flops"]]


def test_alphas_that_miss_a_limit_are_drawn_hollow(tmp_path):
    limits, strategies = ["latency<=4ms"], ["dr", "dwr", "w"]
    asked = {"profile": GPU, "batch_size": 64, "candidates": 60, "strategies": strategies}
    found = cs.select("RegNetY-400MF", limits=limits, **asked)
    curve = alpha_frame(found)
    kept = {
        round(one.alpha, 6): found.found.pool.values["latency_ms"][one.at] <= 4
        for one in found.alpha_curve
    }
    told = dict(zip(curve["alpha"].round(6), curve["kind"] != "does not fit", strict=True))
    assert told == kept
    assert set(kept.values()) == {True, False}
    panel = selection_drawing(found).axes[1]
    hollow = [one for one in panel.get_lines() if one.get_markerfacecolor() == "white"]
    assert [len(one.get_xdata()) for one in hollow] == [list(kept.values()).count(False)]
    assert "hollow: does not fit" in panel.get_xlabel()
    symbols = [one.marker.symbol for one in selection_page(found).data if one.xaxis == "x2"]
    assert [list(one).count("circle-open") for one in symbols] == [len(hollow[0].get_xdata())] * 2


def test_the_tables_show_the_end_of_the_interval_that_is_held_to_the_limit(capsys):
    asked = "RegNetX-400MF --latency 4ms --batch-size 64 --confidence 0.9 --strategies dwr"
    assert run(["select", *asked.split(), "--profile", GPU, "--candidates", "12"]) == 0
    shown = capsys.readouterr().out
    assert "at 90 %" in shown
    (line,) = [line for line in shown.splitlines() if line.endswith(("misses", "chosen   "))][:1]
    name = line.split()[0]
    told = cs.predict(f"RegNetX-400MF@{name}:reference", profile=GPU, batch_size=64, coverage=0.8)
    assert f"{told.interval_ms[1]:.2f} ms" in line


# ---- what Python is given by mistake ----------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"limits": [("flops", 1e9)]}, "A limit is ('flops', 1000000000.0). Write it as text"),
        ({"limits": 5}, "The limits are 5. Write a list, as in ['latency<=5ms']."),
        ({"factors": 2}, "The range of factors is 2. Write its two ends, as in (0.25, 8)."),
        ({"factors": (1, 2, 3)}, "The range of factors is (1, 2, 3)."),
        ({"profile": GPU, "confidence": "0.9"}, "The confidence is '0.9'. Write a number"),
        ({"cost": 3}, "A quantity is 3. Write its name, as in 'flops'."),
        ({"table": 5, "law": True, "error": "e"}, "The table is 5. Name its file"),
        ({"table": "a.csv", "law": True, "error": 5}, "The column of the errors is 5."),
    ],
)
def test_a_value_of_a_wrong_kind_is_refused_in_one_line(given, said):
    with pytest.raises(InputError) as caught:
        cs.select("RegNetX-400MF", **{"limits": ["flops<=1G"], **given})
    assert said in caught.value.line
    with pytest.raises(InputError, match=r"^A budget is 1\. Write it as text, as in 'flops=1G'\.$"):
        cs.select_series("RegNetX-400MF", budgets=[1])


def test_limits_and_strategies_may_be_one_text():
    several = cs.select("RegNetX-400MF", limits=["flops<=1G", "params<=9M"], **FEW)
    asked = {"strategies": "w, dWr", "candidates": FEW["candidates"]}
    one = cs.select("RegNetX-400MF", limits="flops<=1G,params<=9M", **asked)
    assert one.as_document() == several.as_document()
