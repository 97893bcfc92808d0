"""The experiment trained again and again through time: a partition per fold, and the record of skill over all."""

import time
from typing import Any

import dagster as dg
import polars as pl

from boursomatic_assets.assets import OWNERS, code_version
from boursomatic_assets.assets.evaluation import price_check
from boursomatic_assets.core.market.fingerprints import fingerprint
from boursomatic_assets.core.models.folds import Fold, folds_overlap, plan_folds
from boursomatic_assets.core.models.walk_forward import fold_table, join_folds, run_fold, sequential_calls
from boursomatic_assets.core.registry.bundle import sha256, strict_json
from boursomatic_assets.display.ui.metadata import data_version
from boursomatic_assets.display.ui.walk_forward import fold_metadata, summary_metadata
from boursomatic_assets.services.judging import evaluate_walk_forward
from boursomatic_assets.storage.artifacts.folds import StoredFolds, fold_key, fold_number, save_fold
from boursomatic_assets.storage.dagster.instance import FOLD_PARTITIONS
from boursomatic_assets.storage.dagster.resources import ExperimentResource, PlatformResource

# A fold that is trained differently, or judged from other columns, is another fold.
CODE = code_version(__name__, "walk_forward")


@dg.asset(
    group_name="walk_forward",
    kinds={"lightgbm", "parquet"},
    owners=OWNERS,
    code_version=CODE,
    io_manager_key="folds",
    ins={"price_bars": dg.AssetIn(metadata={"recent": True, "columns": ["close"]})},
    partitions_def=dg.DynamicPartitionsDefinition(name=FOLD_PARTITIONS),
    # One run a fold: each shows, fails, reruns and runs beside others on its own.
    backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=1),
    # It takes longest: in a run of the whole graph what does not wait for it comes before it.
    op_tags={"dagster/priority": "-1"},
)
def walk_forward(
    context: dg.AssetExecutionContext,
    labels: pl.DataFrame,
    price_bars: pl.DataFrame,
    experiment: ExperimentResource,
    platform: PlatformResource,
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Predictions of one span of sessions (a fold) by models that were trained on what was known before it.

    Each partition is a fold; none predicts what another does. What the volatility-only classifier, momentum and the
    averages of the training rows say of the same rows stands beside. Once all folds are there, materialize
    `walk_forward_summary`.
    """
    settings, version, threads = experiment.value(), fingerprint(labels), platform.settings().threads
    for fold in _chosen(plan_folds(labels, settings), context.partition_keys):
        place = f"fold {fold.number} of {settings.walk_forward.folds}"
        context.log.info("%s: %s to %s", place, fold.test_first, fold.test_last)
        started = time.perf_counter()
        result = run_fold(labels, fold, settings, threads, price_bars)
        seconds = time.perf_counter() - started
        path, size = save_fold(platform.artifacts(), result, settings, version)
        stored = {"path": dg.MetadataValue.path(str(path)), "bytes": size, "seconds": round(seconds, 3)}
        metadata = {**fold_metadata(result, settings), **stored}
        context.add_asset_metadata(metadata, partition_key=fold_key(fold.number))
    made_from = sha256(
        strict_json({"labels": version, "experiment": settings.part_for("walk_forward"), "code": CODE})
    )
    return dg.MaterializeResult(data_version=dg.DataVersion(made_from))


def _chosen(plan: tuple[Fold, ...], keys: list[str]) -> list[Fold]:
    """Folds of some partitions, in time order."""
    return [plan[number - 1] for number in sorted(fold_number(key, len(plan)) for key in keys)]


@dg.asset(
    group_name="walk_forward",
    kinds={"json"},
    owners=OWNERS,
    code_version=code_version(__name__, "walk_forward_summary"),
    io_manager_key="figures",
    ins={"price_bars": dg.AssetIn(metadata={"recent": True, "columns": ["close", "exchange"]})},
)
def walk_forward_summary(
    walk_forward: StoredFolds,
    labels: pl.DataFrame,
    price_bars: pl.DataFrame,
    experiment: ExperimentResource,
    platform: PlatformResource,
) -> dg.Output[dict[str, Any]]:
    """The record of skill: every figure over the predictions of all folds, with interval, baseline and p-value.

    A fold's calls are made by a threshold that was chosen on what earlier folds had predicted.
    """
    walk_forward.require_labels(labels)
    settings = experiment.value()
    called, thresholds = sequential_calls(join_folds(walk_forward.panels), settings)
    last = thresholds[max(thresholds)]
    found = evaluate_walk_forward(platform.database(), platform.settings(), called, labels, price_bars, settings)
    folds = fold_table(called, walk_forward.facts, thresholds)
    value = {**found.to_json(), "threshold": {"tau": last.tau, "reason": last.reason}, "folds": folds}
    return dg.Output(value, metadata=summary_metadata(found, folds), data_version=data_version(value))


@dg.asset_check(
    asset=walk_forward_summary,
    blocking=True,
    additional_ins={
        "walk_forward": dg.AssetIn("walk_forward", metadata={"columns": ["symbol", "session", "fold"]})
    },
)
def folds_train_on_the_past(walk_forward: StoredFolds) -> dg.AssetCheckResult:
    """Labels that a fold was trained on were all known before its first session; no two folds predict the same."""
    found = folds_overlap(walk_forward.facts, walk_forward.panels)
    return dg.AssetCheckResult(passed=not found, metadata={"overlaps": found})


@dg.asset_check(asset=walk_forward_summary)
def judged_figures_rest_on_plausible_prices(walk_forward_summary: dict[str, Any]) -> dg.AssetCheckResult:
    """No price, book or error moved beyond what markets do: a warning that names symbol and session behind."""
    return price_check(walk_forward_summary)
