"""A real PostgreSQL for the tests that need one, and an environment in which no developer's settings matter."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import coverage
import psutil
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from boursomatic_assets.settings import Settings
from boursomatic_assets.storage.postgres import schema
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets.storage.server import embedded as server
from boursomatic_assets_tests.support.databases import (
    KeptDatabase,
    create_database,
    drop_database,
    named_by_environment,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

# Threads of a training that wait for each other sleep: beside other tests they would spin most of the time.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
# No deadline, and no word about slow examples: both say how busy the machine is, not what the code does. Before the
# tests are imported: settings that they give are added to these. `make check` asks for fewer examples.
_usual = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
# The same examples in each run: none is refused for an example that another run would not have met. `search` draws
# others each time.
hypothesis_settings.register_profile("whole", max_examples=50, derandomize=True, **_usual)
hypothesis_settings.register_profile("quick", max_examples=5, derandomize=True, **_usual)
hypothesis_settings.register_profile("search", max_examples=200, **_usual)
hypothesis_settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "whole"))
# Tests run beside each other: where a training of one is shared out to all cores, it waits for the others.
ONE_THREAD = {"BOURSOMATIC_THREADS": "1"}
# Before a console is made: it would keep the developer's width, or the one that pytest-xdist's processes are given.
for _name in ("COLUMNS", "LINES"):
    os.environ.pop(_name, None)

# Looked through for doctests, it would hide packages from these tests too.
collect_ignore = ["support/plain"]
_SETTINGS = ("DATABASE_URL", "ARTIFACTS_DIR")
_PREFIXES = ("BOURSOMATIC_", "DAGSTER_", "PG")
_HERE = Path(__file__).parent
_PURE = [_HERE / name for name in ("core", "alerts/test_messages.py", "automation/test_decisions.py")]
# Those that wait for a running product by turns with those that compute.
_LONGEST = (
    "automation/test_daemon.py", "assets/test_large_panel.py", "test_ui.py", "assets/test_two_continents.py",
    "test_network_sources.py", "automation/test_storms.py", "automation/test_promotion_live.py", "test_faults.py",
    "benchmarks/test_stages.py", "benchmarks/test_proofs.py", "commands/test_dev.py", "automation/test_jobs.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take long: of two processes none is left with a long one when the other is done."""
    slow = {item.path for item in items if any(item.iter_markers("slow")) or any(item.iter_markers("browser"))}
    first = {_HERE / name: place for place, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: (first.get(item.path, len(first)), item.path not in slow))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let only the pure code's own tests count as its coverage: others pass through lines without a look at them.

    Beside that, Python runs a quarter faster where nothing is counted.
    """
    counting = coverage.Coverage.current()
    if counting is None or any(map(item.path.is_relative_to, _PURE)):
        return (yield)
    counting.stop()
    try:
        return (yield)
    finally:
        counting.start()


@pytest.fixture(autouse=True)
def nobodys_environment(tmp_path: Path) -> Iterator[None]:
    """No setting of the developer's reaches a test, and none that a test makes outlives it."""
    with environment_at(tmp_path / "home"):
        yield


@contextmanager
def environment_at(home: Path) -> Iterator[None]:
    """An environment that says nothing but where the home is; what it was before comes back at the end."""
    before = dict(os.environ)
    for name in before:
        # Whether tests may be left out is not the product's setting, and stays.
        if name != "BOURSOMATIC_TESTS_COMPLETE" and (name in _SETTINGS or name.startswith(_PREFIXES)):
            del os.environ[name]
    os.environ["BOURSOMATIC_HOME"] = str(home)
    # Runs may read the prices that tests write or share.
    os.environ["BOURSOMATIC_PRICE_FOLDERS"] = os.sep
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture
def home() -> Iterator[Path]:
    """A home folder for an embedded server of the test's own. Its path is short, as a socket's must be."""
    folder = Path(tempfile.mkdtemp(prefix="bm-"))
    yield folder
    cut_off(folder)
    shutil.rmtree(folder, ignore_errors=True)


def cut_off(home: Path) -> None:
    """End a server under this home at once: what it holds goes with the folder."""
    for process in psutil.process_iter(["name", "cmdline"]):
        folders = [part for part in process.info["cmdline"] or [] if part.startswith(f"{home}/")]
        if process.info["name"] == "postgres" and folders:
            process.send_signal(signal.SIGQUIT)
            wait_until_ended(process)


def wait_until_ended(process: psutil.Process) -> None:
    """Wait for the end of a process, whether or not the one that adopted it takes notice."""
    with suppress(psutil.NoSuchProcess):
        while process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)


def settings_at(home: Path) -> Settings:
    return Settings.from_environment({"BOURSOMATIC_HOME": str(home)})


@pytest.fixture(scope="session")
def postgres() -> Iterator[sa.Engine]:
    """One embedded server for all tests that only need a database. It need not survive a crash of the machine."""
    folder = Path(tempfile.mkdtemp(prefix="bm-"))
    url = sa.make_url(server.database_url(settings_at(folder))).set(drivername="postgresql+psycopg2")
    engine = sa.create_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for name in ("fsync", "full_page_writes", "synchronous_commit"):
            connection.exec_driver_sql(f"ALTER SYSTEM SET {name} = off")
        connection.exec_driver_sql("SELECT pg_reload_conf()")
    yield engine
    server.stop(settings_at(folder))
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def _kept(postgres: sa.Engine) -> Iterator[KeptDatabase]:
    kept = KeptDatabase(postgres)
    yield kept
    kept.drop()


@pytest.fixture
def settings(postgres: sa.Engine, request: pytest.FixtureRequest) -> Iterator[Settings]:
    """Settings, also those of the environment, that name an empty database: upgraded if `database` is asked for."""
    if "database" in request.fixturenames:
        kept: KeptDatabase = request.getfixturevalue("_kept")
        with kept.lent() as settings:
            yield settings
    else:
        with fresh_database(postgres) as settings:
            yield settings


@contextmanager
def fresh_database(postgres: sa.Engine) -> Iterator[Settings]:
    """An empty database, named by the environment for as long as it exists."""
    name = create_database(postgres)
    try:
        yield named_by_environment(postgres, name)
    finally:
        drop_database(postgres, name)


def copy_database(postgres: sa.Engine, original: str, name: str) -> None:
    """Make a database with what another one holds."""
    with postgres.connect() as connection:
        # Nobody may be connected to what is copied; an instance that was opened there has left its connections.
        connection.execute(
            sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :original"),
            {"original": original},
        )
        connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE {original}")


@pytest.fixture
def database(settings: Settings) -> Database:
    """The same empty database, upgraded."""
    return Database.open(settings)


def upgraded(settings: Settings) -> Database:
    schema.upgrade(Database(server.database_url(settings)).engine)
    return Database.open(settings)
