"""Processes killed while they write recommendations: the old set is active, or the new one, never a mixture."""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from boursomatic_assets.services.recommending import recommend as recommending
from boursomatic_assets.storage.postgres.recommendations_table import WrittenRows
from boursomatic_assets_tests.support.processes import Forks
from boursomatic_assets_tests.support.recommendable import fill, record, train, update

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import polars as pl

    from boursomatic_assets.storage.postgres.database import Database

pytestmark = pytest.mark.slow

KILLS, SYMBOLS, SEED = 50, 120, 20_180_420
ROWS = 3 * SYMBOLS
IMPORTS = """
import polars as pl
from boursomatic_assets.storage.postgres.recommendations_table import write_recommendations
"""
TURN = "SELECT pg_advisory_xact_lock(hashtext('boursomatic:recommendations'))"
# Prepares the write, then waits until the pipe is opened. A mark in digest and justification names the writer: its
# process.
SCRIPT = """
mark = str(os.getpid())
snapshot = pl.col('features_snapshot').str.replace('"digest":"', f'"digest":"{{mark}} ', literal=True)
rows = pl.read_parquet('{rows}').with_columns(snapshot, justification=pl.lit(mark))
database = Database.open(settings)
os.close(os.open('{pipe}', os.O_RDONLY))
write_recommendations(database, rows, '{version}')
"""


@dataclass(frozen=True)
class Writers:
    """Processes that write the same recommendations, each under a mark of its own."""

    forks: Forks
    pipe: Path

    def start(self) -> int:
        """Start one, wait until it is ready, and let it write; its process, which is its mark."""
        process = self.forks.begin()
        # Both ends of a pipe wait for each other.
        os.close(os.open(self.pipe, os.O_WRONLY))
        return process

    def kill(self, process: int) -> None:
        # What has ended is there until its end is asked for.
        os.kill(process, signal.SIGKILL)
        assert self.forks.exit_code(process) in {0, -signal.SIGKILL}

    def write(self) -> tuple[int, float]:
        """Let a process write to its end; its mark, and the seconds."""
        process, started = self.start(), time.perf_counter()
        assert self.forks.exit_code(process) == 0
        return process, time.perf_counter() - started


@pytest.fixture
def writers(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Writers]:
    """What the platform would write of simulated instruments, kept in a file instead."""
    fill(database, SYMBOLS)
    row = record(database, tmp_path / "artifacts", train(database))
    path, pipe, written = tmp_path / "rows.parquet", tmp_path / "pipe", []

    def keep(_database: Database, rows: pl.DataFrame, version: str) -> WrittenRows:
        rows.write_parquet(path)
        written.append(version)
        return WrittenRows(rows.height, 0, 0)

    monkeypatch.setattr(recommending, "write_recommendations", keep)
    update(database)
    assert written == [row.version]
    os.mkfifo(pipe)
    with Forks(SCRIPT.format(rows=path, pipe=pipe, version=row.version), IMPORTS) as forks:
        yield Writers(forks, pipe)


def active_mark(database: Database) -> tuple[int, int]:
    """Whose rows are active, all of one writer, and how many they are."""
    found = database.read(
        "SELECT justification::int AS mark, count(*) AS rows, "
        "left(features_snapshot ->> 'digest', length(justification))::int AS digest "
        "FROM recommendations WHERE is_active GROUP BY 1, 3"
    )
    assert found.height == 1
    mark, rows, digest = found.row(0)
    assert mark == digest
    return mark, rows


def test_killed_write_leaves_the_old_or_the_new_recommendations(database: Database, writers: Writers) -> None:
    # The first only inserts; the second also archives, like the killed ones.
    writers.write()
    mark, whole = writers.write()
    assert active_mark(database) == (mark, ROWS)
    # One that waits for its turn has written nothing; one that has ended has written everything.
    with database.bulk() as cursor:
        cursor.execute(TURN)
        process = writers.start()
        wait_until_it_waits(database)
        writers.kill(process)
    assert active_mark(database) == (mark, ROWS)
    process, _ = writers.write()
    assert active_mark(database) == (process, ROWS)
    # Rows of each complete write.
    complete = 3
    moments = random.Random(SEED)  # noqa: S311 (moments, not secrets)
    for _ in range(KILLS):
        before = active_mark(database)
        process = writers.start()
        # Now and then after the end.
        time.sleep(moments.uniform(0, 1.6 * whole))
        writers.kill(process)
        wait_for_the_server(database)
        after = active_mark(database)
        assert after in {before, (process, ROWS)}
        complete += after != before
        (kept,) = database.read("SELECT count(*) AS rows FROM recommendations")["rows"]
        assert kept == ROWS * complete


def wait_until_it_waits(database: Database) -> None:
    """Wait until a process asks for the table's turn."""
    while not database.read("SELECT count(*) AS waiting FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")[
        "waiting"
    ].item():
        time.sleep(0.01)


def wait_for_the_server(database: Database) -> None:
    """Wait until the table's turn is free: the server has taken back, or finished, what was begun."""
    with database.bulk() as cursor:
        cursor.execute(TURN)
        cursor.fetchall()
