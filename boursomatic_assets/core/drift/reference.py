"""The reference profile of a model: what its training panel looked like, with which new windows are compared.

Alarm levels follow from the same statistics between windows of the training panel. Events rarer than those windows
show are covered by a model of the tail beyond the 90 % quantile.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from boursomatic_assets.core.dataset.labels import CLASS_NAMES
from boursomatic_assets.core.drift.distances import CELLS_IN_A_BIN, bin_shares
from boursomatic_assets.core.drift.prediction_windows import (
    PREDICTION_COLUMNS,
    PREDICTION_STATISTICS,
    prediction_statistics,
)
from boursomatic_assets.core.drift.windows import (
    BASELINE,
    FEATURE_STATISTICS,
    PREDICTIONS,
    SMALLEST_CHANGE,
    SMALLEST_SPREAD,
    WINDOW,
    Scale,
    Sessions,
    correlation_changes,
    feature_statistics,
    full_sessions,
    summed_up,
    training_cells,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl

    from boursomatic_assets.core.dataset.experiment import Experiment

# Fewer windows do not determine a tail: no level is set.
LEAST_WINDOWS = 100
TAIL_SHARE = 0.1
BODY = np.linspace(0.0, 1 - TAIL_SHARE, 19)
NO_SPREAD = 1e-12


@dataclass(frozen=True)
class Tail:
    """Distribution of one statistic between past windows.

    `body` holds its quantiles up to 90 %, `excess` the mean distance beyond the last of them. `clusters` counts the
    independent events there (exceedances less than a window apart are one), `windows` the overlapping past windows.
    """

    body: tuple[float, ...]
    excess: float
    clusters: int
    windows: int

    @classmethod
    def of(cls, history: np.ndarray) -> Tail:
        """Fit the distribution to the statistic of past windows in time order, shape (n_windows,)."""
        body = np.quantile(history, BODY)
        beyond = np.flatnonzero(history > body[-1])
        events = int((np.diff(beyond) >= WINDOW).sum()) + 1 if len(beyond) else 0
        excess = float((history[beyond] - body[-1]).mean()) if events else 0.0
        return cls(tuple(map(float, body)), excess, events, len(history))

    def p_values(self, values: np.ndarray) -> np.ndarray:
        """Probability, in (0, 1], of a value at least so large between two past windows; shape of `values`.

        Notes ----- Beyond the 90 % quantile the excess is exponential, its mean known from `clusters` events only:
        the predictive probability of an excess x is (1 + x / (clusters * excess)) ** -clusters. Without an
        exceedance only the number of independent windows is known.
        """
        inside = 1 - np.interp(values, self.body, BODY)
        over = np.maximum(values - self.body[-1], 0.0)
        if self.clusters:
            outside = TAIL_SHARE * (1 + over / (self.clusters * self.excess)) ** -float(self.clusters)
        else:
            outside = np.full(len(over), 1 / (self.windows / WINDOW + 1))
        chances: np.ndarray = np.where(over > 0, np.minimum(outside, inside), inside)
        return chances

    def level(self, p_value: float) -> float:
        """The value that has this p-value; NaN where none does."""
        if p_value >= TAIL_SHARE:
            return float(np.interp(1 - p_value, BODY, self.body))
        if not self.clusters:
            return float("nan")
        stretch = float((p_value / TAIL_SHARE) ** (-1 / self.clusters)) - 1
        return self.body[-1] + self.clusters * self.excess * stretch


def build_reference(train_set: pl.DataFrame, predictions: pl.DataFrame, experiment: Experiment) -> dict[str, Any]:
    """Describe a model's training panel and its predictions of the sessions after, as strict JSON of about 80 kB.

    Of each feature its equal-mass bins and quantiles, rank correlations, class mix and mean p(BUY); for each
    statistic how it changed between past windows. With fewer than 100 windows a statistic has no history, and
    raises no alarm.
    """
    rows = full_sessions(train_set, experiment.features)
    cells = training_cells(rows, experiment.features)
    sessions = summed_up(rows, experiment.features, cells)
    spread = sessions.spread.mean(axis=0)
    changes = correlation_changes(sessions)
    usual = np.sqrt((changes**2).mean(axis=0)) if len(changes) else np.zeros(sessions.correlation.shape[1:])
    floor = np.maximum(SMALLEST_SPREAD * spread, NO_SPREAD)
    scale = Scale(experiment.features, cells, floor, np.maximum(usual, SMALLEST_CHANGE))
    return {
        "window": WINDOW,
        "baseline": BASELINE,
        "first_session": str(sessions.dates[0]),
        "last_session": str(sessions.dates[-1]),
        "sessions": len(sessions),
        "rows": rows.height,
        "features": _feature_profiles(sessions, scale),
        "rank_correlation": {
            "values": sessions.correlation.mean(axis=0).tolist(),
            "usual_change": scale.usual_change.tolist(),
        },
        "predictions": _prediction_profile(predictions),
        "history": [*_feature_history(sessions, scale), *_prediction_history(predictions)],
    }


def _feature_profiles(sessions: Sessions, scale: Scale) -> list[dict[str, Any]]:
    """One profile per feature, as a list: strict JSON sorts keys, and matrices follow the features' order."""
    counts = sessions.counts.sum(axis=0)
    return [
        {
            "name": name,
            "edges": scale.cells[place, CELLS_IN_A_BIN - 1 :: CELLS_IN_A_BIN].tolist(),
            "shares": bin_shares(counts[place]).tolist(),
            "quantiles": scale.cells[place].tolist(),
            "counts": counts[place].tolist(),
            "spread": float(sessions.spread[:, place].mean()),
            "spread_floor": float(scale.spread_floor[place]),
            "asymmetry": float(sessions.asymmetry[:, place].mean()),
        }
        for place, name in enumerate(scale.features)
    ]


