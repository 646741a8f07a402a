"""Device profiles: values, their JSON, and where names find them."""

from __future__ import annotations

import json
import pickle
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import convscale as cs
from convscale.cli.main import run
from convscale.errors import InputError
from convscale.prediction.profile import Band, Doubts, Seen
from convscale.prediction.profile_file import as_document, from_document, write_profile
from convscale.prediction.store import own_folder, profile_paths
from tests.device_profiles import hand_made

positive = st.floats(1e-30, 1e30)
CLASSES = st.sampled_from(["relu", "depthwise 3", "convolution 1x1", "once a pass"])
names = st.text('abcä "_.-0', min_size=1, max_size=8)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("CONVSCALE_PROFILES", str(tmp_path / "own"))
    return tmp_path / "own"


def document(**changes):
    return {**as_document(hand_made()), **changes}


@given(
    value=positive,
    conditions=st.dictionaries(names, st.none() | st.integers() | names | st.booleans()),
    low=st.floats(0.01, 0.99),
    high=st.floats(1.01, 100.0),
    version=st.integers(1, 9),
    errors=st.none() | st.dictionaries(CLASSES, st.floats(0, 1e3), min_size=1),
)
def test_a_profile_read_back_from_json_equals_the_one_written(
    value, conditions, low, high, version, errors
):
    profile = hand_made(
        coefficients=dict.fromkeys(hand_made().coefficients, value),
        conditions=conditions,
        bands=(Band(0.5, (1 + low) / 2, (1 + high) / 2), Band(0.9, low, high)),
        version=version,
        correction={"trees": [1, 2.5, "a"], "deep": {"x": None}},
        doubts=None if errors is None else Doubts(value, errors),
    )
    assert from_document(json.loads(json.dumps(as_document(profile)))) == profile


def test_a_file_tells_all_its_mistakes_in_one_line():
    wrong = document(
        coefficients={
            **hand_made().coefficients,
            "multiply": -1.0,
            "memory": "fast",
            "launch": float("nan"),
        },
        execution={"hardware": "abacus", "layout": "nchw", "mode": "eager", "work": "inference"},
        extra=1,
    )
    with pytest.raises(InputError) as caught:
        from_document(wrong, where="mine.json")
    line = caught.value.line
    assert line.startswith("mine.json is no profile: ")
    for part in (
        "coefficients.multiply: input should be greater than 0 (it is -1.0)",
        "coefficients.memory: ",
        "coefficients.launch: ",
        "execution.hardware: input should be 'gpu' or 'cpu' (it is 'abacus')",
        "execution.dtype is missing",
        "extra is unknown",
    ):
        assert part in line


def test_contradictions_are_told_at_once():
    wrong = document(
        range={**document()["range"], "batch_sizes": [8, 4]},
        intervals=[
            {"coverage": 0.5, "low": 0.7, "high": 1.3},
            {"coverage": 0.9, "low": 0.9, "high": 1.1},
        ],
    )
    with pytest.raises(
        InputError,
        match="range.batch_sizes must be the least and the most .*; the interval of coverage 0.9 "
        "must hold that of 0.5",
    ):
        from_document(wrong)


@pytest.mark.parametrize(
    ("doubts", "mistake"),
    [
        ({"typical": 0.0, "classes": {"relu": 0.1}}, "doubts.typical: input should be greater"),
        ({"typical": 0.1, "classes": {"relu": -0.1}}, "doubts.classes.relu: input should be"),
        ({"typical": 0.1, "classes": {}}, "doubts.classes: "),
        ({"typical": 0.1, "classes": {"reluu": 0.1}}, "doubts.classes.reluu is unknown"),
        ({"classes": {"relu": 0.1}}, "doubts.typical is missing"),
    ],
)
def test_wrong_doubts_are_named(doubts, mistake):
    with pytest.raises(InputError, match=f"is no profile: .*{mistake}"):
        from_document(document(doubts=doubts))


def test_a_file_without_doubts_holds_intervals_that_are_alike():
    assert "doubts" not in document()
    profile = from_document(document())
    assert profile.doubts is None
    assert profile.width({"relu": 1.0}) == 1.0


