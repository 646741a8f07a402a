"""`convscale select --measure`: the best candidates are measured here, and that decides."""

from __future__ import annotations

from itertools import combinations

import pytest

import convscale as cs
from convscale.cli.main import run
from convscale.errors import BudgetError
from convscale.runtime import Conditions, Failure, Measurement
from convscale.study import borrowed, measured_choice
from convscale.study.finalists import finalists, ranked
from tests.cli_answers import document, refusal
from tests.device_profiles import hand_made

QUICK = ["--repeats", "3", "--time-limit", "20"]
SMALL = ["select", "resnet10t", "--resolution", "64", "--candidates", "16"]
ZOO = """model,img_size,err,predicted
resnet10t,64,30,2
resnet18,64,25,3
resnet14t,64,28,4
no_such_network,64,20,1
mobilenetv3_small_050,64,40,1
"""
HERE = Conditions("cpu", "some processor", 2, "float32", 1, "contiguous", "2.14", rounds=3)


@pytest.fixture
def zoo(tmp_path):
    path = tmp_path / "zoo.csv"
    path.write_text(ZOO)
    words = ["select", "--table", str(path), "--error", "err", "--latency-column", "predicted"]
    return [*words, "--latency", "5ms"]


@pytest.fixture
def timed(monkeypatch):
    """Let networks take the times (ms) that a test says, by the name before @; None fails."""

    def take(times):
        def measure(subjects, *, batch_size, mode="inference", **_):
            found = []
            for one in subjects:
                ms = times(one.name)
                if ms is None:
                    failed = f"{one.name} ran out of memory."
                    made = Failure(one.name, one.resolution, batch_size, mode, HERE, failed)
                else:
                    wall = (ms / 1e3,) * 9
                    made = Measurement(one.name, one.resolution, batch_size, mode, HERE, wall)
                found.append(made)
            return found

        for module in (measured_choice, borrowed):
            monkeypatch.setattr(module, "measure_together", measure)

    return take


def test_scaled_networks_are_measured_for_real(capsys):
    words = [*SMALL, "--strategies", "w,d,dWr", "--flops", "150M", "--measure", "2", *QUICK]
    found = document(capsys, *words, "--batch-size", "2")
    told = found["measured"]
    assert len(told["finalists"]) == 2
    assert told["chosen"] == found["network"]
    assert told["batch_size"] == 2
    assert told["conditions"]["interleaved_networks"] == 2
    fastest = min(
        one["latency_ms"]["median"] for one in told["finalists"] if one["network"] == told["chosen"]
    )
    assert fastest > 0
    for one in told["finalists"]:
        assert one["fits"]
        assert one["failed"] is None
        assert one["predicted_ms"] is None
        assert one["latency_ms"]["repeats"] >= 3
        assert one["images_per_second"] == pytest.approx(2e3 / one["latency_ms"]["median"])
    assert cs.count(found["network"], resolution=64).flops == found["values"]["flops"]
    assert run(words) == 0
    out = capsys.readouterr().out
    assert "Finalists, measured on this machine" in out
    assert "Measured on cpu" in out
    assert "2 finalists were measured on cpu" in out


def test_along_alpha_only_what_measuring_chose_is_called_chosen(timed, capsys):
    timed(lambda name: 1 if "@dWr" in name else 5)
    words = [*SMALL, "--strategies", "w,dWr", "--flops", "150M", "--uncertainty", "30%"]
    words += ["--measure", "3"]
    chosen = document(capsys, *words)
    assert "@dWr" in chosen["network"] != chosen["measured"]["by_prediction"]
    assert run(words) == 0
    table = capsys.readouterr().out.partition("Along α")[2].partition("finalists")[0].splitlines()
    said = chosen["network"].partition("@")[2]
    assert all(said in line for line in table if "chosen" in line)
    predicted = chosen["measured"]["by_prediction"].partition("@")[2]
    assert all(predicted in line for line in table if "by prediction" in line)
    assert any("by prediction" in line for line in table)


