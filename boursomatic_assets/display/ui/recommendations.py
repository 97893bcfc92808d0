"""Metadata and pictures of recommendations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from boursomatic_assets.core.dataset.experiment import PROFILE_NAMES
from boursomatic_assets.core.dataset.labels import CLASS_NAMES, label_mix
from boursomatic_assets.core.registry.serving import share_left_out
from boursomatic_assets.display.ui.canvas import (
    FAINT,
    INK,
    SMALL,
    TEXT,
    WIDTH,
    blank_figure,
    draw_legend,
    frame_axes,
    set_title,
    to_png,
)
from boursomatic_assets.display.ui.data_pictures import CLASS_COLOURS, label_mix_picture
from boursomatic_assets.display.ui.metadata import bullets, column_lineage, column_schema, picture, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boursomatic_assets.core.dataset.experiment import Experiment, Profiles
    from boursomatic_assets.services.recommending.recommend import RecommendationUpdate

# Faults or broken rows that a check lists.
EXAMPLES = 10
DESCRIPTIONS = {
    "session": "The session whose features and close it is made from.",
    "profile": "Risk profile that it is made for.",
    "label": "BUY, HOLD or SELL, from the model's probabilities by the profile's thresholds.",
    "confidence": "Calibrated probability of the label.",
    "expected_return_pct": "The regressor's forecast of the return over the horizon, in percent.",
    "horizon_days": "Horizon of label and forecast, in sessions.",
    "stop_loss": "Price at which the call has failed; null for HOLD.",
    "take_profit": "Price at which the call has come true; null for HOLD.",
    "held_back": "Why a HOLD is no call: probability, threshold (of BUY) or volatility.",
    "justification": "The reason in words, in the language of the experiment.",
}
PREVIEW_CALLS = 10
_SHOWN = ("symbol", "profile", "label", "confidence", "expected_return_pct", "stop_loss", "take_profit", "session")


def mixes_of(rows: pl.DataFrame) -> dict[str, dict[str, int]]:
    """Number of calls of each kind, by profile."""
    return {name: label_mix(rows.filter(pl.col("profile") == name)) for name in PROFILE_NAMES}


def strongest_calls(rows: pl.DataFrame, count: int) -> list[dict[str, Any]]:
    """The `count` most probable calls as JSON, one per instrument.

    Each has the values of its most cautious profile, and names all profiles that agree.
    """
    # Profiles from the cautious to the bold one, whether stored as text or as an enum.
    ordered = rows.filter(pl.col("label") != "HOLD").sort("symbol", pl.col("profile").cast(pl.Enum(PROFILE_NAMES)))
    each = ordered.group_by("symbol", "label", maintain_order=True).agg(
        pl.col("profile").cast(pl.String).alias("profiles"),
        pl.col("confidence", "expected_return_pct", "stop_loss", "take_profit", "justification").first(),
    )
    most_probable = each.sort("confidence", "symbol", descending=[True, False]).head(count)
    return most_probable.with_columns(pl.col("label").cast(pl.String)).to_dicts()


def recommendations_metadata(update: RecommendationUpdate, experiment: Experiment, url: str) -> dict[str, Any]:
    """Metadata of an update of the recommendations. `url` is the database's address without its password."""
    rows, mixes, sessions = update.rows, mixes_of(update.rows), update.rows["session"]
    excluded = dict(update.excluded.select("symbol", "reason").iter_rows())
    active = update.predictions.height + update.excluded.height
    return {
        "version": update.version,
        "dagster/row_count": rows.height,
        # A label is a call here, and not an outcome.
        "dagster/column_schema": dg.TableSchema(
            [
                dg.TableColumn(column.name, column.type, DESCRIPTIONS.get(column.name, column.description))
                for column in column_schema(rows.schema).columns
            ]
        ),
        **column_lineage("recommendations", update.features),
        "instruments": update.predictions.height,
        "first_session": str(sessions.min()),
        "last_session": str(sessions.max()),
        "calls_by_profile": table([{"profile": profile, **mix} for profile, mix in mixes.items()]),
        **{f"{profile}_{name.lower()}": mix[name] for profile, mix in mixes.items() for name in CLASS_NAMES},
        "preview": _preview(rows),
        "strongest": dg.MetadataValue.json(strongest_calls(rows, PREVIEW_CALLS)),
        "label_mix": picture(label_mix_picture(mixes), "Share of BUY, HOLD and SELL for each profile"),
        "where_each_profile_buys": picture(
            calls_picture(update.predictions, rows, experiment.profiles),
            "Each instrument by its probability of BUY and its volatility, beside what each profile accepts",
        ),
        "excluded_instruments": update.excluded.height,
        "excluded_share": update.excluded.height / active,
        "share_left_out": share_left_out(update.predictions.height, excluded),
        "excluded": dg.MetadataValue.json(excluded),
        "rows_added": update.written.added,
        "rows_archived": update.written.archived,
        "rows_unchanged": update.written.unchanged,
        "dagster/uri": url,
        "dagster/table_name": "public.recommendations",
    }


