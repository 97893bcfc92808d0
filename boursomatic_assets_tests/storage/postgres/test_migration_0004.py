"""What the fourth migration adds to a database that the third one made and people have filled since."""

# ruff: noqa: S608 (the statements are the test's own)

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from alembic import command
from typer.testing import CliRunner

from boursomatic_assets.cli import app
from boursomatic_assets.errors import SchemaVersionError
from boursomatic_assets.settings import Settings
from boursomatic_assets.storage.postgres import schema
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets.storage.postgres.reader_role import READABLE, READER, let_readers_in, missing_grants
from boursomatic_assets.storage.server.embedded import database_url
from boursomatic_assets_tests.conftest import fresh_database, settings_at, upgraded
from boursomatic_assets_tests.support.catalog import database_at, rows, run, shape, tables

if TYPE_CHECKING:
    from pathlib import Path

KEPT = ("instruments", "price_bars", "adjustments", "model_versions", "recommendations", "trials")
ADDED = {"recommendation_outcomes", "bar_changes"}
LATER = {"model_events", "notices", "noticed_runs", "vendor_actions"}
ONE, TWO, THREE, FOUR = (f"00000000-0000-0000-0000-00000000000{number}" for number in (1, 2, 3, 4))
FILLED = (
    f"INSERT INTO instruments (id, symbol, exchange, name, sector) VALUES ('{ONE}', 'AAA', 'XNYS', 'A', 'Energy'), "
    f"('{TWO}', 'BBB', 'XPAR', NULL, NULL);"
    "INSERT INTO price_bars (id, instrument_id, ts, o, h, l, c, v, interval) VALUES "
    f"('{ONE}', '{ONE}', '2020-01-02', 1, 2, 0.5, 1.5, 100, 'daily'), "
    f"('{TWO}', '{ONE}', '2020-01-03', 2, 3, 1.5, 2.5, 200, 'daily');"
    "INSERT INTO adjustments (symbol, session, ratio) VALUES ('AAA', '2020-01-03', 0.5);"
    f"INSERT INTO model_versions (id, version, params_hash, metrics_json, is_active) VALUES "
    f"('{ONE}', 'old', 'p', '{{}}', false), ('{TWO}', 'new', 'p', '{{}}', true);"
    "INSERT INTO recommendations (id, instrument_id, model_version_id, profile, label, confidence, "
    f"features_snapshot, is_active) VALUES ('{ONE}', '{ONE}', '{ONE}', 'moderate', 'BUY', 0.5, '{{}}', true), "
    f"('{TWO}', '{ONE}', '{TWO}', 'moderate', 'SELL', 0.4, '{{}}', false), "
    f"('{THREE}', '{TWO}', '{TWO}', 'moderate', 'HOLD', 0.6, '{{}}', true);"
    "INSERT INTO trials (id, params_hash, experiment, data_version, symbols, first_session, last_session, "
    f"test_first, test_last) VALUES ('{ONE}', 'p', '{{}}', 'd', 5, '2010-01-04', '2013-03-01', '2012-09-01', "
    "'2013-02-01');"
)
CHANGES = "SELECT bar_id::text, ts::text, interval, o, h, l, c, v, operation FROM bar_changes ORDER BY id"


@pytest.fixture
def third(settings: Settings) -> Database:
    """A database as the third migration leaves it, with a row or two in each table that people fill."""
    database = database_at(settings, "0003")
    run(database, FILLED)
    return database


@pytest.fixture
def filled(database: Database) -> Database:
    """The same rows in a database of today's schema."""
    run(database, FILLED)
    return database


def kept_rows(database: Database) -> dict[str, list[tuple[object, ...]]]:
    """Every row of the tables that were there, without the columns that are new, and its version."""
    new = {"recommendations": "- 'session' - 'archived_at'", "model_versions": "- 'gate'"}
    return {
        table: rows(
            database,
            f"SELECT xmin::text, ctid::text, (to_jsonb(t) {new.get(table, '')})::text FROM {table} t ORDER BY 2",
        )
        for table in KEPT
    }


