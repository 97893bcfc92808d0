"""One data folder of the embedded PostgreSQL: initialised, started, found, awaited and stopped.

Only the owner of the home connects: the server listens on a socket in a private folder and uses `peer`
authentication. It gets only the environment variables that it needs.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any

import psutil

from boursomatic_assets.storage.private import FOLDER_MODE, OTHERS, is_private, open_file
from boursomatic_assets.storage.server.access import restrict_access
from boursomatic_assets.storage.server.account import Account, account_for, give_to, programs
from boursomatic_assets.storage.server.folder_lock import LoggedWait, lock_folder
from boursomatic_assets.storage.server.process import (
    data_folder,
    is_ready,
    log_file,
    postmaster,
    status,
    status_lines,
)
from boursomatic_assets.storage.server.socket import (
    PORT,
    SOCKET_NAME,
    can_hold_a_socket,
    forget_folder,
    new_folder,
    usable_folder,
)
from boursomatic_assets.storage.server.versions import complete_exchange, require_version

SUPERUSER = "postgres"
# How long a shutdown may wait for its clients.
STOPPING_SECONDS = 60.0
_LARGEST_LOG = 10_000_000
# The working directory of a process, reachable without rights to the folders above it.
_HERE = "/proc/self/cwd"
_SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "lc_messages": "C",
    "lc_monetary": "C",
    "lc_numeric": "C",
    "lc_time": "C",
    "logging_collector": "off",
    "log_destination": "stderr",
}


def environment() -> dict[str, str]:
    """Environment of PostgreSQL's programs: no secrets of the user, no locale, no PG* variables."""
    zone = {"TZ": os.environ["TZ"]} if "TZ" in os.environ else {}
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", **zone}


def initialise(home: Path) -> None:
    """Create the data folder atomically, because a half-made one would never start.

    Raises RuntimeError, or DatabaseUnreachableError for a folder of another version.
    """
    data = data_folder(home)
    account = account_for(data)
    complete_exchange(data)
    if (data / "PG_VERSION").exists():
        require_version(data)
        return
    for abandoned in home.glob("postgres.initialising*"):
        shutil.rmtree(abandoned, ignore_errors=True)
    # A unique name: an initdb that outlived its killed parent may still write elsewhere.
    beside = Path(tempfile.mkdtemp(prefix="postgres.initialising-", dir=home))
    os.chown(beside, account.user, account.group)
    arguments = ["-U", SUPERUSER, "--auth=peer", "--encoding=UTF8", "--locale=C", "--locale-provider=builtin"]
    arguments += ["--builtin-locale=C.UTF-8", "--no-instructions"]
    with _appended(log_file(home)) as log:
        begin = log.seek(0, os.SEEK_END)
        process = subprocess.Popen(
            [str(programs(account) / "initdb"), "-D", _name_within(beside, account), *arguments],
            stdout=log,
            stderr=log,
            **options_of(account, beside),
        )
        if process.wait() != 0:
            message = f"initdb failed: {_last_words(home, begin)}"
            raise RuntimeError(message)
    if data.exists():
        # Empty, or a link: a folder can replace only a folder.
        data.rmdir()
    beside.rename(data)


def start(home: Path, installed: Path | None = None, settings: Mapping[str, str] | None = None) -> None:
    """Start the server unless it runs, and wait until it accepts connections. Call it under the home's lock.

    `installed` is the folder of its programs, if not the wheel's; `settings` are added to the usual ones. Raises
    RuntimeError if the server ends instead, or a server that cannot be seen from here uses the folder.
    """
    data = data_folder(home)
    account = account_for(data)
    _await_settled(home)
    running = postmaster(data)
    if running is not None:
        if restrict_access(data, account):
            running.send_signal(signal.SIGHUP)
        if _listens_where_it_should(home, account):
            return
        # Its socket's folder is gone or open to others, or an earlier version runs it as an account without access.
        stop(home)
    in_use = lock_folder(home)
    try:
        _forget_the_dead(home, account)
        give_to(account, data)
        data.chmod(FOLDER_MODE)
        restrict_access(data, account)
        _launch(home, account, in_use, installed or programs(account), settings or {})
    finally:
        os.close(in_use)


def stop(home: Path) -> bool:
    """Stop the server with PostgreSQL's fast shutdown; returns whether one was running."""
    process = postmaster(data_folder(home))
    if process is None:
        return False
    with suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGINT)
        patience = LoggedWait(f"the embedded PostgreSQL under {home} is being stopped")
        # Not `process.wait`, which never ends in a container without init.
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            patience.wait()
    _collect()
    return True


def socket_folder(home: Path) -> Path:
    """Folder of the server's socket, private to the server's account; raises RuntimeError if it is not.

    It is the data folder, unless that path is too long for a socket or cannot be written in an address.
    """
    data = data_folder(home)
    account = account_for(data)
    folder = usable_folder(home, data, account)
    if folder is None or not is_private(folder, account.user):
        message = f"the folder of its socket, {folder}, is not closed to other users"
        raise RuntimeError(message)
    return folder


