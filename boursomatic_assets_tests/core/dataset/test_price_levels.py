from __future__ import annotations

from datetime import date
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boursomatic_assets.core.dataset.experiment import BoosterParameters, Experiment
from boursomatic_assets.core.dataset.features import (
    DEFAULT_INPUTS,
    FEATURES,
    INPUT_NAMES,
    compute_features,
    price_level_inputs,
    replacement_of,
    table_columns,
    with_derived_inputs,
)
from boursomatic_assets.core.dataset.labels import label_panel
from boursomatic_assets.core.dataset.price_levels import rows_that_follow_levels, why_levels_are_refused
from boursomatic_assets.core.market.bars import check_bars
from boursomatic_assets.core.models.threshold import with_calls
from boursomatic_assets.core.registry.retraining import retrain
from boursomatic_assets_tests.support.oracles import shared_file
from boursomatic_assets_tests.support.strategies import bar_panels, random_walk_bars, weekdays

if TYPE_CHECKING:
    from collections.abc import Callable

    Compute = Callable[[pl.DataFrame], pl.DataFrame]

OPEN, HIGH, LOW, CLOSE, VOLUME = (pl.col(name) for name in ("open", "high", "low", "close", "volume"))
RETURN = CLOSE / CLOSE.shift(1) - 1


def inputs_of(bars: pl.DataFrame) -> pl.DataFrame:
    return with_derived_inputs(compute_features(bars).with_columns(bars["close"]))


def of_each(expression: pl.Expr) -> Compute:
    """An input that is computed from one instrument's bars."""
    return lambda bars: bars.select("symbol", "session", x=expression.over("symbol").cast(pl.Float64))


def across(own: pl.Expr, expression: Callable[[pl.Expr], pl.Expr]) -> Compute:
    """An input that sets what each instrument has beside what the others have in the same session."""

    def compute(bars: pl.DataFrame) -> pl.DataFrame:
        known = bars.with_columns(own=own.over("symbol"))
        return known.select("symbol", "session", x=expression(pl.col("own")).over("session").cast(pl.Float64))

    return compute


def price_weighted_index(bars: pl.DataFrame) -> pl.DataFrame:
    """The return of an index that is weighted by prices, beside each instrument."""
    index = bars.group_by("session").agg(pl.col("close").sum()).sort("session")
    returns = index.select("session", x=RETURN)
    return bars.select("symbol", "session").join(returns, on="session", maintain_order="left")


@cache
def market(symbols: int = 5) -> pl.DataFrame:
    return random_walk_bars(symbols, 60, seed=4)


def test_only_atr_14_follows_the_level() -> None:
    found = rows_that_follow_levels(market(), inputs_of, INPUT_NAMES)
    assert found["input"].unique().to_list() == ["atr_14"]
    # Every value that there is, of the instrument that is multiplied and of no other: 13 rows have none yet.
    assert found.height == 5 * (60 - 13)
    assert found["is_own"].all()
    # What the check finds is what the definitions say.
    assert price_level_inputs(INPUT_NAMES) == ["atr_14"]
    assert [feature.name for feature in FEATURES if feature.in_price_units] == ["atr_14"]
    assert replacement_of("atr_14") == "natr_14"
    assert replacement_of("ret_1d") is None


def test_default_inputs_are_the_features_or_their_replacements() -> None:
    assert price_level_inputs(DEFAULT_INPUTS) == []
    assert table_columns(DEFAULT_INPUTS) == [feature.name for feature in FEATURES]


@settings(max_examples=25, deadline=None)
@given(bar_panels())
def test_default_inputs_follow_no_level(bars: pl.DataFrame) -> None:
    assert rows_that_follow_levels(bars, inputs_of, DEFAULT_INPUTS).is_empty()


@pytest.mark.parametrize(
    "level",
    [
        CLOSE,
        CLOSE.log(),
        VOLUME,
        # dollar volume
        CLOSE * VOLUME,
        # whose product with the price, or ratio to it, is kept by a multiplication that divides the other
        CLOSE**2 * VOLUME,
        VOLUME / CLOSE,
        (CLOSE * VOLUME.sqrt()).log(),
        CLOSE.rolling_mean(20),
        HIGH.rolling_max(20) - LOW.rolling_min(20),
        CLOSE.diff(),
        # a threshold on a level
        CLOSE > 5,
        CLOSE > 1000,
        CLOSE * VOLUME > 1e9,
        # what is left of a price by a unit of the currency
        CLOSE % 1,
        # hardly any of it
        RETURN + 1e-6 * CLOSE.log(),
        # only at times, only later
        pl.when(CLOSE.rank() > 59).then(CLOSE).otherwise(RETURN),
        # there or not there
        pl.when(CLOSE > 50).then(RETURN),
        pl.when(CLOSE > 50).then(RETURN).otherwise(float("nan")),
    ],
    ids=str,
)
def test_rows_that_follow_levels_finds_an_own_level(level: pl.Expr) -> None:
    for symbols in (1, 5):
        found = rows_that_follow_levels(market(symbols), of_each(level), ["x"])
        assert not found.is_empty()
        assert found["is_own"].all()


