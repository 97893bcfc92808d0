"""Folds of the walk-forward: the sessions that each predicts, and the rows that it may train on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import polars as pl

from boursomatic_assets.core.dataset.features import is_warmed_up
from boursomatic_assets.core.dataset.labels import realised_rows, usable_rows
from boursomatic_assets.core.market.bars import require_panel
from boursomatic_assets.errors import NotEnoughHistoryError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from boursomatic_assets.core.dataset.experiment import Experiment


@dataclass(frozen=True)
class Fold:
    """Sessions that a model predicts, all later than those it trains on; `number` counts from 1 in time order."""

    number: int
    train_first: date
    test_first: date
    test_last: date


@dataclass(frozen=True)
class FoldFacts:
    """Spans and row counts of one fold, read from its training rows and its predictions.

    `train_last_label_end` is the latest session in which the label of a training row became known.
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
        """As strict JSON, dates in ISO 8601."""
        return {name: value if isinstance(value, int) else str(value) for name, value in asdict(self).items()}


def plan_folds(labels: pl.DataFrame, experiment: Experiment) -> tuple[Fold, ...]:
    """Cut the sessions to judge into a history and consecutive spans to predict, as equal as possible.

    The spans are in time order and contain every session after the history once. Sessions count only with rows
    whose horizon has passed and whose features have their history. Raises NotEnoughHistoryError if there is no
    history, or fewer sessions after it than folds.
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
    """Training rows and rows to predict of a fold.

    A training row's `label_end` is before the fold's first session and the `embargo` sessions in front of it. Rows
    to predict are all whose horizon has passed, as `realised_rows` gives them: nobody knew which instruments would
    end.

    Purging follows López de Prado, Advances in Financial Machine Learning (2018), chapter 7.

    Raises NotEnoughHistoryError if one of the two is empty.
    """
    require_panel(labels, ["label_end", "label", *experiment.features])
    rows = usable_rows(labels).filter(is_warmed_up(experiment.features))
    session = pl.col("session")
    earlier = rows.filter((session >= fold.train_first) & (session < fold.test_first))
    test = _judged_rows(labels.filter(session.is_between(fold.test_first, fold.test_last)), experiment)
    sessions: list[date] = earlier["session"].unique().sort().to_list()
    known_by = [*sessions, fold.test_first][-min(experiment.embargo, len(sessions)) - 1]
    train = earlier.filter(pl.col("label_end") < known_by)
    if train.is_empty() or test.is_empty():
        why = f"fold {fold.number} ({fold.test_first}..{fold.test_last}) has {train.height} rows to train on"
        raise _too_short(rows["session"].unique().sort(), experiment, f"{why} and {test.height} to predict")
    return train, test


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


def folds_overlap(folds: Sequence[FoldFacts], panels: Mapping[int, pl.DataFrame]) -> list[str]:
    """Describe every look-ahead of a fold and every session that two folds predict; empty if sound.

    `panels` has the stored `fold` and `session` of each fold's predictions, which the facts are compared with.
    """
    spans: dict[int, tuple[Any, Any]] = {
        number: (panel["session"].min(), panel["session"].max()) for number, panel in sorted(panels.items())
    }
    problems = [
        f"fold {fold.fold} was trained on labels that end {fold.train_last_label_end}, and predicts from "
        f"{spans[fold.fold][0]} on"
        for fold in folds
        if fold.fold in spans and fold.train_last_label_end >= spans[fold.fold][0]
    ]
    problems += [f"fold {fold.fold} has no predictions" for fold in folds if fold.fold not in spans]
    problems += [
        f"fold {number} holds predictions of fold {other}"
        for number, panel in sorted(panels.items())
        for other in panel["fold"].unique().sort()
        if other != number
    ]
    for (earlier, (_, last)), (later, (first, _)) in pairwise(spans.items()):
        if first <= last:
            problems.append(f"fold {later} predicts from {first} on, and fold {earlier} up to {last}")
    return problems
