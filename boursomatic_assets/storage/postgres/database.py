"""One opened database: columnar reads and writes, each write in one transaction."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

import polars as pl
import sqlalchemy as sa

from boursomatic_assets.errors import DatabaseUnreachableError, StorageError
from boursomatic_assets.settings.hiding import HARMLESS, address_secrets, hide
from boursomatic_assets.settings.variable import HIDDEN
from boursomatic_assets.storage.postgres import schema
from boursomatic_assets.storage.postgres.session import session_string, session_url
from boursomatic_assets.storage.server.embedded import database_url

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from boursomatic_assets.settings import Settings

STAGING = "boursomatic_staging"
# Of ADBC, which has no public type for it.
Cursor: TypeAlias = Any


@dataclass(frozen=True)
class UpsertCounts:
    """Rows that an upsert inserted, updated and left unchanged."""

    inserted: int
    updated: int
    unchanged: int

    def __add__(self, other: UpsertCounts) -> UpsertCounts:
        return UpsertCounts(
            self.inserted + other.inserted, self.updated + other.updated, self.unchanged + other.unchanged
        )


@dataclass(frozen=True)
class Database:
    """A PostgreSQL database with the current schema. Its URL may hold a password, so `repr` hides it."""

    url: str

    def __repr__(self) -> str:
        return f"Database({self.shown_url})"

    @classmethod
    def open(cls, settings: Settings) -> Database:
        """Open the database in use: upgrade the embedded one where needed, never the one that `DATABASE_URL` names.

        Raises DatabaseUnreachableError if no server answers, SchemaVersionError if the schema is not current
        or tables of other programs cannot keep what this one writes.
        """
        database = cls(database_url(settings))
        with database.connection() as connection:
            if settings.database_url is not None or schema.is_current(connection):
                schema.require_current(connection)
                return database
        schema.upgrade(database.engine)
        return database

    @cached_property
    def shown_url(self) -> str:
        """The URL with its passwords hidden, for messages and metadata."""
        url = sa.make_url(self.url)
        hidden = {name: HIDDEN for name in url.query if name not in HARMLESS}
        return url.update_query_dict(hidden).render_as_string(hide_password=True)

    def _said(self, error: object) -> str:
        """What the server or its client says, without the secrets of the address."""
        return hide(str(error), address_secrets(self.url, is_place_secret=False))

    @cached_property
    def engine(self) -> sa.Engine:
        """For small statements and migrations."""
        # Named, because a bare postgresql:// means another driver from SQLAlchemy 2.1 on.
        return sa.create_engine(
            session_url(self.url).set(drivername="postgresql+psycopg2"), poolclass=sa.NullPool, hide_parameters=True
        )

    @contextmanager
    def connection(self) -> Iterator[sa.Connection]:
        """One SQLAlchemy transaction: committed at the end, rolled back on an error."""
        try:
            connection = self.engine.connect()
        except sa.exc.DBAPIError as error:
            raise self._unreachable(error.orig) from None
        try:
            with connection, connection.begin():
                yield connection
        except sa.exc.DBAPIError as error:
            message = f"the database at {self.shown_url} refused: {self._said(error.orig)}"
            raise StorageError(message) from error

    @contextmanager
    def bulk(self) -> Iterator[Cursor]:
        """One ADBC transaction: a cursor that writes and reads whole columns."""
        from adbc_driver_postgresql import dbapi

        try:
            connection = _arrow_server(session_string(self.url), threading.get_ident()).connect()
        except dbapi.Error as error:
            raise self._unreachable(error) from None
        try:
            with connection.cursor() as cursor:
                yield cursor
            connection.commit()
        except dbapi.Error as error:
            message = f"the database at {self.shown_url} refused: {self._said(error)}"
            raise StorageError(message) from error
        finally:
            # Closing without a commit rolls back.
            connection.close()

    def read(self, query: str, parameters: Sequence[Any] = ()) -> pl.DataFrame:
        """Fetch the rows of a query as columns; parameters are written `$1`, `$2` and so on."""
        with self.bulk() as cursor:
            return fetch(cursor, query, parameters)

    def value(self, query: str, parameters: Sequence[Any] = ()) -> Any:  # noqa: ANN401 (of any type)
        """Fetch the only value of the only row."""
        return self.read(query, parameters).item()

    def _unreachable(self, error: object) -> DatabaseUnreachableError:
        reason = " ".join(self._said(error).split())
        message = (
            f"the database at {self.shown_url} cannot be reached: {reason}\n"
            "Start that server, correct DATABASE_URL, or unset it to use the embedded one"
        )
        return DatabaseUnreachableError(message)


# Steps of one bulk transaction.


def advisory_lock(cursor: Cursor, table: str) -> None:
    """Lock a table for its writers until the transaction ends, so that two of them cannot deadlock."""
    fetch(cursor, "SELECT pg_advisory_xact_lock(hashtext($1))", [f"boursomatic:{table}"])


def execute(cursor: Cursor, statement: str, parameters: Sequence[Any] = ()) -> None:
    """Run a statement; parameters are written `$1`, `$2` and so on."""
    bound = pl.DataFrame({str(place): [value] for place, value in enumerate(parameters)})
    cursor.execute(statement, bound if parameters else None)


def fetch(cursor: Cursor, query: str, parameters: Sequence[Any] = ()) -> pl.DataFrame:
    """Fetch the rows of a query as columns."""
    execute(cursor, query, parameters)
    try:
        frame: pl.DataFrame = cursor.fetch_polars()
    except pl.exceptions.ComputeError as error:
        raise _error_of_rows(cursor, str(error)) from error
    return frame


def id_prefix() -> str:
    """First 13 signs of a new id: the time in milliseconds, so that new ids lie side by side in their index."""
    moment = f"{time.time_ns() // 1_000_000:012x}"
    return f"{moment[:8]}-{moment[8:]}"


def _error_of_rows(cursor: Cursor, said: str) -> Exception:
    """The error that ADBC would raise while rows arrive; polars passes on only its text.

    After it a working connection refuses statements until the rollback. A broken one cannot send them.
    """
    from adbc_driver_manager import AdbcStatusCode
    from adbc_driver_postgresql import dbapi

    error: Exception = dbapi.DataError(said, status_code=AdbcStatusCode.INVALID_DATA)
    try:
        cursor.execute("SELECT 1")
    except dbapi.OperationalError:
        error = dbapi.OperationalError(said, status_code=AdbcStatusCode.IO)
    except dbapi.Error:
        pass
    return error


class _ArrowServer:
    """ADBC's handle of a server. Making one reads all types of the server, which costs more than a connection."""

    def __init__(self, url: str) -> None:
        import adbc_driver_postgresql

        self._handle = adbc_driver_postgresql.connect(url)

    def connect(self) -> Any:  # noqa: ANN401
        from adbc_driver_manager import AdbcConnection, dbapi

        return dbapi.Connection(self, AdbcConnection(self._handle))  # type: ignore[arg-type]  # is only closed

    def close(self) -> None:
        """Each connection closes its handle; this one is kept for the next connection."""


