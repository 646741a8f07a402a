"""The law of strategies, against the table of exponents of arXiv 2103.06877."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convscale.errors import InputError
from convscale.strategy import Strategy, fast, named_strategies, parse_strategy

# strategy: exponents of depth, width, resolution, params, acts (d·w²·r² = s)
TABLE = {
    "d": (1, 0, 0, 1, 1),
    "w": (0, 1 / 2, 0, 1, 1 / 2),
    "r": (0, 0, 1 / 2, 0, 1),
    "dw": (1 / 2, 1 / 4, 0, 1, 3 / 4),
    "dr": (1 / 2, 0, 1 / 4, 1 / 2, 1),
    "wr": (0, 1 / 4, 1 / 4, 1 / 2, 3 / 4),
    "dwr": (1 / 3, 1 / 6, 1 / 6, 2 / 3, 5 / 6),
    "dWr": (0.1, 0.4, 0.05, 0.9, 0.6),
}


@pytest.mark.parametrize("name", TABLE)
def test_named_strategies_have_the_published_exponents(name):
    depth, width, resolution, params, acts = TABLE[name]
    strategy = parse_strategy(name)
    factors = strategy.factors(16.0)
    assert factors.depth == pytest.approx(16**depth)
    assert factors.width == factors.group_width == pytest.approx(16**width)
    assert factors.resolution == pytest.approx(16**resolution)
    assert strategy.growth.params == pytest.approx(params)
    assert strategy.growth.acts == pytest.approx(acts)


def test_the_named_strategies_are_those_of_the_table():
    assert [strategy.name for strategy in named_strategies()] == list(TABLE)


@given(alpha=st.floats(0, 1), scale=st.floats(1e-3, 1e3))
def test_factors_multiply_flops_by_scale(alpha, scale):
    factors = fast(alpha).factors(scale)
    assert factors.depth * factors.width**2 * factors.resolution**2 == pytest.approx(scale)


@given(alpha=st.floats(0, 1))
def test_fast_scaling_grows_acts_as_one_minus_half_alpha(alpha):
    growth = fast(alpha).growth
    assert growth.params == pytest.approx((1 + alpha) / 2)
    assert growth.acts == pytest.approx(1 - alpha / 2)


@given(weights=st.tuples(*[st.integers(0, 9)] * 3).filter(any), scale=st.floats(0.01, 100))
def test_weights_share_the_exponents_in_proportion(weights, scale):
    depth, width, resolution = weights
    strategy = parse_strategy(f"d{depth}_w{width}_r{resolution}")
    assert strategy.depth == pytest.approx(depth / sum(weights))
    factors = strategy.factors(scale)
    assert math.log(factors.width**2) == pytest.approx(
        width / sum(weights) * math.log(scale), abs=1e-9
    )


def test_group_width_may_be_named_with_the_weight_of_width():
    assert parse_strategy("d1_w8_g8_r1").growth == parse_strategy("d1_w8_r1").growth


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dWq", "Unknown axis 'q' in strategy 'dWq'.*Use d, w, g and r: 'dwr' \\(uniform\\).*"),
        ("", "Unknown strategy ''.*Use d, w, g and r.*"),
        ("dWr@1.5", "α in 'dWr@1.5' must be a number in \\[0, 1\\]. Write dWr@0.8."),
        ("dWr@nan", "α in 'dWr@nan' must be a number in \\[0, 1\\]. Write dWr@0.8."),
        ("dWr@x", "α in 'dWr@x' must be a number in \\[0, 1\\]. Write dWr@0.8."),
        ("d1_d2", "Axis 'd' stands twice in strategy 'd1_d2'.*"),
        ("d0_w0", "All weights of strategy 'd0_w0' are 0.*"),
        ("g1", "All weights of strategy 'g1' are 0.*"),
        ("d1_w-2", "Cannot read 'w-2' in strategy 'd1_w-2'.*"),
    ],
)
def test_a_wrong_strategy_is_answered_with_what_to_write(text, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        parse_strategy(text)


@pytest.mark.parametrize("scale", [0, -1, math.nan, math.inf])
def test_a_factor_is_positive_and_finite(scale):
    message = f"^The factor is {scale}; it must be positive and finite.$"
    with pytest.raises(InputError, match=message):
        fast(0.8).factors(scale)


def test_shares_that_do_not_sum_to_one_are_refused():
    with pytest.raises(InputError, match="^The exponents of 'x' are .* that sum to 1.$"):
        Strategy("x", depth=0.5, width=0.2, resolution=0.2)
