from __future__ import annotations

import math

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import ttest_1samp

from boursomatic_assets.core.measures.inference import (
    MeanTest,
    clark_west_terms,
    diebold_mariano,
    newey_west_error,
    overlap_test,
    ratio_test,
    upper_bound,
)
from boursomatic_assets.errors import NonFiniteReturnsError

# One count, overlap and lag for most tests.
COUNT, OVERLAP, LAG = 40, 5, 4
SERIES = arrays(np.float64, COUNT, elements=st.floats(-1, 1, allow_subnormal=False))


def moving_sums(count: int, overlap: int, series: int, seed: int, freedom: float | None = None) -> np.ndarray:
    """Sums of `overlap` neighbouring independent shocks: normal, or Student's t, shape (series, count)."""
    random = np.random.default_rng(seed)
    shape = (series, count + overlap - 1)
    shocks = random.standard_normal(shape) if freedom is None else random.standard_t(freedom, shape)
    windows = np.lib.stride_tricks.sliding_window_view(shocks, overlap, axis=1)
    return np.asarray(windows.sum(axis=2))


def numbers_of(test: MeanTest) -> list[float]:
    return [test.value, test.error, test.statistic, test.p_value, test.low, test.high]


def is_undefined(test: MeanTest) -> bool:
    return all(math.isnan(number) for number in numbers_of(test))


def hac_regression(values: np.ndarray, lag: int) -> sm.regression.linear_model.RegressionResultsWrapper:
    """A regression on a constant: its coefficient is the mean."""
    options = {"maxlags": lag, "use_correction": False}
    return sm.OLS(values, np.ones(len(values))).fit(cov_type="HAC", cov_kwds=options)


@pytest.mark.parametrize(
    ("values", "lag", "squared_error"),
    [
        # mean 2, deviations -1, 0, 1: g_0 = 2/3, over 3
        ([1, 2, 3], 0, 2 / 9),
        # deviations -3, -1, 1, 3: g_0 = 20/4 = 5, g_1 = (3 - 1 + 3)/4 = 5/4, g_2 = (-3 - 3)/4 = -3/2
        # lag 1: 5 + 2 x 1/2 x 5/4 = 25/4, over 4
        ([0, 2, 4, 6], 1, 25 / 16),
        # lag 2: 5 + 2 (2/3 x 5/4 - 1/3 x 3/2) = 5 + 2/3 = 17/3, over 4
        ([0, 2, 4, 6], 2, 17 / 12),
        # more lags than values: deviations -1, 1: g_0 = 1, g_1 = -1/2; lag 3 weighs g_1 by 3/4: 1 - 3/4, over 2
        ([1, 3], 3, 1 / 8),
    ],
)
def test_newey_west_error_by_hand(values: list[float], lag: int, squared_error: float) -> None:
    assert newey_west_error(np.array(values), lag) == pytest.approx(math.sqrt(squared_error), rel=1e-12)


@given(SERIES, st.integers(0, COUNT - 1))
def test_newey_west_error_agrees_with_statsmodels(values: np.ndarray, lag: int) -> None:
    theirs = hac_regression(values, lag).bse[0]
    # Near zero the square root magnifies what sums in another order round differently: 1e-9 of a range of 2.
    assert newey_west_error(values, lag) == pytest.approx(theirs, rel=1e-9, abs=2e-9)


@given(SERIES, st.sampled_from([-3.0, 0.25, 8.0]), st.integers(0, 10))
def test_newey_west_error_follows_scale_and_not_level(values: np.ndarray, factor: float, lag: int) -> None:
    expected = abs(factor) * newey_west_error(values, lag)
    assert newey_west_error(values * factor, lag) == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert newey_west_error(values + factor, lag) == pytest.approx(expected / abs(factor), rel=1e-9, abs=1e-7)


def test_overlap_test_statistic_is_the_distance_in_errors() -> None:
    values = moving_sums(COUNT, OVERLAP, 1, seed=1)[0]
    test = overlap_test(values, OVERLAP, LAG, null=0.5)
    assert test.value == pytest.approx(values.sum() / COUNT, rel=1e-12)
    assert test.error == newey_west_error(values, LAG)
    assert test.statistic == pytest.approx((values.mean() - 0.5) / test.error, rel=1e-12)


