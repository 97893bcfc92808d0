"""The lock that allows one server per data folder; the server's processes hold it."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil

from boursomatic_assets.storage.private import open_file
from boursomatic_assets.storage.server.process import data_folder, orphans

PROGRESS_SECONDS, LOOKING_SECONDS = 5.0, 0.005
# How long orphaned processes may take to end, and a start waits for another server.
ORPHANS_SECONDS, FOREIGN_SECONDS = 2.0, 10.0
_logger = logging.getLogger(__name__)


class LoggedWait:
    """A wait that logs its duration every few seconds."""

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


def lock_folder(home: Path) -> int:
    """Take the lock that a server's processes hold, ending those of a dead server; returns its descriptor."""
    in_use = open_file(home / "postgres.in-use")
    try:
        _await_lock(in_use, data_folder(home))
    except BaseException:
        os.close(in_use)
        raise
    return in_use


def _await_lock(in_use: int, data: Path) -> None:
    patience, is_ended = LoggedWait(f"processes of a dead server still use {data}"), False
    while True:
        try:
            fcntl.flock(in_use, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waited = patience.wait()
        except OSError:
            # No locks in this file system: PostgreSQL's own check must suffice.
            return
        else:
            return
        if waited > ORPHANS_SECONDS and not is_ended:
            is_ended = True
            for process in orphans(data):
                with suppress(psutil.Error):
                    process.send_signal(signal.SIGKILL)
        if waited > FOREIGN_SECONDS:
            message = (
                f"another server uses {data}: one that cannot be seen from here, perhaps in another container. "
                "Stop it there"
            )
            raise RuntimeError(message)
