"""`convscale select --budgets`: one base, one strategy, a network for each budget."""

from __future__ import annotations

from math import exp, log

import pandas as pd
import pytest

import convscale as cs
from convscale.cli.main import run
from convscale.errors import InputError
from tests.cli_answers import document, refusal
from tests.device_profiles import hand_made

FAMILY = ["select", "RegNetY-4.0GF", "--candidates", "300"]
ZOO = """model,family,err,latency_ms,flops
a1,a,30,1,1e9
a2,a,25,4,4e9
b1,b,31,1,1e9
b2,b,24,4,5e9
b3,b,20,9,9e9
c1,,22,4,4e9
"""


@pytest.fixture
def zoo(tmp_path):
    path = tmp_path / "zoo.csv"
    path.write_text(ZOO)
    return ["select", "--table", str(path), "--error", "err"]


@pytest.fixture
def profile(tmp_path, monkeypatch):
    monkeypatch.setenv("CONVSCALE_PROFILES", str(tmp_path))
    cs.save_profile(hand_made())
    return ["--profile", "mine", "--batch-size", "64"]


def test_a_series_has_one_base_and_one_strategy(capsys):
    found = document(capsys, *FAMILY, "--budgets", "flops=4G,1G,16G", "--params", "80M")
    assert found["network"] == "RegNetY-4.0GF"
    assert found["budgets"] == ["flops<=1000000000", "flops<=4000000000", "flops<=16000000000"]
    strategies = {one["strategy"] for one in found["series"]} - {None}
    assert strategies == {found["strategy"]}
    assert [one["budget"] for one in found["series"]] == found["budgets"]
    flops = [one["values"]["flops"] for one in found["series"]]
    assert flops == sorted(flops)
    for one in found["series"]:
        counted = cs.count(one["network"])
        assert counted.flops == one["values"]["flops"] <= one["limit"]
        assert counted.params == one["values"]["params"] <= 80e6
        assert one["fits"]
        assert one["command"].startswith("convscale ")
        own = one["own"]
        gain = own["values"]["flops"] / one["values"]["flops"] - 1
        assert own["gain"]["flops"] == pytest.approx(gain)
        assert own["gain"]["cost"] == pytest.approx(
            own["values"]["acts"] / one["values"]["acts"] - 1
        )
        assert (
            own["gain"]["within_uncertainty"] == (abs(gain) < 0.05) or abs(abs(gain) - 0.05) < 0.01
        )
    mean = exp(sum(map(log, flops)) / 3)
    assert found["error"]["geometric_mean_flops"] == pytest.approx(mean)


def test_one_budget_is_what_select_chooses(capsys):
    few = ["--strategies", "w,dWr,dr", "--candidates", "60"]
    alone = document(capsys, *FAMILY[:2], *few, "--flops", "8G")
    [one] = document(capsys, *FAMILY[:2], *few, "--budgets", "flops=8G")["series"]
    assert one["values"] == alone["values"]
    assert one["own"]["network"] == alone["network"]
    assert one["own"]["gain"]["cost"] == 0


def test_strategies_can_be_restricted(capsys):
    few = ["--strategies", "dwr", "--budgets", "flops=2G,8G"]
    found = document(capsys, *FAMILY, *few)
    assert found["strategy"] == "dwr"
    assert found["others"] == []
    assert all(one["own"]["gain"]["flops"] == 0 for one in found["series"])


def test_a_traced_network_gives_a_series_by_predicted_latency(capsys, profile):
    words = ["select", "resnet10t", "--resolution", "64", *profile]
    base = cs.predict("resnet10t", resolution=64, profile="mine", batch_size=64)
    ends = [f"{base.latency_ms * by:.4f}ms" for by in (0.8, 1.5, 3)]
    few = ["--strategies", "w,dWr,r", "--candidates", "12"]
    found = document(capsys, *words, *few, "--budgets", ",".join(ends))
    assert found["strategy"] in ("w", "dWr", "r")
    for one in found["series"]:
        made = cs.predict(one["network"], resolution=64, profile="mine", batch_size=64)
        assert made.latency_ms == pytest.approx(one["values"]["latency_ms"], rel=1e-6)
        assert made.latency_ms <= one["limit"]
    flops = [one["values"]["flops"] for one in found["series"]]
    assert flops == sorted(flops)
    assert flops[0] < flops[2]


