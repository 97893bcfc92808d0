"""Walk-forward: the experiment trained repeatedly through time, each fold on what was known before it.

The predictions of all folds are the record of skill: each was made by a model that had seen neither its session nor
any label that reaches into it.
"""

from __future__ import annotations

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
from boursomatic_assets.core.measures.figures import finite
from boursomatic_assets.core.measures.ranking import rank_ic
from boursomatic_assets.core.models.baselines import baseline_columns, fit_volatility_classifier
from boursomatic_assets.core.models.folds import Fold, FoldFacts, fold_sets
from boursomatic_assets.core.models.predictions import predict_rows
from boursomatic_assets.core.models.threshold import CANDIDATE_SCHEMA, Threshold, choose_threshold, with_calls
from boursomatic_assets.core.models.training import fit_classifier, fit_regressor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from boursomatic_assets.core.dataset.experiment import Experiment

FOLD_TYPE = pl.Int16
# With fewer sessions the volatility baseline learns from all of them.
FEWEST_BASELINE_SESSIONS = 50


@dataclass(frozen=True)
class FoldResult:
    """A fold's predictions and the facts of its training.

    `panel` is from `predict_rows`, with `fold` after the session, and the columns of `baseline_columns`; sorted.
    """

    panel: pl.DataFrame
    facts: FoldFacts


def run_fold(
    labels: pl.DataFrame, fold: Fold, experiment: Experiment, threads: int = 0, closes: pl.DataFrame | None = None
) -> FoldResult:
    """Train both models and the volatility baseline for one fold, and predict its sessions.

    Nothing later than the label ends of the fold's own rows changes the result, nor do `threads` (0 for all cores).
    `closes` has `close` of the symbols' whole life, for momentum; by default it is that of the labels, which lacks
    sessions at which a symbol was no member.

    Raises NotEnoughHistoryError if there is nothing to train on or to predict, and DegenerateLabelsError if a class
    never occurs in the rows to train on.
    """
    train, test = fold_sets(labels, fold, experiment)
    # Labels half a horizon apart share half of their outcomes: a sample of sessions loses little and saves time.
    # One thread learns so few rows faster than several.
    most = train["session"].n_unique() // FEWEST_BASELINE_SESSIONS
    every = max(1, min(experiment.horizon // 2, most))
    volatility = fit_volatility_classifier(train, experiment, 1, every)
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
    """Call each fold's rows by a threshold chosen on the predictions of earlier folds.

    Returns the panel of `join_folds` with `call`, and the threshold of each fold. Rows of earlier folds count only
    if their labels were known before the fold's first session. The first fold calls the most probable class.
    """
    numbers = panel["fold"].unique().sort().to_list()
    thresholds = {number: _threshold_before(panel, number, experiment) for number in numbers}
    called = [with_calls(panel.filter(fold=number), thresholds[number].tau) for number in numbers]
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
    """Facts and figures of each fold, a row each, as strict JSON.

    Mean `rank_ic`, `matched_lift_buy`, `accuracy` of the calls, `majority_accuracy` (of the fold's own most
    frequent class, known only afterwards) and `tau`; None where one is undefined.
    """
    return [
        {
            **fold.to_json(),
            **{name: finite(value) for name, value in fold_figures(called.filter(fold=fold.fold)).items()},
            "tau": thresholds[fold.fold].tau,
        }
        for fold in facts
    ]


def fold_figures(panel: pl.DataFrame, call: str = "call") -> dict[str, float]:
    """Figures of one fold's rows; NaN where one is undefined."""
    return {
        "rank_ic": mean_of(rank_ic(panel)["rank_ic"].to_numpy()),
        "matched_lift_buy": matched_lift(panel, call),
        "accuracy": accuracy(panel, call),
        "majority_accuracy": constant_accuracy(panel, majority_class(panel)),
    }
