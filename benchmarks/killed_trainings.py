"""Trainings killed (kill -9) at random moments: what must hold after each kill, and at every moment between."""

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
# All imports of a training: trainings are forked from a process that has imported them and started no thread.
PRELOADED = [
    "boursomatic_assets.cli", "boursomatic_assets.definitions", "polars", "pandas", "lightgbm", "sklearn.metrics",
    "boursomatic_assets.storage.dagster.instance", "boursomatic_assets.display.terminal.closing",
]  # fmt: skip
LOOKING_SECONDS = 0.02
ENDING_SECONDS = 900
MOST = 10_000
# Inherited by trainings: silences Dagster's warnings at import.
QUIET = {"PYTHONWARNINGS": "ignore"}


@dataclass
class KilledTrainings(Watched):
    """Results of killed trainings.

    `seconds` is the time of an undisturbed training, `writing_seconds` the part from the first file of its bundle
    on. `recorded` counts killed trainings whose version was recorded, `left_behind` those that left a partial
    bundle, which the next training removes. `bundles` counts whole bundles at the end. `healed` says whether the
    last training succeeded.
    """

    kills: int = 0
    seconds: float = 0.0
    writing_seconds: float = 0.0
    recorded: int = 0
    bundles: int = 0
    left_behind: int = 0
    healed: bool = False


def kill_trainings(kills: int, advance: Callable[[], object], seed: int = SEED) -> KilledTrainings:
    """Kill trainings at random moments in a temporary home; `advance` is called after each.

    Half of the moments are spread evenly over the whole training. The other half is in its end, in which a bundle
    and its row are written.
    """
    result, moments = KilledTrainings(), random.Random(seed)  # noqa: S311 (moments, not secrets)
    with new_home() as home, entered(environment_at(home, QUIET)):
        settings = Settings.from_environment()
        try:
            database = Database.open(settings)
            models = home / "artifacts" / "models"
            _materialize("instruments,price_bars", prices=_small_prices(home))
            result.seconds, result.writing_seconds = _timed(models)
            with watching(database, result, LOOKING_SECONDS):
                # A training may end before its kill: try up to twice as often.
                for number in itertools.takewhile(lambda _: result.kills < kills, range(2 * kills)):
                    part = (number // 2 + moments.random()) / ((kills + 1) // 2) % 1
                    before = len(list_versions(database, MOST))
                    was_killed = _killed_at(part, models, result, in_the_end=bool(number % 2))
                    result.recorded += len(list_versions(database, MOST)) - before
                    result.left_behind += len(_partial(models))
                    result.broken += [f"after kill {number + 1}: {what}" for what in _broken(database, models)]
                    if was_killed:
                        result.kills += 1
                        advance()
                result.healed = _ended(_begun(*RETRAIN)) == 0
            result.broken += _broken(database, models)
            result.broken += [f"{path.name} was left behind" for path in _partial(models)]
            result.bundles = len(_bundles(models))
        finally:
            stop(settings)
    if not result.healed:
        result.broken.append("the training after the killed ones failed")
    result.require_one_active()
    return result


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
    """Start `boursomatic materialize` in its own process and session."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=_command, args=(("materialize", *arguments), dict(os.environ)))
    process.start()
    return process


def _command(arguments: tuple[str, ...], environment: dict[str, str]) -> None:
    """Become the command in a new session, so that it is killed with all its children."""
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


def _killed_at(part: float, models: Path, result: KilledTrainings, *, in_the_end: bool) -> bool:
    """Kill a training after a part of it, or of its end; returns whether it had not ended before."""
    before, started = _entries(models), time.monotonic()
    process = _begun(*RETRAIN)
    if in_the_end:
        while process.is_alive() and _entries(models) == before:
            time.sleep(LOOKING_SECONDS / 20)
        # Most of the end only verifies: the moments are denser at its beginning, where files are written.
        time.sleep(part**2 * result.writing_seconds)
    else:
        time.sleep(max(started + part * result.seconds - time.monotonic(), 0))
    with suppress(ProcessLookupError):
        os.killpg(process.pid or 0, signal.SIGKILL)
    # In case the child has no session yet.
    process.kill()
    process.join(ENDING_SECONDS)
    return process.exitcode == -signal.SIGKILL


def _entries(models: Path) -> set[str]:
    return {path.name for path in models.iterdir()} if models.exists() else set()


def _partial(models: Path) -> list[Path]:
    return list(models.glob(f".*{PARTIAL}"))


def _bundles(models: Path) -> list[Path]:
    """Folders that readers find by a version's name."""
    return [path for path in sorted(models.iterdir()) if not path.name.startswith(".")]


def _broken(database: Database, models: Path) -> list[str]:
    """Broken guarantees."""
    broken, recorded = [], {row.version: row.manifest_sha256 for row in list_versions(database, MOST)}
    if len(active := active_versions(database)) != 1:
        broken.append(f"{len(active)} versions are active")
    folders = _bundles(models)
    broken += [f"{version} is recorded without a bundle" for version in set(recorded) - {p.name for p in folders}]
    for folder in folders:
        try:
            bundle = open_bundle(str(folder), recorded.get(folder.name))
        except BoursomaticError as error:
            broken.append(f"{folder.name} is not whole: {error}")
        else:
            if bundle.manifest.version != folder.name:
                broken.append(f"{folder.name} says that it is {bundle.manifest.version}")
    try:
        broken += _broken_serving(database)
    except BoursomaticError as error:
        broken.append(f"the active version cannot be served: {error}")
    return broken


def _broken_serving(database: Database) -> list[str]:
    """Predict with the active version on the newest features."""
    row = active_version(database)
    if row is None:
        return ["no version is active"]
    serving, candidates = open_serving(row), with_derived_inputs(read_candidates(database))
    rows = candidates.drop_nulls(list(serving.regressor.feature_names))
    predicted = serving.regressor.predict(rows)
    if rows.is_empty() or not pl.Series(predicted).is_finite().all():
        return [f"the active version predicts {predicted} on {rows.height} rows"]
    return []