def test_an_upgrade_keeps_every_row_and_adds_two_tables_and_two_columns(third: Database) -> None:
    before, shape_before, tables_before = kept_rows(third), shape(third), tables(third, "public")
    assert schema.upgrade(third.engine) == "0003"
    assert kept_rows(third) == before
    assert all(before.values())
    assert set(shape_before) <= set(shape(third))
    assert tables(third, "public") - tables_before == ADDED | LATER
    assert rows(third, "SELECT DISTINCT session, archived_at FROM recommendations") == [(None, None)]
    assert rows(third, f"SELECT version_num FROM {schema.VERSION_TABLE}") == [(schema.HEAD_REVISION,)]


@pytest.mark.parametrize("table", sorted(ADDED))
def test_another_programs_table_of_that_name_stops_the_upgrade_which_changes_nothing(
    third: Database, table: str
) -> None:
    run(third, f"CREATE TABLE {table} (id integer PRIMARY KEY, symbol text); INSERT INTO {table} VALUES (1, 'A')")
    before, shape_before = kept_rows(third), shape(third)
    with pytest.raises(SchemaVersionError, match=f"table {table} was there before and lacks columns"):
        schema.upgrade(third.engine)
    assert (kept_rows(third), shape(third)) == (before, shape_before)
    assert rows(third, f"SELECT symbol FROM {table}") == [("A",)]
    assert rows(third, f"SELECT version_num FROM {schema.VERSION_TABLE}") == [("0003",)]


def test_a_second_upgrade_keeps_what_was_recorded_since(third: Database) -> None:
    schema.upgrade(third.engine)
    run(third, "UPDATE price_bars SET c = 9")
    before, shape_before = rows(third, CHANGES), shape(third)
    assert schema.upgrade(third.engine) == schema.HEAD_REVISION
    assert (rows(third, CHANGES), shape(third)) == (before, shape_before)


def test_there_is_no_way_down(database: Database) -> None:
    config = schema.migrations()
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        with pytest.raises(RuntimeError, match="restore a backup"):
            command.downgrade(config, "0003")
    assert tables(database, "public") >= ADDED


# What becomes of a bar that is rewritten.

FIRST = (ONE, "2020-01-02 00:00:00", "daily", 1.0, 2.0, 0.5, 1.5, 100.0)
SECOND = (TWO, "2020-01-03 00:00:00", "daily", 2.0, 3.0, 1.5, 2.5, 200.0)


@pytest.mark.parametrize("change", ["o = 7", "h = 7", "l = 0.1", "c = 7", "v = 0", "ts = '2020-02-03'"])
def test_an_update_keeps_what_was_there_of_the_rows_it_changes(filled: Database, change: str) -> None:
    run(filled, f"UPDATE price_bars SET {change} WHERE ts = '2020-01-02'")
    assert rows(filled, CHANGES) == [(*FIRST, "update")]


def test_every_rewrite_is_kept_in_its_order(filled: Database) -> None:
    run(
        filled,
        "UPDATE price_bars SET c = 7 WHERE ts = '2020-01-02'; UPDATE price_bars SET c = 8 WHERE ts = '2020-01-02'",
    )
    assert rows(filled, "SELECT c FROM bar_changes ORDER BY changed_at, id") == [(1.5,), (7.0,)]
    # In one transaction, and yet one after the other.
    assert rows(filled, "SELECT count(DISTINCT changed_at) FROM bar_changes") == [(2,)]


def test_an_update_that_leaves_bars_as_they_were_writes_nothing(filled: Database) -> None:
    run(filled, "UPDATE price_bars SET o = o, c = c, v = v; UPDATE price_bars SET c = 3 WHERE false")
    assert rows(filled, CHANGES) == []


def test_a_delete_keeps_the_bars_it_removes_and_so_does_a_new_value_on_conflict(filled: Database) -> None:
    run(filled, "DELETE FROM price_bars WHERE c = 2.5")
    run(
        filled,
        "INSERT INTO price_bars (id, instrument_id, ts, o, h, l, c, v, interval) VALUES "
        f"('{THREE}', '{ONE}', '2020-01-02', 1, 2, 0.5, 1.75, 100, 'daily'), "
        f"('{FOUR}', '{ONE}', '2020-01-06', 1, 2, 0.5, 1.75, 100, 'daily') "
        "ON CONFLICT (instrument_id, ts, interval) DO UPDATE SET c = excluded.c",
    )
    assert rows(filled, CHANGES) == [(*SECOND, "delete"), (*FIRST, "update")]
    # A row that takes the place of a deleted one is another one.
    assert rows(filled, "SELECT bar_created_at IS NOT NULL FROM bar_changes") == [(True,), (True,)]


