"""Outcomes as people read them: a record per profile and label, and precision as expected beside as it came."""

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
    embedded,
    frame_axes,
    set_title,
    strip_axes,
    to_png,
)
from boursomatic_assets.display.ui.data_pictures import CLASS_COLOURS
from boursomatic_assets.display.ui.metadata import (
    COLUMN_DESCRIPTIONS,
    PREVIEW_ROWS,
    markdown_table,
    numeric_metadata,
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
    "entry_close": "That close, adjusted as bars were when the outcome was judged.",
    "exit_session": "Session of the bar whose close counts: the last up to the end of the horizon.",
    "exit_close": "That close, adjusted alike.",
    "realised_return": "Return from entry to exit, a fraction.",
    "realised_label": "The label that the return deserves, by the thresholds of the model's experiment.",
    "hit": "Whether the label given is the one deserved.",
    "first_touch": "stop or target, whichever was reached first; both in one bar count as the stop.",
    "touched_session": "Session in which that was.",
    "ended": "horizon, or stopped trading for an instrument closed at its last price.",
    "judged_at": "When it was judged, UTC.",
    "profile": "conservative, moderate or aggressive.",
    "label": "BUY, HOLD or SELL, as it was given.",
    "confidence": "Calibrated probability of the label, as it was given.",
    "horizon_days": "Sessions that it looked ahead.",
    "version": "Version of the model that gave it.",
}


def outcome_metadata(outcomes: pl.DataFrame, summary: pl.DataFrame) -> dict[str, Any]:
    """What is stored, and how often calls came true beside how often they were expected to.

    Parameters
    ----------
    outcomes : DataFrame
        Stored outcomes.
    summary : DataFrame
        As `core.outcomes.summarise_outcomes` makes it of them.
    """
    columns = [
        dg.TableColumn(name, type=str(dtype), description=_DESCRIPTIONS.get(name))
        for name, dtype in outcomes.schema.items()
    ]
    picture = embedded(precision_picture(summary), "Expected and realised precision per profile and label")
    return {
        "dagster/row_count": outcomes.height,
        "dagster/column_schema": dg.TableSchema(columns),
        "preview": dg.MetadataValue.md(markdown_table(outcomes.tail(PREVIEW_ROWS))),
        "record": dg.MetadataValue.md(record_table(summary)),
        "expected_and_realised": dg.MetadataValue.md(picture),
        **_plotted(summary),
    }


def buy_metadata(record: BuyRecord) -> dict[str, Any]:
    """The active version's BUY calls as plain values: what a sensor and the plots of the UI read.

    Parameters
    ----------
    record : BuyRecord
        As `core.outcomes.buy_record` gives it.
    """
    figures = {"expected": record.expected, "realised": record.realised, "bound": record.bound}
    return {
        "version": record.version,
        "falls_short": record.falls_short,
        "buy_record": record.sentence,
        "buy_calls": record.calls,
        **numeric_metadata({f"buy_{name}": value for name, value in figures.items() if value is not None}),
    }


def _plotted(summary: pl.DataFrame) -> dict[str, Any]:
    """Realised precisions as plain numbers, which the UI plots over runs."""
    return numeric_metadata(
        {f"precision_{row['profile']}_{row['label'].lower()}": row["realised"] for row in summary.to_dicts()}
    )


def record_table(summary: pl.DataFrame) -> str:
    """The record as a Markdown table; a sentence where there is none yet."""
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
    """A difference of shares, in percentage points."""
    return "" if difference is None else f"{100 * difference:+.1f}".replace("-", MINUS)


def _interval(row: Mapping[str, Any]) -> str:
    return "too few sessions" if row["low"] is None else f"{_points(row['low'])} to {_points(row['high'])}"


def precision_picture(summary: pl.DataFrame) -> bytes:
    """Draw how often calls came true, with intervals, beside how often they were expected to.

    Parameters
    ----------
    summary : DataFrame
        As `core.outcomes.summarise_outcomes` gives it.

    Returns
    -------
    bytes
        PNG, 700 pixels wide, a profile to a panel and a label to a row. Whiskers are 95 % intervals; without one,
        there were too few sessions. A sentence where nothing has been judged.
    """
    figure = blank_figure(WIDTH, 240)
    if summary.is_empty():
        axes = figure.add_subplot()
        strip_axes(axes)
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, NOTHING_YET, ha="center", va="center", color=FAINT, fontsize=10)
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
        # Entries of the legend, drawn once and outside of the axes.
        axes.plot([], [], "D", mfc="white", mec=INK, ms=4.5, label="expected (mean confidence)")
        axes.plot([], [], "o-", color=FAINT, ms=8.5, label="realised, with 95 % interval")
    set_title(axes, profile)


def _draw_call(axes: Axes, row: Mapping[str, Any]) -> None:
    """One label: whiskers around the realised precision, and where it was expected."""
    height, colour = CLASS_NAMES.index(row["label"]), CLASS_COLOURS[row["label"]]
    if row["low"] is not None:
        # The interval is that of the difference; what was expected is known.
        ends = [min(max(row["expected"] + row[side], 0.0), 1.0) for side in ("low", "high")]
        axes.plot(ends, [height, height], color=colour, linewidth=2.4, solid_capstyle="butt")
    axes.plot(row["realised"], height, "o", color=colour, ms=8.5, clip_on=False)
    axes.plot(row["expected"], height, "D", mfc="white", mec=INK, ms=4.5, clip_on=False)
    count = f"{row['calls']:,} calls"
    axes.text(1.0, height + 0.3, count, ha="right", va="center", color=FAINT, fontsize=SMALL)
