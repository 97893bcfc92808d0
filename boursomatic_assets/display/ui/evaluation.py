"""Metadata of an evaluation: the conclusion, the figures as a table, numbers that plot, suspect prices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg

from boursomatic_assets.core.evaluation.judging import p_values
from boursomatic_assets.core.measures.figures import values_of
from boursomatic_assets.display.ui.metadata import bullets, numeric_metadata, table

if TYPE_CHECKING:
    from collections.abc import Mapping

NONE_FOUND = "none found"
REACH, SURVIVORS = "could_have_been_seen", "survivors"
_SUSPECTS = ("moves", "instruments_grown", "book_sessions", "figures")


def evaluation_metadata(value: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata of the asset `evaluation`."""
    return {
        **conclusion_metadata(value, "figures"),
        "independent_periods": float(value["independent_periods"]),
        "trials": value["trials"]["count"],
        **numeric_metadata(values_of(value)),
    }


def conclusion_metadata(value: Mapping[str, Any], figures: str) -> dict[str, Any]:
    """Verdict, figures, rows, and what the figures rest on. `figures` names the entry with their table."""
    return {
        "verdict": value["verdict"]["sentence"],
        "remarks": bullets(value["verdict"]["remarks"]),
        figures: dg.MetadataValue.md(figures_table(value)),
        **reach_metadata(value),
        **{name: value[name] for name in ("first_session", "last_session", "sessions", "symbols", "rows")},
        "rows_closed_at_their_last_price": value["closed_at_last_price"]["rows"],
        **rests_on(value),
        "p_values": dg.MetadataValue.json(p_values(value)),
    }


def rests_on(evaluation: Mapping[str, Any]) -> dict[str, str]:
    """The sessions that the benchmark covers, and the suspect prices behind the figures, a sentence each."""
    return {
        "benchmark": evaluation["benchmark"]["sentence"],
        "suspect_prices": evaluation["suspects"]["sentence"] or NONE_FOUND,
    }


def suspects_metadata(suspects: Mapping[str, Any]) -> dict[str, Any]:
    """Suspect prices as counts and tables; empty tables are left out."""
    instruments = suspects["instruments"]
    return {
        "suspect_moves": suspects["moves_found"],
        "possible": suspects["possible"],
        **({} if instruments is None else {"instruments": instruments}),
        **{name: table(suspects[name]) for name in _SUSPECTS if suspects[name]},
    }


def figures_table(evaluation: Mapping[str, Any]) -> str:
    """Figures as a Markdown table: value, interval, p-value, value without skill, baseline."""
    head = "| figure | value | 95 % interval | p | without skill | baseline | |\n|---|---|---|---|---|---|---|"
    rows = []
    for figure in evaluation["figures"]:
        interval = "" if figure["low"] is None else f"{shown(figure, 'low')} to {shown(figure, 'high')}"
        p_value = "" if figure["p_value"] is None else f"{figure['p_value']:.3f}"
        rows.append(
            f"| {figure['title']} | {shown(figure, 'value')} | {interval} | {p_value} "
            f"| {shown(figure, 'no_skill')} | {shown(figure, 'baseline')} | {figure['baseline_is'] or ''} |"
        )
    return "\n".join([head, *rows])


def shown(figure: Mapping[str, Any], field: str) -> str:
    """One number of a figure in its unit. Empty where there is none; an undefined value gives its reason."""
    number = figure[field]
    if number is None:
        return str(figure["why_undefined"]) if field == "value" else ""
    return f"{100 * number:.2f} %" if figure["unit"] == "percent" else f"{number:.3f}"


def reach_metadata(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """The smallest effect that the sample could show, and its survivors: sentences, numbers that plot, tables."""
    reach, survivors = evaluation[REACH], evaluation[SURVIVORS]
    return {
        SURVIVORS: survivors["sentence"],
        "survivors_by_year": table(survivors["by_year"]),
        "symbols_ended": survivors["ended"],
        REACH: " ".join(detection["sentence"] for detection in reach.values()),
        **{
            f"{name}_{part}": float(detection[part])
            for name, detection in reach.items()
            for part in ("smallest", "years_for_wanted")
            if detection[part] is not None
        },
    }
