from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import accuracy_score, classification_report, confusion_matrix, precision_score, r2_score

from boursomatic_assets.core.dataset.experiment import BoosterParameters, Experiment
from boursomatic_assets.core.dataset.features import compute_features
from boursomatic_assets.core.dataset.labels import LABEL_TYPE, label_panel
from boursomatic_assets.core.dataset.splits import split_panel
from boursomatic_assets.core.evaluation.metrics import Metrics, measure
from boursomatic_assets.core.evaluation.scores import scores
from boursomatic_assets.core.measures.performance import annual_return, max_drawdown, sharpe_ratio, total_return
from boursomatic_assets.core.models.baselines import baseline_columns
from boursomatic_assets.core.models.predictions import classify_rows, predict_rows, predict_sets
from boursomatic_assets.core.models.threshold import with_calls
from boursomatic_assets.core.models.training import FittedModel, fit_classifier, fit_regressor
from boursomatic_assets.core.portfolio.book import tranche_book
from boursomatic_assets_tests.support.strategies import flat_bars, random_walk_bars, weekdays

if TYPE_CHECKING:
    from collections.abc import Sequence

Models = tuple[FittedModel, FittedModel]
Trained = tuple[Metrics, dict[str, pl.DataFrame], dict[str, pl.DataFrame], pl.DataFrame, Experiment]
SIGNAL = {"BUY": 1.0, "HOLD": 0.0, "SELL": -1.0}
# One tree that is not shrunk: the regressor's leaves are the means of the training rows in them, exactly.
REGRESSOR = BoosterParameters(
    n_estimators=1, learning_rate=1.0, min_child_samples=1, subsample=1.0, colsample_bytree=1.0
)
CLASSIFIER = REGRESSOR.model_copy(update={"n_estimators": 20, "learning_rate": 0.3})
OBEDIENT = Experiment(
    features=("ret_1d", "vol_20d"), horizon=1, cost_bps=0.0, classifier=CLASSIFIER, regressor=REGRESSOR
)


def judged_rows(
    calls: Sequence[str],
    labels: Sequence[str],
    forward_returns: Sequence[float] | None = None,
    volatility: Sequence[float] | None = None,
) -> pl.DataFrame:
    """A set whose rows an obedient model calls as told: one row per symbol, all in one session."""
    count = len(calls)
    return pl.DataFrame(
        {
            "symbol": [f"S{number:05d}" for number in range(count)],
            "session": weekdays(1) * count,
            "ret_1d": [SIGNAL[call] for call in calls],
            "vol_20d": volatility or [1.0] * count,
            "forward_return": forward_returns or [0.25 * SIGNAL[label] for label in labels],
            "label_end": weekdays(1) * count,
            "label": pl.Series(labels, dtype=LABEL_TYPE),
        }
    )


# 28 BUY, 16 HOLD, 20 SELL: the training prior is BUY, the mean return (28 - 20) / 8 / 64 = 1/64. Eighths and
# 64ths are exact in binary, also in the model's float32.
TRAINING_CLASSES = ["BUY"] * 28 + ["HOLD"] * 16 + ["SELL"] * 20
TRAIN = judged_rows(TRAINING_CLASSES, TRAINING_CLASSES, [0.125 * SIGNAL[name] for name in TRAINING_CLASSES])


def fitted(train_set: pl.DataFrame, experiment: Experiment) -> Models:
    return fit_classifier(train_set, experiment, threads=1), fit_regressor(train_set, experiment, threads=1)


@pytest.fixture(scope="module")
def obedient() -> Models:
    """Models that call BUY, HOLD and SELL, and forecast +1/8, 0 and -1/8, as `ret_1d` is 1, 0 and -1."""
    models = fitted(TRAIN, OBEDIENT)
    predictions = predict_rows(TRAIN, *models)
    assert predictions["predicted_label"].equals(TRAIN["label"])
    assert predictions["predicted_return"].equals(TRAIN["forward_return"])
    return models


def measured(
    sets: dict[str, pl.DataFrame],
    closes: pl.DataFrame,
    models: Models,
    experiment: Experiment,
    tau: float | None = None,
) -> Metrics:
    """Figures of what models say of two sets."""
    unseen = {"validation": sets["validation_set"], "test": sets["test_set"]}
    return measure(
        predict_sets(unseen, *models), tau, classify_rows(sets["train_set"], models[0]), closes, experiment
    )