def test_overlap_test_of_a_mean_at_the_null_has_p_value_one_half() -> None:
    # Mean exactly zero: as often above as below.
    assert overlap_test(np.array([-1.0, 1.0] * 20), 1, 0).p_value == 0.5


def test_overlap_test_p_values_are_uniform_under_the_null() -> None:
    # Kolmogorov: in 99 of 100 samples the largest gap to uniform is below 1.63 / sqrt(4000) = 0.026.
    p_values = np.sort([overlap_test(row, OVERLAP, LAG).p_value for row in moving_sums(COUNT, OVERLAP, 4000, 2)])
    assert np.abs(p_values - (np.arange(4000) + 0.5) / 4000).max() < 0.026


@given(SERIES, st.sampled_from([0.125, 4.0]))
def test_overlap_test_follows_scale_and_sign(values: np.ndarray, factor: float) -> None:
    assume(np.ptp(values) > 1e-6)
    test, scaled, turned = (overlap_test(values * by, OVERLAP, LAG) for by in (1.0, factor, -1.0))
    # Powers of two: not even the last digit differs.
    assert (scaled.statistic, scaled.p_value) == (test.statistic, test.p_value)
    assert numbers_of(scaled)[4:] == [test.low * factor, test.high * factor]
    assert turned.statistic == -test.statistic
    assert turned.p_value == pytest.approx(1 - test.p_value, abs=1e-12)


@given(SERIES)
def test_overlap_test_interval_agrees_with_p_value(values: np.ndarray) -> None:
    test = overlap_test(values, OVERLAP, LAG)
    if is_undefined(test):
        assert np.ptp(values) < 1e-100
        return
    assert 0 < test.p_value < 1
    assert test.low <= test.value <= test.high
    # An interval above zero has a one-sided p-value below 2.5 %; at its very edge rounding decides.
    assert (test.low > 0) == (test.p_value < 0.025) or abs(test.low) < 1e-9 * test.error


def test_overlap_test_interval_covers_the_truth_in_95_of_100_cases() -> None:
    rows = moving_sums(COUNT, OVERLAP, 2000, seed=3) + 0.7
    tests = [overlap_test(row, OVERLAP, LAG) for row in rows]
    held = np.mean([test.low <= 0.7 <= test.high for test in tests])
    # Binomial: sqrt(0.95 x 0.05 / 2000) = 0.0049; three of them.
    assert abs(held - 0.95) < 0.015


SHAPES = [(60, 5, 4), (120, 20, 19), (250, 20, 19), (120, 20, 30), (250, 1, 19), (500, 20, 19)]


@pytest.mark.parametrize(("count", "overlap", "lag"), SHAPES)
@pytest.mark.parametrize("freedom", [None, 4.0])
def test_overlap_test_has_its_nominal_size(count: int, overlap: int, lag: int, freedom: float | None) -> None:
    rows = moving_sums(count, overlap, 1500, seed=count + lag, freedom=freedom)
    rejected = np.mean([overlap_test(row, overlap, lag).p_value < 0.05 for row in rows])
    # Binomial: sqrt(0.05 x 0.95 / 1500) = 0.0056; three of them are 0.017. With heavy tails, whose sums are normal
    # only nearly, the same bound holds.
    assert abs(rejected - 0.05) < 0.017


def test_overlap_test_holds_where_a_naive_test_rejects_every_other_null() -> None:
    # Why this module exists. 250 sessions of a horizon of 20: neighbours share 19 of 20 shocks, so that the mean
    # varies about sqrt(20) = 4.5 times as much as the naive error says: |Z| > 1.96 / 4.5 has a chance of 0.66 for
    # two-sided, Z > 1.65 / 4.5 one of 0.36 for one-sided tests.
    rows = moving_sums(250, 20, 1500, seed=269)
    naive = ttest_1samp(rows, 0.0, axis=1).pvalue
    assert 0.5 < np.mean(naive < 0.05) < 0.8
    honest = np.array([overlap_test(row, 20, 19).p_value for row in rows])
    assert np.mean(np.minimum(honest, 1 - honest) < 0.025) < 0.07


