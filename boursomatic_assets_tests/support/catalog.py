"""What a database's own catalog says about it, for comparing before and after."""

# ruff: noqa: S608 (the statements are the tests' own)

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from alembic import command

from boursomatic_assets.storage.postgres import schema
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets.storage.server.embedded import database_url

if TYPE_CHECKING:
    from boursomatic_assets.settings import Settings

# Rows of another program, in the tables of the first revision.
ONE, TWO, THREE, FOUR = (f"00000000-0000-0000-0000-00000000000{number}" for number in (1, 2, 3, 4))
FILLED = (
    f"INSERT INTO instruments (id, symbol, exchange, name, sector) VALUES ('{ONE}', 'AAA', 'XNYS', 'A', 'Energy'), "
    f"('{TWO}', 'BBB', 'XPAR', NULL, NULL);"
    "INSERT INTO price_bars (id, instrument_id, ts, o, h, l, c, v, interval) VALUES "
    f"('{ONE}', '{ONE}', '2020-01-02', 1, 2, 0.5, 1.5, 100, 'daily'), "
    f"('{TWO}', '{ONE}', '2020-01-03', 2, 3, 1.5, 2.5, 200, 'daily');"
    f"INSERT INTO model_versions (id, version, params_hash, metrics_json, is_active) VALUES "
    f"('{ONE}', 'old', 'p', '{{}}', false), ('{TWO}', 'new', 'p', '{{}}', true);"
    "INSERT INTO recommendations (id, instrument_id, model_version_id, profile, label, confidence, "
    f"features_snapshot, is_active) VALUES ('{ONE}', '{ONE}', '{ONE}', 'moderate', 'BUY', 0.5, '{{}}', true), "
    f"('{TWO}', '{ONE}', '{TWO}', 'moderate', 'SELL', 0.4, '{{}}', false), "
    f"('{THREE}', '{TWO}', '{TWO}', 'moderate', 'HOLD', 0.6, '{{}}', true);"
)
_SHAPE = """
    SELECT 'column', table_schema, table_name, column_name || ' ' || data_type || ' '
           || coalesce(character_maximum_length::text, '') || is_nullable || coalesce(column_default, '')
    FROM information_schema.columns WHERE table_schema NOT IN ('pg_catalog', 'information_schema')
    UNION ALL SELECT 'index', schemaname, tablename, indexdef
    FROM pg_indexes WHERE schemaname NOT IN ('pg_catalog', 'information_schema')
    UNION ALL SELECT 'constraint', connamespace::regnamespace::text, conrelid::regclass::text,
           pg_get_constraintdef(oid)
    FROM pg_constraint WHERE connamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema')
    ORDER BY 1, 2, 3, 4
"""


def database_at(settings: Settings, revision: str) -> Database:
    """A database as an older migration left it."""
    database = Database(database_url(settings))
    upgrade_to(database, revision)
    return database


def upgrade_to(database: Database, revision: str) -> None:
    """Upgrade as an older version of the program did."""
    config = schema.migrations()
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def run(database: Database, statements: str) -> None:
    """Execute statements as another program would, in one transaction."""
    with database.engine.begin() as connection:
        connection.exec_driver_sql(statements)


def rows(database: Database, query: str) -> list[tuple[object, ...]]:
    with database.engine.connect() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(query)]


def shape(database: Database) -> list[tuple[object, ...]]:
    """Every column, index and constraint, whoever made it."""
    return rows(database, _SHAPE)


def tables(database: Database, namespace: str) -> set[str]:
    return set(sa.inspect(database.engine).get_table_names(schema=namespace))


def versions_of(database: Database, table: str) -> dict[str, tuple[object, ...]]:
    """Every row by its id: the transaction that wrote it last, where it lies, and all its columns as text."""
    return {
        str(key): tuple(rest)
        for key, *rest in rows(database, f"SELECT id, xmin::text, ctid::text, t::text FROM {table} t")
    }


def places_of(database: Database, table: str) -> dict[str, tuple[object, ...]]:
    """The same without columns: a row that is written has another transaction and lies elsewhere."""
    return {
        str(key): tuple(rest) for key, *rest in rows(database, f"SELECT id, xmin::text, ctid::text FROM {table}")
    }


def add_bars(database: Database, time: str, interval: str = "15m", values: str = "1, 1, 1, 1, 1") -> None:
    """A bar of every instrument, as another program writes it."""
    run(
        database,
        "INSERT INTO price_bars (id, instrument_id, ts, o, h, l, c, v, interval) "
        f"SELECT gen_random_uuid(), id, '{time}', {values}, '{interval}' FROM instruments",
    )
