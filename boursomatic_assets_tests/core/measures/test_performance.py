from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from boursomatic_assets.core.measures.performance import (
    SESSIONS_PER_YEAR,
    annual_return,
    annual_volatility,
    deflated_sharpe_ratio,
    drawdown,
    expected_max_sharpe,
    hit_rate,
    lo_sharpe_ratio,
    max_drawdown,
    probabilistic_sharpe_ratio,
    sharpe_interval,
    sharpe_ratio,
    total_return,
    wealth,
)
from boursomatic_assets.core.measures.resampling import bootstrap_weights
from boursomatic_assets.errors import NonFiniteReturnsError

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("returns", "daily"),
    [
        # mean 0.02, deviation sqrt((0.01^2 + 0.01^2) / 1) = 0.01 sqrt(2): ratio sqrt(2)
        ([0.01, 0.03], math.sqrt(2)),
        ([-0.01, -0.03], -math.sqrt(2)),
        # mean 0.01; squares 0.02^2 + 0 + 0.02^2 = 0.0008, over 2 = 0.0004, deviation 0.02: ratio one half
        ([-0.01, 0.01, 0.03], 0.5),
    ],
)
def test_sharpe_ratio_by_hand(returns: list[float], daily: float) -> None:
    assert sharpe_ratio(np.array(returns)) == pytest.approx(daily * math.sqrt(252), rel=1e-12)
    assert SESSIONS_PER_YEAR == 252


@pytest.mark.parametrize("returns", [[], [0.01], [0.01, 0.01], [0.1] * 10, [0.0] * 3])
def test_sharpe_ratio_is_undefined_for_constant_returns_or_fewer_than_two(returns: list[float]) -> None:
    assert math.isnan(sharpe_ratio(np.array(returns)))


def test_wealth_and_drawdown_by_hand() -> None:
    # 1; x 1.5; x 0.5; x 2; x 2: half of the peak once, otherwise at it
    returns = np.array([0.5, -0.5, 1.0, 1.0])
    np.testing.assert_allclose(wealth(returns), [1, 1.5, 0.75, 1.5, 3], rtol=0, atol=1e-15)
    np.testing.assert_allclose(drawdown(returns), [0, 0, -0.5, 0, 0], rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("returns", "expected"),
    [
        ([-0.5, 0.0], -0.5),  # wealth 1.0 -> 0.5 -> 0.5: the start is the peak
        ([1.0, -0.5, 0.5, 1.0, -0.25], -0.5),  # wealth 1, 2, 1, 1.5, 3, 2.25: -0.5 and -0.25
        ([-0.5, -0.5], -0.75),  # 0.5 x 0.5 = 0.25 of the peak
        ([0.5, -1.0, 0.5], -1.0),
        ([0.0], 0.0),
        ([0.1, 0.2], 0.0),
    ],
)
def test_max_drawdown_by_hand(returns: list[float], expected: float) -> None:
    assert max_drawdown(np.array(returns)) == expected


@given(arrays(np.float64, st.integers(0, 300), elements=st.floats(-1, 10)))
def test_drawdown_lies_between_minus_one_and_zero(returns: np.ndarray) -> None:
    path = drawdown(returns)
    assert path.shape == (len(returns) + 1,)
    assert ((path >= -1) & (path <= 0)).all()
    assert max_drawdown(returns) == path.min() or not len(returns)


@given(arrays(np.float64, st.integers(1, 50), elements=st.floats(-0.9, 1)))
def test_max_drawdown_is_the_worst_fall_between_any_two_points(returns: np.ndarray) -> None:
    path = [1.0]
    for value in returns:
        path.append(path[-1] * (1 + value))
    worst = min(path[j] / path[i] - 1 for i in range(len(path)) for j in range(i, len(path)))
    assert max_drawdown(returns) == pytest.approx(worst, abs=1e-12)


@pytest.mark.parametrize("measure", [total_return, annual_return, max_drawdown, hit_rate])
def test_measures_of_no_sessions_are_undefined(measure: Callable[[np.ndarray], float]) -> None:
    assert math.isnan(measure(np.array([])))


