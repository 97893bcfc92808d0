"""Slow, separate implementations written from the definitions alone, to hold the package against.

Nothing here imports the package: an oracle that shares code with what it judges would share its faults.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

if TYPE_CHECKING:
    from datetime import date

    import polars as pl


def shared_file(name: str) -> Path:
    """A file of the folder `shared` beside the checkout.

    Where it is absent the test is reported as left out; with `BOURSOMATIC_TESTS_COMPLETE` set, as in CI, that is a
    failure.
    """
    path = Path(__file__).resolve().parents[3] / "shared" / name
    if not path.exists():
        message = f"left out: there is no ../shared/{name} beside this checkout"
        if os.environ.get("BOURSOMATIC_TESTS_COMPLETE"):
            pytest.fail(message)
        pytest.skip(message)
    return path


def sample_bars() -> pd.DataFrame:
    """The bundled sample, 12,154 unadjusted bars of five tickers with `adj_close`."""
    from bokeh_sampledata.stocks import data

    return data.rename(columns={"ticker": "symbol", "date": "session"})


def slow_features(bars: pl.DataFrame) -> pd.DataFrame:
    """The eight features by pandas, one instrument at a time; rows in the order of `bars`, NaN for null."""
    frames = [_features_of_one(group) for _, group in bars.to_pandas().groupby("symbol", sort=False)]
    return pd.concat(frames, ignore_index=True)


def _features_of_one(bars: pd.DataFrame) -> pd.DataFrame:
    close, high, low, volume = (bars[name] for name in ("close", "high", "low", "volume"))
    return_1d = close / close.shift(1) - 1
    change = close.diff().fillna(0.0)
    gain, loss = _wilder(change.clip(lower=0)), _wilder((-change).clip(lower=0))
    before = close.shift(1)
    true_range = pd.concat([high - low, (high - before).abs(), (low - before).abs()], axis=1).max(axis=1)
    mean = volume.rolling(20).apply(np.mean, raw=True)
    deviation = volume.rolling(20).apply(two_pass_deviation, raw=True)
    return pd.DataFrame(
        {
            "symbol": bars["symbol"],
            "session": bars["session"],
            "ret_1d": return_1d,
            "ret_5d": close / close.shift(5) - 1,
            "ret_20d": close / close.shift(20) - 1,
            "rsi_14": 100 - 100 / (1 + gain / loss),
            "momentum_5d": close / close.shift(5) - 1,
            "vol_20d": return_1d.rolling(20).apply(two_pass_deviation, raw=True),
            "atr_14": _wilder(true_range),
            "volume_zscore": (volume - mean) / deviation.replace(0.0, np.nan),
        }
    )


def _wilder(values: pd.Series) -> pd.Series:
    return values.ewm(com=13, adjust=True, min_periods=14).mean()


def two_pass_deviation(window: np.ndarray) -> float:
    """Sample standard deviation by the definition: first the mean, then the squares around it."""
    if (window == window[0]).all():
        return 0.0
    mean = window.sum() / len(window)
    return float(np.sqrt(((window - mean) ** 2).sum() / (len(window) - 1)))


@dataclass
class _Lot:
    """Money set aside for one instrument, below zero for a short: invested from its first close at the fill on."""

    value: float
    price: float | None = None


@dataclass
class _Tranche:
    """Lots by symbol, and the cash beside them."""

    lots: dict[str, _Lot]
    cash: float

    def wealth(self) -> float:
        return self.cash + sum(lot.value for lot in self.lots.values())

    def gross(self) -> float:
        return sum(abs(lot.value) for lot in self.lots.values())

    def weights(self) -> dict[str, float]:
        return {symbol: lot.value / self.wealth() for symbol, lot in self.lots.items()}


@dataclass(frozen=True)
class SlowBook:
    """A book's history as plain lists, one entry per session; positions and trades as weights by symbol."""

    sessions: list[date]
    gross: list[float]
    returns: list[float]
    turnover: list[float]
    exposure: list[float]
    positions: list[dict[str, float]]
    trades: list[dict[str, float]]


