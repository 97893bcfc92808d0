"""What figures rest on, for people: suspect prices by symbol and session, and the benchmark's sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from boursomatic_assets.display.ui.metadata import markdown_table

if TYPE_CHECKING:
    from collections.abc import Mapping

NONE_FOUND = "none found"
_TABLES = ("moves", "instruments_grown", "book_sessions", "figures")


def rests_on(evaluation: Mapping[str, Any]) -> dict[str, str]:
    """What the benchmark covers, and which suspect prices the figures rest on, a sentence each."""
    return {
        "benchmark": evaluation["benchmark"]["sentence"],
        "suspect_prices": evaluation["suspects"]["sentence"] or NONE_FOUND,
    }


def suspects_metadata(suspects: Mapping[str, Any]) -> dict[str, Any]:
    """Suspects as counts and tables; without what was not found."""
    tables = {
        name: dg.MetadataValue.md(markdown_table(pl.DataFrame(suspects[name], infer_schema_length=None)))
        for name in _TABLES
        if suspects[name]
    }
    looked_at = {} if suspects["instruments"] is None else {"instruments": suspects["instruments"]}
    return {"suspect_moves": suspects["moves_found"], "possible": suspects["possible"], **looked_at, **tables}
