"""Trainings that are killed (kill -9) at random moments: what must hold after each, and at every moment between."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import runpy
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from benchmarks.homes import entered, environment_at, executable, new_home
from benchmarks.watching import Watched, watching
from boursomatic_assets.core.dataset.features import with_derived_inputs
from boursomatic_assets.errors import BoursomaticError
from boursomatic_assets.services.recommending.recommend import open_serving
from boursomatic_assets.settings import Settings
from boursomatic_assets.storage.artifacts.bundles import open_bundle
from boursomatic_assets.storage.artifacts.files import PARTIAL
from boursomatic_assets.storage.postgres.candidates import read_candidates
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets.storage.postgres.model_table import active_version, active_versions, list_versions
from boursomatic_assets.storage.server.embedded import stop

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import ForkServerProcess
    from pathlib import Path

SEED = 42
SESSIONS = 400
RETRAIN = ("--select", "features+", "--to", "model_version")
# Everything a training imports, once: each is forked from a process that has, and has started no thread.
PRELOADED = ["boursomatic_assets.cli", "boursomatic_assets.definitions", "polars", "pandas", "lightgbm"]
PRELOADED += [
    "sklearn.metrics",
    "boursomatic_assets.storage.dagster.instance",
    "boursomatic_assets.display.terminal.closing",
]
LOOKING_SECONDS = 0.02
ENDING_SECONDS = 900
MOST = 10_000
# Trainings inherit it: at each import Dagster would print what it may change one day.
QUIET = {"PYTHONWARNINGS": "ignore"}


@dataclass
class KilledTrainings(Watched):
    """What became of trainings that were killed.

    Attributes
    ----------
    kills : int
        Trainings that were killed before they had ended.
    seconds : float
        That a training takes when nobody kills it.
    writing_seconds : float
        The end of it: from the first file of its bundle on.
    recorded : int
        Killed trainings whose version had been recorded by then.
    bundles : int
        Bundles that could be opened in the end, all whole.
    left_behind : int
        Killed trainings that left half a bundle, under a name that nobody reads; the next one removes it.
    healed : bool
        Whether the training after all of them ran to its end.
    """

    kills: int = 0
    seconds: float = 0.0
    writing_seconds: float = 0.0
    recorded: int = 0
    bundles: int = 0
    left_behind: int = 0
    healed: bool = False


def kill_trainings(kills: int, advance: Callable[[], object], seed: int = SEED) -> KilledTrainings:
    """Kill trainings at random moments in a home of their own.

    Half of the moments are spread evenly over the whole training, the other half over its end, in which a bundle
    and its row are written: there is something to be broken.

    Parameters
    ----------
    kills : int
    advance : callable
        Is called after each.
    seed : int
        Of the moments.
    """
    found, moments = KilledTrainings(), random.Random(seed)  # noqa: S311 (moments, not secrets)
    with new_home() as home, entered(environment_at(home, QUIET)):
        settings = Settings.from_environment()
        try:
            database = Database.open(settings)
            models = home / "artifacts" / "models"
            _materialize("instruments,price_bars", prices=_small_prices(home))
            found.seconds, found.writing_seconds = _timed(models)
            with watching(database, found, LOOKING_SECONDS):
                # Now and then a training is quicker than the first one was, and has ended.
                for number in itertools.takewhile(lambda _: found.kills < kills, range(2 * kills)):
                    part = (number // 2 + moments.random()) / ((kills + 1) // 2) % 1
                    before = len(list_versions(database, MOST))
                    was_killed = _killed_at(part, models, found, in_the_end=bool(number % 2))
                    found.recorded += len(list_versions(database, MOST)) - before
                    found.left_behind += len(_partial(models))
                    found.broken += [f"after kill {number + 1}: {what}" for what in _broken(database, models)]
                    if was_killed:
                        found.kills += 1
                        advance()
                found.healed = _ended(_begun(*RETRAIN)) == 0
            found.broken += _broken(database, models)
            found.broken += [f"{path.name} was left behind" for path in _partial(models)]
            found.bundles = len(_bundles(models))
        finally:
            stop(settings)
    if not found.healed:
        found.broken.append("the training after all that were killed has failed")
    found.require_one_active()
    return found


def _small_prices(home: Path) -> Path:
    from benchmarks.bar_events import sample_prices

    path = home / "prices.parquet"
    sample_prices(SESSIONS).write_parquet(path)
    return path


def _materialize(select: str, prices: Path) -> None:
    process = _begun("--select", select, "--provider", "files", "--path", str(prices))
    _require_success(process, f"boursomatic materialize --select {select}")


def _require_success(process: ForkServerProcess, what: str) -> None:
    if _ended(process) != 0:
        message = f"{what} ended with {process.exitcode}"
        raise ChildProcessError(message)


def _begun(*arguments: str) -> ForkServerProcess:
    """Start `boursomatic materialize` in a process, and a session, of its own."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=_command, args=(("materialize", *arguments), dict(os.environ)))
    process.start()
    return process


