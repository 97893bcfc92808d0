"""Bar events while the daemon is killed repeatedly: each event is handled once."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import dagster as dg
import polars as pl

from benchmarks.product import START_SECONDS, wait_until
from benchmarks.watching import Watched, watching
from boursomatic_assets.automation.observing import newest
from boursomatic_assets.automation.sensors import BARS_UNTIL_TAG, SENSORS
from boursomatic_assets.core.dataset.experiment import Experiment
from boursomatic_assets.definitions import defs
from boursomatic_assets.providers.sample import SampleProvider
from boursomatic_assets.settings import Settings
from boursomatic_assets.storage.artifacts.bundles import open_bundle
from boursomatic_assets.storage.dagster.instance import open_instance
from boursomatic_assets.storage.dagster.run_tags import TRAINED_ON_TAG
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets.storage.postgres.model_table import active_version, active_versions, list_versions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import date
    from pathlib import Path

    from benchmarks.product import Product, RunRecord

SEED = 42
# Sessions before the first event.
BASE = 400
# One in five events brings nothing new, but not the last one: after it the checks of the features have not seen the
# newest, equal bars, and a training would wait.
NOTHING_EVERY, NOTHING_AT = 5, 2
MOST_SECONDS_BETWEEN, MOST_SECONDS_UP = 3.0, 20.0
# Pauses between bursts of events: no training starts while features are behind the bars.
BURST, PAUSE_SECONDS = 20, 90.0
QUIET_SECONDS = 3600
LOOKING_SECONDS = 0.1
PARENT_RUN_TAG = "dagster/parent_run_id"
_SELECTED = [dg.AssetKey("instruments"), dg.AssetKey("price_bars")]


def sample_prices(sessions: int, left_out: int = 0) -> pl.DataFrame:
    """The newest sessions of the bundled sample, except the `left_out` last ones."""
    bars = SampleProvider().bars()
    kept = bars["session"].unique().sort()
    end = kept.len() - left_out
    return bars.filter(pl.col("session").is_in(kept[max(end - sessions, 0) : end].implode()))


@dataclass
class BarStorm(Watched):
    """Results of bar events while the daemon is killed.

    `with_news` counts events that brought a session. `seconds_to_return` is the time from each kill to an answer of
    the UI and a new daemon. `runs` counts the runs that sensors started, by job; `retried` are second attempts.
    `uncovered` events with news led to no features. `duplicate_trainings` had the same data and experiment as
    another. `trainings_at_once` began before another had ended.
    """

    events: int = 0
    with_news: int = 0
    restarts: int = 0
    seconds_to_return: list[float] = field(default_factory=list)
    seconds: float = 0.0
    runs: dict[str, int] = field(default_factory=dict)
    retried: int = 0
    uncovered: int = 0
    duplicate_trainings: int = 0
    trainings_at_once: int = 0
    stuck_sensors: list[str] = field(default_factory=list)
    unfinished_runs: int = 0


class BarSource:
    """Brings bars into a running product, session by session, as a command does.

    The product's environment must be that of this process. `left` sessions can still be brought.
    """

    def __init__(
        self, product: Product, instance: dg.DagsterInstance, path: Path, left: int, sessions: int
    ) -> None:
        self.product, self.instance, self.path, self.left = product, instance, path, left
        self.sessions = sessions

    def bring(self, sessions: int = 0) -> int:
        """Materialize `price_bars` with this number of new sessions; returns the event's number."""
        self.left, self.sessions = self.left - sessions, self.sessions + sessions
        sample_prices(self.sessions, self.left).write_parquet(self.path)
        result = defs.resolve_implicit_global_asset_job_def().execute_in_process(
            run_config={
                "resources": {
                    "platform": {"config": {"provider": "files", "provider_path": str(self.path)}},
                },
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            },
            instance=self.instance,
            asset_selection=_SELECTED,
        )
        filters = dg.AssetRecordsFilter(asset_key=dg.AssetKey("price_bars"))
        records = self.instance.fetch_materializations(filters, limit=5).records
        return next(record.storage_id for record in records if record.run_id == result.run_id)


