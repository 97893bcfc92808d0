"""One opened database: columnar reads and writes, each write one transaction."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import polars as pl
import sqlalchemy as sa

from boursomatic_assets.errors import DatabaseUnreachableError, StorageError
from boursomatic_assets.storage.postgres import schema
from boursomatic_assets.storage.server.embedded import database_url

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from boursomatic_assets.settings import Settings

STAGING = "boursomatic_staging"


@dataclass(frozen=True)
class UpsertCounts:
    """What an upsert did to a table, in rows."""

    inserted: int
    updated: int
    unchanged: int

    def __add__(self, other: UpsertCounts) -> UpsertCounts:
        return UpsertCounts(
            self.inserted + other.inserted, self.updated + other.updated, self.unchanged + other.unchanged
        )


@dataclass(frozen=True)
class Database:
    """A PostgreSQL database whose schema is known to be current.

    Attributes
    ----------
    url : str
        As libpq reads it; may hold a password, so it is kept out of `repr`.
    """

    url: str

    def __repr__(self) -> str:
        return f"Database({self.shown_url})"

    @classmethod
    def open(cls, settings: Settings) -> Database:
        """Open the database in use.

        The embedded one is brought to the current schema by itself; one that `DATABASE_URL` names is only ever
        changed by `boursomatic db upgrade`.

        Raises
        ------
        DatabaseUnreachableError
            If no server answers.
        SchemaVersionError
            If the schema is not current.
        """
        database = cls(database_url(settings))
        with database.connection() as connection:
            if schema.is_current(connection):
                return database
        if settings.database_url is None:
            schema.upgrade(database.engine)
        with database.connection() as connection:
            schema.require_current(connection)
        return database

    @cached_property
    def shown_url(self) -> str:
        """The address without its passwords, for messages and metadata."""
        url = sa.make_url(self.url)
        hidden = {name: "***" for name in url.query if "password" in name}
        return url.update_query_dict(hidden).render_as_string(hide_password=True)

    @cached_property
    def engine(self) -> sa.Engine:
        """For small statements and migrations."""
        # The driver is named: from SQLAlchemy 2.1 on, a bare postgresql:// means another one.
        return sa.create_engine(
            sa.make_url(self.url).set(drivername="postgresql+psycopg2"), poolclass=sa.NullPool, hide_parameters=True
        )

    @contextmanager
    def connection(self) -> Iterator[sa.Connection]:
        """One transaction through SQLAlchemy: committed at the end, rolled back on an error."""
        try:
            connection = self.engine.connect()
        except sa.exc.DBAPIError as error:
            raise self._unreachable(error.orig) from None
        try:
            with connection, connection.begin():
                yield connection
        except sa.exc.DBAPIError as error:
            message = f"the database at {self.shown_url} refused: {error.orig}"
            raise StorageError(message) from error

    @contextmanager
    def bulk(self) -> Iterator[Any]:
        """One transaction through Arrow: a cursor that ingests and fetches whole columns."""
        from adbc_driver_postgresql import dbapi

        try:
            connection = _arrow_server(self.url, threading.get_ident()).connect()
        except dbapi.Error as error:
            raise self._unreachable(error) from None
        try:
            with connection.cursor() as cursor:
                yield cursor
            connection.commit()
        except dbapi.Error as error:
            message = f"the database at {self.shown_url} refused: {error}"
            raise StorageError(message) from error
        finally:
            # Closing without a commit rolls back.
            connection.close()

    def read(self, query: str, parameters: Sequence[Any] = ()) -> pl.DataFrame:
        """Fetch a query's rows as columns; parameters are written `$1`, `$2` and so on."""
        with self.bulk() as cursor:
            return fetch(cursor, query, parameters)

    def _unreachable(self, error: object) -> DatabaseUnreachableError:
        reason = " ".join(str(error).split())
        message = (
            f"the database at {self.shown_url} cannot be reached: {reason}\n"
            "Start that server, correct DATABASE_URL, or unset it to use the embedded one"
        )
        return DatabaseUnreachableError(message)


# Steps of one bulk transaction, in this order; `cursor` is an ADBC cursor, which has no public type.


def take_turns(cursor: Any, table: str) -> None:  # noqa: ANN401
    """Hold a table's turn until the transaction ends: two writers of it cannot block each other for ever."""
    fetch(cursor, "SELECT pg_advisory_xact_lock(hashtext($1))", [f"boursomatic:{table}"])


def execute(cursor: Any, statement: str, parameters: Sequence[Any] = ()) -> None:  # noqa: ANN401
    """Run a statement; parameters are written `$1`, `$2` and so on."""
    bound = pl.DataFrame({str(place): [value] for place, value in enumerate(parameters)})
    cursor.execute(statement, bound if parameters else None)


def fetch(cursor: Any, query: str, parameters: Sequence[Any] = ()) -> pl.DataFrame:  # noqa: ANN401
    """Fetch a query's rows as columns."""
    execute(cursor, query, parameters)
    try:
        frame: pl.DataFrame = cursor.fetch_polars()
    except pl.exceptions.ComputeError as error:
        raise _error_of_rows(cursor, str(error)) from error
    return frame


def _error_of_rows(cursor: Any, said: str) -> Exception:  # noqa: ANN401
    """The error that ADBC itself would raise while rows arrive; polars hands on only its text.

    Afterwards a working connection refuses statements until the rollback; a broken one cannot send them.
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


def stage(cursor: Any, frame: pl.DataFrame) -> None:  # noqa: ANN401
    """Copy a frame into a temporary table of this transaction."""
    cursor.execute(f"DROP TABLE IF EXISTS {STAGING}")
    ingest(cursor, frame, "create")


def ingest(cursor: Any, frame: pl.DataFrame, mode: str) -> None:  # noqa: ANN401
    """Copy a frame into the temporary table, which `mode` creates, or to which it appends."""
    # ADBC takes neither dictionaries nor columns without a type.
    texts = [name for name, kind in frame.schema.items() if isinstance(kind, pl.Enum | pl.Categorical | pl.Null)]
    cursor.adbc_ingest(STAGING, frame.with_columns(pl.col(texts).cast(pl.String)), mode=mode, temporary=True)
    cursor.execute(f"ANALYZE {STAGING}")


def merge(cursor: Any, statement: str) -> tuple[int, int]:  # noqa: ANN401
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
