from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from boursomatic_assets.core.performance import (
    SESSIONS_PER_YEAR,
    annual_return,
    drawdown,
    max_drawdown,
    sharpe_ratio,
    total_return,
    wealth,
)
from boursomatic_assets.errors import NonFiniteReturnsError

if TYPE_CHECKING:
    from collections.abc import Callable


def assert_close(values: np.ndarray, expected: list[float]) -> None:
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-15)


def test_sharpe_ratio_is_annualised_from_daily_returns() -> None:
    # mean 0.02, deviation sqrt((0.01^2 + 0.01^2) / 1) = 0.01 sqrt(2); ratio sqrt(2), times sqrt(252)
    assert sharpe_ratio(np.array([0.01, 0.03])) == pytest.approx(math.sqrt(2 * 252), rel=1e-12)
    assert SESSIONS_PER_YEAR == 252


def test_sharpe_ratio_divides_by_the_sample_deviation() -> None:
    # mean 0.01; squares 0.02^2 + 0 + 0.02^2 = 0.0008, over 2 = 0.0004, deviation 0.02: ratio one half
    assert sharpe_ratio(np.array([-0.01, 0.01, 0.03])) == pytest.approx(0.5 * math.sqrt(252), rel=1e-12)


def test_sharpe_ratio_of_losses_is_negative() -> None:
    assert sharpe_ratio(np.array([-0.01, -0.03])) == pytest.approx(-math.sqrt(2 * 252), rel=1e-12)


@pytest.mark.parametrize("returns", [[], [0.01], [0.01, 0.01], [0.1] * 10, [0.0] * 3])
def test_sharpe_ratio_is_undefined_for_constant_returns_or_fewer_than_two(returns: list[float]) -> None:
    assert math.isnan(sharpe_ratio(np.array(returns)))


def test_wealth_starts_with_the_capital_and_compounds() -> None:
    # 1; x 1.5; x 0.5; x 2
    assert_close(wealth(np.array([0.5, -0.5, 1.0])), [1, 1.5, 0.75, 1.5])


def test_drawdown_is_the_distance_from_the_running_peak() -> None:
    # wealth 1, 1.5, 0.75, 1.5, 3: half of the peak once, otherwise at it
    assert_close(drawdown(np.array([0.5, -0.5, 1.0, 1.0])), [0, 0, -0.5, 0, 0])


def test_max_drawdown_counts_the_starting_capital() -> None:
    # wealth 1.0 -> 0.5 -> 0.5: the peak is the start, the fall is half
    assert max_drawdown(np.array([-0.5, 0.0])) == -0.5


def test_max_drawdown_is_the_deepest_and_not_the_last() -> None:
    # wealth 1, 2, 1, 1.5, 3, 2.25: the falls are 1 -> -0.5 and -0.25
    assert max_drawdown(np.array([1.0, -0.5, 0.5, 1.0, -0.25])) == -0.5


def test_max_drawdown_runs_over_several_sessions() -> None:
    # 0.5 x 0.5 = 0.25 of the peak: -0.75, although no session lost more than a half
    assert max_drawdown(np.array([-0.5, -0.5])) == -0.75


@pytest.mark.parametrize("returns", [[], [0.0], [0.1, 0.2]])
def test_max_drawdown_is_zero_when_wealth_never_falls(returns: list[float]) -> None:
    assert max_drawdown(np.array(returns)) == 0.0


def test_max_drawdown_of_a_total_loss_is_minus_one() -> None:
    assert max_drawdown(np.array([0.5, -1.0, 0.5])) == -1.0


@given(arrays(np.float64, st.integers(0, 300), elements=st.floats(-1, 10)))
def test_drawdown_always_lies_between_minus_one_and_zero(returns: np.ndarray) -> None:
    path = drawdown(returns)
    assert path.shape == (len(returns) + 1,)
    assert ((path >= -1) & (path <= 0)).all()
    assert max_drawdown(returns) == path.min()


@given(arrays(np.float64, st.integers(1, 50), elements=st.floats(-0.9, 1)))
def test_max_drawdown_is_the_worst_fall_between_any_two_points(returns: np.ndarray) -> None:
    path = [1.0]
    for value in returns:
        path.append(path[-1] * (1 + value))
    worst = min(path[j] / path[i] - 1 for i in range(len(path)) for j in range(i, len(path)))
    assert max_drawdown(returns) == pytest.approx(worst, abs=1e-12)


def test_total_return_compounds() -> None:
    # 1.1 x 0.9 x 1.5 = 1.485
    assert total_return(np.array([0.1, -0.1, 0.5])) == pytest.approx(0.485, rel=1e-12)


def test_total_return_of_no_sessions_is_zero() -> None:
    assert total_return(np.array([])) == 0.0


def test_annual_return_of_a_year_is_the_total_and_of_half_a_year_its_square() -> None:
    # 252 sessions of 0 % and one of them +21 %: 21 %; over 126 sessions +10 %: 1.1^2 - 1 = 21 %
    year, half = np.zeros(252), np.zeros(126)
    year[100], half[100] = 0.21, 0.10
    assert annual_return(year) == pytest.approx(0.21, rel=1e-12)
    assert annual_return(half) == pytest.approx(0.21, rel=1e-12)


def test_annual_return_of_two_years_is_the_root_and_of_a_total_loss_minus_one() -> None:
    two_years = np.zeros(504)
    two_years[0] = 0.21
    assert annual_return(two_years) == pytest.approx(0.10, rel=1e-12)
    assert annual_return(np.array([0.5, -1.0])) == -1.0


def test_annual_return_of_no_sessions_is_undefined() -> None:
    assert math.isnan(annual_return(np.array([])))


@pytest.mark.parametrize(
    "measure", [sharpe_ratio, wealth, drawdown, max_drawdown, total_return, annual_return], ids=lambda f: f.__name__
)
@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf, -1.0000001])
def test_returns_that_cannot_be_are_refused_with_their_position(
    measure: Callable[[np.ndarray], object], broken: float
) -> None:
    with pytest.raises(NonFiniteReturnsError) as caught:
        measure(np.array([0.1, 0.0, broken, math.nan]))
    assert f"found {broken} at position 2" in str(caught.value)


@pytest.mark.parametrize("measure", [sharpe_ratio, max_drawdown, total_return], ids=lambda f: f.__name__)
def test_a_total_loss_is_a_return_that_can_be(measure: Callable[[np.ndarray], float]) -> None:
    assert math.isfinite(measure(np.array([0.1, -1.0])))
