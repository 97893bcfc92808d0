"""Seconds and memory of recommendations on simulated bars, each size in its own process."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import polars as pl
from upath import UPath

from boursomatic_assets.core.dataset.experiment import Experiment
from boursomatic_assets.core.dataset.features import is_warmed_up
from boursomatic_assets.core.dataset.labels import label_panel, labelled_rows
from boursomatic_assets.core.market.bars import INSTRUMENT_SCHEMA, check_bars
from boursomatic_assets.core.market.simulation import SimulatedMarket, simulate_bars
from boursomatic_assets.core.models.training import feature_importance, fit_classifier, fit_regressor
from boursomatic_assets.core.registry.bundle import build_bundle
from boursomatic_assets.services.features import update_features
from boursomatic_assets.services.recommending.recommend import update_recommendations
from boursomatic_assets.settings import Settings
from boursomatic_assets.storage.artifacts.bundles import save_bundle
from boursomatic_assets.storage.postgres import features_table, market_tables
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets.storage.postgres.instruments_table import write_instruments
from boursomatic_assets.storage.postgres.model_table import ModelRow, record_version
from boursomatic_assets.storage.postgres.panels import Selection
from boursomatic_assets.storage.server.embedded import stop

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from benchmarks.stopwatch import Stopwatch

# Bounds by number of instruments: seconds after the start of the process, and gigabytes.
BOUNDS: dict[int, tuple[float, float | None]] = {505: (3.0, None), 10_000: (15.0, 1.5)}
# Enough for every feature and for labels to train on.
SESSIONS = 80
TRAINED_ON = 505
SEED = 42
KILOBYTE, GIGABYTE = 1024, 1e9


def stage_name(instruments: int) -> str:
    """The stage's name in the table."""
    return f"recommendations: {instruments:,} instruments"


def measure_recommendations(watch: Stopwatch, sizes: Sequence[int]) -> None:
    """Measure each number of instruments once, in its own home and process, so that memory is measured alone."""
    for instruments in sizes:
        with tempfile.TemporaryDirectory(prefix="bench-") as home:
            inherited = {
                name: own for name, own in os.environ.items() if name not in {"DATABASE_URL", "ARTIFACTS_DIR"}
            }
            environment = {**inherited, "BOURSOMATIC_HOME": home}
            try:
                _call(environment, f"prepare({instruments})")
                measured = json.loads(_call(environment, "measure()"))
            finally:
                stop(Settings.from_environment(environment))
        watch.stages[stage_name(instruments)] = (measured["seconds"], measured["rows"], measured["peak"])


def _call(environment: dict[str, str], what: str) -> str:
    command = [sys.executable, "-c", f"from benchmarks import recommending; recommending.{what}"]
    return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


def prepare(instruments: int) -> None:
    """Fill an empty home: instruments, bars, features, and a model trained on some of them."""
    settings, experiment = Settings.from_environment(), Experiment()
    database = Database.open(settings)
    bars = simulate_bars(SimulatedMarket(instruments, SESSIONS), SEED)
    symbols = bars["symbol"].unique().sort()
    listed = [{**dict.fromkeys(INSTRUMENT_SCHEMA), "symbol": symbol, "exchange": "XNYS"} for symbol in symbols]
    write_instruments(database, pl.DataFrame(listed, schema=INSTRUMENT_SCHEMA))
    newest: Any = bars["session"].max()
    market_tables.write_bars(database, check_bars(bars, newest), "bench")
    update_features(database, "bench", _say_nothing)
    selection = Selection(symbols=symbols.head(TRAINED_ON).to_list())
    features = features_table.read_features(database, selection=selection)
    labels = label_panel(
        features, market_tables.read_usable_bars(database, ["close", "exchange"], selection), experiment
    )
    _record_model(database, settings, labelled_rows(labels).filter(is_warmed_up(experiment.features)), experiment)


def _record_model(database: Database, settings: Settings, rows: pl.DataFrame, experiment: Experiment) -> None:
    models = fit_classifier(rows, experiment), fit_regressor(rows, experiment)
    trained_at = datetime.now(UTC).replace(tzinfo=None, microsecond=0)
    provenance = {"experiment": experiment.model_dump(mode="json"), "threshold": {"tau": None, "temperature": 1.2}}
    version, folder, digest = save_bundle(
        UPath(settings.artifacts_dir),
        trained_at,
        lambda version: build_bundle(*models, {}, feature_importance(*models), {"version": version, **provenance}),
    )
    row = ModelRow(version, trained_at, experiment.params_hash, {}, str(folder), digest)
    record_version(database, row, who="bench", why="measured", champion=None)


def measure() -> None:
    """Recommend on all instruments once; print seconds, rows and memory as JSON."""
    # Imports count as the start of the process, not as recommending.
    import lightgbm  # noqa: F401

    database = Database.open(Settings.from_environment())
    started = time.perf_counter()
    update = update_recommendations(database, Experiment(), {}, _say_nothing)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KILOBYTE
    sys.stdout.write(json.dumps({"seconds": seconds, "rows": update.written.added, "peak": peak}))


def print_verdicts(console: Console, watch: Stopwatch) -> None:
    """Print the seconds of each size that has a bound."""
    measured = {size: promise for size, promise in BOUNDS.items() if stage_name(size) in watch.stages}
    for instruments, (bound, memory) in measured.items():
        seconds, _, peak = watch.stages[stage_name(instruments)]
        used = f", {peak / GIGABYTE:.2f} GB" if memory else ""
        promised = f" and {memory} GB" if memory else ""
        console.print(
            f"Recommendations for {instruments:,} instruments and three profiles: {seconds:.1f} s{used}; "
            f"bound {bound:g} s{promised}"
        )


def _say_nothing(_message: str) -> None:
    """Stands in for a log."""
