from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from boursomatic_assets.core.dataset.experiment import BoosterParameters, Experiment
from boursomatic_assets.core.dataset.features import DEFAULT_INPUTS, compute_features
from boursomatic_assets.core.dataset.labels import CLASS_NAMES, LABEL_TYPE, label_panel
from boursomatic_assets.core.dataset.splits import Split, split_panel
from boursomatic_assets.core.models.training import (
    FittedModel,
    feature_importance,
    fit_classifier,
    fit_regressor,
    model_matrix,
)
from boursomatic_assets.errors import DegenerateLabelsError
from boursomatic_assets_tests.support.strategies import random_walk_bars, weekdays

Fit = Callable[[pl.DataFrame, Experiment, int], FittedModel]
FEW_TREES = BoosterParameters(n_estimators=10)
EXPERIMENT = Experiment(classifier=FEW_TREES, regressor=FEW_TREES)


def with_classifier(**parameters: float) -> Experiment:
    return Experiment.parse({"classifier": {"n_estimators": 10} | parameters})


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
def test_the_same_data_gives_the_same_text_at_any_thread_count(split: Split, fit: Fit, threads: int) -> None:
    assert fit(split.train, EXPERIMENT, threads).text == fit(split.train, EXPERIMENT, 1).text


@pytest.mark.slow
@pytest.mark.parametrize("fit", [fit_classifier, fit_regressor])
def test_enough_rows_to_share_between_threads_give_the_same_text(fit: Fit) -> None:
    # 60,000 rows: several blocks per thread, whose sums of gradients could come in another order
    rng = np.random.default_rng(4)
    forward_return = 0.05 * rng.standard_t(3, 60_000)
    rows = pl.DataFrame({name: rng.normal(size=60_000) for name in DEFAULT_INPUTS}).with_columns(
        forward_return=pl.Series(forward_return),
        label=pl.Series(np.where(forward_return >= 0.05, "BUY", np.where(forward_return <= -0.02, "SELL", "HOLD"))),
    )
    assert fit(rows, EXPERIMENT, 1).text == fit(rows, EXPERIMENT, 2).text


def test_the_texts_parameters_are_those_of_the_experiment(classifier: FittedModel, regressor: FittedModel) -> None:
    for line in (
        "[objective: multiclass]",
        "[num_class: 3]",
        "[num_iterations: 10]",
        "[learning_rate: 0.05]",
        "[max_depth: 5]",
        "[num_leaves: 31]",
        "[min_data_in_leaf: 20]",
        "[bagging_fraction: 0.8]",
        "[bagging_freq: 1]",
        "[feature_fraction: 0.8]",
        "[seed: 42]",
        "[deterministic: 1]",
        "[force_row_wise: 1]",
    ):
        assert line in classifier.text.splitlines()
    assert "[objective: regression]" in regressor.text.splitlines()


@pytest.mark.parametrize(
    "parameters",
    [
        {"subsample": 1.0},
        {"colsample_bytree": 1.0},
        {"learning_rate": 0.1},
        {"max_depth": 2},
        {"num_leaves": 4},
        {"min_child_samples": 60},
        {"subsample_freq": 5},
    ],
    ids=str,
)
def test_every_parameter_is_really_on(split: Split, classifier: FittedModel, parameters: dict[str, float]) -> None:
    other = fit_classifier(split.train, with_classifier(**parameters), threads=1)
    # compare the trees, not the list of parameters at the end of the text
    assert other.text.split("parameters:")[0] != classifier.text.split("parameters:")[0]


def test_the_seed_changes_the_trees(split: Split, classifier: FittedModel) -> None:
    other = fit_classifier(split.train, EXPERIMENT.model_copy(update={"seed": 43}), threads=1)
    assert other.text.split("parameters:")[0] != classifier.text.split("parameters:")[0]


def test_the_classifier_ignores_the_regressors_parameters_and_the_reverse(
    split: Split, classifier: FittedModel, regressor: FittedModel
) -> None:
    other = BoosterParameters(n_estimators=3)
    assert (
        fit_classifier(split.train, EXPERIMENT.model_copy(update={"regressor": other}), threads=1).text
        == classifier.text
    )
    assert (
        fit_regressor(split.train, EXPERIMENT.model_copy(update={"classifier": other}), threads=1).text
        == regressor.text
    )


