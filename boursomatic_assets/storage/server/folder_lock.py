"""The lock that allows one server to a data folder; its processes hold it as long as they live."""

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
from boursomatic_assets.storage.server.folders import data_folder
from boursomatic_assets.storage.server.process import orphans

PROGRESS_SECONDS, LOOKING_SECONDS = 5.0, 0.005
# How long processes of a dead server may wait for their own end, and a start for another server.
ORPHANS_SECONDS, FOREIGN_SECONDS = 2.0, 10.0
_logger = logging.getLogger(__name__)


class LoggedWait:
    """Wait, and log every few seconds how long it has taken."""

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
    """Descriptor of the lock that each process of a server holds; what is left of a dead one is ended first."""
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
            # The file system knows no locks: PostgreSQL's own check has to do.
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
