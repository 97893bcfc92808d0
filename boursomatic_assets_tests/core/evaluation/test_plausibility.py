from __future__ import annotations

import math
from typing import TYPE_CHECKING

import polars as pl
import pytest

from boursomatic_assets.core.dataset.experiment import BoosterParameters, Experiment
from boursomatic_assets.core.dataset.features import compute_features
from boursomatic_assets.core.dataset.labels import label_panel
from boursomatic_assets.core.evaluation.metrics import measure
from boursomatic_assets.core.evaluation.plausibility import (
    implausible_figures,
    impossible_figures,
    most_plausible,
    why_too_good,
)
from boursomatic_assets.core.evaluation.recorded import RecordedFigure
from boursomatic_assets.core.models.predictions import classify_rows
from boursomatic_assets.core.registry.retraining import retrain
from boursomatic_assets_tests.support.strategies import random_walk_bars

if TYPE_CHECKING:
    from boursomatic_assets.core.evaluation.metrics import Figures


def figures_of_walks(**leaks: pl.Expr) -> Figures:
    """Figures of models trained on walks without signal, with some features replaced."""
    few = BoosterParameters(n_estimators=10)
    experiment = Experiment(classifier=few, regressor=few, horizon=5)
    bars = random_walk_bars(symbols=6, sessions=260, seed=3)
    labels = label_panel(compute_features(bars), bars, experiment)
    made = retrain(labels.with_columns(**leaks), experiment, threads=1)
    train = classify_rows(made.split.train, made.classifier)
    return measure(made.predictions, made.threshold.tau, train, bars, experiment).figures


@pytest.fixture(scope="module")
def figures() -> Figures:
    return figures_of_walks()


def test_impossible_figures_of_walks_without_signal_are_none(figures: Figures) -> None:
    assert impossible_figures(figures) == {}


def test_implausible_figures_show_a_feature_that_knows_the_outcome() -> None:
    figures = figures_of_walks(ret_1d=pl.col("forward_return").fill_null(0.0))
    # The threshold on p(BUY) costs accuracy: its calls are worse than the majority class, the classifier is not.
    assert figures["test_accuracy"] < figures["test_majority_accuracy"] < figures["test_most_probable_accuracy"]
    found = implausible_figures(figures)
    assert {"test_accuracy_over_majority", "matched_lift_buy_test", "test_r2_over_prior"} <= set(found)


IMPOSSIBLE = [
    ("train_accuracy", 1.0000001), ("val_accuracy", -0.1), ("test_majority_accuracy", 1.5),
    ("test_prior_accuracy", -0.1), ("precision_buy_train", 1.01), ("precision_buy_test", -0.01),
    ("buy_base_rate_val", 1.2), ("lift_buy_val", -0.5), ("matched_lift_buy_test", -0.5), ("buy_calls_test", -1.0),
    ("val_log_loss", -1e-9), ("test_prior_log_loss", math.inf), ("val_brier_score", 2.0000001),
    ("test_brier_score", -1e-9), ("test_brier_skill", 1.0000001), ("val_calibration_error", 1.0000001),
    ("test_calibration_error", -1e-9), ("val_mae", -1e-9), ("test_mae", math.inf), ("test_rmse", -1e-9),
    ("val_r2", 1.0000001), ("test_r2_over_prior", 1.1), ("max_drawdown", -1.0000001), ("test_max_drawdown", 0.1),
    ("total_return", -1.1), ("test_total_return", math.inf), ("annual_return", -1.1), ("turnover", -0.1),
    ("test_turnover", 2.1), ("exposure", 1.1), ("test_exposure", -0.1), ("early_exits", -1.0),
    ("sharpe_ratio", math.inf),
]  # fmt: skip
# Deviation of sessions of -1 and 1: mean 0, squares 1 + 1 over the 2 - 1 that are free.
POSSIBLE = [
    ("val_accuracy", 0.0), ("val_accuracy", 1.0), ("rank_ic_t", -3.0), ("rank_ic_deviation", 2**0.5),
    ("val_brier_skill", -3.0), ("val_brier_score", 2.0), ("val_calibration_error", 0.0), ("val_r2", -7.0),
    ("max_drawdown", -1.0), ("max_drawdown", 0.0), ("total_return", -1.0), ("precision_buy_val", math.nan),
    ("sharpe_ratio", -3.0),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), IMPOSSIBLE)
