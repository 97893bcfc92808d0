"""The lock that allows one `boursomatic dev` per home, and names the process that holds it."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from boursomatic_assets.commands.opening import console
from boursomatic_assets.errors import ConfigurationError

LOCK = "dev.lock"
ENDING_SECONDS, LOOKING_SECONDS = 30.0, 0.2


@contextmanager
def only_one(home: Path, address: str) -> Iterator[int]:
    """Hold the home's lock; yields its descriptor, which the watch holds as well.

    Raises ConfigurationError if another process holds it (the message names the process), or the home cannot be
    written.
    """
    from boursomatic_assets.storage.private import make_home, open_file

    try:
        make_home(home)
        held = open_file(home / LOCK)
    except OSError as error:
        message = f"{home} cannot be written: {error.strerror}. Choose another folder: BOURSOMATIC_HOME"
        raise ConfigurationError(message) from error
    try:
        _await_turn(held, home)
        os.ftruncate(held, 0)
        os.write(held, f"{identity_of(os.getpid())}\n{address}\n".encode())
        yield held
    finally:
        os.close(held)


def _await_turn(held: int, home: Path) -> None:
    """Take the lock; wait while the watch of a killed process ends its children."""
    latest, has_said = time.monotonic() + ENDING_SECONDS, False
    while True:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            identity, where = (*(home / LOCK).read_text().splitlines(), "", "")[:2]
        else:
            return
        if _is_dev(identity) or time.monotonic() > latest:
            number = identity.partition(" ")[0] or "unknown"
            message = f"boursomatic dev runs already on {home}, process {number}: {where}\nStop it: kill {number}"
            raise ConfigurationError(message)
        if not has_said:
            console.print("The boursomatic dev before this one was killed; its processes are being ended.")
            has_said = True
        time.sleep(LOOKING_SECONDS)


def identity_of(process: int) -> str:
    """Number and start time of a process: the number alone may be reused."""
    import psutil

    try:
        return f"{process} {psutil.Process(process).create_time():.2f}"
    except psutil.Error:
        return ""


def _is_dev(identity: str) -> bool:
    return not identity or identity_of(int(identity.partition(" ")[0])) == identity
