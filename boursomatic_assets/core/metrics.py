"""What the models are worth: classification, regression and portfolio figures, each beside its baseline."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from boursomatic_assets.core.labels import CLASS_NAMES, label_mix
from boursomatic_assets.core.models import FittedModel, predict_panel
from boursomatic_assets.core.performance import annual_return, max_drawdown, sharpe_ratio, total_return
from boursomatic_assets.core.portfolio import TrancheBook, tranche_book

if TYPE_CHECKING:
    from boursomatic_assets.core.experiment import Experiment

Figures = dict[str, float]
VOLATILITY = "vol_20d"
DECILES = 10


@dataclass(frozen=True)
class Evaluation:
    """Everything measured on one pair of models.

    Attributes
    ----------
    figures : dict of str to float
        Flat figures; NaN where undefined.
    reports : dict of str to dict
        scikit-learn's classification report for `validation` and `test`.
    confusions : dict of str to list of list of int
        Rows are the true class, columns the predicted one, both in the order of `CLASS_NAMES`.
    books : dict of str to TrancheBook
        The long-only book of each set's BUY calls.
    """

    figures: Figures
    reports: dict[str, dict[str, Any]]
    confusions: dict[str, list[list[int]]]
    books: dict[str, TrancheBook]

    def to_json(self) -> dict[str, Any]:
        """As strict JSON: a figure that is not finite is null, and `undefined` says why."""
        figures = {name: value if math.isfinite(value) else None for name, value in self.figures.items()}
        undefined = {name: _why_undefined(name) for name, value in figures.items() if value is None}
        return {
            **figures,
            "undefined": undefined,
            "classes": list(CLASS_NAMES),
            "classification_report_val": self.reports["validation"],
            "classification_report_test": self.reports["test"],
            "confusion_matrix_val": self.confusions["validation"],
            "confusion_matrix_test": self.confusions["test"],
        }


def evaluate(
    sets: dict[str, pl.DataFrame],
    closes: pl.DataFrame,
    models: tuple[FittedModel, FittedModel],
    experiment: Experiment,
) -> Evaluation:
    """Measure a classifier and a regressor on the three sets.

    Parameters
    ----------
    sets : dict of str to DataFrame
        `train_set`, `validation_set` and `test_set`.
    closes : DataFrame
        Panel with `close` that covers the sets and the horizon after them, to mark the book to market.
    models : tuple of FittedModel
        Classifier and regressor.
    experiment : Experiment

    Returns
    -------
    Evaluation
        Figures named `train_…`, `val_…`, `test_…`; `precision_buy_…`, and for the validation set's book the
        unprefixed `sharpe_ratio`, `max_drawdown`, `mean_return`, `total_return`; with `equal_weight_` the same
        book holding every instrument, the baseline that needs no model.
    """
    train, validation, test = (
        predict_panel(sets[name], *models) for name in ("train_set", "validation_set", "test_set")
    )
    judged = {"validation": validation, "test": test}
    books = {
        name: tranche_book(_buy_calls(panel), closes, experiment.horizon, experiment.cost_bps)
        for name, panel in judged.items()
    }
    everything = {
        name: tranche_book(panel, closes, experiment.horizon, experiment.cost_bps) for name, panel in judged.items()
    }
    prior = _majority_class(train)
    figures = {
        **_classification("train", train, prior),
        **_classification("val", validation, prior),
        **_classification("test", test, prior),
        "matched_lift_buy_val": _matched_lift(validation, sets["validation_set"]),
        "matched_lift_buy_test": _matched_lift(test, sets["test_set"]),
        **_regression("val", validation, train),
        **_regression("test", test, train),
        **_portfolio("", books["validation"]),
        **_portfolio("test_", books["test"]),
        **_portfolio("equal_weight_", everything["validation"]),
        **_portfolio("test_equal_weight_", everything["test"]),
    }
    return Evaluation(
        figures=figures,
        reports={name: _classification_report(panel) for name, panel in judged.items()},
        confusions={name: _confusion(panel) for name, panel in judged.items()},
        books=books,
    )


def _buy_calls(predictions: pl.DataFrame) -> pl.DataFrame:
    return predictions.filter(pl.col("predicted_label") == "BUY").select("symbol", "session")


def _majority_class(panel: pl.DataFrame) -> str:
    mix = label_mix(panel)
    return max(mix, key=lambda name: mix[name])


def _classification(name: str, predictions: pl.DataFrame, prior: str) -> Figures:
    """Accuracy and BUY precision beside what needs no model.

    `majority` always names the set's own most frequent class, the strongest constant, known only afterwards;
    `prior` the training set's, the constant one could have chosen.
    """
    label, call = predictions["label"].cast(pl.String), predictions["predicted_label"].cast(pl.String)
    called = call == "BUY"
    precision, base_rate = _mean((label == "BUY").filter(called)), _mean(label == "BUY")
    return {
        f"{name}_accuracy": _mean(label == call),
        f"{name}_majority_accuracy": _mean(label == _majority_class(predictions)),
        f"{name}_prior_accuracy": _mean(label == prior),
        f"precision_buy_{name}": precision,
        f"buy_base_rate_{name}": base_rate,
        f"lift_buy_{name}": _ratio(precision, base_rate),
        f"buy_calls_{name}": float(called.sum()),
        f"mean_forward_return_buy_{name}": _mean(predictions["forward_return"].filter(called)),
    }


def _matched_lift(predictions: pl.DataFrame, features: pl.DataFrame) -> float:
    """BUY precision over the base rate of rows as volatile as the rows called.

    Within deciles of `vol_20d`, base rates are weighted as the BUY calls are. Volatile instruments cross both
    thresholds more often: a model that knows only volatility has a raw lift above 1, and a matched lift of 1.
    """
    if VOLATILITY not in features.columns:
        return math.nan
    volatility = features[VOLATILITY].rank("ordinal")
    rows = predictions.select(
        decile=pl.Series((volatility - 1) * DECILES // len(volatility)),
        buy=pl.col("label") == "BUY",
        called=pl.col("predicted_label") == "BUY",
    )
    deciles = rows.group_by("decile", maintain_order=True).agg(pl.col("buy").mean(), pl.col("called").sum())
    calls = float(deciles["called"].sum())
    matched = _ratio(float((deciles["buy"] * deciles["called"]).sum()), calls)
    return _ratio(_mean(rows["buy"].filter(rows["called"])), matched)


def _regression(name: str, predictions: pl.DataFrame, train: pl.DataFrame) -> Figures:
    """Errors of the forecast.

    `r2` compares with the set's own mean, as scikit-learn does, which nobody knew beforehand; `r2_over_prior`
    with the training mean, the forecast that was known when the set began.
    """
    realised = predictions["forward_return"].to_numpy()
    error = realised - predictions["predicted_return"].to_numpy()
    squares = float(np.sum(error**2))
    # Equal returns leave a residue of rounding around their mean: no variance to explain.
    varies = realised.max() > realised.min()
    spread = float(np.sum((realised - realised.mean()) ** 2)) if varies else 0.0
    known_mean = float(np.mean(train["forward_return"].to_numpy()))
    return {
        f"{name}_mae": float(np.abs(error).mean()),
        f"{name}_rmse": float(np.sqrt(np.mean(error**2))),
        f"{name}_r2": 1.0 - _ratio(squares, spread),
        f"{name}_r2_over_prior": 1.0 - _ratio(squares, float(np.sum((realised - known_mean) ** 2))),
    }


def _portfolio(prefix: str, book: TrancheBook) -> Figures:
    returns = book.returns
    held = len(returns) > 0
    return {
        f"{prefix}sharpe_ratio": sharpe_ratio(returns) if held else math.nan,
        f"{prefix}max_drawdown": max_drawdown(returns) if held else math.nan,
        f"{prefix}mean_return": float(returns.mean()) if held else math.nan,
        f"{prefix}total_return": total_return(returns) if held else math.nan,
        f"{prefix}annual_return": annual_return(returns),
        f"{prefix}turnover": float(book.turnover.mean()) if held else math.nan,
        f"{prefix}exposure": float(book.exposure.mean()) if held else math.nan,
        f"{prefix}early_exits": float(book.early_exits),
    }


def _classification_report(predictions: pl.DataFrame) -> dict[str, Any]:
    from sklearn.metrics import classification_report

    report: dict[str, Any] = classification_report(
        predictions["label"].cast(pl.String).to_numpy(),
        predictions["predicted_label"].cast(pl.String).to_numpy(),
        labels=list(CLASS_NAMES),
        output_dict=True,
        zero_division=0.0,
    )
    return report


def _confusion(predictions: pl.DataFrame) -> list[list[int]]:
    from sklearn.metrics import confusion_matrix

    matrix = confusion_matrix(
        predictions["label"].cast(pl.String).to_numpy(),
        predictions["predicted_label"].cast(pl.String).to_numpy(),
        labels=list(CLASS_NAMES),
    )
    return [[int(count) for count in row] for row in matrix]


def _mean(values: pl.Series) -> float:
    return float(values.cast(pl.Float64).mean()) if len(values) else math.nan  # type: ignore[arg-type]


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _why_undefined(name: str) -> str:
    if "matched" in name:
        return "vol_20d is no feature, there is no BUY call, or no BUY label among rows as volatile as the calls"
    if "buy" in name:
        return "the model makes no BUY call in this set, or the set holds no BUY label"
    if "r2" in name:
        return "the realised returns do not vary"
    return "the book holds nothing, or its daily return never varies"