def evaluated(
    models: Models, validation: pl.DataFrame, test: pl.DataFrame | None = None, closes: pl.DataFrame | None = None
) -> Metrics:
    sets = {"train_set": TRAIN, "validation_set": validation, "test_set": validation if test is None else test}
    symbols = sorted({symbol for panel in sets.values() for symbol in panel["symbol"]})
    if closes is None:
        closes = flat_bars({symbol: [10.0] * 3 for symbol in symbols})
    return measured(sets, closes, models, OBEDIENT)


# Ten rows, call and label: 2 BUY right, 1 BUY that held, 1 BUY that fell, 3 HOLD right, 1 HOLD that rose,
# 1 SELL right, 1 SELL that held.
TEN_CALLS = ["BUY", "BUY", "BUY", "BUY", "HOLD", "HOLD", "HOLD", "HOLD", "SELL", "SELL"]
TEN_LABELS = ["BUY", "BUY", "HOLD", "SELL", "HOLD", "HOLD", "HOLD", "BUY", "SELL", "HOLD"]


@pytest.fixture(scope="module")
def of_ten(obedient: Models) -> Metrics:
    return evaluated(obedient, judged_rows(TEN_CALLS, TEN_LABELS), judged_rows(["HOLD"] * 4, ["HOLD"] * 4))


def test_metrics_accuracy_stands_beside_majority_and_prior(of_ten: Metrics) -> None:
    # right: 2 BUY + 3 HOLD + 1 SELL of 10
    assert of_ten.figures["val_accuracy"] == pytest.approx(0.6, rel=1e-12)
    # HOLD is the most frequent label of the ten, 5 times; BUY was in training, and is right 3 times
    assert of_ten.figures["val_majority_accuracy"] == pytest.approx(0.5, rel=1e-12)
    assert of_ten.figures["val_prior_accuracy"] == pytest.approx(0.3, rel=1e-12)
    # in training the obedient model is always right, 28 of 64 rows are BUY
    assert of_ten.figures["train_accuracy"] == 1.0
    assert of_ten.figures["train_majority_accuracy"] == pytest.approx(7 / 16, rel=1e-12)
    assert of_ten.figures["train_prior_accuracy"] == pytest.approx(7 / 16, rel=1e-12)


def test_metrics_calls_use_the_threshold(obedient: Models) -> None:
    rows = judged_rows(TEN_CALLS, TEN_LABELS)
    sets = {"train_set": TRAIN, "validation_set": rows, "test_set": rows}
    closes = flat_bars({symbol: [10.0] * 3 for symbol in TRAIN["symbol"]})
    found = measured(sets, closes, obedient, OBEDIENT, tau=0.0)
    # from a probability of 0 on everything is called BUY; 3 of 10 are, 28 of 64 in training
    assert found.figures["buy_calls_val"] == 10
    assert found.figures["precision_buy_val"] == found.figures["val_accuracy"] == pytest.approx(0.3, rel=1e-12)
    assert found.figures["train_accuracy"] == pytest.approx(7 / 16, rel=1e-12)
    assert found.confusions["test"] == [[3, 0, 0], [5, 0, 0], [2, 0, 0]]
    assert found.reports["test"]["HOLD"]["recall"] == 0.0
    # what the classifier itself holds most probable is right six times, as without a threshold
    assert found.figures["val_most_probable_accuracy"] == pytest.approx(0.6, rel=1e-12)
    assert found.to_json()["threshold"] == 0.0


def test_metrics_without_a_threshold_say_so(of_ten: Metrics) -> None:
    assert of_ten.to_json()["threshold"] is None
    assert of_ten.figures["val_most_probable_accuracy"] == of_ten.figures["val_accuracy"]


def test_metrics_buy_precision_stands_beside_its_base_rate(of_ten: Metrics) -> None:
    # 2 of 4 BUY calls are right, 3 of 10 labels are BUY: (1/2) / (3/10) = 5/3
    assert of_ten.figures["precision_buy_val"] == pytest.approx(0.5, rel=1e-12)
    assert of_ten.figures["buy_base_rate_val"] == pytest.approx(0.3, rel=1e-12)
    assert of_ten.figures["lift_buy_val"] == pytest.approx(5 / 3, rel=1e-12)
    assert of_ten.figures["buy_calls_val"] == 4.0
    # they returned 1/4, 1/4, 0 and -1/4
    assert of_ten.figures["mean_forward_return_buy_val"] == pytest.approx(1 / 16, rel=1e-12)