def test_probabilities_have_a_column_per_class_and_sum_to_one(split: Split, classifier: FittedModel) -> None:
    probabilities = classifier.predict(split.test)
    assert probabilities.shape == (split.test.height, 3)
    assert ((probabilities > 0) & (probabilities < 1)).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)


def test_the_estimator_predicts_the_same_probabilities_as_the_text(split: Split, classifier: FittedModel) -> None:
    estimator = classifier.estimator()
    theirs = estimator.predict_proba(model_matrix(split.test, DEFAULT_INPUTS))
    np.testing.assert_allclose(classifier.predict(split.test), theirs, rtol=0, atol=1e-12)


def test_the_estimator_predicts_the_same_returns_as_the_text(split: Split, regressor: FittedModel) -> None:
    estimator = regressor.estimator()
    theirs = estimator.predict(model_matrix(split.test, DEFAULT_INPUTS))
    assert regressor.predict(split.test).shape == (split.test.height,)
    np.testing.assert_allclose(regressor.predict(split.test), theirs, rtol=0, atol=1e-12)


def test_the_estimator_knows_its_features_and_classes_by_name(
    classifier: FittedModel, regressor: FittedModel
) -> None:
    assert list(classifier.estimator().feature_names_in_) == list(DEFAULT_INPUTS)
    assert list(classifier.estimator().classes_) == ["BUY", "HOLD", "SELL"]
    assert list(regressor.estimator().feature_names_in_) == list(DEFAULT_INPUTS)


def test_a_fitted_model_knows_its_features_and_classes(classifier: FittedModel, regressor: FittedModel) -> None:
    assert classifier.feature_names == regressor.feature_names == DEFAULT_INPUTS
    assert classifier.class_names == CLASS_NAMES
    assert regressor.class_names == ()


def test_a_model_read_back_from_its_text_predicts_the_same(split: Split, classifier: FittedModel) -> None:
    read_back = FittedModel(classifier.text, b"", classifier.feature_names, classifier.class_names)
    np.testing.assert_array_equal(read_back.predict(split.test), classifier.predict(split.test))


def test_a_rows_prediction_never_depends_on_the_other_rows(split: Split, classifier: FittedModel) -> None:
    whole = classifier.predict(split.test)
    np.testing.assert_array_equal(classifier.predict(split.test[7:8]), whole[7:8])
    np.testing.assert_array_equal(classifier.predict(split.test.reverse()), whole[::-1])


def signal_rows(noise_seed: int = 0) -> pl.DataFrame:
    """Sixty rows whose class and return `ret_1d` gives away: -1 SELL, 0 HOLD, +1 BUY."""
    signal = np.tile([-1.0, 0.0, 1.0], 20)
    return pl.DataFrame(
        {
            "symbol": ["AAA"] * 60,
            "session": weekdays(60),
            "ret_1d": signal,
            "vol_20d": np.random.default_rng(noise_seed).uniform(size=60),
            "forward_return": 0.1 * signal,
            "label": pl.Series(np.array(["SELL", "HOLD", "BUY"])[signal.astype(int) + 1], dtype=LABEL_TYPE),
        }
    )


DECISIVE = BoosterParameters(
    n_estimators=30, learning_rate=0.3, min_child_samples=1, subsample=1.0, colsample_bytree=1.0
)
TELLTALE = Experiment(features=("ret_1d", "vol_20d"), classifier=DECISIVE, regressor=DECISIVE)


