"""The figures of `metrics.json`: those of an evaluation, per set, under the public keys."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from boursomatic_assets.core.dataset.labels import CLASS_NAMES
from boursomatic_assets.core.evaluation.book_figures import book_values
from boursomatic_assets.core.market.bars import PANEL_KEY, require_rows
from boursomatic_assets.core.measures import calibration, classification, forecasts
from boursomatic_assets.core.measures.classification import NO_VOLATILITY, PRIOR
from boursomatic_assets.core.measures.figures import finite
from boursomatic_assets.core.models.baselines import prior_columns
from boursomatic_assets.core.models.predictions import SET_NAMES, set_of
from boursomatic_assets.core.models.threshold import with_calls
from boursomatic_assets.core.portfolio.book import BookSpec, TrancheBook, tranche_books

if TYPE_CHECKING:
    from boursomatic_assets.core.dataset.experiment import Experiment

Figures = dict[str, float]
_OF_BOOKS = (
    "sharpe_ratio", "max_drawdown", "mean_return", "total_return", "annual_return", "turnover", "exposure",
)  # fmt: skip


@dataclass(frozen=True)
class Metrics:
    """Everything measured on one pair of models; an undefined figure is NaN.

    `reports` and `confusions` are those of the sets `validation` and `test`; rows of a confusion matrix are true
    classes. `books` are the long-only books of the BUY calls. `tau` is None where the most probable class is the
    call.
    """

    figures: Figures
    reports: dict[str, dict[str, Any]]
    confusions: dict[str, list[list[int]]]
    books: dict[str, TrancheBook]
    tau: float | None

    def to_json(self) -> dict[str, Any]:
        """Strict JSON: a figure that is not finite is null, and `undefined` says why."""
        figures = {name: finite(value) for name, value in self.figures.items()}
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


def measure(
    predictions: pl.DataFrame, tau: float | None, train: pl.DataFrame, closes: pl.DataFrame, experiment: Experiment
) -> Metrics:
    """Measure the models' predictions of the validation and test sets.

    Parameters
    ----------
    predictions : DataFrame
        As `predict_sets` returns it.
    tau : float or None
        The decision rule of `with_calls`.
    train : DataFrame
        Training rows, as `classify_rows` returns them: for the priors and the training accuracy.
    closes : DataFrame
        `close`, and `exchange` where known, of the sets and the horizon after them, to mark the books to market.

    Returns
    -------
    Metrics
        Figures `train_…`, `val_…`, `test_…`; the validation book's have no prefix. `equal_weight_…` are those of a
        book that holds every instrument.

    Raises
    ------
    NoRowsError
        If a set has no rows, or a row lacks its outcome or forecast.
    """
    require_rows(train, "metrics need rows to train on", ("label", "forward_return"))
    for name in SET_NAMES:
        needed = ("label", "forward_return", "predicted_return")
        require_rows(set_of(predictions, name), f"metrics need predicted rows of the {name} set", needed)
    known = prior_columns(train)
    train = with_calls(train, tau).with_columns(**known)
    judged = {name: with_calls(set_of(predictions, name), tau).with_columns(**known) for name in SET_NAMES}
    validation, test = judged["validation"], judged["test"]
    bought = pl.col("call") == "BUY"
    buying = {name: _book_spec(panel, panel.filter(bought)) for name, panel in judged.items()}
    holding = {f"{name} equal weight": _book_spec(panel, panel) for name, panel in judged.items()}
    books = tranche_books(buying | holding, closes, experiment.horizon, experiment.cost_bps)
    figures = {
        **_calls("train", train),
        **_calls("val", validation),
        **_calls("test", test),
        "matched_lift_buy_val": classification.matched_lift(validation),
        "matched_lift_buy_test": classification.matched_lift(test),
        **_probabilities("val", validation),
        **_probabilities("test", test),
        **_forecasts("val", validation),
        **_forecasts("test", test),
        **_portfolio("", books["validation"]),
        **_portfolio("test_", books["test"]),
        **_portfolio("equal_weight_", books["validation equal weight"]),
        **_portfolio("test_equal_weight_", books["test equal weight"]),
    }
    return Metrics(
        figures=figures,
        reports={name: classification.classification_report(panel) for name, panel in judged.items()},
        confusions={name: classification.confusion_counts(panel) for name, panel in judged.items()},
        books={name: books[name] for name in buying},
        tau=tau,
    )


def _book_spec(panel: pl.DataFrame, calls: pl.DataFrame) -> BookSpec:
    """Calls over all sessions of a set: before the first call the book is in cash."""
    span: Any = (panel["session"].min(), panel["session"].max())
    return BookSpec(calls.select(PANEL_KEY), span=span)


def _calls(name: str, panel: pl.DataFrame) -> Figures:
    """Accuracy and BUY precision, beside baselines that need no model.

    `majority` is the set's own most frequent class, known only afterwards; `prior` is the training set's.
    `most_probable` is the classifier without threshold: a threshold that calls BUY more often costs accuracy.
    """
    called = panel.filter(pl.col("call") == "BUY")
    return {
        f"{name}_accuracy": classification.accuracy(panel),
        f"{name}_majority_accuracy": classification.constant_accuracy(panel, classification.majority_class(panel)),
        f"{name}_most_probable_accuracy": classification.accuracy(panel, "predicted_label"),
        f"{name}_prior_accuracy": classification.accuracy(panel, classification.most_probable(PRIOR)),
        f"precision_buy_{name}": classification.buy_precision(panel),
        f"buy_base_rate_{name}": classification.constant_accuracy(panel, "BUY"),
        f"lift_buy_{name}": classification.buy_lift(panel),
        f"buy_calls_{name}": float(called.height),
        f"mean_forward_return_buy_{name}": classification.mean_of(called["forward_return"].to_numpy()),
    }


def _probabilities(name: str, panel: pl.DataFrame) -> Figures:
    """Log loss, Brier score and the calibration error of p(BUY), beside the training prior."""
    return {
        f"{name}_log_loss": calibration.log_loss(panel),
        f"{name}_prior_log_loss": calibration.log_loss(panel, PRIOR),
        f"{name}_brier_score": calibration.brier_score(panel),
        f"{name}_brier_skill": calibration.brier_skill(panel),
        f"{name}_calibration_error": calibration.expected_calibration_error(panel),
    }


def _forecasts(name: str, panel: pl.DataFrame) -> Figures:
    return {
        f"{name}_mae": forecasts.mean_absolute_error(panel),
        f"{name}_rmse": forecasts.root_mean_squared_error(panel),
        f"{name}_r2": forecasts.r2(panel),
        f"{name}_r2_over_prior": forecasts.r2_over_prior(panel),
    }


def _portfolio(prefix: str, book: TrancheBook) -> Figures:
    """Figures of a book; NaN for one that never holds anything."""
    values, held = book_values(book, lags=0), book.exposure.any()
    figures = {f"{prefix}{name}": values[name] if held else math.nan for name in _OF_BOOKS}
    return {**figures, f"{prefix}early_exits": float(book.early_exits)}


def _defined(report: dict[str, Any]) -> dict[str, Any]:
    """A report as strict JSON: a share of no rows is null."""
    return {
        name: {key: finite(share) for key, share in part.items()} if isinstance(part, dict) else finite(part)
        for name, part in report.items()
    }


def _why_undefined(name: str) -> str:
    if "matched" in name:
        return NO_VOLATILITY
    if "buy" in name:
        return "the model makes no BUY call in this set, or the set holds no BUY label"
    if "r2" in name:
        return "the realised returns do not vary"
    return "the book holds nothing, or its daily return never varies"