@pytest.mark.parametrize(
    ("sessions", "total", "annual"),
    [(252, 0.21, 0.21), (126, 0.10, 0.21), (504, 0.21, 0.10)],
    ids=["a year", "half a year: 1.1^2", "two years: sqrt(1.21)"],
)
def test_annual_return_by_hand(sessions: int, total: float, annual: float) -> None:
    returns = np.zeros(sessions)
    returns[100] = total
    assert annual_return(returns) == pytest.approx(annual, rel=1e-12)


def test_total_and_annual_return_compound() -> None:
    # 1.1 x 0.9 x 1.5 = 1.485
    assert total_return(np.array([0.1, -0.1, 0.5])) == pytest.approx(0.485, rel=1e-12)
    # A total loss is a valid return.
    assert total_return(np.array([0.5, -1.0])) == annual_return(np.array([0.5, -1.0])) == -1.0
    assert math.isfinite(sharpe_ratio(np.array([0.1, -1.0])))


@pytest.mark.parametrize(
    "measure",
    [
        sharpe_ratio,
        wealth,
        drawdown,
        max_drawdown,
        total_return,
        annual_return,
        annual_volatility,
        hit_rate,
        probabilistic_sharpe_ratio,
        lambda returns: lo_sharpe_ratio(returns, 1),
        lambda returns: sharpe_interval(returns, 2, 100, 0),
    ],
    ids=lambda f: f.__name__,
)
@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf, -1.0000001])
def test_measures_reject_impossible_returns_with_their_position(
    measure: Callable[[np.ndarray], object], broken: float
) -> None:
    with pytest.raises(NonFiniteReturnsError) as caught:
        measure(np.array([0.1, 0.0, broken, math.nan]))
    assert f"found {broken} at position 2" in str(caught.value)


DAILY = arrays(np.float64, st.integers(3, 120), elements=st.floats(-0.2, 0.2).map(lambda value: round(value, 4)))
WALK = np.random.default_rng(5).normal(0.0004, 0.01, 1300)


def has_spread(returns: np.ndarray) -> bool:
    return bool(np.ptp(returns) > 1e-3)


def test_annual_volatility_scales_the_sample_deviation() -> None:
    # deviation of (-0.01, 0.01, 0.03) is 0.02, as above; times sqrt(252)
    assert annual_volatility(np.array([-0.01, 0.01, 0.03])) == pytest.approx(0.02 * math.sqrt(252), rel=1e-12)
    assert annual_volatility(np.array([0.1] * 10)) == 0.0
    assert math.isnan(annual_volatility(np.array([0.1])))


def test_hit_rate_is_the_share_of_invested_sessions_with_a_gain() -> None:
    returns = np.array([0.0, 0.01, -0.02, 0.0, 0.03])
    # two gains in five sessions; the first was not invested: two in four
    assert hit_rate(returns) == 0.4
    assert hit_rate(returns, np.array([0.0, 0.5, 1.0, 1.0, 0.1])) == 0.5
    assert math.isnan(hit_rate(returns, np.zeros(5)))


def test_lo_sharpe_ratio_corrects_for_the_first_autocorrelation() -> None:
    # Returns 1, 3, 1, 3, 2 %: mean 2 %, deviations -1, 1, -1, 1, 0: squares 4, so sd 1 %, daily ratio 2;
    # products of neighbours -1 - 1 - 1 + 0 = -3, rho_1 = -3/4. 252 + 2 x 251 x (-3/4) < 0: a year without variance.
    assert math.isnan(lo_sharpe_ratio(np.array([0.01, 0.03, 0.01, 0.03, 0.02]), 1))
    # Returns 1, 1, 3, 3, 2 %: the same mean and sd; products 1 - 1 + 1 + 0 = 1, rho_1 = 1/4:
    # eta = 252 / sqrt(252 + 2 x 251 / 4) = 252 / sqrt(377.5)
    expected = 2 * 252 / math.sqrt(377.5)
    assert lo_sharpe_ratio(np.array([0.01, 0.01, 0.03, 0.03, 0.02]), 1) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("lags", [1, 19, 300])
