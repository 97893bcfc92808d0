from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss
from sklearn.metrics import log_loss as their_log_loss

from boursomatic_assets.core.dataset.labels import CLASS_NAMES, LABEL_TYPE
from boursomatic_assets.core.measures.calibration import (
    brier_score,
    brier_skill,
    expected_calibration_error,
    log_loss,
    reliability_curve,
)
from boursomatic_assets.core.measures.classification import (
    PRIOR,
    accuracy,
    buy_lift,
    buy_precision,
    class_shares,
    classification_report,
    confusion_counts,
    constant_accuracy,
    majority_class,
    matched_hits,
    matched_lift,
    most_probable,
    precision_by_decile,
    probability_columns,
    volatility_deciles,
)
from boursomatic_assets_tests.support.judged import matched_base_rate
from boursomatic_assets_tests.support.strategies import weekdays

if TYPE_CHECKING:
    from collections.abc import Sequence

UNIFORM = (1 / 3, 1 / 3, 1 / 3)


def judged(
    labels: Sequence[str],
    calls: Sequence[str] | None = None,
    probabilities: Sequence[Sequence[float]] | None = None,
    volatility: Sequence[float | None] | None = None,
    sessions: int = 1,
) -> pl.DataFrame:
    """Judged rows, dealt to the sessions one by one; every row its own symbol."""
    count = len(labels)
    chances = np.array(probabilities or [UNIFORM] * count).reshape(count, 3)
    days = weekdays(sessions)
    return pl.DataFrame(
        {
            "symbol": [f"S{number:04d}" for number in range(count)],
            "session": [days[number % sessions] for number in range(count)],
            "label": pl.Series(labels, dtype=LABEL_TYPE),
            "probability_buy": chances[:, 0],
            "probability_hold": chances[:, 1],
            "probability_sell": chances[:, 2],
            "vol_20d": pl.Series(volatility or [0.01] * count, dtype=pl.Float64),
            "call": pl.Series(calls or labels, dtype=LABEL_TYPE),
        }
    )


def with_prior(panel: pl.DataFrame, prior: Sequence[float]) -> pl.DataFrame:
    shares = zip(probability_columns(PRIOR), prior, strict=True)
    return panel.with_columns(**{name: pl.lit(share) for name, share in shares})


@st.composite
def judged_panels(draw: st.DrawFn) -> pl.DataFrame:
    """Up to 60 rows with any labels, calls, volatilities (often equal) and probabilities."""
    count, seed = draw(st.integers(1, 60)), draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    parts = rng.integers(1, 20, (count, 3))
    return judged(
        rng.choice(CLASS_NAMES, count).tolist(),
        rng.choice(CLASS_NAMES, count, p=[0.5, 0.3, 0.2]).tolist(),
        (parts / parts.sum(axis=1, keepdims=True)).tolist(),
        (rng.integers(1, 8, count) / 100).tolist(),
        sessions=draw(st.integers(1, 7)),
    )


# Four BUY calls: two right; HOLD once right of two.
LABELS = ["BUY", "BUY", "HOLD", "SELL", "HOLD", "SELL"]
CALLS = ["BUY", "BUY", "BUY", "BUY", "HOLD", "HOLD"]


def test_accuracy_precision_lift_and_shares_by_hand() -> None:
    panel = judged(LABELS, CALLS)
    # right: rows 0, 1 and 4 of 6; of the 4 BUY calls rows 0 and 1
    assert accuracy(panel) == 0.5
    assert buy_precision(panel) == 0.5
    # 2 of 4 calls are right, 2 of 6 labels are BUY: (1/2) / (1/3)
    assert buy_lift(panel) == pytest.approx(1.5, rel=1e-12)
    # two rows of each class: the first in order counts as the most frequent
    assert majority_class(panel) == "BUY"
    assert constant_accuracy(panel, "SELL") == 2 / 6
    assert list(class_shares(panel).values()) == [2 / 6, 2 / 6, 2 / 6]


def test_most_probable_is_the_first_of_equally_probable_classes() -> None:
    panel = judged(["BUY", "SELL"], probabilities=[(0.4, 0.4, 0.2), (0.2, 0.3, 0.5)])
    assert panel.select(most_probable()).to_series().to_list() == ["BUY", "SELL"]
    assert accuracy(panel, most_probable()) == 1.0