@lru_cache(maxsize=16)
def _arrow_server(url: str, _thread: int) -> _ArrowServer:
    """One handle for each thread: it counts its connections without a lock."""
    return _ArrowServer(url)


def stage(cursor: Cursor, frame: pl.DataFrame) -> None:
    """Copy a frame into a new temporary table, which lasts until the transaction ends."""
    cursor.execute(f"DROP TABLE IF EXISTS {STAGING}")
    ingest(cursor, frame, "create")


def ingest(cursor: Cursor, frame: pl.DataFrame, mode: str) -> None:
    """Copy a frame into the temporary table; `mode` is `create` or `append`."""
    # ADBC takes neither dictionaries nor columns without a type.
    texts = [name for name, kind in frame.schema.items() if isinstance(kind, pl.Enum | pl.Categorical | pl.Null)]
    cursor.adbc_ingest(STAGING, frame.with_columns(pl.col(texts).cast(pl.String)), mode=mode, temporary=True)
    cursor.execute(f"ANALYZE {STAGING}")


def merge(cursor: Cursor, statement: str) -> tuple[int, int]:
    """Run `INSERT … SELECT … FROM boursomatic_staging … ON CONFLICT …`; returns rows inserted and updated."""
    # xmax is 0 only for a row version that this statement inserted.
    merged = fetch(
        cursor,
        f"WITH merged AS ({statement} RETURNING (xmax = 0) AS inserted) "  # noqa: S608
        "SELECT count(*) FILTER (WHERE inserted) AS inserted, "
        "count(*) FILTER (WHERE NOT inserted) AS updated FROM merged",
    )
    inserted, updated = merged.row(0)
    return int(inserted), int(updated)
