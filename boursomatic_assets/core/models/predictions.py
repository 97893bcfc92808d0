"""Predictions of both models: of the two unseen sets, of a fold, of today."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from boursomatic_assets.core.dataset.labels import CLASS_NAMES, LABEL_TYPE
from boursomatic_assets.core.market.bars import PANEL_KEY
from boursomatic_assets.core.measures.classification import PROBABILITIES, VOLATILITY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boursomatic_assets.core.models.training import FittedModel

SET_NAMES = ("validation", "test")
SET_TYPE = pl.Enum(SET_NAMES)
SUM_TOLERANCE = 1e-9
OUTCOMES = ("label", "forward_return", "label_end")
# Marks rows closed at their instrument's last price.
EARLY = "ended_early"


def predict_sets(sets: Mapping[str, pl.DataFrame], classifier: FittedModel, regressor: FittedModel) -> pl.DataFrame:
    """Predict the `validation` and `test` rows of `judged_sets`: `predict_rows`, with `set` after the session."""
    named = [
        predict_rows(sets[name], classifier, regressor).with_columns(set=pl.lit(name, SET_TYPE))
        for name in SET_NAMES
    ]
    panel = pl.concat(named).sort(PANEL_KEY)
    return panel.select(*PANEL_KEY, "set", pl.exclude(*PANEL_KEY, "set"))


def predict_rows(panel: pl.DataFrame, classifier: FittedModel, regressor: FittedModel) -> pl.DataFrame:
    """Predict rows with both models, whether or not their outcome is known.

    The panel has keys, features, `label`, `forward_return` and `label_end`, null while the horizon runs, and for
    judged rows `ended_early`. The result keeps those but the features, and adds `probability_buy`,
    `probability_hold`, `probability_sell`, `predicted_label` (the most probable class, the first of equally
    probable ones), `predicted_return` (fraction) and `vol_20d` (null unless it is a feature of the models); sorted.

    A row's prediction depends on that row alone, to the last bit: today's row is predicted as in a backtest.
    """
    rows = panel.sort(PANEL_KEY)
    forecast = pl.Series("predicted_return", regressor.predict(rows))
    last = [name for name in (VOLATILITY, EARLY) if name == VOLATILITY or name in rows.columns]
    return classify_rows(rows, classifier).with_columns(forecast).select(pl.exclude(last), *last)


def classify_rows(panel: pl.DataFrame, classifier: FittedModel) -> pl.DataFrame:
    """Predict rows with the classifier alone: `predict_rows` without `predicted_return`."""
    rows = panel.sort(PANEL_KEY)
    probabilities = classifier.predict(rows)
    called = np.asarray(CLASS_NAMES)[probabilities.argmax(axis=1)]
    volatility = pl.col(VOLATILITY) if VOLATILITY in classifier.feature_names else pl.lit(None)
    return rows.select(
        *PANEL_KEY,
        *OUTCOMES,
        *(pl.Series(name, probabilities[:, place]) for place, name in enumerate(PROBABILITIES)),
        pl.Series("predicted_label", called, dtype=LABEL_TYPE),
        volatility.cast(pl.Float64).alias(VOLATILITY),
        *(name for name in rows.columns if name == EARLY),
    )


def set_of(predictions: pl.DataFrame, name: str) -> pl.DataFrame:
    """Rows of one set out of `predict_sets`, without the column `set`."""
    return predictions.filter(pl.col("set") == name).drop("set")


def prediction_faults(
    predictions: pl.DataFrame, train_set: pl.DataFrame, sets: Mapping[str, pl.DataFrame]
) -> list[str]:
    """Describe every reason why predictions are not out of sample, complete and valid; empty if there is none.

    `sets` has the keys of the `validation` and `test` rows. The audit reads what is stored, every row of it, and
    shares no code with the prediction.
    """
    named = [sets[name].select(*PANEL_KEY, set=pl.lit(name, SET_TYPE)) for name in SET_NAMES]
    wanted, key = pl.concat(named), [*PANEL_KEY, "set"]
    learned_by = train_set["label_end"].max()
    probabilities = predictions.select(PROBABILITIES).to_numpy()
    # A comparison with NaN is false, so NaN counts as invalid.
    valid = ((probabilities >= 0) & (probabilities <= 1)).all(axis=1)
    valid &= np.abs(probabilities.sum(axis=1) - 1) <= SUM_TOLERANCE
    finite = np.isfinite(predictions["predicted_return"].to_numpy())
    counts = {
        f"rows at or before {learned_by!s}, where the training labels end": predictions.filter(
            pl.col("session") <= learned_by
        ).height,
        "rows of neither set": predictions.join(wanted, on=key, how="anti").height,
        "rows of a set that are not predicted": wanted.join(predictions, on=key, how="anti").height,
        "rows predicted twice": predictions.height - predictions.select(key).unique().height,
        "rows whose probabilities are outside 0 and 1 or do not sum to 1": int((~valid).sum()),
        "rows whose forecast is no finite number": int((~finite).sum()),
    }
    return [f"{count} {what}" for what, count in counts.items() if count]