def test_metrics_forecast_errors(of_ten: Metrics) -> None:
    # Realised minus forecast in eighths: BUY 1, 1, -1, -3; HOLD 0, 0, 0, 2; SELL -1, 1.
    # Absolute 10 eighths over 10 rows; squares 1+1+1+9+4+1+1 = 18 of 1/64 each.
    squares = 18 / 64
    assert of_ten.figures["val_mae"] == pytest.approx(1 / 8, rel=1e-12)
    assert of_ten.figures["val_rmse"] == pytest.approx(math.sqrt(squares / 10), rel=1e-12)
    # Realised: 3 x 1/4, 5 x 0, 2 x -1/4: sum 1/4, squares 5/16; around its mean 5/16 - 10 x (1/40)^2 = 49/160.
    assert of_ten.figures["val_r2"] == pytest.approx(1 - squares / (49 / 160), rel=1e-12)
    # The training mean, 1/64, was known: 5/16 - 2 x 1/4 x 1/64 + 10 x (1/64)^2
    around_known = 5 / 16 - 0.5 / 64 + 10 / 64**2
    assert of_ten.figures["val_r2_over_prior"] == pytest.approx(1 - squares / around_known, rel=1e-12)


def test_metrics_confusion_has_true_classes_in_rows(of_ten: Metrics) -> None:
    # of 3 BUY: 2 called BUY, 1 HOLD; of 5 HOLD: 1, 3, 1; of 2 SELL: 1, 0, 1
    assert of_ten.confusions["validation"] == [[2, 1, 0], [1, 3, 1], [1, 0, 1]]
    assert of_ten.confusions["test"] == [[0, 0, 0], [0, 4, 0], [0, 0, 0]]


def test_metrics_of_buying_without_a_call_are_undefined(of_ten: Metrics) -> None:
    undefined = (
        "precision_buy_test", "lift_buy_test", "matched_lift_buy_test", "mean_forward_return_buy_test",
        "test_sharpe_ratio", "test_max_drawdown", "test_mean_return", "test_total_return", "test_annual_return",
        "test_turnover", "test_exposure",
    )  # fmt: skip
    assert [name for name in undefined if not math.isnan(of_ten.figures[name])] == []
    assert of_ten.figures["buy_calls_test"] == 0.0
    assert of_ten.figures["buy_base_rate_test"] == 0.0
    assert of_ten.figures["test_early_exits"] == 0.0


def test_metrics_json_has_null_and_a_reason_for_the_undefined(of_ten: Metrics) -> None:
    stored = json.loads(json.dumps(of_ten.to_json(), allow_nan=False))
    assert stored["val_accuracy"] == of_ten.figures["val_accuracy"]
    assert stored["precision_buy_test"] is None
    assert stored["test_r2"] is None
    assert "no BUY call" in stored["undefined"]["precision_buy_test"]
    assert stored["undefined"]["test_r2"] == "the realised returns do not vary"
    assert "the book holds nothing" in stored["undefined"]["test_sharpe_ratio"]
    undefined = {name for name, value in of_ten.figures.items() if math.isnan(value)}
    assert set(stored["undefined"]) == undefined
    assert all(stored[name] is None for name in undefined)


def test_metrics_json_holds_classes_reports_and_confusions(of_ten: Metrics) -> None:
    stored = of_ten.to_json()
    assert stored["classes"] == ["BUY", "HOLD", "SELL"]
    assert stored["confusion_matrix_val"] == [[2, 1, 0], [1, 3, 1], [1, 0, 1]]
    assert stored["confusion_matrix_test"] == [[0, 0, 0], [0, 4, 0], [0, 0, 0]]
    # precision 2/4, recall 2/3: F1 = 2 x 1/2 x 2/3 / (1/2 + 2/3) = 4/7
    assert stored["classification_report_val"]["BUY"] == pytest.approx(
        {"precision": 1 / 2, "recall": 2 / 3, "f1-score": 4 / 7, "support": 3}
    )
    assert stored["classification_report_test"]["BUY"]["support"] == 0