def test_a_real_limit_is_held_to_what_is_measured(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("CONVSCALE_PROFILES", str(tmp_path))
    cs.save_profile(hand_made())
    words = [*SMALL, "--strategies", "w,dWr", "--profile", "mine", "--latency", "100s"]
    found = document(capsys, *words, "--factors", "0.5..1.5", "--measure", "2", *QUICK)
    told = found["measured"]
    assert all(one["fits"] and one["ratio"] > 0 for one in told["finalists"])
    assert "a device of no maker" in told["notes"][0]
    assert (
        "Limits of latency and throughput are held to what was measured here." in told["notes"][0]
    )


def test_what_is_measured_decides(zoo, timed, capsys):
    # by the table resnet18 is the best that fits; measured it takes 6 ms
    timed(lambda name: {"resnet18": 6, "resnet14t": 4.5, "resnet10t": 4}.get(name, 1))
    found = document(capsys, *zoo, "--measure", "3")
    told = found["measured"]
    assert found["network"] == told["chosen"] == "resnet14t"
    assert told["by_prediction"] == "resnet18"
    assert told["changed"]
    # predicted 10t, 18, 14t; measured 10t, 14t, 18: of three pairs one is swapped
    assert (told["order_changed"], told["pairs_swapped"], told["pairs"]) == (True, 1, 3)
    [first, second, third] = told["finalists"]
    assert first["misses"] == [
        "measured latency 6.00 ms, 1.00 ms (20.0 %) over the limit of 5.00 ms"
    ]
    assert (second["network"], second["ratio"], third["fits"]) == ("resnet14t", 4.5 / 4, True)
    assert "could not be built and measured. no_such_network: " in " ".join(told["notes"])
    assert (
        "By prediction resnet18 would have been chosen: measured latency 6.00 ms"
        in (found["reason"])
    )


def test_of_equals_the_fastest_as_measured_wins(zoo, timed, capsys):
    timed(lambda name: {"resnet18": 3, "resnet14t": 2, "resnet10t": 4}.get(name, 1))
    found = document(capsys, *zoo, "--measure", "3", "--uncertainty", "4")
    assert found["measured"]["by_prediction"] == "resnet18"
    assert found["network"] == "resnet14t"


def test_where_no_finalist_fits_the_next_ones_are_tried(zoo, timed, capsys):
    timed(lambda name: {"resnet18": 30, "resnet14t": 40, "resnet10t": 20}.get(name, 4))
    found = document(capsys, *zoo, "--measure", "1")
    told = found["measured"]
    assert found["network"] == "mobilenetv3_small_050"
    # resnet18 took ten times as long as the table tells: by that only what takes 0.5 ms there
    # would fit, and nothing does, so that the fastest is tried
    assert [one["network"] for one in told["finalists"]] == ["resnet18", "mobilenetv3_small_050"]


def test_infeasible_as_measured_names_the_nearest(zoo, timed, capsys):
    timed(lambda name: {"resnet18": 9, "resnet14t": 7.5}.get(name, 8))
    line = refusal(capsys, 3, *zoo, "--measure", "4")
    assert line.startswith(
        "convscale: None of the 4 finalists that were measured keeps latency at most 5.00 ms. The "
        "nearest is resnet14t: measured latency 7.50 ms, 2.50 ms (50.0 %) over the limit"
    )


def test_throughput_is_held_to_what_is_measured(tmp_path, timed, capsys):
    path = tmp_path / "zoo.csv"
    path.write_text("model,img_size,err,rate\nresnet10t,64,30,500\nresnet18,64,25,400\n")
    words = ["select", "--table", str(path), "--error", "err", "--column", "throughput=rate"]
    timed(lambda name: {"timm:resnet18": 10, "timm:resnet10t": 2}[name])
    found = document(capsys, *words, "--throughput", "300", "--measure", "2")
    assert found["network"] == "timm:resnet10t"
    assert found["measured"]["finalists"][0]["misses"] == [
        "measured throughput 100/s, 200/s (66.7 %) under the limit of 300/s"
    ]


def test_what_does_not_run_is_told_and_others_are_chosen(zoo, timed, capsys):
    timed(lambda name: None if name == "resnet18" else 1)
    found = document(capsys, *zoo, "--measure", "2")
    told = found["measured"]
    assert found["network"] == "resnet14t"
    assert told["finalists"][0]["failed"] == "resnet18 ran out of memory."
    assert "resnet18 ran out of memory." in told["notes"]
    timed(lambda name: None)
    assert "None of the best candidates can be run here. resnet18 ran out of memory." in (
        refusal(capsys, 2, *zoo, "--measure", "2")
    )


def test_scaled_networks_are_searched_again_for_what_fits_here(tmp_path, timed, monkeypatch):
    monkeypatch.setenv("CONVSCALE_PROFILES", str(tmp_path))
    cs.save_profile(hand_made())
    base = cs.predict("RegNetY-4.0GF", profile="mine", batch_size=64)
    limit = 2 * base.latency_ms

    def slow(name):  # here all take four times what is predicted
        return 4 * cs.predict(name, profile="mine", batch_size=64).latency_ms

    timed(slow)
    ask = {"profile": "mine", "batch_size": 64, "strategies": ["w", "dWr", "dr"], "candidates": 60}
    found = cs.select("RegNetY-4.0GF", limits=[f"latency<={limit}ms"], measure=2, **ask)
    told = found.measured
    assert told.ratio == pytest.approx(4 * 1.03)
    assert found.found.constraints[0].limit == pytest.approx(limit)  # as it was asked
    assert [one.fits for one in told.finalists[:2]] == [False, False]
    chosen = told.finalists[told.chosen]
    assert chosen.measured_ms <= limit
    assert chosen.measured_ms > 0.8 * limit
    assert "predictions were taken as 4.12 times as long" in " ".join(told.notes)
    built = found.build()
    assert built.achieved.flops == found.found.pool.values["flops"][found.at]
    frame = found.frame()
    assert frame["measured_ms"].notna().sum() == len(told.finalists) - 2
    assert list(frame["network"][frame["chosen"]]) == [chosen.entry.network]


def test_a_correction_that_was_too_large_is_taken_back(tmp_path, timed, monkeypatch):
    monkeypatch.setenv("CONVSCALE_PROFILES", str(tmp_path))
    cs.save_profile(hand_made())
    limit = 2 * cs.predict("RegNetY-4.0GF", profile="mine", batch_size=64).latency_ms

    def uneven(name):  # the large are slower than the small by more than is predicted
        told = cs.predict(name, profile="mine", batch_size=64).latency_ms
        return (8 if told > 0.8 * limit else 3) * told

    timed(uneven)
    found = cs.select(
        "RegNetY-4.0GF",
        limits=[f"latency<={limit}ms"],
        profile="mine",
        batch_size=64,
        strategies=["w", "dWr"],
        candidates=60,
        measure=2,
    )
    told = found.measured
    chosen = told.finalists[told.chosen]
    assert told.ratio == pytest.approx(3 * 1.03)
    assert 0.8 * limit < chosen.measured_ms <= limit
    by_batch = [one.fits for one in told.finalists]
    assert not any(by_batch[:2])
    assert all(by_batch[2:])


def test_finalists_are_no_near_copies():
    found = cs.select("RegNetY-4.0GF", limits=["flops<=8G"], candidates=400)
    places = [at for _, at in zip(range(8), finalists(found), strict=False)]
    assert places[0] == found.found.chosen
    flops = found.found.pool.values["flops"]
    rank = {at: place for place, at in enumerate(ranked(found))}
    assert [rank[at] for at in places] == sorted(rank[at] for at in places)
    strategies = [found.entries[at].scaled.ask.strategy for at in places]
    names = [one.name for one in strategies if one is not None]
    assert all(names.count(name) <= 2 for name in names)
    for (a, one), (b, two) in combinations(zip(places, strategies, strict=True), 2):
        if one is None or two is None or "@" in one.name or "@" in two.name:
            continue
        apart = max(
            abs(one.depth - two.depth),
            abs(one.width - two.width),
            abs(one.resolution - two.resolution),
            abs((one.group_width or 0) - (two.group_width or 0)),
        )
        assert apart >= 0.1 - 1 / 40 or not 1 / 1.1 < flops[a] / flops[b] < 1.1


def test_a_profile_of_this_machine_tells_how_finalists_run(monkeypatch, tmp_path):
    from convscale.prediction.execution import Execution
    from convscale.runtime import open_device
    from convscale.study.costed import Conditions as How
    from convscale.study.measured_choice import Finals, setting_of

    mine = hand_made(
        execution=Execution("cpu", "nhwc", "eager", "inference", "amp"),
        conditions={
            "device": open_device("cpu").hardware,
            "threads": 2,
            "autocast": "bfloat16",
        },
    )
    setting, note = setting_of(How(profile=mine, batch_size=4), Finals(2))
    assert note is None
    assert (setting.channels_last, setting.dtype, setting.threads) == (True, "bfloat16", 2)
    assert setting_of(How(profile=mine), Finals(2, threads=1))[0].threads == 1
    other, note = setting_of(How(profile=hand_made(work="training")), Finals(2))
    assert (other.mode, other.dtype, other.channels_last) == ("training", None, False)
    assert note.startswith("The profile mine predicts for a device of no maker (amp, nchw, eager);")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--measure", "0"], "The number of finalists is 0; it must be at least 1."),
        (["--measure", "two"], "Cannot read 'two' as the number of finalists."),
        (
            ["--device", "cpu"],
            "A device, threads, repeats and a time limit are those of measuring.",
        ),
        (["--repeats", "3"], "A device, threads, repeats and a time limit are those of measuring."),
        (["--measure", "2", "--device", "abacus"], "abacus"),
        (["--measure", "2", "--time-limit", "0.1"], "it must be at least 1 s"),
    ],
)
def test_what_cannot_be_measured_is_refused_at_once(words, said, capsys):
    assert said in refusal(capsys, 2, "select", "resnet10t", "--flops", "150M", *words)


