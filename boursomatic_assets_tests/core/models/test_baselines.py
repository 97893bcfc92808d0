from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from polars.testing import assert_frame_equal

from boursomatic_assets.core.dataset.experiment import BoosterParameters, Experiment
from boursomatic_assets.core.dataset.labels import CLASS_NAMES, LABEL_TYPE
from boursomatic_assets.core.models.baselines import (
    MONTH,
    VOLATILITY,
    YEAR,
    baseline_columns,
    fit_volatility_classifier,
    momentum,
)
from boursomatic_assets_tests.support.strategies import bar_panels, flat_bars, weekdays

if TYPE_CHECKING:
    from collections.abc import Sequence

SMALL = BoosterParameters(n_estimators=5, max_depth=3, num_leaves=4, min_child_samples=5)
EXPERIMENT = Experiment(features=("ret_1d", VOLATILITY), horizon=2, classifier=SMALL)
VOLATILITY_COLUMNS = [f"volatility_probability_{name.lower()}" for name in CLASS_NAMES]
PRIOR_COLUMNS = [f"prior_probability_{name.lower()}" for name in CLASS_NAMES]


def train_rows(labels: Sequence[str | None], symbols: int = 2, seed: int = 1) -> pl.DataFrame:
    """Labels dealt to the symbols session by session; calm rows first, volatile ones last."""
    count = len(labels)
    random = np.random.default_rng(seed)
    sessions = weekdays(math.ceil(count / symbols))
    return pl.DataFrame(
        {
            "symbol": [f"S{number % symbols}" for number in range(count)],
            "session": [sessions[number // symbols] for number in range(count)],
            "ret_1d": random.normal(0, 0.01, count),
            VOLATILITY: np.linspace(0.01, 0.05, count),
            "label": pl.Series(labels, dtype=LABEL_TYPE),
            "forward_return": np.linspace(-0.1, 0.2, count),
        }
    ).sort("symbol", "session")


# Calm rows are HOLD, volatile ones BUY or SELL.
LABELS = ["HOLD"] * 60 + ["BUY", "SELL", "BUY"] * 20
TRAIN = train_rows(LABELS)


def test_momentum_by_hand() -> None:
    # Closes 1, 2, 3, ...: at bar 252 (0-based) the close of bar 231 is 232 and that of bar 0 is 1: 231; at bar
    # 253 it is 233 over 2: 115.5
    found = momentum(flat_bars({"AAA": [float(day) for day in range(1, 255)]}))
    assert found["momentum_12_1"].null_count() == 252
    assert found["momentum_12_1"].tail(2).to_list() == [231.0, 115.5]
    assert (MONTH, YEAR) == (21, 252)


def test_momentum_counts_own_bars() -> None:
    rising = [1.1**day for day in range(260)]
    pair = momentum(flat_bars({"AAA": [5.0] * 260, "BBB": rising}))
    alone = momentum(flat_bars({"BBB": rising}))
    assert_frame_equal(pair.filter(pl.col("symbol") == "BBB"), alone)
    # 1.1^(252 - 21) - 1 in each session
    assert alone["momentum_12_1"].drop_nulls().to_list() == pytest.approx([1.1**231 - 1] * 8)
    assert pair.filter(pl.col("symbol") == "AAA")["momentum_12_1"].drop_nulls().to_list() == [0.0] * 8


@settings(max_examples=10)
@given(bar_panels(min_sessions=255, max_sessions=270))
def test_momentum_reads_neither_the_future_nor_the_price_level(bars: pl.DataFrame) -> None:
    found = momentum(bars)
    until = bars["session"].max()
    shorter = bars.filter(pl.col("session") < until)
    assert_frame_equal(momentum(shorter), found.filter(pl.col("session") < until))
    assert_frame_equal(momentum(bars.with_columns(pl.col("close") * 4)), found)
    # The last month does not count either.
    moved = bars.with_columns(
        close=pl.when(pl.int_range(pl.len(), 0, -1).over("symbol") <= MONTH).then(1.0).otherwise("close")
    )
    assert_frame_equal(momentum(moved), found)


def test_fit_volatility_classifier_reads_only_volatility() -> None:
    model = fit_volatility_classifier(TRAIN, EXPERIMENT, threads=1)
    assert model is not None
    assert model.feature_names == (VOLATILITY,)
    assert model.class_names == CLASS_NAMES
    # Of 60 volatile rows 40 are BUY and 20 SELL, calm ones are all HOLD.
    calm, volatile = model.predict(pl.DataFrame({VOLATILITY: [0.011, 0.049]}))
    assert calm.argmax() == CLASS_NAMES.index("HOLD")
    assert volatile[0] > volatile[2] > calm[2]
    other = TRAIN.with_columns(ret_1d=pl.lit(7.0))
    again = fit_volatility_classifier(other, EXPERIMENT, threads=1)
    assert again is not None
    assert again.text == model.text


def test_fit_volatility_classifier_on_every_third_session() -> None:
    def text_of(rows: pl.DataFrame, every: int = 1) -> str:
        model = fit_volatility_classifier(rows, EXPERIMENT, threads=1, every=every)
        assert model is not None
        return model.text

    third = [day for number, day in enumerate(weekdays(60)) if number % 3 == 0]
    by_hand = text_of(TRAIN.filter(pl.col("session").is_in(third)))
    assert text_of(TRAIN, every=3) == by_hand != text_of(TRAIN)
    # without the feature there is no classifier
    assert fit_volatility_classifier(TRAIN, Experiment(features=("ret_1d",))) is None


def test_baseline_columns_keep_the_order_of_rows() -> None:
    model = fit_volatility_classifier(TRAIN, EXPERIMENT, threads=1)
    closes = flat_bars({"S0": [2.0**day for day in range(254)], "S1": [1.0] * 100})
    days = weekdays(254)
    rows = pl.DataFrame(
        {"symbol": ["S1", "S0", "S0"], "session": [days[40], days[253], days[252]], VOLATILITY: [0.05, 0.01, None]}
    )
    found = baseline_columns(rows, TRAIN, model, closes)
    assert found.columns == [
        "symbol", "session", *VOLATILITY_COLUMNS, "momentum_12_1", *PRIOR_COLUMNS, "prior_return",
    ]  # fmt: skip
    assert_frame_equal(found.select("symbol", "session"), rows.select("symbol", "session"))
    assert model is not None
    np.testing.assert_array_equal(found.select(VOLATILITY_COLUMNS).to_numpy(), model.predict(rows))
    # 2^231 - 1 in both sessions of S0; S1 has no year behind it
    assert found["momentum_12_1"].to_list() == [None, 2.0**231 - 1, 2.0**231 - 1]


def test_baseline_columns_without_a_model_have_the_prior_only() -> None:
    # 2 BUY, 1 HOLD, 1 SELL and one without a label; returns -0.1, -0.025, 0.05, 0.125, 0.2: mean 0.05
    train = train_rows(["BUY", "HOLD", "BUY", "SELL", None])
    found = baseline_columns(TRAIN.head(3), train, None, flat_bars({"S0": [1.0]}))
    assert found.select(PRIOR_COLUMNS).rows() == [(0.5, 0.25, 0.25)] * 3
    assert found["prior_return"].to_list() == pytest.approx([0.05] * 3)
    empty = found.select(*VOLATILITY_COLUMNS, "momentum_12_1")
    assert empty.dtypes == [pl.Float64] * 4
    assert empty.null_count().row(0) == (3, 3, 3, 3)
