"""One data folder of the embedded PostgreSQL: set up, started, found, waited for and stopped.

Only the owner of the home connects: the server listens on a socket in a folder that nobody else may enter, and asks
the operating system who is at the other end (authentication `peer`). Of the environment it gets what it needs.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any

import psutil

from boursomatic_assets.storage.private import FOLDER_MODE, OTHERS, is_private, open_file, replace_file, user_name
from boursomatic_assets.storage.server_account import MAJOR_VERSION, Account, account_for, give_to, programs

SUPERUSER, PORT = "postgres", 5432
PROGRESS_SECONDS, LOOKING_SECONDS = 5.0, 0.005
# How long a shutdown may wait for its clients, and processes of a dead server for their own end.
STOPPING_SECONDS, ORPHANS_SECONDS, FOREIGN_SECONDS = 60.0, 2.0, 10.0
SOCKET_NAME = f".s.PGSQL.{PORT}"
# Longest path of a socket: 107 bytes on Linux, 103 on macOS.
_LONGEST_SOCKET = 103
# What an address can hold without a library that reads it otherwise.
_PLAIN_PATH = re.compile(r"[\w/.@:~-]+")
_LARGEST_LOG = 10_000_000
# The folder in which a process was started: reached without any right to the folders above it.
_HERE = "/proc/self/cwd"
_OWNER_MAP = "boursomatic"
_HBA = f"""\
# Written at every start of the server: only the owner of the home connects. Changes here do not last.
local all all peer map={_OWNER_MAP}
local replication all peer map={_OWNER_MAP}
"""
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
_logger = logging.getLogger(__name__)


def data_folder(home: Path) -> Path:
    """Folder of the tables under a home."""
    return (home.resolve() / "postgres").resolve()


def log_file(home: Path) -> Path:
    """Where the server, and the program that sets its folder up, write what they do."""
    return home.resolve() / "postgres.log"


def environment() -> dict[str, str]:
    """Return what PostgreSQL's programs are given of the environment: no secret of the user, no locale, no PG*."""
    zone = {"TZ": os.environ["TZ"]} if "TZ" in os.environ else {}
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", **zone}


def postmaster(data: Path) -> psutil.Process | None:
    """Server process of this very data folder: a process number that it left may be anybody's by now."""
    try:
        process = psutil.Process(int(_status_lines(data)[0]))
        if process.name() != "postgres" or process.status() == psutil.STATUS_ZOMBIE:
            return None
        return process if _works_in(process, data) else None
    except (OSError, ValueError, IndexError, psutil.Error):
        return None


def initialise(home: Path) -> None:
    """Create the data folder whole or not at all: one that a kill left half made would never start again.

    Raises
    ------
    RuntimeError
        If it is of another version of PostgreSQL, or cannot be made.
    """
    data = data_folder(home)
    if (data / "PG_VERSION").exists():
        version = (data / "PG_VERSION").read_text().strip()
        if version != str(MAJOR_VERSION):
            message = f"{data} is of PostgreSQL version {version}, and this program comes with version {MAJOR_VERSION}"
            raise RuntimeError(message)
        return
    for abandoned in home.glob("postgres.initialising*"):
        shutil.rmtree(abandoned, ignore_errors=True)
    # A name of its own: an initdb that outlived its killed parent may still write under another.
    beside = Path(tempfile.mkdtemp(prefix="postgres.initialising-", dir=home))
    account = account_for(data)
    os.chown(beside, account.user, account.group)
    arguments = ["-U", SUPERUSER, "--auth=peer", "--encoding=UTF8", "--locale=C", "--locale-provider=builtin"]
    arguments += ["--builtin-locale=C.UTF-8", "--no-instructions"]
    with _appended(log_file(home)) as log:
        begin = log.seek(0, os.SEEK_END)
        process = subprocess.Popen(
            [programs(account) / "initdb", "-D", _name_within(beside, account), *arguments],
            stdout=log, stderr=log, **_as(account, beside),
        )
        if process.wait() != 0:
            message = f"initdb failed: {_last_words(home, begin)}"
            raise RuntimeError(message)
    if data.exists():
        # Made by hand and empty: a folder is renamed over it only where it is one.
        data.rmdir()
    beside.rename(data)


