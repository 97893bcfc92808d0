"""Recommendations as their asset shows them: metadata, a preview, pictures."""

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
    embedded,
    frame_axes,
    set_title,
    to_png,
)
from boursomatic_assets.display.ui.data_pictures import CLASS_COLOURS, label_mix_picture
from boursomatic_assets.display.ui.metadata import bullets, column_lineage, column_schema, markdown_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from boursomatic_assets.core.dataset.experiment import Experiment, Profiles
    from boursomatic_assets.services.recommending.recommend import RecommendationUpdate

# At most this many faults or broken rows are listed by a check.
EXAMPLES = 10
DESCRIPTIONS = {
    "session": "The session whose features and close it is made from.",
    "profile": "Risk profile that it is made for.",
    "label": "BUY, HOLD or SELL: what the profile makes of the model's probabilities.",
    "confidence": "Calibrated probability of the label.",
    "expected_return_pct": "The regressor's forecast of the return over the horizon, in percent.",
    "horizon_days": "Sessions over which label and forecast look ahead.",
    "stop_loss": "Price at which the call has failed; null for HOLD.",
    "take_profit": "Price at which the call has come true; null for HOLD.",
    "held_back": "What a HOLD lacked for a call: probability, threshold (of BUY) or volatility.",
    "justification": "The reason in words, in the language of the experiment.",
}
PREVIEW_CALLS = 10
_SHOWN = ("symbol", "profile", "label", "confidence", "expected_return_pct", "stop_loss", "take_profit", "session")


def mixes_of(rows: pl.DataFrame) -> dict[str, dict[str, int]]:
    """Count calls of each kind, by profile."""
    return {name: label_mix(rows.filter(pl.col("profile") == name)) for name in PROFILE_NAMES}


def strongest_calls(rows: pl.DataFrame, count: int) -> list[dict[str, Any]]:
    """The likeliest calls, each instrument once: as its most cautious profile has it, with all profiles that agree.

    Parameters
    ----------
    rows : DataFrame
        As in `RecommendationUpdate`.
    count : int
        At most so many.

    Returns
    -------
    list of dict
        JSON: `symbol`, `label`, `profiles`, `confidence`, `expected_return_pct`, `stop_loss`, `take_profit` and
        `justification`.
    """
    # Whatever text the profile is kept as: from the cautious to the bold one.
    ordered = rows.filter(pl.col("label") != "HOLD").sort("symbol", pl.col("profile").cast(pl.Enum(PROFILE_NAMES)))
    each = ordered.group_by("symbol", "label", maintain_order=True).agg(
        pl.col("profile").cast(pl.String).alias("profiles"),
        pl.col("confidence", "expected_return_pct", "stop_loss", "take_profit", "justification").first(),
    )
    likeliest = each.sort("confidence", "symbol", descending=[True, False]).head(count)
    return likeliest.with_columns(pl.col("label").cast(pl.String)).to_dicts()


