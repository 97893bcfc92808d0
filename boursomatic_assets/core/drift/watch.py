"""Drift: whether the newest sessions still look like those before them.

A window of five sessions is compared with the sessions before it, and the difference with those between past
windows of the training panel. The comparison with the whole training panel is shown beside it and raises no alarm:
it holds too few calm and wild periods to judge the next one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from boursomatic_assets.core.dataset.labels import CLASS_NAMES, LABEL_TYPE
from boursomatic_assets.core.drift.prediction_windows import (
    PREDICTION_COLUMNS,
    PREDICTION_STATISTICS,
    prediction_statistics,
    predictions_from_training,
)
from boursomatic_assets.core.drift.reference import Reference
from boursomatic_assets.core.drift.windows import (
    BASELINE,
    FEATURE_STATISTICS,
    PREDICTIONS,
    WINDOW,
    Sessions,
    changed_partners,
    feature_statistics,
    from_training,
    full_sessions,
    summed_up,
)
from boursomatic_assets.errors import NotEnoughHistoryError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from boursomatic_assets.core.models.training import FittedModel

SESSIONS_NEEDED = BASELINE + WINDOW
# Probability of an alarm in a window without drift. The promise is 1 %: levels come from about two hundred
# independent windows, and a panel of other volatility raises more.
FALSE_ALARMS = 0.007
# Half of it goes to one test: the spread of a session's returns is the first to show doubled volatility, which real
# markets nearly reach by themselves.
VOLATILITY_TEST = ("ret_1d", "spread")
VOLATILITY_SHARE = 0.5
DRIFT_SCHEMA: dict[str, pl.DataType] = {
    "feature": pl.String(),
    "statistic": pl.String(),
    "value": pl.Float64(),
    "level": pl.Float64(),
    "p_value": pl.Float64(),
    "alarmed": pl.Boolean(),
    "from_training": pl.Float64(),
    "partner": pl.String(),
}


def detect_drift(reference: Mapping[str, Any], window_rows: pl.DataFrame) -> pl.DataFrame:
    """Compare the newest window with the sessions before it.

    Parameters
    ----------
    reference : mapping
        As `build_reference` returns it.
    window_rows : DataFrame
        The newest sessions of all instruments: keys and features, and optionally `probability_buy` and
        `predicted_label`. The last 25 full sessions count.

    Returns
    -------
    DataFrame
        Of `DRIFT_SCHEMA`, a row per feature and statistic, alarms first, then by p-value. `level` is the smallest
        alarm; it and `p_value` are null without a history. `partner` is the feature whose rank correlation changed
        most.

    Raises
    ------
    NotEnoughHistoryError
        If there are fewer than 25 full sessions.

    Notes ----- Alarms follow Benjamini and Hochberg (1995) at 0.7 % over all rows, with the weights of Genovese,
    Roeder and Wasserman (2006): without drift, that is the probability of any alarm in a window.
    """
    read = Reference.read(reference)
    rows = _enough(window_rows, read.scale.features)
    newest = rows["session"].unique().sort().tail(SESSIONS_NEEDED)
    rows = rows.filter(pl.col("session") >= newest.min())
    sessions, tests, values = _statistics(read, rows)
    partners = dict(zip(read.scale.features, changed_partners(sessions, read.scale), strict=True))
    p_values = _p_values(read, tests, values)
    allowed = _allowed(p_values, tests)[0]
    known = [test in read.tails for test in tests]
    levels = [
        read.tails[test].level(p) if test in read.tails else None for test, p in zip(tests, allowed, strict=True)
    ]
    columns = {
        "feature": [feature for feature, _ in tests],
        "statistic": [statistic for _, statistic in tests],
        "value": values[0],
        "level": levels,
        "p_value": [float(p) if there else None for p, there in zip(p_values[0], known, strict=True)],
        "alarmed": p_values[0] <= allowed,
        "from_training": _from_training(read, rows, sessions),
        "partner": [
            partners.get(feature) if statistic == "rank_correlation" else None for feature, statistic in tests
        ],
    }
    found = pl.DataFrame(columns, schema=DRIFT_SCHEMA).with_columns(pl.col("level").fill_nan(None))
    calm, excess = ~pl.col("alarmed"), pl.col("value") / pl.col("level")
    return found.sort(calm, pl.col("p_value"), -excess, nulls_last=True, maintain_order=True)


def scan_drift(reference: Mapping[str, Any], rows: pl.DataFrame) -> pl.DataFrame:
    """Compare every window of a panel with the sessions before it, as `detect_drift` does the last one.

    Returns
    -------
    DataFrame
        A row per window in time order: `session` (its last), `p_value` (the smallest, adjusted for all comparisons;
        null without any history), its `feature` and `statistic`, and `alarmed`.

    Raises
    ------
    NotEnoughHistoryError
        If there are fewer than 25 full sessions.
    """
    read = Reference.read(reference)
    sessions, tests, values = _statistics(read, _enough(rows, read.scale.features))
    p_values = _p_values(read, tests, values)
    weighted = p_values / _weights(tests)
    least = weighted.argmin(axis=1)
    adjusted = len(tests) * np.sort(weighted, axis=1) / np.arange(1, len(tests) + 1)
    return pl.DataFrame(
        {
            "session": sessions.dates[SESSIONS_NEEDED - 1 :],
            "p_value": np.minimum(adjusted.min(axis=1), 1.0),
            "feature": [tests[place][0] for place in least],
            "statistic": [tests[place][1] for place in least],
            "alarmed": (p_values <= _allowed(p_values, tests)).any(axis=1),
        }
    ).with_columns(p_value=pl.when(pl.lit(value=bool(read.tails))).then("p_value"))


def with_predictions(rows: pl.DataFrame, classifier: FittedModel) -> pl.DataFrame:
    """Add the classifier's `probability_buy` and `predicted_label`, for `detect_drift`."""
    probabilities = classifier.predict(rows)
    buy = pl.Series("probability_buy", probabilities[:, CLASS_NAMES.index("BUY")])
    called = pl.Series("predicted_label", np.asarray(CLASS_NAMES)[probabilities.argmax(axis=1)], dtype=LABEL_TYPE)
    return rows.with_columns(buy, called)


