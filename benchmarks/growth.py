"""A year of an installation with the retention policy on: its size over time.

A real home is filled, trained and recommended on once. Then each day brings bars, dividends, features,
recommendations, runs and ticks; each week brings a training, and the policy is applied. The database's clock is
shifted, so that the windows pass. `shorten` divides the windows, where there is no time for a year.
"""

from __future__ import annotations

import subprocess
import time
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import sqlalchemy as sa
from rich.table import Table
from upath import UPath

from benchmarks import simulated_day
from benchmarks.homes import entered, environment_at, executable, new_home
from boursomatic_assets.core.market.bars import INSTRUMENT_SCHEMA
from boursomatic_assets.core.market.simulation import SimulatedMarket, simulate_bars
from boursomatic_assets.services.recommending.outcomes import judge_open
from boursomatic_assets.services.retention.prune import Place, prune
from boursomatic_assets.settings import Retention, Settings
from boursomatic_assets.storage.dagster.instance import open_instance
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets.storage.postgres.expired_rows import database_clock
from boursomatic_assets.storage.server.embedded import stop

if TYPE_CHECKING:
    from pathlib import Path

    from dagster import DagsterInstance
    from rich.console import Console

SEED = 15
SAMPLED_EVERY, TICKS_SIMULATED = 15, 10
WEEK, TRAININGS_A_PROMOTION = 5, 4
RUNS_A_DAY = ("daily", "daily", "recommend", "recommend")
# How much the newest quarter of a year may exceed the one before.
FLAT = 0.10
# Tables and folders, by what the policy does with them.
KEPT = {
    "bars, features": ("price_bars", "features", "feature_state", "instruments"),
    "versions, trials": ("model_versions", "model_events", "trials"),
}
PRUNED = {
    "recommendations": ("recommendations", "recommendation_outcomes"),
    "bar changes": ("bar_changes",),
    "fetch results": ("fetch_results", "fetch_rounds"),
    "runs, events": ("dagster.event_logs", "dagster.asset_check_executions", "dagster.asset_event_tags",
                     "dagster.runs", "dagster.run_tags"),
    "ticks": ("dagster.job_ticks",),
}  # fmt: skip
FOLDERS = {"trace pages": "artifacts/traces", "logs": "dagster/storage"}
_CLOCK = """
    CREATE SCHEMA simulated;
    CREATE TABLE simulated.clock (ahead interval NOT NULL);
    INSERT INTO simulated.clock VALUES ('0');
    CREATE FUNCTION simulated.timezone(text, timestamptz) RETURNS timestamp LANGUAGE sql STABLE AS
        'SELECT pg_catalog.timezone($1, $2 + (SELECT ahead FROM simulated.clock))';
    ALTER TABLE bar_changes ALTER changed_at SET DEFAULT simulated.timezone('utc', clock_timestamp());
    ALTER TABLE fetch_results ALTER fetched_at SET DEFAULT simulated.timezone('utc', now());
    ALTER TABLE fetch_rounds ALTER started_at SET DEFAULT simulated.timezone('utc', now());
"""


def run_growth(console: Console, days: int, instruments: int, history: int, shorten: int = 1) -> bool:
    """Simulate the days, print the sizes, and say whether they stay flat after the windows."""
    with new_home() as home, entered(environment_at(home, {})):
        settings = Settings.from_environment()
        try:
            runs = _fill(console, home, instruments, history)
            database = Database.open(settings)
            root = UPath(settings.artifacts_dir)
            templates = simulated_day.templates_of(database, root, home, runs)
            _shift_clock(database)
            samples = _live(console, settings, templates, days, _shortened(shorten))
        finally:
            stop(settings)
    _print(console, samples)
    return _is_flat(console, samples)


def _fill(console: Console, home: Path, instruments: int, history: int) -> dict[str, str]:
    """Bring bars in, train and recommend by the product; returns a run of each kind."""
    bars = simulate_bars(SimulatedMarket(instruments, history), SEED)
    prices, universe = home / "prices" / "prices.parquet", home / "universe.csv"
    prices.parent.mkdir()
    symbols = bars["symbol"].unique().sort()
    listed = [{**dict.fromkeys(INSTRUMENT_SCHEMA), "symbol": name, "exchange": "XNYS"} for name in symbols]
    pl.DataFrame(listed, schema=INSTRUMENT_SCHEMA).write_csv(universe)
    runs = {}
    last: Any = bars["session"].max()
    steps = {
        "training": (["--to", "model_version"], last - timedelta(days=7)),
        "daily": (["--select", "instruments,price_bars,features"], last),
        "recommend": (["--select", "recommendations,outcomes,drift"], last),
    }
    settings = Settings.from_environment()
    for kind, (selection, until) in steps.items():
        bars.filter(pl.col("session") <= until).write_parquet(prices)
        source = ["--provider", "files", "--path", str(prices)]
        ended = subprocess.run(
            [executable(), "materialize", *source, *selection], capture_output=True, text=True, check=False
        )
        if ended.returncode:
            console.print(ended.stdout + ended.stderr, markup=False)
            ended.check_returncode()
        with open_instance(settings, Database.open(settings)) as instance:
            runs[kind] = instance.get_runs(limit=1)[0].run_id
        console.print(f"Filled: {kind}")
    return runs