def _launch(home: Path, account: Account, in_use: int, installed: Path, more: Mapping[str, str]) -> None:
    data = data_folder(home)
    sockets = usable_folder(home, data, account) or new_folder(home, data, account)
    for left in (SOCKET_NAME, f"{SOCKET_NAME}.lock"):
        (sockets / left).unlink(missing_ok=True)
    within = _name_within(data, account)
    # The first -D only shows the folder in the list of processes; the last one counts.
    command = [str(installed / "postgres"), "-D", str(data), "-D", within]
    settings = {
        **_SETTINGS,
        **more,
        "unix_socket_directories": within if sockets == data else str(sockets),
        "hba_file": f"{within}/pg_hba.conf",
        "ident_file": f"{within}/pg_ident.conf",
    }
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    log_path = log_file(home)
    if log_path.exists() and log_path.stat().st_size > _LARGEST_LOG:
        log_path.replace(log_path.with_name("postgres.log.1"))
    with _appended(log_path) as log:
        begin = log.seek(0, os.SEEK_END)
        # The server and its processes hold the lock on the folder as long as they live.
        process: subprocess.Popen[bytes] = subprocess.Popen(
            command, stdout=log, stderr=log, start_new_session=True, pass_fds=(in_use,), **options_of(account, data)
        )
    _children.append(process)
    patience = LoggedWait(f"the embedded PostgreSQL under {home} is starting, after a crash it first recovers")
    while not is_ready(data, process.pid):
        if process.poll() is not None:
            _children.remove(process)
            message = _last_words(home, begin)
            raise RuntimeError(message)
        patience.wait()


# Servers that this process started; polled, so that none stays a zombie.
_children: list[subprocess.Popen[bytes]] = []


def _collect() -> None:
    _children[:] = [process for process in _children if process.poll() is None]


def _await_settled(home: Path) -> None:
    """Wait while a server starts up or shuts down, as after its opener was killed."""
    data = data_folder(home)
    patience, is_hurried = LoggedWait(f"the embedded PostgreSQL under {home} is starting or stopping"), False
    while (process := postmaster(data)) is not None and not is_ready(data, process.pid):
        waited = patience.wait()
        if waited > STOPPING_SECONDS and not is_hurried and status(data) == "stopping":
            # A fast shutdown does not wait for clients.
            is_hurried = True
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGINT)
    _collect()


def forget_socket(home: Path) -> None:
    """Remove the short folder of a stopped server's socket, if it had one."""
    forget_folder(home, account_for(data_folder(home)))


def _forget_the_dead(home: Path, account: Account) -> None:
    """Remove process numbers left by a killed server; other processes may have them now."""
    data = data_folder(home)
    (data / "postmaster.pid").unlink(missing_ok=True)
    # A list of users, written by an earlier version.
    (data / ".handle_pids.json").unlink(missing_ok=True)
    if can_hold_a_socket(data):
        forget_folder(home, account)


def _listens_where_it_should(home: Path, account: Account) -> bool:
    data = data_folder(home)
    try:
        folder, lines = socket_folder(home), status_lines(data)
        listening = lines[4].strip()
        found = (folder / SOCKET_NAME).lstat()
    except (OSError, RuntimeError, IndexError):
        return False
    expected = _name_within(data, account) if folder == data else str(folder)
    return lines[3].strip() == str(PORT) and listening == expected and stat.S_ISSOCK(found.st_mode)


def _name_within(folder: Path, account: Account) -> str:
    """How a process started in this folder names it."""
    return str(folder) if account.is_own else _HERE


def options_of(account: Account, folder: Path) -> dict[str, Any]:
    """Options to run a PostgreSQL program in a folder, as its account with no further groups."""
    options: dict[str, Any] = {"cwd": folder, "env": environment(), "stdin": subprocess.DEVNULL, "umask": OTHERS}
    if not account.is_own:
        options |= {"user": account.user, "group": account.group, "extra_groups": []}
    return options


def _appended(path: Path) -> FileIO:
    return FileIO(open_file(path, os.O_WRONLY | os.O_APPEND), "ab")


def _last_words(home: Path, begin: int) -> str:
    """Why a program ended: its last grave log line, else its last line."""
    try:
        with log_file(home).open("rb") as log:
            log.seek(begin)
            lines = log.read().decode(errors="replace").splitlines()
    except OSError:
        lines = []
    grave = [line for line in lines if re.search(r"\b(FATAL|PANIC|error|ERROR):", line)]
    said = (grave or lines)[-1:] or ["it ended without a word"]
    return re.sub(r"^.*?\b(?:FATAL|PANIC|ERROR|error):\s*", "", said[0])
