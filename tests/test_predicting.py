"""Predicted times: of any network that can be named, with what they consist of."""

from __future__ import annotations

import csv
import json
from math import log

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import convscale as cs
from convscale.cli.main import run
from convscale.complexity.calls import KINDS, Geometry, OperatorCall
from convscale.complexity.views import Operators
from convscale.errors import InputError
from convscale.prediction.form import network_seconds, operator_seconds
from convscale.prediction.predict import predicted, workload_of
from convscale.prediction.prediction import frame_of
from convscale.prediction.profile import Seen
from convscale.prediction.workload import workload
from tests.device_profiles import hand_made

PROFILE = hand_made()


@pytest.fixture
def profile(tmp_path, monkeypatch):
    monkeypatch.setenv("CONVSCALE_PROFILES", str(tmp_path))
    cs.save_profile(PROFILE)
    return PROFILE


def relu(elements):
    moved = {"bytes_read": elements, "bytes_written": elements}
    return OperatorCall("a", "aten.relu", "activation", **moved)


def product(rows, inner, outs):
    return OperatorCall(
        "b",
        "aten.mm",
        "linear",
        rows * inner * outs,
        bytes_read=rows * inner + inner * outs,
        bytes_written=rows * outs,
        weight_bytes=inner * outs,
        geometry=Geometry(inner, outs, rows),
    )


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 512), st.integers(1, 512), st.integers(1, 512)), max_size=6),
    st.lists(st.integers(1, 10**6), min_size=1, max_size=6),
    st.integers(1, 1024),
    st.floats(0.5, 0.95),
)
def test_shares_add_up_and_the_interval_holds_the_prediction(products, sizes, batch, coverage):
    work = workload([*(product(*sides) for sides in products), *map(relu, sizes)])
    found = predicted(work, PROFILE, network="net", batch_size=batch, coverage=coverage)
    assert sum(found.shares.values()) == pytest.approx(1.0)
    assert min(found.shares.values()) >= 0
    assert found.interval_ms[0] <= found.latency_ms <= found.interval_ms[1]
    assert found.images_per_second == pytest.approx(1e3 * batch / found.latency_ms)
    low, high = found.images_per_second_interval
    assert low <= found.images_per_second <= high


def test_the_time_is_that_of_the_form_and_shares_are_sums_by_kind():
    calls = [product(49, 64, 128), relu(6272), product(49, 128, 64), relu(3136)]
    work = workload(calls)
    found = predicted(work, PROFILE, network="net", batch_size=64)
    given_ = (work, PROFILE.coefficients, PROFILE.execution, 64)
    total, single = float(network_seconds(*given_)), operator_seconds(*given_)
    assert found.latency_ms == pytest.approx(1e3 * total)
    for kind in ("linear", "activation"):
        own = sum(float(single[i]) for i, call in enumerate(calls) if call.kind == kind)
        assert found.shares[kind] == pytest.approx(own / total)


def test_the_interval_is_the_profiles_where_nothing_lies_outside():
    found = predicted(workload([relu(10**6)]), PROFILE, network="net", batch_size=64)
    seen = Seen((1, 64), (8.0, 512.0), (0.0, 1.0), (1.0, 1.0), ("activation",))
    inside = predicted(workload([relu(10**6)]), hand_made(seen=seen), network="net", batch_size=64)
    for each in (found, inside):
        assert each.notes == ()
        assert each.interval_ms[0] == pytest.approx(0.85 * each.latency_ms)
        assert each.interval_ms[1] == pytest.approx(1.2 * each.latency_ms)