def start(home: Path) -> None:
    """Start the server unless it runs, and wait until it takes connections, as long as it lives.

    To be called by one process at a time.

    Raises
    ------
    RuntimeError
        If the server ends instead, or another one that cannot be seen from here uses the folder.
    """
    data = data_folder(home)
    account = account_for(data)
    _await_settled(home)
    running = postmaster(data)
    if running is not None:
        if _restrict(data, account):
            running.send_signal(signal.SIGHUP)
        if _listens_where_it_should(home, account):
            return
        # Begun by an earlier version in a folder that others could enter, or its folder was removed.
        stop(home)
    in_use = _own_folder_alone(home)
    try:
        _forget_the_dead(home, account)
        give_to(account, data)
        data.chmod(FOLDER_MODE)
        _restrict(data, account)
        _launch(home, account, in_use)
    finally:
        os.close(in_use)


def stop(home: Path) -> bool:
    """Stop the server with PostgreSQL's fast shutdown: sessions end, what was committed is kept.

    Returns whether one was running.
    """
    process = postmaster(data_folder(home))
    if process is None:
        return False
    with suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGINT)
        patience = _Patience(f"the embedded PostgreSQL under {home} is being stopped")
        # Not `process.wait`: where nobody collects the ended process (a container without init) it waits in vain.
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            patience.wait()
    _collect()
    return True


def socket_folder(home: Path) -> Path:
    """Folder in which clients find the server's socket. It belongs to the server's account, closed to all others.

    It is the data folder, unless that path is too long for a socket or cannot be written in an address.

    Raises
    ------
    RuntimeError
        If it is not private.
    """
    data = data_folder(home)
    account = account_for(data)
    folder = data if _can_hold_a_socket(data) else _recorded_folder(home, account)
    if folder is None or not is_private(folder, account.user):
        message = f"the folder of its socket, {folder}, is not closed to other users"
        raise RuntimeError(message)
    return folder


def _launch(home: Path, account: Account, in_use: int) -> None:
    data = data_folder(home)
    sockets = data if _can_hold_a_socket(data) else _recorded_folder(home, account) or _new_socket_folder(home, account)
    for left in (SOCKET_NAME, f"{SOCKET_NAME}.lock"):
        (sockets / left).unlink(missing_ok=True)
    within = _name_within(data, account)
    # The first -D is for people who look at the list of processes; the last one counts.
    command = [programs(account) / "postgres", "-D", str(data), "-D", within]
    settings = {
        **_SETTINGS,
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
        # It holds the lock on its folder for as long as it lives, and so does each of its processes.
        process = subprocess.Popen(
            command, stdout=log, stderr=log, start_new_session=True, pass_fds=(in_use,), **_as(account, data)
        )
    _children.append(process)
    patience = _Patience(f"the embedded PostgreSQL under {home} is starting, after a crash it first recovers")
    while not _is_ready(data, process.pid):
        if process.poll() is not None:
            _children.remove(process)
            message = _last_words(home, begin)
            raise RuntimeError(message)
        patience.wait()


# Servers that this process started. Their end is collected, so that no dead entry stays in the list of processes.
_children: list[subprocess.Popen[bytes]] = []


def _collect() -> None:
    _children[:] = [process for process in _children if process.poll() is None]


class _Patience:
    """Waiting with a word to the log every few seconds."""

    def __init__(self, what: str) -> None:
        self.what, self.began, self.said = what, time.monotonic(), 0.0

    def wait(self) -> float:
        """Wait a moment; returns the seconds waited in all."""
        time.sleep(LOOKING_SECONDS)
        waited = time.monotonic() - self.began
        if waited - self.said >= PROGRESS_SECONDS:
            self.said = waited
            _logger.warning("%s: %.0f seconds so far", self.what, waited)
        return waited


def _await_settled(home: Path) -> None:
    """Wait while a server starts up or shuts down, as one may whose opener was killed."""
    data = data_folder(home)
    patience, is_hurried = _Patience(f"the embedded PostgreSQL under {home} is starting or stopping"), False
    while (process := postmaster(data)) is not None and not _is_ready(data, process.pid):
        waited = patience.wait()
        if waited > STOPPING_SECONDS and not is_hurried and _status(data) == "stopping":
            # It waits for its clients: they are ended.
            is_hurried = True
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGINT)
    _collect()


