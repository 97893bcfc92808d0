"""Seconds, rows and memory of each stage, beside LightGBM alone in the same run."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
from rich.table import Table

from benchmarks import recommending
from benchmarks.stopwatch import Stopwatch
from boursomatic_assets.core.dataset.experiment import Experiment
from boursomatic_assets.core.dataset.features import compute_features
from boursomatic_assets.core.dataset.labels import label_panel
from boursomatic_assets.core.dataset.splits import judged_sets, split_panel
from boursomatic_assets.core.evaluation.book_figures import Trials
from boursomatic_assets.core.evaluation.judging import evaluate_judged
from boursomatic_assets.core.evaluation.metrics import measure
from boursomatic_assets.core.evaluation.survivors import find_survivors, panel_spans
from boursomatic_assets.core.market.bars import check_bars
from boursomatic_assets.core.market.calendars import CALENDARS, sessions_ahead
from boursomatic_assets.core.market.sessions import on_sessions
from boursomatic_assets.core.models.baselines import baseline_columns, fit_volatility_classifier
from boursomatic_assets.core.models.folds import fold_sets, plan_folds
from boursomatic_assets.core.models.predictions import SET_TYPE, classify_rows, predict_sets
from boursomatic_assets.core.models.threshold import judged_rows, threshold_of
from boursomatic_assets.core.models.training import fit_classifier, fit_regressor, model_matrix
from boursomatic_assets.core.models.walk_forward import run_fold
from boursomatic_assets.core.portfolio.book import positions, trades, tranche_book
from boursomatic_assets.core.portfolio.books import judged_books
from boursomatic_assets.providers.registry import provider_for
from boursomatic_assets.services.features import update_features
from boursomatic_assets.services.ingest.bars import store_all, tally_source
from boursomatic_assets.settings import Settings, wait_briefly
from boursomatic_assets.storage.postgres import features_table, market_tables
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets.storage.postgres.instruments_table import write_instruments
from boursomatic_assets.storage.postgres.panels import Selection
from boursomatic_assets.storage.postgres.tables import BAR_COLUMNS
from boursomatic_assets.storage.server.embedded import stop

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from boursomatic_assets.core.dataset.splits import Split

MEGABYTE = 1e6
RETRAINED_ASSETS = 12
FLOOR = "floor: LightGBM alone, both models"
EVALUATION = "evaluation: every figure, 2,000 draws"
BOOKS = "portfolio: every book, positions and trades"
FLOOR_OF_FOLDS = "floor of the folds: LightGBM alone, both models"
FOLDS = "walk-forward: all folds"


def run_benchmark(console: Console, provider: str, path: str | None, sizes: Sequence[int]) -> None:
    """Measure every stage once on one price source, in a temporary home, and print the table.

    `sizes` are numbers of simulated instruments to recommend on.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as home:
        environment = {
            "BOURSOMATIC_HOME": home,
            "BOURSOMATIC_PROVIDER": provider,
            **({"BOURSOMATIC_PROVIDER_PATH": str(Path(path).absolute())} if path else {}),
        }
        settings = Settings.from_environment(environment)
        watch = Stopwatch()
        try:
            wait_briefly()
            with console.status("measuring stages"):
                rows = _measure_core(watch, settings)
            with console.status("measuring whole processes"):
                _measure_processes(watch, rows, environment)
            with console.status("measuring recommendations"):
                recommending.measure_recommendations(watch, sizes)
        finally:
            stop(settings)
    console.print(_table(watch, provider_for(settings).description))
    _print_verdicts(console, watch)


def _measure_core(watch: Stopwatch, settings: Settings) -> int:
    experiment, source, today = Experiment(), provider_for(settings), datetime.now(UTC).date()
    with watch.stage("read and check the source", 0):
        rows = tally_source(source, settings, today).accepted
    database = Database.open(settings)
    write_instruments(database, source.instruments())
    with watch.stage("first ingest: bars to database", rows):
        store_all(database, source, settings, today, _say_nothing)
    with watch.stage("first ingest: features", rows):
        update_features(database, "bench", _say_nothing)
    with watch.stage("same bars again: bars and features", rows):
        store_all(database, source, settings, today, _say_nothing)
        update_features(database, "bench", _say_nothing)
    _measure_one_session(watch, database)
    bars = market_tables.read_usable_bars(database, [*BAR_COLUMNS, "exchange"])
    with watch.stage("features and labels from loaded bars", bars.height):
        features = compute_features(bars)
        label_panel(features, bars, experiment)
    with watch.stage("database to model inputs", rows):
        split, labels, closes = _model_inputs(database, experiment)
    with watch.stage(FLOOR, split.train.height):
        models = (fit_classifier(split.train, experiment), fit_regressor(split.train, experiment))
    with watch.stage("predict, choose the threshold, measure", labels.height):
        sets = judged_sets({"validation": split.validation, "test": split.test}, labels, experiment)
        predictions = predict_sets(sets, *models)
        tau = threshold_of(predictions, experiment).tau
        measure(predictions, tau, classify_rows(split.train, models[0]), closes, experiment)
    _measure_evaluation(watch, sets["test"], split.train, closes, predictions, experiment)
    _measure_folds(watch, labels, experiment)
    return rows


