"""Whether the newest sessions still look like those before them, by the reference that the active model brought."""

import json
from datetime import date, timedelta
from typing import Any

import dagster as dg
import polars as pl

from boursomatic_assets.assets import OWNERS, code_version
from boursomatic_assets.core.drift import watch as core
from boursomatic_assets.core.drift.watch import (
    DRIFT_SCHEMA,
    SESSIONS_NEEDED,
    Episode,
    detect_drift,
    episodes,
    newest_alarm,
    scan_drift,
    with_predictions,
    words_of,
)
from boursomatic_assets.core.registry.bundle import REFERENCE, Bundle
from boursomatic_assets.display.ui.canvas import embedded
from boursomatic_assets.display.ui.drift_picture import drift_picture
from boursomatic_assets.display.ui.metadata import bullets, data_version, markdown_table, table_metadata
from boursomatic_assets.errors import NotEnoughHistoryError
from boursomatic_assets.services.recommending.recommend import open_active, require_active
from boursomatic_assets.storage.dagster.resources import PlatformResource
from boursomatic_assets.storage.dagster.retries import retried
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets.storage.postgres.market_tables import read_inputs
from boursomatic_assets.storage.postgres.panels import Part

# So many days hold the sessions that the first window after the training panel is compared with, on any exchange.
DAYS_BEFORE = 4 * SESSIONS_NEEDED


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
    """Each feature and the active model's predictions: the newest five sessions against those before them.

    An alarm is a difference that two windows of the training panel hardly ever show. A market crash is one, and so
    is a column in other units. Every window since the training panel ended is looked at, so that nothing is missed
    while nobody watched. Where it cannot be told yet, `cause` says why, and there is no alarm.
    """
    active = require_active(platform.database())
    bundle = open_active(active)
    if REFERENCE not in bundle.files:
        reason = "was recorded before versions kept a reference; the next training brings one"
        return _untold(active.version, f"Drift cannot be told: version {active.version} {reason}.")
    reference = json.loads(bundle.files[REFERENCE])
    try:
        rows = _rows_since(platform.database(), bundle, reference)
        newest, scan = detect_drift(reference, rows), scan_drift(reference, rows)
    except NotEnoughHistoryError as error:
        return _untold(active.version, f"Drift cannot be told yet: {str(error).splitlines()[0]}")
    found, alarm = episodes(scan), newest_alarm(scan)
    metadata: dict[str, Any] = {
        **table_metadata(newest),
        "alarmed": bool(newest["alarmed"].any()),
        "cause": core.cause_of(newest),
        "version": active.version,
        "newest_session": str(scan["session"].max()),
        "windows": scan.height,
        "alarmed_windows": int(scan["alarmed"].sum()),
        "alarm_episodes": len(found),
        "episodes": dg.MetadataValue.md(bullets([_sentence(each) for each in found])),
        **(_alarm_metadata(alarm, words_of(alarm, scan, newest)) if alarm else {}),
        "picture": dg.MetadataValue.md(embedded(drift_picture(scan, newest), "Drift of each window")),
        "preview": dg.MetadataValue.md(markdown_table(newest)),
    }
    return dg.Output(newest, metadata=metadata, data_version=data_version(newest))


def _alarm_metadata(alarm: Episode, words: str) -> dict[str, str]:
    return {"alarmed_since": str(alarm.first), "alarmed_until": str(alarm.last), "alarm": words}


def _untold(version: str, reason: str) -> dg.Output[pl.DataFrame]:
    """What there is to say where nothing can be compared: no fault of this run, and no alarm."""
    nothing = pl.DataFrame(schema=DRIFT_SCHEMA)
    metadata = {**table_metadata(nothing), "alarmed": False, "cause": reason, "version": version, "windows": 0}
    return dg.Output(nothing, metadata=metadata, data_version=data_version(nothing))


def _rows_since(database: Database, bundle: Bundle, reference: dict[str, Any]) -> pl.DataFrame:
    """Inputs of the model for its universe since its training panel, with what it says of them."""
    learned_until = date.fromisoformat(reference["last_session"])
    part = Part(symbols=bundle.manifest["universe"], since=learned_until - timedelta(days=DAYS_BEFORE))
    rows = read_inputs(database, bundle.experiment.features, part)
    learned = rows.filter(pl.col("session") <= learned_until)
    # The first window after the training panel is compared with the panel's last sessions.
    before = learned["session"].unique().sort().tail(SESSIONS_NEEDED - 1).min()
    kept = rows if before is None else rows.filter(pl.col("session") >= before)
    return with_predictions(kept, bundle.classifier()) if kept.height else kept


def _sentence(episode: Episode) -> str:
    windows = "1 window" if episode.windows == 1 else f"{episode.windows} windows"
    return f"{episode.first} to {episode.last}: {windows}"