def test_overlap_test_detects_a_mean_four_deviations_away() -> None:
    # 250 sessions hold 12.5 horizons: the mean of sums of 20 varies by about sqrt(20 x 20 / 250) = 1.26; one of
    # 5 is four deviations away.
    rows = moving_sums(250, 20, 200, seed=4) + 5.0
    assert np.mean([overlap_test(row, 20, 19).p_value < 0.05 for row in rows]) > 0.9


@pytest.mark.parametrize("count", [0, 1, 6])
def test_overlap_test_of_too_few_values_is_undefined(count: int) -> None:
    assert is_undefined(overlap_test(np.arange(float(count)), 5, 4))
    # seven = 5 + 2 are enough
    assert not is_undefined(overlap_test(np.arange(7.0), 5, 4))


def test_overlap_test_of_constant_values_is_undefined() -> None:
    assert is_undefined(overlap_test(np.full(30, 0.1), 5, 4))
    # The square of 1e-200 is 0 as a float: no error can be told.
    assert is_undefined(overlap_test(np.array([0.0, 1e-200] * 15), 5, 4))


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_overlap_test_names_values_that_are_not_finite(broken: float) -> None:
    values = np.zeros(30)
    values[7] = broken
    with pytest.raises(NonFiniteReturnsError, match=f"found {broken} at position 7 of 30"):
        overlap_test(values, 5, 4)


@given(SERIES)
def test_upper_bound_is_where_a_test_just_rejects_at_5_percent(values: np.ndarray) -> None:
    assume(np.ptp(values) > 1e-6)
    bound = upper_bound(values, OVERLAP, LAG)
    tested = overlap_test(values, OVERLAP, LAG)
    assume(tested.error > 1e-9)
    assert tested.value < bound < tested.high
    # Against "smaller": the values with the other sign, and a null a little above and below the bound.
    beyond, within = (
        overlap_test(-values, OVERLAP, LAG, null=-bound - step * tested.error).p_value for step in (1e-6, -1e-6)
    )
    assert beyond < 0.05 < within


def test_upper_bound_covers_the_truth_in_95_of_100_cases() -> None:
    # 2,000 histories around zero: 5 % of them fall short, give or take 3.5 x sqrt(0.05 x 0.95 / 2000) = 0.017.
    short = np.mean([upper_bound(row, OVERLAP, LAG) < 0 for row in moving_sums(COUNT, OVERLAP, 2000, seed=9)])
    assert short == pytest.approx(0.05, abs=0.017)


def test_upper_bound_of_constant_or_too_few_values() -> None:
    assert upper_bound(np.full(7, 0.25), OVERLAP, LAG) == 0.25
    assert math.isnan(upper_bound(np.arange(6.0), OVERLAP, LAG))
    with pytest.raises(NonFiniteReturnsError):
        upper_bound(np.array([0.0, math.nan]), 1, 0)


def test_ratio_test_is_of_sums_and_not_a_mean_of_ratios() -> None:
    # 1 of 2, 0 of 1, 3 of 3, 1 of 2, ...: 4 x (1 + 0 + 3 + 1) of 4 x (2 + 1 + 3 + 2)
    hits, calls = np.array([1.0, 0, 3, 1] * 4), np.array([2.0, 1, 3, 2] * 4)
    test = ratio_test(hits, calls, 1, 0, null=0.5)
    assert test.value == pytest.approx(5 / 8, rel=1e-12)
    # Distances hits - calls / 2 = 0, -1/2, 3/2, 0: mean 1/4; squares 1/16 + 9/16 + 25/16 + 1/16 = 9/4, over 4 =
    # 9/16; error sqrt(9/16 / 16) = 3/16; 1/4 over 3/16
    assert test.statistic == pytest.approx(4 / 3, rel=1e-12)
    # Error of the ratio, calls 2 on average: (hits - 5/8 calls) / 2 = -1/8, -5/16, 9/16, -1/8 of mean zero;
    # squares (4 + 25 + 81 + 4) / 256 = 114/256, over 4 and over 16 sessions
    assert test.error == pytest.approx(math.sqrt(114 / 256 / 64), rel=1e-12)
    assert (test.low + test.high) / 2 == pytest.approx(5 / 8, rel=1e-12)


