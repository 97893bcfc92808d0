"""Training, validation and test sets in time order, purged at both boundaries."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import polars as pl

from boursomatic_assets.core.dataset.features import is_warmed_up
from boursomatic_assets.core.dataset.labels import realised_rows, usable_rows
from boursomatic_assets.core.market.bars import PANEL_KEY, require_panel
from boursomatic_assets.errors import NotEnoughHistoryError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    from boursomatic_assets.core.dataset.experiment import Experiment


@dataclass(frozen=True)
class Split:
    """The three sets, with the labels' columns; `purged` counts labelled rows left out by purge or embargo."""

    train: pl.DataFrame
    validation: pl.DataFrame
    test: pl.DataFrame
    purged: int

    def sets(self) -> dict[str, pl.DataFrame]:
        """Panels by asset name, in time order."""
        return {"train_set": self.train, "validation_set": self.validation, "test_set": self.test}


def split_panel(labels: pl.DataFrame, experiment: Experiment) -> Split:
    """Cut the labelled sessions into three sets in time order and purge the earlier two.

    Rows without a label, on a day without session, or without the history of their features are left out.

    Purging follows López de Prado, Advances in Financial Machine Learning (2018), chapter 7.

    A session is in one set only. A row stays in an earlier set only if its `label_end` is before the
    `embargo` sessions in front of the next set. Raises NotEnoughHistoryError if a set would be empty.
    """
    require_panel(labels, ["label_end", "label"])
    rows = usable_rows(labels).filter(is_warmed_up(experiment.features))
    sessions = rows["session"].unique().sort()
    validation_at, test_at = _boundaries(sessions, experiment)
    if not 0 < validation_at < test_at < sessions.len():
        raise _too_short(sessions, experiment, "a set would have no session")
    train = _before(rows, sessions, 0, validation_at, experiment.embargo)
    validation = _before(rows, sessions, validation_at, test_at, experiment.embargo)
    test = rows.filter(pl.col("session") >= sessions[test_at])
    if not (train.height and validation.height):
        raise _too_short(sessions, experiment, "purging leaves a set empty")
    return Split(train, validation, test, rows.height - train.height - validation.height - test.height)


def _boundaries(sessions: pl.Series, experiment: Experiment) -> tuple[int, int]:
    """Places of the first session of the validation set and of the test set."""
    until_test = experiment.train_fraction + experiment.validation_fraction
    return round(sessions.len() * experiment.train_fraction), round(sessions.len() * until_test)


def judged_sets(
    sets: Mapping[str, pl.DataFrame], labels: pl.DataFrame, experiment: Experiment
) -> dict[str, pl.DataFrame]:
    """Add the rows whose instrument ended early to the `validation` and `test` sets of `split_panel`.

    The result is as from `realised_rows`, sorted. Added rows are purged by the end of their horizon, as the sets
    are.
    """
    warm = is_warmed_up(experiment.features)
    sessions = usable_rows(labels).filter(warm)["session"].unique().sort()
    validation_at, test_at = _boundaries(sessions, experiment)
    early = realised_rows(labels.filter(pl.col("label").is_null() & warm), experiment)
    added = {
        "validation": _before(early, sessions, validation_at, test_at, experiment.embargo),
        "test": early.filter(pl.col("session") >= sessions[test_at]),
    }
    return {
        name: pl.concat([realised_rows(rows, experiment), added[name]]).sort(PANEL_KEY)
        for name, rows in sets.items()
    }


def _before(rows: pl.DataFrame, sessions: pl.Series, first: int, next_first: int, embargo: int) -> pl.DataFrame:
    known_by: date = sessions[max(next_first - embargo, 0)]
    session, label_end = pl.col("session"), pl.col("label_end")
    in_span = (session >= sessions[first]) & (session < sessions[next_first])
    return rows.filter(in_span & (label_end < known_by))


def _too_short(sessions: pl.Series, experiment: Experiment, why: str) -> NotEnoughHistoryError:
    message = (
        f"three purged sets need many more sessions than the horizon of {experiment.horizon} (and an embargo "
        f"of {experiment.embargo}); {why}: {sessions.len()} labelled sessions "
        f"({sessions.min()!s}..{sessions.max()!s}).\n"
        "Ingest more history: boursomatic materialize --select price_bars, or read more of it: --lookback-days"
    )
    return NotEnoughHistoryError(message)


def overlaps(split: Split) -> list[str]:
    """Describe every overlap of the sets in time; empty for a sound split. Independent of the code that splits."""
    problems = []
    named = list(split.sets().items())
    for (earlier_name, earlier), (later_name, later) in combinations(named, 2):
        if later.is_empty():
            continue
        first_later = later["session"].min()
        leaking = earlier.filter(pl.col("label_end") >= first_later)
        if leaking.height:
            row = leaking.row(0, named=True)
            problems.append(
                f"{leaking.height} rows of {earlier_name} have labels that end in {later_name}, which starts "
                f"{first_later!s}: first {row['symbol']!r} {row['session']}, label_end {row['label_end']}"
            )
        shared = earlier.filter(pl.col("session") >= first_later)
        if shared.height:
            problems.append(
                f"{shared.height} rows of {earlier_name} are at or after {first_later!s}, in {later_name}"
            )
    return problems
