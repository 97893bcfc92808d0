"""Whether the newest sessions still look like those before them, by the reference that the active model brought."""

import json
from datetime import date
from typing import Any

import dagster as dg
import polars as pl

from boursomatic_assets.assets import OWNERS, code_version
from boursomatic_assets.core import drift as core
from boursomatic_assets.core import drift_reference, drift_windows
from boursomatic_assets.core.drift import (
    SESSIONS_NEEDED,
    Episode,
    cause_of,
    detect_drift,
    episodes,
    scan_drift,
    with_predictions,
)
from boursomatic_assets.core.model_version import Bundle
from boursomatic_assets.display.canvas import embedded
from boursomatic_assets.display.drift_picture import drift_picture
from boursomatic_assets.display.metadata import bullets, data_version, markdown_table, table_metadata
from boursomatic_assets.storage.database import Database
from boursomatic_assets.storage.market_tables import read_features
from boursomatic_assets.storage.model_store import open_bundle
from boursomatic_assets.storage.model_table import ModelRow, active_version
from boursomatic_assets.storage.panels import Part
from boursomatic_assets.storage.resources import PlatformResource

REFERENCE = "reference.json"


@dg.asset(
    group_name="drift",
    kinds={"polars", "parquet"},
    owners=OWNERS,
    code_version=code_version(core, drift_reference, drift_windows),
    io_manager_key="panels",
    deps=["features", "model_version"],
)
def drift(platform: PlatformResource) -> dg.Output[pl.DataFrame]:
    """Each feature and the active model's predictions: the newest five sessions against those before them.

    An alarm is a difference that two windows of the training panel hardly ever show. A market crash is one, and so
    is a column in other units. Every window since the training panel ended is looked at, so that nothing is missed
    while nobody watched.
    """
    active = _active(platform.database())
    bundle = open_bundle(active.model_path, active.manifest_sha256)
    reference = json.loads(bundle.files[REFERENCE])
    rows = _rows_since(platform.database(), bundle, reference)
    newest, scan = detect_drift(reference, rows), scan_drift(reference, rows)
    found = episodes(scan)
    metadata: dict[str, Any] = {
        **table_metadata(newest),
        "alarmed": bool(newest["alarmed"].any()),
        "cause": cause_of(newest),
        "version": active.version,
        "newest_session": str(scan["session"].max()),
        "windows": scan.height,
        "alarmed_windows": int(scan["alarmed"].sum()),
        "alarm_episodes": len(found),
        "episodes": dg.MetadataValue.md(bullets([_sentence(each) for each in found])),
        "picture": dg.MetadataValue.md(embedded(drift_picture(scan, newest), "Drift of each window")),
        "preview": dg.MetadataValue.md(markdown_table(newest)),
    }
    return dg.Output(newest, metadata=metadata, data_version=data_version(newest))


def _active(database: Database) -> ModelRow:
    active = active_version(database)
    if active is None:
        message = "no model version is active.\nTrain one: boursomatic materialize"
        raise dg.Failure(description=message, allow_retries=False)
    return active


def _rows_since(database: Database, bundle: Bundle, reference: dict[str, Any]) -> pl.DataFrame:
    """Features of the model's universe since its training panel, with what it says of them."""
    features = bundle.experiment.features
    part = Part(symbols=bundle.manifest["universe"], since=date.fromisoformat(reference["first_session"]))
    rows = read_features(database, features, part)
    learned = rows.filter(pl.col("session") <= date.fromisoformat(reference["last_session"]))
    # The first window after the training panel is compared with the panel's last sessions.
    before = learned["session"].unique().sort().tail(SESSIONS_NEEDED - 1)
    return with_predictions(rows.filter(pl.col("session") >= before.min()), bundle.classifier())


def _sentence(episode: Episode) -> str:
    return f"{episode.first} to {episode.last}: {episode.windows} windows"
