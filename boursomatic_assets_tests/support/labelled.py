"""Label panels made by hand: constant prices for cutting sets and folds, and rows that one feature gives away."""

from __future__ import annotations

import numpy as np
import polars as pl

from boursomatic_assets.core.dataset.experiment import BoosterParameters, Experiment
from boursomatic_assets.core.dataset.labels import LABEL_TYPE, label_panel
from boursomatic_assets_tests.support.strategies import flat_bars, weekdays

DECISIVE = BoosterParameters(
    n_estimators=30, learning_rate=0.3, min_child_samples=1, subsample=1.0, colsample_bytree=1.0
)
TELLTALE = Experiment(features=("ret_1d", "vol_20d"), classifier=DECISIVE, regressor=DECISIVE)


def constant_labels(*symbols: str, experiment: Experiment, sessions: int = 42) -> pl.DataFrame:
    """Labels of constant prices; of 42 sessions, 40 have a label two sessions ahead."""
    bars = flat_bars({symbol: [100.0] * sessions for symbol in symbols})
    return label_panel(bars.select("symbol", "session", ret_1d=pl.lit(0.0)), bars, experiment)


def session_numbers(panel: pl.DataFrame) -> list[int]:
    """Place of each row's session among the weekdays."""
    days = weekdays(400)
    return [days.index(session) for session in panel["session"]]


def signal_rows() -> pl.DataFrame:
    """Sixty rows whose class and return `ret_1d` gives away: -1 SELL, 0 HOLD, +1 BUY."""
    signal = np.tile([-1.0, 0.0, 1.0], 20)
    return pl.DataFrame(
        {
            "symbol": ["AAA"] * 60,
            "session": weekdays(60),
            "ret_1d": signal,
            "vol_20d": np.random.default_rng(0).uniform(size=60),
            "forward_return": 0.1 * signal,
            "label_end": weekdays(60),
            "label": pl.Series(np.array(["SELL", "HOLD", "BUY"])[signal.astype(int) + 1], dtype=LABEL_TYPE),
        }
    )
