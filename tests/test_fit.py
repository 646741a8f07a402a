"""Fitting a strategy from trials: a planted best split is found, and bad tables are refused."""

import json

import numpy as np
import pytest

import convscale as cs
from convscale.cli.main import run
from convscale.errors import InputError
from convscale.strategy.fitting import _split

PLANTED = (0.3, 0.45, 0.25)  # the shares of depth, width and resolution with the least error


def trials(best=PLANTED, *, noise=0.002, seed=0):
    """Return trials whose error falls with flops and rises with the distance from a split."""
    draw = np.random.default_rng(seed)
    rows = []
    for total in np.log([2.0, 4.0, 8.0]):
        for _ in range(14):
            shares = draw.dirichlet((3.0, 3.0, 3.0))
            x = total * shares
            off = x - total * np.array(best)
            error = 0.25 * np.exp(-0.1 * total + 0.04 * (off @ off) + noise * draw.normal())
            depth, width, side = np.exp(x * (1.0, 0.5, 0.5))
            rows.append({"depth": depth, "width": width, "resolution": side, "error": error})
    return rows


def covered(fit):
    found = (fit.depth, fit.width, fit.resolution)
    return [share.covers(best) for share, best in zip(found, PLANTED, strict=True)]


@pytest.mark.parametrize("seed", range(20))
def test_the_best_split_is_that_of_a_search_over_all_splits(seed):
    """Minima inside, on edges, in corners and of saddles, against a grid of 1/200."""
    draw = np.random.default_rng(seed)
    root = draw.normal(size=(2, 2))
    bend = root @ root.T if seed % 2 else root + root.T
    slope = 2 * draw.normal(size=2)
    steps = [(i / 200, j / 200) for i in range(201) for j in range(201 - i)]

    def error(split):
        e = np.array(split)
        return e @ bend @ e / 2 + slope @ e

    terms = np.array([0, 0, 0, bend[0, 0] / 2, bend[0, 1], bend[1, 1] / 2, *slope])
    shares, _ = _split(terms, np.ones(3))
    assert shares.min() >= 0
    assert shares.sum() == pytest.approx(1)
    assert error(shares[:2]) <= min(map(error, steps)) + 1e-9


def test_without_noise_the_planted_split_is_found_exactly():
    fit = cs.fit_exponents(trials(noise=0.0), resamples=100)
    found = (fit.depth.value, fit.width.value, fit.resolution.value)
    assert found == pytest.approx(PLANTED, abs=1e-6)
    assert fit.inside


@pytest.mark.parametrize("seed", range(3))
def test_the_planted_split_lies_within_wide_intervals(seed):
    """At 99.9 % an interval that misses is a defect, not chance."""
    fit = cs.fit_exponents(trials(seed=seed), level=0.999, resamples=2000)
    assert all(covered(fit)), fit


def test_intervals_at_95_percent_cover_the_planted_split_about_as_often_as_they_say():
    """Of 120 intervals 114 are expected; shares of one fit go together, so 100 must be met."""
    hits = sum(sum(covered(cs.fit_exponents(trials(seed=s), resamples=200))) for s in range(40))
    assert hits >= 100


def test_the_best_split_is_a_strategy_to_scale_by():
    fit = cs.fit_exponents(trials(noise=0.0), resamples=100)
    depth, width, side = fit.factors(2.0)
    assert depth * width**2 * side**2 == pytest.approx(2.0)


def test_a_missing_column_is_named():
    with pytest.raises(InputError, match="error"):
        cs.fit_exponents([{"depth": 1.0, "width": 1.0, "resolution": 1.0}])


BAD = {
    "depth,width\n1,2\n": "resolution",
    "depth,width,resolution,error\n1,1,1,none\n": "error",
    "depth,width,resolution,error\n1,1,-1,0.2\n": "resolution",
    "depth,width,resolution,error\n": "there is no trial",
    "": "is no CSV file: ",
    "depth,width,resolution,error\n1,1,1,0.2\n2,1,1,0.2,0.1\n": (
        "Line 3 of {path} has 5 fields, its header 4 fields (depth, width, resolution, error). "
        "Write a value for each column."
    ),
    "depth,width,resolution,error\n1,1,1\n": "Line 2 of {path} has 3 fields, its header 4",
    "depth,width,px,error\n1,1,1,1\n": (
        "column 'resolution' is missing; the columns found are 'depth', 'width', 'px', 'error'. "
    ),
    "depth;width;resolution;error\n1;1;1;0.2\n": (
        "the columns found are 'depth;width;resolution;error'; they are separated by ';', write "
        "commas. "
    ),
    "depth,width,resolution,error,Depth\n1,1,1,0.2,1\n": "column 'depth' is there twice",
}


@pytest.mark.parametrize("text", BAD)
def test_a_bad_csv_is_one_line_and_exit_status_2(text, tmp_path, capsys):
    path = tmp_path / "trials.csv"
    path.write_text(text)
    assert run(["fit", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert BAD[text].format(path=path) in err
    assert "Traceback" not in err


def rows_with_index(rows):
    """Return the text of a file with a field more in each row than in the header, as pandas'."""
    body = (f"{i},{r['depth']},{r['width']},{r['resolution']},{r['error']}" for i, r in rows)
    return "\n".join(("depth,width,resolution,error", *body))


def test_rows_with_a_field_more_than_the_header_are_refused(tmp_path, capsys):
    path = tmp_path / "trials.csv"
    path.write_text(rows_with_index(enumerate(trials(), start=1)))
    assert run(["fit", str(path)]) == 2
    assert "Line 2" in capsys.readouterr().err


def test_names_of_columns_may_have_capitals_and_blanks(tmp_path, capsys):
    exact = trials(noise=0.0)
    body = (f"{r['width']}, {r['depth']},{r['resolution']},{r['error']}" for r in exact)
    path = tmp_path / "trials.csv"
    path.write_text("\ufeff" + "\n".join((" Width ,DEPTH, Resolution,error ", *body, "")))
    assert run(["fit", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    got = [found[axis]["value"] for axis in ("depth", "width", "resolution")]
    assert got == pytest.approx(PLANTED, abs=1e-6)


NO_SPLIT = {
    "constant": lambda row, _draw: 0.2,
    "by s": lambda row, _draw: 0.3 * scale(row) ** -0.1,
    "noise": lambda row, draw: 0.3 * scale(row) ** -0.1 * np.exp(0.01 * draw.normal()),
}


def scale(row):
    return row["depth"] * row["width"] ** 2 * row["resolution"] ** 2


@pytest.mark.parametrize("law", NO_SPLIT)
def test_trials_whose_error_does_not_depend_on_the_split_are_refused(law, tmp_path, capsys):
    draw = np.random.default_rng(1)
    rows = [row | {"error": NO_SPLIT[law](row, draw)} for row in trials()]
    path = tmp_path / "trials.csv"
    path.write_text(
        "\n".join([",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)])
    )
    assert run(["fit", str(path)]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert "does not depend on how s is shared" in err
