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
    path = Path(__file__).resolve().parents[2] / "shared" / name
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
    """Money set aside for one instrument: invested from its first close at or after the fill session on."""

    value: float
    price: float | None = None


@dataclass(frozen=True)
class SlowBook:
    """A book's history as plain lists, one entry per session."""

    sessions: list[date]
    returns: list[float]
    turnover: list[float]
    exposure: list[float]


def slow_tranche_book(calls: pl.DataFrame, closes: pl.DataFrame, horizon: int, cost_bps: float) -> SlowBook:
    """`horizon` tranches in dictionaries, one session after the other.

    A call of session t is filled at the close of the session after it and leaves `horizon` sessions later, or
    at the end of the data. Weights are equal at the fill and drift with the prices. The day's return is the mean
    over the tranches of their growth, less cost times the value traded (netted within a tranche).
    """
    prices = {(row["symbol"], row["session"]): row["close"] for row in closes.iter_rows(named=True)}
    calendar = sorted({session for _, session in prices})
    called: dict[int, set[str]] = {}
    for row in calls.iter_rows(named=True):
        called.setdefault(calendar.index(row["session"]), set()).add(row["symbol"])
    end = min(max(called) + 1 + horizon, len(calendar) - 1)
    tranches: list[dict[str, _Lot]] = [{} for _ in range(horizon)]
    book = SlowBook([], [], [], [])
    for now in range(min(called) + 1, end + 1):
        growth = [_mark(tranche, prices, calendar[now]) for tranche in tranches]
        exposure = sum(1 for tranche in tranches if tranche) / horizon
        traded = _rotate(tranches, now % horizon, called.get(now - 1, set()) if now < end else set())
        if now == end:
            traded += sum(_rotate(tranches, number, set()) for number in range(horizon))
        for lot_of in tranches:
            _fill(lot_of, prices, calendar[now])
        book.sessions.append(calendar[now])
        book.returns.append(sum(growth) / horizon - traded / horizon * cost_bps / 10_000)
        book.turnover.append(traded / horizon)
        book.exposure.append(exposure)
    return book


def _mark(tranche: dict[str, _Lot], prices: dict[tuple[str, date], float], session: date) -> float:
    """Carry each lot to the session's close; the tranche's return. A lot without a bar keeps its value."""
    before = sum(lot.value for lot in tranche.values())
    for symbol, lot in tranche.items():
        price = prices.get((symbol, session))
        if price is not None and lot.price is not None:
            lot.value *= price / lot.price
            lot.price = price
    return sum(lot.value for lot in tranche.values()) / before - 1 if tranche else 0.0


def _rotate(tranches: list[dict[str, _Lot]], number: int, entering: set[str]) -> float:
    """Sell a tranche and buy the entering names in equal weights; the value traded over the tranche's value."""
    leaving = tranches[number]
    total = sum(lot.value for lot in leaving.values())
    old = {symbol: lot.value / total for symbol, lot in leaving.items()}
    tranches[number] = {symbol: _Lot(1 / len(entering)) for symbol in entering}
    new = {symbol: lot.value for symbol, lot in tranches[number].items()}
    return sum(abs(new.get(symbol, 0.0) - old.get(symbol, 0.0)) for symbol in old.keys() | new.keys())


def _fill(tranche: dict[str, _Lot], prices: dict[tuple[str, date], float], session: date) -> None:
    for symbol, lot in tranche.items():
        if lot.price is None:
            lot.price = prices.get((symbol, session))
