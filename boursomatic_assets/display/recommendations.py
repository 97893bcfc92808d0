"""Recommendations for people: tables and a bar chart in the terminal, metadata and pictures of the asset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from boursomatic_assets.core.experiment import PROFILE_NAMES
from boursomatic_assets.core.labels import CLASS_NAMES, label_mix
from boursomatic_assets.display.canvas import (
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
from boursomatic_assets.display.data_pictures import CLASS_COLOURS, label_mix_picture
from boursomatic_assets.display.metadata import column_lineage, column_schema, markdown_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from boursomatic_assets.core.experiment import Experiment, Profiles
    from boursomatic_assets.updates.recommending import RecommendationUpdate

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
STRONGEST = 5
PREVIEW_CALLS = 10
HALF_A_BAR = 16
COLOURS = {"BUY": "green", "HOLD": "dim", "SELL": "red"}
# Features that are fractions, and that people read in percent.
_FRACTIONS = ("ret_", "momentum_", "vol_")
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
        "excluded": dg.MetadataValue.json(dict(update.excluded.select("symbol", "reason").iter_rows())),
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


def mix_table(metadata: Mapping[str, Any]) -> Table:
    """Calls of each profile, from the asset's metadata as plain values."""
    table = Table("Profile")
    for name in CLASS_NAMES:
        table.add_column(name, justify="right")
    for profile in PROFILE_NAMES:
        table.add_row(profile, *(f"{metadata[f'{profile}_{name.lower()}']:,}" for name in CLASS_NAMES))
    return table


def made_line(metadata: Mapping[str, Any]) -> str:
    """Say in one line what was recommended on, and who was left out."""
    first, last, left_out = (metadata[name] for name in ("first_session", "last_session", "excluded_instruments"))
    span = last if first == last else f"{first} .. {last}"
    return (
        f"Recommendations: {metadata['dagster/row_count']:,} on {metadata['instruments']:,} instruments, "
        f"session {span}" + (f"; {left_out:,} instruments left out" if left_out else "")
    )


def written_line(metadata: Mapping[str, Any]) -> str:
    """Say in one line what was written, and with which model."""
    return (
        f"Rows: {metadata['rows_added']:,} new, {metadata['rows_archived']:,} archived, "
        f"{metadata['rows_unchanged']:,} as they were; model version {metadata['version']}"
    )


def calls_table(calls: Sequence[Mapping[str, Any]], count: int = STRONGEST) -> Table:
    """The likeliest calls; `calls` as `strongest_calls` gives them."""
    table = Table("Symbol", "Call", "Profiles", title="Strongest calls", title_justify="left")
    for heading in ("Confidence", "Expected", "Stop", "Target"):
        table.add_column(heading, justify="right")
    for call in calls[:count]:
        profiles = "all" if len(call["profiles"]) == len(PROFILE_NAMES) else " & ".join(call["profiles"])
        table.add_row(escape(call["symbol"]), _label(call["label"]), profiles, *_figures(call))
    return table


def reason_lines(calls: Sequence[Mapping[str, Any]], count: int = STRONGEST) -> list[str]:
    """Why each of the likeliest calls was made, a line for each: sentences need a terminal's whole width."""
    return [f"[bold]{escape(call['symbol'])}[/bold] {escape(call['justification'])}" for call in calls[:count]]


def _label(label: str) -> str:
    return f"[{COLOURS[label]}]{label}[/{COLOURS[label]}]" if label in COLOURS else escape(label)


def _figures(row: Mapping[str, Any]) -> list[str]:
    expected, prices = row["expected_return_pct"], (row["stop_loss"], row["take_profit"])
    return [
        f"{row['confidence']:.0%}",
        "" if expected is None else f"{expected:+.1f} %",
        *("" if price is None else f"{price:,.2f}" for price in prices),
    ]


def exclusions_table(excluded: Mapping[str, str]) -> Table:
    """Every instrument that was left out, with the reason."""
    table = Table("Symbol", "Why", title=f"Left out: {len(excluded):,}", title_justify="left")
    for symbol, reason in sorted(excluded.items()):
        table.add_row(escape(symbol), escape(reason))
    return table


