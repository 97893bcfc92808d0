"""Processes killed while they write recommendations: the old set is active, or the new one, never a mixture."""

from __future__ import annotations

import os
import random
import signal
import time
from typing import TYPE_CHECKING

import pytest

from boursomatic_assets_tests.storage.processes import spawn, wait_until_ready
from boursomatic_assets_tests.updates.recommendable import fill, record, train

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from boursomatic_assets.storage.database import Database

pytestmark = pytest.mark.slow

KILLS, SYMBOLS, SEED = 50, 120, 20_180_420
ROWS = 3 * SYMBOLS
# Started together, and all waiting before the first of them writes: beside a start a write takes longer.
PREPARED = 5
# Everything up to the write, then a word; the profile's volatility tells whose rows they are.
SCRIPT = """
from boursomatic_assets.core.experiment import Experiment, Profile, Profiles
from boursomatic_assets.updates import recommending
write = recommending.write_recommendations
def wait_and_write(*arguments):
    print('ready', flush=True); sys.stdin.readline()
    written = write(*arguments)
    print('written', flush=True)
    return written
recommending.write_recommendations = wait_and_write
own = Profile(max_volatility={mark})
experiment = Experiment(profiles=Profiles(conservative=own, moderate=own, aggressive=own))
recommending.update_recommendations(Database.open(settings), experiment, {{}}, lambda message: None)
"""


def active_mark(database: Database) -> tuple[float, int]:
    """Whose rows are active, all of one writer, and how many they are."""
    found = database.read(
        "SELECT (features_snapshot -> 'profile' ->> 'max_volatility')::double precision AS mark, count(*) AS rows "
        "FROM recommendations WHERE is_active GROUP BY 1"
    )
    assert found.height == 1
    return found.row(0)  # type: ignore[return-value]


def start(mark: float) -> subprocess.Popen[str]:
    return spawn(SCRIPT.format(mark=mark))


def seconds_of_a_write(mark: float) -> float:
    """Let a process write to its end."""
    process = start(mark)
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


def kill_after(process: subprocess.Popen[str], seconds: float) -> None:
    """Let a process that is ready begin to write, and kill it so long after."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    time.sleep(seconds)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def test_killed_at_fifty_random_moments_of_the_write_the_old_set_is_active_or_the_new_one(
    database: Database, tmp_path: Path
) -> None:
    fill(database, SYMBOLS)
    record(database, tmp_path / "artifacts", train(database))
    # The first only inserts; the second archives what is there, as those do that will be killed.
    seconds_of_a_write(1.0)
    whole = seconds_of_a_write(1.5)
    assert active_mark(database) == (1.5, ROWS)
    moments, outcomes = random.Random(SEED), []  # noqa: S311 (moments, not secrets)
    for batch in range(KILLS // PREPARED):
        marks = [2 + batch + place / 10 for place in range(PREPARED)]
        processes = [start(mark) for mark in marks]
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
            # Nothing is removed: the two that wrote to their end, and each that was too late to be stopped.
            assert kept == ROWS * (2 + outcomes.count(False))
    assert len(outcomes) == KILLS
    assert any(outcomes)
    assert not all(outcomes)


def wait_for_the_server(database: Database) -> None:
    """Wait until the table's turn is free: the server has taken back, or finished, what was begun."""
    with database.bulk() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('boursomatic:recommendations'))")
        cursor.fetchall()