@pytest.mark.parametrize(
    ("batch", "resolution", "seen", "note", "wide"),
    [
        (8, 224, {}, "Batch size 8: the fit has seen 32 to 512.", 3),
        (2048, 224, {}, "Batch size 2048: the fit has seen 32 to 512.", 3),
        (64, 1024, {}, "Resolution 1024 px: the fit has seen 96 to 512 px.", 2),
        (64, (48, 48), {}, "Resolution 48 px: the fit has seen 96 to 512 px.", 2),
        (64, 224, {"kinds": ("linear",)}, "that the fit has not seen: activation.", 2),
        (64, (8, 96, 96), {}, "The fit has seen images alone, of two dimensions.", None),
        (64, 224, {"channels": (1, 32)}, "Widest layer 128 channels: the fit has seen 1 to 32", 3),
        (
            64,
            224,
            {"flops": (1e6, 1e9)},
            "Multiply-adds of an image 410K: the fit has seen 1.00M to 1.00G.",
            None,
        ),
    ],
)
def test_what_lies_outside_the_range_is_flagged_and_widens_the_interval(
    batch, resolution, seen, note, wide
):
    own = {
        "batch_sizes": (32, 512),
        "resolutions": (96.0, 512.0),
        "flops": (1e3, 1e9),
        "channels": (1.0, 8192.0),
        "kinds": KINDS,
    }
    profile = hand_made(seen=Seen(**{**own, **seen}))
    work = workload([product(50, 64, 128), relu(100)])
    found = predicted(work, profile, network="net", resolution=resolution, batch_size=batch)
    assert any(note in told for told in found.notes)
    assert "times as wide" in found.notes[-1]
    width = log(found.interval_ms[1] / found.latency_ms) / log(1.2)
    assert width > 1
    if wide is not None:
        assert width == pytest.approx(wide)


def test_operators_and_the_network_they_are_of_are_predicted_alike(profile):
    named = cs.predict("resnet18", profile="mine", batch_size=64)
    recorded = cs.operators("resnet18", dtype="float8")
    again = cs.predict(recorded, profile=profile, batch_size=64)
    assert again.latency_ms == pytest.approx(named.latency_ms, rel=1e-9)
    assert again.shares == pytest.approx(named.shares)
    assert (again.network, again.resolution) == ("timm:resnet18", 224)


def test_scaled_names_folders_modules_and_families_are_predicted(profile, tmp_path):
    scaled = cs.scale("resnet18", strategy="w", factor=0.25)
    here = {"profile": profile, "batch_size": 64}
    by_name = cs.predict("resnet18@w:0.25", **here)
    by_folder = cs.predict(str(scaled.save(tmp_path / "half")), **here)
    by_module = cs.predict(scaled.module, resolution=224, **here)
    assert by_name.latency_ms == by_folder.latency_ms == by_module.latency_ms
    family = cs.predict("RegNetX-400MF", **here)
    assert family.latency_ms == cs.predict(cs.families.named("RegNetX-400MF"), **here).latency_ms


def test_prediction_leaves_a_module_as_it_was(profile):
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(72, 2))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    found = cs.predict(module, resolution=5, profile=profile)
    assert found.network == "module:Sequential"
    assert all(torch.equal(before[name], now) for name, now in module.state_dict().items())
    assert module.training


def test_a_network_without_operators_is_refused():
    with pytest.raises(InputError, match="for 0 operators|Give a network that runs some"):
        predicted(
            workload([]),
            hand_made(coefficients={**PROFILE.coefficients, "step": 0.0}),
            network="net",
        )


def test_operators_of_a_batch_are_refused():
    with pytest.raises(InputError, match="of 8 images; .* Record them with batch_size=1"):
        workload_of(Operators("net", 8, dtype="float8", batch_size=8))


def test_operators_in_bytes_are_refused():
    with pytest.raises(InputError, match="in float32; .* Record them with dtype='float8'"):
        workload_of(Operators("net", 8))


def test_options_do_not_go_with_recorded_operators(profile):
    with pytest.raises(InputError, match="Leave resolution out"):
        cs.predict(Operators("net", 8, dtype="float8"), profile=profile, resolution=8)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"batch_size": 0}, "The batch size is 0; it must be at least 1."),
        ({"batch_size": 2.5}, "The batch size is 2.5; it must be an integer"),
        ({"coverage": 1.0}, "The coverage is 1; it must be below 1"),
        ({"coverage": 0.2}, "The coverage is 0.2; mine has intervals from 0.5 to 0.95"),
        ({"coverage": "much"}, "The coverage is 'much'"),
        ({"profile": "mime"}, "Unknown profile 'mime'. Did you mean mine?"),
        ({"profile": 3}, "3 is no profile."),
        ({"resolution": 0}, "The resolution is 0; it must be at least 1."),
    ],
)
def test_bad_input_is_refused_in_words(changed, said, profile):
    with pytest.raises(InputError) as caught:
        cs.predict("resnet18", **{"profile": "mine", **changed})
    assert caught.value.line.startswith(said)