def test_matched_lift_without_the_volatility_feature_is_null_with_a_reason() -> None:
    experiment = OBEDIENT.model_copy(update={"features": ("ret_1d",)})
    models = fitted(TRAIN, experiment)
    rows = judged_rows(TEN_CALLS, TEN_LABELS).drop("vol_20d")
    sets = {"train_set": TRAIN, "validation_set": rows, "test_set": rows}
    closes = flat_bars({symbol: [10.0] * 3 for symbol in rows["symbol"]})
    stored = measured(sets, closes, models, experiment).to_json()
    assert stored["precision_buy_val"] == 0.5
    assert stored["matched_lift_buy_val"] is None
    assert "vol_20d" in stored["undefined"]["matched_lift_buy_val"]


def test_matched_lift_without_a_comparable_buy_label_is_null_with_a_reason(obedient: Models) -> None:
    # there is a call and there is a BUY label, but no BUY label in the called row's decile: 0 / 0
    stored = evaluated(obedient, twenty_rows({0}, {10})).to_json()
    assert stored["precision_buy_val"] == 0.0
    assert stored["buy_base_rate_val"] == 0.05
    assert stored["matched_lift_buy_val"] is None
    assert "volatil" in stored["undefined"]["matched_lift_buy_val"]


def test_r2_of_constant_returns_is_undefined(obedient: Models) -> None:
    # the mean of three 0.1 is 0.1 plus one unit in the last place: squares around it are not exactly zero
    rows = judged_rows(["BUY", "HOLD", "SELL"], ["BUY"] * 3, forward_returns=[0.1] * 3)
    assert math.isnan(evaluated(obedient, rows).figures["val_r2"])


def twenty_rows(called: set[int], bought: set[int]) -> pl.DataFrame:
    """Twenty rows whose volatility is their number: decile k holds the rows 2k and 2k + 1."""
    return judged_rows(
        ["BUY" if number in called else "HOLD" for number in range(20)],
        ["BUY" if number in bought else "HOLD" for number in range(20)],
        volatility=[float(number) for number in range(20)],
    )


def test_matched_lift_compares_with_rows_as_volatile_as_those_called(obedient: Models) -> None:
    # BUY labels: row 0 of decile 0 (rate 1/2) and both of decile 9 (rate 1). Called: rows 0 and 18, both right.
    # Matched base rate: one call at 1/2 and one at 1, 3/4; the lift 1 / (3/4). The raw base rate is 3/20.
    figures = evaluated(obedient, twenty_rows({0, 18}, {0, 18, 19})).figures
    assert figures["matched_lift_buy_val"] == pytest.approx(4 / 3, rel=1e-12)
    assert figures["lift_buy_val"] == pytest.approx(20 / 3, rel=1e-12)


def test_matched_lift_weights_the_base_rate_by_calls(obedient: Models) -> None:
    # Called: both of decile 0 (one right) and row 18 of decile 9 (right): precision 2/3.
    # Matched: (2 x 1/2 + 1 x 1) / 3 = 2/3, the lift exactly 1. Row 10 is BUY too, in a decile without calls.
    figures = evaluated(obedient, twenty_rows({0, 1, 18}, {0, 10, 18, 19})).figures
    assert figures["matched_lift_buy_val"] == pytest.approx(1, rel=1e-12)


def test_matched_lift_of_calls_never_right_is_zero(obedient: Models) -> None:
    # row 1 is called and holds, its decile's other row is BUY: 0 / (1/2)
    assert evaluated(obedient, twenty_rows({1}, {0})).figures["matched_lift_buy_val"] == 0.0


def test_matched_lift_depends_on_the_order_of_volatility_only(obedient: Models) -> None:
    rows = twenty_rows({0, 18}, {0, 18, 19})
    stretched = rows.with_columns(vol_20d=pl.col("vol_20d").exp())
    backwards = rows.with_columns(vol_20d=-pl.col("vol_20d"))
    for other in (stretched, backwards):
        assert evaluated(obedient, other).figures["matched_lift_buy_val"] == pytest.approx(4 / 3, rel=1e-12)