def recommendations_metadata(update: RecommendationUpdate, experiment: Experiment, url: str) -> dict[str, Any]:
    """What the UI shows of an update of the recommendations.

    Parameters
    ----------
    update : RecommendationUpdate
    experiment : Experiment
        Of the run: its profiles.
    url : str
        The database's address, without its password.
    """
    rows, mixes, sessions = update.rows, mixes_of(update.rows), update.rows["session"]
    excluded = dict(update.excluded.select("symbol", "reason").iter_rows())
    active = update.predictions.height + update.excluded.height
    return {
        "version": update.version,
        "dagster/row_count": rows.height,
        "dagster/column_schema": _described(rows),
        **column_lineage("recommendations", update.features),
        "instruments": update.predictions.height,
        "first_session": str(sessions.min()),
        "last_session": str(sessions.max()),
        "calls_by_profile": dg.MetadataValue.md(_mix_markdown(mixes)),
        **{f"{profile}_{name.lower()}": mix[name] for profile, mix in mixes.items() for name in CLASS_NAMES},
        "preview": dg.MetadataValue.md(_preview(rows)),
        "strongest": dg.MetadataValue.json(strongest_calls(rows, PREVIEW_CALLS)),
        **_pictures(update, mixes, experiment.profiles),
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


def _described(rows: pl.DataFrame) -> dg.TableSchema:
    """Columns with their meaning here, where a label is a call and not an outcome."""
    columns = column_schema(rows.schema).columns
    return dg.TableSchema(
        [dg.TableColumn(own.name, own.type, DESCRIPTIONS.get(own.name, own.description)) for own in columns]
    )


def _mix_markdown(mixes: Mapping[str, Mapping[str, int]]) -> str:
    return markdown_table(pl.DataFrame([{"profile": profile, **mix} for profile, mix in mixes.items()]))


def _preview(rows: pl.DataFrame) -> str:
    """Some of the likeliest calls, or of the likeliest rows where nothing is called."""
    calls = rows.filter(pl.col("label") != "HOLD")
    shown = (calls if calls.height else rows).sort("confidence", "symbol", descending=[True, False])
    return markdown_table(shown.head(PREVIEW_CALLS).select(*_SHOWN, "justification"))


def _pictures(
    update: RecommendationUpdate, mixes: Mapping[str, Mapping[str, int]], profiles: Profiles
) -> dict[str, Any]:
    field = calls_picture(update.predictions, update.rows, profiles)
    words = "Each instrument by its probability of BUY and its volatility, beside what each profile accepts"
    return {
        "label_mix": dg.MetadataValue.md(
            embedded(label_mix_picture(mixes), "Share of BUY, HOLD and SELL for each profile")
        ),
        "where_each_profile_buys": dg.MetadataValue.md(embedded(field, words)),
    }


def calls_picture(predictions: pl.DataFrame, rows: pl.DataFrame, profiles: Profiles) -> bytes:
    """Draw each instrument by its calibrated probability of BUY and its volatility, and where each profile buys.

    Parameters
    ----------
    predictions, rows : DataFrame
        As in `RecommendationUpdate`.
    profiles : Profiles

    Returns
    -------
    bytes
        PNG, 700 pixels wide. A point has the colour of the boldest profile's call.
    """
    boldest = rows.filter(pl.col("profile") == PROFILE_NAMES[-1]).select("symbol", "label")
    points = predictions.select("symbol", "calibrated_buy", "vol_20d").join(boldest, on="symbol")
    figure = blank_figure(WIDTH, 380)
    axes = figure.add_subplot()
    frame_axes(axes)
    for name in CLASS_NAMES:
        own = points.filter(pl.col("label") == name)
        axes.scatter(own["calibrated_buy"], own["vol_20d"] * 100, s=14, color=CLASS_COLOURS[name], label=name)
    # Room for every profile's corner, and not for the one stock that swings by a fifth a day.
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
    """The likeliest call, or the likeliest row where nothing is called: as its most cautious profile has it."""
    called = pl.col("label") != "HOLD"
    ordered = rows.with_columns(called=called, place=pl.col("profile").cast(pl.Enum(PROFILE_NAMES)).to_physical())
    first = ordered.sort("called", "confidence", "symbol", "place", descending=[True, True, False, False])
    return first.row(0, named=True)


def faults_metadata(rows: int, faults: Sequence[str]) -> dict[str, Any]:
    """Rows that were looked at, and the first faults found in them."""
    return {"rows": rows, "faults": dg.MetadataValue.md(bullets(faults[:EXAMPLES]))}


def broken_rows_metadata(broken: pl.DataFrame) -> dict[str, Any]:
    """Number of rows that break a rule, and the first of them."""
    if broken.is_empty():
        return {"broken_rows": 0}
    first = dg.MetadataValue.md(markdown_table(broken.head(EXAMPLES)))
    return {"broken_rows": broken.height, "first_broken_rows": first}
