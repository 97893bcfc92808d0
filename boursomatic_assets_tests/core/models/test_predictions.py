from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from boursomatic_assets.core.dataset.experiment import BoosterParameters, Experiment
from boursomatic_assets.core.dataset.features import compute_features
from boursomatic_assets.core.dataset.labels import LABEL_TYPE, label_panel, unlabelled_rows
from boursomatic_assets.core.dataset.splits import Split, split_panel
from boursomatic_assets.core.models.predictions import (
    classify_rows,
    predict_rows,
    predict_sets,
    prediction_faults,
    set_of,
)
from boursomatic_assets.core.models.training import FittedModel, fit_classifier, fit_regressor
from boursomatic_assets_tests.support.labelled import TELLTALE, signal_rows
from boursomatic_assets_tests.support.strategies import random_walk_bars

if TYPE_CHECKING:
    from collections.abc import Callable

FEW_TREES = BoosterParameters(n_estimators=10)
EXPERIMENT = Experiment(classifier=FEW_TREES, regressor=FEW_TREES, horizon=5)
COLUMNS = [
    "symbol", "session", "label", "forward_return", "label_end",
    "probability_buy", "probability_hold", "probability_sell", "predicted_label", "predicted_return", "vol_20d",
]  # fmt: skip
Models = tuple[FittedModel, FittedModel]


def labels_of(bars: pl.DataFrame) -> pl.DataFrame:
    return label_panel(compute_features(bars), bars, EXPERIMENT)


@pytest.fixture(scope="module")
def labels() -> pl.DataFrame:
    return labels_of(random_walk_bars(symbols=4, sessions=260, seed=0))


@pytest.fixture(scope="module")
def split(labels: pl.DataFrame) -> Split:
    return split_panel(labels, EXPERIMENT)


@pytest.fixture(scope="module")
def models(split: Split) -> Models:
    return fit_classifier(split.train, EXPERIMENT, 1), fit_regressor(split.train, EXPERIMENT, 1)


def unseen(split: Split) -> dict[str, pl.DataFrame]:
    return {"validation": split.validation, "test": split.test}


@pytest.fixture(scope="module")
def predictions(split: Split, models: Models) -> pl.DataFrame:
    return predict_sets(unseen(split), *models)


def test_predict_rows_has_a_column_per_class() -> None:
    rows = signal_rows()
    models = fit_classifier(rows, TELLTALE, threads=1), fit_regressor(rows, TELLTALE, threads=1)
    predicted = predict_rows(rows, *models)
    assert predicted.columns == COLUMNS
    assert predicted.schema["predicted_label"] == LABEL_TYPE
    assert predicted["predicted_label"].equals(predicted["label"])
    for row in predicted.iter_rows(named=True):
        greatest = max("BUY", "HOLD", "SELL", key=lambda name: row[f"probability_{name.lower()}"])
        assert greatest == row["label"]
        assert row["predicted_return"] == pytest.approx(row["forward_return"], abs=1e-3)


def test_predict_rows_keeps_keys_outcomes_and_volatility(split: Split, models: Models) -> None:
    predicted = predict_rows(split.test, *models)
    kept = ["symbol", "session", "label", "forward_return", "label_end", "vol_20d"]
    assert_frame_equal(predicted.select(kept), split.test.select(kept), check_exact=True)


def test_predict_rows_without_the_volatility_feature() -> None:
    rows = signal_rows()
    narrow = TELLTALE.model_copy(update={"features": ("ret_1d",)})
    models = fit_classifier(rows, narrow, threads=1), fit_regressor(rows, narrow, threads=1)
    predicted = predict_rows(rows, *models)
    assert predicted.columns == COLUMNS
    assert predicted["vol_20d"].to_list() == [None] * 60
    assert predicted.schema["vol_20d"] == pl.Float64


def test_classify_rows_is_predict_rows_without_a_forecast(split: Split, models: Models) -> None:
    expected = predict_rows(split.test, *models).drop("predicted_return")
    assert_frame_equal(classify_rows(split.test, models[0]), expected, check_exact=True)