def _prediction_profile(predictions: pl.DataFrame) -> dict[str, Any]:
    called = predictions["predicted_label"].cast(str)
    return {
        "rows": predictions.height,
        "class_mix": {name: float((called == name).sum() / predictions.height) for name in CLASS_NAMES},
        "mean_probability_buy": float(predictions["probability_buy"].sum() / predictions.height),
    }


def _feature_history(sessions: Sessions, scale: Scale) -> list[dict[str, Any]]:
    if len(sessions) - BASELINE - WINDOW + 1 < LEAST_WINDOWS:
        return []
    values = feature_statistics(sessions, scale)
    return [
        _history(name, statistic, values[:, row, column])
        for row, statistic in enumerate(FEATURE_STATISTICS)
        for column, name in enumerate(scale.features)
    ]


def _prediction_history(predictions: pl.DataFrame) -> list[dict[str, Any]]:
    dates, values = prediction_statistics(
        full_sessions(predictions.select("symbol", "session", *PREDICTION_COLUMNS))
    )
    if len(dates) - BASELINE - WINDOW + 1 < LEAST_WINDOWS:
        return []
    return [
        _history(PREDICTIONS, statistic, values[:, column])
        for column, statistic in enumerate(PREDICTION_STATISTICS)
    ]


def _history(feature: str, statistic: str, values: np.ndarray) -> dict[str, Any]:
    tail = Tail.of(values)
    return {"feature": feature, "statistic": statistic, **asdict(tail), "body": list(tail.body)}


@dataclass(frozen=True)
class Reference:
    """A reference profile for detection; `training` is the training panel as one session."""

    scale: Scale
    training: Sessions
    tails: dict[tuple[str, str], Tail]
    class_mix: tuple[float, ...]
    mean_probability_buy: float

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Reference:
        """Read the result of `build_reference`, from a bundle's `reference.json`."""
        profiles, correlation = stored["features"], stored["rank_correlation"]

        def each(key: str) -> np.ndarray:
            return np.array([profile[key] for profile in profiles], dtype=np.float64)

        names = tuple(profile["name"] for profile in profiles)
        scale = Scale(names, each("quantiles"), each("spread_floor"), np.array(correlation["usual_change"]))
        training = Sessions(
            dates=[],
            counts=each("counts")[None],
            spread=each("spread")[None],
            asymmetry=each("asymmetry")[None],
            correlation=np.array(correlation["values"])[None],
        )
        tails = {
            (row["feature"], row["statistic"]): Tail(
                tuple(row["body"]), row["excess"], row["clusters"], row["windows"]
            )
            for row in stored["history"]
        }
        said = stored["predictions"]
        mix = tuple(said["class_mix"][name] for name in CLASS_NAMES)
        return cls(scale, training, tails, mix, said["mean_probability_buy"])
