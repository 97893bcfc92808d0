from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boursomatic_assets.core.dataset.labels import LABEL_TYPE
from boursomatic_assets.core.measures.calibration import COLDEST, HOTTEST, UNCALIBRATED, calibrate, fit_temperature

temperatures = st.floats(COLDEST, HOTTEST)


@st.composite
def probabilities(draw: st.DrawFn) -> np.ndarray:
    """One to five rows of three probabilities; some classes may be impossible."""
    weights = draw(
        st.lists(
            st.tuples(*[st.floats(0, 1)] * 3).filter(lambda row: sum(row) > 1e-3),
            min_size=1,
            max_size=5,
        )
    )
    table = np.array(weights)
    return np.asarray(table / table.sum(axis=1, keepdims=True))


def labels(buy: int, hold: int, sell: int) -> pl.Series:
    return pl.Series(["BUY"] * buy + ["HOLD"] * hold + ["SELL"] * sell, dtype=LABEL_TYPE)


def test_a_temperature_of_two_takes_square_roots() -> None:
    # roots of 0.64, 0.32, 0.04 are 0.8, 0.5657, 0.2; their sum is 1.5657
    found = calibrate(np.array([[0.64, 0.32, 0.04]]), 2.0)
    np.testing.assert_allclose(found, [[0.8 / 1.5657, 0.5657 / 1.5657, 0.2 / 1.5657]], atol=1e-4)


def test_a_temperature_of_a_half_squares() -> None:
    # squares of 0.5, 0.3, 0.2 are 0.25, 0.09, 0.04; their sum is 0.38
    found = calibrate(np.array([[0.5, 0.3, 0.2]]), 0.5)
    np.testing.assert_allclose(found, [[0.25 / 0.38, 0.09 / 0.38, 0.04 / 0.38]])


def test_a_temperature_of_one_changes_not_a_bit() -> None:
    given_ones = np.random.default_rng(0).dirichlet([1.0, 1.0, 1.0], 100)
    assert (calibrate(given_ones, UNCALIBRATED) == given_ones).all()


def test_what_is_certain_stays_finite() -> None:
    found = calibrate(np.array([[1.0, 0.0, 0.0]]), COLDEST)
    assert np.isfinite(found).all()
    assert found[0, 0] == 1.0


@given(probabilities(), temperatures)
def test_rows_are_probabilities_that_sum_to_one(table: np.ndarray, temperature: float) -> None:
    found = calibrate(table, temperature)
    assert ((found >= 0) & (found <= 1)).all()
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)


@given(probabilities(), temperatures)
def test_the_order_within_a_row_is_kept(table: np.ndarray, temperature: float) -> None:
    found = calibrate(table, temperature)
    for before, after in zip(table, found, strict=True):
        # sorted by what they were, they never fall
        assert (np.diff(after[np.argsort(before, kind="stable")]) >= 0).all()


@given(probabilities(), temperatures)
def test_a_row_alone_is_calibrated_as_among_others_to_the_last_bit(table: np.ndarray, temperature: float) -> None:
    among = calibrate(table, temperature)
    turned = calibrate(np.asfortranarray(table), temperature)
    assert (turned == among).all()
    for place in range(len(table)):
        assert (calibrate(table[place : place + 1], temperature) == among[place]).all()


@given(probabilities(), temperatures, st.floats(0.0, 1.0))
def test_more_of_a_class_gives_more_of_it(table: np.ndarray, temperature: float, part: float) -> None:
    # the other two keep their ratio
    more = table * (1 - part)
    more[:, 0] += part
    before, after = calibrate(table, temperature), calibrate(more, temperature)
    assert (after[:, 0] >= before[:, 0] - 1e-12).all()


def test_the_temperature_that_made_the_labels_is_found() -> None:
    # roots of 0.5, 0.25, 0.25 are 0.7071, 0.5, 0.5: shares of 0.4142, 0.2929, 0.2929, which are those of T = 2
    stated = np.tile([0.5, 0.25, 0.25], (10_000, 1))
    assert fit_temperature(stated, labels(4142, 2929, 2929)) == pytest.approx(2.0, abs=5e-3)


def test_what_comes_as_stated_is_left_as_it_is() -> None:
    stated = np.tile([0.5, 0.3, 0.2], (100, 1))
    assert fit_temperature(stated, labels(50, 30, 20)) == pytest.approx(1.0, abs=5e-3)


def test_the_temperature_stays_within_its_bounds() -> None:
    stated = np.tile([0.8, 0.1, 0.1], (10, 1))
    assert fit_temperature(stated, labels(10, 0, 0)) == pytest.approx(COLDEST, abs=1e-3)
    assert fit_temperature(stated, labels(0, 5, 5)) == pytest.approx(HOTTEST, abs=1e-3)


def test_without_rows_nothing_is_calibrated() -> None:
    assert fit_temperature(np.empty((0, 3)), labels(0, 0, 0)) == UNCALIBRATED


def test_the_temperature_is_kept_to_four_digits() -> None:
    found = fit_temperature(np.tile([0.7, 0.2, 0.1], (30, 1)), labels(15, 10, 5))
    assert found == round(found, 4)
