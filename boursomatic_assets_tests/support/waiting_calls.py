"""Recommendations that wait for their outcome, and bars on which it falls."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

import polars as pl
from hypothesis import strategies as st

from boursomatic_assets.core.market.bars import PANEL_KEY
from boursomatic_assets_tests.support.strategies import bar_panels

if TYPE_CHECKING:
    from collections.abc import Mapping

CALL_SCHEMA = {
    "id": pl.String, "symbol": pl.String, "exchange": pl.String, "session": pl.Date, "profile": pl.String,
    "label": pl.String, "close": pl.Float64, "stop_loss": pl.Float64, "take_profit": pl.Float64,
    "horizon_days": pl.Int32, "confidence": pl.Float64, "buy_threshold": pl.Float64, "sell_threshold": pl.Float64,
}  # fmt: skip
EXCHANGES = ("XNYS", "XPAR", "unknown", None)


def july(day: int) -> date:
    """A day of July 2024: the 1st is a Monday, the 4th a holiday in New York and a session in Paris."""
    return date(2024, 7, day)


def a_call(**given: Any) -> dict[str, Any]:  # noqa: ANN401
    """A BUY of AAA in Paris at 100 on Monday the 1st, stop at 90, target at 120, over three sessions."""
    usual = {
        "id": "1", "symbol": "AAA", "exchange": "XPAR", "session": july(1), "profile": "moderate", "label": "BUY",
        "close": 100.0, "stop_loss": 90.0, "take_profit": 120.0, "horizon_days": 3, "confidence": 0.5,
        "buy_threshold": 0.05, "sell_threshold": -0.02,
    }  # fmt: skip
    return usual | given


def calls_of(*calls: Mapping[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(list(calls), schema=CALL_SCHEMA)


def bars_of(
    prices: Mapping[int, float | tuple[float, float, float]], symbol: str = "AAA", exchange: str | None = "XPAR"
) -> pl.DataFrame:
    """Bars on days of July 2024, each of one price or of high, low and close."""
    each = {day: given if isinstance(given, tuple) else (given,) * 3 for day, given in prices.items()}
    return pl.DataFrame(
        [(symbol, july(day), exchange, *values) for day, values in each.items()],
        schema={
            "symbol": pl.String, "session": pl.Date, "exchange": pl.String, "high": pl.Float64, "low": pl.Float64,
            "close": pl.Float64,
        },
        orient="row",
    )  # fmt: skip


@st.composite
def placed_panels(draw: st.DrawFn) -> pl.DataFrame:
    """Lawful bars of up to three instruments, each on an exchange with or without a calendar."""
    bars = draw(bar_panels(min_sessions=10, max_sessions=40))
    chosen = {symbol: draw(st.sampled_from(EXCHANGES), label=symbol) for symbol in bars["symbol"].unique().sort()}
    exchange = pl.col("symbol").replace_strict(chosen, return_dtype=pl.String)
    return bars.select(*PANEL_KEY, "high", "low", "close", exchange=exchange)


@st.composite
def calls_on(draw: st.DrawFn, bars: pl.DataFrame, *, most: int = 6) -> pl.DataFrame:
    """Calls on some of the bars, on either side, at the prices of a time before any number of splits."""
    rows = draw(st.lists(st.integers(0, bars.height - 1), min_size=1, max_size=most))
    made = []
    for number, row in enumerate(rows):
        bar, label = bars.row(row, named=True), draw(st.sampled_from(["BUY", "HOLD", "SELL"]))
        close, sign = bar["close"] * draw(st.sampled_from([1.0, 2.0, 1 / 3, 20.0])), 1 if label == "BUY" else -1
        stop, target = (draw(st.floats(0.001, 0.5)) * sign for _ in range(2))
        made.append(
            a_call(
                id=str(number), symbol=bar["symbol"], exchange=bar["exchange"], session=bar["session"],
                label=label, close=close, horizon_days=draw(st.integers(1, 15)),
                stop_loss=None if label == "HOLD" else close * (1 - stop),
                take_profit=None if label == "HOLD" else close * (1 + target),
            )
        )  # fmt: skip
    return calls_of(*made)
