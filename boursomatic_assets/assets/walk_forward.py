"""The walk-forward: the experiment trained once per fold, and the record of skill over all folds."""

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

# A fold of other code is another fold.
CODE = code_version(__name__, "walk_forward")


@dg.asset(
    group_name="walk_forward",
    kinds={"lightgbm", "parquet"},
    owners=OWNERS,
    code_version=CODE,
    io_manager_key="folds",
    ins={"price_bars": dg.AssetIn(metadata={"recent": True, "columns": ["close"]})},
    partitions_def=dg.DynamicPartitionsDefinition(name=FOLD_PARTITIONS),
    # One run per fold, so that each can fail, be run again, and run beside others.
    backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=1),
    # It takes longest: other steps come first.
    op_tags={"dagster/priority": "-1"},
)
def walk_forward(
    context: dg.AssetExecutionContext,
    labels: pl.DataFrame,
    price_bars: pl.DataFrame,
    experiment: ExperimentResource,
    platform: PlatformResource,
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Predictions of one span of sessions (a fold) by models trained only on what was known before it.

    Each partition is a fold; folds do not overlap. Each row also has the predictions of the volatility-only
    classifier, of momentum, and of the averages of the training rows. When all folds are there, materialize
    `walk_forward_summary`.
    """
    settings, version, threads = experiment.value(), fingerprint(labels), platform.settings().threads
    for fold in _chosen(plan_folds(labels, settings), context.partition_keys):
        place = f"fold {fold.number} of {settings.walk_forward.folds}"
        context.log.info("%s: %s to %s", place, fold.test_first, fold.test_last)
        started = time.perf_counter()
        result = run_fold(labels, fold, settings, threads, price_bars)
        seconds = time.perf_counter() - started
        record = save_fold(platform.artifacts(), result, settings, version)
        stored = {**record, "path": dg.MetadataValue.path(record["path"]), "seconds": round(seconds, 3)}
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

    The threshold of a fold's calls is chosen on the predictions of earlier folds.
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
    """All training labels of a fold were known before its first session, and no two folds predict the same row."""
    overlapping = folds_overlap(walk_forward.facts, walk_forward.panels)
    return dg.AssetCheckResult(passed=not overlapping, metadata={"overlaps": overlapping})


@dg.asset_check(asset=walk_forward_summary)
def judged_figures_rest_on_plausible_prices(walk_forward_summary: dict[str, Any]) -> dg.AssetCheckResult:
    """No price, book or error moved more than markets do. A warning names symbol and session."""
    return price_check(walk_forward_summary)