def test_measures_take_another_column_of_calls() -> None:
    panel = judged(LABELS, CALLS).with_columns(predicted_label="label")
    assert accuracy(panel, "predicted_label") == 1.0
    assert buy_precision(panel, "predicted_label") == 1.0
    assert confusion_counts(panel, "predicted_label") == [[2, 0, 0], [0, 2, 0], [0, 0, 2]]
    assert classification_report(panel, "predicted_label")["SELL"]["recall"] == 1.0


def test_classification_report_by_hand() -> None:
    report = classification_report(judged(LABELS, CALLS))
    # BUY: 2 of 4 calls, 2 of 2 labels: F1 = 2 x 1/2 x 1 / (3/2) = 2/3. HOLD: 1 of 2 and 1 of 2. SELL never called.
    assert report["BUY"] == pytest.approx({"precision": 0.5, "recall": 1.0, "f1-score": 2 / 3, "support": 2})
    assert report["HOLD"] == pytest.approx({"precision": 0.5, "recall": 0.5, "f1-score": 0.5, "support": 2})
    # Of no calls no share is right: no number, and not 0.
    never_called = {"precision": math.nan, "recall": 0.0, "f1-score": 0.0, "support": 2}
    assert report["SELL"] == pytest.approx(never_called, nan_ok=True)
    assert confusion_counts(judged(LABELS, CALLS)) == [[2, 0, 0], [1, 1, 0], [1, 1, 0]]


def test_figures_without_a_call_or_a_buy_label_are_undefined() -> None:
    panel = judged(["BUY", "HOLD"], ["HOLD", "HOLD"])
    for undefined in (buy_precision, buy_lift, matched_lift, matched_base_rate):
        assert math.isnan(undefined(panel))
    assert math.isnan(buy_lift(judged(["HOLD"], ["BUY"])))
    assert math.isnan(accuracy(panel.clear()))


def test_log_loss_by_hand() -> None:
    panel = judged(["BUY", "SELL"], probabilities=[(0.5, 0.25, 0.25), (0.5, 0.25, 0.25)])
    # -(ln 1/2 + ln 1/4) / 2 = (3/2) ln 2
    assert log_loss(panel) == pytest.approx(1.5 * math.log(2), rel=1e-12)
    # a prior of thirds costs ln 3 a row, whatever the probabilities are
    assert log_loss(with_prior(panel, UNIFORM), PRIOR) == pytest.approx(math.log(3), rel=1e-12)


def test_brier_score_by_hand() -> None:
    panel = judged(["BUY", "SELL"], probabilities=[(0.5, 0.25, 0.25), (1.0, 0.0, 0.0)])
    # (1/4 + 1/16 + 1/16) = 3/8, and as wrong as can be: 1 + 0 + 1 = 2
    assert brier_score(panel) == pytest.approx((3 / 8 + 2) / 2, rel=1e-12)
    # the prior of halves for BUY and SELL scores 1/4 + 1/4 = 1/2 on both
    assert brier_skill(with_prior(panel, [0.5, 0.0, 0.5])) == pytest.approx(1 - (19 / 16) / (1 / 2), rel=1e-12)


def test_brier_skill_of_the_prior_is_zero_and_of_certainty_one() -> None:
    shares = list(class_shares(judged(LABELS)).values())
    panel = judged(LABELS, probabilities=[shares] * 6)
    assert brier_skill(with_prior(panel, shares)) == pytest.approx(0, abs=1e-12)
    certain = judged(["BUY", "HOLD"], probabilities=[(1, 0, 0), (0, 1, 0)])
    assert brier_skill(with_prior(certain, shares)) == 1.0
    # a prior that is always right leaves nothing to save
    assert math.isnan(brier_skill(with_prior(judged(["BUY"]), [1.0, 0.0, 0.0])))


@given(judged_panels())
def test_losses_agree_with_scikit_learn(panel: pl.DataFrame) -> None:
    labels = panel["label"].cast(pl.String).to_list()
    chances = panel.select("probability_buy", "probability_hold", "probability_sell").to_numpy()
    assert log_loss(panel) == pytest.approx(their_log_loss(labels, chances, labels=CLASS_NAMES), rel=1e-9)
    # theirs by class, one against the rest: ours is the sum
    theirs = sum(
        brier_score_loss([label == name for label in labels], chances[:, place])
        for place, name in enumerate(CLASS_NAMES)
    )
    assert brier_score(panel) == pytest.approx(theirs, rel=1e-9)