def _own_folder_alone(home: Path) -> int:
    """Descriptor of the lock that each process of a server holds; what is left of a dead one is ended first."""
    data = data_folder(home)
    in_use = open_file(home / "postgres.in-use")
    patience = _Patience(f"processes of a dead server still use {data}")
    is_ended = False
    try:
        while True:
            try:
                fcntl.flock(in_use, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass
            except OSError:
                # The file system knows no locks: PostgreSQL's own check has to do.
                return in_use
            else:
                return in_use
            waited = patience.wait()
            if waited > ORPHANS_SECONDS and not is_ended:
                is_ended = True
                for process in _orphans(data):
                    with suppress(psutil.Error):
                        process.send_signal(signal.SIGKILL)
            if waited > FOREIGN_SECONDS:
                message = (
                    f"another server uses {data}: one that cannot be seen from here, perhaps in another container. "
                    "Stop it there"
                )
                raise RuntimeError(message)
    except BaseException:
        os.close(in_use)
        raise


def _orphans(data: Path) -> list[psutil.Process]:
    """Processes of a server of this folder whose postmaster was killed."""
    return [
        process
        for process in psutil.process_iter(["name"])
        if process.info["name"] == "postgres" and _works_in(process, data)
    ]


def _forget_the_dead(home: Path, account: Account) -> None:
    """Clear the process numbers that a killed server left: they may be somebody else's by now."""
    data = data_folder(home)
    (data / "postmaster.pid").unlink(missing_ok=True)
    # Of an earlier version, which kept a list of its users.
    (data / ".handle_pids.json").unlink(missing_ok=True)
    recorded = _recorded_folder(home, account)
    if recorded is not None and _can_hold_a_socket(data):
        shutil.rmtree(recorded, ignore_errors=True)
        _pointer(home).unlink(missing_ok=True)


def _restrict(data: Path, account: Account) -> bool:
    """Let the owner of the home connect, as any role, and nobody else. Returns whether that was not so before."""
    owner = user_name(os.geteuid()).replace('"', '""')
    has_changed = False
    for name, text in (("pg_hba.conf", _HBA), ("pg_ident.conf", f'{_OWNER_MAP} "{owner}" all\n')):
        path = data / name
        try:
            is_right = not path.is_symlink() and path.read_text(encoding="utf-8") == text
        except (OSError, UnicodeDecodeError):
            is_right = False
        if not is_right:
            replace_file(path, text, (-1, -1) if account.is_own else (account.user, account.group))
            has_changed = True
    return has_changed


def _listens_where_it_should(home: Path, account: Account) -> bool:
    data = data_folder(home)
    try:
        folder, lines = socket_folder(home), _status_lines(data)
        listening = lines[4].strip()
        found = (folder / SOCKET_NAME).lstat()
    except (OSError, RuntimeError, IndexError):
        return False
    expected = {str(folder), _name_within(data, account)} if folder == data else {str(folder)}
    return lines[3].strip() == str(PORT) and listening in expected and stat.S_ISSOCK(found.st_mode)


def _can_hold_a_socket(folder: Path) -> bool:
    path = os.fsencode(folder / SOCKET_NAME)
    return len(path) <= _LONGEST_SOCKET and _PLAIN_PATH.fullmatch(str(folder)) is not None


def _pointer(home: Path) -> Path:
    return home / "postgres.socket"


def _recorded_folder(home: Path, account: Account) -> Path | None:
    """Short folder for the socket that an earlier start made, if it is still as it was made."""
    try:
        folder = Path(_pointer(home).read_text(encoding="utf-8").strip())
    except (OSError, UnicodeDecodeError):
        return None
    is_usable = folder.is_absolute() and folder.name.startswith("boursomatic-")
    return folder if is_usable and is_private(folder, account.user) and _can_hold_a_socket(folder) else None


def _new_socket_folder(home: Path, account: Account) -> Path:
    """Make a short folder for the socket, of a name that nobody can foresee, and record it in the home."""
    for base in _runtime_folders(account):
        try:
            folder = Path(tempfile.mkdtemp(prefix="boursomatic-", dir=base))
        except OSError:
            continue
        if not _can_hold_a_socket(folder):
            folder.rmdir()
            continue
        os.chown(folder, account.user, account.group)
        replace_file(_pointer(home), f"{folder}\n")
        return folder
    message = (
        f"the path {data_folder(home)} is too long for a socket, or holds characters that an address cannot, and "
        "there is no runtime folder for one (XDG_RUNTIME_DIR). Choose a shorter BOURSOMATIC_HOME"
    )
    raise RuntimeError(message)


def _runtime_folders(account: Account) -> list[Path]:
    """Folders in which a private one can be made that no other user can take away, the best first."""
    if not account.is_own:
        # Root's server cannot enter root's own runtime folder.
        return [path for path in (Path("/run"), Path("/tmp")) if _keeps_what_is_in_it(path)]  # noqa: S108 (checked)
    own = Path(f"/run/user/{os.geteuid()}")
    given = [Path(name) for name in (os.environ.get("XDG_RUNTIME_DIR"),) if name]
    private = [path for path in (*given, own) if path.is_absolute() and is_private(path, os.geteuid())]
    shared = [path for path in (Path(tempfile.gettempdir()), Path("/tmp")) if _keeps_what_is_in_it(path)]  # noqa: S108
    return [*private, *shared]


def _keeps_what_is_in_it(folder: Path) -> bool:
    """Whether other users cannot rename or remove what one makes in it."""
    try:
        found = folder.stat()
    except OSError:
        return False
    is_shared = bool(found.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
    return found.st_uid in {0, os.geteuid()} and (bool(found.st_mode & stat.S_ISVTX) or not is_shared)


def _name_within(folder: Path, account: Account) -> str:
    """Name of the folder in which a process is started, for that process."""
    return str(folder) if account.is_own else _HERE


def _as(account: Account, folder: Path) -> dict[str, Any]:
    """How a program of PostgreSQL is run: as its account and nothing more, within a folder."""
    options: dict[str, Any] = {"cwd": folder, "env": environment(), "stdin": subprocess.DEVNULL, "umask": OTHERS}
    if not account.is_own:
        options |= {"user": account.user, "group": account.group, "extra_groups": []}
    return options


def _appended(path: Path) -> FileIO:
    return FileIO(open_file(path, os.O_WRONLY | os.O_APPEND), "ab")


def _works_in(process: psutil.Process, data: Path) -> bool:
    found = data.stat()
    try:
        return os.path.samestat(os.stat(f"/proc/{process.pid}/cwd"), found)
    except OSError:
        # Not Linux, or root in a container, who may not look at other users' processes so closely.
        pass
    try:
        return process.uids().real == found.st_uid and str(data) in process.cmdline()
    except psutil.Error:
        return False


def _status_lines(data: Path) -> list[str]:
    return (data / "postmaster.pid").read_text(encoding="utf-8", errors="surrogateescape").splitlines()


def _status(data: Path) -> str:
    try:
        return _status_lines(data)[7].strip()
    except (OSError, IndexError):
        return ""


def _is_ready(data: Path, process: int) -> bool:
    """Whether the server with this process number takes connections."""
    try:
        lines = _status_lines(data)
        return int(lines[0]) == process and lines[7].strip() == "ready"
    except (OSError, IndexError, ValueError):
        return False


def _last_words(home: Path, begin: int) -> str:
    """Why a program ended: its own words, those of weight if there are any."""
    try:
        with log_file(home).open("rb") as log:
            log.seek(begin)
            lines = log.read().decode(errors="replace").splitlines()
    except OSError:
        lines = []
    grave = [line for line in lines if re.search(r"\b(FATAL|PANIC|error|ERROR):", line)]
    said = (grave or lines)[-1:] or ["it ended without a word"]
    return re.sub(r"^.*?\b(?:FATAL|PANIC|ERROR|error):\s*", "", said[0])