def test_bars_of_other_intervals_are_kept_as_well(filled: Database) -> None:
    run(filled, "UPDATE price_bars SET interval = '15m' WHERE c = 2.5; DELETE FROM price_bars WHERE c = 2.5")
    assert rows(filled, "SELECT interval, operation FROM bar_changes ORDER BY id") == [
        ("daily", "update"),
        ("15m", "delete"),
    ]


def test_a_truncation_is_not_recorded(filled: Database) -> None:
    run(filled, "TRUNCATE price_bars")
    assert rows(filled, CHANGES) == []


def test_a_program_that_may_write_bars_and_nothing_else_is_recorded_and_not_refused(filled: Database) -> None:
    run(
        filled,
        "CREATE ROLE a_backend; GRANT SELECT, INSERT, UPDATE, DELETE ON price_bars TO a_backend;"
        # With its own idea of where tables are.
        "SET LOCAL ROLE a_backend; SET LOCAL search_path = pg_catalog;"
        "UPDATE public.price_bars SET c = 7 WHERE c = 1.5",
    )
    assert rows(filled, CHANGES) == [(*FIRST, "update")]
    may = "SELECT has_table_privilege('a_backend', 'bar_changes', 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE')"
    assert rows(filled, may) == [(False,)]
    may = "SELECT has_function_privilege('a_backend', 'boursomatic_record_bar_changes()', 'EXECUTE')"
    assert rows(filled, may) == [(False,)]
    run(filled, "DROP OWNED BY a_backend; DROP ROLE a_backend")


# Outcomes.

OUTCOME = (
    "INSERT INTO recommendation_outcomes (recommendation_id, entry_session, entry_close, exit_session, exit_close, "
    "realised_return, realised_label, hit, first_touch, touched_session, ended) VALUES "
    "('{}', '2020-01-02', 10, '{}', 11, 0.1, 'BUY', true, {}, {}, 'horizon')"
)


def test_an_outcome_belongs_to_one_recommendation_and_cannot_end_before_it_began(filled: Database) -> None:
    run(filled, OUTCOME.format(ONE, "2020-01-31", "NULL", "NULL"))
    run(filled, OUTCOME.format(TWO, "2020-01-02", "'stop'", "'2020-01-02'"))
    for refused, reason in (
        (OUTCOME.format(ONE, "2020-01-31", "NULL", "NULL"), "pkey"),
        (OUTCOME.format(FOUR, "2020-01-31", "NULL", "NULL"), "foreign key"),
        (OUTCOME.format(THREE, "2020-01-01", "NULL", "NULL"), "exit_after_entry"),
        (OUTCOME.format(THREE, "2020-01-31", "'stop'", "NULL"), "touch_has_its_session"),
    ):
        with pytest.raises(sa.exc.IntegrityError, match=reason):
            run(filled, refused)


# What other programs read.


def test_the_view_shows_what_is_recommended_now_beside_whom_it_is_about(filled: Database) -> None:
    shown = "SELECT symbol, name, sector, exchange, version, label, confidence, is_of_active_model"
    expected = [
        ("AAA", "A", "Energy", "XNYS", "old", "BUY", 0.5, False),
        ("BBB", None, None, "XPAR", "new", "HOLD", 0.6, True),
    ]
    assert rows(filled, f"{shown} FROM current_recommendations ORDER BY symbol") == expected
    # The archived one is not shown, nor those of an instrument that is no longer followed.
    run(filled, "UPDATE instruments SET is_active = false WHERE symbol = 'AAA'")
    assert rows(filled, f"{shown} FROM current_recommendations ORDER BY symbol") == expected[1:]


def as_reader(database: Database, statement: str) -> list[tuple[object, ...]]:
    with database.engine.connect() as connection:
        connection.exec_driver_sql(f"SET ROLE {READER}")
        return [tuple(row) for row in connection.exec_driver_sql(statement)]


