"""From a label panel to everything that a model's bundle holds, in one call.

The assets do the same steps one by one, and store what is between them. Here nothing is stored: this is how a
version is made again from its training panel, and how many panels are judged one after another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from boursomatic_assets.core.dataset.splits import Split, judged_sets, split_panel
from boursomatic_assets.core.evaluation.metrics import measure
from boursomatic_assets.core.models.predictions import predict_sets
from boursomatic_assets.core.models.threshold import Threshold, threshold_of
from boursomatic_assets.core.models.training import FittedModel, feature_importance, fit_classifier, fit_regressor

if TYPE_CHECKING:
    import polars as pl

    from boursomatic_assets.core.dataset.experiment import Experiment


@dataclass(frozen=True)
class Retrained:
    """What one training makes of a label panel.

    Attributes
    ----------
    split : Split
    classifier, regressor : FittedModel
    predictions : DataFrame
        As `predict_sets` gives it.
    threshold : Threshold
    metrics_json : dict
        Strict JSON, as the bundle's `metrics.json` holds it.
    importance : DataFrame
        As `feature_importance` gives it.
    """

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
    """Split a label panel, train both models, predict, choose the threshold and measure.

    Parameters
    ----------
    labels : DataFrame
        As `label_panel` gives it.
    experiment : Experiment
    threads : int
        0 for all cores. Changes the time taken, never what is made.
    closes : DataFrame, optional
        As `closes_of_books` gives it, for the books. Without it they follow the closes of the labels, and each day
        with a row is a session, as it is for a version whose labels hold all that its books need.

    Returns
    -------
    Retrained
        Byte for byte what the assets make of the same panel and experiment.

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
        # A symbol that is its own exchange has a session on each of its days.
        closes = labels.select("symbol", "session", "close", exchange="symbol")
    metrics = measure(predictions, threshold.tau, split.train, classifier, closes, experiment)
    return Retrained(
        split=split,
        classifier=classifier,
        regressor=regressor,
        predictions=predictions,
        threshold=threshold,
        metrics_json=metrics.to_json(),
        importance=feature_importance(classifier, regressor),
    )