def volatility_rows(count: int, chance_of_call: float, seed: int) -> pl.DataFrame:
    """Rows whose label depends on volatility alone, and calls that do: some rows of the three upper deciles."""
    rng = np.random.default_rng(seed)
    volatility = rng.permutation(count)
    decile = volatility * 10 // count
    bought = rng.random(count) < 0.05 + 0.05 * decile
    called = (decile >= 7) & (rng.random(count) < chance_of_call)
    names = np.array(["HOLD", "BUY"])
    return judged_rows(
        names[called.astype(int)].tolist(), names[bought.astype(int)].tolist(), volatility=volatility.tolist()
    )


def test_matched_lift_of_calls_by_volatility_is_about_one(obedient: Models) -> None:
    # BUY with 5 % to 50 % by decile, 27.5 % on the whole; called are half of those with 40, 45 and 50 %:
    # raw lift 45 / 27.5 = 1.64, matched 1. About 900 calls: one standard error is 0.5 / 30 / 0.45 = 0.037.
    rows = volatility_rows(6_000, chance_of_call=0.5, seed=11)
    figures = evaluated(obedient, rows).figures
    assert figures["buy_calls_val"] > 800
    assert figures["lift_buy_val"] == pytest.approx(1.64, abs=0.15)
    assert figures["matched_lift_buy_val"] == pytest.approx(1, abs=0.08)


def test_matched_lift_of_whole_deciles_is_exactly_one(obedient: Models) -> None:
    # who calls every row of a decile is right as often as its base rate
    rows = volatility_rows(1_000, chance_of_call=1.1, seed=12)
    figures = evaluated(obedient, rows).figures
    assert figures["buy_calls_val"] == 300.0
    assert figures["matched_lift_buy_val"] == pytest.approx(1, rel=1e-12)
    assert figures["lift_buy_val"] > 1.3


def test_metrics_of_books_have_a_prefix_for_the_test_set(obedient: Models) -> None:
    # Horizon 1, no cost. Called at session 0, filled at 1, sold at 2. Validation buys the first row's instrument,
    # which gains 10 %; the test set the second's, which loses 20 %.
    validation = judged_rows(["BUY", "HOLD"], ["BUY", "HOLD"])
    test = judged_rows(["HOLD", "BUY"], ["BUY", "HOLD"])
    idle = {symbol: [10.0] * 3 for symbol in TRAIN["symbol"]}
    closes = flat_bars(idle | {"S00000": [10.0, 10.0, 11.0], "S00001": [10.0, 10.0, 8.0]})
    metrics = evaluated(obedient, validation, test, closes)
    figures = metrics.figures
    # Two sessions: 0 % on the day of the fill, then the move.
    assert figures["total_return"] == pytest.approx(0.10, rel=1e-12)
    assert figures["mean_return"] == pytest.approx(0.05, rel=1e-12)
    assert figures["max_drawdown"] == 0.0
    # mean 0.05, deviation sqrt(2 x 0.05^2) = 0.05 sqrt(2)
    assert figures["sharpe_ratio"] == pytest.approx(math.sqrt(252 / 2), rel=1e-12)
    assert figures["annual_return"] == pytest.approx(1.1**126 - 1, rel=1e-12)
    # traded whole on both sessions, invested over one of them
    assert figures["turnover"] == pytest.approx(1, rel=1e-12)
    assert figures["exposure"] == pytest.approx(0.5, rel=1e-12)
    assert figures["early_exits"] == 0.0
    assert figures["test_total_return"] == pytest.approx(-0.20, rel=1e-12)
    assert figures["test_mean_return"] == pytest.approx(-0.10, rel=1e-12)
    assert figures["test_max_drawdown"] == pytest.approx(-0.20, rel=1e-12)
    assert figures["test_sharpe_ratio"] == pytest.approx(-math.sqrt(252 / 2), rel=1e-12)
    assert metrics.books["validation"].sessions == tuple(weekdays(3)[1:])
    # both instruments in halves, in either set: (10 % - 20 %) / 2
    assert figures["equal_weight_total_return"] == pytest.approx(-0.05, rel=1e-12)
    assert figures["test_equal_weight_total_return"] == pytest.approx(-0.05, rel=1e-12)


def test_metrics_sharpe_ratio_of_a_constant_book_is_null_with_a_reason(obedient: Models) -> None:
    metrics = evaluated(obedient, judged_rows(["BUY", "HOLD"], ["BUY", "SELL"]))
    stored = metrics.to_json()
    assert stored["total_return"] == 0.0
    assert stored["sharpe_ratio"] is None
    assert "never varies" in stored["undefined"]["sharpe_ratio"]


