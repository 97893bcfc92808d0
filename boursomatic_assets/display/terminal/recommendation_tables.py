"""Recommendations in the terminal: tables, and contributions as bars around a middle line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from boursomatic_assets.core.dataset.experiment import PROFILE_NAMES
from boursomatic_assets.core.dataset.labels import CLASS_NAMES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl

STRONGEST = 5
HALF_A_BAR = 16
COLOURS = {"BUY": "green", "HOLD": "dim", "SELL": "red"}
# Features that are fractions, shown in percent.
_FRACTIONS = ("ret_", "momentum_", "vol_", "natr_")


def mix_table(metadata: Mapping[str, Any]) -> Table:
    """Calls of each profile, from the asset's metadata as plain values."""
    table = Table("Profile", *(Column(name, justify="right") for name in CLASS_NAMES))
    for profile in PROFILE_NAMES:
        table.add_row(profile, *(f"{metadata[f'{profile}_{name.lower()}']:,}" for name in CLASS_NAMES))
    return table


def made_line(metadata: Mapping[str, Any]) -> str:
    """Number of recommendations, their session, and the instruments left out."""
    first, last, left_out = (metadata[name] for name in ("first_session", "last_session", "excluded_instruments"))
    span = last if first == last else f"{first} .. {last}"
    return (
        f"Recommendations: {metadata['dagster/row_count']:,} on {metadata['instruments']:,} instruments, "
        f"session {span}"
        + (f"; {left_out:,} instrument{'' if left_out == 1 else 's'} left out" if left_out else "")
    )


def written_line(metadata: Mapping[str, Any]) -> str:
    """Rows written, and the model version."""
    return (
        f"Rows: {metadata['rows_added']:,} new, {metadata['rows_archived']:,} archived, "
        f"{metadata['rows_unchanged']:,} as they were; model version {metadata['version']}"
    )


def calls_table(calls: Sequence[Mapping[str, Any]], count: int = STRONGEST) -> Table:
    """The most probable calls; `calls` is from `strongest_calls`."""
    table = Table("Symbol", "Call", "Profiles", *_numbers(), title="Strongest calls", title_justify="left")
    for call in calls[:count]:
        profiles = "all" if len(call["profiles"]) == len(PROFILE_NAMES) else " & ".join(call["profiles"])
        table.add_row(escape(call["symbol"]), _label(call["label"]), profiles, *_figures(call))
    return table


def reason_lines(calls: Sequence[Mapping[str, Any]], count: int = STRONGEST) -> list[str]:
    """The reason of each call, one line each: sentences need a terminal's whole width."""
    return [f"[bold]{escape(call['symbol'])}[/bold] {escape(call['justification'])}" for call in calls[:count]]


def _label(label: str) -> str:
    return f"[{COLOURS[label]}]{label}[/{COLOURS[label]}]" if label in COLOURS else escape(label)


def _numbers() -> list[Column]:
    return [Column(heading, justify="right") for heading in ("Confidence", "Expected", "Stop", "Target")]


def _figures(row: Mapping[str, Any]) -> list[str]:
    expected, prices = row["expected_return_pct"], (row["stop_loss"], row["take_profit"])
    return [
        f"{row['confidence']:.0%}",
        "" if expected is None else f"{expected:+.1f} %",
        *("" if price is None else f"{price:,.2f}" for price in prices),
    ]


def exclusions_table(excluded: Mapping[str, str]) -> Table:
    """Every instrument left out, with the reason."""
    table = Table("Symbol", "Why", title=f"Left out: {len(excluded):,}", title_justify="left")
    for symbol, reason in sorted(excluded.items()):
        table.add_row(escape(symbol), escape(reason))
    return table


def recommendations_table(rows: pl.DataFrame) -> Table:
    """Stored recommendations, from `read_recommendations`.

    Session and model version stand in the title if all rows share them: a narrow terminal has no room for a column.
    """
    shared = {name for name in ("session", "version") if rows[name].n_unique() == 1}
    title = _shared_title(rows.row(0, named=True), shared)
    differing = [name for name in ("session", "version") if name not in shared]
    table = Table("Symbol", "Profile", "Call", *_numbers(), *map(str.capitalize, differing), title=title)
    table.title_justify = "left"
    for row in rows.iter_rows(named=True):
        own = {"session": _session(row), "version": _version(row)}
        more = [own[name] for name in differing]
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


def explanation(recommendation: Mapping[str, Any]) -> list[Any]:
    """One recommendation: the call, its probabilities, contributions as bars, the reason."""
    evidence, label = recommendation["snapshot"], recommendation["label"]
    raw, calibrated = evidence["probabilities"], evidence["calibrated"]
    close, session = evidence["close"], evidence["session"]
    stop = "" if recommendation["stop_loss"] is None else f"; stop {recommendation['stop_loss']:,.2f}"
    target = "" if recommendation["take_profit"] is None else f", target {recommendation['take_profit']:,.2f}"
    head = f"[bold]{escape(recommendation['symbol'])}[/bold], session {session}, close {close:,.2f}"
    return [
        f"{head}: {_label(label)} for the profile {recommendation['profile']}{stop}{target}",
        f"Probabilities: {_shares(calibrated)}; before calibration {_shares(raw)}",
        f"Forecast: {evidence['predicted_return']:+.1%} over {evidence['horizon']} sessions",
        contribution_table(evidence, label),
        escape(recommendation["justification"] or ""),
    ]


def _shares(probabilities: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {probabilities[name]:.1%}" for name in CLASS_NAMES)


def contribution_table(evidence: Mapping[str, Any], label: str) -> Table:
    """The contribution of each feature to the score of a label, as bars, the largest first."""
    contributions: Mapping[str, float] = evidence["contributions"][label]
    expected = evidence["expected_scores"][label]
    largest = max((abs(value) for value in contributions.values()), default=0.0) or 1.0
    score = expected + sum(contributions.values())
    title = f"What speaks for {label} (right) and against it (left)"
    caption = f"Score of {label}, log-odds: {expected:+.3f} on average, {score:+.3f} here"
    numbers = (Column(heading, justify="right") for heading in ("Value", "Contribution"))
    table = Table("Feature", *numbers, Column(no_wrap=True), title=title, title_justify="left")
    table.caption, table.caption_justify = caption, "left"
    for name, value in sorted(contributions.items(), key=lambda entry: (-abs(entry[1]), entry[0])):
        table.add_row(name, _value(name, evidence["features"].get(name)), f"{value:+.3f}", bar(value / largest))
    return table


def _value(name: str, value: float | None) -> str:
    if value is None:
        return "none"
    return f"{value:.2%}" if name.startswith(_FRACTIONS) else f"{value:,.2f}"


def bar(share: float) -> Text:
    """A bar of a share in [-1, 1], left or right of a middle line.

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
