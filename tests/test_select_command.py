"""`convscale select --table`: from a file of networks to a choice with its reasons."""

from __future__ import annotations

import csv
import io
import json

import pytest

import convscale as cs
from convscale.cli.main import run
from convscale.errors import InputError
from convscale.selection.zoo import ZooColumns, parse_column
from convscale.study import table_candidates
from tests.device_profiles import hand_made

PROFILE = hand_made()
ZOO = """model,img_size,top1_err,kind,step,size
resnet18,64,30,res,2.0,11.69
resnet34,64,26,res,3.5,21.8
mobilenetv3_small_050,64,42,mob,0.8,1.59
"""


@pytest.fixture
def zoo(tmp_path):
    path = tmp_path / "zoo.csv"
    path.write_text(ZOO)
    return path


@pytest.fixture
def profile(tmp_path, monkeypatch):
    monkeypatch.setenv("CONVSCALE_PROFILES", str(tmp_path))
    cs.save_profile(PROFILE)
    return PROFILE


def words(path, *more):
    return ["select", "--table", str(path), "--error", "top1_err", *more]


def document(capsys, *arguments):
    assert run([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_column_of_latencies_needs_no_profile(zoo, capsys):
    found = document(capsys, *words(zoo, "--latency-column", "step", "--latency", "3ms"))
    assert (found["network"], found["resolution"], found["error"]) == ("resnet18", 64, 30)
    assert found["constraints"][0]["kept_by"] == 2
    assert found["binding"][0]["without"]["network"] == "resnet34"
    fastest, chosen, slow = found["front"]
    assert [fastest["network"], chosen["network"]] == ["mobilenetv3_small_050", "resnet18"]
    assert slow["violations"]["latency_ms<=3ms"] == pytest.approx(0.5 / 3)
    assert found["reason"].startswith("Of 3 candidates, 2 keep latency at most 3.00 ms.")


def test_units_of_a_column_are_those_that_are_named(zoo, capsys):
    first = document(capsys, *words(zoo, "--latency-column", "step:s", "--latency", "3s"))
    assert first["network"] == "resnet18"
    assert first["values"]["latency_ms"] == 2000
    params = ["--column", "params=size:M", "--params", "12M", "--cost", "params"]
    second = document(capsys, *words(zoo, *params))
    assert second["network"] == "resnet18"
    assert second["values"]["download_bytes"] == pytest.approx(4 * 11.69e6)


def test_thousands_may_be_set_apart(tmp_path, capsys):
    path = tmp_path / "zoo.csv"
    path.write_text('model,err,size\na,30,"1,014.45"\nb,20,"2,000,000.5"\nc,10,"2,5"\n')
    asked = ["select", "--table", str(path), "--error", "err", "--params", "2G"]
    assert run([*asked, "--column", "params=size:M"]) == 2
    assert "line 4: size is '2,5'" in capsys.readouterr().err
    path.write_text(path.read_text().replace('"2,5"', "3000"))
    found = document(capsys, *asked, "--column", "params=size:M")
    assert (found["network"], found["values"]["params"]) == ("a", 1_014_450_000)


def test_predicted_latencies_are_those_of_predict(zoo, profile, capsys):
    truth = {
        name: cs.predict(name, profile=profile, batch_size=64, resolution=64, coverage=0.8)
        for name in ("resnet18", "resnet34")
    }
    budget = truth["resnet34"].latency_ms * 1.01
    asked = ["--profile", "mine", "--batch-size", "64", "--latency", f"{budget}ms"]
    at_half = document(capsys, *words(zoo, *asked))
    assert at_half["network"] == "timm:resnet34"
    assert at_half["values"]["latency_ms"] == pytest.approx(truth["resnet34"].latency_ms)
    # nine times in ten it takes up to the upper end of the 80 % interval, which is too long
    sure = document(capsys, *words(zoo, *asked, "--confidence", "0.9"))
    assert sure["network"] == "timm:resnet18"
    bound = sure["binding"][0]["without"]["bounds"]["latency_ms"]
    assert bound == pytest.approx(truth["resnet34"].interval_ms[1])
    assert "with 90 % confidence" in sure["reason"]


def test_a_column_is_never_replaced_by_a_prediction(tmp_path, profile, capsys):
    path = tmp_path / "rates.csv"
    path.write_text("model,resolution,err,rate\nresnet18,64,30,500\nresnet34,64,20,90\n")
    asked = ["select", "--table", str(path), "--error", "err", "--throughput", "100"]
    asked += ["--column", "throughput=rate", "--profile", "mine", "--confidence", "0.9"]
    found = document(capsys, *asked)
    assert found["network"] == "timm:resnet18"
    assert found["values"]["images_per_second"] == 500
    assert set(found["bounds"]) == {"latency_ms"}


def test_counts_are_those_of_count(zoo, capsys):
    found = document(capsys, *words(zoo, "--flops", "400M", "--acts", "2M", "--cost", "flops"))
    counted = cs.count(found["network"], resolution=64)
    values = found["values"]
    assert (values["flops"], values["params"]) == (counted.flops, counted.params)
    assert values["acts"] == counted.acts


def test_memory_is_that_of_memory(zoo, capsys):
    asked = ["--memory", "1GB", "--training-memory", "1GB", "--optimizer", "adamw"]
    found = document(capsys, *words(zoo, *asked, "--batch-size", "4"))
    truth = cs.memory(found["network"], resolution=64, batch_size=4, optimizer="adamw")
    assert found["values"]["memory_bytes"] == truth.inference.peak_bytes
    assert found["values"]["training_memory_bytes"] == truth.training.peak_bytes


def test_widths_and_download_and_resolution_are_constraints(zoo, capsys):
    # mobilenetv3_small_050 has widths of 8, 16, 24 and more; the resnets of 64 and more
    assert document(capsys, *words(zoo, "--width-multiple", "64"))["feasible"] == 2
    small = document(capsys, *words(zoo, "--download", "24MB", "--dtype", "float16"))
    assert small["network"] == "timm:resnet18"  # 11,689,512 params in 2 bytes each
    assert document(capsys, *words(zoo, "--resolution-range", "64..128"))["feasible"] == 3
    assert run(words(zoo, "--resolution-range", "65..")) == 3


def test_each_network_is_counted_once(tmp_path, monkeypatch):
    counted = []
    real = table_candidates.costs_of
    monkeypatch.setattr(table_candidates, "costs_of", lambda *a: counted.append(a[0]) or real(*a))
    path = tmp_path / "trials.csv"
    path.write_text("model,resolution,err\nresnet18,64,30\nresnet18,64,31\n")
    found = cs.select(table=path, error="err", limits=["params<=40M"])
    assert counted == ["resnet18"]
    assert found.found.label == "resnet18 (64 px, line 2)"


def test_a_confidence_of_a_half_is_the_prediction_itself(zoo, profile, capsys):
    asked = words(zoo, "--profile", "mine", "--batch-size", "64", "--latency", "1s")
    assert document(capsys, *asked) == document(capsys, *asked, "--confidence", "50%")


def test_what_cannot_be_a_candidate_is_left_out_and_named(tmp_path, capsys):
    path = tmp_path / "zoo.csv"
    path.write_text("model,resolution,err,latency_ms\na,64,30,2\nb,64,,1\nc,64,20,\n")
    found = document(capsys, "select", "--table", str(path), "--error", "err", "--latency", "3ms")
    assert [(one["line"], one["reason"]) for one in found["left_out"]] == [
        (3, "It has no err."),
        (4, "The table does not tell its latency."),
    ]
    assert "2 networks are left out" in found["notes"][0]


def test_networks_that_do_not_exist_are_left_out_and_named(tmp_path, capsys):
    path = tmp_path / "zoo.csv"
    path.write_text("model,resolution,err\nresnet18,64,30\nresnet_none,64,20\n")
    found = document(capsys, "select", "--table", str(path), "--error", "err", "--params", "40M")
    assert found["network"] == "timm:resnet18"
    assert "Unknown network 'resnet_none'" in found["left_out"][0]["reason"]


def test_flops_stand_in_where_there_are_no_errors(zoo, capsys):
    found = document(
        capsys, "select", "--table", str(zoo), "--latency-column", "step", "--latency", "3ms"
    )
    assert found["network"] == "timm:resnet18"
    assert found["error"] is None
    assert "flops stand in for accuracy" in found["reason"]


def test_a_law_tells_errors_that_the_table_does_not(tmp_path, capsys):
    lines = [f"net{a},{15 + 8 * (a / 10) ** -0.5},{a}e6,{a}" for a in (2, 4, 8, 16, 32)]
    path = tmp_path / "zoo.csv"
    path.write_text("\n".join(["model,err,acts,latency_ms", *lines, "new,,64e6,64", ""]))
    asked = ["select", "--table", str(path), "--error", "err", "--law"]
    found = document(capsys, *asked, "--latency", "100ms")
    truth = 15 + 8 * 6.4**-0.5
    error, about = found["error"], found["uncertainty"]
    assert found["network"] == "new" or abs(error - truth) < 2 * about
    assert "fitted to 5 values of err in one series" in found["reason"]


def test_the_csv_has_a_line_a_candidate(zoo, tmp_path, capsys):
    table = tmp_path / "out.csv"
    asked = words(zoo, "--latency-column", "step", "--latency", "3ms", "--csv", str(table))
    assert run(asked) == 0
    lines = list(csv.DictReader(io.StringIO(table.read_text())))
    assert [line["network"] for line in lines] == ["resnet18", "mobilenetv3_small_050", "resnet34"]
    assert [line["chosen"] for line in lines] == ["True", "False", "False"]
    assert float(lines[2]["misses latency_ms<=3ms by"]) == pytest.approx(0.5 / 3)


@pytest.mark.parametrize(("end", "start"), [("svg", b"<?xml"), ("png", b"\x89PNG"), ("html", b"<")])
def test_the_plot_is_drawn(zoo, tmp_path, capsys, end, start):
    plot = tmp_path / f"front.{end}"
    asked = words(zoo, "--latency-column", "step", "--latency", "3ms", "--plot", str(plot))
    assert run(asked) == 0
    assert plot.read_bytes().startswith(start)


def test_the_table_names_the_choice_and_the_reason(zoo, capsys):
    asked = words(zoo, "--latency-column", "step", "--latency", "3ms", "--series-column", "kind")
    assert run(asked) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("Take resnet18 at 64 px")
    assert "chosen" in shown
    assert "Of mob, the best that fits is mobilenetv3_small_050 (64 px), top1_err +12.00" in shown


def test_nothing_that_fits_is_status_3(zoo, capsys):
    assert run(words(zoo, "--latency-column", "step", "--latency", "0.5ms", "--json")) == 3
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == (
        "convscale: None of 3 candidates keeps every constraint. The nearest is "
        "mobilenetv3_small_050 (64 px): latency 800 us, 300 us (60.0 %) over the limit of "
        "500 us.\n"
    )


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--latency", "5"], "Cannot read '5' as a latency."),
        (["--latency", "5ms"], "The latency of the candidates is not known."),
        (["--throughput", "100"], "The throughput of the candidates is not known."),
        (
            ["--train-hours", "24"],
            "The training time of the candidates is not known. Give a profile",
        ),
        (
            ["--energy", "2kWh"],
            "The energy of the candidates is not known. Give a profile",
        ),
        (["--confidence", "0.9"], "A confidence is that of predicted times."),
        (["--law", "--uncertainty", "1"], "A law tells its own uncertainty."),
        (["--latency-column", "none"], "zoo.csv has no column 'none'."),
        (["--column", "step"], "Cannot read 'step' as a column of a quantity."),
        (["--column", "speed=step"], "Unknown quantity 'speed'."),
        (["--resolution-range", "9..8"], "The range 9..8 of the resolution is empty."),
        (["--dtype", "int3", "--download", "1MB"], "Unknown dtype 'int3'."),
        (["--cost", "throughput"], "The throughput of the candidates is not known."),
        (["--plot", "a.gif"], "'a.gif' does not tell the form of the plot."),
        (["--batch-size", "0"], "The batch size is 0; it must be at least 1."),
        (["--uncertainty", "-1"], "The uncertainty is -1.0; it must be positive"),
        (["--uncertainty", "2%"], "in the unit of that column, as in 0.1."),
        (["--memory", "8"], "The memory is 8 bytes, as no unit stands there. Write the unit: 8GB"),
        (["--download", "20"], "The download size is 20 bytes, as no unit stands there."),
    ],
)
def test_a_wrong_request_is_one_line(zoo, capsys, more, said):
    assert run(words(zoo, *more)) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert said in shown.err
    assert shown.err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("a,b\n1,2\n", "has no column model or network"),
        ("model;err\nresnet18;1\n", "by --model-column: it has model;err."),
        ("model,err\nresnet18,x\n,5\n", "line 2: err is 'x', not a number; line 3: model is empty"),
        ("model,err,err\nresnet18,1,1\n", "the column err stands twice"),
        ("model,err\n", "has no networks"),
        ("model,err,params\na,1,25.6\n", "params is 25.6, which are too few: say the unit"),
        ("model,resolution,err\na,wide,1\n", "line 2: resolution is 'wide', not a resolution"),
        ("model,err\na,1,2\n", "line 2: 3 fields, the header has 2"),
    ],
)
def test_a_wrong_table_is_refused_with_its_lines(tmp_path, text, said):
    path = tmp_path / "zoo.csv"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        cs.select(table=path, error="err", limits=["params<=40M"])
    assert said in caught.value.line


