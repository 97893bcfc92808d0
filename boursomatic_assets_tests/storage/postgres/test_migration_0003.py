"""What the third migration, and those after it, add to a database that the second one made and people filled."""

# ruff: noqa: S608 (the statements are the test's own)

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from alembic import command

from boursomatic_assets.errors import SchemaVersionError
from boursomatic_assets.storage.postgres import schema
from boursomatic_assets_tests.support.catalog import database_at, rows, run, shape, tables

if TYPE_CHECKING:
    from boursomatic_assets.settings import Settings
    from boursomatic_assets.storage.postgres.database import Database

KEPT = ("instruments", "price_bars", "adjustments", "fetch_rounds", "model_versions")
ADDED = {"universe_members", "trials"}
LATER = {"recommendation_outcomes", "bar_changes", "model_events", "notices", "noticed_runs", "vendor_actions"}
TRIAL = (
    "INSERT INTO trials (id, params_hash, experiment, data_version, symbols, first_session, last_session, "
    "test_first, test_last) VALUES (gen_random_uuid(), '{}', '{{}}', '{}', 5, '2010-01-04', '2013-03-01', "
    "'2012-09-01', '2013-02-01')"
)
MEMBER = "INSERT INTO universe_members (symbol, member_from, member_until) VALUES ('{}', '{}', {})"


@pytest.fixture
def second(settings: Settings) -> Database:
    """A database as the second migration leaves it, with a row or two in each table that people fill."""
    database = database_at(settings, "0002")
    run(
        database,
        "INSERT INTO instruments (id, symbol, exchange, currency) VALUES (gen_random_uuid(), 'AAA', 'XNYS', 'USD');"
        "INSERT INTO price_bars (id, instrument_id, ts, o, h, l, c, v, interval) "
        "SELECT gen_random_uuid(), id, '2020-01-02', 1, 2, 0.5, 1.5, 100, 'daily' FROM instruments;"
        "INSERT INTO adjustments (symbol, session, ratio, note) VALUES ('AAA', '2020-01-03', 0.5, 'two for one');"
        "INSERT INTO fetch_rounds (provider, scope) VALUES ('yahoo', 'daily');"
        "INSERT INTO model_versions (id, version, params_hash, metrics_json) "
        "VALUES (gen_random_uuid(), 'v1', 'p', '{}')",
    )
    return database


def kept_rows(database: Database) -> dict[str, list[tuple[object, ...]]]:
    """Every row of the tables that were there, without the column that is new, and its version."""
    columns = "xmin::text, ctid::text, (to_jsonb(t) - 'gate')::text"
    return {table: rows(database, f"SELECT {columns} FROM {table} t") for table in KEPT}


def test_an_upgrade_keeps_every_row_and_adds_what_is_missing(second: Database) -> None:
    before, shape_before, tables_before = kept_rows(second), shape(second), tables(second, "public")
    assert schema.upgrade(second.engine) == "0002"
    assert kept_rows(second) == before
    assert all(before.values())
    assert set(shape_before) <= set(shape(second))
    assert tables(second, "public") - tables_before == ADDED | LATER
    assert rows(second, f"SELECT version_num FROM {schema.VERSION_TABLE}") == [(schema.HEAD_REVISION,)]


@pytest.mark.parametrize("table", sorted(ADDED))
def test_another_programs_table_of_that_name_stops_the_upgrade_which_changes_nothing(
    second: Database, table: str
) -> None:
    run(second, f"CREATE TABLE {table} (id integer PRIMARY KEY, symbol text)")
    run(second, f"INSERT INTO {table} VALUES (1, 'AAA')")
    before, shape_before = kept_rows(second), shape(second)
    with pytest.raises(SchemaVersionError, match=f"table {table} was there before and lacks columns"):
        schema.upgrade(second.engine)
    assert (kept_rows(second), shape(second)) == (before, shape_before)
    assert rows(second, f"SELECT symbol FROM {table}") == [("AAA",)]
    assert rows(second, f"SELECT version_num FROM {schema.VERSION_TABLE}") == [("0002",)]


def test_a_second_upgrade_keeps_what_people_have_entered_since(second: Database) -> None:
    schema.upgrade(second.engine)
    run(second, MEMBER.format("AAA", "2020-01-02", "NULL"))
    run(second, TRIAL.format("p", "d"))
    entered = "SELECT m::text, t::text FROM universe_members m, trials t"
    before, shape_before = rows(second, entered), shape(second)
    assert schema.upgrade(second.engine) == schema.HEAD_REVISION
    assert (rows(second, entered), shape(second)) == (before, shape_before)


def test_a_trial_counts_once_per_experiment_and_data(database: Database) -> None:
    run(database, TRIAL.format("p", "d"))
    run(database, TRIAL.format("p", "other"))
    run(database, TRIAL.format("q", "d"))
    with pytest.raises(sa.exc.IntegrityError, match="trials_one_per_params_hash_data_version"):
        run(database, TRIAL.format("p", "d"))
    assert (
        rows(database, "SELECT sharpe, rank_ic, matched_lift, accuracy, version, run_id FROM trials")
        == [(None,) * 6] * 3
    )


def test_a_membership_ends_after_it_began_and_begins_once(database: Database) -> None:
    run(database, MEMBER.format("AAA", "2020-01-02", "'2020-01-03'"))
    run(database, MEMBER.format("AAA", "2021-01-04", "NULL"))
    with pytest.raises(sa.exc.IntegrityError, match="universe_members_pkey"):
        run(database, MEMBER.format("AAA", "2021-01-04", "NULL"))
    with pytest.raises(sa.exc.IntegrityError, match="universe_members_end_after_their_start"):
        run(database, MEMBER.format("BBB", "2020-01-02", "'2020-01-02'"))


def test_there_is_no_way_down(database: Database) -> None:
    config = schema.migrations()
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        with pytest.raises(RuntimeError, match="restore a backup"):
            command.downgrade(config, "0002")
    assert tables(database, "public") >= ADDED
