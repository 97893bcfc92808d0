from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from boursomatic_assets.core.dataset.experiment import BoosterParameters, Experiment
from boursomatic_assets.core.dataset.features import DEFAULT_INPUTS, compute_features
from boursomatic_assets.core.dataset.labels import CLASS_NAMES, label_panel
from boursomatic_assets.core.dataset.splits import Split, split_panel
from boursomatic_assets.core.models.training import (
    FittedModel,
    feature_importance,
    fit_classifier,
    fit_regressor,
    model_matrix,
)
from boursomatic_assets.errors import DegenerateLabelsError
from boursomatic_assets_tests.support.labelled import TELLTALE, signal_rows
from boursomatic_assets_tests.support.strategies import random_walk_bars

Fit = Callable[[pl.DataFrame, Experiment, int], FittedModel]
FEW_TREES = BoosterParameters(n_estimators=10)
EXPERIMENT = Experiment(classifier=FEW_TREES, regressor=FEW_TREES)


@pytest.fixture(scope="module")
def split() -> Split:
    """Sets of a panel without signal."""
    bars = random_walk_bars(symbols=4, sessions=300, seed=0)
    return split_panel(label_panel(compute_features(bars), bars, EXPERIMENT), EXPERIMENT)


@pytest.fixture(scope="module")
def classifier(split: Split) -> FittedModel:
    return fit_classifier(split.train, EXPERIMENT, threads=1)


@pytest.fixture(scope="module")
def regressor(split: Split) -> FittedModel:
    return fit_regressor(split.train, EXPERIMENT, threads=1)


@pytest.mark.parametrize("fit", [fit_classifier, fit_regressor])
@pytest.mark.parametrize("threads", [0, 1, 2, 3])
def test_fit_gives_the_same_text_at_any_thread_count(split: Split, fit: Fit, threads: int) -> None:
    assert fit(split.train, EXPERIMENT, threads).text == fit(split.train, EXPERIMENT, 1).text


@pytest.mark.slow
@pytest.mark.parametrize("fit", [fit_classifier, fit_regressor])
def test_fit_gives_the_same_text_for_many_rows(fit: Fit) -> None:
    # 60,000 rows: several blocks per thread, whose sums of gradients could come in another order
    rng = np.random.default_rng(4)
    forward_return = 0.05 * rng.standard_t(3, 60_000)
    rows = pl.DataFrame({name: rng.normal(size=60_000) for name in DEFAULT_INPUTS}).with_columns(
        forward_return=pl.Series(forward_return),
        label=pl.Series(np.where(forward_return >= 0.05, "BUY", np.where(forward_return <= -0.02, "SELL", "HOLD"))),
    )
    assert fit(rows, EXPERIMENT, 1).text == fit(rows, EXPERIMENT, 2).text


def test_fit_writes_the_parameters_of_the_experiment(classifier: FittedModel, regressor: FittedModel) -> None:
    expected = {
        "objective: multiclass", "num_class: 3", "num_iterations: 10", "learning_rate: 0.05", "max_depth: 5",
        "num_leaves: 31", "min_data_in_leaf: 20", "bagging_fraction: 0.8", "bagging_freq: 1",
        "feature_fraction: 0.8", "seed: 42", "deterministic: 1", "force_row_wise: 1",
    }  # fmt: skip
    assert {f"[{line}]" for line in expected} <= set(classifier.text.splitlines())
    assert "[objective: regression]" in regressor.text.splitlines()


@pytest.mark.parametrize(
    "change",
    [
        {"classifier": {"subsample": 1.0}}, {"classifier": {"colsample_bytree": 1.0}},
        {"classifier": {"learning_rate": 0.1}}, {"classifier": {"max_depth": 2}}, {"classifier": {"num_leaves": 4}},
        {"classifier": {"min_child_samples": 60}}, {"classifier": {"subsample_freq": 5}}, {"seed": 43},
    ],
    ids=str,
)  # fmt: skip
def test_every_parameter_changes_the_trees(split: Split, classifier: FittedModel, change: dict[str, Any]) -> None:
    booster = {"n_estimators": 10} | change.get("classifier", {})
    other = fit_classifier(split.train, Experiment.parse(change | {"classifier": booster}), threads=1)
    # compare the trees, not the list of parameters at the end of the text
    assert other.text.split("parameters:")[0] != classifier.text.split("parameters:")[0]


def test_each_model_ignores_the_other_ones_parameters(
    split: Split, classifier: FittedModel, regressor: FittedModel
) -> None:
    other = BoosterParameters(n_estimators=3)
    for fit, fitted, ignored in (
        (fit_classifier, classifier, "regressor"),
        (fit_regressor, regressor, "classifier"),
    ):
        assert fit(split.train, EXPERIMENT.model_copy(update={ignored: other}), threads=1).text == fitted.text


def test_predict_gives_probabilities_that_sum_to_one(split: Split, classifier: FittedModel) -> None:
    probabilities = classifier.predict(split.test)
    assert probabilities.shape == (split.test.height, 3)
    assert ((probabilities > 0) & (probabilities < 1)).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)


def test_estimator_predicts_the_same_as_the_text(
    split: Split, classifier: FittedModel, regressor: FittedModel
) -> None:
    matrix = model_matrix(split.test, DEFAULT_INPUTS)
    theirs = classifier.estimator().predict_proba(matrix)
    np.testing.assert_allclose(classifier.predict(split.test), theirs, rtol=0, atol=1e-12)
    assert regressor.predict(split.test).shape == (split.test.height,)
    forecasts = regressor.estimator().predict(matrix)
    np.testing.assert_allclose(regressor.predict(split.test), forecasts, rtol=0, atol=1e-12)