@contextmanager
def bar_source(product: Product, sessions: int, brought: int = 0) -> Iterator[BarSource]:
    """A source of `sessions` new sessions for a product, in its environment; `brought` came before."""
    with product.entered():
        settings = Settings.from_environment()
        with open_instance(settings, Database.open(settings)) as instance:
            folder = product.home / "prices"
            folder.mkdir(exist_ok=True)
            yield BarSource(product, instance, folder / "prices.parquet", sessions, BASE + brought)


def storm_of_bars(  # noqa: PLR0913 (where, how much, and what is told of it)
    product: Product,
    source: BarSource,
    events: int,
    restarts: int,
    advance: Callable[[], object],
    *,
    seed: int = SEED,
) -> BarStorm:
    """Bring bars while the daemon is killed at random moments, and check the results.

    The product has an active model and is idle. `advance` is called after each event and each restart.
    """
    result, database = BarStorm(), Database.open(Settings.from_environment())
    numbers, began = [], time.monotonic()
    with watching(database, result, LOOKING_SECONDS), _killing(product, restarts, result, advance, seed):
        moments = random.Random(seed)  # noqa: S311 (moments, not secrets)
        for event in range(events):
            has_news = event % NOTHING_EVERY != NOTHING_AT
            number = source.bring(1 if has_news else 0)
            numbers += [number] if has_news else []
            advance()
            is_burst_over = event + 1 < events and (event + 1) % BURST == 0
            time.sleep(PAUSE_SECONDS if is_burst_over else moments.uniform(0, MOST_SECONDS_BETWEEN))
    result.events, result.with_news = events, len(numbers)
    last_restart = time.time()
    try:
        wait_until_quiet(product, last_restart)
    except TimeoutError as error:
        result.broken.append(f"{error}: {[(run.job, run.status) for run in product.runs() if run.is_in_flight]}")
    result.seconds = time.monotonic() - began
    _judge(product, source, database, numbers, result, last_restart)
    return result


@contextmanager
def _killing(
    product: Product, restarts: int, result: BarStorm, advance: Callable[[], object], seed: int
) -> Iterator[None]:
    """Kill the daemon at random moments and wait for its return; at the end wait for the last one."""
    moments, problems = random.Random(seed + 1), []  # noqa: S311 (moments, not secrets)

    def kill() -> None:
        try:
            for _ in range(restarts):
                time.sleep(moments.uniform(0, MOST_SECONDS_UP))
                killed, began = product.kill_daemon(), time.monotonic()
                wait_until(lambda killed=killed: _has_returned(product, killed), START_SECONDS, "new daemon")  # type: ignore[misc]
                result.seconds_to_return.append(time.monotonic() - began)
                result.restarts += 1
                advance()
        except Exception as error:  # noqa: BLE001 (told where it is waited for)
            problems.append(error)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    yield
    thread.join()
    if problems:
        raise problems[0]


def _has_returned(product: Product, killed: int) -> bool:
    daemon = product.daemon()
    return daemon is not None and daemon.pid != killed and product.answers()


def wait_until_quiet(product: Product, since: float) -> None:
    """Wait until no run is in flight and every sensor has ticked since and started nothing.

    Ticks before `since`, or before the end of any run, do not count. Raises TimeoutError.
    """

    def is_quiet() -> bool:
        time.sleep(1)
        runs = product.runs()
        last = max([since, *(run.ended or since for run in runs)])
        return not any(run.is_in_flight for run in runs) and _have_all_looked(product, last)

    wait_until(is_quiet, QUIET_SECONDS, "quiet")


def _have_all_looked(product: Product, since: float) -> bool:
    sensors = product.sensors()
    newest_ticks = [sensors[sensor.name]["sensorState"]["ticks"][:1] for sensor in SENSORS]
    return all([tick["status"] for tick in own if tick["timestamp"] > since] == ["SKIPPED"] for own in newest_ticks)


