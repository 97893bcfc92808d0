"""Upgrade of a home's data folder to the PostgreSQL version of this program, by dump and load.

The old folder is only read, by a server of its own version, and kept. The new folder replaces it when it holds as
many rows in each table.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from boursomatic_assets.errors import BackupError, ConfigurationError, ServerUpgradeError
from boursomatic_assets.storage.private import locked
from boursomatic_assets.storage.server import cluster
from boursomatic_assets.storage.server.account import MAJOR_VERSION, Account, account_for, programs
from boursomatic_assets.storage.server.dumping import run_program
from boursomatic_assets.storage.server.embedded import address, forget_libpq_variables
from boursomatic_assets.storage.server.process import data_folder, postmaster
from boursomatic_assets.storage.server.versions import complete_exchange, exchange, unused_upgrades, version_of

# Where the old version's programs may be, beside the wheel.
_PLACES = ("/usr/lib/postgresql/{}/bin", "/usr/pgsql-{}/bin", "/opt/homebrew/opt/postgresql@{}/bin")
_INSTALLATIONS = ("pginstall{}", "pginstall")
# Also the sign of a server that a killed upgrade left running.
_READ_ONLY = "default_transaction_read_only=on"
_TABLES = (
    "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables "
    "WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1"
)
_SETTINGS = (
    "SELECT name || ' = ' || quote_literal(setting) FROM pg_file_settings "
    "WHERE sourcefile LIKE '%/postgresql.auto.conf' ORDER BY seqno"
)


@dataclass(frozen=True)
class Upgraded:
    """An upgrade: the version before, the folder that is kept, and the rows of each table.

    `settings` are those of `ALTER SYSTEM`, which the new server does not have.
    """

    version: int
    kept: Path
    rows: dict[str, int]
    settings: list[str]


def upgrade_server(home: Path, given: Path | None, tell: Callable[[str], object]) -> Upgraded | None:
    """Upgrade the data folder of a home; None if it is of this program's version already.

    `given` is the folder of the old version's programs, which are otherwise looked for. Killed at any moment, the
    old folder is whole, and the next call starts again.

    Raises
    ------
    ServerUpgradeError
        If there is nothing to upgrade, the folder is in use, the old programs are missing, or PostgreSQL refuses.
        The old folder is as before.
    """
    home = home.resolve()
    data = data_folder(home)
    forget_libpq_variables()
    if not data.parent.is_dir():
        raise _nothing_to_upgrade(data)
    with locked(home / "postgres.lock"):
        complete_exchange(data)
        version = version_of(data)
        if version is None:
            raise _nothing_to_upgrade(data)
        if version == MAJOR_VERSION:
            _remove(unused_upgrades(data))
            return None
        _require_upgradable(data, version)
        # A server that a killed upgrade left.
        cluster.stop(home)
        _remove(unused_upgrades(data))
        old = _old_programs(version, given, account_for(data))
        beside = Path(tempfile.mkdtemp(prefix=f"{data.name}.upgrading-", dir=data.parent))
        try:
            rows, settings = _copied(home, old, beside, tell)
            kept = exchange(data, data_folder(beside))
        except (OSError, RuntimeError, BackupError, sa.exc.DBAPIError) as error:
            message = f"{data} stays as it was: its upgrade failed: {' '.join(str(error).split())}"
            raise ServerUpgradeError(message) from error
        finally:
            cluster.stop(home)
            _remove([beside])
    return Upgraded(version, kept, rows, settings)


def _copied(home: Path, old: Path, beside: Path, tell: Callable[[str], object]) -> tuple[dict[str, int], list[str]]:
    """Copy every database into a new cluster, and stop both; returns the rows of each table, and the settings."""
    tell("Starting both servers")
    cluster.start(home, old, {_READ_ONLY.partition("=")[0]: "on", "autovacuum": "off"})
    cluster.initialise(beside)
    cluster.start(beside)
    source, target = address(home, "postgres"), address(beside, "postgres")
    _copy_roles(source, target, beside)
    names = "SELECT datname FROM pg_database WHERE datallowconn AND datname !~ '^template[01]$' ORDER BY 1"
    for name in (found := _column(source, names)):
        tell(f"Copying the database {name}")
        # The database `postgres` is there already.
        create = [] if name == "postgres" else ["--create"]
        dump = str(beside / "dump")
        run_program(_within(source, name), "pg_dump", "--format=custom", "--no-tablespaces", "--file", dump)
        run_program(target, "pg_restore", "--exit-on-error", "--no-tablespaces", *create, dump)
        run_program(_within(target, name), "vacuumdb", "--analyze-only", "--quiet")
    tell("Counting rows")
    before, after = (_counted(url, found) for url in (source, target))
    if before != after:
        differing = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
        message = f"rows differ in {', '.join(differing)}"
        raise RuntimeError(message)
    settings = _column(source, _SETTINGS)
    cluster.stop(home)
    cluster.stop(beside)
    return after, settings


def _copy_roles(source: str, target: str, folder: Path) -> None:
    script = folder / "roles.sql"
    run_program(source, "pg_dumpall", "--globals-only", "--no-tablespaces", "--file", str(script))
    # This role is there already.
    text = script.read_text(encoding="utf-8").replace(f"\nCREATE ROLE {cluster.SUPERUSER};\n", "\n")
    script.write_text(text, encoding="utf-8")
    run_program(target, "psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--file", str(script))


def _counted(url: str, databases: list[str]) -> dict[str, int]:
    return {
        f"{name}: {table}": int(_column(_within(url, name), f"SELECT count(*) FROM {table}")[0])  # noqa: S608 (quoted)
        for name in databases
        for table in _column(_within(url, name), _TABLES)
    }


def _column(url: str, query: str) -> list[str]:
    engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg2"), poolclass=sa.NullPool)
    with closing(engine.connect()) as connection:
        return [str(value) for value in connection.execute(sa.text(query)).scalars()]


def _within(url: str, database: str) -> str:
    return sa.make_url(url).set(database=database).render_as_string(hide_password=False)


def _nothing_to_upgrade(data: Path) -> ServerUpgradeError:
    return ServerUpgradeError(f"there is no data folder of PostgreSQL at {data}: nothing to upgrade")


def _require_upgradable(data: Path, version: int) -> None:
    if version > MAJOR_VERSION:
        message = f"{data} is of PostgreSQL {version}, newer than this program's {MAJOR_VERSION}"
        raise ServerUpgradeError(message)
    if data.is_mount():
        message = (
            f"{data} is the root of a file system, which cannot be replaced by a new folder. Mount that at "
            f"{data.parent} instead"
        )
        raise ServerUpgradeError(message)
    running = postmaster(data)
    if running is not None and _READ_ONLY not in running.cmdline():
        message = (
            f"a server of PostgreSQL {version} runs in {data}. Stop the program that uses it, then: "
            "boursomatic db stop, and again: boursomatic db upgrade-server"
        )
        raise ServerUpgradeError(message)


def _old_programs(version: int, given: Path | None, account: Account) -> Path:
    """Folder of the old version's programs, the given one or the first of the known ones."""
    for folder in _known_places(version, account) if given is None else [given.absolute()]:
        if _version_of_programs(folder, account) == version:
            return folder
    remedy = (
        f"Install them, with Debian's packages: apt-get install postgresql-{version}; or name their folder: "
        "boursomatic db upgrade-server --old-bin DIR"
    )
    message = (
        f"the programs of PostgreSQL {version} must read the old folder; {given or 'this machine'} has none "
        f"that {'this user' if account.is_own else 'the account of the server'} can run. {remedy}"
    )
    raise ServerUpgradeError(message)


def _known_places(version: int, account: Account) -> Iterator[Path]:
    for name in _INSTALLATIONS:
        # The wheel may lack this one.
        with suppress(ConfigurationError):
            yield programs(account, name.format(version))
    for place in _PLACES:
        yield Path(place.format(version))


def _version_of_programs(folder: Path, account: Account) -> int | None:
    try:
        said = subprocess.run(
            [folder / "postgres", "--version"],
            check=True,
            capture_output=True,
            text=True,
            **cluster.options_of(account, Path("/")),
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"\(PostgreSQL\) (\d+)", said)
    return int(found[1]) if found else None


def _remove(folders: list[Path]) -> None:
    """Remove folders of killed or ended upgrades, whose servers are stopped."""
    for folder in folders:
        cluster.stop(folder)
        cluster.forget_socket(folder)
        shutil.rmtree(folder, ignore_errors=True)
