"""Numbers and resolutions as people write them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convscale.errors import InputError
from convscale.quantities import (
    check_count,
    check_positive,
    check_resolution,
    format_resolution,
    parse_number,
    parse_resolution,
)


@given(st.floats(1e-6, 1e15))
def test_a_number_survives_writing_and_reading(value):
    assert parse_number(repr(value)) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("1.6G", 1.6e9), ("1600000000", 1.6e9), ("25m", 25e6), (".5", 0.5), ("2K", 2000)],
)
def test_suffixes_are_powers_of_a_thousand(text, value):
    assert parse_number(text) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "-inf", "1e999"])
def test_numbers_that_are_not_positive_and_finite_are_refused(text):
    with pytest.raises(InputError, match="^The number is .*; it must be positive and finite.$"):
        parse_number(text)


@pytest.mark.parametrize("text", ["", "four", "1.6GB", "1,6", "1 6"])
def test_text_that_is_no_number_is_refused(text):
    with pytest.raises(InputError, match="^Cannot read .* as a number. Write .*$"):
        parse_number(text)


@given(st.one_of(st.integers(1, 9999), st.tuples(st.integers(1, 9999), st.integers(1, 9999))))
def test_a_resolution_survives_writing_and_reading(value):
    assert parse_resolution(format_resolution(value)) == value


@pytest.mark.parametrize("text", ["0", "-4", "224x0"])
def test_a_resolution_below_one_is_refused(text):
    with pytest.raises(InputError, match="^The resolution is .*; it must be at least 1.$"):
        parse_resolution(text)


@pytest.mark.parametrize("text", ["", "big", "1x2x3x4", "2.5"])
def test_text_that_is_no_resolution_is_refused(text):
    with pytest.raises(
        InputError, match="^Cannot read .* as a resolution. Write 224, 256x128 or 16x112x112\\.$"
    ):
        parse_resolution(text)


def test_booleans_are_no_numbers():
    for check in (check_positive, check_count):
        with pytest.raises(InputError, match="^The factor is True; it must be .*$"):
            check(True, what="factor")
    with pytest.raises(InputError, match="^The resolution is .*; write one side or .*$"):
        check_resolution((1, 2, 3, 4))
    with pytest.raises(InputError, match="^The factor is 1.*; it must be positive and finite.$"):
        check_positive(10**400, what="factor")
    assert math.isclose(check_positive(3, what="factor"), 3.0)


@pytest.mark.parametrize("side", [99999999999999, (1 << 24) + 1, (1 << 20, 1 << 20, 1 << 20)])
def test_sides_that_no_tensor_holds_are_refused(side):
    with pytest.raises(InputError, match="a side must be at most 16777216 px, and all sides"):
        check_resolution(side)


def test_integers_of_numpy_are_counts():
    found = check_resolution((np.int64(256), np.int32(128)))
    assert found == (256, 128)
    assert {type(side) for side in found} == {int}
