from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl
import pytest
import sqlalchemy as sa

from boursomatic_assets.core.dataset.experiment import PROFILE_NAMES
from boursomatic_assets.errors import PanelContractError, StorageError
from boursomatic_assets.storage.postgres.outcomes_table import (
    JUDGED_SCHEMA,
    OUTCOME_SCHEMA,
    read_outcomes,
    write_outcomes,
)
from boursomatic_assets.storage.postgres.recommendations_table import write_recommendations
from boursomatic_assets.storage.postgres.stored_recommendations import read_recommendations
from boursomatic_assets_tests.support.calls import MONDAY, VERSION, calls_of, with_model
from boursomatic_assets_tests.support.catalog import FILLED, FOUR, ONE, THREE, TWO, rows, run

if TYPE_CHECKING:
    from boursomatic_assets.storage.postgres.database import Database


@pytest.fixture
def recommended(database: Database) -> Database:
    with_model(database, "AAA", "BBB")
    write_recommendations(database, calls_of(["BBB", "AAA"]), VERSION)
    return database


def outcome(key: str, **other: object) -> dict[str, object]:
    ended = {
        "recommendation_id": key, "entry_session": MONDAY, "entry_close": 10.0, "exit_session": date(2024, 2, 5),
        "exit_close": 11.0, "realised_return": 0.1, "realised_label": "BUY", "hit": True, "first_touch": "target",
        "touched_session": date(2024, 1, 31), "ended": "horizon",
    }  # fmt: skip
    return {**ended, **other}


def outcomes(*given: dict[str, object]) -> pl.DataFrame:
    return pl.DataFrame(given, schema=OUTCOME_SCHEMA, orient="row")


def test_outcomes_round_trip_beside_their_recommendations(recommended: Database) -> None:
    keys = read_recommendations(recommended)["id"].to_list()
    untouched = {"first_touch": None, "touched_session": None, "ended": "stopped trading"}
    given = outcomes(*(outcome(key) for key in keys[:-1]), outcome(keys[-1], **untouched))
    assert write_outcomes(recommended, given.reverse()) == 6
    found = read_outcomes(recommended)
    assert found.select(*OUTCOME_SCHEMA).equals(given)
    assert found["symbol"].to_list() == ["AAA"] * 3 + ["BBB"] * 3
    assert found["profile"].to_list() == [*PROFILE_NAMES, *PROFILE_NAMES]
    beside = ("exchange", "label", "confidence", "session", "horizon_days", "version")
    assert found.select(beside).unique().rows() == [("XNYS", "BUY", 0.5, MONDAY, 20, VERSION)]
    assert datetime.now(UTC).replace(tzinfo=None) - found["judged_at"][0] < timedelta(minutes=5)


def test_write_outcomes_never_rewrites(recommended: Database) -> None:
    first, second = read_recommendations(recommended)["id"].head(2).to_list()
    assert write_outcomes(recommended, outcomes(outcome(first))) == 1
    before = rows(recommended, "SELECT xmin::text, o::text FROM recommendation_outcomes o")
    other = outcome(first, realised_label="SELL", hit=False)
    assert write_outcomes(recommended, outcomes(other, outcome(second))) == 1
    after = rows(recommended, "SELECT xmin::text, o::text FROM recommendation_outcomes o")
    assert before[0] in after
    assert len(after) == 2
    assert write_outcomes(recommended, outcomes(other, outcome(second))) == 0


def test_outcomes_of_an_empty_table(database: Database) -> None:
    assert write_outcomes(database, outcomes()) == 0
    assert read_outcomes(database).schema == JUDGED_SCHEMA


def test_write_outcomes_refuses_impossible_rows(recommended: Database) -> None:
    key = read_recommendations(recommended)["id"][0]
    with pytest.raises(PanelContractError, match="one row a recommendation"):
        write_outcomes(recommended, outcomes(outcome(key), outcome(key)))
    with pytest.raises(PanelContractError, match=r"missing: \['hit'\]"):
        write_outcomes(recommended, outcomes(outcome(key)).drop("hit"))
    with pytest.raises(StorageError, match="refused"):
        write_outcomes(recommended, outcomes(outcome(key), outcome("00000000-0000-0000-0000-000000000000")))
    assert read_outcomes(recommended).is_empty()


OUTCOME = (
    "INSERT INTO recommendation_outcomes (recommendation_id, entry_session, entry_close, exit_session, exit_close, "
    "realised_return, realised_label, hit, first_touch, touched_session, ended) VALUES "
    "('{}', '2020-01-02', 10, '{}', 11, 0.1, 'BUY', true, {}, {}, 'horizon')"
)


def test_outcome_table_rules(database: Database) -> None:
    run(database, FILLED)
    run(database, OUTCOME.format(ONE, "2020-01-31", "NULL", "NULL"))
    run(database, OUTCOME.format(TWO, "2020-01-02", "'stop'", "'2020-01-02'"))
    for refused, reason in (
        (OUTCOME.format(ONE, "2020-01-31", "NULL", "NULL"), "pkey"),
        (OUTCOME.format(FOUR, "2020-01-31", "NULL", "NULL"), "foreign key"),
        (OUTCOME.format(THREE, "2020-01-01", "NULL", "NULL"), "exit_after_entry"),
        (OUTCOME.format(THREE, "2020-01-31", "'stop'", "NULL"), "touch_has_its_session"),
    ):
        with pytest.raises(sa.exc.IntegrityError, match=reason):
            run(database, refused)