@pytest.fixture(scope="module")
def trained() -> Trained:
    """Metrics of models trained on walks, with sets, predictions and closes."""
    few = BoosterParameters(n_estimators=10)
    experiment = Experiment(classifier=few, regressor=few, horizon=5, buy_threshold=0.01, sell_threshold=-0.01)
    bars = random_walk_bars(symbols=6, sessions=260, seed=3)
    sets = split_panel(label_panel(compute_features(bars), bars, experiment), experiment).sets()
    models = fitted(sets["train_set"], experiment)
    predictions = {name: predict_rows(panel, *models) for name, panel in sets.items()}
    return measured(sets, bars, models, experiment), sets, predictions, bars, experiment


@pytest.mark.parametrize(("name", "short"), [("validation", "val"), ("test", "test")])
def test_metrics_reports_agree_with_scikit_learn(trained: Trained, name: str, short: str) -> None:
    metrics, predictions = trained[0], trained[2][f"{name}_set"]
    label, call = predictions["label"].to_list(), predictions["predicted_label"].to_list()
    assert metrics.confusions[name] == confusion_matrix(label, call).tolist()
    assert metrics.reports[name] == classification_report(label, call, output_dict=True)
    realised, forecast = predictions["forward_return"].to_numpy(), predictions["predicted_return"].to_numpy()
    assert metrics.figures[f"{short}_r2"] == pytest.approx(r2_score(realised, forecast), rel=1e-9)


def test_metrics_of_training_rows_agree_with_scikit_learn(trained: Trained) -> None:
    figures, predictions = trained[0].figures, trained[2]["train_set"]
    label, call = predictions["label"].to_list(), predictions["predicted_label"].to_list()
    assert figures["train_accuracy"] == pytest.approx(accuracy_score(label, call), rel=1e-9)
    precision = precision_score(label, call, labels=["BUY"], average="micro")
    assert figures["precision_buy_train"] == pytest.approx(precision, rel=1e-9)
    assert figures["buy_base_rate_train"] == pytest.approx(label.count("BUY") / len(label), rel=1e-9)


@pytest.mark.parametrize(("prefix", "name"), [("equal_weight_", "validation"), ("test_equal_weight_", "test")])
def test_metrics_equal_weight_book_holds_every_row(trained: Trained, prefix: str, name: str) -> None:
    metrics, sets, _, bars, experiment = trained
    every_row = sets[f"{name}_set"].select("symbol", "session")
    book = tranche_book(every_row, bars, experiment.horizon, experiment.cost_bps)
    assert metrics.figures[f"{prefix}sharpe_ratio"] == sharpe_ratio(book.returns)
    assert metrics.figures[f"{prefix}max_drawdown"] == max_drawdown(book.returns)
    assert metrics.figures[f"{prefix}turnover"] == pytest.approx(book.turnover.mean(), rel=1e-12)


@pytest.mark.parametrize(("prefix", "name"), [("", "validation"), ("test_", "test")])
def test_metrics_of_books_are_those_of_the_buy_calls(trained: Trained, prefix: str, name: str) -> None:
    metrics, _, predictions, bars, experiment = trained
    calls = predictions[f"{name}_set"].filter(pl.col("predicted_label") == "BUY").select("symbol", "session")
    book = tranche_book(calls, bars, experiment.horizon, experiment.cost_bps)
    np.testing.assert_array_equal(metrics.books[name].returns, book.returns)
    figures = metrics.figures
    assert figures[f"{prefix}sharpe_ratio"] == sharpe_ratio(book.returns)
    assert figures[f"{prefix}max_drawdown"] == max_drawdown(book.returns)
    assert figures[f"{prefix}total_return"] == total_return(book.returns)
    assert figures[f"{prefix}annual_return"] == annual_return(book.returns)
    assert figures[f"{prefix}mean_return"] == pytest.approx(book.returns.mean(), rel=1e-12)
    assert figures[f"{prefix}turnover"] == pytest.approx(book.turnover.mean(), rel=1e-12)
    assert figures[f"{prefix}exposure"] == pytest.approx(book.exposure.mean(), rel=1e-12)


