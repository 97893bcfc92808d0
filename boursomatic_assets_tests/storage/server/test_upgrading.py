"""Data folders of an older PostgreSQL: upgraded whole, or left as they were."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from boursomatic_assets.commands.database import db
from boursomatic_assets.errors import ConfigurationError, DatabaseUnreachableError, ServerUpgradeError
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets.storage.server import cluster, versions
from boursomatic_assets.storage.server.account import account_for, programs
from boursomatic_assets.storage.server.embedded import address, database_url
from boursomatic_assets.storage.server.upgrading import upgrade_server
from boursomatic_assets_tests.conftest import settings_at
from boursomatic_assets_tests.support.catalog import FILLED, rows, run, upgrade_to
from boursomatic_assets_tests.support.processes import WAIT, spawn, wait_until_ready

if TYPE_CHECKING:
    from pathlib import Path

# The wheel's programs of version 16, and of no other older one.
OLD = "pginstall"
# Of other people in the same server.
OTHERS = "CREATE ROLE ann; GRANT SELECT ON price_bars TO ann; ALTER TABLE adjustments OWNER TO ann"
MINE = "CREATE TABLE mine AS SELECT 'é' AS word"
WAITS_AT_THE_COUNT = f"""
from boursomatic_assets.storage.server import upgrading
def wait(*_):
    {WAIT.strip()}
