"""The lock of a database's only daemon: two daemons would start every run twice.

It is an advisory lock of an open transaction, so it also excludes programs of other homes and machines. It ends
with the connection.
"""

from __future__ import annotations

import os
import socket
from typing import Any, Self

from boursomatic_assets.errors import ConfigurationError
from boursomatic_assets.storage.postgres.database import Database

# Two arbitrary numbers name the lock.
_KEY = (0x626F7572, 1)
_HOLDER = """
    SELECT a.application_name FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.locktype = 'advisory' AND l.granted AND (l.classid, l.objid, l.objsubid) = (%s, %s, 2)
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_LONGEST_NAME = 63


class DaemonLock:
    """The right to run the daemon of a database, held within a `with` block."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: Any = None

    def __enter__(self) -> Self:
        self.take()
        return self

    def __exit__(self, *_: object) -> None:
        self.give_back()

    def take(self) -> None:
        """Take the lock; raises ConfigurationError, which names the holder, or psycopg2.Error."""
        import psycopg2

        name = f"boursomatic dev, process {os.getpid()} on {socket.gethostname()}"
        connection = psycopg2.connect(self._database.url, application_name=name[:_LONGEST_NAME])
        try:
            with connection.cursor() as cursor:
                # The transaction stays open, idle.
                cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
                cursor.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", _KEY)
                if cursor.fetchone() == (True,):
                    self._connection = connection
                    return
                cursor.execute(_HOLDER, _KEY)
                found = cursor.fetchone()
        except BaseException:
            connection.close()
            raise
        connection.close()
        message = (
            f"the daemon of this database runs already: {found[0] if found else 'another boursomatic dev'}. "
            "A second one would start runs twice. Stop that one first, or name another database with DATABASE_URL"
        )
        raise ConfigurationError(message)

    def renew(self) -> None:
        """Take the lock again if the connection was lost; do nothing while the server does not answer.

        Raises ConfigurationError if another process has taken it meanwhile.
        """
        import psycopg2

        try:
            if self._connection is not None:
                with self._connection.cursor() as cursor:
                    cursor.execute("SELECT 1")
                return
        except psycopg2.Error:
            self.give_back()
        try:
            self.take()
        except psycopg2.Error:
            return

    def give_back(self) -> None:
        """Release the lock."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
