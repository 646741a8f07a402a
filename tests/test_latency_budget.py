"""Milliseconds as a budget: scaling to a predicted latency."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import convscale as cs
from convscale.cli.main import run
from convscale.errors import BudgetError, InputError
from convscale.network import resolve_base
from convscale.network.tracing.trace import trace_module
from convscale.prediction.form import Execution, coefficients_of
from convscale.quantities import format_ms, parse_ms
from convscale.scaling import latency
from convscale.scaling.depths import runs as runs_of_networks
from convscale.scaling.predicting import predict_network
from convscale.scaling.search import blueprint
from tests.device_profiles import hand_made

# A processor that keeps up with the GPU: where it does not, widths change nothing.
PROFILE = hand_made(coefficients=coefficients_of(Execution()) | {"host": 1.0})
SIDE = 64
BASE = {"profile": PROFILE, "batch_size": 64, "resolution": SIDE}


@pytest.fixture
def profile(tmp_path, monkeypatch):
    monkeypatch.setenv("CONVSCALE_PROFILES", str(tmp_path))
    cs.save_profile(PROFILE)
    return PROFILE


def base_ms(network, resolution=SIDE):
    return cs.predict(network, profile=PROFILE, batch_size=64, resolution=resolution).latency_ms


@given(st.floats(1e-3, 1e6))
def test_a_time_reads_the_same_in_every_unit(ms):
    assert parse_ms(f"{ms!r}ms") == ms
    assert parse_ms(f"{ms / 1e3!r} s") == pytest.approx(ms, rel=1e-12)
    assert parse_ms(f"{ms * 1e3!r}us") == pytest.approx(ms, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("8", "Cannot read '8' as a latency. Write it with its unit: 8ms or 0.008s."),
        ("0ms", "The latency is 0.0; it must be positive and finite."),
        ("-8ms", "The latency is -8.0; it must be positive and finite."),
        ("nanms", "The latency is nan; it must be positive and finite."),
        ("eightms", "Cannot read 'eight' as a latency."),
        ("", "Cannot read '' as a latency."),
    ],
)
def test_a_time_that_is_none_is_refused(text, said):
    with pytest.raises(InputError) as caught:
        parse_ms(text)
    assert caught.value.line.startswith(said)


@pytest.mark.parametrize(
    ("ms", "written"),
    [(0.25, "250 us"), (999.9, "1000 ms"), (1500, "1.50 s"), (90_000, "1.50 min"), (2e8, "2.31 d")],
)
def test_times_are_written_in_the_unit_that_suits_them(ms, written):
    assert format_ms(ms) == written


@pytest.mark.parametrize(
    ("network", "strategy", "share"),
    [
        ("resnet18", "dWr", 0.55),
        ("resnet18", "w", 2.3),
        ("efficientnet_b0", "dWr", 1.7),
        ("RegNetX-200MF", "dwr", 2.0),
    ],
)
def test_the_predicted_latency_meets_the_budget(network, strategy, share):
    budget = share * base_ms(network, None)
    found = cs.scale(
        network, strategy=strategy, latency=budget, profile=PROFILE, batch_size=64, weights=False
    )
    assert found.requested == {"latency_ms": budget}
    assert found.latency.latency_ms == pytest.approx(budget, rel=0.02)
    again = cs.predict(found.module, resolution=found.resolution, profile=PROFILE, batch_size=64)
    assert again.latency_ms == pytest.approx(found.latency.latency_ms, rel=1e-9)
    assert found.base_latency.latency_ms == pytest.approx(base_ms(network, None))
    assert not any("misses the budget" in note for note in found.notes)


def test_no_network_is_predicted_twice(monkeypatch):
    seen = []

    def predicted(network, profile, **options):
        seen.append(network)
        return predict_network(network, profile, **options)

    monkeypatch.setattr(latency, "predict_network", predicted)
    base = base_ms("resnet18")
    found = cs.scale("resnet18", strategy="w", latency=2 * base, weights=False, **BASE)
    assert [one.name for one in seen].count("timm:resnet18") == 1
    modules = [one.build("meta") for one in seen]
    shapes = [tuple(p.shape for p in module.parameters()) for module in modules]
    assert shapes.count(tuple(p.shape for p in found.module.parameters())) == 1


def test_depths_of_dense_blocks_are_run_only_where_they_promise(monkeypatch):
    runs = []

    def traced(module, resolution, **options):
        runs.append(resolution)
        return trace_module(module, resolution, **options)

    monkeypatch.setattr(runs_of_networks, "trace_module", traced)
    base = cs.count("densenet121", resolution=SIDE).flops
    budget = 1.5 * base
    found = cs.scale("densenet121", strategy="dWr", flops=budget, resolution=SIDE, weights=False)
    assert found.achieved.flops == pytest.approx(budget, rel=0.01)
    assert found.achieved == counted(found.module, found.resolution)
    # the base, blocks that can be added, two choices of depths, and two more a round
    assert len(runs) <= 8


def test_one_run_shows_the_depths_of_the_base_and_others_at_a_resolution():
    net = resolve_base("timm:resnet18")
    base = blueprint.Blueprint(net.build("meta"), 64)
    same, deeper = base.variant((2, 2, 2, 2), 48), base.variant((2, 3, 2, 2), 48)
    assert same.traced is deeper.traced
    assert same.complexity(same.rule.widths(1.0)) == counted(net.build("meta"), 48)


def counted(module, resolution):
    found = cs.count(module, resolution=resolution)
    return cs.Complexity(found.flops, found.params, found.acts)


def test_a_larger_budget_gives_a_larger_and_slower_network():
    base = base_ms("resnet18")
    found = [
        cs.scale("resnet18", strategy="w", latency=share * base, weights=False, **BASE)
        for share in (0.5, 1.0, 2.0)
    ]
    assert sorted(found, key=lambda one: one.latency.latency_ms) == found
    assert sorted(found, key=lambda one: one.achieved.flops) == found


def test_the_same_budget_gives_the_same_network_with_weights():
    budget = 1.4 * base_ms("resnet18")
    bare, whole = (
        cs.scale("resnet18", strategy="dWr", latency=budget, weights=weights, **BASE)
        for weights in (False, True)
    )
    assert bare.achieved == whole.achieved
    assert bare.latency == whole.latency
    assert not any(p.is_meta for p in whole.module.parameters())


def test_the_command_tells_latency_as_json(profile, capsys, tmp_path):
    words = ["scale", "resnet18", "--strategy", "dWr", "--profile", "mine", "--batch-size", "64"]
    words += ["--resolution", str(SIDE)]
    budget = 1.5 * base_ms("resnet18")
    out = tmp_path / "scaled"
    assert run([*words, "--latency", f"{budget:.6f}ms", "--json", "--out", str(out)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["requested"] == {"latency_ms": pytest.approx(budget, abs=1e-5)}
    achieved = found["achieved"]
    assert achieved["latency_ms"] == pytest.approx(budget, rel=0.02)
    low, high = achieved["latency_interval_ms"]
    assert low < achieved["latency_ms"] < high
    assert found["base"]["latency_ms"] == pytest.approx(base_ms("resnet18"))
    assert found["ratio"]["latency_ms"] == pytest.approx(1.5, rel=0.02)
    assert found["prediction"]["batch_size"] == 64
    again = cs.predict(str(out), profile=profile, batch_size=64)
    assert again.latency_ms == pytest.approx(achieved["latency_ms"], rel=1e-9)
    assert run([*words, "--latency", f"{budget:.6f}ms"]) == 0
    text = capsys.readouterr().out
    assert "Requested latency" in text
    assert "Predicted by mine at batch size 64" in text


def test_units_are_the_same_to_the_command(profile, capsys):
    words = ["scale", "resnet18", "--strategy", "w", "--profile", "mine", "--json"]
    words += ["--resolution", str(SIDE), "--batch-size", "64"]
    documents = []
    ms = round(1.5 * base_ms("resnet18"))
    for text in (f"{ms}ms", f"{ms / 1000}s", f"{1000 * ms}us"):
        assert run([*words, "--latency", text]) == 0
        documents.append(json.loads(capsys.readouterr().out))
    assert documents[0] == documents[1] == documents[2]


def test_a_profile_shows_latency_beside_another_target(profile, capsys):
    words = ["scale", "resnet18", "--strategy", "w", "--factor", "2", "--profile", "mine", "--json"]
    assert run(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["requested"] == {"factor": 2.0}
    expected = cs.predict("resnet18@w:2", profile=profile)
    assert found["achieved"]["latency_ms"] == pytest.approx(expected.latency_ms)


def test_memory_and_latency_hold_both(profile):
    budget = 2.0 * base_ms("resnet18")
    given_ = {"strategy": "w", "latency": budget, **BASE}
    free = cs.scale("resnet18", weights=False, **given_)
    needed = cs.memory(free.module, resolution=SIDE, optimizer=None, batch_size=64)
    room = cs.MemoryBudget(2 * needed.peak_bytes, batch_size=64, optimizer=None)
    both = cs.scale("resnet18", weights=False, memory=room, **given_)
    assert both.achieved == free.achieved
    assert both.memory.peak_bytes <= room.limit_bytes
    assert both.requested == {"latency_ms": budget, "memory": 2 * needed.peak_bytes}
    tight = cs.MemoryBudget(int(0.7 * needed.peak_bytes), batch_size=64, optimizer=None)
    small = cs.scale("resnet18", weights=False, memory=tight, **given_)
    assert small.memory.peak_bytes <= tight.limit_bytes
    assert small.latency.latency_ms < budget
    assert any("is the tighter limit" in note for note in small.notes)
    with pytest.raises(BudgetError, match="is the tighter limit"):
        cs.scale("resnet18", weights=False, memory=tight, strict=True, **given_)


@pytest.mark.parametrize("work", ["inference", "training"])
def test_memory_beside_a_latency_is_that_of_what_the_profile_predicts(work, profile, capsys):
    cs.save_profile(hand_made(work, work=work))
    base = cs.predict("resnet18", profile=work, batch_size=8, resolution=SIDE).latency_ms
    words = ["scale", "resnet18", "--strategy", "w", "--profile", work, "--batch-size", "8"]
    words += [
        "--resolution",
        str(SIDE),
        "--latency",
        f"{1.5 * base}ms",
        "--memory",
        "64GB",
        "--json",
    ]
    assert run(words) == 0
    found = json.loads(capsys.readouterr().out)["memory"]
    assert (found["training"] is not None) == (work == "training")
    assert (found["batch_size"], found["precision"]) == (8, "mixed")
    asked = ["--optimizer", "adamw", "--precision", "float32"]
    assert run([*words, *asked]) == 0
    found = json.loads(capsys.readouterr().out)["memory"]
    assert (found["optimizer"], found["precision"]) == ("adamw", "float32")
    given = {"strategy": "w", "latency": 1.5 * base, "batch_size": 8, "resolution": SIDE}
    same = cs.scale("resnet18", profile=work, memory="64GB", weights=False, **given)
    assert (same.memory.training is not None) == (work == "training")
    assert (same.memory.batch_size, same.memory.precision) == (8, "mixed")


def test_a_budget_below_the_smallest_network_is_infeasible(profile, capsys):
    words = ["scale", "resnet18", "--strategy", "w", "--profile", "mine", "--latency"]
    assert run([*words, "1us"]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert "lies below that of the smallest network of strategy 'w'" in err
    assert err.count("\n") == 1


def test_a_miss_of_more_than_a_hundredth_is_told(profile):
    budget = 1.03 * base_ms("resnet18")
    found = cs.scale("resnet18", strategy="d", latency=budget, weights=False, **BASE)
    miss = found.latency.latency_ms / budget - 1
    told = [note for note in found.notes if "misses the budget of" in note]
    assert bool(told) == (abs(miss) > 0.01)
    assert not any("flops by" in note for note in found.notes)


def test_the_reference_rounding_takes_a_latency_too(profile):
    base = base_ms("RegNetY-400MF", None)
    found = cs.scale(
        "RegNetY-400MF",
        strategy="dWr",
        latency=4 * base,
        profile=profile,
        batch_size=64,
        rounding="reference",
        weights=False,
    )
    assert found.latency.latency_ms == pytest.approx(4 * base, rel=0.1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--latency", "8ms"], "The latency budget 8ms needs a profile that predicts it"),
        (["--latency", "8", "--profile", "mine"], "Cannot read '8' as a latency budget."),
        (["--latency", "8ms", "--factor", "2", "--profile", "mine"], "2 targets were given"),
        (["--profile", "mine"], "No target was given."),
        (["--latency", "8ms", "--profile", "none"], "Unknown profile 'none'."),
        (["--latency", "8ms", "--profile", "mine", "--batch-size", "0"], "The batch size is 0"),
        (["--factor", "2", "--batch-size", "8"], "--batch-size, --optimizer, --precision and"),
        (["--latency", "8ms", "--memory", "x", "--profile", "mine"], "Cannot read 'x' as memory"),
        (
            ["--latency", "8ms", "--memory", "8GB", "--flops", "1G", "--profile", "mine"],
            "2 targets",
        ),
    ],
)
def test_bad_budgets_are_refused_in_one_line(words, said, profile, capsys):
    assert run(["scale", "resnet18", "--strategy", "dWr", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"convscale: {said}")


def test_an_entry_of_a_table_takes_no_latency(profile, capsys):
    words = ["scale", "resnet18", "--strategy", "efficientnet-table@b1", "--profile", "mine"]
    assert run([*words, "--latency", "8ms"]) == 2
    assert "factors of its own" in capsys.readouterr().err
    assert run([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["achieved"]["latency_ms"] > 0


def test_python_asks_for_a_profile_too():
    with pytest.raises(InputError, match="A latency is predicted by a profile, and none came"):
        cs.scale("resnet18", strategy="w", latency="8ms")
    with pytest.raises(InputError, match="Give a profile with it"):
        cs.scale("resnet18", strategy="w", factor=2, batch_size=8)