@pytest.mark.parametrize(("short", "name"), [("val", "validation"), ("test", "test")])
def test_metrics_equal_the_scores_of_the_same_rows_to_the_last_bit(trained: Trained, short: str, name: str) -> None:
    # `test_scores` holds the scores against scikit-learn.
    metrics, sets, predictions, bars, experiment = trained
    key = ["symbol", "session"]
    beside = baseline_columns(sets[f"{name}_set"], sets["train_set"], None, bars)
    judged = with_calls(predictions[f"{name}_set"], None).join(beside, on=key, how="left", maintain_order="left")
    found = {figure.name: figure for figure in scores(judged, experiment).figures}
    names = {
        "accuracy": f"{short}_accuracy", "precision_buy": f"precision_buy_{short}", "lift_buy": f"lift_buy_{short}",
        "matched_lift_buy": f"matched_lift_buy_{short}", "log_loss": f"{short}_log_loss",
        "brier": f"{short}_brier_score", "brier_skill": f"{short}_brier_skill",
        "ece_buy": f"{short}_calibration_error", "mae": f"{short}_mae", "rmse": f"{short}_rmse",
        "r2_over_prior": f"{short}_r2_over_prior",
    }  # fmt: skip
    figures = metrics.figures
    assert figures[f"buy_calls_{short}"] > 0
    assert {name: found[name].value for name in names} == {name: figures[theirs] for name, theirs in names.items()}
    assert found["accuracy"].baseline == figures[f"{short}_majority_accuracy"]
    assert found["accuracy"].no_skill == figures[f"{short}_prior_accuracy"]
    assert found["precision_buy"].no_skill == figures[f"buy_base_rate_{short}"]
    assert found["log_loss"].no_skill == figures[f"{short}_prior_log_loss"]
    for label, of_class in metrics.reports[name].items():
        if label in SIGNAL:
            assert found[f"recall_{label.lower()}"].value == of_class["recall"]
            assert found[f"f1_{label.lower()}"].value == of_class["f1-score"]


def test_metrics_cost_lowers_the_return_of_the_book(trained: Trained) -> None:
    _, sets, _, bars, experiment = trained
    models = fitted(sets["train_set"], experiment)
    free = measured(sets, bars, models, experiment.model_copy(update={"cost_bps": 0.0})).figures
    dear = measured(sets, bars, models, experiment.model_copy(update={"cost_bps": 50.0})).figures
    # the mean return falls by the mean turnover times 50 basis points
    assert free["mean_return"] - dear["mean_return"] == pytest.approx(free["turnover"] * 0.005, rel=1e-9)


def test_metrics_json_of_trained_models_has_nothing_undefined(trained: Trained) -> None:
    metrics = trained[0]
    stored = json.loads(json.dumps(metrics.to_json(), allow_nan=False))
    assert stored["undefined"] == {}
    assert {name: stored[name] for name in metrics.figures} == metrics.figures


def test_metrics_do_not_depend_on_the_order_of_rows(trained: Trained) -> None:
    metrics, sets, _, bars, experiment = trained
    models = fitted(sets["train_set"], experiment)
    shuffled = {name: panel.sample(fraction=1.0, shuffle=True, seed=5) for name, panel in sets.items()}
    again = measured(shuffled, bars.sample(fraction=1.0, shuffle=True, seed=6), models, experiment)
    assert again.figures == pytest.approx(metrics.figures, rel=1e-9)


def test_matched_lift_centres_on_one_without_a_signal() -> None:
    # Each of 24 sets has some 100 calls that do not overlap: about 0.5 / 10 / 0.4 = 0.12 of noise in its lift,
    # hence 0.12 / sqrt(24) = 0.025 in their mean.
    few = BoosterParameters(n_estimators=10)
    experiment = Experiment(classifier=few, regressor=few, horizon=5, buy_threshold=0.01, sell_threshold=-0.01)
    lifts = []
    for seed in range(12):
        bars = random_walk_bars(symbols=15, sessions=300, seed=seed)
        sets = split_panel(label_panel(compute_features(bars), bars, experiment), experiment).sets()
        models = fitted(sets["train_set"], experiment)
        figures = measured(sets, bars, models, experiment).figures
        lifts += [figures["matched_lift_buy_val"], figures["matched_lift_buy_test"]]
    assert np.mean(lifts) == pytest.approx(1, abs=0.08)
