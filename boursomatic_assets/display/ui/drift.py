"""Metadata of drift: alarms, their episodes, and the newest comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from boursomatic_assets.core.drift.alarms import Episode, cause_of, episodes, newest_alarm, words_of
from boursomatic_assets.display.ui.drift_picture import drift_picture
from boursomatic_assets.display.ui.metadata import bullets, picture, table, table_metadata

if TYPE_CHECKING:
    import polars as pl


def drift_metadata(newest: pl.DataFrame, scan: pl.DataFrame, version: str) -> dict[str, Any]:
    """Metadata of the asset `drift`: `newest` from `detect_drift`, `scan` from `scan_drift`."""
    found, alarm = episodes(scan), newest_alarm(scan)
    return {
        **table_metadata(newest),
        "alarmed": bool(newest["alarmed"].any()),
        "cause": cause_of(newest),
        "version": version,
        "newest_session": str(scan["session"].max()),
        "windows": scan.height,
        "alarmed_windows": int(scan["alarmed"].sum()),
        "alarm_episodes": len(found),
        "episodes": bullets([_sentence(each) for each in found]),
        **(
            {
                "alarmed_since": str(alarm.first),
                "alarmed_until": str(alarm.last),
                "alarm": words_of(alarm, scan, newest),
            }
            if alarm
            else {}
        ),
        "picture": picture(drift_picture(scan, newest), "Drift of each window"),
        "preview": table(newest),
    }


def no_drift_metadata(empty: pl.DataFrame, version: str, reason: str) -> dict[str, Any]:
    """Metadata without a comparison: the reason, and no alarm."""
    return {**table_metadata(empty), "alarmed": False, "cause": reason, "version": version, "windows": 0}


def _sentence(episode: Episode) -> str:
    windows = "1 window" if episode.windows == 1 else f"{episode.windows} windows"
    return f"{episode.first} to {episode.last}: {windows}"
