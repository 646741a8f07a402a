"""`convscale calibrate`: timed here, or from a table; from a profile, or fitted by itself."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest

import convscale as cs
from convscale.cli.main import run
from convscale.errors import InputError
from convscale.prediction.execution import Execution
from convscale.prediction.form import coefficients_of, network_seconds
from convscale.prediction.profile_file import read_profile, write_profile
from convscale.prediction.store import FOLDERS
from convscale.study.recorded import recorded
from convscale.study.timing import Side
from tests.device_profiles import hand_made

CPU = Execution("cpu", "nchw", "eager", "inference", "float32")
FAMILIES = "resnet18 mobilenetv2_050 densenet121 regnetx_002 ghostnet_100 convnext_atto".split()


@pytest.fixture
def own(tmp_path, monkeypatch):
    folder = tmp_path / "profiles"
    monkeypatch.setenv(FOLDERS, str(folder))
    known = hand_made("known-cpu", execution=CPU, coefficients=coefficients_of(CPU))
    write_profile(known, folder / "known-cpu.json")
    return folder


def refused(capsys, *arguments: str, status: int = 2) -> str:
    assert run(["calibrate", *arguments]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


@cache
def recorded_once(name: str, side: int):
    return recorded(Side(f"timm:{name}", side))


def table(path, names, seconds, *, batch: int = 8, side: int = 64):
    lines = ["model,infer_img_size,infer_samples_per_sec,infer_batch_size,param_count"]
    for name, took in zip(names, seconds, strict=True):
        found, _ = recorded_once(name, side)
        lines.append(f"{name}.tag,{side},{batch / took:.6g},{batch},{found.params / 1e6:.2f}")
    path.write_text("\n".join(lines) + "\n")
    return path


def timed_on(execution: Execution, names, *, slower: float = 1.0, batch: int = 8):
    works = [recorded_once(name, 64)[1] for name in names]
    known = coefficients_of(execution)
    return [slower * float(network_seconds(work, known, execution, batch)) for work in works]


def test_networks_timed_here_give_a_profile_that_predicts(own, tmp_path, capsys):
    sides = "timm:resnet18@64,mobilenetv2_050@64,lcnet_035@64,mnasnet_small@64"
    csv = tmp_path / "here.csv"
    words = ["--adapt", "known-cpu", "--networks", sides, "--time-limit", "2s", "--csv", str(csv)]
    assert run(["calibrate", "--name", "mybox", *words]) == 0
    said = capsys.readouterr()
    assert "mybox" in said.out
    first = "Timing 4 networks in up to 7 rounds: 2.00 s at most, unless the first 3 rounds take"
    assert said.err.startswith(first)
    profile = read_profile(own / "mybox.json")
    assert profile.conditions["adapted_from"] == "known-cpu"
    assert profile.conditions["timed_networks"] == 4
    assert profile.conditions["time"] in ("wall time", "processor time")
    assert run(["predict", "resnet18", "--profile", "mybox", "--resolution", "64", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    low, high = document["interval_ms"]
    assert low < document["latency_ms"] < high
    # the table that was written is one that --from reads
    assert run(["calibrate", "--name", "again", "--from", str(csv), "--adapt", "known-cpu"]) == 0
    again = read_profile(own / "again.json")
    assert again.execution == profile.execution
    for name, value in profile.coefficients.items():
        assert again.coefficients[name] == pytest.approx(value, rel=1e-2)


def test_a_table_without_a_profile_is_fitted_with_its_errors(own, tmp_path, capsys):
    gpu = Execution("gpu", "nhwc", "eager", "inference", "amp")
    file = table(tmp_path / "other.csv", FAMILIES, timed_on(gpu, FAMILIES))
    words = ["--from", str(file), "--name", "other", "--dtype", "amp", "--layout", "nhwc"]
    assert run(["calibrate", *words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["execution"]["hardware"] == "gpu"
    assert document["execution"]["layout"] == "nhwc"
    [errors] = document["errors"]
    assert (errors["protocol"], errors["networks"], errors["groups"]) == ("families", 6, 6)
    assert set(errors["baselines_mape_pct"]) == {"flops", "acts", "flops + acts + constant"}
    assert errors["mape_pct"] < errors["baselines_mape_pct"]["flops"]


def test_what_a_table_has_of_other_networks_is_named(own, tmp_path, capsys):
    file = table(tmp_path / "other.csv", FAMILIES, timed_on(CPU, FAMILIES, slower=3))
    text = file.read_text().replace("densenet121.tag,64", "densenet169.tag,64")
    more = "vit_tiny_patch16_224,224,5,8,5.72\nno_such_net,64,5,8,1\nresnet34.a1_in1k,,,,21.8\n"
    file.write_text(text + more)
    words = ["--from", str(file), "--name", "other", "--adapt", "known-cpu", "--json"]
    assert run(["calibrate", *words]) == 0
    document = json.loads(capsys.readouterr().out)
    empty, excluded = document["excluded"]
    assert empty == {"network": "resnet34", "reason": "the table has no time of it"}
    assert excluded["network"] == "densenet169"
    assert "14.15 M params" in excluded["reason"]
    assert document["conditions"]["skipped_networks"] == 2
    assert document["conditions"]["unknown_networks"] == "no_such_net"
    costs = ("multiply", "memory", "launch", "step")
    ratio = [document["coefficients"][name] / coefficients_of(CPU)[name] for name in costs[:3]]
    assert ratio == pytest.approx([3, 3, 3], rel=0.05)


def test_the_sources_timings_tell_what_it_misses(own, tmp_path, capsys):
    missed = np.exp(np.random.default_rng(2).choice([-0.3, 0.3], size=6))
    known = timed_on(CPU, FAMILIES)
    source = table(tmp_path / "source.csv", FAMILIES, known * missed)
    few = table(tmp_path / "few.csv", FAMILIES[:5], 3 * (known * missed)[:5])
    words = ["--from", str(few), "--name", "other", "--adapt", "known-cpu"]
    assert run(["calibrate", *words, "--source-timings", str(source)]) == 0
    capsys.readouterr()
    asked = ["convnext_atto", "--profile", "other", "--resolution", "64", "--batch-size", "8"]
    assert run(["predict", *asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["latency_ms"] / 1e3
    assert found == pytest.approx(3 * (known * missed)[5], rel=0.15)


def test_a_dry_run_prints_the_choice_and_times_nothing(own, capsys):
    sides = ",".join(f"{name}@64" for name in FAMILIES)
    words = ["--adapt", "known-cpu", "--networks", sides, "--choose", "3", "--dry-run"]
    assert run(["calibrate", *words]) == 0
    lines = capsys.readouterr().out.split()
    assert len(set(lines)) == 3
    assert all(line in sides.split(",") for line in lines)
    shuffled = ",".join(reversed(sides.split(",")))
    words[3] = shuffled
    assert run(["calibrate", *words]) == 0
    assert capsys.readouterr().out.split() == lines


def test_bad_input_is_one_line(own, tmp_path, capsys):
    assert "--name mybox" in refused(capsys)
    assert "known-cpu" in refused(capsys, "--name", "x", "--adapt", "no-such")
    told = refused(capsys, "--name", "x", "--from", "a.csv", "--choose", "3", "--dry-run")
    assert "--choose and --dry-run are for networks that are timed here" in told
    assert "--dtype amp" in refused(capsys, "--name", "x", "--dtype", "float16")
    words = ["--name", "x", "--adapt", "known-cpu", "--networks", "resnet18", "--choose", "2"]
    assert "cannot be chosen from 1" in refused(capsys, *words)
    assert "Unknown layout 'hwc'" in refused(capsys, "--name", "x", "--layout", "hwc")
    assert "time limit" in refused(capsys, "--name", "x", "--time-limit", "soon")
    told = refused(capsys, "--name", "x", "--adapt", "known-cpu", "--networks", "resnet18x")
    assert "resnet18x" in told
    file = tmp_path / "bad.csv"
    file.write_text("model,infer_img_size\nresnet18,224\n")
    told = refused(capsys, "--name", "x", "--from", str(file))
    assert "infer_samples_per_sec" in told
    assert "infer_batch_size" in told
    file.write_text(
        "model,infer_img_size,infer_batch_size,infer_samples_per_sec\nresnet18,224,8,fast\n"
    )
    assert "line 2: infer_samples_per_sec is 'fast'" in refused(
        capsys, "--name", "x", "--from", str(file)
    )


TIMED_HERE = ("--threads 2", "--time-limit 1s", "--batch-size 8", "--csv c.csv", "--networks a")


@pytest.mark.parametrize("option", TIMED_HERE)
def test_no_option_of_timing_here_is_ignored_beside_a_table(option, own, capsys):
    told = refused(capsys, "--name", "x", "--from", "a.csv", *option.split())
    assert f"{option.split()[0]} is for networks that are timed here" in told


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--from a.csv --source-timings b.csv", "Name it by --adapt"),
        ("--from a.csv --adapt known-cpu --no-heldout", "--no-heldout is for a fit of its own"),
        ("--no-heldout", "--no-heldout is for a table of times"),
        ("--from a.csv --device i7-12700H", "Unknown device 'i7-12700H'"),
        ("--networks lcnet_035,resnet18,lcnet_035", "names lcnet_035 twice"),
    ],
)
def test_what_would_be_of_no_effect_is_refused(options, said, own, capsys):
    assert said in refused(capsys, "--name", "x", *options.split())


def test_fewer_times_than_can_be_left_out_do_not_keep_the_intervals_narrow(own, tmp_path, capsys):
    names = FAMILIES[:4]
    exact = timed_on(CPU, names)
    known = read_profile(own / "known-cpu.json")
    for count, squared in ((1, 2), (3, 2), (4, 1)):  # of four each is left out, and met
        file = table(tmp_path / f"{count}.csv", names[:count], exact[:count])
        assert run(["calibrate", "--from", str(file), "--name", "few", "--adapt", "known-cpu"]) == 0
        capsys.readouterr()
        found = read_profile(own / "few.json")
        for own_band, band in zip(known.bands, found.bands, strict=True):
            assert band.low == pytest.approx(own_band.low**squared)
            assert band.high == pytest.approx(own_band.high**squared)


def test_few_times_do_not_carry_a_profile_to_other_hardware(own, tmp_path, capsys):
    file = table(tmp_path / "few.csv", FAMILIES[:3], timed_on(CPU, FAMILIES[:3]))
    words = ("--name", "x", "--from", str(file), "--adapt", "known-cpu", "--device", "cuda")
    told = refused(capsys, *words)
    assert "of a cpu, and 3 timings of a gpu" in told
    assert not (own / "x.json").exists()


def test_a_profile_that_is_fitted_again_has_a_higher_version(own, tmp_path, capsys):
    file = table(tmp_path / "other.csv", FAMILIES, timed_on(CPU, FAMILIES))
    words = ["calibrate", "--from", str(file), "--name", "other", "--adapt", "known-cpu"]
    assert run(words) == 0
    assert "replaced" not in capsys.readouterr().out
    assert run(words) == 0
    assert "(version 2; version 1 is replaced)" in " ".join(capsys.readouterr().out.split())
    assert read_profile(own / "other.json").version == 2
    assert run([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["version"] == 3


def test_a_name_that_cannot_be_one_is_refused_before_anything_is_done(own, tmp_path, capsys):
    told = refused(capsys, "--from", str(tmp_path / "none.csv"), "--name", "my box")
    assert "'my box' cannot be the name of a profile" in told


def test_intervals_of_networks_that_were_fitted_are_said_to_be_too_narrow(own, tmp_path, capsys):
    file = table(tmp_path / "other.csv", FAMILIES, timed_on(CPU, FAMILIES))
    words = ["--from", str(file), "--name", "quick", "--device", "cpu", "--no-heldout"]
    assert run(["calibrate", *words]) == 0
    assert "of networks that were fitted" in capsys.readouterr().out
    asked = ["resnet18", "--profile", "quick", "--resolution", "64", "--batch-size", "8"]
    assert run(["predict", *asked, "--json"]) == 0
    notes = json.loads(capsys.readouterr().out)["notes"]
    assert any("the interval is too narrow" in note for note in notes)


def test_a_profile_of_other_work_is_refused_before_networks_are_recorded(own, tmp_path, capsys):
    write_profile(hand_made("trains", work="training"), own / "trains.json")
    file = table(tmp_path / "other.csv", FAMILIES, timed_on(CPU, FAMILIES))
    told = refused(capsys, "--from", str(file), "--name", "x", "--adapt", "trains")
    assert "is one of training, and the times are of inference" in told


def test_the_library_carries_a_profile_over_to_a_table_as_the_command_does(own, tmp_path, capsys):
    file = table(tmp_path / "other.csv", FAMILIES, timed_on(CPU, FAMILIES, slower=2))
    words = ["calibrate", "--from", str(file), "--name", "other", "--adapt", "known-cpu"]
    assert run(words) == 0
    found = cs.calibrate(file, name="other", dtype="float32", adapt="known-cpu")
    written = read_profile(own / "other.json")
    assert found.execution == written.execution
    assert found.coefficients == pytest.approx(written.coefficients)
    with pytest.raises(InputError, match="none is named"):
        cs.calibrate(file, name="other", dtype="float32", source_timings=file)