def test_of_several_bases_one_gives_the_series(capsys):
    few = ["--strategies", "w,dr", "--candidates", "40", "--budgets", "flops=2G,8G"]
    found = document(capsys, "select", "RegNetY-4.0GF", "ResNet-50", *few)
    assert found["bases"] == found["network"] == ["RegNetY-4.0GF", "ResNet-50"]
    bases = {one["base"]["network"] for one in found["series"]}
    assert len(bases) == 1
    base = bases.pop()
    assert found["strategy"].startswith(f"{base} ")
    assert run(["select", "RegNetY-4.0GF", "ResNet-50", *few]) == 0
    assert f"Take {base} scaled by " in capsys.readouterr().out


def test_a_table_gives_a_series_of_its_own(zoo, capsys):
    found = document(capsys, *zoo, "--budgets", "2ms,5ms,10ms")
    # b has 31, 24 and 20 in the mean 25; a has 30, 25 and again 25
    assert found["strategy"] == "b"
    assert [one["network"] for one in found["series"]] == ["b1", "b2", "b3"]
    assert found["error"] == {"mean": 25}
    assert [one["own"]["network"] for one in found["series"]] == ["a1", "c1", "b3"]
    assert [one["own"]["gain"]["error"] for one in found["series"]] == [1, 2, 0]
    assert found["others"][0]["strategy"] == "a"
    assert (
        "A strategy of its own for each budget would gain: at 2.00 ms err -1.00"
        in (found["reason"])
    )


def test_without_series_each_budget_is_chosen_by_itself(tmp_path, capsys):
    path = tmp_path / "plain.csv"
    path.write_text("model,err,latency_ms\na,30,1\nb,20,4\n")
    words = ["select", "--table", str(path), "--error", "err", "--budgets", "2ms,5ms"]
    found = document(capsys, *words)
    assert found["strategy"] is None
    assert found["error"] is None
    assert [one["network"] for one in found["series"]] == ["a", "b"]
    assert run(words) == 0
    assert "Take a network for each" in capsys.readouterr().out


def test_budgets_with_the_same_network_are_told(zoo, capsys):
    found = document(capsys, *zoo, "--budgets", "5ms,8ms,10ms")
    assert [one["network"] for one in found["series"]] == ["b2", "b2", "b3"]
    assert "The budgets of 5.00 ms and 8.00 ms have the same network, b2." in found["reason"]


def test_a_confidence_holds_for_every_budget(capsys, profile):
    few = ["--strategies", "w,dWr", "--candidates", "60", "--confidence", "0.9"]
    base = cs.predict("RegNetY-4.0GF", profile="mine", batch_size=64).latency_ms
    ends = f"{base / 2}ms,{2 * base}ms"
    found = document(capsys, "select", "RegNetY-4.0GF", *profile, *few, "--budgets", ends)
    for one in found["series"]:
        assert one["values"]["latency_ms"] < one["bounds"]["latency_ms"] <= one["limit"]
    assert "with 90 % confidence" in found["reason"]


def test_a_module_gives_a_series(capsys):
    from timm import create_model

    module = create_model("resnet10t")
    found = cs.select_series(
        module,
        budgets="flops=60M,200M",
        resolution=64,
        strategies=["w", "r"],
        candidates=10,
    )
    assert found.commands == ()
    for one, built in zip(found.as_document()["series"], found.build(), strict=True):
        assert built.achieved.flops == one["values"]["flops"] <= one["limit"]


def test_a_series_may_repeat_a_network_but_not_lack_one(zoo, capsys):
    # a2 and all of b are gone: of a there is a1 for both budgets, of d nothing for the first
    kept = [line for line in ZOO.splitlines() if not line.startswith(("a2", "b"))]
    with open(zoo[2], "w") as file:
        file.write("\n".join([*kept, "d2,d,21,4,6e9"]) + "\n")
    found = document(capsys, *zoo, "--budgets", "1ms,4ms")
    assert found["strategy"] == "a"
    assert [one["network"] for one in found["series"]] == ["a1", "a1"]
    assert found["lacking"] == [{"strategy": "d", "budgets": 1}]


def test_where_no_series_has_all_budgets_each_is_chosen_by_itself(zoo, capsys):
    with open(zoo[2], "a") as file:
        file.write("c0,,40,0.4,5e8\n")
    found = document(capsys, *zoo, "--budgets", "0.5ms,4ms")
    assert found["strategy"] is None
    assert [one["network"] for one in found["series"]] == ["c0", "c1"]
    assert found["notes"][0].startswith("No series of the table has a network for each budget")


