"""Panels for drift, with predictions that follow from the features as a model's would."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import polars as pl

from boursomatic_assets.core.dataset.experiment import Experiment
from boursomatic_assets.core.dataset.features import (
    DEFAULT_INPUTS,
    compute_features,
    is_warmed_up,
    with_derived_inputs,
)
from boursomatic_assets.core.dataset.labels import LABEL_TYPE
from boursomatic_assets.core.drift.reference import build_reference
from boursomatic_assets.core.market.simulation import SimulatedMarket, simulate_bars
from boursomatic_assets_tests.support.oracles import shared_file

if TYPE_CHECKING:
    from datetime import date

EXPERIMENT = Experiment()
PRICES = {"s&p 500": "us_sp500_2013_2018.parquet", "europe": "europe_1989_2017.parquet"}


def predicted(rows: pl.DataFrame) -> pl.DataFrame:
    """What a simple rule says of rows: BUY what has fallen and swings little, SELL what has risen and swings."""
    score = 20 * (0.02 - pl.col("vol_20d").fill_null(0.02)) - 3 * pl.col("ret_20d").fill_null(0.0)
    chance = 1 / (1 + (-score).exp())
    called = pl.when(chance > 0.55).then(pl.lit("BUY")).when(chance < 0.4).then(pl.lit("SELL"))
    return rows.with_columns(
        probability_buy=chance, predicted_label=called.otherwise(pl.lit("HOLD")).cast(LABEL_TYPE)
    )


def features_of(bars: pl.DataFrame) -> pl.DataFrame:
    inputs = with_derived_inputs(compute_features(bars).with_columns(bars["close"]))
    return inputs.filter(is_warmed_up(DEFAULT_INPUTS))


@cache
def real_bars(name: str) -> pl.DataFrame:
    """Bars on which something was traded."""
    bars = pl.read_parquet(shared_file(f"data/{PRICES[name]}")).rename({"date": "session"})
    traded = bars.drop_nulls(["open", "high", "low", "close"]).filter(pl.col("volume") > 0)
    kept = traded.select(
        "symbol", pl.col("session").cast(pl.Date), pl.col("open", "high", "low", "close", "volume")
    )
    return kept.with_columns(pl.col("open", "high", "low", "close", "volume").cast(pl.Float64)).sort(
        "symbol", "session"
    )


@cache
def simulated_bars(symbols: int, sessions: int, seed: int) -> pl.DataFrame:
    return simulate_bars(SimulatedMarket(symbols, sessions), seed)


def sessions_of(rows: pl.DataFrame) -> list[date]:
    return rows["session"].unique().sort().to_list()


def reference_until(rows: pl.DataFrame, last: date) -> dict[str, Any]:
    """The reference of a model trained up to a session, its predictions those of the last three tenths."""
    past = rows.filter(pl.col("session") <= last)
    sessions = sessions_of(past)
    first_predicted = sessions[round(0.7 * len(sessions))]
    said = predicted(past.filter(pl.col("session") >= first_predicted))
    return build_reference(past, said, EXPERIMENT)