SERIES = """model,img_size,family,err,predicted
resnet10t,64,a,30,2
resnet14t,64,a,26,4
mobilenetv3_small_050,64,b,31,2
mobilenetv3_small_100,64,b,27,4
"""


@pytest.fixture
def series(tmp_path):
    path = tmp_path / "series.csv"
    path.write_text(SERIES)
    words = ["select", "--table", str(path), "--error", "err", "--latency-column", "predicted"]
    return [*words, "--budgets", "3ms,5ms"]


def test_the_networks_of_a_series_are_measured(series, timed, capsys):
    timed(lambda name: 2.5)
    found = document(capsys, *series, "--measure", "1")
    told = found["measured"]
    assert (found["strategy"], told["chosen"], told["changed"]) == ("a", "a", False)
    [line] = told["series"]
    assert [one["network"] for one in line["networks"]] == ["resnet10t", "resnet14t"]
    assert [one["ratio"] for one in line["networks"]] == [2.5 / 2, 2.5 / 4]
    assert line["fits"]
    assert run([*series, "--measure", "1"]) == 0
    out = capsys.readouterr().out
    assert "Series, measured on this machine" in out
    assert "1 series was measured on cpu" in out


def test_the_series_that_keeps_all_budgets_as_measured_is_taken(series, timed, capsys):
    # by prediction a is the best; measured, its larger network misses the budget of 5 ms
    timed(lambda name: {"resnet10t": 2.9, "resnet14t": 6}.get(name, 2))
    found = document(capsys, *series, "--measure", "2")
    told = found["measured"]
    assert (found["strategy"], told["by_prediction"], told["changed"]) == ("b", "a", True)
    assert [one["network"] for one in found["series"]] == [
        "mobilenetv3_small_050",
        "mobilenetv3_small_100",
    ]
    assert told["series"][0]["networks"][1]["misses"] == [
        "measured latency 6.00 ms, 1.00 ms (20.0 %) over the limit of 5.00 ms"
    ]


