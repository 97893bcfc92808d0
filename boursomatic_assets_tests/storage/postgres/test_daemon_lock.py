from __future__ import annotations

import os
from typing import TYPE_CHECKING

import psycopg2
import pytest

from boursomatic_assets.errors import ConfigurationError
from boursomatic_assets.storage.postgres.daemon_lock import DaemonLock

if TYPE_CHECKING:
    import sqlalchemy as sa

    from boursomatic_assets.storage.postgres.database import Database

# Of the lock: a connection that was refused it may still be about to end. Waits until the holder has ended.
END_HOLDERS = (
    "SELECT pg_terminate_backend(pid, 600000) FROM pg_locks WHERE locktype = 'advisory' AND granted "
    "AND objsubid = 2 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


def test_daemon_lock_refuses_a_second_daemon_and_names_the_first(database: Database) -> None:
    with DaemonLock(database):
        with pytest.raises(ConfigurationError, match=f"process {os.getpid()} on ") as caught, DaemonLock(database):
            pytest.fail("two daemons")
        assert "DATABASE_URL" in str(caught.value)
    with DaemonLock(database):
        pass


def test_daemon_lock_is_per_database(database: Database, postgres: sa.Engine) -> None:
    other = type(database)(postgres.url.set(drivername="postgresql").render_as_string(hide_password=False))
    with DaemonLock(database), DaemonLock(other):
        pass


def test_daemon_lock_renews_after_a_lost_connection(database: Database) -> None:
    with DaemonLock(database) as lock:
        _end_connections(database)
        lock.renew()
        # It holds again.
        with pytest.raises(ConfigurationError):
            DaemonLock(database).take()
        lock.renew()
        _end_connections(database)
        with DaemonLock(database), pytest.raises(ConfigurationError, match="runs already"):
            lock.renew()


def test_daemon_lock_renew_ignores_an_unreachable_server(database: Database) -> None:
    unreachable = type(database)("postgresql://nobody@127.0.0.1:1/nowhere")
    DaemonLock(unreachable).renew()
    with pytest.raises(psycopg2.OperationalError):
        DaemonLock(unreachable).take()


def test_daemon_lock_does_not_hold_back_vacuum(database: Database) -> None:
    # An open transaction with a snapshot would keep dead rows of all tables for days.
    with DaemonLock(database) as lock:
        lock.renew()
        with database.connection() as connection:
            query = (
                "SELECT backend_xmin IS NULL AND backend_xid IS NULL FROM pg_stat_activity WHERE application_name "
            )
            assert connection.exec_driver_sql(query + "LIKE 'boursomatic dev%%'").scalars().all() == [True]


def _end_connections(database: Database) -> None:
    with database.connection() as connection:
        assert connection.exec_driver_sql(END_HOLDERS).scalars().all() == [True]
