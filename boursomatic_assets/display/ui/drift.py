"""Metadata of drift: alarms, their episodes, the newest comparison, and a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from boursomatic_assets.core.drift.alarms import cause_of, episodes, newest_alarm, words_of
from boursomatic_assets.core.drift.watch import FALSE_ALARMS
from boursomatic_assets.core.drift.windows import WINDOW
from boursomatic_assets.display.ui.canvas import (
    CLASSIFIER_COLOUR,
    FAINT,
    INK,
    RULE,
    SMALL,
    TEXT,
    WIDTH,
    blank_figure,
    frame_axes,
    set_title,
    strip_axes,
    to_png,
    use_date_axis,
    write_instead,
)
from boursomatic_assets.display.ui.metadata import bullets, picture, table, table_metadata

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes

ALARM_COLOUR = "#cc3311"
ROWS_SHOWN = 12
# Longer bars are cut: a unit error would shrink all others to nothing.
LONGEST_BAR = 3.0
SMALLEST_P_VALUE = 1e-6


def drift_metadata(newest: pl.DataFrame, scan: pl.DataFrame, version: str) -> dict[str, Any]:
    """Metadata of the asset `drift`: `newest` from `detect_drift`, `scan` from `scan_drift`."""
    alarms, alarm = episodes(scan), newest_alarm(scan)
    return {
        **table_metadata(newest),
        "alarmed": bool(newest["alarmed"].any()),
        "cause": cause_of(newest),
        "version": version,
        "newest_session": str(scan["session"].max()),
        "windows": scan.height,
        "alarmed_windows": int(scan["alarmed"].sum()),
        "alarm_episodes": len(alarms),
        "episodes": bullets(
            [f"{each.first} to {each.last}: {each.windows} window{'s' * (each.windows > 1)}" for each in alarms]
        ),
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


def drift_picture(scan: pl.DataFrame, newest: pl.DataFrame) -> bytes:
    """Draw the p-value of each window over time, and the newest window's statistics against their alarm levels.

    `scan` is from `scan_drift`, `newest` from `detect_drift`. Only the first twelve rows with a level are drawn.
    """
    shown = newest.drop_nulls("level").head(ROWS_SHOWN)
    height = 90 + 26 * max(shown.height, 1)
    figure = blank_figure(WIDTH, 230 + height)
    upper, lower = figure.subplots(2, 1, height_ratios=[230, height])
    _draw_windows(upper, scan)
    _draw_newest(lower, shown)
    return to_png(figure)


def _draw_windows(axes: Axes, scan: pl.DataFrame) -> None:
    frame_axes(axes)
    known = scan.drop_nulls("p_value")
    alarms = episodes(known)
    count = f"{len(alarms)} alarm" if len(alarms) == 1 else f"{len(alarms)} alarms"
    set_title(axes, f"p-value of each window of {WINDOW} sessions: {known.height} windows, {count}")
    if known.is_empty():
        write_instead(axes, "The training panel has too few windows\nto tell what is usual.")
        return
    chance = np.maximum(known["p_value"].to_numpy(), SMALLEST_P_VALUE)
    days: Any = known["session"].to_numpy()
    alarmed = known["alarmed"].to_numpy()
    axes.set_yscale("log")
    axes.axhline(FALSE_ALARMS, color=RULE, linewidth=1.0)
    axes.plot(days, chance, color=CLASSIFIER_COLOUR, linewidth=0.9)
    axes.plot(days[alarmed], chance[alarmed], "o", color=ALARM_COLOUR, markersize=3.5)
    axes.set_ylim(1.5, SMALLEST_P_VALUE / 1.5)
    axes.set_ylabel("more unusual is higher", color=FAINT, fontsize=SMALL)
    axes.minorticks_off()
    use_date_axis(axes, most_ticks=8)


def _draw_newest(axes: Axes, shown: pl.DataFrame) -> None:
    strip_axes(axes)
    set_title(axes, "newest window: value over its alarm level")
    if shown.is_empty():
        write_instead(axes, "no level to compare with")
        return
    rows = np.arange(shown.height)
    ratio = (shown["value"] / shown["level"]).to_numpy()
    colours = [ALARM_COLOUR if each else CLASSIFIER_COLOUR for each in shown["alarmed"]]
    bars = axes.barh(rows, np.minimum(ratio, LONGEST_BAR), height=0.6, color=colours)
    axes.bar_label(bars, [f"{each:.2f}" for each in ratio], padding=4, color=INK, fontsize=SMALL)
    axes.axvline(1.0, color=RULE, linewidth=1.0)
    names = [f"{row['feature']}  {row['statistic']}" for row in shown.iter_rows(named=True)]
    axes.set_yticks(rows, names, color=INK, fontsize=TEXT)
    axes.set_xticks([])
    axes.set_xlim(0, LONGEST_BAR * 1.1 if ratio.max() > 1 else 1.2)
    axes.set_ylim(shown.height - 0.5, -0.5)