def test_the_reader_sees_every_table_and_view_of_the_platform(filled: Database) -> None:
    ours = (tables(filled, "public") | set(sa.inspect(filled.engine).get_view_names())) - {schema.VERSION_TABLE}
    assert set(READABLE) == ours
    for table in ours:
        as_reader(filled, f"SELECT * FROM {table} LIMIT 1")
    assert as_reader(filled, "SELECT count(*) FROM current_recommendations") == [(2,)]
    with filled.connection() as connection:
        assert missing_grants(connection) == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE instruments SET name = 'mine'",
        "DELETE FROM recommendations",
        "INSERT INTO adjustments (symbol, session, ratio) VALUES ('AAA', '2020-01-02', 1)",
        "TRUNCATE price_bars",
        "UPDATE current_recommendations SET label = 'BUY'",
        "CREATE TABLE mine (id int)",
        "SELECT * FROM users",
        "SELECT * FROM user_settings",
    ],
)
def test_the_reader_changes_nothing_and_never_sees_who_uses_the_application(
    filled: Database, statement: str
) -> None:
    run(filled, "CREATE TABLE users (id int); CREATE TABLE user_settings (id int)")
    schema.upgrade(filled.engine)
    with pytest.raises(sa.exc.DBAPIError, match=r"permission denied|cannot update view"):
        as_reader(filled, statement)


def test_the_reader_cannot_log_in_until_somebody_lets_it(filled: Database) -> None:
    assert rows(filled, f"SELECT rolcanlogin, rolsuper FROM pg_roles WHERE rolname = '{READER}'") == [
        (False, False)
    ]


@pytest.fixture
def server(home: Path) -> sa.Engine:
    """A server of the test's own, since roles belong to all databases of one."""
    url = sa.make_url(database_url(settings_at(home))).set(drivername="postgresql+psycopg2")
    return sa.create_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")


def test_databases_of_one_server_create_its_role_at_once(server: sa.Engine) -> None:
    with ExitStack() as stack:
        databases = [upgraded(stack.enter_context(fresh_database(server))) for _ in range(4)]
        for database in databases:
            run(database, f"DROP OWNED BY {READER}")
        run(databases[0], f"DROP ROLE {READER}")
        together = threading.Barrier(4)

        def open_for_reading(database: Database) -> None:
            with database.engine.begin() as connection:
                connection.exec_driver_sql("SELECT 1")
                together.wait()
                let_readers_in(connection)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(open_for_reading, databases))
        for database in databases:
            assert as_reader(database, "SELECT count(*) FROM current_recommendations") == [(0,)]


def test_who_may_not_create_roles_upgrades_all_the_same_and_is_told_what_an_administrator_does(
    server: sa.Engine, home: Path
) -> None:
    with server.connect() as connection:
        connection.exec_driver_sql("CREATE ROLE tenant LOGIN")
        connection.exec_driver_sql("CREATE DATABASE theirs OWNER tenant")
    boss = Database(
        server.url.set(drivername="postgresql", database="theirs").render_as_string(hide_password=False)
    )
    theirs = sa.make_url(boss.url).set(username="tenant").render_as_string(hide_password=False)
    environment = {"DATABASE_URL": theirs, "BOURSOMATIC_HOME": str(home)}

    told = CliRunner().invoke(app, ["db", "upgrade"], env=environment)
    assert told.exit_code == 0
    assert f"none -> {schema.HEAD_REVISION}" in told.output
    assert f"CREATE ROLE {READER} NOLOGIN;" in told.output
    assert "boursomatic db upgrade" in told.output

    with server.connect() as connection:
        connection.exec_driver_sql(f"CREATE ROLE {READER} NOLOGIN")
    again = CliRunner().invoke(app, ["db", "upgrade"], env=environment)
    assert again.exit_code == 0
    assert READER not in again.output
    tenant = Database(database_url(Settings.from_environment(environment)))
    with tenant.connection() as connection:
        assert missing_grants(connection) == []

    # A table that is not the tenant's to share is named, and only that.
    run(boss, f"ALTER TABLE trials OWNER TO CURRENT_USER; REVOKE ALL ON trials FROM {READER}")
    run(boss, "GRANT SELECT ON trials TO tenant")
    left = CliRunner().invoke(app, ["db", "upgrade"], env=environment)
    assert left.exit_code == 0
    assert f"GRANT SELECT ON public.trials TO {READER};" in left.output
    assert left.output.count("GRANT") == 1
