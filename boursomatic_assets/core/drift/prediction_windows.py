"""Predictions of each window against those of the window before it, and of the training panel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from boursomatic_assets.core.dataset.labels import CLASS_NAMES
from boursomatic_assets.core.drift.distances import jensen_shannon
from boursomatic_assets.core.drift.windows import BASELINE, WINDOW, window_means

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

PREDICTION_STATISTICS = ("class_mix", "mean_probability_buy")
PREDICTION_COLUMNS = ("probability_buy", "predicted_label")


def prediction_statistics(rows: pl.DataFrame) -> tuple[list[date], np.ndarray]:
    """Compare the predictions of each window with those of the window before it.

    Returns the sessions and an array of shape (n_windows, 2), in the order of `PREDICTION_STATISTICS`:
    Jensen-Shannon distance of the class mixes, change of the log odds of the mean p(BUY). Windows end as in
    `feature_statistics`.
    """
    dates, mixes, chances = _prediction_sessions(rows)
    mixes, chances = window_means(mixes, WINDOW) * WINDOW, window_means(chances, WINDOW)
    shares = _mix_shares(mixes)
    odds = _log_odds(chances[:, 0] / chances[:, 1])
    now, earlier = slice(BASELINE, None), slice(BASELINE - WINDOW, -WINDOW)
    mix_distance = jensen_shannon(shares[now], shares[earlier])
    return dates, np.stack([mix_distance, np.abs(odds[now] - odds[earlier])], axis=1)


def predictions_from_training(rows: pl.DataFrame, mix: Sequence[float], mean_probability_buy: float) -> np.ndarray:
    """Compare the last window with the model's predictions of validation and test, shape (2,)."""
    _, mixes, chances = _prediction_sessions(rows)
    chance = chances[-WINDOW:].sum(axis=0)
    distance = jensen_shannon(_mix_shares(mixes[-WINDOW:].sum(axis=0)), np.asarray(mix))
    return np.array([distance, abs(_log_odds(chance[0] / chance[1]) - _log_odds(mean_probability_buy))])


def _prediction_sessions(rows: pl.DataFrame) -> tuple[list[date], np.ndarray, np.ndarray]:
    """Counts of the classes, and sum and count of p(BUY), of each session."""
    called = (pl.col("predicted_label").cast(pl.String) == name for name in CLASS_NAMES)
    sums = (
        rows.group_by("session")
        .agg(
            *(each.sum().alias(name) for name, each in zip(CLASS_NAMES, called, strict=True)),
            chance=pl.col("probability_buy").sum(),
            count=pl.len(),
        )
        .sort("session")
    )
    return sums["session"].to_list(), sums.select(CLASS_NAMES).to_numpy(), sums.select("chance", "count").to_numpy()


def _log_odds(chance: np.ndarray | float) -> np.ndarray:
    """Log odds; probabilities are clipped to one in a million."""
    from scipy.special import logit

    odds: np.ndarray = logit(np.clip(chance, 1e-6, 1 - 1e-6))
    return odds


def _mix_shares(counts: np.ndarray) -> np.ndarray:
    shares: np.ndarray = (counts + 0.5) / (counts + 0.5).sum(axis=-1, keepdims=True)
    return shares
