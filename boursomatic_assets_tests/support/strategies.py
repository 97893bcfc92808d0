"""Lawful market data: Hypothesis strategies, and plain builders of small and of random-walk panels.

The one file for it. A panel made here keeps the bar contract; broken bars are made by the tests that break them.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from hypothesis import strategies as st

from boursomatic_assets.core.dataset.experiment import PROFILE_NAMES, Profile, Profiles
from boursomatic_assets.core.market.bars import BAR_SCHEMA, PANEL_KEY
from boursomatic_assets.core.recommendations.reasons import Facts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hypothesis.strategies import DrawFn

MONDAY = date(2018, 1, 1)
SYMBOLS = ("AAA", "BBB", "CCC", "DDD")


def weekdays(count: int) -> list[date]:
    """The first `count` weekdays from Monday 2018-01-01 on."""
    return [MONDAY + timedelta(days=7 * (i // 5) + i % 5) for i in range(count)]


def flat_bars(closes: Mapping[str, Sequence[float | None]], volume: float = 1000.0) -> pl.DataFrame:
    """Bars whose four prices agree; the i-th close falls on the i-th weekday, None is a session without a bar."""
    rows = [
        (symbol, session, close, close, close, close, volume)
        for symbol, path in closes.items()
        for session, close in zip(weekdays(len(path)), path, strict=True)
        if close is not None
    ]
    return pl.DataFrame(rows, schema=BAR_SCHEMA, orient="row").sort(PANEL_KEY)


def random_walk_bars(symbols: int, sessions: int, seed: int) -> pl.DataFrame:
    """Bar panel without any signal: independent walks, each with its own predictable volatility."""
    rng = np.random.default_rng(seed)
    return pl.concat(
        _bars(
            f"W{number:03d}",
            weekdays(sessions),
            close=rng.uniform(5, 500) * np.exp(np.cumsum(rng.normal(0, rng.uniform(0.005, 0.04), sessions))),
            volume=rng.lognormal(12, 0.5, sessions).round(),
            rng=rng,
        )
        for number in range(symbols)
    )


def with_other_future(bars: pl.DataFrame, after: date, seed: int) -> pl.DataFrame:
    """The same bars up to a session; afterwards wildly different ones, some of them missing."""
    rng = np.random.default_rng(seed)
    future = bars.filter(pl.col("session") > after)
    close = pl.Series(10 ** rng.uniform(-3, 5, future.height))
    volume = pl.Series(10 ** rng.uniform(0, 9, future.height))
    other = future.with_columns(open=close, high=close * 2, low=close / 2, close=close, volume=volume)
    kept = other.filter(pl.Series(rng.random(other.height) < 0.8, dtype=pl.Boolean))
    return pl.concat([bars.filter(pl.col("session") <= after), kept]).sort(PANEL_KEY)


@st.composite
def bar_panels(draw: DrawFn, *, symbols: int = 3, min_sessions: int = 30, max_sessions: int = 60) -> pl.DataFrame:
    """Lawful bar panels of one to `symbols` instruments.

    The first instrument has at least `min_sessions` bars; the others may be shorter, start later and end earlier.
    """
    count = draw(st.integers(1, symbols))
    needs = [min_sessions, *[1] * (count - 1)]
    return pl.concat(
        draw(_instruments(symbol, need, max_sessions)) for symbol, need in zip(SYMBOLS[:count], needs, strict=True)
    )


@st.composite
def _instruments(draw: DrawFn, symbol: str, min_sessions: int, max_sessions: int) -> pl.DataFrame:
    """One instrument's bars: a walk or a constant price, at any level, with gaps, spikes and silent sessions."""
    count = draw(st.integers(min_sessions, max_sessions), label=f"{symbol} bars")
    start = draw(st.integers(0, 10), label=f"{symbol} start")
    gaps = draw(st.dictionaries(st.integers(0, count - 1), st.integers(1, 7), max_size=3), label=f"{symbol} gaps")
    calendar = weekdays(start + count + 7 * 3)
    skipped = np.cumsum([gaps.get(i, 0) for i in range(count)])
    sessions = [calendar[start + i + int(skipped[i])] for i in range(count)]

    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1), label=f"{symbol} seed"))
    level = draw(st.sampled_from([1e-4, 0.01, 1.0, 137.5, 1e6]), label=f"{symbol} level")
    move = draw(st.sampled_from([0.0, 1e-3, 0.02, 0.3]), label=f"{symbol} move")
    close = level * np.exp(np.cumsum(rng.normal(0, 1, count) * move))
    for position, factor in draw(_spikes(count, [1e-3, 0.5, 2.0, 1e3]), label=f"{symbol} price spikes").items():
        close[position] *= factor

    usual = draw(st.sampled_from([0.0, 7.3, 1e3, 1e9]), label=f"{symbol} usual volume")
    spread = draw(st.sampled_from([0.0, 0.5]), label=f"{symbol} volume spread")
    volume = usual * np.exp(rng.normal(0, 1, count) * spread)
    for position, factor in draw(_spikes(count, [0.0, 10.0, 1e6]), label=f"{symbol} volume spikes").items():
        volume[position] *= factor
    return _bars(symbol, sessions, close, volume, rng if move else None)


