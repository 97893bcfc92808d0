"""What an update of the bars did, and what the stored ones lack, as metadata that people read."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from boursomatic_assets.core.fetch_report import Outcome
from boursomatic_assets.display.metadata import markdown_table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from boursomatic_assets.core.calendars import SessionAudit
    from boursomatic_assets.core.fetch_report import SymbolReport
    from boursomatic_assets.storage.adjustments_table import Corrections
    from boursomatic_assets.updates.bars import BarUpdate

ROWS_SHOWN = 20


def update_metadata(update: BarUpdate, corrections: Corrections) -> dict[str, Any]:
    """What came from where, what was set aside and why, which history was rewritten, what waits for a person."""
    outcomes = Counter(report.outcome.value for report in update.reports)
    sources = Counter(report.source for report in update.reports if report.outcome is Outcome.FETCHED)
    rewritten = update.rewritten.sort("rows", descending=True)
    return {
        "outcomes": dict(outcomes),
        "sources": {str(name): count for name, count in sources.items()},
        "not_arrived": _why_not(update.reports),
        "symbol_reports": _table(_reports(update.reports)),
        "rejected_rows": update.tally.rejected,
        "rejected_share": update.tally.rejected_share,
        "rejected_reasons": update.tally.reasons,
        "rejected_preview": _table(update.tally.examples),
        "rewritten_rows": int(rewritten["rows"].sum()),
        "rewritten_since": str(rewritten["since"].min()) if rewritten.height else "",
        "rewritten_symbols": _table(rewritten),
        "disagreements": _table(update.disagreements),
        "adjustments_applied": corrections.adjustments.height,
        "quarantined": corrections.quarantined,
    }


def _why_not(reports: Sequence[SymbolReport]) -> dict[str, str]:
    """Why the first symbols that did not arrive did not."""
    missing = [report for report in reports if report.outcome is not Outcome.FETCHED]
    return {
        report.symbol: ": ".join(filter(None, [report.outcome.value, report.detail]))
        for report in missing[:ROWS_SHOWN]
    }


def _reports(reports: Sequence[SymbolReport]) -> pl.DataFrame:
    """A row per symbol, those that brought nothing first."""
    rows = [
        (report.symbol, report.outcome.value, report.source, report.rows, report.first, report.last, report.detail)
        for report in sorted(reports, key=lambda report: (report.outcome is Outcome.FETCHED, report.symbol))
    ]
    names = {
        "symbol": pl.String, "outcome": pl.String, "source": pl.String, "rows": pl.Int64, "first": pl.Date,
        "last": pl.Date, "why": pl.String,
    }  # fmt: skip
    return pl.DataFrame(rows, schema=names, orient="row")


def arrival_metadata(reports: Sequence[SymbolReport]) -> dict[str, Any]:
    """How many symbols arrived, and why the others did not."""
    missing = [report for report in reports if report.outcome is not Outcome.FETCHED]
    return {
        "arrived": len(reports) - len(missing),
        "asked_for": len(reports),
        "why_not": dict(Counter(report.outcome.value for report in missing)),
        "not_arrived": _table(_reports(missing)),
    }


def audit_metadata(audit: SessionAudit, newest: date | None) -> dict[str, Any]:
    """Counts of one exchange, and the first rows of what is amiss."""
    if audit.exchanges.is_empty():
        return {"symbols": 0}
    row = audit.exchanges.row(0, named=True)
    return {
        **{name: row[name] for name in ("symbols", "expected", "stored", "missing", "extra", "stale_runs")},
        "newest_session": str(row["newest"]),
        "newest_complete_session": str(newest) if newest else "not asked: the source is as new as it is",
        "missing_sessions": _table(audit.missing.sort("session", descending=True)),
        "extra_rows": _table(audit.extra.sort("session", descending=True)),
        "stale_rows": _table(audit.stale.sort("rows", descending=True)),
    }


def _table(frame: pl.DataFrame) -> dg.MarkdownMetadataValue:
    more = f"\n\nand {frame.height - ROWS_SHOWN:,} more" if frame.height > ROWS_SHOWN else ""
    return dg.MetadataValue.md((markdown_table(frame.head(ROWS_SHOWN)) + more) if frame.height else "none")