def test_text_csv_and_plot_show_the_same_series(tmp_path, capsys):
    table, plot = tmp_path / "series.csv", tmp_path / "series.svg"
    words = [*FAMILY, "--budgets", "flops=2G,8G", "--csv", str(table), "--plot", str(plot)]
    found = document(capsys, *words)
    names = [one["network"] for one in found["series"]]
    frame = pd.read_csv(table)
    assert list(frame["network"]) == names
    assert list(frame["own_network"]) == [one["own"]["network"] for one in found["series"]]
    assert plot.read_bytes().startswith(b"<?xml")
    page = tmp_path / "series.html"
    assert run([*words[:-1], str(page)]) == 0
    out = capsys.readouterr().out
    for one in found["series"]:
        assert one["network"] in out
        assert one["command"] in out
    assert "What a strategy of its own for each budget would gain" in out
    assert "In tables, names stand for RegNetY-4.0GF@NAME:reference." in out
    assert "plotly" in page.read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--budgets", "2ms,5ms"], "The latency of the candidates is not known. Give a profile"),
        (["--budgets", "2G,5G"], "Cannot tell of what '2G' is a budget."),
        (["--budgets", "flops=1G,2G", "--flops", "4G"], "The flops is limited twice"),
        (["--budgets", "resolution=160,224"], "The resolution is no budget"),
        (["--budgets", ","], "The list of budgets is empty."),
    ],
)
def test_what_cannot_be_a_series_is_one_line(words, said, capsys):
    assert said in refusal(capsys, 2, *FAMILY, *words)


def test_an_infeasible_budget_is_named_with_the_nearest_network(capsys):
    words = ["--budgets", "flops=1M,8G", "--strategies", "w", "--factors", "0.5..4"]
    line = refusal(capsys, 3, *FAMILY, *words)
    assert line.startswith("convscale: The budget of flops at most 1.00M cannot be kept: None of")
    assert "The nearest is RegNetY-4.0GF@w:" in line


def test_the_same_from_python():
    found = cs.select_series(
        "RegNetY-4.0GF", budgets=["flops<=2G", "flops<=8G"], strategies=["dWr"], candidates=40
    )
    made = found.build()
    for one, network in zip(found.as_document()["series"], made, strict=True):
        assert network.achieved.flops == one["values"]["flops"]
    assert [own.chosen.network for own in found.own] == [one.network for one in found.members]
    with pytest.raises(InputError, match="Name the networks"):
        cs.select_series(budgets="2ms")


def test_the_law_of_trials_chooses_a_series(tmp_path, capsys):
    trials = tmp_path / "trials.csv"
    lines = ["model,err"]
    for strategy, start in (("w", 30.0), ("dWr", 28.0)):
        for factor in (1, 2, 4, 8):
            lines.append(f"ResNet-50@{strategy}:{factor}:reference,{start - factor**0.5}")
    trials.write_text("\n".join(lines) + "\n")
    words = ["select", "ResNet-50", "--table", str(trials), "--error", "err", "--law"]
    few = ["--strategies", "w,dWr", "--candidates", "40", "--budgets", "flops=5G,20G"]
    found = document(capsys, *words, *few)
    assert found["strategy"] == "dWr"
    assert found["error"]["mean"] == pytest.approx(sum(one["error"] for one in found["series"]) / 2)


def test_a_base_that_no_strategy_scales_is_a_series_by_itself(capsys):
    words = ["select", "ResNet-50", "--strategies", "resnet-rs", "--budgets", "flops=5G,30G"]
    found = document(capsys, *words)
    assert [one["network"] for one in found["series"]] == ["ResNet-50", "ResNet-50"]
    assert any("Left out: ResNet-50@resnet-rs." in note for note in found["notes"])


def test_of_a_table_alone_all_entries_are_tried(capsys):
    words = ["select", "RegNetY-4.0GF", "--strategies", "efficientnet-table", "--flops", "30G"]
    found = document(capsys, *words, "--uncertainty", "0")
    flops = {
        name: cs.scale("RegNetY-4.0GF", strategy=name, rounding="reference", weights=False).achieved
        for name in (f"efficientnet-table@b{at}" for at in range(8))
    }
    fitting = {name: one.flops for name, one in flops.items() if one.flops <= 30e9}
    assert found["strategy"] == max(fitting, key=lambda name: fitting[name])
    assert found["values"]["flops"] == max(fitting.values())
