"""Outcomes of recommendations: a record per profile and label, and expected beside realised precision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg

from boursomatic_assets.core.dataset.experiment import PROFILE_NAMES
from boursomatic_assets.core.dataset.labels import CLASS_NAMES
from boursomatic_assets.display.ui.canvas import (
    FAINT,
    INK,
    MINUS,
    RULE,
    SMALL,
    TEXT,
    WIDTH,
    blank_figure,
    draw_legend,
    frame_axes,
    set_title,
    to_png,
    write_instead,
)
from boursomatic_assets.display.ui.data_pictures import CLASS_COLOURS
from boursomatic_assets.display.ui.metadata import (
    COLUMN_DESCRIPTIONS,
    PREVIEW_ROWS,
    numeric_metadata,
    picture,
    table,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl
    from matplotlib.axes import Axes

    from boursomatic_assets.core.recommendations.outcomes import BuyRecord

NOTHING_YET = "No horizon of a recommendation has passed yet."
_DESCRIPTIONS = {
    **COLUMN_DESCRIPTIONS,
    "recommendation_id": "The recommendation's id.",
    "entry_session": "Session whose close the recommendation was made on.",
    "entry_close": "Close of the entry session, with the adjustments known when the outcome was judged.",
    "exit_session": "Session of the last bar within the horizon.",
    "exit_close": "Close of the exit session, with the same adjustments.",
    "realised_return": "Return from entry to exit, a fraction.",
    "realised_label": "Label of the realised return, by the thresholds of the model's experiment.",
    "hit": "Whether the label given equals the realised label.",
    "first_touch": "stop or target, whichever was reached first; both in one bar count as the stop.",
    "touched_session": "Session of the first touch.",
    "ended": "horizon, or stopped trading for an instrument closed at its last price.",
    "judged_at": "When it was judged, UTC.",
    "profile": "conservative, moderate or aggressive.",
    "label": "BUY, HOLD or SELL, as given.",
    "confidence": "Calibrated probability of the label, as given.",
    "horizon_days": "Horizon, in sessions.",
    "version": "Version of the model that gave it.",
}


def outcome_metadata(outcomes: pl.DataFrame, summary: pl.DataFrame) -> dict[str, Any]:
    """What is stored, and how often calls came true beside how often that was expected."""
    columns = [
        dg.TableColumn(name, type=str(dtype), description=_DESCRIPTIONS.get(name))
        for name, dtype in outcomes.schema.items()
    ]
    return {
        "dagster/row_count": outcomes.height,
        "dagster/column_schema": dg.TableSchema(columns),
        "preview": table(outcomes.tail(PREVIEW_ROWS)),
        "record": dg.MetadataValue.md(record_table(summary)),
        "expected_and_realised": picture(
            precision_picture(summary), "Expected and realised precision per profile and label"
        ),
        # Plain numbers, which the UI plots over runs.
        **numeric_metadata(
            {f"precision_{row['profile']}_{row['label'].lower()}": row["realised"] for row in summary.to_dicts()}
        ),
    }


def buy_metadata(record: BuyRecord) -> dict[str, Any]:
    """The active version's BUY calls as plain values, for a sensor and for plots."""
    figures = {"expected": record.expected, "realised": record.realised, "bound": record.bound}
    return {
        "version": record.version,
        "falls_short": record.falls_short,
        "buy_record": record.sentence,
        "buy_calls": record.calls,
        **numeric_metadata({f"buy_{name}": value for name, value in figures.items() if value is not None}),
    }


def record_table(summary: pl.DataFrame) -> str:
    """The record as a Markdown table, or a sentence if there is none yet."""
    if summary.is_empty():
        return NOTHING_YET
    head = (
        "| profile | label | calls | sessions | expected | realised | difference | 95 % interval | stop first "
        "| target first | mean return |"
    )
    rows = [
        f"| {row['profile']} | {row['label']} | {row['calls']:,} | {row['sessions']:,} "
        f"| {_percent(row['expected'])} | {_percent(row['realised'])} "
        f"| {_points(row['difference'])} | {_interval(row)} "
        f"| {_percent(row['stop_first'])} | {_percent(row['target_first'])} | {_signed(row['mean_return'])} |"
        for row in summary.to_dicts()
    ]
    return "\n".join([head, "|" + "---|" * 11, *rows])


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def _signed(fraction: float) -> str:
    return f"{100 * fraction:+.2f} %".replace("-", MINUS)


def _points(difference: float | None) -> str:
    """A difference of shares in percentage points."""
    return "" if difference is None else f"{100 * difference:+.1f}".replace("-", MINUS)


def _interval(row: Mapping[str, Any]) -> str:
    return "too few sessions" if row["low"] is None else f"{_points(row['low'])} to {_points(row['high'])}"


def precision_picture(summary: pl.DataFrame) -> bytes:
    """Draw how often calls came true, with 95 % intervals, beside how often that was expected.

    One panel per profile, one row per label. Too few sessions have no interval; an empty record is a sentence.
    """
    figure = blank_figure(WIDTH, 240)
    if summary.is_empty():
        write_instead(figure.add_subplot(), NOTHING_YET)
        return to_png(figure)
    first: Axes | None = None
    for position, profile in enumerate(PROFILE_NAMES):
        axes = figure.add_subplot(1, len(PROFILE_NAMES), position + 1, sharex=first, sharey=first)
        rows = [row for row in summary.to_dicts() if row["profile"] == profile]
        _draw_profile(axes, profile, rows, is_first=first is None)
        first = first or axes
    draw_legend(figure, 2)
    return to_png(figure)


def _draw_profile(axes: Axes, profile: str, rows: list[dict[str, Any]], *, is_first: bool) -> None:
    frame_axes(axes)
    axes.set_xlim(0.0, 1.0)
    axes.set_ylim(len(CLASS_NAMES) - 0.5, -0.5)
    axes.set_yticks(range(len(CLASS_NAMES)), CLASS_NAMES)
    axes.tick_params(axis="y", length=0, labelsize=TEXT, labelcolor=INK, labelleft=is_first)
    axes.set_xticks([0.0, 0.25, 0.5, 0.75, 1.0])
    axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f}%")
    axes.grid(axis="x", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    for row in rows:
        _draw_call(axes, row)
    if is_first:
        # Entries of the legend, drawn once.
        axes.plot([], [], "D", mfc="white", mec=INK, ms=4.5, label="expected (mean confidence)")
        axes.plot([], [], "o-", color=FAINT, ms=8.5, label="realised, with 95 % interval")
    set_title(axes, profile)


def _draw_call(axes: Axes, row: Mapping[str, Any]) -> None:
    """One label: the realised precision with its interval, and the expected one."""
    height, colour = CLASS_NAMES.index(row["label"]), CLASS_COLOURS[row["label"]]
    if row["low"] is not None:
        # The interval is that of the difference; the expected value is known exactly.
        ends = [min(max(row["expected"] + row[side], 0.0), 1.0) for side in ("low", "high")]
        axes.plot(ends, [height, height], color=colour, linewidth=2.4, solid_capstyle="butt")
    axes.plot(row["realised"], height, "o", color=colour, ms=8.5, clip_on=False)
    axes.plot(row["expected"], height, "D", mfc="white", mec=INK, ms=4.5, clip_on=False)
    count = f"{row['calls']:,} calls"
    axes.text(1.0, height + 0.3, count, ha="right", va="center", color=FAINT, fontsize=SMALL)