def buys(probabilities: Sequence[float], bought: Sequence[bool]) -> pl.DataFrame:
    labels = ["BUY" if buy else "HOLD" for buy in bought]
    return judged(labels, probabilities=[(chance, 1 - chance, 0.0) for chance in probabilities])


# Sorted 0.1, 0.2 | 0.5, 0.7: BUY of none of the first two, of both of the others.
FOUR = buys([0.7, 0.1, 0.5, 0.2], [True, False, True, False])


def test_reliability_curve_by_hand() -> None:
    curve = reliability_curve(FOUR, bins=2)
    assert curve.columns == ["probability", "frequency", "rows"]
    assert curve["probability"].to_list() == pytest.approx([0.15, 0.6])
    assert curve["frequency"].to_list() == [0.0, 1.0]
    assert curve["rows"].to_list() == [2, 2]
    # fewer rows than bins: a bin of each
    curve = reliability_curve(buys([0.25, 0.75], [False, True]), bins=10)
    assert curve.rows() == [(0.25, 0.0, 1), (0.75, 1.0, 1)]


def test_expected_calibration_error_by_hand() -> None:
    # |0.15 - 0| and |0.6 - 1|, two rows each
    assert expected_calibration_error(FOUR, bins=2) == pytest.approx((0.15 + 0.4) / 2, rel=1e-12)
    # one row a bin: 0.1, 0.2, 0.5, 0.3
    assert expected_calibration_error(FOUR, bins=4) == pytest.approx(1.1 / 4, rel=1e-12)
    assert math.isnan(expected_calibration_error(FOUR.clear()))


@pytest.mark.parametrize("shift", [0.0, 0.1])
def test_expected_calibration_error_is_the_shift_of_the_probabilities(shift: float) -> None:
    rng = np.random.default_rng(9)
    chances = rng.uniform(0.2, 0.6, 20_000)
    bought = rng.uniform(size=20_000) < chances
    # 2,000 rows a bin: noise of sqrt(2 x 0.24 / (pi x 2,000)) = 0.009
    error = expected_calibration_error(buys((chances + shift).tolist(), bought.tolist()))
    assert error == pytest.approx(shift, abs=0.02)


def test_reliability_curve_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(8)
    chances = rng.uniform(size=500)
    bought = rng.uniform(size=500) < chances**2
    frequency, probability = calibration_curve(bought, chances, n_bins=10, strategy="quantile")
    curve = reliability_curve(buys(chances.tolist(), bought.tolist()), bins=10)
    # 500 different values in tens: their quantiles fall between the same rows
    np.testing.assert_allclose(curve["probability"], probability, rtol=1e-9)
    np.testing.assert_allclose(curve["frequency"], frequency, rtol=1e-9)


def twenty(called: set[int], bought: set[int], sessions: int = 1) -> pl.DataFrame:
    """Twenty rows of growing volatility: decile k has the rows 2k - 2 and 2k - 1."""
    return judged(
        ["BUY" if number in bought else "HOLD" for number in range(20)],
        ["BUY" if number in called else "HOLD" for number in range(20)],
        volatility=[0.001 * (number + 1) for number in range(20)],
        sessions=sessions,
    )


