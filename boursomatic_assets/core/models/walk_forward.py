"""Walk-forward: the experiment trained again and again through time, each fold on what was known before it.

The predictions of all folds together are the record of skill: every one was made by a model that had seen nothing
of its session, nor of any label that reached into it.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import polars as pl

from boursomatic_assets.core.dataset.features import is_warmed_up
from boursomatic_assets.core.dataset.labels import realised_rows, usable_rows
from boursomatic_assets.core.market.bars import PANEL_KEY, require_panel
from boursomatic_assets.core.measures.classification import (
    accuracy,
    constant_accuracy,
    majority_class,
    matched_lift,
    mean_of,
)
from boursomatic_assets.core.measures.ranking import rank_ic
from boursomatic_assets.core.models.baselines import baseline_columns, fit_volatility_classifier
from boursomatic_assets.core.models.predictions import predict_rows
from boursomatic_assets.core.models.threshold import SCHEMA as CANDIDATE_SCHEMA
from boursomatic_assets.core.models.threshold import Threshold, choose_threshold, make_calls
from boursomatic_assets.core.models.training import fit_classifier, fit_regressor
from boursomatic_assets.errors import NotEnoughHistoryError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from boursomatic_assets.core.dataset.experiment import Experiment

FOLD_TYPE = pl.Int16
# Below so many sessions the one feature of the volatility baseline is learned from all of them.
FEWEST_BASELINE_SESSIONS = 50


@dataclass(frozen=True)
class Fold:
    """A span of sessions that is predicted, and where the sessions to learn it from begin.

    Attributes
    ----------
    number : int
        From 1, in time order.
    train_first : date
        First session to train on.
    test_first, test_last : date
        First and last session to predict; what is trained on lies before the first.
    """

    number: int
    train_first: date
    test_first: date
    test_last: date


@dataclass(frozen=True)
class FoldFacts:
    """What a fold was trained on and what it predicted, as found in its rows.

    Attributes
    ----------
    fold : int
    train_first, train_last : date
        First and last session that was trained on.
    train_last_label_end : date
        Session in which the last of the labels trained on became known.
    test_first, test_last : date
        First and last session that was predicted.
    train_rows, rows : int
        Rows trained on, and rows predicted.
    """

    fold: int
    train_first: date
    train_last: date
    train_last_label_end: date
    test_first: date
    test_last: date
    train_rows: int
    rows: int

    def to_json(self) -> dict[str, Any]:
        """The same as strict JSON holds it, dates in ISO 8601."""
        return {name: value if isinstance(value, int) else str(value) for name, value in asdict(self).items()}


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


def plan_folds(labels: pl.DataFrame, experiment: Experiment) -> tuple[Fold, ...]:
    """Cut the sessions to judge into a history and consecutive spans to predict, as equal as whole sessions allow.

    Parameters
    ----------
    labels : DataFrame
        Label panel; rows whose horizon has not passed, on a day that is no session, or without the history their
        features need, do not count.
    experiment : Experiment
        Its `walk_forward`: number of folds, window, and share of the sessions that is history.

    Returns
    -------
    tuple of Fold
        In time order; together they predict every session after the history once.

    Raises
    ------
    NotEnoughHistoryError
        If there is no history, or fewer sessions after it than folds.
    """
    sessions = _judged_rows(labels, experiment)["session"].unique().sort()
    plan, history = experiment.walk_forward, round(sessions.len() * experiment.walk_forward.history_fraction)
    predicted = sessions.len() - history
    if not history or predicted < plan.folds:
        why = f"{history} sessions of history leave {predicted} to predict"
        raise _too_short(sessions, experiment, why)
    starts = [history + number * predicted // plan.folds for number in range(plan.folds + 1)]
    return tuple(
        Fold(
            number,
            train_first=sessions[start - history if plan.window == "rolling" else 0],
            test_first=sessions[start],
            test_last=sessions[end - 1],
        )
        for number, (start, end) in enumerate(pairwise(starts), start=1)
    )


def fold_sets(labels: pl.DataFrame, fold: Fold, experiment: Experiment) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows that a fold trains on, and rows that it predicts.

    Returns
    -------
    tuple of DataFrame
        A row is trained on only if its `label_end` is before the fold's first session, and before the `embargo`
        sessions in front of it. What is predicted are all rows whose horizon has passed, as `realised_rows` gives
        them: whether an instrument lives to its end nobody knew.

    Raises
    ------
    NotEnoughHistoryError
        If one of the two is empty.

    Notes
    -----
    Purging follows López de Prado, Advances in Financial Machine Learning (2018), chapter 7.
    """
    rows = _usable_rows(labels, experiment)
    session = pl.col("session")
    earlier = rows.filter((session >= fold.train_first) & (session < fold.test_first))
    test = _judged_rows(labels.filter(session.is_between(fold.test_first, fold.test_last)), experiment)
    train = earlier.filter(pl.col("label_end") < _known_by(earlier, fold, experiment.embargo))
    if train.is_empty() or test.is_empty():
        why = f"fold {fold.number} ({fold.test_first}..{fold.test_last}) has {train.height} rows to train on"
        raise _too_short(rows["session"].unique().sort(), experiment, f"{why} and {test.height} to predict")
    return train, test