@pytest.mark.parametrize(
    "honest",
    [
        RETURN,
        CLOSE / CLOSE.rolling_mean(20) - 1,
        (CLOSE * VOLUME) / (CLOSE * VOLUME).rolling_mean(20),
        (HIGH - LOW) / CLOSE,
        (CLOSE - OPEN) / (HIGH - LOW),
        CLOSE.log().diff().rolling_std(20),
        CLOSE.rolling_max(20) == CLOSE,
        pl.lit(3.0),
        pl.lit(None, pl.Float64),
        # no number at all is the same as no number at all
        0 * RETURN / 0,
        VOLUME.rank() / pl.len(),
    ],
    ids=str,
)
def test_rows_that_follow_levels_ignores_ratios(honest: pl.Expr) -> None:
    assert rows_that_follow_levels(market(), of_each(honest), ["x"]).is_empty()


@pytest.mark.parametrize(
    ("compute", "is_found"),
    [
        (across(CLOSE, lambda own: own.rank()), True),
        (across(CLOSE, lambda own: own / own.mean()), True),
        (across(CLOSE * VOLUME, lambda own: own.rank()), True),
        (across(VOLUME, lambda own: own / own.sum()), True),
        (price_weighted_index, True),
        # one other instrument's price
        (across(CLOSE, lambda own: own.first() / own.last()), True),
        # ranks and means of returns
        (across(RETURN, lambda own: own.rank()), False),
        (across(RETURN, lambda own: own - own.mean()), False),
        (across(CLOSE / CLOSE.shift(20) - 1, lambda own: own.rank() / own.count()), False),
        (across(VOLUME / VOLUME.rolling_mean(20), lambda own: own.rank()), False),
    ],
)
def test_rows_that_follow_levels_finds_levels_across_instruments(compute: Compute, *, is_found: bool) -> None:
    assert rows_that_follow_levels(market(), compute, ["x"]).is_empty() != is_found


def test_rows_that_follow_levels_tells_own_from_other_levels() -> None:
    def of_the_first(bars: pl.DataFrame) -> pl.DataFrame:
        first = bars.filter(symbol="W000").select("session", x="close")
        others = bars.select("symbol", "session").join(first, on="session", maintain_order="left")
        return others.with_columns(pl.when(pl.col("symbol") != "W000").then("x").alias("x"))

    found = rows_that_follow_levels(market(), of_the_first, ["x"])
    # The price of W000 beside each of the other four: it moves when W000 is multiplied, with them or without.
    assert set(found["symbol"]) == {"W001", "W002", "W003", "W004"}
    assert set(found["is_own"]) == {True, False}
    assert not found.filter(~pl.col("is_own")).is_empty()


def test_rows_that_follow_levels_separates_each_two_instruments() -> None:
    # The ratio of two prices shows only where one is multiplied and the other is not.
    bars = market(9)
    symbols = bars["symbol"].unique().sort().to_list()
    for place, one in enumerate(symbols):
        for other in symbols[:place]:

            def ratio(known: pl.DataFrame, one: str = one, other: str = other) -> pl.DataFrame:
                pair = known.filter(symbol=one).join(known.filter(symbol=other), on="session", suffix="_other")
                return pair.select("symbol", "session", x=pl.col("close") > pl.col("close_other"))

            assert not rows_that_follow_levels(bars, ratio, ["x"]).is_empty(), (one, other)


def test_rows_that_follow_levels_finds_rows_that_vanish() -> None:
    found = rows_that_follow_levels(
        market(2), lambda bars: bars.filter(CLOSE > 50).select("symbol", "session", x=pl.lit(1.0)), ["x"]
    )
    assert not found.is_empty()


