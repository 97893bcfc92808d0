"""Databases of one server: made, named, dropped, and emptied for the next test where nothing but rows was added."""

from __future__ import annotations

import itertools
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import sqlalchemy as sa

from boursomatic_assets.settings import Settings
from boursomatic_assets.storage.postgres import schema
from boursomatic_assets.storage.postgres.database import Database

if TYPE_CHECKING:
    from collections.abc import Iterator

_numbers = itertools.count()
_DISCONNECT_OTHERS = (
    "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)
# What changes in a catalog without a change of a definition.
_VOLATILE = (
    "relfilenode", "relpages", "reltuples", "relallvisible", "relallfrozen", "relfrozenxid", "relminmxid",
)  # fmt: skip
# Objects that were not there when the server was set up have numbers from 16384 on.
_CATALOGS = {
    "pg_class": "oid >= 16384",
    "pg_attribute": "attrelid >= 16384",
    "pg_attrdef": "true",
    "pg_constraint": "oid >= 16384",
    "pg_default_acl": "true",
    "pg_extension": "true",
    "pg_index": "indexrelid >= 16384",
    "pg_policy": "true",
    "pg_proc": "oid >= 16384",
    "pg_rewrite": "oid >= 16384",
    "pg_trigger": "true",
    "pg_type": "oid >= 16384",
    "pg_namespace": "nspname !~ '^pg_(toast_)?temp_'",
    "pg_database": "datname = current_database()",
    "pg_db_role_setting": "setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())",
    "boursomatic_assets_alembic_version": "true",
}
_LINES = " UNION ALL ".join(
    f"SELECT '{catalog}' || (to_jsonb(c) - ARRAY{list(_VOLATILE)})::text AS line FROM {catalog} c WHERE {rows}"  # noqa: S608
    for catalog, rows in _CATALOGS.items()
)
_DEFINITIONS = f"SELECT md5(string_agg(line, '' ORDER BY line)) FROM ({_LINES}) lines"  # noqa: S608
_TABLES_WITH_ROWS = (
    "SELECT string_agg(oid::regclass::text, ', ') FROM pg_class WHERE relkind IN ('r', 'p') AND oid >= 16384 "
    "AND relnamespace = 'public'::regnamespace AND relname <> 'boursomatic_assets_alembic_version' "
    "AND pg_relation_size(oid) > 0"
)
_RESTART_SEQUENCES = (
    "SELECT setval(quote_ident(schemaname) || '.' || quote_ident(sequencename), start_value, false) "
    "FROM pg_sequences WHERE last_value IS NOT NULL"
)


def create_database(postgres: sa.Engine) -> str:
    """Make an empty database; its name."""
    name = f"test_{next(_numbers)}"
    with postgres.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    return name


def drop_database(postgres: sa.Engine, name: str) -> None:
    """Drop a database, whoever is connected to it."""
    with postgres.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def named_by_environment(postgres: sa.Engine, name: str) -> Settings:
    """Let the environment name a database."""
    url = postgres.url.set(drivername="postgresql", database=name)
    os.environ["DATABASE_URL"] = url.render_as_string(hide_password=False)
    return Settings.from_environment()


class KeptDatabase:
    """An upgraded database that one test after another uses: emptied costs a tenth of made anew.

    One whose definitions a test has changed is dropped, and the next test gets another.
    """

    def __init__(self, postgres: sa.Engine) -> None:
        self.postgres = postgres
        self.name: str | None = None
        self.definitions = ""

    @contextmanager
    def lent(self) -> Iterator[Settings]:
        """Lend the empty database to a test, and take it back."""
        if self.name is None:
            self.name = create_database(self.postgres)
            settings = named_by_environment(self.postgres, self.name)
            assert settings.database_url is not None
            schema.upgrade(Database(settings.database_url).engine)
            with self._connected() as connection:
                filled = connection.exec_driver_sql(_TABLES_WITH_ROWS).scalar()
                assert filled is None, filled
                self.definitions = connection.exec_driver_sql(_DEFINITIONS).scalar_one()
        try:
            yield named_by_environment(self.postgres, self.name)
        finally:
            if not self._is_emptied():
                self.drop()

    def drop(self) -> None:
        if self.name is not None:
            drop_database(self.postgres, self.name)
            self.name = None

    def _is_emptied(self) -> bool:
        """Remove all rows; False where more than rows has changed."""
        try:
            with self._connected() as connection:
                connection.exec_driver_sql(_DISCONNECT_OTHERS)
                if connection.exec_driver_sql(_DEFINITIONS).scalar_one() != self.definitions:
                    return False
                if tables := connection.exec_driver_sql(_TABLES_WITH_ROWS).scalar():
                    connection.exec_driver_sql(f"TRUNCATE {tables} RESTART IDENTITY CASCADE")
                connection.exec_driver_sql(_RESTART_SEQUENCES)
        except sa.exc.DBAPIError:
            return False
        return True

    @contextmanager
    def _connected(self) -> Iterator[sa.Connection]:
        engine = sa.create_engine(
            self.postgres.url.set(database=self.name), poolclass=sa.NullPool, isolation_level="AUTOCOMMIT"
        )
        with engine.connect() as connection:
            yield connection