def recommendations_table(rows: pl.DataFrame) -> Table:
    """Stored recommendations, as `read_recommendations` gives them.

    What all of them share, session and model version, stands in the title: a narrow terminal has no room for it.
    """
    shared = {name for name in ("session", "version") if rows[name].n_unique() == 1}
    title = _shared_title(rows.row(0, named=True), shared)
    table = Table("Symbol", "Profile", "Call", title=title, title_justify="left")
    for heading in ("Confidence", "Expected", "Stop", "Target"):
        table.add_column(heading, justify="right")
    for name in ("session", "version"):
        if name not in shared:
            table.add_column(name.capitalize())
    for row in rows.iter_rows(named=True):
        own = {"session": _session(row), "version": _version(row)}
        more = [text for name, text in own.items() if name not in shared]
        table.add_row(escape(row["symbol"]), escape(row["profile"]), _label(row["label"]), *_figures(row), *more)
    return table


def _shared_title(row: Mapping[str, Any], shared: set[str]) -> str:
    parts = [f"session {_session(row)}"] if "session" in shared and row["session"] is not None else []
    parts += [f"model {_version(row)}"] if "version" in shared else []
    return "Recommendations" + (f": {', '.join(parts)}" if parts else "")


def _session(row: Mapping[str, Any]) -> str:
    return "" if row["session"] is None else str(row["session"])


def _version(row: Mapping[str, Any]) -> str:
    known = escape(row["version"])
    return known if row["is_of_active_model"] else f"[yellow]{known} (not active)[/yellow]"


def explanation(found: Mapping[str, Any]) -> list[Any]:
    """What a terminal shows of one recommendation: the call, its probabilities, contributions as bars, the reason.

    Parameters
    ----------
    found : mapping
        As `find_recommendation` gives it.
    """
    evidence, label = found["snapshot"], found["label"]
    raw, calibrated = evidence["probabilities"], evidence["calibrated"]
    close, session = evidence["close"], evidence["session"]
    stop = "" if found["stop_loss"] is None else f"; stop {found['stop_loss']:,.2f}"
    target = "" if found["take_profit"] is None else f", target {found['take_profit']:,.2f}"
    head = f"[bold]{escape(found['symbol'])}[/bold], session {session}, close {close:,.2f}"
    return [
        f"{head}: {_label(label)} for the profile {found['profile']}{stop}{target}",
        f"Probabilities: {_shares(calibrated)}; before calibration {_shares(raw)}",
        f"Forecast: {evidence['predicted_return']:+.1%} over {evidence['horizon']} sessions",
        contribution_table(evidence, label),
        escape(found["justification"] or ""),
    ]


def _shares(probabilities: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {probabilities[name]:.1%}" for name in CLASS_NAMES)


def contribution_table(evidence: Mapping[str, Any], label: str) -> Table:
    """What each feature adds to the score of a label, as bars around a middle line; the largest first."""
    contributions: Mapping[str, float] = evidence["contributions"][label]
    expected = evidence["expected_scores"][label]
    largest = max((abs(value) for value in contributions.values()), default=0.0) or 1.0
    score = expected + sum(contributions.values())
    title = f"What speaks for {label} (right) and against it (left)"
    caption = f"Score of {label}, log-odds: {expected:+.3f} on average, {score:+.3f} here"
    table = Table("Feature", title=title, title_justify="left", caption=caption, caption_justify="left")
    table.add_column("Value", justify="right")
    table.add_column("Contribution", justify="right")
    table.add_column(no_wrap=True)
    for name, value in sorted(contributions.items(), key=lambda entry: (-abs(entry[1]), entry[0])):
        table.add_row(name, _value(name, evidence["features"].get(name)), f"{value:+.3f}", bar(value / largest))
    return table


def _value(name: str, value: float | None) -> str:
    if value is None:
        return "none"
    return f"{value:.2%}" if name.startswith(_FRACTIONS) else f"{value:,.2f}"


def bar(share: float) -> Text:
    """Draw a bar of a share in [-1, 1], to the left or the right of a middle line.

    Examples
    --------
    >>> bar(-0.25).plain
    '            ████│                '
    """
    cells = round(abs(share) * HALF_A_BAR)
    left, right = (cells, 0) if share < 0 else (0, cells)
    text = Text("\N{FULL BLOCK}" * left, style="red").append("\N{BOX DRAWINGS LIGHT VERTICAL}", style="default")
    text.append("\N{FULL BLOCK}" * right, style="green")
    padded = Text(" " * (HALF_A_BAR - left))
    return padded.append_text(text).append(" " * (HALF_A_BAR - right))