def test_volatility_deciles_by_hand() -> None:
    places = [number // 2 + 1 for number in range(20)]
    deciles = volatility_deciles(twenty({0}, {0, 18, 19}))
    assert deciles["decile"].to_list() == places
    # one of two is BUY in the first, both in the last
    assert deciles["base_rate"].to_list() == [0.5] * 2 + [0.0] * 16 + [1.0] * 2
    # equally volatile rows are ordered by symbol
    shuffled = judged(["BUY"] * 20).sample(fraction=1.0, shuffle=True, seed=1)
    assert volatility_deciles(shuffled)["decile"].to_list() == places
    # unknown volatility has no decile
    panel = judged(["BUY"] * 3, volatility=[None, 0.1, 0.2])
    assert volatility_deciles(panel)["symbol"].to_list() == ["S0001", "S0002"]
    unknown = judged(["BUY"] * 3, volatility=[None] * 3)
    assert math.isnan(matched_lift(unknown))
    assert matched_hits(unknown).rows() == [(weekdays(1)[0], None, None)]


def test_precision_by_decile_by_hand() -> None:
    # Called: both rows of decile 1 (row 0 right) and row 19 of decile 10 (right, as the whole decile is).
    table = precision_by_decile(twenty({0, 1, 19}, {0, 18, 19}))
    assert table.columns == ["decile", "volatility", "calls", "hits", "precision", "base_rate"]
    assert table["decile"].to_list() == list(range(1, 11))
    # volatilities 0.001 and 0.002, ... , 0.019 and 0.020
    assert table["volatility"].to_list() == pytest.approx([0.0015 + 0.002 * number for number in range(10)])
    assert table["calls"].to_list() == [2] + [0] * 8 + [1]
    assert table["hits"].to_list() == [1] + [0] * 8 + [1]
    assert table["precision"].to_list() == [0.5] + [None] * 8 + [1.0]
    assert table["base_rate"].to_list() == [0.5] + [0.0] * 8 + [1.0]


def test_matched_lift_by_hand() -> None:
    panel = twenty({0, 1, 19}, {0, 18, 19})
    # two calls at a base rate of 1/2, one at 1: (1 + 1) / 3; precision 2/3: no lift
    assert matched_base_rate(panel) == pytest.approx(2 / 3, rel=1e-12)
    assert matched_lift(panel) == pytest.approx(1, rel=1e-12)
    # called rows 0 and 18, both right: (1/2 + 1) / 2 = 3/4, lift 4/3
    assert matched_lift(twenty({0, 18}, {0, 18, 19})) == pytest.approx(4 / 3, rel=1e-12)


def test_matched_hits_by_hand() -> None:
    # rows dealt to four sessions: row 0 and 4 ... in the first, 1 in the second, 18 in the third, 19 in the fourth;
    # calls 0 and 1 expect 1/2 each, call 19 expects 1
    sums = matched_hits(twenty({0, 1, 19}, {0, 18, 19}, sessions=4))
    assert sums.rows() == list(zip(weekdays(4), [1, 0, 0, 1], [0.5, 0.5, 0.0, 1.0], strict=True))


@given(judged_panels())
def test_matched_figures_agree_with_each_other(panel: pl.DataFrame) -> None:
    sums, table = matched_hits(panel), precision_by_decile(panel)
    expected = sums["expected"].sum()
    assert table["calls"].sum() == (panel["call"] == "BUY").sum()
    assert sums["hits"].sum() == table["hits"].sum()
    if expected > 0:
        assert matched_lift(panel) == pytest.approx(sums["hits"].sum() / expected, rel=1e-9)
        ratio = buy_precision(panel) / matched_base_rate(panel)
        assert matched_lift(panel) == pytest.approx(ratio, rel=1e-9)
    # calling everything has no lift: every base rate is met exactly
    everything = panel.with_columns(call=pl.lit("BUY", LABEL_TYPE))
    if (panel["label"] == "BUY").any():
        assert matched_lift(everything) == pytest.approx(1, rel=1e-9)


@given(judged_panels(), st.integers(0, 1000))
def test_figures_do_not_depend_on_row_order(panel: pl.DataFrame, seed: int) -> None:
    other = panel.sample(fraction=1.0, shuffle=True, seed=seed)
    for table in (volatility_deciles, precision_by_decile, matched_hits, reliability_curve):
        assert_frame_equal(table(other), table(panel), rel_tol=1e-12)
    for figure in (accuracy, buy_precision, log_loss, brier_score, expected_calibration_error, matched_lift):
        assert figure(other) == pytest.approx(figure(panel), rel=1e-12, nan_ok=True)
    assert confusion_counts(other) == confusion_counts(panel)


@given(judged_panels())
def test_figures_stay_within_their_bounds(panel: pl.DataFrame) -> None:
    assert 0 <= expected_calibration_error(panel) <= 1
    assert 0 <= brier_score(panel) <= 2
    assert brier_skill(with_prior(panel, UNIFORM)) <= 1
    assert reliability_curve(panel)["rows"].sum() == panel.height
    assert reliability_curve(panel)["probability"].is_sorted()