def _enough(rows: pl.DataFrame, features: Sequence[str]) -> pl.DataFrame:
    """Rows of full sessions; at least `SESSIONS_NEEDED` of them."""
    full = full_sessions(rows, features)
    found = full["session"].n_unique()
    if found < SESSIONS_NEEDED:
        message = (
            f"drift compares the newest {WINDOW} sessions with the {BASELINE} before them; found {found} "
            "full sessions.\nIngest more history: boursomatic materialize --select price_bars"
        )
        raise NotEnoughHistoryError(message)
    return full


def _statistics(reference: Reference, rows: pl.DataFrame) -> tuple[Sessions, list[tuple[str, str]], np.ndarray]:
    """The rows' session sums, the tests, and their values of shape (n_windows, n_tests)."""
    sessions = summed_up(rows, reference.scale.features, reference.scale.cells)
    values = feature_statistics(sessions, reference.scale)
    tests = [(feature, statistic) for statistic in FEATURE_STATISTICS for feature in reference.scale.features]
    found = values.reshape(len(values), -1)
    if _has_predictions(rows):
        _, said = prediction_statistics(rows)
        tests += [(PREDICTIONS, statistic) for statistic in PREDICTION_STATISTICS]
        found = np.concatenate([found, said], axis=1)
    return sessions, tests, found


def _has_predictions(rows: pl.DataFrame) -> bool:
    return set(PREDICTION_COLUMNS) <= set(rows.columns)


def _from_training(reference: Reference, rows: pl.DataFrame, sessions: Sessions) -> np.ndarray:
    found = from_training(sessions, reference.scale, reference.training).ravel()
    if not _has_predictions(rows):
        return found
    said = predictions_from_training(rows, reference.class_mix, reference.mean_probability_buy)
    return np.concatenate([found, said])


def _p_values(reference: Reference, tests: list[tuple[str, str]], values: np.ndarray) -> np.ndarray:
    """Shape (n_windows, n_tests); a test without a history has 1."""
    known = [
        reference.tails[test].p_values(values[:, place]) if test in reference.tails else np.ones(len(values))
        for place, test in enumerate(tests)
    ]
    return np.stack(known, axis=1)


def _allowed(p_values: np.ndarray, tests: list[tuple[str, str]]) -> np.ndarray:
    """The largest p-value of each test that is an alarm in each window, shape (n_windows, n_tests)."""
    weights = _weights(tests)
    count = len(tests)
    ordered = np.sort(p_values / weights, axis=1)
    ranks = np.arange(1, count + 1)
    rejected = np.where(ordered <= FALSE_ALARMS * ranks / count, ranks, 1).max(axis=1)
    allowed: np.ndarray = FALSE_ALARMS * rejected[:, None] / count * weights
    return allowed


def _weights(tests: list[tuple[str, str]]) -> np.ndarray:
    """Share of the false alarms that each test may raise, in units of an equal share, shape (n_tests,)."""
    count = len(tests)
    weights = np.ones(count)
    if VOLATILITY_TEST in tests:
        weights[:] = (1 - VOLATILITY_SHARE) * count / (count - 1)
        weights[tests.index(VOLATILITY_TEST)] = VOLATILITY_SHARE * count
    return weights
