"""Statistics of drift: each session is summed up once, and windows are compared with the sessions before them.

A window is a sum of its sessions, so that all windows of a panel cost one pass over its rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from boursomatic_assets.core.dataset.features import LOOKBACK_SESSIONS, is_warmed_up
from boursomatic_assets.core.drift.distances import CELLS, distances

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

# Sessions of a window and of its baseline. Shares are compared with the window just before, since a market's level
# moves on; spread, asymmetry and correlations last longer, and are compared with the baseline.
WINDOW, BASELINE = 5, 20
# A session with a smaller share of the usual number of instruments is a holiday, or half loaded.
LEAST_SHARE_OF_ROWS = 0.25
# Below this share of the usual spread a feature counts as constant.
SMALLEST_SPREAD = 0.05
# Least usual change of a rank correlation, so that a tiny change is no event.
SMALLEST_CHANGE = 0.02
PREDICTIONS = "predictions"
FEATURE_STATISTICS = ("psi", "kolmogorov_smirnov", "jensen_shannon", "spread", "asymmetry", "rank_correlation")
_QUANTILES = {"low": 0.1, "lower": 0.25, "median": 0.5, "upper": 0.75, "high": 0.9}


@dataclass(frozen=True)
class Scale:
    """Scale of the statistics, taken from the training panel once.

    `cells` has shape (n_features, CELLS - 1): rising quantiles in the training panel, of which every 20th is an
    edge of the ten equal-mass bins. `spread_floor`, shape (n_features,), is the least spread that differs from
    none. `usual_change`, shape (n_features, 2 n_features), is the root mean square change of each rank correlation
    between past windows.
    """

    features: tuple[str, ...]
    cells: np.ndarray
    spread_floor: np.ndarray
    usual_change: np.ndarray


@dataclass(frozen=True)
class Sessions:
    """Sums of sessions, in time order.

    `counts` has shape (n_sessions, n_features, CELLS + 1): rows in each cell, nulls last. `spread` is the distance
    of the quartiles among instruments; `asymmetry`, -1 to 1, how much further the highest tenth lies from the
    median than the lowest; both of shape (n_sessions, n_features). `correlation`, shape (n_sessions, n_features, 2
    n_features), is Spearman's among instruments, with each feature and with its distance from the median.
    """

    dates: list[date]
    counts: np.ndarray
    spread: np.ndarray
    asymmetry: np.ndarray
    correlation: np.ndarray

    def __len__(self) -> int:
        return len(self.dates)


def full_sessions(rows: pl.DataFrame, features: Sequence[str] = ()) -> pl.DataFrame:
    """Rows by session and symbol, without warm-up rows and without sessions in which hardly any instrument traded.

    A warm-up row is one of the first `LOOKBACK_SESSIONS` of its instrument, before its `features` have their
    history: such rows of new listings would read as a change of the share of nulls. A column that is lost later
    remains.
    """
    kept = rows.sort("symbol", "session").filter(~_is_warm_up(features))
    counts = kept.group_by("session").len()
    usual = counts["len"].median() or 0
    full = counts.filter(pl.col("len") >= LEAST_SHARE_OF_ROWS * usual)  # type: ignore[operator]
    return kept.join(full, on="session", how="semi").sort("session", "symbol")


def _is_warm_up(features: Sequence[str]) -> pl.Expr:
    """Whether a row, by symbol and session, is one of an instrument's warm-up."""
    begins = pl.int_range(pl.len()).over("symbol") < LOOKBACK_SESSIONS
    return begins & ~is_warmed_up(features).cum_max().over("symbol")


def training_cells(train_set: pl.DataFrame, features: Sequence[str]) -> np.ndarray:
    """Quantiles that cut each feature's training values into `CELLS` parts, shape (n_features, CELLS - 1)."""
    at = np.arange(1, CELLS) / CELLS
    values = [train_set[name].drop_nulls().cast(pl.Float64).to_numpy() for name in features]
    return np.array([np.quantile(each, at) if len(each) else np.zeros(CELLS - 1) for each in values])


def summed_up(rows: pl.DataFrame, features: tuple[str, ...], cells: np.ndarray) -> Sessions:
    """Sum up each session of `full_sessions`."""
    dates = rows["session"].unique().sort()
    place = dates.search_sorted(rows["session"]).to_numpy().astype(np.int64)
    counts = np.stack(
        [_cell_counts(rows[name], edges, place, len(dates)) for name, edges in zip(features, cells, strict=True)],
        axis=1,
    )
    quantiles = _session_quantiles(rows, features)
    outer = quantiles["high"] - quantiles["low"]
    lean = quantiles["high"] + quantiles["low"] - 2 * quantiles["median"]
    return Sessions(
        dates=dates.to_list(),
        counts=counts,
        spread=quantiles["upper"] - quantiles["lower"],
        asymmetry=np.divide(lean, outer, out=np.zeros_like(lean), where=outer > 0),
        correlation=_rank_correlations(rows, features, place),
    )


def _cell_counts(values: pl.Series, edges: np.ndarray, place: np.ndarray, sessions: int) -> np.ndarray:
    known = values.is_not_null().to_numpy()
    cell = np.where(known, np.searchsorted(edges, values.fill_null(0.0).to_numpy(), side="right"), CELLS)
    flat = np.bincount(place * (CELLS + 1) + cell, minlength=sessions * (CELLS + 1))
    return flat.reshape(sessions, CELLS + 1)