upgrading._counted = wait
upgrading.upgrade_server(settings.home, None, lambda _: None)
"""


def quiet(_: str) -> None:
    """Progress is not shown."""


def initialise_16(home: Path) -> None:
    """Make a data folder as earlier versions did: PostgreSQL 16, trust authentication."""
    data = home / "postgres"
    account = account_for(data)
    data.mkdir(mode=0o700)
    os.chown(data, account.user, account.group)
    here = str(data) if account.is_own else "/proc/self/cwd"
    command = [programs(account, OLD) / "initdb", "-D", here, "-U", "postgres", "--auth=trust", "--encoding=utf8"]
    subprocess.run(command, check=True, capture_output=True, **cluster.options_of(account, data))


def empty_folder(home: Path, version: str) -> Path:
    (home / "postgres").mkdir()
    (home / "postgres" / "PG_VERSION").write_text(version)
    return home / "postgres"


def content(home: Path) -> dict[str, str]:
    """Every folder that may be a data folder, with its version."""
    return {path.parent.name: path.read_text().strip() for path in sorted(home.glob("*/PG_VERSION"))}


def test_upgrade_server_keeps_everything_after_a_kill(home: Path) -> None:
    initialise_16(home)
    os.environ["BOURSOMATIC_HOME"] = str(home)
    cluster.start(home, programs(account_for(home / "postgres"), OLD))
    run(Database(address(home, "template1")), MINE)
    old = Database(address(home, "postgres"))
    with old.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("CREATE DATABASE boursomatic")
        connection.exec_driver_sql("ALTER DATABASE boursomatic SET work_mem = '5MB'")
        connection.exec_driver_sql("ALTER SYSTEM SET maintenance_work_mem = '7MB'")
    old = Database(address(home, "boursomatic"))
    upgrade_to(old, "0006")
    run(old, FILLED + OTHERS)
    with pytest.raises(ServerUpgradeError, match="boursomatic db stop"):
        upgrade_server(home, None, quiet)
    before = rows(old, "SELECT * FROM price_bars ORDER BY id")
    cluster.stop(home)
    with pytest.raises(DatabaseUnreachableError, match=r"PostgreSQL 16.*\n.*boursomatic db upgrade-server"):
        database_url(settings_at(home))

    killed = spawn(WAITS_AT_THE_COUNT)
    wait_until_ready(killed)
    killed.kill()
    killed.communicate()
    # Both servers live on. The old one writes nothing.
    assert rows(old, "SHOW default_transaction_read_only") == [("on",)]
    assert sorted(content(home).values()) == ["16"]

    told = CliRunner().invoke(db, ["upgrade-server"])
    assert told.exit_code == 0, told.output
    # 2 instruments, 2 bars, 2 versions, 3 recommendations; one row of `mine`, one that holds the revision.
    assert "PostgreSQL 16 -> 18: 11 rows" in told.output
    assert "maintenance_work_mem = '7MB'" in told.output
    assert f"rm -r {home}/postgres-16-before-upgrade" in told.output.replace("\n", "")
    assert content(home) == {"postgres": "18", "postgres-16-before-upgrade": "16"}
    assert not list(home.glob("postgres.upgrading-*"))

    database = Database.open(settings_at(home))
    assert rows(database, "SELECT * FROM price_bars ORDER BY id") == before
    assert rows(database, "SELECT word FROM mine") == [("é",)]
    assert rows(database, "SHOW work_mem") == [("5MB",)]
    assert rows(database, "SELECT has_table_privilege('ann', 'price_bars', 'SELECT')") == [(True,)]
    assert rows(database, "SELECT tableowner FROM pg_tables WHERE tablename = 'adjustments'") == [("ann",)]
    assert upgrade_server(home, None, quiet) is None


def test_upgrade_server_without_the_old_programs_says_where_they_may_be(home: Path) -> None:
    data = empty_folder(home, "9\n")
    for given in (None, home):
        with pytest.raises(ServerUpgradeError, match=r"apt-get install postgresql-9; .*--old-bin DIR"):
            upgrade_server(home, given, quiet)
    assert content(home) == {"postgres": "9"}
    assert list(data.iterdir()) == [data / "PG_VERSION"]


def test_upgrade_server_that_fails_leaves_the_folder(home: Path) -> None:
    data = empty_folder(home, "16\n")
    with pytest.raises(ServerUpgradeError, match="stays as it was"):
        upgrade_server(home, None, quiet)
    assert content(home) == {"postgres": "16"}
    assert data.is_dir()
    assert not list(home.glob("postgres.upgrading-*"))


@pytest.mark.parametrize(("version", "said"), [("99\n", "newer"), (None, "nothing to upgrade")])
def test_upgrade_server_refuses_what_is_not_older(home: Path, version: str | None, said: str) -> None:
    if version:
        empty_folder(home, version)
    with pytest.raises(ServerUpgradeError, match=said):
        upgrade_server(home, None, quiet)


def test_newer_data_folder_names_the_remedy(home: Path) -> None:
    empty_folder(home, "99\n")
    with pytest.raises(DatabaseUnreachableError, match="Install the newer boursomatic-assets"):
        database_url(settings_at(home))


def test_upgrade_server_is_not_for_a_given_server() -> None:
    os.environ["DATABASE_URL"] = "postgresql://127.0.0.1:1/prices"
    refused = CliRunner().invoke(db, ["upgrade-server"])
    assert isinstance(refused.exception, ConfigurationError)
    assert "Unset it" in str(refused.exception)


@pytest.mark.parametrize("step", [1, 2])
def test_exchange_killed_between_two_steps_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    data, upgraded = empty_folder(tmp_path, "16"), tmp_path / "upgraded"
    upgraded.mkdir()
    (upgraded / "PG_VERSION").write_text("18")
    steps = iter(range(1, 3))

    def killed_at(_: Path) -> None:
        if next(steps) == step:
            raise KeyboardInterrupt

    monkeypatch.setattr(versions, "sync_folder", killed_at)
    with pytest.raises(KeyboardInterrupt):
        versions.exchange(data, upgraded)
    monkeypatch.undo()
    # What any command does before it would make a new folder.
    versions.complete_exchange(data)
    if step == 1:
        # The old folder is in use again: rows may be added, so another upgrade starts again.
        assert content(tmp_path) == {"postgres": "16", "postgres.upgraded": "18"}
        assert versions.unused_upgrades(data) == [tmp_path / "postgres.upgraded"]
    else:
        assert content(tmp_path) == {"postgres": "18", "postgres-16-before-upgrade": "16"}


def test_exchange_keeps_every_folder_of_before(tmp_path: Path) -> None:
    for name in ("postgres-16-before-upgrade", "upgraded"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "PG_VERSION").write_text("18" if name == "upgraded" else "16")
    kept = versions.exchange(empty_folder(tmp_path, "16"), tmp_path / "upgraded")
    assert kept == tmp_path / "postgres-16-before-upgrade-2"
    assert content(tmp_path) == {
        "postgres": "18",
        "postgres-16-before-upgrade": "16",
        "postgres-16-before-upgrade-2": "16",
    }


@pytest.mark.parametrize("text", ["", "rubbish", None])
def test_damaged_version_of_a_folder_is_named_and_nothing_changes(home: Path, text: str | None) -> None:
    data = empty_folder(home, text or "")
    (data / "base").mkdir()
    if text is None:
        (data / "PG_VERSION").unlink()
    before = sorted(home.rglob("*"))
    for use in (lambda: versions.require_version(data), lambda: upgrade_server(home, None, quiet)):
        with pytest.raises(DatabaseUnreachableError, match="should hold a number such as 18"):
            use()
    assert sorted(path for path in home.rglob("*") if path.suffix != ".lock") == before