def test_importance_shares_sum_to_one_and_the_most_gainful_comes_first() -> None:
    rows = signal_rows()
    table = feature_importance(fit_classifier(rows, TELLTALE, threads=1), fit_regressor(rows, TELLTALE, threads=1))
    assert table.columns == [
        "feature",
        "classifier_gain",
        "classifier_splits",
        "regressor_gain",
        "regressor_splits",
    ]
    # ret_1d explains everything, vol_20d is noise: no split on it gains more than rounding
    assert table["feature"].to_list() == ["ret_1d", "vol_20d"]
    assert table["classifier_gain"].sum() == pytest.approx(1, rel=1e-12)
    assert table["regressor_gain"].sum() == pytest.approx(1, rel=1e-12)
    assert table["classifier_gain"][0] > 0.99
    assert table["regressor_gain"][0] > 0.99
    assert table["regressor_splits"][0] > 0
    assert table.schema["classifier_splits"] == pl.Int64()


def test_importance_of_a_model_that_never_splits_is_zero() -> None:
    # constant features: no tree has a split, and 0 / 0 must not become NaN
    rows = signal_rows().with_columns(ret_1d=pl.lit(1.0), vol_20d=pl.lit(1.0))
    table = feature_importance(fit_classifier(rows, TELLTALE, threads=1), fit_regressor(rows, TELLTALE, threads=1))
    assert table.drop("feature").sum().row(0) == (0, 0, 0, 0)
    assert table["feature"].to_list() == ["ret_1d", "vol_20d"]


@pytest.mark.parametrize("missing", CLASS_NAMES)
def test_training_rows_without_one_of_the_classes_are_refused(missing: str) -> None:
    rows = signal_rows().filter(pl.col("label") != missing)
    with pytest.raises(DegenerateLabelsError) as caught:
        fit_classifier(rows, TELLTALE, threads=1)
    assert f"'{missing}': 0" in str(caught.value)
    assert "in 40 rows" in str(caught.value)


def test_training_rows_of_a_single_class_are_refused() -> None:
    rows = signal_rows().filter(pl.col("label") == "HOLD")
    with pytest.raises(DegenerateLabelsError, match=r"\{'BUY': 0, 'HOLD': 20, 'SELL': 0\} in 20 rows"):
        fit_classifier(rows, TELLTALE, threads=1)


def test_nulls_in_the_features_are_accepted_in_training_and_prediction() -> None:
    rows = signal_rows()
    gaps = rows.with_columns(vol_20d=pl.when(pl.int_range(pl.len()) % 2 == 0).then("vol_20d"))
    assert gaps["vol_20d"].null_count() == 30
    unknown = gaps.with_columns(vol_20d=pl.lit(None, pl.Float64))
    probabilities = fit_classifier(gaps, TELLTALE, threads=1).predict(unknown)
    assert [CLASS_NAMES[place] for place in probabilities.argmax(axis=1)] == rows["label"].to_list()
    forecasts = fit_regressor(gaps, TELLTALE, threads=1).predict(unknown)
    np.testing.assert_allclose(forecasts, rows["forward_return"], atol=1e-3)


def test_the_model_matrix_is_float32_with_named_columns_in_order() -> None:
    matrix = model_matrix(signal_rows().with_columns(vol_20d=pl.lit(None, pl.Float64)), ("vol_20d", "ret_1d"))
    assert list(matrix.columns) == ["vol_20d", "ret_1d"]
    assert [str(dtype) for dtype in matrix.dtypes] == ["float32", "float32"]
    assert matrix["vol_20d"].isna().all()
    assert matrix["ret_1d"].tolist()[:3] == [-1.0, 0.0, 1.0]


def test_the_order_of_columns_in_the_panel_never_changes_a_prediction(
    split: Split, classifier: FittedModel
) -> None:
    turned = split.test.select(split.test.columns[::-1])
    np.testing.assert_array_equal(classifier.predict(turned), classifier.predict(split.test))


def test_a_shock_in_a_later_row_never_changes_an_earlier_prediction(split: Split, classifier: FittedModel) -> None:
    shocked = split.test.with_columns(
        pl.when(pl.int_range(pl.len()) < 10).then(name).otherwise(1e6).alias(name) for name in DEFAULT_INPUTS
    )
    np.testing.assert_array_equal(classifier.predict(shocked)[:10], classifier.predict(split.test)[:10])
    assert not np.array_equal(classifier.predict(shocked), classifier.predict(split.test))
