"""Trainings killed (kill -9) at random moments: what must hold after each kill, and at every moment between."""

from __future__ import annotations

import itertools
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.forked import QUIET, begun, ended, kill, require_success
from benchmarks.guarantees import MOST, broken_models, bundles_in
from benchmarks.homes import entered, environment_at, new_home
from benchmarks.watching import Watched, watching
from boursomatic_assets.settings import Settings
from boursomatic_assets.storage.artifacts.files import PARTIAL
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets.storage.postgres.model_table import list_versions
from boursomatic_assets.storage.server.embedded import stop

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SEED = 42
SESSIONS = 400
RETRAIN = ("materialize", "--select", "features+", "--to", "model_version")
LOOKING_SECONDS = 0.02


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
                    broken = broken_models(database, models)
                    result.broken += [f"after kill {number + 1}: {what}" for what in broken]
                    if was_killed:
                        result.kills += 1
                        advance()
                result.healed = ended(begun(*RETRAIN)) == 0
            result.broken += broken_models(database, models)
            result.broken += [f"{path.name} was left behind" for path in _partial(models)]
            result.bundles = len(bundles_in(models))
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
    process = begun("materialize", "--select", select, "--provider", "files", "--path", str(prices))
    require_success(process, f"boursomatic materialize --select {select}")


def _timed(models: Path) -> tuple[float, float]:
    """Seconds of the first training, and of its end."""
    before, started = _entries(models), time.monotonic()
    process = begun(*RETRAIN)
    writing = started
    while process.is_alive():
        if writing == started and _entries(models) != before:
            writing = time.monotonic()
        time.sleep(LOOKING_SECONDS / 4)
    require_success(process, "the first training")
    over = time.monotonic()
    return over - started, over - writing


def _killed_at(part: float, models: Path, result: KilledTrainings, *, in_the_end: bool) -> bool:
    """Kill a training after a part of it, or of its end; returns whether it had not ended before."""
    before, started = _entries(models), time.monotonic()
    process = begun(*RETRAIN)
    if in_the_end:
        while process.is_alive() and _entries(models) == before:
            time.sleep(LOOKING_SECONDS / 20)
        # Most of the end only verifies: the moments are denser at its beginning, where files are written.
        time.sleep(part**2 * result.writing_seconds)
    else:
        time.sleep(max(started + part * result.seconds - time.monotonic(), 0))
    return kill(process)


def _entries(models: Path) -> set[str]:
    return {path.name for path in models.iterdir()} if models.exists() else set()


def _partial(models: Path) -> list[Path]:
    return list(models.glob(f".*{PARTIAL}"))