def test_impossible_figures_finds_each(figures: Figures, name: str, value: float) -> None:
    assert name in figures
    assert impossible_figures(figures | {name: value}) == {name: value}


@pytest.mark.parametrize(("name", "value"), POSSIBLE)
def test_impossible_figures_allows_edges_and_undefined_figures(figures: Figures, name: str, value: float) -> None:
    assert impossible_figures(figures | {name: value}) == {}


BOUNDED = [
    name.format(each)
    for name in ("lift_buy_{}", "matched_lift_buy_{}", "{}_r2_over_prior")
    for each in ("val", "test")
]
MODEST = {
    "val_most_probable_accuracy": 0.45,
    "val_majority_accuracy": 0.42,
    "test_most_probable_accuracy": 0.40,
    "test_majority_accuracy": 0.42,
    **dict.fromkeys(BOUNDED, 0.0),
}


def test_implausible_figures_of_modest_ones_are_none() -> None:
    assert implausible_figures(MODEST) == {}


@pytest.mark.parametrize("name", BOUNDED)
def test_implausible_figures_begin_above_the_bound(name: str) -> None:
    limit = most_plausible(name)
    assert implausible_figures(MODEST | {name: limit}) == {}
    assert implausible_figures(MODEST | {name: limit + 0.01}) == {name: limit + 0.01}


def test_implausible_figures_include_accuracy_over_the_majority() -> None:
    # 0.50 - 0.42 = 0.08, above 0.05
    found = implausible_figures(MODEST | {"test_most_probable_accuracy": 0.50})
    assert found == {"test_accuracy_over_majority": pytest.approx(0.08, rel=1e-9)}


def test_implausible_figures_leave_out_low_and_undefined_ones() -> None:
    assert implausible_figures(MODEST | {"val_r2_over_prior": -2.0, "test_r2_over_prior": -0.5}) == {}
    assert implausible_figures(MODEST | {"lift_buy_test": math.nan, "matched_lift_buy_val": math.nan}) == {}


def test_most_plausible_reads_the_bound_of_any_set() -> None:
    assert most_plausible("test_accuracy_over_majority") == 0.05
    assert most_plausible("lift_buy_test") == 1.4
    assert most_plausible("matched_lift_buy_test") == 1.08
    assert most_plausible("test_r2_over_prior") == 0.005
    # one of the training set has none: what was learned by heart is no skill
    assert most_plausible("lift_buy_train") == math.inf


def test_implausible_figures_excuse_validation_lifts_of_a_chosen_threshold() -> None:
    figures = MODEST | dict.fromkeys(("lift_buy_val", "matched_lift_buy_val", "matched_lift_buy_test"), 2.0)
    assert set(implausible_figures(figures)) == {"lift_buy_val", "matched_lift_buy_val", "matched_lift_buy_test"}
    assert implausible_figures(figures, threshold_chosen=True) == {"matched_lift_buy_test": 2.0}


def recorded(name: str = "rank_ic", title: str = "Rank IC", **values: float | None) -> RecordedFigure:
    return RecordedFigure(name=name, title=title, group="ranking", **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("figure", "said"),
    [
        ({"value": 0.06}, ""),
        ({"value": None}, ""),
        ({"value": -0.2}, ""),
        ({"value": 0.08}, "Rank IC 0.080 is above 0.060, the most that such features can reach"),
        # As many digits as tell the two apart.
        ({"value": 0.06004}, "Rank IC 0.06004 is above 0.06000, the most that such features can reach"),
        (
            {"value": 0.08, "low": -0.13, "high": 0.26},
            (
                "Rank IC 0.080 is above 0.060, the most that such features can reach; "
                "its 95 % interval is -0.130 to 0.260: chance alone can do this"
            ),
        ),
        (
            {"value": 0.2, "low": 0.061, "high": 0.3},
            (
                "Rank IC 0.200 is above 0.060, the most that such features can reach; "
                "its 95 % interval is 0.061 to 0.300: chance does not explain it"
            ),
        ),
    ],
)
def test_why_too_good_says_whether_chance_explains_it(figure: dict[str, float], said: str) -> None:
    assert why_too_good([recorded(**figure), recorded("accuracy", value=1.0)]) == said


def test_why_too_good_explains_each_figure() -> None:
    both = [recorded(value=0.5), recorded("lift_buy", "BUY lift, raw", value=math.inf)]
    assert why_too_good(both) == (
        "Rank IC 0.500 is above 0.060, the most that such features can reach; BUY lift, raw is not finite"
    )
