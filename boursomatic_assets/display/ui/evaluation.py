"""Metadata of an evaluation: the conclusion, the figures as a table, numbers that plot, suspect prices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg

from boursomatic_assets.display.ui.metadata import bullets, numeric_metadata, plain, table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from boursomatic_assets.core.evaluation.evaluation import Evaluation, Reach, RecordedSurvivors, Suspects
    from boursomatic_assets.core.evaluation.recorded import RecordedFigure

NONE_FOUND = "none found"
REACH, SURVIVORS = "could_have_been_seen", "survivors"
_SUSPECTS = ("moves", "instruments_grown", "book_sessions", "figures")


def evaluation_metadata(evaluation: Evaluation) -> dict[str, Any]:
    """Metadata of the asset `evaluation`."""
    return {
        **conclusion_metadata(evaluation, "figures"),
        "independent_periods": evaluation.independent_periods,
        "trials": evaluation.trials.count,
        **numeric_metadata(evaluation.values),
    }


def conclusion_metadata(evaluation: Evaluation, figures: str) -> dict[str, Any]:
    """Verdict, figures, rows, and what the figures rest on. `figures` names the entry with their table."""
    return {
        "verdict": evaluation.verdict.sentence,
        "remarks": bullets(evaluation.verdict.remarks),
        figures: dg.MetadataValue.md(figures_table(evaluation.figures)),
        **reach_metadata(evaluation.could_have_been_seen, evaluation.survivors),
        **evaluation.model_dump(include={"first_session", "last_session", "sessions", "symbols", "rows"}),
        "rows_closed_at_their_last_price": evaluation.closed_at_last_price["rows"],
        **rests_on(evaluation.benchmark["sentence"], evaluation.suspects),
        "p_values": dg.MetadataValue.json(evaluation.p_values),
    }


def rests_on(benchmark: str, suspects: Suspects) -> dict[str, str]:
    """The sessions that the benchmark covers, and the suspect prices behind the figures, a sentence each."""
    return {"benchmark": benchmark, "suspect_prices": suspects.sentence or NONE_FOUND}


def suspects_metadata(suspects: Suspects) -> dict[str, Any]:
    """Suspect prices as counts and tables; empty tables are left out."""
    return {
        "suspect_moves": suspects.moves_found,
        "possible": suspects.possible,
        **({} if suspects.instruments is None else {"instruments": suspects.instruments}),
        **{name: table(rows) for name in _SUSPECTS if (rows := getattr(suspects, name))},
    }


def figures_table(figures: Sequence[RecordedFigure]) -> str:
    """Figures with interval, p-value, value without skill and baseline, as a Markdown table."""
    head = "| figure | value | 95 % interval | p | without skill | baseline | |\n|---|---|---|---|---|---|---|"
    rows = []
    for figure in figures:
        interval = "" if figure.low is None else f"{shown(figure, 'low')} to {shown(figure, 'high')}"
        p_value = "" if figure.p_value is None else f"{figure.p_value:.3f}"
        rows.append(
            f"| {figure.title} | {shown(figure, 'value')} | {interval} | {p_value} "
            f"| {shown(figure, 'no_skill')} | {shown(figure, 'baseline')} | {plain(figure.baseline_is or '')} |"
        )
    return "\n".join([head, *rows])


def shown(figure: RecordedFigure, field: str) -> str:
    """One of a figure's numbers in its unit; empty where it has none, and why where its value is not defined."""
    number: float | None = getattr(figure, field)
    if number is None:
        return str(figure.why_undefined) if field == "value" else ""
    return f"{100 * number:.2f} %" if figure.unit == "percent" else f"{number:.3f}"


def reach_metadata(reach: Mapping[str, Reach], survivors: RecordedSurvivors) -> dict[str, Any]:
    """The smallest effect that the sample could show, and its survivors: sentences, numbers that plot, tables."""
    return {
        SURVIVORS: survivors.sentence,
        "survivors_by_year": table(survivors.by_year),
        "symbols_ended": survivors.ended,
        REACH: " ".join(found.sentence for found in reach.values()),
        **{
            f"{name}_{part}": number
            for name, found in reach.items()
            for part, number in (("smallest", found.smallest), ("years_for_wanted", found.years_for_wanted))
            if number is not None
        },
    }