def test_the_command_tells_what_a_profile_is_least_sure_of(folder, capsys):
    errors = {"relu": 0.01, "depthwise 7": 0.21, "depthwise 5": 0.034}
    cs.save_profile(hand_made("my-box", doubts=Doubts(0.012, errors)))
    assert run(["profiles", "my-box"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "depthwise 7 (21 %), depthwise 5 (3.4 %), relu (1 %)" in out
    assert "1.2 %" in out


def test_coefficients_are_those_of_the_form():
    own = dict(hand_made().coefficients)
    del own["multiply"]
    with pytest.raises(InputError, match="coefficients.multiply is missing.*times is unknown"):
        from_document(document(coefficients={**own, "times": 2.0}))


def test_a_profile_of_another_form_is_to_be_fitted_again():
    own = dict(hand_made().coefficients)
    del own["host"]
    told = "coefficients.host is missing. Fit it again by 'convscale calibrate'."
    with pytest.raises(InputError, match=f"{re.escape(told)}$"):
        from_document(document(coefficients=own))


@pytest.mark.parametrize("version", [0, 2, "1", None, True])
def test_another_schema_version_is_refused_by_its_number(version):
    with pytest.raises(InputError, match="is a profile of schema version .*; this program reads"):
        from_document(document(schema_version=version))


@pytest.mark.parametrize("content", ["[]", "3", '"text"', "null"])
def test_what_is_no_table_of_entries_is_refused(content):
    with pytest.raises(InputError, match="holds no profile"):
        from_document(json.loads(content))


def test_damaged_files_are_refused_in_one_line(tmp_path):
    broken = tmp_path / "broken.json"
    broken.write_text('{"schema_version": 1,')
    with pytest.raises(InputError, match="holds no JSON"):
        cs.read_profile(broken)
    broken.write_bytes(pickle.dumps(hand_made()))
    with pytest.raises(InputError, match="no text in UTF-8|holds no JSON"):
        cs.read_profile(broken)
    with pytest.raises(InputError, match="cannot be read"):
        cs.read_profile(tmp_path)


def test_nothing_is_written_that_could_not_be_read(tmp_path):
    with pytest.raises(InputError, match="coefficients.multiply"):
        write_profile(
            hand_made(coefficients={**hand_made().coefficients, "multiply": 0.0}),
            tmp_path / "mine.json",
        )
    assert not list(tmp_path.iterdir())


def test_a_saved_profile_is_found_by_its_name(folder):
    profile = hand_made("my-box")
    assert cs.save_profile(profile) == folder / "my-box.json"
    assert own_folder() == folder
    assert cs.profile("my-box") == cs.profile(folder / "my-box.json") == profile


def test_own_profiles_come_before_those_of_the_package(folder):
    shipped = [name for name, path in profile_paths().items() if path.parent != folder]
    for name in shipped[:1]:
        cs.save_profile(hand_made(name))
        assert cs.profile(name) == hand_made(name)


def test_the_folder_of_the_user_is_that_of_xdg(tmp_path, monkeypatch):
    monkeypatch.delenv("CONVSCALE_PROFILES", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert own_folder() == tmp_path / "convscale" / "profiles"
    monkeypatch.setenv("XDG_DATA_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert own_folder() == tmp_path / ".local" / "share" / "convscale" / "profiles"


def test_an_unknown_profile_lists_those_that_exist_with_near_names(folder):
    cs.save_profile(hand_made("my-box"))
    cs.save_profile(hand_made("your-box"))
    with pytest.raises(InputError) as caught:
        cs.profile("my-bx")
    line = caught.value.line
    assert line.startswith("Unknown profile 'my-bx'. Did you mean my-box")
    assert "my-box" in line
    assert "your-box" in line
    assert all(name in line for name in profile_paths())


def test_a_damaged_profile_is_listed_with_what_is_wrong(folder, capsys):
    cs.save_profile(hand_made("good"))
    (folder / "bad.json").write_text("{")
    (entry,) = [entry for entry in cs.profiles() if entry.name == "bad"]
    assert entry.profile is None
    assert "holds no JSON" in entry.mistake
    assert run(["profiles", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["profiles"]}
    assert "holds no JSON" in rows["bad"]["mistake"]
    assert rows["good"]["execution"]["dtype"] == "amp"
    assert run(["profiles"]) == 0
    out = capsys.readouterr().out
    assert "holds no JSON" in out
    assert "5.5" in out


def test_the_command_shows_one_profile(folder, capsys):
    cs.save_profile(hand_made("my-box"))
    assert run(["profiles", "my-box"]) == 0
    out = capsys.readouterr().out
    for part in ("a device of no maker", "32 to 512", "5.5", "86 %", "0.992", "repvgg_a0", "37.0"):
        assert part in out
    assert run(["profiles", "my-box", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown.pop("network") is None
    assert from_document(shown) == hand_made("my-box")


@given(first=st.floats(0.5, 0.95), second=st.floats(0.5, 0.95), widened=st.floats(1.0, 20.0))
def test_a_higher_coverage_has_the_wider_interval(first, second, widened):
    profile = hand_made()
    inner, outer = (profile.factors(c, widened=widened) for c in sorted((first, second)))
    assert outer[0] <= inner[0] <= 1.0 <= inner[1] <= outer[1]


def test_intervals_are_interpolated_in_logarithms():
    profile = hand_made(bands=(Band(0.5, 0.9, 1.1), Band(0.9, 0.9**3, 1.1**3)))
    low, high = profile.factors(0.7)
    assert low == pytest.approx(0.9**2)
    assert high == pytest.approx(1.1**2)


def test_an_interval_always_holds_the_prediction():
    profile = hand_made(bands=(Band(0.5, 1.01, 1.05), Band(0.9, 0.9, 1.2)))
    assert profile.factors(0.5) == (1.0, pytest.approx(1.05))


@pytest.mark.parametrize("coverage", [0.3, 0.99])
def test_a_coverage_beyond_those_of_the_profile_is_refused(coverage):
    with pytest.raises(InputError, match="mine has intervals from 0.5 to 0.95. Write 0.9"):
        hand_made().factors(coverage)


def test_the_range_is_that_of_the_timings():
    from convscale.complexity.calls import Geometry, OperatorCall
    from convscale.prediction.profile import seen_in
    from convscale.prediction.workload import workload

    wide = OperatorCall("a", "x", "convolution 1x1", 640, geometry=Geometry(8, 80, rows=1))
    flat = OperatorCall("b", "x", "linear", 16, geometry=Geometry(2, 8, rows=1))
    relu = OperatorCall("c", "x", "activation")
    found = seen_in([workload([wide, relu]), workload([flat])], [64, 8], [224, 96])
    kinds = ("convolution 1x1", "linear", "activation")
    assert found == Seen((8, 64), (96.0, 224.0), (16.0, 640.0), (8.0, 80.0), kinds)


def test_profiles_are_values():
    assert hand_made() == hand_made()
    assert replace(hand_made(), version=2) != hand_made()


def test_the_list_of_profiles_keeps_names_and_words_whole_on_a_narrow_terminal(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["profiles"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines[:-1])) <= 80  # the last names a folder
    words = " ".join(lines).split()
    assert {"rtx3090-train-amp-nhwc", "inference,", "compiled", "i7-12700H"} <= set(words)