def test_a_series_that_keeps_no_budget_as_measured_is_refused(series, timed, capsys):
    timed(lambda name: 60)
    line = refusal(capsys, 3, *series, "--measure", "1")
    assert line.startswith(
        "convscale: None of the series that was measured keeps all budgets. Of a these do not: "
        "resnet10t: measured latency 60.0 ms, 57.0 ms (1900.0 %) over the limit of 3.00 ms; "
        "resnet14t: measured latency 60.0 ms"
    )


def test_a_series_is_searched_again_for_what_keeps_its_budgets_here(timed):
    times = slower_than_borrowed(1)
    timed(lambda name: times(name) * (4 if name == "RegNetY-400MF" else 8))
    base = times("RegNetY-400MF")
    budgets = [f"latency<={8 * by * base}ms" for by in (0.5, 2)]
    found = cs.select_series(
        "RegNetY-400MF", budgets=budgets, strategies=["w", "dWr"], candidates=60, measure=1
    )
    told = found.measured
    assert told.borrowed.ratio == pytest.approx(4)
    assert told.ratio == pytest.approx(2 * 1.03)
    for budget, one in zip(found.choice.budgets, told.members, strict=True):
        assert 0.7 * budget.limit < one.measured_ms <= budget.limit
    assert list(found.frame()["measured_ms"]) == [one.measured_ms for one in told.members]


def test_each_budget_of_a_series_has_a_correction_of_its_own(timed):
    # small networks take as long as they are predicted to, large ones three times as long
    times = slower_than_borrowed(1)
    base = times("RegNetY-400MF")
    timed(lambda name: times(name) * (3 if times(name) > base else 1))
    budgets = [f"latency<={by * base}ms" for by in (0.5, 6)]
    profile = "i7-12700h-fp32-compiled"
    asked = {"strategies": ["w", "dWr"], "candidates": 60, "profile": profile}
    found = cs.select_series("RegNetY-400MF", budgets=budgets, measure=1, **asked)
    told = found.measured
    small, large = told.ratios
    assert small == pytest.approx(1, rel=0.04)
    assert large == pytest.approx(3 * 1.03, rel=0.01)
    for budget, one in zip(found.choice.budgets, told.members, strict=True):
        assert 0.7 * budget.limit < one.measured_ms <= budget.limit
    assert any("for each budget (1 for" in note for note in told.notes)
    # a number for both would have left the smaller budget to a network of a third of its time
    plain = cs.select_series("RegNetY-400MF", budgets=budgets, **asked)
    assert times(found.members[0].network) > 0.9 * times(plain.members[0].network)