Calls = dict[int, dict[str, int]]


def slow_tranche_book(
    calls: pl.DataFrame, closes: pl.DataFrame, horizon: int, cost_bps: float, legs: str = "long"
) -> SlowBook:
    """`horizon` tranches in dictionaries, one session after the other.

    A call of session t is filled at the close of the session after it and leaves `horizon` sessions later, or
    at the end of the data. Weights are equal at the fill (all of it in the longs, or half of it in each side) and
    drift with the prices. The day's gross return is the mean over the tranches of their growth; the value traded is
    netted within a tranche, and over all of them when the end closes the book. A tranche whose longs and shorts are
    worth a thousand million times its wealth, or more, is closed at zero.
    """
    prices = {(row["symbol"], row["session"]): row["close"] for row in closes.iter_rows(named=True)}
    calendar = sorted({session for _, session in prices})
    called: Calls = {}
    for row in calls.iter_rows(named=True):
        side = row.get("side", 1)
        if side == 1 or legs == "long_short":
            called.setdefault(calendar.index(row["session"]), {})[row["symbol"]] = side
    book = SlowBook([], [], [], [], [], [], [])
    if not called:
        return book
    end = min(max(called) + 1 + horizon, len(calendar) - 1)
    tranches = [_Tranche({}, 1.0) for _ in range(horizon)]
    for now in range(min(called) + 1, end + 1):
        exposure = sum(tranche.gross() / tranche.wealth() for tranche in tranches) / horizon
        gross = sum(_mark(tranche, prices, calendar[now]) for tranche in tranches) / horizon
        leaving = tranches if now == end else [tranches[now % horizon]]
        traded: dict[str, float] = {}
        for tranche in leaving:
            _add(traded, tranche.weights(), -1 / horizon)
            tranche.lots, tranche.cash = {}, 1.0
        if now < end:
            tranches[now % horizon] = _filled(called.get(now - 1, {}), legs)
            _add(traded, tranches[now % horizon].weights(), 1 / horizon)
        held: dict[str, float] = {}
        for tranche in tranches:
            _fill(tranche, prices, calendar[now])
            _add(held, tranche.weights(), 1 / horizon)
        turnover = sum(abs(change) for change in traded.values())
        book.sessions.append(calendar[now])
        book.gross.append(gross)
        book.returns.append(max(gross - turnover * cost_bps / 10_000, -1.0))
        book.turnover.append(turnover)
        book.exposure.append(exposure)
        book.positions.append(held)
        book.trades.append(traded)
    return book


def _mark(tranche: _Tranche, prices: dict[tuple[str, date], float], session: date) -> float:
    """Carry each lot to the session's close; the tranche's return. A lot without a bar keeps its value."""
    before = tranche.wealth()
    for symbol, lot in tranche.lots.items():
        price = prices.get((symbol, session))
        if price is not None and lot.price is not None:
            lot.value *= price / lot.price
            lot.price = price
    after = tranche.wealth()
    if after * 1e9 < tranche.gross():
        tranche.lots, tranche.cash = {}, 1.0
        return -1.0
    return after / before - 1


def _filled(entering: dict[str, int], legs: str) -> _Tranche:
    """Equal weights in each side; what is neither bought nor bound by a short is cash."""
    leg = 1.0 if legs == "long" else 0.5
    count = {side: sum(1 for each in entering.values() if each == side) for side in (1, -1)}
    lots = {symbol: _Lot(side * leg / count[side]) for symbol, side in entering.items()}
    return _Tranche(lots, 1.0 - sum(lot.value for lot in lots.values()))


def _fill(tranche: _Tranche, prices: dict[tuple[str, date], float], session: date) -> None:
    for symbol, lot in tranche.lots.items():
        if lot.price is None:
            lot.price = prices.get((symbol, session))


def _add(total: dict[str, float], weights: dict[str, float], factor: float) -> None:
    for symbol, weight in weights.items():
        total[symbol] = total.get(symbol, 0.0) + factor * weight
