from __future__ import annotations

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from boursomatic_assets.core.dataset.experiment import BoosterParameters, Experiment
from boursomatic_assets.core.dataset.features import compute_features
from boursomatic_assets.core.dataset.labels import label_panel
from boursomatic_assets.core.dataset.splits import judged_sets, split_panel
from boursomatic_assets.core.evaluation.metrics import measure
from boursomatic_assets.core.models.predictions import classify_rows, predict_sets
from boursomatic_assets.core.models.threshold import threshold_of, with_calls
from boursomatic_assets.core.models.training import feature_importance, fit_classifier, fit_regressor
from boursomatic_assets.core.registry.bundle import strict_json
from boursomatic_assets.core.registry.retraining import Retrained, retrain
from boursomatic_assets_tests.support.strategies import random_walk_bars

FEW_TREES = BoosterParameters(n_estimators=10)
EXPERIMENT = Experiment(classifier=FEW_TREES, regressor=FEW_TREES, horizon=5, bootstrap_draws=200)


@pytest.fixture(scope="module")
def labels() -> pl.DataFrame:
    bars = random_walk_bars(symbols=5, sessions=260, seed=1)
    return label_panel(compute_features(bars), bars, EXPERIMENT)


@pytest.fixture(scope="module")
def made(labels: pl.DataFrame) -> Retrained:
    return retrain(labels, EXPERIMENT, threads=1)


def test_one_call_makes_what_the_steps_make_one_by_one(labels: pl.DataFrame, made: Retrained) -> None:
    split = split_panel(labels, EXPERIMENT)
    models = fit_classifier(split.train, EXPERIMENT, 1), fit_regressor(split.train, EXPERIMENT, 1)
    judged = judged_sets({"validation": split.validation, "test": split.test}, labels, EXPERIMENT)
    predictions = predict_sets(judged, *models)
    threshold = threshold_of(predictions, EXPERIMENT)
    # Without closes of their own the books follow those of the labels, each of whose days is a session.
    closes = labels.select("symbol", "session", "close", exchange="symbol")
    metrics = measure(predictions, threshold.tau, classify_rows(split.train, models[0]), closes, EXPERIMENT)
    for name, panel in split.sets().items():
        assert_frame_equal(made.split.sets()[name], panel, check_exact=True)
    assert (made.classifier.text, made.regressor.text) == tuple(model.text for model in models)
    assert_frame_equal(made.predictions, predictions, check_exact=True)
    assert made.threshold.to_json() == threshold.to_json()
    assert strict_json(made.metrics_json) == strict_json(metrics.to_json())
    assert_frame_equal(made.importance, feature_importance(*models), check_exact=True)


def test_the_same_panel_makes_the_same_bytes_at_any_thread_count_and_in_any_order(
    labels: pl.DataFrame, made: Retrained
) -> None:
    again = retrain(labels.clone(), EXPERIMENT, threads=2)
    assert again.classifier.text == made.classifier.text
    assert strict_json(again.metrics_json) == strict_json(made.metrics_json)
    assert again.metrics_json["threshold"] == made.threshold.tau


def test_books_follow_the_closes_that_are_given_and_else_those_of_the_labels(
    labels: pl.DataFrame, made: Retrained
) -> None:
    same = labels.select("symbol", "session", "close")
    assert strict_json(retrain(labels, EXPERIMENT, 1, same).metrics_json) == strict_json(made.metrics_json)
    # with the prices of another asset the books earn other returns, and nothing else changes
    other = retrain(labels, EXPERIMENT, 1, same.with_columns(pl.col("close") ** 2)).metrics_json
    assert other["test_equal_weight_total_return"] != made.metrics_json["test_equal_weight_total_return"]
    assert other["test_rmse"] == made.metrics_json["test_rmse"]


def test_the_metrics_are_those_of_the_calls_that_the_threshold_makes(made: Retrained) -> None:
    calls = with_calls(made.predictions, made.threshold.tau).filter(pl.col("set") == "test")
    assert made.metrics_json["buy_calls_test"] == (calls["call"] == "BUY").sum()
    assert made.metrics_json["test_accuracy"] == pytest.approx((calls["call"] == calls["label"]).mean(), rel=1e-12)