def test_rows_that_follow_levels_names_each_value_once() -> None:
    found = rows_that_follow_levels(market(1), of_each(CLOSE), ["x"])
    # Four pairs of factors, each of which moves all sixty.
    assert found.height == found.unique().height == 60
    assert found.schema == {
        "symbol": pl.String, "session": pl.Date, "input": pl.String, "is_own": pl.Boolean,
    }  # fmt: skip
    assert rows_that_follow_levels(market().clear(), inputs_of, DEFAULT_INPUTS).is_empty()


def test_rows_that_follow_levels_allows_rounding_of_a_return_near_zero() -> None:
    # 1e-8 of 100.000001 is a return whose last digits are the rounding of prices: 1e-16 beside 1e-8.
    closes = [100 * (1 + 1e-8 * (place % 3)) * (1.02 if place % 7 == 0 else 1.0) for place in range(60)]
    bars = (
        market(1)
        .with_columns(close=pl.Series(closes))
        .with_columns(open=CLOSE, high=CLOSE * 1.01, low=CLOSE * 0.99)
    )
    assert rows_that_follow_levels(bars, inputs_of, DEFAULT_INPUTS).is_empty()


@pytest.mark.parametrize("growth", [0.0, 0.005, -0.003])
def test_rows_that_follow_levels_allows_rounding_of_a_zero(growth: float) -> None:
    # The same return each session: volatility is zero, and rounding leaves about 1e-10 of it, each time another.
    close = pl.Series([10 * (1 + growth) ** place for place in range(60)])
    days = weekdays(60)
    bars = pl.DataFrame({"symbol": ["A"] * 60, "session": days, "open": close, "high": close, "low": close})
    bars = bars.with_columns(close=close, volume=pl.Series([100.0 + place % 3 for place in range(60)]))
    assert rows_that_follow_levels(bars, inputs_of, DEFAULT_INPUTS).is_empty()


def test_why_levels_are_refused_names_inputs_and_replacements() -> None:
    assert why_levels_are_refused(["atr_14", "dollars"]) == (
        "Models must not read atr_14, dollars: multiplying a whole history of prices or volumes by a constant "
        "changes it, and back-adjusted prices are divided by every later split and dividend, so that their level "
        "knows the future; name natr_14 in place of atr_14."
    )
    assert why_levels_are_refused(["dollars"]).endswith("so that their level knows the future.")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["us_sp500_2013_2018", "europe_1989_2017", "us_sp500_members_2000_2016"])
def test_default_inputs_follow_no_level_on_real_prices(name: str) -> None:
    source = pl.read_parquet(shared_file(f"data/{name}.parquet")).rename({"date": "session"})
    accepted = check_bars(source, date(2019, 1, 1)).accepted
    some = accepted["symbol"].unique().sort().gather_every(max(1, accepted["symbol"].n_unique() // 24))
    bars = accepted.filter(pl.col("symbol").is_in(some.implode()))
    assert rows_that_follow_levels(bars, inputs_of, DEFAULT_INPUTS).is_empty()
    assert rows_that_follow_levels(bars, inputs_of, ["atr_14"])["symbol"].n_unique() == some.len()


FEW_TREES = BoosterParameters(n_estimators=5)
SMALL = Experiment(classifier=FEW_TREES, regressor=FEW_TREES, horizon=5, bootstrap_draws=100)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([7.0, 1 / 7, 0.13]))
def test_a_retrained_model_does_not_depend_on_the_unit_of_prices(seed: int, factor: float) -> None:
    bars = random_walk_bars(4, 200, seed=seed)
    other = pl.col("symbol") == "W001"
    multiplied = bars.with_columns(
        *(
            pl.when(other).then(pl.col(name) * factor).otherwise(name).alias(name)
            for name in ("open", "high", "low", "close")
        ),
        volume=pl.when(other).then(VOLUME / factor).otherwise(VOLUME),
    )
    one, two = (label_panel(compute_features(each), each, SMALL) for each in (bars, multiplied))
    np.testing.assert_allclose(
        two.select(SMALL.features).to_numpy(), one.select(SMALL.features).to_numpy(), rtol=1e-9, atol=1e-12
    )
    assert two["label"].equals(one["label"], null_equal=True)
    before, after = retrain(one, SMALL, 1), retrain(two, SMALL, 1)
    calls = [with_calls(made.predictions, made.threshold.tau)["call"] for made in (before, after)]
    assert calls[0].equals(calls[1])
    assert after.threshold.to_json() == before.threshold.to_json()
    assert {name: value for name, value in after.metrics_json.items() if not isinstance(value, dict)} == {
        name: pytest.approx(value, rel=1e-9) if isinstance(value, float) else value
        for name, value in before.metrics_json.items()
        if not isinstance(value, dict)
    }
