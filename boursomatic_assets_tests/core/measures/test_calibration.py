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
        st.lists(st.tuples(*[st.floats(0, 1)] * 3).filter(lambda row: sum(row) > 1e-3), min_size=1, max_size=5)
    )
    table = np.array(weights)
    return np.asarray(table / table.sum(axis=1, keepdims=True))


def labels(buy: int, hold: int, sell: int) -> pl.Series:
    return pl.Series(["BUY"] * buy + ["HOLD"] * hold + ["SELL"] * sell, dtype=LABEL_TYPE)


@pytest.mark.parametrize(
    ("given", "temperature", "powers"),
    [
        ([0.64, 0.32, 0.04], 2.0, [0.8, 0.5657, 0.2]),  # square roots
        ([0.5, 0.3, 0.2], 0.5, [0.25, 0.09, 0.04]),  # squares
    ],
)
def test_calibrate_raises_to_the_inverse_temperature(
    given: list[float], temperature: float, powers: list[float]
) -> None:
    expected = np.array(powers) / sum(powers)
    np.testing.assert_allclose(calibrate(np.array([given]), temperature), [expected], atol=1e-4, rtol=1e-7)


def test_calibrate_at_temperature_one_changes_nothing() -> None:
    given_ones = np.random.default_rng(0).dirichlet([1.0, 1.0, 1.0], 100)
    assert (calibrate(given_ones, UNCALIBRATED) == given_ones).all()


def test_calibrate_of_certainty_is_finite() -> None:
    found = calibrate(np.array([[1.0, 0.0, 0.0]]), COLDEST)
    assert np.isfinite(found).all()
    assert found[0, 0] == 1.0


@given(probabilities(), temperatures)
def test_calibrate_returns_probabilities_that_sum_to_one(table: np.ndarray, temperature: float) -> None:
    found = calibrate(table, temperature)
    assert ((found >= 0) & (found <= 1)).all()
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)


@given(probabilities(), temperatures)
def test_calibrate_keeps_the_order_within_a_row(table: np.ndarray, temperature: float) -> None:
    found = calibrate(table, temperature)
    for before, after in zip(table, found, strict=True):
        # sorted by what they were, they never fall
        assert (np.diff(after[np.argsort(before, kind="stable")]) >= 0).all()


@given(probabilities(), temperatures)
def test_calibrate_of_a_row_is_independent_of_other_rows(table: np.ndarray, temperature: float) -> None:
    among = calibrate(table, temperature)
    turned = calibrate(np.asfortranarray(table), temperature)
    assert (turned == among).all()
    for place in range(len(table)):
        assert (calibrate(table[place : place + 1], temperature) == among[place]).all()


@given(probabilities(), temperatures, st.floats(0.0, 1.0))
def test_calibrate_rises_with_a_class_probability(table: np.ndarray, temperature: float, part: float) -> None:
    # the other two keep their ratio
    more = table * (1 - part)
    more[:, 0] += part
    before, after = calibrate(table, temperature), calibrate(more, temperature)
    assert (after[:, 0] >= before[:, 0] - 1e-12).all()


@pytest.mark.parametrize(
    ("stated", "counts", "temperature"),
    [
        # roots of 0.5, 0.25, 0.25 are 0.7071, 0.5, 0.5: shares of 0.4142, 0.2929, 0.2929, which are those of T = 2
        ([0.5, 0.25, 0.25], (4142, 2929, 2929), 2.0),
        # as stated
        ([0.5, 0.3, 0.2], (50, 30, 20), 1.0),
        ([0.8, 0.1, 0.1], (10, 0, 0), COLDEST),
        ([0.8, 0.1, 0.1], (0, 5, 5), HOTTEST),
    ],
)
def test_fit_temperature_finds_the_one_behind_the_labels(
    stated: list[float], counts: tuple[int, int, int], temperature: float
) -> None:
    fitted = fit_temperature(np.tile(stated, (sum(counts), 1)), labels(*counts))
    # The search ends within 1e-4 of a bound.
    assert fitted == pytest.approx(temperature, abs=1e-3 if temperature in {COLDEST, HOTTEST} else 5e-3)
    assert fitted == round(fitted, 4)


def test_fit_temperature_without_rows_is_one() -> None:
    assert fit_temperature(np.empty((0, 3)), labels(0, 0, 0)) == UNCALIBRATED == 1.0
