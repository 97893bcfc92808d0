"""Drift: whether the newest sessions still look like those before them, by the active model's reference."""

import json

import dagster as dg
import polars as pl

from boursomatic_assets.assets import OWNERS, code_version
from boursomatic_assets.core.drift.watch import DRIFT_SCHEMA, detect_drift, scan_drift
from boursomatic_assets.core.registry.bundle import REFERENCE
from boursomatic_assets.display.ui.drift import drift_metadata, no_drift_metadata
from boursomatic_assets.display.ui.metadata import data_version
from boursomatic_assets.errors import NotEnoughHistoryError
from boursomatic_assets.services.drift import rows_since_training
from boursomatic_assets.services.recommending.recommend import open_active, require_active
from boursomatic_assets.storage.dagster.resources import PlatformResource
from boursomatic_assets.storage.dagster.retries import retried


@dg.asset(
    group_name="drift",
    kinds={"polars", "parquet"},
    owners=OWNERS,
    code_version=code_version(__name__, "drift"),
    io_manager_key="panels",
    deps=["features", "model_version"],
)
@retried
def drift(platform: PlatformResource) -> dg.Output[pl.DataFrame]:
    """Each feature and the active model's predictions: the newest five sessions compared with those before them.

    An alarm is a difference that two windows of the training panel hardly ever show, such as a market crash, or a
    column in other units. Every window since the end of the training panel is compared. Without enough sessions
    there is no alarm, and `cause` says why.
    """
    active = require_active(platform.database())
    bundle = open_active(active)
    if REFERENCE not in bundle.files:
        reason = "was recorded before versions kept a reference; the next training brings one"
        return _untold(active.version, f"Drift cannot be told: version {active.version} {reason}.")
    reference = json.loads(bundle.files[REFERENCE])
    try:
        rows = rows_since_training(platform.database(), bundle, reference)
        newest, scan = detect_drift(reference, rows), scan_drift(reference, rows)
    except NotEnoughHistoryError as error:
        return _untold(active.version, f"Drift cannot be told yet: {str(error).splitlines()[0]}")
    metadata = drift_metadata(newest, scan, active.version)
    return dg.Output(newest, metadata=metadata, data_version=data_version(newest))


def _untold(version: str, reason: str) -> dg.Output[pl.DataFrame]:
    """Empty drift with a reason, where nothing can be compared."""
    empty = pl.DataFrame(schema=DRIFT_SCHEMA)
    return dg.Output(empty, metadata=no_drift_metadata(empty, version, reason), data_version=data_version(empty))
