"""Folders and files for their owner alone, whatever the umask, and checks that they are."""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from boursomatic_assets.errors import ConfigurationError

FOLDER_MODE, FILE_MODE = 0o700, 0o600
OTHERS = stat.S_IRWXG | stat.S_IRWXO
# Entries by which a folder is known to be a home.
_OF_A_HOME = ("postgres", "dagster", "artifacts", "postgres.lock")


def make_folders(folder: Path) -> None:
    """Create a folder and its missing parents for the owner alone; an existing one keeps its mode."""
    missing = [folder]
    while not missing[-1].exists() and missing[-1] != missing[-1].parent:
        missing.append(missing[-1].parent)
    for path in reversed(missing[:-1]):
        # Another process may create it at the same time.
        with suppress(FileExistsError):
            path.mkdir(mode=FOLDER_MODE)
    if not folder.is_dir():
        folder.mkdir(mode=FOLDER_MODE)


def make_home(home: Path) -> None:
    """Create the home, or make sure that no other user can change its content.

    A folder that is a home, or empty, is closed to others; one with other content keeps its mode. Raises
    ConfigurationError if it belongs to another user or others may replace its content, OSError if it cannot be
    created.
    """
    make_folders(home)
    home = home.resolve()
    found = home.stat()
    remedy = "Choose another folder: BOURSOMATIC_HOME"
    if found.st_uid not in {os.geteuid(), 0}:
        message = (
            f"{home} belongs to {user_name(found.st_uid)}, and this process runs as {user_name(os.geteuid())}: "
            f"that user could change its content.\nRun as {user_name(found.st_uid)}, or: {remedy}"
        )
        raise ConfigurationError(message)
    is_shared = bool(found.st_mode & stat.S_ISVTX) or home == home.parent
    is_open = found.st_uid == os.geteuid() and found.st_mode & OTHERS and not is_shared
    if is_open and (any((home / name).exists() for name in _OF_A_HOME) or not any(home.iterdir())):
        home.chmod(FOLDER_MODE)
    elif found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        message = (
            f"every user of this machine may replace what is in {home} (mode {stat.S_IMODE(found.st_mode):04o}).\n"
            f"Close it: chmod 700 {home}, or choose a folder within it: BOURSOMATIC_HOME={home / 'boursomatic'}"
        )
        raise ConfigurationError(message)


def make_own_folder(folder: Path) -> None:
    """Create or close a folder for the owner alone; ConfigurationError for a link or another user's folder."""
    try:
        folder.mkdir(mode=FOLDER_MODE)
    except FileExistsError:
        # A plain file is an error, not an attack.
        if folder.is_file() and not folder.is_symlink():
            raise
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        message = (
            f"{folder} is not a folder of {user_name(os.geteuid())}. Remove it, or choose another BOURSOMATIC_HOME"
        )
        raise ConfigurationError(message)
    if found.st_mode & OTHERS:
        folder.chmod(FOLDER_MODE)


def is_private(folder: Path, owner: int) -> bool:
    """Whether this is a folder, no link, that belongs to `owner` and is closed to all others."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == owner and not found.st_mode & OTHERS


def close_file(path: Path) -> None:
    """Remove all rights of others from a file of this user."""
    with suppress(FileNotFoundError):
        found = path.lstat()
        if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and found.st_mode & OTHERS:
            path.chmod(FILE_MODE)


def open_file(path: Path, flags: int = os.O_RDWR) -> int:
    """Open a file, or create it for the owner alone; never through a link. Returns the descriptor."""
    return os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)


def replace_file(path: Path, text: str, owner: tuple[int, int] = (-1, -1)) -> None:
    """Replace a small file atomically, for its owner alone, in a folder of a possibly less trusted user.

    `owner` holds the numbers of its user and group; -1 leaves them as they are.
    """
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    beside = f".{path.name}.{secrets.token_hex(4)}"
    try:
        written = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, FILE_MODE, dir_fd=folder)
        with os.fdopen(written, "w", encoding="utf-8") as file:
            file.write(text)
            os.fchown(file.fileno(), *owner)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path.name, src_dir_fd=folder, dst_dir_fd=folder)
    finally:
        with suppress(OSError):
            os.unlink(beside, dir_fd=folder)
        os.close(folder)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file: one process at a time; the lock ends with its process."""
    held = open_file(path)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def hide_from_others() -> None:
    """Make new files of this process and its children private to their owner."""
    os.umask(OTHERS)


def user_name(number: int) -> str:
    """Name of a user of this machine, or its number without a name."""
    import pwd

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def sync_folder(folder: Path) -> None:
    """Write the names in a folder to the disk, so that a rename outlasts a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