def _known_by(earlier: pl.DataFrame, fold: Fold, embargo: int) -> date:
    sessions: list[date] = earlier["session"].unique().sort().to_list()
    return [*sessions, fold.test_first][-min(embargo, len(sessions)) - 1]


def _usable_rows(labels: pl.DataFrame, experiment: Experiment) -> pl.DataFrame:
    require_panel(labels, ["label_end", "label", *experiment.features])
    return usable_rows(labels).filter(is_warmed_up(experiment.features))


def _judged_rows(labels: pl.DataFrame, experiment: Experiment) -> pl.DataFrame:
    require_panel(labels, ["label_end", "label", *experiment.features])
    return realised_rows(labels.filter(is_warmed_up(experiment.features)), experiment)


def _too_short(sessions: pl.Series, experiment: Experiment, why: str) -> NotEnoughHistoryError:
    plan = experiment.walk_forward
    message = (
        f"{plan.folds} folds after a history of {plan.history_fraction:.0%} of the sessions need many more of them "
        f"than the horizon of {experiment.horizon} (and an embargo of {experiment.embargo}); {why}: "
        f"{sessions.len()} labelled sessions ({sessions.min()!s}..{sessions.max()!s}).\n"
        "Ingest more history: boursomatic materialize --select price_bars, read more of it: --lookback-days, or "
        "ask for fewer folds: --folds"
    )
    return NotEnoughHistoryError(message)


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


def folds_overlap(folds: Sequence[FoldFacts], panels: Mapping[int, pl.DataFrame]) -> list[str]:
    """Describe every way in which a fold knew of what it predicts, or two folds predict the same; empty if sound.

    Parameters
    ----------
    folds : sequence of FoldFacts
        In time order.
    panels : mapping of int to DataFrame
        `fold` and `session` of what each fold predicted, as stored: what the facts say of it is not taken on trust.
    """
    spans = {number: _span(panel) for number, panel in sorted(panels.items())}
    found = [
        f"fold {fold.fold} was trained on labels that end {fold.train_last_label_end}, and predicts from "
        f"{spans[fold.fold][0]} on"
        for fold in folds
        if fold.fold in spans and fold.train_last_label_end >= spans[fold.fold][0]
    ]
    found += [f"fold {fold.fold} has no predictions" for fold in folds if fold.fold not in spans]
    found += [
        f"fold {number} holds predictions of fold {other}"
        for number, panel in sorted(panels.items())
        for other in panel["fold"].unique().sort()
        if other != number
    ]
    for (earlier, (_, last)), (later, (first, _)) in pairwise(spans.items()):
        if first <= last:
            found.append(f"fold {later} predicts from {first} on, and fold {earlier} up to {last}")
    return found


def _span(panel: pl.DataFrame) -> tuple[date, date]:
    first, last = panel.select(pl.col("session").min().alias("first"), pl.col("session").max().alias("last")).row(0)
    return first, last