def test_lo_sharpe_ratio_agrees_with_autocorrelations_of_statsmodels(lags: int) -> None:
    from statsmodels.tsa.stattools import acf

    rho = acf(WALK, nlags=min(lags, 251), adjusted=False, fft=False)
    eta = 252 / math.sqrt(252 + 2 * sum((252 - k) * rho[k] for k in range(1, len(rho))))
    assert lo_sharpe_ratio(WALK, lags) == pytest.approx(eta * WALK.mean() / WALK.std(ddof=1), rel=1e-9)


@given(DAILY.filter(has_spread))
def test_lo_sharpe_ratio_without_lags_is_the_plain_one(returns: np.ndarray) -> None:
    assert lo_sharpe_ratio(returns, 0) == pytest.approx(sharpe_ratio(returns), rel=1e-9)


def test_lo_sharpe_ratio_is_undefined_for_equal_returns_or_too_few() -> None:
    assert math.isnan(lo_sharpe_ratio(np.full(30, 0.01), 2))
    assert math.isnan(lo_sharpe_ratio(np.array([0.01, 0.02, 0.03]), 3))


def test_sharpe_interval_agrees_with_the_stationary_bootstrap_of_arch() -> None:
    from arch.bootstrap import StationaryBootstrap

    returns = WALK[:400]
    drawn = StationaryBootstrap(20, returns, seed=np.random.default_rng(3)).apply(sharpe_ratio, 4000)[:, 0]
    low, high = sharpe_interval(returns, 20, 4000, 11)
    # The bounds of two sets of 4,000 draws: a 2.5 % quantile of a normal distribution has an error of
    # sd x sqrt(0.025 x 0.975 / 4000) / 0.0584 = 0.042 sd. Four errors of a difference: 4 sqrt(2) x 0.042 = 0.24 sd.
    np.testing.assert_allclose([low, high], np.quantile(drawn, [0.025, 0.975]), rtol=0, atol=0.24 * drawn.std())


def test_sharpe_interval_is_that_of_the_resampled_histories() -> None:
    returns = WALK[:60]
    histories = [np.repeat(returns, count) for count in bootstrap_weights(60, 5, 200, 9)]
    ratios = [sharpe_ratio(history) for history in histories]
    assert sharpe_interval(returns, 5, 200, 9) == pytest.approx(
        tuple(np.quantile(ratios, [0.025, 0.975])), rel=1e-9
    )


def test_sharpe_interval_of_independent_returns_is_as_wide_as_theory_says() -> None:
    # Lo (2002), independent returns: error of the daily ratio sqrt((1 + SR^2 / 2) / n), about 1 / sqrt(1300)
    low, high = sharpe_interval(WALK, 5, 2000, 1)
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(252 / 1300), rel=0.15)
    assert low < sharpe_ratio(WALK) < high


def test_sharpe_interval_is_the_same_for_the_same_seed_only() -> None:
    once = sharpe_interval(WALK, 20, 200, 1)
    assert sharpe_interval(WALK, 20, 200, 1) == once
    assert sharpe_interval(WALK, 20, 200, 2) != once


def test_sharpe_interval_leaves_out_histories_without_variance() -> None:
    # One return out of four differs: some draws miss it, and their ratio does not exist.
    low, high = sharpe_interval(np.array([0.1, 0.1, 0.1, 0.2]), 1, 500, 0)
    assert math.isfinite(low)
    # The largest ratio that can be drawn holds the odd one once (or all but once): 0.125 / 0.05 = 2.5 or 3.5
    assert 0 < low <= high <= 3.5 * math.sqrt(252) + 1e-9


@pytest.mark.parametrize("returns", [[], [0.1, 0.2, 0.3], [0.1] * 50], ids=["none", "under two blocks", "equal"])
def test_sharpe_interval_is_undefined_where_nothing_can_be_resampled(returns: list[float]) -> None:
    assert all(math.isnan(bound) for bound in sharpe_interval(np.array(returns), 2, 100, 0))


