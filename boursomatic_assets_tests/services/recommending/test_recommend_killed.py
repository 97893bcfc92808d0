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
from boursomatic_assets_tests.support.processes import spawn, wait_until_ready
from boursomatic_assets_tests.support.recommendable import fill, record, train, update

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    import polars as pl

    from boursomatic_assets.storage.postgres.database import Database

pytestmark = pytest.mark.slow

KILLS, SYMBOLS, SEED = 50, 120, 20_180_420
ROWS = 3 * SYMBOLS
# Started together before the first one writes, because starting processes slow a write down.
PREPARED = 5
# Prepares the write, then waits. A mark in digest and justification names the writer. It imports only what a write
# needs: fifty processes that load models would take minutes.
SCRIPT = """
import polars as pl
from boursomatic_assets.storage.postgres.recommendations_table import write_recommendations
snapshot = pl.col('features_snapshot').str.replace('"digest":"', '"digest":"{mark} ', literal=True)
rows = pl.read_parquet('{rows}').with_columns(snapshot, justification=pl.lit('{mark}'))
database = Database.open(settings)
print('ready', flush=True); sys.stdin.readline()
write_recommendations(database, rows, '{version}')
print('written', flush=True)
"""


@dataclass(frozen=True)
class Writers:
    """Processes that write the same recommendations, each under a mark of its own."""

    rows: Path
    version: str

    def start(self, mark: int) -> subprocess.Popen[str]:
        return spawn(SCRIPT.format(mark=mark, rows=self.rows, version=self.version))

    def seconds_of_a_write(self, mark: int) -> float:
        """Let a process write to its end."""
        process = self.start(mark)
        wait_until_ready(process)
        assert process.stdin is not None
        assert process.stdout is not None
        started = time.perf_counter()
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "written\n"
        seconds = time.perf_counter() - started
        process.communicate()
        return seconds


@pytest.fixture
def writers(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Writers:
    """What the platform would write of simulated instruments, kept in a file instead."""
    fill(database, SYMBOLS)
    row = record(database, tmp_path / "artifacts", train(database))
    path, written = tmp_path / "rows.parquet", []

    def keep(_database: Database, rows: pl.DataFrame, version: str) -> WrittenRows:
        rows.write_parquet(path)
        written.append(version)
        return WrittenRows(rows.height, 0, 0)

    monkeypatch.setattr(recommending, "write_recommendations", keep)
    update(database)
    assert written == [row.version]
    return Writers(path, row.version)


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


def kill_after(process: subprocess.Popen[str], seconds: float) -> None:
    """Let a process that is ready begin to write, and kill it so long after."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    time.sleep(seconds)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def test_killed_write_leaves_the_old_or_the_new_recommendations(database: Database, writers: Writers) -> None:
    # The first only inserts; the second also archives, like the killed ones.
    writers.seconds_of_a_write(100)
    whole = writers.seconds_of_a_write(101)
    assert active_mark(database) == (101, ROWS)
    moments, outcomes = random.Random(SEED), []  # noqa: S311 (moments, not secrets)
    for batch in range(KILLS // PREPARED):
        marks = [200 + batch * PREPARED + place for place in range(PREPARED)]
        processes = [writers.start(mark) for mark in marks]
        for process in processes:
            wait_until_ready(process)
        for mark, process in zip(marks, processes, strict=True):
            before = active_mark(database)
            # Now and then after the end, so that both outcomes are met.
            kill_after(process, moments.uniform(0, 1.6 * whole))
            wait_for_the_server(database)
            after = active_mark(database)
            assert after in {before, (mark, ROWS)}
            outcomes.append(after == before)
            (kept,) = database.read("SELECT count(*) AS rows FROM recommendations")["rows"]
            # Rows of the two complete writes, and of each write that ended before its kill.
            assert kept == ROWS * (2 + outcomes.count(False))
    assert len(outcomes) == KILLS
    assert any(outcomes)
    assert not all(outcomes)


def wait_for_the_server(database: Database) -> None:
    """Wait until the table's turn is free: the server has taken back, or finished, what was begun."""
    with database.bulk() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('boursomatic:recommendations'))")
        cursor.fetchall()
