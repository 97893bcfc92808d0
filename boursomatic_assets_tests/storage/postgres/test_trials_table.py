from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING

import polars as pl
import pytest

from boursomatic_assets.core.dataset.experiment import Experiment
from boursomatic_assets.storage.postgres.trials_table import (
    Trial,
    TrialCount,
    closes_version,
    count_trials,
    list_trials,
    name_version,
    record_trial,
)
from boursomatic_assets_tests.support.catalog import rows, run

if TYPE_CHECKING:
    from boursomatic_assets.storage.postgres.database import Database

FIRST, LAST = date(2024, 1, 2), date(2024, 6, 28)


def trial(name: str, sharpe: float | None = 0.1, data: str = "d1") -> Trial:
    return Trial(
        params_hash=name,
        experiment=Experiment().model_dump(mode="json"),
        data_version=data,
        symbols=5,
        first_session=date(2020, 1, 2),
        last_session=date(2024, 7, 26),
        test_first=FIRST,
        test_last=LAST,
        sharpe=sharpe,
        rank_ic=0.01,
        matched_lift=1.02,
        accuracy=0.41,
        run_id="run 1",
    )


def test_trials_round_trip(database: Database) -> None:
    record_trial(database, trial("a"))
    record_trial(database, trial("b", sharpe=None))
    found = {entry.params_hash: entry for entry in list_trials(database)}
    assert replace(found["a"], created_at=None) == trial("a")
    assert replace(found["b"], created_at=None) == trial("b", sharpe=None)
    assert found["a"].created_at is not None


def test_count_trials_counts_distinct_experiments(database: Database) -> None:
    assert count_trials(database, FIRST, LAST) == TrialCount(0, 0.0)
    record_trial(database, trial("a"))
    assert count_trials(database, FIRST, LAST) == TrialCount(1, 0.0)
    record_trial(database, trial("a"))
    assert count_trials(database, FIRST, LAST) == TrialCount(1, 0.0)
    record_trial(database, trial("b"))
    assert count_trials(database, FIRST, LAST) == TrialCount(2, 0.0)


def test_record_trial_again_replaces_only_the_figures(database: Database) -> None:
    record_trial(database, trial("a"))
    run(database, "UPDATE trials SET created_at = '2020-01-01', version = 'v1'")
    record_trial(database, replace(trial("a", sharpe=0.3), run_id="run 2", version="ignored"))
    (found,) = list_trials(database)
    assert (found.sharpe, found.run_id, found.version) == (0.3, "run 2", "v1")
    assert str(found.created_at) == "2020-01-01 00:00:00"


def test_list_trials_newest_first_by_insertion(database: Database) -> None:
    # Where the clock was ahead decides nothing.
    for name, day in (("a", 2), ("b", 3), ("c", 1)):
        record_trial(database, trial(name))
        run(database, f"UPDATE trials SET created_at = '2024-01-0{day}' WHERE params_hash = '{name}'")  # noqa: S608
    assert [entry.params_hash for entry in list_trials(database)] == ["c", "b", "a"]


def test_count_trials_variance_uses_one_sharpe_per_experiment(database: Database) -> None:
    # Of 0.1, 0.2 and 0.6: mean 0.3, squares 0.04 + 0.01 + 0.09 = 0.14, over n - 1 = 2: 0.07.
    for name, sharpe in (("a", 0.1), ("b", 0.2), ("c", 0.6)):
        record_trial(database, trial(name, sharpe))
    found = count_trials(database, FIRST, LAST)
    assert (found.count, found.sharpe_variance) == (3, pytest.approx(0.07, rel=1e-12))
    # An experiment with an empty book counts, but has no ratio.
    record_trial(database, trial("d", sharpe=None))
    found = count_trials(database, FIRST, LAST)
    assert (found.count, found.sharpe_variance) == (4, pytest.approx(0.07, rel=1e-12))


def test_count_trials_survives_new_data_and_uses_the_newest_sharpe(database: Database) -> None:
    record_trial(database, trial("a", 0.1))
    record_trial(database, trial("b", 0.5))
    later = replace(trial("a", 0.3, data="d2"), test_first=date(2024, 1, 3), test_last=date(2024, 7, 1))
    record_trial(database, later)
    # a on two states of the data, b on one: two experiments, with 0.3 and 0.5: mean 0.4, squares 0.01 + 0.01.
    found = count_trials(database, later.test_first, later.test_last)
    assert (found.count, found.sharpe_variance) == (2, pytest.approx(0.02, rel=1e-12))


@pytest.mark.parametrize(
    ("first", "last", "count"),
    [
        (FIRST, LAST, 1),
        (date(2023, 1, 2), FIRST, 1),  # one session in common
        (LAST, date(2025, 1, 2), 1),
        (date(2024, 3, 1), date(2024, 3, 4), 1),  # within
        (date(2023, 1, 2), date(2025, 1, 2), 1),  # around
        (date(2023, 1, 2), date(2024, 1, 1), 0),  # the day before
        (date(2024, 6, 29), date(2025, 1, 2), 0),  # the day after
    ],
)
def test_count_trials_counts_overlapping_test_sessions(
    database: Database, first: date, last: date, count: int
) -> None:
    record_trial(database, trial("a"))
    assert count_trials(database, first, last).count == count


def test_name_version_touches_only_its_trial(database: Database) -> None:
    for entry in (trial("a"), trial("b"), trial("a", data="d2")):
        record_trial(database, entry)
    name_version(database, "a", "d1", "20240101_000000_abcdef")
    assert sorted(rows(database, "SELECT params_hash, data_version, version FROM trials"), key=str) == [
        ("a", "d1", "20240101_000000_abcdef"),
        ("a", "d2", None),
        ("b", "d1", None),
    ]


def test_closes_version_depends_only_on_closes() -> None:
    closes = pl.DataFrame({"symbol": ["A", "A"], "session": [FIRST, LAST], "close": [1.0, 2.0]})
    one = closes.with_columns(ret_1d=0.5, label=pl.lit("BUY"))
    other = closes.with_columns(rsi_14=50.0, label=pl.lit("SELL"))
    assert closes_version(one) == closes_version(other) == closes_version(closes)
    assert closes_version(closes.with_columns(pl.col("close") * 2)) != closes_version(closes)
    assert closes_version(closes.head(1)) != closes_version(closes)
