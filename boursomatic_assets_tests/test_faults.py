"""Commands that are killed, and commands that run at once: what must hold afterwards, whenever it happened."""

from __future__ import annotations

import json
import os
import random
import time
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg
import polars as pl
import psutil
import pytest

from boursomatic_assets.storage.server import embedded as server
from boursomatic_assets_tests.support.installation import new_installation, outcome_of

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from boursomatic_assets_tests.support.installation import Installation

pytestmark = pytest.mark.slow

MOMENTS = 2
SEED = 20_130_301
# Everything, the walk-forward in as few folds as make a later one.
WHOLE = ("materialize", "--folds", "2")
RETRAIN = ("materialize", "--select", "features+", "--to", "model_version")


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
        ended = made.run_apart(*WHOLE)
        assert ended.code == 0, ended.errors
        yield Timed(made, time.perf_counter() - started)


def kill_when(process: subprocess.Popen[str], moment: Callable[[], bool]) -> bool:
    """Kill a command at a moment, which it cannot notice; whether it was still running."""
    while process.poll() is None and not moment():
        time.sleep(0.001)
    process.kill()
    process.communicate()
    return process.returncode < 0


def entries(folder: Path) -> set[tuple[str, int]]:
    """What is in a folder, half-written files too; a file that was replaced by one of its name is another."""
    return {(entry.name, entry.inode()) for entry in os.scandir(folder)}


def require_whole_files(installation: Installation) -> None:
    """Every file under a final name can be read to its end. What bundles hold has digests."""
    root = installation.artifacts
    named = [
        root / name for name in installation.files() if not any(part.startswith(".") for part in name.split("/"))
    ]
    for path in named:
        if path.suffix == ".parquet":
            pl.read_parquet(path)
        elif path.suffix == ".json":
            json.loads(path.read_bytes())
        elif path.suffix == ".zip":
            assert zipfile.ZipFile(path).testzip() is None
        elif path.suffix == ".html":
            assert path.read_bytes().endswith(b"</body></html>\n")
    assert {path.suffix for path in named} >= {".parquet", ".json", ".zip", ".html"}
    installation.verify()


def require_recovery(installation: Installation, *command: str) -> None:
    """What must hold after a kill, and that the next run succeeds."""
    require_whole_files(installation)
    before = len(installation.versions())
    ended = installation.run(*command)
    assert ended.code == 0, ended.errors
    assert len(installation.versions()) == before + (command in {WHOLE, RETRAIN})
    require_whole_files(installation)


@pytest.mark.parametrize("part", range(MOMENTS))
def test_a_run_killed_at_any_moment_harms_nothing_and_the_next_one_succeeds(timed: Timed, part: int) -> None:
    # One random moment in each half of the run: what is made of a version, and what a version is made of. Fifty
    # moments of a training are in `boursomatic bench --faults`.
    share = (part + random.Random(SEED + part).random()) / MOMENTS  # noqa: S311 (moments, not secrets)
    process = timed.installation.start(*WHOLE)
    end = time.perf_counter() + share * timed.seconds
    kill_when(process, lambda: time.perf_counter() >= end)
    # The last also leads to everything that is made of a version.
    require_recovery(timed.installation, *(WHOLE if part == MOMENTS - 1 else RETRAIN))


def test_a_retrain_evaluates_the_checks_that_a_killed_run_did_not_come_to(timed: Timed) -> None:
    bars = dg.AssetSelection.assets("instruments", "price_bars")
    assert timed.installation.execute(bars.without_checks()).success
    require_recovery(timed.installation, *RETRAIN)


def test_a_run_killed_while_its_bundle_appears_harms_nothing(timed: Timed) -> None:
    # The folder beside, in which the bundle is written; the rename and the row come next.
    models = timed.installation.artifacts / "models"
    before = set(models.iterdir())
    process = timed.installation.start("materialize", "--select", "model_version")
    assert kill_when(process, lambda: set(models.iterdir()) != before)
    require_recovery(timed.installation, *RETRAIN)


@pytest.mark.parametrize(("asset", "place"), [("walk_forward", "assets/walk_forward"), ("report", "reports")])
def test_a_run_killed_while_a_fold_or_the_report_is_written_harms_nothing(
    timed: Timed, asset: str, place: str
) -> None:
    folder = timed.installation.artifacts / place
    command = ("materialize", "--select", asset, *(["--folds", "2"] if asset == "walk_forward" else []))
    before = entries(folder)
    process = timed.installation.start(*command)
    assert kill_when(process, lambda: entries(folder) != before)
    require_recovery(timed.installation, *command)


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
        # Two of them also train the same folds, and write the same report.
        commands = [
            WHOLE,
            WHOLE,
            ("materialize", "--to", "model_version"),
            ("materialize", "--to", "model_version"),
        ]
        outcomes = [outcome_of(process) for process in [installation.start(*command) for command in commands]]
        assert [outcome.code for outcome in outcomes] == [0] * 4, [outcome.errors for outcome in outcomes]
        versions = [row.version for row in installation.versions()]
        assert len(set(versions)) == 4
        assert installation.bundles() == set(versions)
        assert all(any(version in outcome.output for outcome in outcomes) for version in versions)
        require_whole_files(installation)
        assert installation.ask("SELECT count(*) FROM price_bars") == [(12_154,)]
        assert installation.ask("SELECT count(*) FROM features") == [(12_154,)]