def test_the_command_prints_one_document(profile, capsys):
    assert run(["predict", "resnet18", "--profile", "mine", "--batch-size", "64", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    expected = cs.predict("resnet18", profile=profile, batch_size=64)
    assert found == json.loads(json.dumps(expected.as_document()))
    assert found["schema_version"] == 1
    assert found["network"] == "timm:resnet18"
    assert found["profile"] == "mine"
    assert found["coverage"] == 0.9


def test_several_networks_stand_side_by_side(profile, capsys, tmp_path):
    file = tmp_path / "table.csv"
    words = ["predict", "resnet18", "resnet18@w:2", "--profile", "mine", "--batch-size", "64"]
    assert run([*words, "--csv", str(file), "--coverage", "80%"]) == 0
    out = capsys.readouterr().out
    for part in ("timm:resnet18@w:2", "80 % interval", "convolution kxk", "images/s"):
        assert part in out
    rows = list(csv.DictReader(file.read_text().splitlines()))
    expected = [
        cs.predict(name, profile=profile, batch_size=64, coverage=0.8) for name in words[1:3]
    ]
    assert [float(row["latency_ms"]) for row in rows] == pytest.approx(
        [entry.latency_ms for entry in expected]
    )
    parts = [
        sum(float(value) for name, value in row.items() if name.endswith(" (ms)")) for row in rows
    ]
    assert parts == pytest.approx([entry.latency_ms for entry in expected])
    assert run([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["network"] == ["timm:resnet18", "timm:resnet18@w:2"]
    assert [row["network"] for row in document["predictions"]] == document["network"]
    assert list(frame_of(expected)["network"]) == document["network"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["predict", "resnet18"], "A prediction needs a profile: --profile NAME. "),
        (["predict", "resnet18", "--profile", "mine", "--batch-size", "x"], "Cannot read 'x' as"),
        (["predict", "resnet18", "--profile", "none"], "Unknown profile 'none'."),
        (["predict", "resnet18", "--profile", "no/such.json"], "There is no file no/such.json."),
        (["predict", "resnet18", "--profile", "mine", "--coverage", "0"], "The coverage is 0"),
        (["predict", "resnet5", "--profile", "mine"], "Unknown network 'resnet5'."),
        (["profiles", "mime"], "Unknown profile 'mime'. Did you mean mine?"),
    ],
)
def test_the_command_refuses_bad_input_in_one_line(words, said, profile, capsys):
    assert run(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"convscale: {said}")
    assert err.count("\n") == 1


def test_compare_has_predicted_latencies_and_chooses_by_them(profile, capsys, tmp_path):
    words = ["compare", "resnet18", "--strategies", "w", "--factors", "2,4", "--resolution", "64"]
    words += ["--profile", "mine", "--batch-size", "64"]
    assert run([*words, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    names = ["resnet18", "resnet18@w:2", "resnet18@w:4"]
    expected = [
        cs.predict(name, profile=profile, batch_size=64, resolution=64).latency_ms for name in names
    ]
    assert [row["predicted"]["latency_ms"] for row in rows] == pytest.approx(expected)
    assert all("latency_ms" not in row for row in rows)
    budget = f"{(expected[1] + expected[2]) / 2}ms"
    page = tmp_path / "report.html"
    assert run([*words, "--latency-budget", budget, "--html", str(page)]) == 0
    out = capsys.readouterr().out
    assert "predicted ms" in out
    assert "build timm:resnet18 scaled by w at 2x" in out
    assert page.exists()
    assert run([*words, "--latency-budget", "1us"]) == 3
