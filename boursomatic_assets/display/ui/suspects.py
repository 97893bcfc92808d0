"""What figures rest on, for people: suspect prices by symbol and session, and the benchmark's sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from boursomatic_assets.display.ui.metadata import markdown_table

if TYPE_CHECKING:
    from boursomatic_assets.core.evaluation.evaluation import Suspects

NONE_FOUND = "none found"
_TABLES = ("moves", "instruments_grown", "book_sessions", "figures")


def rests_on(benchmark: str, suspects: Suspects) -> dict[str, str]:
    """What the benchmark covers, and which suspect prices the figures rest on, a sentence each."""
    return {
        "benchmark": benchmark,
        "suspect_prices": suspects.sentence or NONE_FOUND,
    }


def suspects_metadata(suspects: Suspects) -> dict[str, Any]:
    """Suspects as counts and tables; without what was not found."""
    found = {name: getattr(suspects, name) for name in _TABLES}
    tables = {
        name: dg.MetadataValue.md(markdown_table(pl.DataFrame(rows, infer_schema_length=None)))
        for name, rows in found.items()
        if rows
    }
    looked_at = {} if suspects.instruments is None else {"instruments": suspects.instruments}
    return {"suspect_moves": suspects.moves_found, "possible": suspects.possible, **looked_at, **tables}
