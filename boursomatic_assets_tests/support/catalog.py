"""What a database's own catalog says about it, for comparing before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from alembic import command

from boursomatic_assets.storage.postgres import schema
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets.storage.server.embedded import database_url

if TYPE_CHECKING:
    from boursomatic_assets.settings import Settings

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
    database, config = Database(database_url(settings)), schema.migrations()
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    return database


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
    return _by_id(database, f"SELECT id, xmin::text, ctid::text, t::text FROM {table} t")  # noqa: S608


def places_of(database: Database, table: str) -> dict[str, tuple[object, ...]]:
    """The same without columns: a row that is written has another transaction and lies elsewhere."""
    return _by_id(database, f"SELECT id, xmin::text, ctid::text FROM {table}")  # noqa: S608


def _by_id(database: Database, query: str) -> dict[str, tuple[object, ...]]:
    return {str(key): tuple(rest) for key, *rest in rows(database, query)}
