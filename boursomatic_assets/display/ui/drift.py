"""What the UI shows of drift: alarms, their episodes, and the newest comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg

from boursomatic_assets.core.drift.alarms import Episode, cause_of, episodes, newest_alarm, words_of
from boursomatic_assets.display.ui.canvas import embedded
from boursomatic_assets.display.ui.drift_picture import drift_picture
from boursomatic_assets.display.ui.metadata import bullets, markdown_table, table_metadata

if TYPE_CHECKING:
    import polars as pl


def drift_metadata(newest: pl.DataFrame, scan: pl.DataFrame, version: str) -> dict[str, Any]:
    """Metadata of the asset `drift`.

    Parameters
    ----------
    newest : DataFrame
        As `detect_drift` gives it.
    scan : DataFrame
        As `scan_drift` gives it.
    version : str
        The active version.
    """
    found = episodes(scan)
    return {
        **table_metadata(newest),
        "alarmed": bool(newest["alarmed"].any()),
        "cause": cause_of(newest),
        "version": version,
        "newest_session": str(scan["session"].max()),
        "windows": scan.height,
        "alarmed_windows": int(scan["alarmed"].sum()),
        "alarm_episodes": len(found),
        "episodes": dg.MetadataValue.md(bullets([_sentence(each) for each in found])),
        **_alarm_metadata(newest, scan),
        "picture": dg.MetadataValue.md(embedded(drift_picture(scan, newest), "Drift of each window")),
        "preview": dg.MetadataValue.md(markdown_table(newest)),
    }


def no_drift_metadata(nothing: pl.DataFrame, version: str, reason: str) -> dict[str, Any]:
    """Metadata where nothing can be compared: the reason, and no alarm."""
    return {**table_metadata(nothing), "alarmed": False, "cause": reason, "version": version, "windows": 0}


def _alarm_metadata(newest: pl.DataFrame, scan: pl.DataFrame) -> dict[str, str]:
    alarm = newest_alarm(scan)
    if alarm is None:
        return {}
    words = words_of(alarm, scan, newest)
    return {"alarmed_since": str(alarm.first), "alarmed_until": str(alarm.last), "alarm": words}


def _sentence(episode: Episode) -> str:
    windows = "1 window" if episode.windows == 1 else f"{episode.windows} windows"
    return f"{episode.first} to {episode.last}: {windows}"
