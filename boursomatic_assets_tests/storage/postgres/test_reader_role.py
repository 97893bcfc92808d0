"""The role of programs that only read."""

# ruff: noqa: S608 (the statements are the test's own)

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from boursomatic_assets.cli import app
from boursomatic_assets.settings import Settings
from boursomatic_assets.storage.postgres import schema
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets.storage.postgres.reader_role import READABLE, READER, let_readers_in, missing_grants
from boursomatic_assets.storage.server.embedded import database_url
from boursomatic_assets_tests.conftest import fresh_database, settings_at, upgraded
from boursomatic_assets_tests.support.catalog import FILLED, rows, run, tables

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def filled(database: Database) -> Database:
    run(database, FILLED)
    return database


def as_reader(database: Database, statement: str) -> list[tuple[object, ...]]:
    with database.engine.connect() as connection:
        connection.exec_driver_sql(f"SET ROLE {READER}")
        return [tuple(row) for row in connection.exec_driver_sql(statement)]


def test_reader_selects_every_table_and_view(filled: Database) -> None:
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
def test_reader_cannot_write_or_see_users(filled: Database, statement: str) -> None:
    run(filled, "CREATE TABLE users (id int); CREATE TABLE user_settings (id int)")
    schema.upgrade(filled.engine)
    with pytest.raises(sa.exc.DBAPIError, match=r"permission denied|cannot update view"):
        as_reader(filled, statement)


def test_reader_role_cannot_log_in(filled: Database) -> None:
    assert rows(filled, f"SELECT rolcanlogin, rolsuper FROM pg_roles WHERE rolname = '{READER}'") == [
        (False, False)
    ]


@pytest.fixture
def server(home: Path) -> sa.Engine:
    """A server of the test's own, since roles belong to all databases of one."""
    url = sa.make_url(database_url(settings_at(home))).set(drivername="postgresql+psycopg2")
    return sa.create_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")


def test_reader_role_is_created_concurrently(server: sa.Engine) -> None:
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


def test_upgrade_without_the_right_to_create_roles(server: sa.Engine, home: Path) -> None:
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

    # Only the table that the tenant may not grant is named.
    run(boss, f"ALTER TABLE trials OWNER TO CURRENT_USER; REVOKE ALL ON trials FROM {READER}")
    run(boss, "GRANT SELECT ON trials TO tenant")
    left = CliRunner().invoke(app, ["db", "upgrade"], env=environment)
    assert left.exit_code == 0
    assert f"GRANT SELECT ON public.trials TO {READER};" in left.output
    assert left.output.count("GRANT") == 1