def _measure_evaluation(  # noqa: PLR0913, PLR0917 (what an evaluation is made of)
    watch: Stopwatch,
    test_rows: pl.DataFrame,
    train_set: pl.DataFrame,
    closes: pl.DataFrame,
    predictions: pl.DataFrame,
    experiment: Experiment,
) -> None:
    """The test set's figures with their baselines, and the largest possible book."""
    with watch.stage("baselines: volatility-only classifier, momentum", train_set.height):
        volatility = fit_volatility_classifier(train_set, experiment)
        beside = baseline_columns(test_rows, train_set, volatility, closes)
    baselines = beside.with_columns(set=pl.lit("test", SET_TYPE))
    judged = judged_rows(predictions, baselines, threshold_of(predictions, experiment).tau)
    with watch.stage(EVALUATION, judged.height):
        books = judged_books(judged, closes, experiment.horizon, experiment.cost_bps)
        evaluate_judged(judged, books, experiment, "test set", Trials(), find_survivors(panel_spans(closes)))
    everything = on_sessions(closes).select("symbol", "session")
    with watch.stage(BOOKS, everything.height):
        book = tranche_book(everything, closes, experiment.horizon, experiment.cost_bps)
        positions(book)
        trades(book)


def _measure_folds(watch: Stopwatch, labels: pl.DataFrame, experiment: Experiment) -> None:
    plan = plan_folds(labels, experiment)
    trained = [fold_sets(labels, fold, experiment)[0] for fold in plan]
    rows = sum(train.height for train in trained)
    with watch.stage(FLOOR_OF_FOLDS, rows):
        for train in trained:
            fit_classifier(train, experiment)
            fit_regressor(train, experiment)
    with watch.stage(FOLDS, rows):
        for fold in plan:
            run_fold(labels, fold, experiment)


def _say_nothing(_message: str) -> None:
    """Stands in for a log."""


def _measure_one_session(watch: Stopwatch, database: Database) -> None:
    """One more session for every symbol: from the source's frame to the stored features."""
    bars = market_tables.read_bars(database)
    newest = bars.group_by("symbol", maintain_order=True).last()
    session = sessions_ahead(newest.select(pl.col("session").max())["session"], CALENDARS[0], 1).item()
    delivered = newest.with_columns(pl.lit(session).alias("session"))
    with watch.stage("one new session: bars and features", delivered.height):
        checked = check_bars(delivered, session)
        with database.bulk() as cursor:
            market_tables.upsert_bars(cursor, checked, "bench")
        update_features(database, "bench", _say_nothing)


def _model_inputs(database: Database, experiment: Experiment) -> tuple[Split, pl.DataFrame, pl.DataFrame]:
    selection = Selection(lookback_days=experiment.lookback_days)
    features = features_table.read_features(database, selection=selection)
    closes = market_tables.read_usable_bars(database, ["close", "exchange"], selection)
    labels = label_panel(features, closes, experiment)
    split = split_panel(labels, experiment)
    for panel in split.sets().values():
        model_matrix(panel, experiment.features)
    return split, labels, closes


def _measure_processes(watch: Stopwatch, rows: int, environment: dict[str, str]) -> None:
    with watch.stage("boursomatic materialize, whole process", rows):
        _run(environment, "materialize")
    with watch.stage("retrain, whole process", rows):
        _run(environment, "materialize", "--select", "features+", "--to", "model_version")


def _run(environment: dict[str, str], *arguments: str) -> None:
    inherited = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "ARTIFACTS_DIR"}}
    command = [sys.executable, "-c", "from boursomatic_assets.cli import main; main()", *arguments]
    subprocess.run(command, env={**inherited, **environment}, check=True, stdout=subprocess.DEVNULL)


def _table(watch: Stopwatch, source: str) -> Table:
    table = Table("Stage", title=f"{source}; {os.cpu_count()} cores", title_justify="left")
    for heading in ("Seconds", "Rows a second", "Peak MB"):
        table.add_column(heading, justify="right")
    for name, (seconds, rows, peak) in watch.stages.items():
        speed = f"{rows / seconds:,.0f}" if rows else ""
        table.add_row(name, f"{seconds:.2f}", speed, f"{peak / MEGABYTE:,.0f}")
    return table


def _print_verdicts(console: Console, watch: Stopwatch) -> None:
    floor = watch.seconds(FLOOR)
    retrain = watch.seconds("retrain, whole process")
    work = watch.seconds(
        "features and labels from loaded bars",
        "same bars again: bars and features",
        "database to model inputs",
        FLOOR,
        "predict, choose the threshold, measure",
    )
    console.print(
        f"Retrain over floor: {retrain:.1f} s / {floor:.1f} s = {retrain / floor:.1f}; bound 2.0 x floor + 10 s"
    )
    console.print(
        f"Dagster, checks, pictures and process start: {retrain - work:.1f} s, "
        f"{(retrain - work) / RETRAINED_ASSETS:.2f} s an asset"
    )
    floor, folds = watch.seconds(FLOOR_OF_FOLDS), watch.seconds(FOLDS)
    console.print(f"Folds over their floor: {folds:.1f} s / {floor:.1f} s = {folds / floor:.2f}; bound 1.3")
    console.print(f"Evaluation: {watch.seconds(EVALUATION):.1f} s; bound 20 s")
    console.print(f"Portfolio of every instrument in every session: {watch.seconds(BOOKS):.1f} s; bound 2 s")
    recommending.print_verdicts(console, watch)
