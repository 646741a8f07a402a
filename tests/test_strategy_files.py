"""Strategies in YAML files: each way to write one, and all mistakes at once."""

import pytest

import convscale as cs
from convscale.cli.main import run
from convscale.errors import InputError
from convscale.strategy import parse_strategy


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return str(path)

    return write


@pytest.mark.parametrize(
    "body",
    [
        "weights: {d: 1, w: 8, r: 1}",
        "exponents: {depth: 0.1, width: 0.4, resolution: 0.05}",
    ],
)
def test_weights_and_exponents_say_the_same_law(body, written):
    assert parse_strategy(written(f"name: mine\n{body}\n")).growth == parse_strategy("dWr").growth


@pytest.mark.parametrize(
    "body",
    [
        "weights: {d: 1, w: 8, g: 8, r: 1}",
        "exponents: {depth: 0.1, width: 0.4, group_width: 0.4, resolution: 0.05}",
    ],
)
def test_group_width_may_have_a_share_of_its_own(body, written):
    found = parse_strategy(written(f"name: mine\n{body}\n"))
    assert found.named_only().factors(4) == parse_strategy("d1_w8_g8_r1").factors(4)


def test_a_network_is_scaled_on_the_spot_by_a_file(written):
    path = written("name: mine\ntable: {half: {width: 0.5}}\n")
    wanted = cs.scale("timm:resnet18", strategy=f"{path}@half", resolution=64, weights=False)
    found = cs.count(f"timm:resnet18@{path}@half", resolution=64)
    assert found.as_dict() == wanted.achieved.as_dict()
    with pytest.raises(InputError, match=r"^Strategy 'mine@half' has factors of its own .*: leave"):
        cs.count(f"timm:resnet18@{path}@half:1", resolution=64)
    law = written("name: mine\nweights: {w: 1}\n")
    assert cs.count(f"timm:resnet18@{law}:4", resolution=64).as_dict() == (
        cs.count("timm:resnet18@w:4", resolution=64).as_dict()
    )


def test_a_description_in_a_folder_with_an_at_sign_is_no_strategy(tmp_path):
    place = tmp_path / "a@b"
    place.mkdir()
    cs.families.write_yaml(cs.families.named("ResNet-18"), place / "net.yaml")
    assert cs.count(str(place / "net.yaml")).as_dict() == cs.count("ResNet-18").as_dict()
    assert cs.count(f"{place}/net.yaml@w:4", resolution=64).as_dict() == (
        cs.count("ResNet-18@w:4", resolution=64).as_dict()
    )


def test_an_entry_of_a_table_scales_by_its_factors(written):
    path = written("name: mine\nbase_resolution: 64\ntable: {large: {width: 2.0, px: 128}}\n")
    found = cs.scale("timm:resnet18", strategy=f"{path}@large", resolution=64, weights=False)
    assert found.resolution == 128
    assert found.module.layer1[0].conv1.out_channels == 128


def test_all_mistakes_are_told_at_once(written):
    path = written(
        "name: 7\nrounding: up\nkeep: [tail]\nweights: {d: 0, w: 0, r: 0}\ncolour: red\n"
        "table: {a: {px: 96, width: -1}}\n"
    )
    with pytest.raises(InputError) as caught:
        parse_strategy(path)
    said = str(caught.value)
    assert "\n" not in said
    for part in (
        "name: ",
        "rounding: ",
        "keep.0: ",
        "weights: all weights are 0, and one must be positive",
        "colour is unknown",
        "table.a.width: ",
        "write exactly one of exponents, weights, factors, table, weights and table came",
        "table.a gives px, so base_resolution (px) is needed",
    ):
        assert part in said, said


def test_a_cap_on_the_resolution_is_told(written):
    """1.2, 1.1 and 1.15 at s = 16 ask for 16^0.214 · 64 = 116 px."""
    path = written(
        "name: mine\nmax_resolution: 96\nfactors: {depth: 1.2, width: 1.1, resolution: 1.15}\n"
    )
    found = cs.scale("timm:resnet18", strategy=path, factor=16, resolution=64, weights=False)
    assert found.resolution == 96
    assert "The strategy caps the resolution at 96 px; its factor asks for 116 px." in found.notes
    assert "the resolution is capped" in found.notes[-1]


def test_an_entry_without_factors_is_named(written):
    with pytest.raises(InputError, match=r"table\.c must be a table of entries \(it is None\)\.$"):
        parse_strategy(written("name: mine\ntable: {b: {width: 2.0}, c: null}\n"))


def test_exponents_that_break_the_law_are_refused(written):
    with pytest.raises(InputError, match=r"depth \+ 2 width \+ 2 resolution is 1\.5 and must be 1"):
        parse_strategy(written("name: mine\nexponents: {depth: 0.5, width: 0.5}\n"))


@pytest.mark.parametrize("text", ["- a\n", "name: [\n", ""])
def test_what_is_no_mapping_is_one_line_and_exit_status_2(text, written, capsys):
    assert run(["scale", "resnet18", "--strategy", written(text), "--factor", "2"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1


def test_entries_that_mean_the_same_stand_twice(written):
    path = written("name: mine\nsteps:\n  1: {depth: 2}\n  yes: {depth: 3}\n")
    with pytest.raises(InputError, match="1 and yes are one entry, which stands twice, in lines 3"):
        parse_strategy(path)


def test_entries_that_stand_twice_are_mistakes(written):
    path = written("name: mine\nname: other\nweights:\n  d: 1\n  w: 2\n  d: 3\ncolour: red\n")
    with pytest.raises(InputError) as caught:
        parse_strategy(path)
    assert str(caught.value).endswith(
        "colour is unknown; name stands twice, in lines 1 and 2; d stands twice, in lines 4 and 6."
    )


def test_entries_of_a_merged_table_may_be_given_anew(written):
    path = written(
        "name: mine\ntable:\n  a: &a {depth: 2.0, width: 1.5}\n  b: {<<: *a, width: 1.25}\n"
    )
    own = parse_strategy(f"{path}@b").own
    assert (own.depth, own.width) == (2.0, 1.25)


@pytest.mark.parametrize("number", ["12.5e-1", "125E-2", "1.25e0", "+.125e1", "1.25"])
def test_numbers_with_exponents_are_numbers(number, written):
    path = written(f"name: mine\ntable: {{a: {{depth: {number}}}}}\n")
    assert parse_strategy(f"{path}@a").own.depth == 1.25


@pytest.mark.parametrize(
    ("row", "place"),
    [
        ("{depth: 1.0e+10, width: 1.0e+200}", r"table\.a\.depth: .* less than .* 1048576 .*width"),
        ("{width: 1e-300}", r"table\.a\.width: .* greater than .* \(it is 1e-300\)\.$"),
        ("{resolution: .inf}", r"table\.a\.resolution: "),
        ("{px: 10000000000000000000000}", r"table\.a\.px: .* less than or equal to 1048576 "),
        ("{stage_depth: [1, 1e300]}", r"table\.a\.stage_depth\.1: "),
    ],
)
def test_factors_that_no_network_has_are_refused(row, place, written):
    with pytest.raises(InputError, match=place):
        parse_strategy(written(f"name: mine\nbase_resolution: 64\ntable: {{a: {row}}}\n") + "@a")
