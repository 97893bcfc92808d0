from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import psycopg2
import pytest

from boursomatic_assets.errors import DatabaseUnreachableError
from boursomatic_assets.settings import Settings
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets.storage.server import embedded as server
from boursomatic_assets_tests.conftest import settings_at, wait_until_ended
from boursomatic_assets_tests.support.processes import WAIT, at_once, copy_cluster, finish, spawn, wait_until_ready

OPEN = "server.database_url(settings)\n"


@pytest.fixture
def settings(home: Path) -> Settings:
    """Settings of an embedded server that does not exist yet; other processes find the same in the environment."""
    os.environ["BOURSOMATIC_HOME"] = str(home)
    return settings_at(home)


@pytest.fixture
def stopped(settings: Settings, original: Path) -> Settings:
    """Settings of an embedded server that was there before."""
    copy_cluster(original, settings.home)
    return settings


def postmaster(home: Path) -> psutil.Process:
    return psutil.Process(int((home / "postgres" / "postmaster.pid").read_text().split()[0]))


def answer(url: str, query: str) -> object:
    connection = psycopg2.connect(url)
    try:
        with connection.cursor() as cursor:
            cursor.execute(query)
            return cursor.fetchone()[0]
    finally:
        connection.close()


def write_postmaster_pid(home: Path, pid: int) -> None:
    """What a server that was cut off leaves, after its process id went to another program."""
    data = home / "postgres"
    lines = [str(pid), str(data), "1500000000", "5432", str(data), "", "1 1", "ready"]
    (data / "postmaster.pid").write_text("\n".join(lines) + "\n")


def half_made(home: Path) -> list[Path]:
    """Files of data folders that are not complete."""
    return [path for path in home.glob("*/PG_VERSION") if path.parent.name != "postgres"]


def wait_for_initdb(process: subprocess.Popen[str], home: Path) -> None:
    while not half_made(home):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.002)


def test_database_url_starts_the_server_once(home: Path) -> None:
    # A home folder may hold an accent.
    settings = settings_at(home / "renée")
    assert not server.is_running(settings)
    url = server.database_url(settings)
    assert server.is_running(settings)
    started = postmaster(settings.home)
    assert server.database_url(settings) == url
    assert postmaster(settings.home) == started
    assert answer(url, "SELECT current_database()") == "boursomatic"
    assert answer(url, "SELECT split_part(version(), ' ', 1)") == "PostgreSQL"

    # ADBC reads the address as psycopg2 does.
    assert Database.open(settings).read("SELECT current_database()").item() == "boursomatic"

    # stop works for any process; the next open starts the server again with its data.
    answer(url, "CREATE TABLE kept AS SELECT 1; COMMIT; SELECT 1")
    assert server.stop(settings)
    assert not server.is_running(settings)
    assert not server.stop(settings)
    assert answer(server.database_url(settings), "SELECT count(*) FROM kept") == 1


def test_server_stops_with_its_last_process(stopped: Settings) -> None:
    first, second = spawn(OPEN + WAIT), spawn(OPEN + WAIT)
    wait_until_ready(first)
    wait_until_ready(second)
    finish(first)
    assert server.is_running(stopped)
    finish(second)
    assert not server.is_running(stopped)


def test_keep_running_leaves_the_server_up(stopped: Settings) -> None:
    finish(spawn("server.keep_running(settings)\n" + OPEN))
    assert server.is_running(stopped)
    # The next program leaves it up too; stop ends it and removes the marker.
    finish(spawn(OPEN))
    assert server.is_running(stopped)
    assert server.stop(stopped)
    finish(spawn(OPEN))
    assert not server.is_running(stopped)


def test_killed_initdb_is_repeated(settings: Settings) -> None:
    process = spawn(OPEN)
    wait_for_initdb(process, settings.home)
    # The whole process group: initdb too.
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert half_made(settings.home)
    assert not (settings.home / "postgres").exists()

    assert answer(server.database_url(settings), "SELECT current_database()") == "boursomatic"
    assert not half_made(settings.home)


