"""Walk-forward: the experiment trained again and again through time, each fold on what was known before it.

The predictions of all folds together are the record of skill: every one was made by a model that had seen nothing
of its session, nor of any label that reached into it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from boursomatic_assets.core.market.bars import PANEL_KEY
from boursomatic_assets.core.measures.classification import (
    accuracy,
    constant_accuracy,
    majority_class,
    matched_lift,
    mean_of,
)
from boursomatic_assets.core.measures.ranking import rank_ic
from boursomatic_assets.core.models.baselines import baseline_columns, fit_volatility_classifier
from boursomatic_assets.core.models.folds import Fold, FoldFacts, fold_sets
from boursomatic_assets.core.models.predictions import predict_rows
from boursomatic_assets.core.models.threshold import SCHEMA as CANDIDATE_SCHEMA
from boursomatic_assets.core.models.threshold import Threshold, choose_threshold, make_calls
from boursomatic_assets.core.models.training import fit_classifier, fit_regressor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from boursomatic_assets.core.dataset.experiment import Experiment

FOLD_TYPE = pl.Int16
# Below so many sessions the one feature of the volatility baseline is learned from all of them.
FEWEST_BASELINE_SESSIONS = 50


@dataclass(frozen=True)
class FoldResult:
    """A fold's predictions beside those of its baselines, and the facts of its training.

    Attributes
    ----------
    panel : DataFrame
        As `predict_rows` gives it with `fold` after the session, and the columns of `baseline_columns`; sorted by
        symbol and session.
    facts : FoldFacts
    """

    panel: pl.DataFrame
    facts: FoldFacts


def run_fold(
    labels: pl.DataFrame,
    fold: Fold,
    experiment: Experiment,
    threads: int = 0,
    closes: pl.DataFrame | None = None,
) -> FoldResult:
    """Train both models and the volatility baseline for one fold, and predict its sessions.

    Parameters
    ----------
    labels : DataFrame
        Label panel with `close`. Nothing later than the label ends of the fold's own rows changes the result.
    fold : Fold
    experiment : Experiment
    threads : int
        0 for all cores. Changes the time taken, never the result.
    closes : DataFrame, optional
        Panel with `close` of the symbols' whole life, for momentum; by default that of the labels, which leaves out
        sessions at which a symbol was no member.

    Raises
    ------
    NotEnoughHistoryError
        If there is nothing to train on or nothing to predict.
    DegenerateLabelsError
        If a class never occurs in the rows to train on.
    """
    train, test = fold_sets(labels, fold, experiment)
    # So few rows are learned faster by one thread than by several that wait for each other.
    volatility = fit_volatility_classifier(train, experiment, 1, _every(train, experiment))
    models = fit_classifier(train, experiment, threads), fit_regressor(train, experiment, threads)
    known = labels if closes is None else closes
    past = known.select(*PANEL_KEY, "close").filter(pl.col("session") <= fold.test_last)
    panel = (
        predict_rows(test, *models)
        .with_columns(fold=pl.lit(fold.number, FOLD_TYPE))
        .select(*PANEL_KEY, "fold", pl.exclude(*PANEL_KEY, "fold"))
        .join(baseline_columns(test, train, volatility, past), on=PANEL_KEY, how="left", maintain_order="left")
    )
    return FoldResult(panel, _facts(fold.number, train, panel))


def _every(train: pl.DataFrame, experiment: Experiment) -> int:
    """Sessions from one that the volatility baseline learns from to the next.

    Labels half a horizon apart share half of what they look at: little is lost, and most of the time is saved.
    """
    most = train["session"].n_unique() // FEWEST_BASELINE_SESSIONS
    return max(1, min(experiment.horizon // 2, most))


def _facts(number: int, train: pl.DataFrame, panel: pl.DataFrame) -> FoldFacts:
    learned = train.select(
        train_first=pl.col("session").min(),
        train_last=pl.col("session").max(),
        train_last_label_end=pl.col("label_end").max(),
    ).row(0, named=True)
    predicted = panel.select(test_first=pl.col("session").min(), test_last=pl.col("session").max())
    return FoldFacts(number, **learned, **predicted.row(0, named=True), train_rows=train.height, rows=panel.height)


def join_folds(panels: Mapping[int, pl.DataFrame]) -> pl.DataFrame:
    """Predictions of all folds in one panel, by symbol and session."""
    return pl.concat([panels[number] for number in sorted(panels)]).sort(PANEL_KEY)


def sequential_calls(panel: pl.DataFrame, experiment: Experiment) -> tuple[pl.DataFrame, dict[int, Threshold]]:
    """Call each fold's rows by a threshold that was chosen on what earlier folds had predicted.

    Parameters
    ----------
    panel : DataFrame
        Predictions of all folds, as `join_folds` gives them.
    experiment : Experiment

    Returns
    -------
    tuple of (DataFrame, dict of int to Threshold)
        The panel with `call`, and the threshold of each fold. Of the earlier folds only rows count whose labels
        were known before the fold's first session; the first fold has none, and its most probable class is called.
    """
    numbers = panel["fold"].unique().sort().to_list()
    thresholds = {number: _threshold_before(panel, number, experiment) for number in numbers}
    called = [make_calls(panel.filter(fold=number), thresholds[number].tau) for number in numbers]
    return pl.concat(called).sort(PANEL_KEY), thresholds


def _threshold_before(panel: pl.DataFrame, number: int, experiment: Experiment) -> Threshold:
    first: date = panel.filter(fold=number)["session"].min()  # type: ignore[assignment]
    known = panel.filter((pl.col("fold") < number) & (pl.col("label_end") < first))
    if known.is_empty():
        reason = "no earlier fold has rows whose labels were known by then; the most probable class is called"
        return Threshold(None, reason, pl.DataFrame(schema=CANDIDATE_SCHEMA))
    horizon = experiment.horizon
    return choose_threshold(known, horizon, experiment.bootstrap_draws, experiment.seed, 2 * horizon)


def fold_table(
    called: pl.DataFrame, facts: Sequence[FoldFacts], thresholds: Mapping[int, Threshold]
) -> list[dict[str, Any]]:
    """What each fold was trained on and how it fared, a row each.

    Parameters
    ----------
    called : DataFrame
        Predictions of all folds with `call`.
    facts : sequence of FoldFacts
    thresholds : mapping of int to Threshold
        By the fold's number.

    Returns
    -------
    list of dict
        Strict JSON: the facts, mean `rank_ic`, `matched_lift_buy`, `accuracy` of the calls, `majority_accuracy`
        (the fold's own most frequent class, known only afterwards) and `tau`; None where one is not defined.
    """
    return [
        {
            **fold.to_json(),
            **_defined(fold_figures(called.filter(fold=fold.fold))),
            "tau": thresholds[fold.fold].tau,
        }
        for fold in facts
    ]


def fold_figures(panel: pl.DataFrame, call: str = "call") -> dict[str, float]:
    """Figures of one fold's rows; NaN where one is not defined."""
    coefficients = rank_ic(panel)["rank_ic"].to_numpy()
    return {
        "rank_ic": mean_of(coefficients),
        "matched_lift_buy": matched_lift(panel, call),
        "accuracy": accuracy(panel, call),
        "majority_accuracy": constant_accuracy(panel, majority_class(panel)),
    }


def _defined(figures: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in figures.items()}