def _session_quantiles(rows: pl.DataFrame, features: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Quantiles among each session's instruments, each (n_sessions, n_features); 0 without a value."""
    found = rows.group_by("session").agg(
        pl.col(feature).cast(pl.Float64).quantile(at, "linear").alias(f"{name} {feature}")
        for name, at in _QUANTILES.items()
        for feature in features
    )
    found = found.sort("session").fill_null(0.0)
    return {name: found.select(f"{name} {feature}" for feature in features).to_numpy() for name in _QUANTILES}


def _rank_correlations(rows: pl.DataFrame, features: tuple[str, ...], place: np.ndarray) -> np.ndarray:
    """Spearman's coefficients within each session; ranks remove what moves all instruments at once.

    A null has the middle rank; a feature that is the same for all has no correlation.
    """
    distances = ((pl.col(name) - pl.col(name).median().over("session")).abs() for name in features)
    values = rows.select("session", *features, *(each.name.prefix("distance ") for each in distances))
    names = values.columns[1:]
    ranks = values.select("session", *(pl.col(name).rank("average").over("session") for name in names))
    centred = ranks.select(
        ((pl.col(name) - pl.col(name).mean()).over("session")).fill_null(0.0).alias(name) for name in names
    ).to_numpy()
    starts = np.flatnonzero(np.diff(place, prepend=-1))
    scale = np.sqrt(np.add.reduceat(centred**2, starts, axis=0))
    products = [np.add.reduceat(centred * centred[:, [j]], starts, axis=0) for j in range(len(features))]
    covariance, both = np.stack(products, axis=1), scale[:, : len(features), None] * scale[:, None, :]
    return np.asarray(np.divide(covariance, both, out=np.zeros_like(covariance), where=both > 0))


def correlation_changes(sessions: Sessions) -> np.ndarray:
    """Change of each rank correlation from baseline to window, shape (n_windows, n_features, ...)."""
    return np.asarray(
        window_means(sessions.correlation, WINDOW)[BASELINE:]
        - _before(window_means(sessions.correlation, BASELINE))
    )


def feature_statistics(sessions: Sessions, scale: Scale) -> np.ndarray:
    """Compare each window of sessions with the sessions before it, shape (n_windows, n_statistics, n_features).

    In the order of `FEATURE_STATISTICS`; the i-th window ends with session i + BASELINE + WINDOW - 1.
    """
    counts = window_means(sessions.counts, WINDOW) * WINDOW
    now, earlier = counts[BASELINE:], counts[BASELINE - WINDOW : len(counts) - WINDOW]
    spread = np.log(np.maximum(sessions.spread, scale.spread_floor))
    return np.stack(
        [
            *distances(now, earlier),
            np.abs(_against_baseline(spread)),
            np.abs(_against_baseline(sessions.asymmetry)),
            _largest_change(correlation_changes(sessions), scale.usual_change),
        ],
        axis=1,
    )


def from_training(sessions: Sessions, scale: Scale, training: Sessions) -> np.ndarray:
    """Compare the last window with the whole training panel (as one session): (n_statistics, n_features)."""
    counts = sessions.counts[-WINDOW:].sum(axis=0)
    spread = np.log(np.maximum(sessions.spread[-WINDOW:], scale.spread_floor)).mean(axis=0)
    usual = np.log(np.maximum(training.spread[0], scale.spread_floor))
    change = sessions.correlation[-WINDOW:].mean(axis=0) - training.correlation[0]
    return np.stack(
        [
            *distances(counts, training.counts[0]),
            np.abs(spread - usual),
            np.abs(sessions.asymmetry[-WINDOW:].mean(axis=0) - training.asymmetry[0]),
            _largest_change(change, scale.usual_change),
        ]
    )


def _largest_change(changes: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """Largest change of a feature's correlations with the others, in units of the usual for that pair."""
    largest: np.ndarray = _unusual_changes(changes, usual).max(axis=-1)
    return largest


def _unusual_changes(changes: np.ndarray, usual: np.ndarray) -> np.ndarray:
    others = np.tile(~np.eye(len(usual), dtype=bool), 2)
    return np.where(others, np.abs(changes) / usual, 0.0)


def changed_partners(sessions: Sessions, scale: Scale) -> list[str]:
    """The feature whose rank correlation with each one has changed most up to the last window."""
    changes = _unusual_changes(correlation_changes(sessions)[-1], scale.usual_change)
    return [scale.features[place % len(scale.features)] for place in changes.argmax(axis=-1)]


def window_means(values: np.ndarray, width: int) -> np.ndarray:
    """Means over `width` neighbouring sessions; the i-th begins with session i."""
    nothing = np.zeros((1, *values.shape[1:]))
    sums = np.concatenate([nothing, np.cumsum(values, axis=0, dtype=np.float64)])
    means: np.ndarray = (sums[width:] - sums[:-width]) / width
    return means


def _before(baselines: np.ndarray) -> np.ndarray:
    """Of means over the baseline, those that a window follows."""
    return baselines[: max(len(baselines) - WINDOW, 0)]


def _against_baseline(values: np.ndarray) -> np.ndarray:
    difference: np.ndarray = window_means(values, WINDOW)[BASELINE:] - _before(window_means(values, BASELINE))
    return difference
