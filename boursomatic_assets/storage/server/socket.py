"""The private folder of the embedded server's socket."""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
from pathlib import Path

from boursomatic_assets.storage.private import is_private, replace_file
from boursomatic_assets.storage.server.account import Account

PORT = 5432
SOCKET_NAME = f".s.PGSQL.{PORT}"
# Longest path of a socket: 107 bytes on Linux, 103 on macOS.
_LONGEST_SOCKET = 103
# Characters that every library reads alike in an address.
_PLAIN_PATH = re.compile(r"[\w/.@:~-]+")


def usable_folder(home: Path, data: Path, account: Account) -> Path | None:
    """The data folder, or a short folder recorded in the home; None if one must be made."""
    return data if can_hold_a_socket(data) else recorded_folder(home, account)


def forget_folder(home: Path, account: Account) -> None:
    """Remove the short folder after the home moved to a shorter path."""
    recorded = recorded_folder(home, account)
    if recorded is not None:
        shutil.rmtree(recorded, ignore_errors=True)
        _pointer(home).unlink(missing_ok=True)


def can_hold_a_socket(folder: Path) -> bool:
    """Whether a socket's path fits in this folder, and every library can read it in an address."""
    path = os.fsencode(folder / SOCKET_NAME)
    return len(path) <= _LONGEST_SOCKET and _PLAIN_PATH.fullmatch(str(folder)) is not None


def _pointer(home: Path) -> Path:
    return home / "postgres.socket"


def recorded_folder(home: Path, account: Account) -> Path | None:
    """The short folder of an earlier start, if it is still private and usable."""
    try:
        folder = Path(_pointer(home).read_text(encoding="utf-8").strip())
    except (OSError, UnicodeDecodeError):
        return None
    is_usable = folder.is_absolute() and folder.name.startswith("boursomatic-")
    return folder if is_usable and is_private(folder, account.user) and can_hold_a_socket(folder) else None


def new_folder(home: Path, data: Path, account: Account) -> Path:
    """Make a short, unpredictable folder for the socket and record it in the home; raises RuntimeError."""
    for base in _runtime_folders(account):
        try:
            folder = Path(tempfile.mkdtemp(prefix="boursomatic-", dir=base))
        except OSError:
            continue
        if not can_hold_a_socket(folder):
            folder.rmdir()
            continue
        os.chown(folder, account.user, account.group)
        replace_file(_pointer(home), f"{folder}\n")
        return folder
    message = (
        f"the path {data} is too long for a socket, or holds characters that an address cannot, and "
        "there is no runtime folder for one (XDG_RUNTIME_DIR). Choose a shorter BOURSOMATIC_HOME"
    )
    raise RuntimeError(message)


def _runtime_folders(account: Account) -> list[Path]:
    """Folders where nobody can remove a private folder of this account, the best first."""
    if not account.is_own:
        # Not root's runtime folder, which the server's account cannot enter.
        return [path for path in (Path("/run"), Path("/tmp")) if _keeps_what_is_in_it(path)]  # noqa: S108 (checked)
    own = Path(f"/run/user/{os.geteuid()}")
    given = [Path(name) for name in (os.environ.get("XDG_RUNTIME_DIR"),) if name]
    private = [path for path in (*given, own) if path.is_absolute() and is_private(path, os.geteuid())]
    shared = [path for path in (Path(tempfile.gettempdir()), Path("/tmp")) if _keeps_what_is_in_it(path)]  # noqa: S108
    return [*private, *shared]


def _keeps_what_is_in_it(folder: Path) -> bool:
    """Whether other users cannot rename or remove this user's entries."""
    try:
        found = folder.stat()
    except OSError:
        return False
    is_shared = bool(found.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
    return found.st_uid in {0, os.geteuid()} and (bool(found.st_mode & stat.S_ISVTX) or not is_shared)