def test_models_and_estimators_know_their_features_and_classes(
    classifier: FittedModel, regressor: FittedModel
) -> None:
    assert classifier.feature_names == regressor.feature_names == DEFAULT_INPUTS
    assert classifier.class_names == CLASS_NAMES
    assert regressor.class_names == ()
    assert list(classifier.estimator().feature_names_in_) == list(DEFAULT_INPUTS)
    assert list(classifier.estimator().classes_) == ["BUY", "HOLD", "SELL"]
    assert list(regressor.estimator().feature_names_in_) == list(DEFAULT_INPUTS)


def test_predict_depends_on_the_text_and_the_row_alone(split: Split, classifier: FittedModel) -> None:
    whole = classifier.predict(split.test)
    read_back = FittedModel(classifier.text, b"", classifier.feature_names, classifier.class_names)
    np.testing.assert_array_equal(read_back.predict(split.test), whole)
    np.testing.assert_array_equal(classifier.predict(split.test[7:8]), whole[7:8])
    np.testing.assert_array_equal(classifier.predict(split.test.reverse()), whole[::-1])
    turned = split.test.select(split.test.columns[::-1])
    np.testing.assert_array_equal(classifier.predict(turned), whole)
    shocked = split.test.with_columns(
        pl.when(pl.int_range(pl.len()) < 10).then(name).otherwise(1e6).alias(name) for name in DEFAULT_INPUTS
    )
    np.testing.assert_array_equal(classifier.predict(shocked)[:10], whole[:10])
    assert not np.array_equal(classifier.predict(shocked), whole)


def test_feature_importance_begins_with_the_largest_gain() -> None:
    rows = signal_rows()
    table = feature_importance(fit_classifier(rows, TELLTALE, threads=1), fit_regressor(rows, TELLTALE, threads=1))
    assert table.columns == [
        "feature", "classifier_gain", "classifier_splits", "regressor_gain", "regressor_splits",
    ]  # fmt: skip
    # ret_1d explains everything, vol_20d is noise: no split on it gains more than rounding
    assert table["feature"].to_list() == ["ret_1d", "vol_20d"]
    for name in ("classifier_gain", "regressor_gain"):
        assert table[name].sum() == pytest.approx(1, rel=1e-12)
        assert table[name][0] > 0.99
    assert table["regressor_splits"][0] > 0
    assert table.schema["classifier_splits"] == pl.Int64()


def test_feature_importance_without_splits_is_zero() -> None:
    # constant features: no tree has a split, and 0 / 0 must not become NaN
    rows = signal_rows().with_columns(ret_1d=pl.lit(1.0), vol_20d=pl.lit(1.0))
    table = feature_importance(fit_classifier(rows, TELLTALE, threads=1), fit_regressor(rows, TELLTALE, threads=1))
    assert table.drop("feature").sum().row(0) == (0, 0, 0, 0)
    assert table["feature"].to_list() == ["ret_1d", "vol_20d"]


@pytest.mark.parametrize(
    ("kept", "mix"),
    [
        (["HOLD", "SELL"], "{'BUY': 0, 'HOLD': 20, 'SELL': 20} in 40 rows"),
        (["BUY", "SELL"], "{'BUY': 20, 'HOLD': 0, 'SELL': 20} in 40 rows"),
        (["BUY", "HOLD"], "{'BUY': 20, 'HOLD': 20, 'SELL': 0} in 40 rows"),
        (["HOLD"], "{'BUY': 0, 'HOLD': 20, 'SELL': 0} in 20 rows"),
    ],
)
def test_fit_classifier_refuses_rows_without_a_class(kept: list[str], mix: str) -> None:
    rows = signal_rows().filter(pl.col("label").cast(pl.String).is_in(kept))
    with pytest.raises(DegenerateLabelsError, match=re.escape(mix)):
        fit_classifier(rows, TELLTALE, threads=1)


def test_fit_and_predict_accept_nulls() -> None:
    rows = signal_rows()
    gaps = rows.with_columns(vol_20d=pl.when(pl.int_range(pl.len()) % 2 == 0).then("vol_20d"))
    assert gaps["vol_20d"].null_count() == 30
    unknown = gaps.with_columns(vol_20d=pl.lit(None, pl.Float64))
    probabilities = fit_classifier(gaps, TELLTALE, threads=1).predict(unknown)
    assert [CLASS_NAMES[place] for place in probabilities.argmax(axis=1)] == rows["label"].to_list()
    forecasts = fit_regressor(gaps, TELLTALE, threads=1).predict(unknown)
    np.testing.assert_allclose(forecasts, rows["forward_return"], atol=1e-3)


def test_model_matrix_is_float32_with_named_columns_in_order() -> None:
    matrix = model_matrix(signal_rows().with_columns(vol_20d=pl.lit(None, pl.Float64)), ("vol_20d", "ret_1d"))
    assert list(matrix.columns) == ["vol_20d", "ret_1d"]
    assert [str(dtype) for dtype in matrix.dtypes] == ["float32", "float32"]
    assert matrix["vol_20d"].isna().all()
    assert matrix["ret_1d"].tolist()[:3] == [-1.0, 0.0, 1.0]