def test_budget_errors_of_the_search_come_before_measuring(zoo):
    with pytest.raises(BudgetError, match="None of 5 candidates keeps"):
        cs.select(
            table=zoo[2], error="err", limits=["latency<=0.5ms"], measure=2, columns=_predicted()
        )


def _predicted():
    from convscale.selection.zoo import ZooColumns, parse_column

    return ZooColumns(quantities=(parse_column("predicted", on="latency_ms"),))


def slower_than_borrowed(by):
    """Return times as the shipped profile of a processor predicts them, so many times as long."""

    def times(name):
        told = cs.predict(name, profile="i7-12700h-fp32-compiled")
        return by * told.latency_ms

    return times


def test_without_a_profile_what_is_measured_decides(timed, capsys):
    times = slower_than_borrowed(3)
    timed(times)
    limit = 1.5 * times("RegNetY-400MF")
    words = ["select", "RegNetY-400MF", "--strategies", "w,dWr", "--candidates", "40"]
    found = document(capsys, *words, "--latency", f"{limit}ms", "--measure", "2")
    told = found["measured"]
    assert found["constraints"][0]["limit"] == pytest.approx(limit)
    assert told["corrected_by"] == 1  # the base was timed, and told that all take 3 times as long
    for one in told["finalists"]:
        assert one["ratio"] == pytest.approx(1)
        assert one["latency_ms"]["median"] == pytest.approx(times(one["network"]))
    [chosen] = [one for one in told["finalists"] if one["network"] == found["network"]]
    assert 0.9 * limit < chosen["latency_ms"]["median"] <= limit
    assert told["borrowed"] == {"profile": "i7-12700h-fp32-compiled", "ratio": pytest.approx(3)}
    assert told["notes"][0].startswith(
        "No profile was given: what to measure was looked for by that of another device, "
        "i7-12700h-fp32-compiled (Intel Core i7-12700H), with its times multiplied by 3, as "
        "RegNetY-400MF took here."
    )


def test_without_a_profile_a_table_is_measured_too(tmp_path, timed, capsys):
    path = tmp_path / "zoo.csv"
    path.write_text("model,img_size,err\nresnet18,64,25\nresnet10t,64,30\nresnet14t,64,28\n")
    timed(lambda name: {"resnet18": 9, "resnet14t": 4}.get(name.removeprefix("timm:"), 2))
    words = ["select", "--table", str(path), "--error", "err", "--latency", "5ms"]
    found = document(capsys, *words, "--measure", "3")
    assert found["network"] == "timm:resnet14t"
    assert "No profile was given" in found["measured"]["notes"][0]
    # a throughput is the same question
    words = ["select", "--table", str(path), "--error", "err", "--throughput", "300"]
    assert document(capsys, *words, "--measure", "3")["network"] == "timm:resnet10t"


def test_a_borrowed_profile_alone_refuses_nothing(timed, capsys):
    # the base takes 50 times as long as predicted, its scaled versions half of that
    times = slower_than_borrowed(1)
    timed(lambda name: times(name) * (50 if name == "RegNetY-400MF" else 25))
    limit = 25 * times("RegNetY-400MF@w:0.25") * 1.2
    words = ["select", "RegNetY-400MF", "--strategies", "w", "--factors", "0.25..1"]
    found = document(capsys, *words, "--latency", f"{limit}ms", "--measure", "2")
    assert found["network"] != "RegNetY-400MF"
    assert found["measured"]["corrected_by"] == 0.25


def test_larger_networks_are_measured_where_a_borrowed_profile_was_too_slow(timed, capsys):
    times = slower_than_borrowed(1)
    timed(lambda name: times(name) * (4 if name == "RegNetY-400MF" else 2))
    limit = 4 * 2 * times("RegNetY-400MF")
    words = ["select", "RegNetY-400MF", "--strategies", "w,dWr", "--candidates", "40"]
    found = document(capsys, *words, "--latency", f"{limit}ms", "--measure", "2")
    told = found["measured"]
    assert told["corrected_by"] == pytest.approx(1.03 / 2)
    [chosen] = [one for one in told["finalists"] if one["network"] == found["network"]]
    assert 0.8 * limit < chosen["latency_ms"]["median"] <= limit