def _shift_clock(database: Database) -> None:
    with database.connection() as connection:
        connection.execute(sa.text(_CLOCK))
        name = connection.execute(sa.text("SELECT current_database()")).scalar_one()
        # The product's own clock is found before PostgreSQL's.
        connection.execute(sa.text(f'ALTER DATABASE "{name}" SET search_path = public, simulated, pg_catalog'))


def _live(
    console: Console, settings: Settings, templates: simulated_day.Templates, days: int, policy: Retention
) -> list[dict[str, float]]:
    database, root = Database(Database.open(settings).url), UPath(settings.artifacts_dir)
    random = np.random.default_rng(SEED)
    session: Any = database.value("SELECT max(ts)::date FROM price_bars")
    samples, started, kept, removed = [_sizes(database, settings)], time.perf_counter(), 1, 0
    for day in range(1, days + 1):
        session = simulated_day.next_session(session)
        # Five sessions a week.
        with database.connection() as connection:
            ahead = timedelta(days=day * 7 / 5)
            connection.execute(sa.text("UPDATE simulated.clock SET ahead = :ahead"), {"ahead": ahead})
        moment = database_clock(database).replace(microsecond=0)
        bars = simulated_day.trade(database, session, random)
        simulated_day.fetch(database, bars["symbol"].to_list(), session)
        simulated_day.compute(database, session)
        for kind in RUNS_A_DAY:
            run_id = simulated_day.copy_run(database, templates, kind, moment)
        simulated_day.recommend(database, root, templates, session, run_id)
        simulated_day.tick(database, moment)
        if day % WEEK == 0:
            judge_open(database)
            run_id = simulated_day.copy_run(database, templates, "training", moment)
            promoted = day % (WEEK * TRAININGS_A_PROMOTION) == 0
            kept += promoted
            simulated_day.train(database, root, templates, run_id, moment, promoted=promoted)
        if day == WEEK:
            _print_growth(console, samples[0], _sizes(database, settings))
        if day % WEEK == 0:
            with open_instance(settings, database) as instance:
                removed = _prune(database, root, instance, policy)
        if day % SAMPLED_EVERY == 0 or day == days:
            samples.append({"day": day, "active once": kept, **_sizes(database, settings)})
            spent, size = time.perf_counter() - started, _pruned(samples[-1])
            console.print(f"Day {day}: {spent:.0f} s; pruned kinds {size:,.0f} MB; removed {removed / 1e6:,.0f} MB")
    return samples


def _shortened(divisor: int) -> Retention:
    """The default policy with shorter windows."""
    policy = Retention.from_environment()
    return replace(
        policy,
        **{name: max(days // divisor, 1) for name, days in vars(policy).items() if name != "bundles"},
    )


def _prune(database: Database, root: UPath, instance: DagsterInstance, policy: Retention) -> int:
    place = Place(database, root, instance, policy, database_clock(database))
    return sum(each.bytes for each in prune(place, who="bench", remove=True, note=lambda _: None))


def _sizes(database: Database, settings: Settings) -> dict[str, float]:
    """Megabytes by kind, and those of the whole home."""
    names = {kind: tables for group in (KEPT, PRUNED) for kind, tables in group.items()}
    with database.connection() as connection:
        sizes = {
            kind: sum(
                connection.execute(sa.text("SELECT pg_total_relation_size(:name)"), {"name": name}).scalar_one()
                for name in tables
            )
            for kind, tables in names.items()
        }
    folders = {kind: _folder(settings.home / place) for kind, place in FOLDERS.items()}
    bundles = {name: _folder(settings.home / "artifacts" / name) for name in ("models", "snapshots")}
    found = {**sizes, **folders, "bundles": bundles["models"], "snapshots": bundles["snapshots"]}
    return {kind: size / 1e6 for kind, size in found.items()}


def _folder(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _print_growth(console: Console, before: dict[str, float], after: dict[str, float]) -> None:
    """Megabytes a day before anything is removed; of ticks a tenth is simulated."""
    for kind, size in after.items():
        times = TICKS_SIMULATED if kind == "ticks" else 1
        console.print(f"{kind}: {(size - before[kind]) / WEEK * times:,.2f} MB a day")


def _print(console: Console, samples: list[dict[str, float]]) -> None:
    table = Table("MB", *(f"{sample.get('day', 0):.0f}" for sample in samples), box=None)
    for kind in samples[-1]:
        if kind != "day":
            table.add_row(kind, *(f"{sample.get(kind, 1):,.0f}" for sample in samples))
    table.add_row("pruned kinds", *(f"{_pruned(sample):,.0f}" for sample in samples))
    console.print(table)


def _pruned(sample: dict[str, float]) -> float:
    return sum(sample[kind] for kind in (*PRUNED, *FOLDERS))


def _is_flat(console: Console, samples: list[dict[str, float]]) -> bool:
    quarter = max(len(samples) // 4, 1)
    newest, before = samples[-quarter:], samples[-2 * quarter : -quarter]
    now, then = (sum(map(_pruned, part)) / len(part) for part in (newest, before))
    console.print(f"Pruned kinds: {then:,.0f} MB in the third quarter, {now:,.0f} MB in the last one")
    return now <= then * (1 + FLAT)