def test_orphaned_initdb_does_not_disturb_the_next(settings: Settings) -> None:
    # A process killed alone leaves its initdb running. It is suspended here until the next initdb has begun,
    # whose files it must not remove.
    process = spawn(OPEN)
    wait_for_initdb(process, settings.home)
    orphan = next(child for child in psutil.Process(process.pid).children() if child.name() == "initdb")
    orphan.suspend()
    process.kill()
    process.communicate()
    later = threading.Timer(0.3, orphan.resume)
    later.start()
    try:
        assert answer(server.database_url(settings), "SELECT current_database()") == "boursomatic"
    finally:
        later.join()
        wait_until_ended(orphan)


def held_while_starting(process: subprocess.Popen[str], home: Path) -> psutil.Process:
    """The server that a process is about to start, suspended before it is ready."""
    status = home / "postgres" / "postmaster.pid"
    while not status.exists() or not status.read_text():
        assert process.poll() is None, process.communicate()[1]
    starting = postmaster(home)
    starting.suspend()
    return starting


def test_starting_server_is_awaited(stopped: Settings) -> None:
    # Its opener was killed before the server was ready.
    process = spawn(OPEN)
    starting = held_while_starting(process, stopped.home)
    while "ready" in (stopped.home / "postgres" / "postmaster.pid").read_text():
        # It was ready before it could be suspended: try again.
        starting.resume()
        finish(process)
        process = spawn(OPEN)
        starting = held_while_starting(process, stopped.home)
    process.kill()
    process.communicate()
    later = threading.Timer(0.3, starting.resume)
    later.start()
    try:
        assert answer(server.database_url(stopped), "SELECT current_database()") == "boursomatic"
    finally:
        later.join()


def test_stopping_server_is_awaited_and_restarted(stopped: Settings) -> None:
    connection = psycopg2.connect(server.database_url(stopped))
    opener = spawn(WAIT + OPEN)
    wait_until_ready(opener)
    # PostgreSQL's smart shutdown lasts until the last connection is closed, here in 0.3 seconds.
    stopping = postmaster(stopped.home)
    stopping.terminate()
    while "stopping" not in (stopped.home / "postgres" / "postmaster.pid").read_text():
        time.sleep(0.002)
    later = threading.Timer(0.3, connection.close)
    later.start()
    try:
        finish(opener)
    finally:
        later.join()
        wait_until_ended(stopping)


def test_stale_pid_of_another_program_is_ignored(stopped: Settings) -> None:
    bystander = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    write_postmaster_pid(stopped.home, bystander.pid)
    assert not server.is_running(stopped)
    assert not server.stop(stopped)
    assert answer(server.database_url(stopped), "SELECT current_database()") == "boursomatic"
    assert bystander.poll() is None
    bystander.communicate(b"\n")


