"""What the models are worth: classification, regression and portfolio figures, each beside its baseline."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from boursomatic_assets.core.dataset.labels import CLASS_NAMES
from boursomatic_assets.core.market.bars import require_rows
from boursomatic_assets.core.market.sessions import on_sessions
from boursomatic_assets.core.measures import classification
from boursomatic_assets.core.measures.classification import mean_of, ratio
from boursomatic_assets.core.measures.figures import finite
from boursomatic_assets.core.measures.performance import annual_return, max_drawdown, sharpe_ratio, total_return
from boursomatic_assets.core.models.predictions import SET_NAMES, classify_rows, set_of
from boursomatic_assets.core.models.threshold import make_calls
from boursomatic_assets.core.portfolio.book import TrancheBook, session_book
from boursomatic_assets.core.portfolio.tranches import require_closes

if TYPE_CHECKING:
    from boursomatic_assets.core.dataset.experiment import Experiment
    from boursomatic_assets.core.models.training import FittedModel

Figures = dict[str, float]


@dataclass(frozen=True)
class Metrics:
    """Everything measured on one pair of models.

    Attributes
    ----------
    figures : dict of str to float
        Flat figures; NaN where undefined.
    reports : dict of str to dict
        scikit-learn's classification report for `validation` and `test`.
    confusions : dict of str to list of list of int
        Rows are the true class, columns the called one, both in the order of `CLASS_NAMES`.
    books : dict of str to TrancheBook
        The long-only book of each set's BUY calls.
    tau : float or None
        From this p(BUY) on a row was called BUY; None for the most probable class.
    """

    figures: Figures
    reports: dict[str, dict[str, Any]]
    confusions: dict[str, list[list[int]]]
    books: dict[str, TrancheBook]
    tau: float | None

    def to_json(self) -> dict[str, Any]:
        """As strict JSON: a figure that is not finite is null, and `undefined` says why."""
        figures = {name: value if math.isfinite(value) else None for name, value in self.figures.items()}
        undefined = {name: _why_undefined(name) for name, value in figures.items() if value is None}
        return {
            **figures,
            "undefined": undefined,
            "threshold": self.tau,
            "classes": list(CLASS_NAMES),
            "classification_report_val": _defined(self.reports["validation"]),
            "classification_report_test": _defined(self.reports["test"]),
            "confusion_matrix_val": self.confusions["validation"],
            "confusion_matrix_test": self.confusions["test"],
        }


def measure(  # noqa: PLR0913, PLR0917 (each argument is an edge of the lineage)
    predictions: pl.DataFrame,
    tau: float | None,
    train_set: pl.DataFrame,
    classifier: FittedModel,
    closes: pl.DataFrame,
    experiment: Experiment,
) -> Metrics:
    """Measure what the models say of the two sets they have not seen.

    Parameters
    ----------
    predictions : DataFrame
        As `predict_sets` gives it.
    tau : float or None
        The decision rule, as `make_calls` takes it.
    train_set : DataFrame
        Gives the priors, and the accuracy on what was learned.
    classifier : FittedModel
        Calls the rows of the training set.
    closes : DataFrame
        Panel with `close` that covers the sets and the horizon after them, to mark the book to market; with
        `exchange` where it is known.
    experiment : Experiment

    Returns
    -------
    Metrics
        Figures named `train_…`, `val_…`, `test_…`; `precision_buy_…`, and for the validation set's book the
        unprefixed `sharpe_ratio`, `max_drawdown`, `mean_return`, `total_return`; with `equal_weight_` the same
        book holding every instrument, the baseline that needs no model.

    Raises
    ------
    NoRowsError
        If a set has no rows, or a row lacks its outcome or forecast.
    """
    require_rows(train_set, "metrics need rows to train on", ("label", "forward_return"))
    for name in SET_NAMES:
        needed = ("label", "forward_return", "predicted_return")
        require_rows(set_of(predictions, name), f"metrics need predicted rows of the {name} set", needed)
    train = make_calls(classify_rows(train_set, classifier), tau)
    judged = {name: make_calls(set_of(predictions, name), tau) for name in SET_NAMES}
    validation, test = judged["validation"], judged["test"]
    require_closes(predictions, closes)
    closes = on_sessions(closes)
    bought = pl.col("call") == "BUY"
    books = {name: _book(panel, panel.filter(bought), closes, experiment) for name, panel in judged.items()}
    everything = {name: _book(panel, panel, closes, experiment) for name, panel in judged.items()}
    known_mean = mean_of(train_set["forward_return"].to_numpy())
    figures = {
        **_classification("train", train, train),
        **_classification("val", validation, train),
        **_classification("test", test, train),
        "matched_lift_buy_val": classification.matched_lift(validation),
        "matched_lift_buy_test": classification.matched_lift(test),
        **_calibration("val", validation, train),
        **_calibration("test", test, train),
        **_regression("val", validation, known_mean),
        **_regression("test", test, known_mean),
        **_portfolio("", books["validation"]),
        **_portfolio("test_", books["test"]),
        **_portfolio("equal_weight_", everything["validation"]),
        **_portfolio("test_equal_weight_", everything["test"]),
    }
    return Metrics(
        figures=figures,
        reports={name: classification.classification_report(panel) for name, panel in judged.items()},
        confusions={name: classification.confusion_counts(panel) for name, panel in judged.items()},
        books=books,
        tau=tau,
    )


def _book(panel: pl.DataFrame, calls: pl.DataFrame, closes: pl.DataFrame, experiment: Experiment) -> TrancheBook:
    """Follow some calls over all sessions of a set: before the first of them the book is in cash."""
    span: Any = (panel["session"].min(), panel["session"].max())
    return session_book(
        calls.select("symbol", "session"), closes, experiment.horizon, experiment.cost_bps, span=span
    )


def _classification(name: str, panel: pl.DataFrame, train: pl.DataFrame) -> Figures:
    """Accuracy and BUY precision beside what needs no model.

    `majority` always names the set's own most frequent class, the strongest constant, known only afterwards;
    `prior` the training set's, the constant one could have chosen. `most_probable` is what the classifier itself
    gets right: a threshold that calls BUY more often costs accuracy.
    """
    called = panel.filter(pl.col("call") == "BUY")
    precision, base_rate = classification.buy_precision(panel), classification.constant_accuracy(panel, "BUY")
    majority, prior = classification.majority_class(panel), classification.majority_class(train)
    return {
        f"{name}_accuracy": classification.accuracy(panel),
        f"{name}_majority_accuracy": classification.constant_accuracy(panel, majority),
        f"{name}_most_probable_accuracy": classification.accuracy(panel, "predicted_label"),
        f"{name}_prior_accuracy": classification.constant_accuracy(panel, prior),
        f"precision_buy_{name}": precision,
        f"buy_base_rate_{name}": base_rate,
        f"lift_buy_{name}": ratio(precision, base_rate),
        f"buy_calls_{name}": float(called.height),
        f"mean_forward_return_buy_{name}": mean_of(called["forward_return"].to_numpy()),
    }


def _calibration(name: str, panel: pl.DataFrame, train: pl.DataFrame) -> Figures:
    """How far the probabilities are from what happened, beside the training set's shares of the classes.

    `calibration_error` is that of p(BUY), the probability that calls are made by.
    """
    prior = classification.class_shares(train)
    return {
        f"{name}_log_loss": classification.log_loss(panel),
        f"{name}_prior_log_loss": classification.log_loss_of_prior(panel, prior),
        f"{name}_brier_score": classification.brier_score(panel),
        f"{name}_brier_skill": classification.brier_skill(panel, prior),
        f"{name}_calibration_error": classification.expected_calibration_error(panel),
    }


def _regression(name: str, predictions: pl.DataFrame, known_mean: float) -> Figures:
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
    return {
        f"{name}_mae": float(np.abs(error).mean()),
        f"{name}_rmse": float(np.sqrt(np.mean(error**2))),
        f"{name}_r2": 1.0 - ratio(squares, spread),
        f"{name}_r2_over_prior": 1.0 - ratio(squares, float(np.sum((realised - known_mean) ** 2))),
    }


def _portfolio(prefix: str, book: TrancheBook) -> Figures:
    returns = book.returns
    held = bool(book.exposure.any())
    return {
        f"{prefix}sharpe_ratio": sharpe_ratio(returns) if held else math.nan,
        f"{prefix}max_drawdown": max_drawdown(returns) if held else math.nan,
        f"{prefix}mean_return": float(returns.mean()) if held else math.nan,
        f"{prefix}total_return": total_return(returns) if held else math.nan,
        f"{prefix}annual_return": annual_return(returns) if held else math.nan,
        f"{prefix}turnover": float(book.turnover.mean()) if held else math.nan,
        f"{prefix}exposure": float(book.exposure.mean()) if held else math.nan,
        f"{prefix}early_exits": float(book.early_exits),
    }


def _defined(report: dict[str, Any]) -> dict[str, Any]:
    """A report as strict JSON: a share of no rows is null."""
    return {
        name: {key: finite(share) for key, share in part.items()} if isinstance(part, dict) else finite(part)
        for name, part in report.items()
    }


def _why_undefined(name: str) -> str:
    if "matched" in name:
        return "vol_20d is no feature, there is no BUY call, or no BUY label among rows as volatile as the calls"
    if "buy" in name:
        return "the model makes no BUY call in this set, or the set holds no BUY label"
    if "r2" in name:
        return "the realised returns do not vary"
    return "the book holds nothing, or its daily return never varies"