def test_probabilistic_sharpe_ratio_by_hand() -> None:
    # Returns -1, 1, 3 %: daily ratio 1/2; no skew; fourth moment (16 + 0 + 16)/3 over (8/3)^2 is 1.5.
    # 1 - 0 + (1.5 - 1)/4 x 1/4 = 1.03125; z = 0.5 sqrt(2 / 1.03125) = 0.69631; Phi by the error function
    z = 0.5 * math.sqrt(2 / 1.03125)
    expected = 0.5 * (1 + math.erf(z / math.sqrt(2)))
    assert probabilistic_sharpe_ratio(np.array([-0.01, 0.01, 0.03])) == pytest.approx(expected, rel=1e-12)


def test_probabilistic_sharpe_ratio_against_itself_is_a_half() -> None:
    daily = float(WALK.mean() / WALK.std(ddof=1))
    assert probabilistic_sharpe_ratio(WALK, daily) == pytest.approx(0.5, abs=1e-12)


@given(DAILY.filter(has_spread), st.floats(-0.5, 0.5))
def test_sharpe_figures_agree_with_skfolio(returns: np.ndarray, benchmark: float) -> None:
    from skfolio import measures

    plain = measures.mean(returns) / measures.standard_deviation(returns) * math.sqrt(252)
    assert sharpe_ratio(returns) == pytest.approx(plain, rel=1e-9, abs=1e-9)
    theirs = measures.probabilistic_sharpe_ratio(returns, benchmark)
    assert probabilistic_sharpe_ratio(returns, benchmark) == pytest.approx(theirs, abs=1e-9, nan_ok=True)
    # skfolio's drawdown has no starting capital: a first return of zero puts it there
    path = measures.get_drawdowns(np.concatenate([[0.0], returns]), compounded=True)
    assert max_drawdown(returns) == pytest.approx(-measures.max_drawdown(path), abs=1e-9)


@given(st.lists(st.floats(-0.2, 0.2), min_size=1, max_size=40))
def test_deflated_sharpe_ratio_agrees_with_skfolio(trials: list[float]) -> None:
    from skfolio import measures

    variance = float(np.var(trials, ddof=1)) if len(trials) > 1 else math.nan
    theirs = measures.expected_max_sharpe_ratio(len(trials), math.sqrt(variance) if len(trials) > 1 else 0.0)
    assert expected_max_sharpe(len(trials), variance) == pytest.approx(theirs, abs=1e-9)
    ours = deflated_sharpe_ratio(WALK, len(trials), variance)
    assert ours == pytest.approx(measures.deflated_sharpe_ratio(WALK, trials), abs=1e-9)


def test_expected_max_sharpe_of_two_trials_by_hand() -> None:
    # N = 2: Z(1 - 1/2) = 0; 1 - 1/(2e) = 0.81606, whose quantile is 0.90048 (normal table: Phi(0.90) = 0.81594)
    expected = 0.1 * 0.5772156649 * 0.9005
    assert expected_max_sharpe(2, 0.01) == pytest.approx(expected, rel=1e-4)


def test_deflated_sharpe_ratio_of_one_trial_is_the_probabilistic_one() -> None:
    assert deflated_sharpe_ratio(WALK, 1, math.nan) == probabilistic_sharpe_ratio(WALK)


@given(st.integers(1, 1000), st.integers(1, 1000), st.floats(1e-6, 1e-2))
def test_deflated_sharpe_ratio_never_rises_with_trials(few: int, more: int, variance: float) -> None:
    few, more = sorted((few, more))
    assert deflated_sharpe_ratio(WALK, more, variance) <= deflated_sharpe_ratio(WALK, few, variance) + 1e-12


def test_sharpe_probabilities_are_undefined_without_spread_or_trials() -> None:
    assert math.isnan(probabilistic_sharpe_ratio(np.array([0.01, 0.02])))
    assert math.isnan(probabilistic_sharpe_ratio(np.full(30, 0.01)))
    assert math.isnan(deflated_sharpe_ratio(WALK, 0, 0.01))
    assert math.isnan(deflated_sharpe_ratio(WALK, 5, math.nan))
    assert math.isnan(deflated_sharpe_ratio(WALK, 5, -0.01))
