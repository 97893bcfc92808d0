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

END_HOLDERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE application_name LIKE 'boursomatic dev%%' AND datname = current_database()"
)


def test_one_daemon_per_database_and_the_second_is_told_who_runs(database: Database) -> None:
    with DaemonLock(database):
        with pytest.raises(ConfigurationError, match=f"process {os.getpid()} on ") as caught, DaemonLock(database):
            pytest.fail("two daemons")
        assert "DATABASE_URL" in str(caught.value)
    with DaemonLock(database):
        pass


def test_another_database_of_the_same_server_has_a_daemon_of_its_own(
    database: Database, postgres: sa.Engine
) -> None:
    other = type(database)(postgres.url.set(drivername="postgresql").render_as_string(hide_password=False))
    with DaemonLock(database), DaemonLock(other):
        pass


def test_a_lock_lost_with_its_connection_is_taken_again_unless_another_has_it(database: Database) -> None:
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


def test_while_no_server_answers_the_lock_is_neither_lost_nor_a_failure(database: Database) -> None:
    unreachable = type(database)("postgresql://nobody@127.0.0.1:1/nowhere")
    DaemonLock(unreachable).renew()
    with pytest.raises(psycopg2.OperationalError):
        DaemonLock(unreachable).take()


def test_the_lock_holds_back_no_vacuum(database: Database) -> None:
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