@given(SERIES, st.floats(-2, 2))
def test_ratio_test_over_ones_is_overlap_test(values: np.ndarray, null: float) -> None:
    assume(np.ptp(values) > 1e-6)
    ours, mean = ratio_test(values, np.ones(COUNT), OVERLAP, LAG, null), overlap_test(values, OVERLAP, LAG, null)
    assert numbers_of(ours) == pytest.approx(numbers_of(mean), rel=1e-6, abs=1e-9)


@given(SERIES, st.sampled_from([0.5, 16.0]))
def test_ratio_test_does_not_depend_on_a_common_scale(values: np.ndarray, factor: float) -> None:
    weights = 1.5 + np.sin(np.arange(COUNT))
    scaled = ratio_test(values * factor, weights * factor, OVERLAP, LAG)
    np.testing.assert_array_equal(numbers_of(scaled), numbers_of(ratio_test(values, weights, OVERLAP, LAG)))


def test_ratio_test_over_zero_is_undefined() -> None:
    assert is_undefined(ratio_test(np.ones(30), np.zeros(30), 5, 4))
    assert is_undefined(ratio_test(np.array([]), np.array([]), 5, 4))


def test_ratio_test_of_a_constant_ratio_has_no_interval() -> None:
    calls = np.arange(1.0, 31)
    test = ratio_test(calls / 2, calls, 5, 4, null=1.0)
    assert test.value == 0.5
    assert math.isnan(test.low)
    assert math.isnan(test.high)


def test_diebold_mariano_is_positive_where_the_model_loses_less() -> None:
    baseline = moving_sums(COUNT, OVERLAP, 1, seed=5)[0] ** 2
    test = diebold_mariano(baseline - 1 - 0.1 * np.sin(np.arange(COUNT)), baseline, OVERLAP, LAG)
    # The sines of 0 to 39 sum to sin(20) sin(39/2) / sin(1/2)
    sines = math.sin(20) * math.sin(39 / 2) / math.sin(1 / 2)
    assert test.value == pytest.approx(1 + 0.1 * sines / COUNT, rel=1e-9)
    assert test.statistic > 0
    assert test.p_value < 0.025


@given(SERIES, SERIES)
def test_diebold_mariano_agrees_with_a_robust_regression(model: np.ndarray, baseline: np.ndarray) -> None:
    test = diebold_mariano(model, baseline, OVERLAP, LAG)
    assume(test.error > 1e-3)
    theirs = hac_regression(baseline - model, LAG)
    assert test.value == pytest.approx(theirs.params[0], rel=1e-9, abs=1e-12)
    assert test.statistic == pytest.approx(theirs.tvalues[0], rel=1e-9, abs=1e-9)


def test_clark_west_terms_by_hand() -> None:
    # baseline 0: 2 x 3 x 1 = 6 (9 - 4 + 1); 2 x -1 x 2 = -4 (1 - 9 + 4); as the baseline: 0.
    # baseline 1: 2 x (2 - 1) x (3 - 1) = 4 (1 - 1 + 4)
    terms = clark_west_terms(
        np.array([3.0, -1.0, 5.0, 2.0]), np.array([1.0, 2.0, 0.0, 3.0]), np.array([0.0, 0.0, 0.0, 1.0])
    )
    assert terms.tolist() == [6, -4, 0, 4]


@given(SERIES, SERIES, SERIES)
def test_clark_west_terms_are_the_adjusted_difference(y: np.ndarray, model: np.ndarray, base: np.ndarray) -> None:
    adjusted = (y - base) ** 2 - (y - model) ** 2 + (model - base) ** 2
    np.testing.assert_allclose(clark_west_terms(y, model, base), adjusted, rtol=0, atol=1e-12)