@pytest.mark.parametrize("quantity", ["flops", "params", "acts"])
def test_millions_in_a_column_that_is_named_without_their_unit_are_refused(tmp_path, quantity):
    path = tmp_path / "zoo.csv"
    path.write_text("model,err,count\nresnet18,30,11.69\n")

    def asked(column):
        columns = ZooColumns(quantities=(parse_column(column),))
        return cs.select(table=path, error="err", limits=[f"{quantity}<=40M"], columns=columns)

    with pytest.raises(InputError, match=f"say the unit, as in --column {quantity}=count:M"):
        asked(f"{quantity}=count")
    assert asked(f"{quantity}=count:M").as_document()["values"][quantity] == 11_690_000


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--uncertainty much --error err", "'much' as an uncertainty."),
        ("--acts much", "'much' as acts."),
        ("--latency 5", "'5' as a latency."),
    ],
)
def test_errors_name_quantities_in_plain_english(capsys, option, said):
    assert run(["select", "resnet18", *option.split()]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--strategies w,,dWr", "An entry of the strategies in 'w,,dWr' is empty."),
        ("--strategies w,", "An entry of the strategies in 'w,' is empty."),
        ("--budgets flops=1G,,2G", "A budget in '1G,,2G' is empty."),
        ("--budgets 3ms,,", "A budget in '3ms,,' is empty."),
        ("--uncertainty 5", "The uncertainty is 5, but without errors it is a share of the flops"),
        ("--uncertainty 100%", "The uncertainty is 1, but without errors"),
    ],
)
def test_what_was_left_empty_or_has_no_meaning_is_refused(capsys, option, said):
    assert run(["select", "RegNetX-400MF", *option.split(), "--params", "9M"]) == 2
    shown = capsys.readouterr()
    assert (shown.out, shown.err.count("\n")) == ("", 1)
    assert said in shown.err


def test_columns_are_named_in_python_as_on_the_command_line(zoo, capsys):
    limits, columns = ["latency<=3ms"], {"latency": "step", "series": "kind"}
    found = cs.select(table=zoo, error="top1_err", limits=limits, columns=columns)
    options = ["--latency-column", "step", "--series-column", "kind", "--latency", "3ms"]
    assert found.as_document() == document(capsys, *words(zoo, *options))
    with pytest.raises(InputError, match=r"^The columns are 'step'\. Write which column holds"):
        cs.select(table=zoo, error="top1_err", limits=limits, columns="step")
    with pytest.raises(InputError, match=r"^Two columns were named for latency_ms\. Name one\.$"):
        cs.select(table=zoo, error="top1_err", columns={"latency": "a", "latency_ms": "b"})


def test_no_table_is_refused(capsys):
    assert run(["select", "--error", "e"]) == 2
    assert "or a table of networks: --table models.csv." in capsys.readouterr().err