def test_predict_sets_names_each_set(split: Split, models: Models, predictions: pl.DataFrame) -> None:
    assert predictions.columns == [*COLUMNS[:2], "set", *COLUMNS[2:]]
    assert predictions.schema["set"] == pl.Enum(["validation", "test"])
    assert predictions.select("symbol", "session").equals(predictions.select("symbol", "session").sort(pl.all()))
    for name, panel in unseen(split).items():
        assert_frame_equal(set_of(predictions, name), predict_rows(panel, *models), check_exact=True)


def test_predict_rows_of_today_are_those_of_a_backtest(labels: pl.DataFrame, models: Models) -> None:
    # the five newest sessions of four symbols have no outcome yet
    today = unlabelled_rows(labels)
    assert today.height == 20
    alone, among_all = predict_rows(today, *models), predict_rows(labels, *models)
    assert alone["label"].null_count() == alone["label_end"].null_count() == 20
    assert_frame_equal(alone, unlabelled_rows(among_all), check_exact=True)
    for row in range(alone.height):
        assert_frame_equal(predict_rows(today[row : row + 1], *models), alone[row : row + 1], check_exact=True)


def test_predict_sets_does_not_depend_on_row_order(split: Split, models: Models, predictions: pl.DataFrame) -> None:
    shuffled = {name: panel.sample(fraction=1.0, shuffle=True, seed=3) for name, panel in unseen(split).items()}
    assert_frame_equal(predict_sets(shuffled, *models), predictions, check_exact=True)


def test_predict_rows_does_not_depend_on_other_instruments(labels: pl.DataFrame, models: Models) -> None:
    stranger = labels_of(random_walk_bars(symbols=1, sessions=260, seed=9)).with_columns(symbol=pl.lit("A"))
    with_stranger = predict_rows(pl.concat([stranger, labels]), *models)
    kept = with_stranger.filter(pl.col("symbol") != "A")
    assert_frame_equal(kept, predict_rows(labels, *models), check_exact=True)


def test_prediction_faults_of_sound_predictions(split: Split, predictions: pl.DataFrame) -> None:
    assert prediction_faults(predictions, split.train, unseen(split)) == []


def changed(column: str, value: pl.Expr) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """Plant a value in the first row."""
    first = pl.int_range(pl.len()) == 0
    return lambda rows: rows.with_columns(pl.when(first).then(value).otherwise(column).alias(column))


@pytest.mark.parametrize(
    ("plant", "fault"),
    [
        (lambda rows: rows.tail(-2), "2 rows of a set that are not predicted"),
        (lambda rows: pl.concat([rows, rows.head(3)]), "3 rows predicted twice"),
        (changed("symbol", pl.lit("ELSE")), "1 rows of neither set"),
        (changed("set", pl.lit("test", pl.Enum(["validation", "test"]))), "1 rows of neither set"),
        (changed("probability_buy", pl.col("probability_buy") + 1e-6), "1 rows whose probabilities are outside"),
        (changed("probability_buy", pl.lit(float("nan"))), "1 rows whose probabilities are outside"),
        (changed("probability_buy", pl.lit(None)), "1 rows whose probabilities are outside"),
        (
            lambda rows: changed("probability_sell", pl.lit(1.2) - pl.col("probability_hold"))(
                changed("probability_buy", pl.lit(-0.2))(rows)
            ),
            "1 rows whose probabilities are outside",
        ),
        (changed("predicted_return", pl.lit(float("inf"))), "1 rows whose forecast is no finite number"),
        (changed("predicted_return", pl.lit(None)), "1 rows whose forecast is no finite number"),
    ],
)
def test_prediction_faults_find_a_planted_fault(
    split: Split, predictions: pl.DataFrame, plant: Callable[[pl.DataFrame], pl.DataFrame], fault: str
) -> None:
    faults = prediction_faults(plant(predictions), split.train, unseen(split))
    assert any(found.startswith(fault) for found in faults), faults


def test_prediction_faults_find_a_missing_purge(split: Split, predictions: pl.DataFrame) -> None:
    # labels of the training set that end three weeks into the validation set: a split without a purge
    until = predictions["session"].min() + timedelta(days=20)
    reaching = split.train.with_columns(label_end=pl.lit(until))
    reached = predictions.filter(pl.col("session") <= until).height
    faults = prediction_faults(predictions, reaching, unseen(split))
    assert faults == [f"{reached} rows at or before {until}, where the training labels end"]
