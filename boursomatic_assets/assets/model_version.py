"""The record of a training: a verified bundle, and a row that the gate may make the active one."""

from datetime import timedelta
from typing import Any

import dagster as dg
import polars as pl

from boursomatic_assets.assets import OWNERS, code_version
from boursomatic_assets.assets.required_checks import REQUIRED_CHECKS
from boursomatic_assets.core.models.training import FittedModel
from boursomatic_assets.core.registry.bundle import sha256
from boursomatic_assets.display.ui.model_version import version_metadata
from boursomatic_assets.services.training.recording import record_training
from boursomatic_assets.services.training.soundness import require_sound, sound_closes
from boursomatic_assets.services.training.version import Training
from boursomatic_assets.storage.artifacts.bundles import open_bundle
from boursomatic_assets.storage.dagster.resources import ExperimentResource, PlatformResource
from boursomatic_assets.storage.dagster.retries import retried
from boursomatic_assets.storage.postgres.model_table import active_version, active_versions

# A training is due each Saturday at the latest, unless no label has matured since the last one.
TRAINED_EVERY = timedelta(days=7)
FRESHNESS = dg.FreshnessPolicy.time_window(
    fail_window=2 * TRAINED_EVERY, warn_window=TRAINED_EVERY + timedelta(days=1)
)


@dg.asset(
    group_name="model_version",
    kinds={"postgres", "lightgbm"},
    owners=OWNERS,
    code_version=code_version(__name__, "model_version"),
    ins={"price_bars": dg.AssetIn(metadata={"recent": True, "columns": ["close", "exchange"]})},
    # One training at a time, so that runs that fetch bars have room.
    pool="training",
    freshness_policy=FRESHNESS,
)
@retried
def model_version(  # noqa: PLR0913, PLR0917 (each input is an edge of the lineage)
    context: dg.AssetExecutionContext,
    classifier: FittedModel,
    regressor: FittedModel,
    labels: pl.DataFrame,
    price_bars: pl.DataFrame,
    predictions: pl.DataFrame,
    threshold: dict[str, Any],
    metrics: dict[str, Any],
    feature_importance: pl.DataFrame,
    experiment: ExperimentResource,
    platform: PlatformResource,
) -> dg.MaterializeResult[None]:
    """A verified bundle of both models with all their figures. It becomes the active version unless it is worse.

    The new version and the active one are scored on sessions that neither has learned from; `gate` gives the
    decision and its reason. A refused version is recorded and kept, and the active one stays. Nothing is recorded
    while a required check fails.
    """
    instance, run_id = context.instance, context.run.run_id
    evidence = require_sound(instance, run_id, REQUIRED_CHECKS)
    closes = sound_closes(instance, run_id, price_bars, labels, predictions)
    training = Training(
        classifier, regressor, feature_importance, predictions, threshold, metrics, labels, closes, evidence
    )
    recorded = record_training(platform.database(), platform.artifacts(), training, experiment.value(), run_id)
    content = f"{recorded.row.manifest_sha256}{recorded.row.version}"
    return dg.MaterializeResult(
        metadata=version_metadata(recorded), data_version=dg.DataVersion(sha256(content.encode()))
    )


@dg.asset_check(asset=model_version, blocking=True)
def exactly_one_version_is_active(platform: PlatformResource) -> dg.AssetCheckResult:
    """One row of `model_versions` is active: recommendations are made with it."""
    active = active_versions(platform.database())
    return dg.AssetCheckResult(
        passed=len(active) == 1, metadata={"active": ", ".join(active) or "none", "active_versions": len(active)}
    )


@dg.asset_check(asset=model_version, blocking=True)
def the_bundle_is_what_was_recorded(platform: PlatformResource) -> dg.AssetCheckResult:
    """The active bundle's files match the digests in its manifest, and the manifest matches that in its row."""
    active = active_version(platform.database())
    if active is None:
        return dg.AssetCheckResult(passed=False, description="No version is active.")
    bundle = open_bundle(active.model_path, active.manifest_sha256, active.version)
    return dg.AssetCheckResult(passed=True, metadata={"version": active.version, "files": len(bundle.files)})
