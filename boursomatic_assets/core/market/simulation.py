"""Simulated prices: random walks with predictable volatility, without skill or with a planted signal.

The right verdict on such prices is known beforehand: no skill on the first, skill on the second.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import polars as pl

from boursomatic_assets.core.market.bars import BAR_SCHEMA

MONDAY = date(2018, 1, 1)
# Step of log volatility per session, and its memory: it reverts by a fiftieth, so that calm and volatile times last
# for months, as in real prices.
VOLATILITY_STEP, VOLATILITY_MEMORY = 0.05, 0.98
TYPICAL_VOLATILITY, SPREAD_OF_VOLATILITY = 0.02, 0.35
# Share of each price's movement that is the market's.
MARKET_SHARE = 0.5
# The planted signal lasts for days and accumulates over the horizon.
SIGNAL_MEMORY = 0.8


@dataclass(frozen=True)
class SimulatedMarket:
    """Size of a simulated market, and its signal.

    `signal` is the daily drift, in units of the instrument's volatility, for a signal of one deviation; 0 for a
    random walk.
    """

    symbols: int
    sessions: int
    signal: float = 0.0


def simulate_bars(market: SimulatedMarket, seed: int) -> pl.DataFrame:
    """Draw a valid bar panel of symbols `W000`, `W001`, … on weekdays from 2018-01-01.

    Equal seeds draw equal panels. Returns have mean zero given the past, except for the planted signal, which the
    log volume shows one session ahead. Volatility differs between instruments, lasts for months and has a common
    part, as has the return.
    """
    random = np.random.default_rng(seed)
    shape = (market.sessions, market.symbols)
    shocks = random.normal(size=shape), random.normal(size=(market.sessions, 1))
    own, common = (_recursive(VOLATILITY_STEP * each, VOLATILITY_MEMORY) for each in shocks)
    level = TYPICAL_VOLATILITY * np.exp(SPREAD_OF_VOLATILITY * random.normal(size=market.symbols))
    volatility = level * np.exp(own + common / 2)
    together = random.normal(size=(market.sessions, 1)) * np.exp(common)
    moves = MARKET_SHARE * together + np.sqrt(1 - MARKET_SHARE**2) * random.normal(size=shape)
    signal = _recursive(random.normal(size=shape), SIGNAL_MEMORY) * np.sqrt(1 - SIGNAL_MEMORY**2)
    drift = np.vstack([np.zeros((1, market.symbols)), signal[:-1]]) * market.signal
    returns = np.clip(volatility * (moves + drift), -0.5, 0.5)
    close = random.uniform(10, 300, market.symbols) * np.cumprod(1 + returns, axis=0)
    noise = np.abs(volatility * random.normal(size=(2, *shape)))
    opening = close * (1 + 0.3 * volatility * random.normal(size=shape))
    volume = random.lognormal(12, 0.1, shape) * np.exp(0.5 * signal)
    prices = {
        "open": opening,
        "high": np.maximum(opening, close) * (1 + 0.4 * noise[0]),
        "low": np.minimum(opening, close) * (1 - np.minimum(0.4 * noise[1], 0.5)),
        "close": close,
        "volume": volume.round(),
    }
    sessions = [MONDAY + timedelta(days=7 * (day // 5) + day % 5) for day in range(market.sessions)]
    names = [f"W{number:03d}" for number in range(market.symbols)]
    keys = {"symbol": np.repeat(names, market.sessions).tolist(), "session": sessions * market.symbols}
    columns = {name: values.T.ravel() for name, values in prices.items()}
    return pl.DataFrame({**keys, **columns}, schema=BAR_SCHEMA)


def _recursive(shocks: np.ndarray, memory: float) -> np.ndarray:
    """x[t] = memory x[t-1] + shock[t], along the sessions."""
    path = np.zeros_like(shocks)
    for now in range(1, len(shocks)):
        path[now] = memory * path[now - 1] + shocks[now]
    return path