def _command(arguments: tuple[str, ...], environment: dict[str, str]) -> None:
    """Be the command: what it starts itself is in the same session, so that all of it can be killed at once."""
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):
        os.dup2(nowhere, stream)
    sys.argv = ["boursomatic", *arguments]
    runpy.run_path(executable(), run_name="__main__")


def _ended(process: ForkServerProcess) -> int | None:
    process.join(ENDING_SECONDS)
    return process.exitcode


def _timed(models: Path) -> tuple[float, float]:
    """Seconds of the first training, and of its end."""
    before, started = _entries(models), time.monotonic()
    process = _begun(*RETRAIN)
    writing = started
    while process.is_alive():
        if writing == started and _entries(models) != before:
            writing = time.monotonic()
        time.sleep(LOOKING_SECONDS / 4)
    _require_success(process, "the first training")
    ended = time.monotonic()
    return ended - started, ended - writing


def _killed_at(part: float, models: Path, found: KilledTrainings, *, in_the_end: bool) -> bool:
    """Kill a training after a part of it, or of its end; whether it had not ended by itself."""
    before, started = _entries(models), time.monotonic()
    process = _begun(*RETRAIN)
    if in_the_end:
        while process.is_alive() and _entries(models) == before:
            time.sleep(LOOKING_SECONDS / 20)
        # Most of the end are looks at what has been written: the moments crowd at its beginning.
        time.sleep(part**2 * found.writing_seconds)
    else:
        time.sleep(max(started + part * found.seconds - time.monotonic(), 0))
    with suppress(ProcessLookupError):
        os.killpg(process.pid or 0, signal.SIGKILL)
    # One that has not yet a session of its own.
    process.kill()
    process.join(ENDING_SECONDS)
    return process.exitcode == -signal.SIGKILL


def _entries(models: Path) -> set[str]:
    return {path.name for path in models.iterdir()} if models.exists() else set()


def _partial(models: Path) -> list[Path]:
    return list(models.glob(f".*{PARTIAL}"))


def _bundles(models: Path) -> list[Path]:
    """Folders that a reader can find by a version's name."""
    return [path for path in sorted(models.iterdir()) if not path.name.startswith(".")]


def _broken(database: Database, models: Path) -> list[str]:
    """What must hold at any time, and does not."""
    broken, recorded = [], {row.version: row.manifest_sha256 for row in list_versions(database, MOST)}
    if len(active := active_versions(database)) != 1:
        broken.append(f"{len(active)} versions are active")
    folders = _bundles(models)
    broken += [f"{version} is recorded without a bundle" for version in set(recorded) - {p.name for p in folders}]
    for folder in folders:
        try:
            bundle = open_bundle(str(folder), recorded.get(folder.name))
        except BoursomaticError as error:
            broken.append(f"{folder.name} can be opened, and is not whole: {error}")
        else:
            if bundle.manifest["version"] != folder.name:
                broken.append(f"{folder.name} says that it is {bundle.manifest['version']}")
    try:
        broken += _broken_serving(database)
    except BoursomaticError as error:
        broken.append(f"the active version cannot be served: {error}")
    return broken


def _broken_serving(database: Database) -> list[str]:
    """Let the active version predict on the newest features."""
    row = active_version(database)
    if row is None:
        return ["no version is active"]
    serving, candidates = open_serving(row), with_derived_inputs(read_candidates(database))
    rows = candidates.drop_nulls(list(serving.regressor.feature_names))
    predicted = serving.regressor.predict(rows)
    if rows.is_empty() or not pl.Series(predicted).is_finite().all():
        return [f"the active version predicts {predicted} on {rows.height} rows"]
    return []