def _judge(  # noqa: PLR0913, PLR0917 (what was done, and where to look)
    product: Product,
    source: BarSource,
    database: Database,
    numbers: Sequence[int],
    result: BarStorm,
    last_restart: float,
) -> None:
    """Compare recorded facts with the guarantees."""
    runs = product.runs()
    started = [run for run in runs if "dagster/sensor_name" in run.tags]
    result.runs = dict(Counter(run.job for run in started))
    result.retried = sum(PARENT_RUN_TAG in run.tags for run in runs)
    result.unfinished_runs = sum(run.is_in_flight for run in runs)
    _judge_features(source, database, numbers, started, result)
    _judge_trainings(started, result)
    _judge_models(source, database, result)
    for name, sensor in product.sensors().items():
        ticks = [tick for tick in sensor["sensorState"]["ticks"] if tick["timestamp"] > last_restart]
        ended = [tick for tick in ticks if tick["status"] in {"SKIPPED", "SUCCESS"}]
        if not ended or any(tick["error"] for tick in ticks):
            result.stuck_sensors.append(name)
    figures = {
        "events without features": result.uncovered,
        "second trainings for the same data and experiment": result.duplicate_trainings,
        "trainings at once": result.trainings_at_once,
        "runs without an end": result.unfinished_runs,
    }
    result.broken += [f"{what}: {count}" for what, count in figures.items() if count]
    result.broken += [f"sensor {name} is stuck" for name in result.stuck_sensors]
    result.require_one_active()


def _judge_features(
    source: BarSource, database: Database, numbers: Sequence[int], started: Sequence[RunRecord], result: BarStorm
) -> None:
    done = [run for run in started if run.status == "SUCCESS" and BARS_UNTIL_TAG in run.tags]
    covered = max((int(run.tags[BARS_UNTIL_TAG]) for run in done), default=0)
    features, bars = newest(source.instance, "features"), newest(source.instance, "price_bars")
    if features is None or bars is None or features.version_of("price_bars") != bars.data_version:
        # Features of the newest bars cover every event: a run may read bars that came after its request.
        result.uncovered = sum(number > covered for number in numbers)
        result.broken.append("the newest features were not computed from the newest bars")
    (counted,) = database.read(
        "SELECT (SELECT count(*) FROM price_bars) = (SELECT count(*) FROM features) AS same"
    )["same"]
    if not counted:
        result.broken.append("there are not as many rows of features as bars")


def _judge_trainings(started: Sequence[RunRecord], result: BarStorm) -> None:
    trainings = [run for run in started if TRAINED_ON_TAG in run.tags]
    # A second attempt after a dead process is the same training.
    first = Counter(run.tags[TRAINED_ON_TAG] for run in trainings if PARENT_RUN_TAG not in run.tags)
    result.duplicate_trainings = sum(count - 1 for count in first.values())
    spans = sorted((run.started, run.ended) for run in trainings if run.started and run.ended)
    result.trainings_at_once = sum(later[0] < earlier[1] for earlier, later in itertools.pairwise(spans))


def _judge_models(source: BarSource, database: Database, result: BarStorm) -> None:
    active, made = active_version(database), newest(source.instance, "recommendations")
    features = newest(source.instance, "features")
    if active is None or len(active_versions(database)) != 1:
        result.broken.append(f"active versions: {active_versions(database)}")
        return
    if made is None or features is None:
        result.broken.append("there are no recommendations")
        return
    if (made.values.get("version"), made.version_of("features")) != (active.version, features.data_version):
        result.broken.append("the recommendations are not of the active version and the newest features")
    enough = Settings.from_environment().retrain_after
    matured = _matured(sample_prices(source.sessions, source.left)["session"].unique().sort().to_list(), database)
    if matured >= enough:
        result.broken.append(f"{matured} sessions have matured since the last training; {enough} were enough")


def _matured(sessions: Sequence[date], database: Database) -> int:
    """Sessions with a label since the last training, counted independently of the sensor."""
    row = list_versions(database, 1)[0]
    known = str(open_bundle(row.model_path, row.manifest_sha256).manifest.training_data["test_set"].last_session)
    labelled = sessions[: len(sessions) - Experiment().horizon]
    return sum(str(session) > known for session in labelled)