def test_stale_pid_of_another_postgresql_is_ignored(
    stopped: Settings, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # After a restart of a machine or container another PostgreSQL may get the old process id. A Python process of
    # that name stands in, so that no real server is at risk.
    stand_in = tmp_path_factory.mktemp("other") / "postgres"
    stand_in.symlink_to(sys.executable)
    other = subprocess.Popen([stand_in, "-I", "-S", "-c", "input()"], stdin=subprocess.PIPE)
    try:
        while psutil.Process(other.pid).name() != "postgres":
            time.sleep(0.002)
        write_postmaster_pid(stopped.home, other.pid)
        assert not server.is_running(stopped)
        assert not server.stop(stopped)
        assert answer(server.database_url(stopped), "SELECT current_database()") == "boursomatic"
        assert other.poll() is None
    finally:
        (stopped.home / "postgres" / "postmaster.pid").unlink(missing_ok=True)
        other.kill()
        other.communicate()


def test_killed_process_does_not_keep_the_server_up(stopped: Settings) -> None:
    killed = spawn(OPEN + WAIT)
    wait_until_ready(killed)
    killed.kill()
    killed.communicate()
    assert server.is_running(stopped)
    finish(spawn(OPEN))
    assert not server.is_running(stopped)


def test_eight_processes_at_once_create_one_database(settings: Settings) -> None:
    identity = (
        "SELECT system_identifier::text || ' ' || oid FROM pg_control_system(), pg_database "
        "WHERE datname = current_database()"
    )
    outputs = at_once(8, f"print(Database.open(settings).read({identity!r}).item())")
    assert len(outputs) == 8
    assert len(set(outputs)) == 1
    assert not server.is_running(settings)


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux to make a process adopt orphans")
def test_zombie_server_counts_as_stopped(stopped: Settings) -> None:
    # As in a container without init: the parent, here the opener, never collects the ended server.
    adopt_orphans = "import ctypes; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)\n"
    opener = spawn(adopt_orphans + OPEN + WAIT)
    wait_until_ready(opener)
    ended = postmaster(stopped.home)
    assert server.stop(stopped)
    assert ended.status() == psutil.STATUS_ZOMBIE
    assert not server.is_running(stopped)
    assert answer(server.database_url(stopped), "SELECT current_database()") == "boursomatic"
    finish(opener)


def test_home_that_cannot_be_created_is_named() -> None:
    with pytest.raises(DatabaseUnreachableError, match="BOURSOMATIC_HOME") as caught:
        server.database_url(settings_at(Path("/proc/nowhere/home")))
    assert "/proc/nowhere/home" in str(caught.value)
    assert "No such file or directory" in str(caught.value)


def test_file_in_place_of_the_home_is_named(tmp_path: Path) -> None:
    occupied = tmp_path / "occupied"
    occupied.write_text("mine")
    for wish in (server.database_url, server.keep_running):
        with pytest.raises(DatabaseUnreachableError, match="BOURSOMATIC_HOME") as caught:
            wish(settings_at(occupied))
        assert str(occupied) in str(caught.value)
    assert not server.is_running(settings_at(occupied))
    assert not server.stop(settings_at(occupied))
    assert occupied.read_text() == "mine"


def test_data_of_another_postgresql_version_is_refused_unchanged(settings: Settings) -> None:
    data = settings.home / "postgres"
    data.mkdir()
    (data / "PG_VERSION").write_text("9\n")
    with pytest.raises(DatabaseUnreachableError, match=r"PostgreSQL 9.*\n.*boursomatic db upgrade-server"):
        server.database_url(settings)
    assert (data / "PG_VERSION").read_text() == "9\n"


def test_home_with_a_space_works_or_is_refused(home: Path) -> None:
    settings = settings_at(home / "my prices")
    try:
        url = server.database_url(settings)
    except DatabaseUnreachableError as error:
        assert "space" in str(error)  # noqa: PT017 (either is fine)
    else:
        assert answer(url, "SELECT current_database()") == "boursomatic"
    finally:
        server.stop(settings)


def test_home_with_a_path_too_long_for_a_socket_works(home: Path, original: Path) -> None:
    # A socket's path ends at about 100 characters.
    settings = settings_at(home / ("long" * 30))
    settings.home.mkdir()
    copy_cluster(original, settings.home)
    url = server.database_url(settings)
    assert answer(url, "SELECT current_database()") == "boursomatic"
    elsewhere = Path(str(answer(url, "SHOW unix_socket_directories")))
    server.stop(settings)
    elsewhere.rmdir()


@pytest.mark.parametrize(
    "given",
    [
        "postgresql://reader:secret@host:5433/prices?sslmode=require",
        "postgres://reader:secret@host:5433/prices?sslmode=require",
        "postgresql+psycopg2://reader:secret@host:5433/prices?sslmode=require",
        "postgresql+asyncpg://reader:secret@host:5433/prices?sslmode=require",
    ],
)
def test_database_url_drops_the_driver_name(given: str) -> None:
    settings = Settings.from_environment({"DATABASE_URL": given, "BOURSOMATIC_HOME": "/proc/nowhere"})
    assert server.database_url(settings) == "postgresql://reader:secret@host:5433/prices?sslmode=require"
