"""A small market with gaps, and an experiment on it that takes seconds."""

from __future__ import annotations

from typing import Any

import polars as pl

from boursomatic_assets_tests.support.small_market import bars_on, sessions_of

HORIZON = 5
EXPERIMENT: dict[str, Any] = {
    "horizon": HORIZON,
    "bootstrap_draws": 100,
    "classifier": {"n_estimators": 20},
    "regressor": {"n_estimators": 20},
}
SESSIONS = sessions_of("XNYS", 280)
# GONE stops trading 60 sessions before the end; HOLE has no bars for a week in the middle.
SYMBOLS = ("AAA", "BBB", "CCC", "DDD", "EEE", "FFF", "GONE", "HOLE")
VERSION = '+key:"model_version"'


def market() -> pl.DataFrame:
    bars = pl.concat(bars_on(SESSIONS, symbol) for symbol in SYMBOLS)
    gone = (pl.col("symbol") == "GONE") & (pl.col("session") >= SESSIONS[-60])
    hole = (pl.col("symbol") == "HOLE") & pl.col("session").is_between(SESSIONS[150], SESSIONS[154])
    return bars.filter(~gone & ~hole)
