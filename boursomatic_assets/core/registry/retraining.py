"""From a label panel to everything that a bundle holds, in one call.

The assets do the same steps one by one and store each. Here nothing is stored: versions are reproduced this way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from boursomatic_assets.core.dataset.splits import Split, judged_sets, split_panel
from boursomatic_assets.core.evaluation.metrics import measure
from boursomatic_assets.core.models.predictions import classify_rows, predict_sets
from boursomatic_assets.core.models.threshold import Threshold, threshold_of
from boursomatic_assets.core.models.training import FittedModel, feature_importance, fit_classifier, fit_regressor

if TYPE_CHECKING:
    import polars as pl

    from boursomatic_assets.core.dataset.experiment import Experiment


@dataclass(frozen=True)
class Retrained:
    """What one training makes of a label panel."""

    split: Split
    classifier: FittedModel
    regressor: FittedModel
    predictions: pl.DataFrame
    threshold: Threshold
    metrics_json: dict[str, Any]
    importance: pl.DataFrame


def retrain(
    labels: pl.DataFrame, experiment: Experiment, threads: int = 0, closes: pl.DataFrame | None = None
) -> Retrained:
    """Split a label panel, train, predict, choose the threshold and measure: byte for byte as the assets do.

    Parameters
    ----------
    threads : int
        0 for all cores. Changes the time taken, never the result.
    closes : DataFrame, optional
        For the books, as `closes_of_books` returns them; by default the closes of the labels, each day a session.

    Raises
    ------
    NotEnoughHistoryError
        If a set would be empty.
    DegenerateLabelsError
        If a class never occurs in the training rows.
    """
    split = split_panel(labels, experiment)
    classifier = fit_classifier(split.train, experiment, threads)
    regressor = fit_regressor(split.train, experiment, threads)
    judged = judged_sets({"validation": split.validation, "test": split.test}, labels, experiment)
    predictions = predict_sets(judged, classifier, regressor)
    threshold = threshold_of(predictions, experiment)
    if closes is None:
        # With the symbol as exchange, each of its days is a session.
        closes = labels.select("symbol", "session", "close", exchange="symbol")
    metrics = measure(predictions, threshold.tau, classify_rows(split.train, classifier), closes, experiment)
    return Retrained(
        split=split,
        classifier=classifier,
        regressor=regressor,
        predictions=predictions,
        threshold=threshold,
        metrics_json=metrics.to_json(),
        importance=feature_importance(classifier, regressor),
    )