def _preview(rows: pl.DataFrame) -> dg.MarkdownMetadataValue:
    """The most probable calls, or the most probable rows if nothing is called."""
    calls = rows.filter(pl.col("label") != "HOLD")
    shown = (calls if calls.height else rows).sort("confidence", "symbol", descending=[True, False])
    return table(shown.head(PREVIEW_CALLS).select(*_SHOWN, "justification"))


def calls_picture(predictions: pl.DataFrame, rows: pl.DataFrame, profiles: Profiles) -> bytes:
    """Draw each instrument by its calibrated probability of BUY and its volatility, and where each profile buys.

    A point has the colour of the boldest profile's call.
    """
    boldest = rows.filter(pl.col("profile") == PROFILE_NAMES[-1]).select("symbol", "label")
    points = predictions.select("symbol", "calibrated_buy", "vol_20d").join(boldest, on="symbol")
    figure = blank_figure(WIDTH, 380)
    axes = figure.add_subplot()
    frame_axes(axes)
    for name in CLASS_NAMES:
        own = points.filter(pl.col("label") == name)
        axes.scatter(own["calibrated_buy"], own["vol_20d"] * 100, s=14, color=CLASS_COLOURS[name], label=name)
    # Room for every profile's limits, but not for outliers of volatility.
    top = max(float(points["vol_20d"].quantile(0.99) or 0), profiles.aggressive.max_volatility) * 115
    right = max(float(points["calibrated_buy"].max() or 0), profiles.conservative.buy_probability) + 0.1  # type: ignore[arg-type]
    for name, profile in profiles.items():
        least, most = profile.buy_probability, profile.max_volatility * 100
        axes.plot([least, least, right], [0, most, most], color=FAINT, linewidth=1, linestyle=(0, (4, 2)))
        axes.text(right, most, f"{name} buys below ", ha="right", va="bottom", color=FAINT, fontsize=SMALL)
    axes.set_ylim(0, top)
    axes.set_xlim(0, right)
    axes.set_xlabel("calibrated probability of BUY", color=INK, fontsize=TEXT)
    axes.set_ylabel("volatility, % a session", color=INK, fontsize=TEXT)
    set_title(axes, f"Colours: what the profile {PROFILE_NAMES[-1]} makes of it")
    draw_legend(figure, len(CLASS_NAMES))
    return to_png(figure)


def strongest_row(rows: pl.DataFrame) -> dict[str, Any]:
    """The most probable call, or else the most probable row, as its most cautious profile has it."""
    called = pl.col("label") != "HOLD"
    ordered = rows.with_columns(called=called, place=pl.col("profile").cast(pl.Enum(PROFILE_NAMES)).to_physical())
    first = ordered.sort("called", "confidence", "symbol", "place", descending=[True, True, False, False])
    return first.row(0, named=True)


def faults_metadata(rows: int, faults: Sequence[str]) -> dict[str, Any]:
    """Number of rows checked, and the first faults."""
    return {"rows": rows, "faults": bullets(faults[:EXAMPLES])}


def broken_rows_metadata(broken: pl.DataFrame) -> dict[str, Any]:
    """Number of rows that break a rule, and the first of them."""
    if broken.is_empty():
        return {"broken_rows": 0}
    return {"broken_rows": broken.height, "first_broken_rows": table(broken.head(EXAMPLES))}