def _spikes(count: int, factors: list[float]) -> st.SearchStrategy[dict[int, float]]:
    return st.dictionaries(st.integers(0, count - 1), st.sampled_from(factors), max_size=3)


def _bars(
    symbol: str,
    sessions: list[date],
    close: np.ndarray,
    volume: np.ndarray,
    rng: np.random.Generator | None,
) -> pl.DataFrame:
    """Bars around closes; without a generator each bar is a single price."""
    count = len(sessions)
    gap, above, below = np.zeros((3, count)) if rng is None else rng.uniform(0, 0.02, (3, count))
    opened = close * (1 + gap - gap.mean())
    return pl.DataFrame(
        {
            "symbol": [symbol] * count,
            "session": sessions,
            "open": opened,
            "high": np.maximum(opened, close) * (1 + above),
            "low": np.minimum(opened, close) * (1 - below),
            "close": close,
            "volume": volume,
        },
        schema=BAR_SCHEMA,
    )


@st.composite
def justified_facts(draw: DrawFn) -> Facts:
    """Facts of any recommendation that can be made, with features of any lawful value and of any size."""
    label = draw(st.sampled_from(["BUY", "HOLD", "SELL"]))
    weights = draw(st.lists(st.floats(0.0, 1.0), min_size=3, max_size=3).filter(lambda drawn: sum(drawn) > 0))
    calibrated = {
        name: weight / sum(weights) for name, weight in zip(("BUY", "HOLD", "SELL"), weights, strict=True)
    }
    close = 10 ** draw(st.floats(-4, 6))
    moves = st.floats(-0.99, 30.0)
    week = draw(moves)
    volatility = draw(st.floats(0.0, 5.0))
    span = draw(st.floats(1e-6, 1.0))
    features = {
        "ret_1d": draw(moves),
        "ret_5d": week,
        "ret_20d": draw(moves),
        "rsi_14": draw(st.none() | st.floats(0.0, 100.0)),
        "momentum_5d": week,
        "vol_20d": volatility,
        "atr_14": close * span,
        "natr_14": span,
        "volume_zscore": draw(st.none() | st.floats(-4.25, 4.25)),
    }
    names = draw(st.lists(st.sampled_from(sorted(features)), unique=True))
    return Facts(
        label=label,
        held_back=draw(st.sampled_from(["probability", "threshold", "volatility"])) if label == "HOLD" else None,
        probability=calibrated[label],
        calibrated=calibrated,
        expected_return=draw(st.floats(-1.0, 2.0)),
        horizon=draw(st.integers(1, 260)),
        features=features,
        close=close,
        contributions={name: draw(st.floats(-5.0, 5.0)) for name in names},
        profile=draw(st.sampled_from(["conservative", "moderate", "aggressive"])),
        max_volatility=volatility * draw(st.floats(0.0, 1.0)) + 1e-6,
        tau=draw(st.none() | st.floats(0.0, 1.0)),
        buy_threshold=draw(st.none() | st.floats(0.0, 0.5)),
        sell_threshold=draw(st.none() | st.floats(-0.5, 0.0)),
    )


@st.composite
def risk_profiles(draw: DrawFn) -> Profiles:
    """Three profiles, each at least as bold as the one before; stops and targets as they like."""
    likelihoods = [sorted(draw(st.tuples(*[st.floats(0.05, 1.0)] * 3)), reverse=True) for _ in range(2)]
    volatilities = sorted(draw(st.tuples(*[st.floats(0.001, 0.2)] * 3)))
    multiples = [draw(st.tuples(*[st.floats(0.1, 20.0)] * 3)) for _ in range(2)]
    bounds = zip(*likelihoods, volatilities, *multiples, strict=True)
    profiles = (Profile(**dict(zip(Profile.model_fields, values, strict=True))) for values in bounds)
    return Profiles(**dict(zip(PROFILE_NAMES, profiles, strict=True)))
