"""Commands that are killed, and commands that run at once: what must hold afterwards, whenever it happened."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil
import pytest

from boursomatic_assets.storage import server
from boursomatic_assets_tests.assets.installation import new_installation, outcome_of

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

    from boursomatic_assets_tests.assets.installation import Installation

pytestmark = pytest.mark.slow

MOMENTS = 4
SEED = 20_130_301


@dataclass(frozen=True)
class Timed:
    """An installation with one good version, and the seconds that the run which made it took."""

    installation: Installation
    seconds: float


@pytest.fixture(scope="module")
def timed() -> Iterator[Timed]:
    with new_installation() as made:
        assert made.run("db", "upgrade").code == 0
        started = time.perf_counter()
        ended = made.run_apart("materialize")
        assert ended.code == 0, ended.errors
        yield Timed(made, time.perf_counter() - started)


def kill_when(process: subprocess.Popen[str], moment: Callable[[], bool]) -> bool:
    """Kill a command at a moment, which it cannot notice; whether it was still running."""
    while process.poll() is None and not moment():
        time.sleep(0.001)
    process.kill()
    process.communicate()
    return process.returncode < 0


def require_recovery(installation: Installation) -> None:
    """What must hold after a kill, and that the next run succeeds."""
    installation.verify()
    before = len(installation.versions())
    ended = installation.run("materialize")
    assert ended.code == 0, ended.errors
    assert len(installation.versions()) == before + 1
    installation.verify()


@pytest.mark.parametrize("part", range(MOMENTS))
def test_a_run_killed_at_any_moment_harms_nothing_and_the_next_one_succeeds(timed: Timed, part: int) -> None:
    # One random moment in each quarter of the run, so that start, data, training and recording are all met.
    share = (part + random.Random(SEED + part).random()) / MOMENTS  # noqa: S311 (moments, not secrets)
    process = timed.installation.start("materialize")
    end = time.perf_counter() + share * timed.seconds
    kill_when(process, lambda: time.perf_counter() >= end)
    require_recovery(timed.installation)


def test_a_run_killed_while_its_bundle_appears_harms_nothing(timed: Timed) -> None:
    # The folder beside, in which the bundle is written; the rename and the row come next.
    models = timed.installation.artifacts / "models"
    before = set(models.iterdir())
    process = timed.installation.start("materialize", "--select", "model_version")
    assert kill_when(process, lambda: set(models.iterdir()) != before)
    require_recovery(timed.installation)


def test_a_killed_run_leaves_no_server_behind_once_the_next_command_ends() -> None:
    with new_installation() as installation:
        process = installation.start("materialize", "--select", "instruments,price_bars")
        pid_file = installation.home / "postgres" / "postmaster.pid"
        bars = installation.home / "dagster" / "dagster.yaml"
        assert kill_when(process, bars.exists)
        postmaster = psutil.Process(int(pid_file.read_text().split()[0]))
        assert postmaster.is_running()
        assert installation.run_apart("models", "list").code == 0
        assert not postmaster.is_running() or postmaster.status() == psutil.STATUS_ZOMBIE
        assert not server.is_running(installation.settings)


def test_four_runs_at_once_in_an_empty_home_give_four_versions_and_one_active() -> None:
    with new_installation() as installation:
        outcomes = [outcome_of(process) for process in [installation.start("materialize") for _ in range(4)]]
        assert [outcome.code for outcome in outcomes] == [0] * 4, [outcome.errors for outcome in outcomes]
        versions = [row.version for row in installation.versions()]
        assert len(set(versions)) == 4
        assert installation.bundles() == set(versions)
        assert all(any(version in outcome.output for outcome in outcomes) for version in versions)
        installation.verify()
        assert installation.ask("SELECT count(*) FROM price_bars") == [(12_154,)]
        assert installation.ask("SELECT count(*) FROM features") == [(12_154,)]
