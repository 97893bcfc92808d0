"""The PostgreSQL server in use: the one that `DATABASE_URL` names, or the embedded one."""

from __future__ import annotations

import atexit
import fcntl
import os
import re
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from boursomatic_assets.errors import ConfigurationError, DatabaseUnreachableError
from boursomatic_assets.storage.private import locked, make_home, open_file
from boursomatic_assets.storage.server import cluster
from boursomatic_assets.storage.server.process import data_folder, log_file, postmaster
from boursomatic_assets.storage.server.socket import PORT

if TYPE_CHECKING:
    from boursomatic_assets.settings import Settings

DATABASE_NAME = "boursomatic"
# Variables of libpq, meant for another server, would misdirect connections to this one.
_LIBPQ_VARIABLE = re.compile(r"PG([A-Z]+|CONNECT_TIMEOUT)")


def database_url(settings: Settings) -> str:
    """Address of the database as libpq reads it; starts the embedded server where no other is given.

    That server stops with the last process that called this, unless `keep_running` was called. Raises
    DatabaseUnreachableError if it cannot be started.
    """
    if settings.database_url:
        return _plain_url(settings.database_url)
    return _embedded_url(settings.home)


def _plain_url(given: str) -> str:
    """Drop an SQLAlchemy driver suffix and the old scheme `postgres`; the error never repeats the address."""
    scheme, _, rest = given.partition("://")
    plain = f"postgresql://{rest}"
    message = (
        "DATABASE_URL cannot be read; expected postgresql://user:password@host:port/database, with signs such as "
        "@ / % in the password written %40 %2F %25"
    )
    if scheme.partition("+")[0] not in {"postgresql", "postgres"}:
        raise ConfigurationError(message)
    try:
        url = sa.make_url(plain)
    except (ValueError, sa.exc.ArgumentError):
        raise ConfigurationError(message) from None
    if "@" in (url.host or ""):
        raise ConfigurationError(message)
    # Rendered again, so that libpq and SQLAlchemy read the same address.
    return url.render_as_string(hide_password=False).replace(" ", "%20")


def keep_running(settings: Settings) -> None:
    """Leave the embedded server up after its last process, so that psql and other tools can connect."""
    try:
        make_home(settings.home)
        os.close(open_file(_marker(settings.home)))
    except OSError as error:
        raise _cannot_start(settings.home, error) from error


def stop(settings: Settings) -> bool:
    """Stop the embedded server, even if it is in use; returns whether one was running."""
    with suppress(OSError):
        _marker(settings.home).unlink()
    return cluster.stop(settings.home)


def is_running(settings: Settings) -> bool:
    """Whether the embedded server is up."""
    return postmaster(data_folder(settings.home)) is not None


def _marker(home: Path) -> Path:
    return home / "postgres.keep-running"


def _embedded_url(home: Path) -> str:
    import psycopg2

    if not str(home).isprintable():
        raise _cannot_start(home, "the path holds a character that cannot be printed")
    forget_libpq_variables()
    try:
        make_home(home)
        home = home.resolve()
        data = data_folder(home)
        running, used_by = postmaster(data), (data, os.getpid())
        if running is None or _in_use.get(used_by) != running.pid:
            with locked(home / "postgres.lock"):
                cluster.initialise(home)
                cluster.start(home)
                if used_by not in _in_use:
                    users = open_file(home / "postgres.users")
                    fcntl.flock(users, fcntl.LOCK_SH)
                    atexit.register(_leave, home, users, os.getpid())
                _create_database(address(home, "postgres"))
                running = postmaster(data)
            _in_use[used_by] = running.pid if running else 0
        return address(home, DATABASE_NAME)
    except DatabaseUnreachableError:
        raise
    except (OSError, subprocess.SubprocessError, RuntimeError, psycopg2.Error) as error:
        raise _cannot_start(home, error) from error


def forget_libpq_variables() -> None:
    """Remove variables from the environment of this process that would misdirect its connections."""
    for name in [name for name in os.environ if _LIBPQ_VARIABLE.fullmatch(name)]:
        os.environ.pop(name, None)


def address(home: Path, database: str) -> str:
    """Address of a database of the running server of a home."""
    # With password and port in the address, clients do not take them from PG* variables.
    return f"postgresql://{cluster.SUPERUSER}:@/{database}?host={cluster.socket_folder(home)}&port={PORT}"


def _cannot_start(home: Path, reason: object) -> DatabaseUnreachableError:
    log = log_file(home)
    where = f" Its log: {log}." if log.exists() else ""
    message = (
        f"the embedded PostgreSQL under {home} cannot be started: {reason}.{where}\n"
        "Choose another folder with BOURSOMATIC_HOME, or name a server: DATABASE_URL=postgresql://…"
    )
    return DatabaseUnreachableError(message)


# Server process last seen, per data folder and process: setup is needed only once per server start.
_in_use: dict[tuple[Path, int], int] = {}


def _leave(home: Path, users: int, process: int) -> None:
    """Stop the server if no other process uses it. Each user holds a lock, which ends with its process."""
    # A forked child does not own its parent's lock.
    if os.getpid() != process:
        return
    with suppress(OSError), locked(home / "postgres.lock"):
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        finally:
            os.close(users)
        if not _marker(home).exists():
            cluster.stop(home)


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
