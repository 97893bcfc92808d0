"""Metadata of an update of the bars, and of the checks on stored bars."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from boursomatic_assets.core.market.fetch_report import Outcome
from boursomatic_assets.display.ui.data_pictures import coverage_picture
from boursomatic_assets.display.ui.jumps import TO_LOOK_AT, jumps_in_words
from boursomatic_assets.display.ui.metadata import (
    column_lineage,
    content_metadata,
    markdown_table,
    picture,
    table_metadata,
    written_metadata,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from boursomatic_assets.core.market.fetch_report import SymbolReport
    from boursomatic_assets.core.market.session_audit import SessionAudit
    from boursomatic_assets.services.ingest.bars import BarUpdate
    from boursomatic_assets.services.ingest.instruments import InstrumentUpdate
    from boursomatic_assets.services.ingest.jump_audit import JumpAudit
    from boursomatic_assets.services.ingest.update import StoredBars
    from boursomatic_assets.storage.postgres.adjustments_table import Corrections

ROWS_SHOWN = 20


def instruments_metadata(update: InstrumentUpdate, url: str) -> dict[str, Any]:
    """Metadata of the asset `instruments`. `url` is the database's address without its password."""
    return {
        **table_metadata(update.listed),
        **written_metadata(update.counts, url, "instruments"),
        "source": update.source,
        "active": update.listed["is_active"].sum(),
        "became_inactive": update.became_inactive,
    }


def price_bars_metadata(update: BarUpdate, stored: StoredBars, url: str, source: str) -> dict[str, Any]:
    """Metadata of the asset `price_bars`. `source` describes the provider."""
    return {
        **content_metadata(stored.content, stored.newest),
        **column_lineage("price_bars"),
        **written_metadata(update.counts, url, "price_bars"),
        "source": source,
        **(
            {}
            if stored.content.is_empty()
            else {"coverage": picture(coverage_picture(stored.content), "Symbols with bars")}
        ),
        **update_metadata(update, stored.corrections),
    }


def jumps_sentence(found: JumpAudit) -> str | None:
    """The jumps to look at, in words; None without any."""
    said = {
        "Quarantined until explained (boursomatic adjustments add SYMBOL SESSION RATIO): ": found.waiting,
        "Left once adjustments are applied (boursomatic adjustments list): ": found.left,
        "Believed, yet doubtful: ": found.doubtful,
    }
    return ". ".join(words + jumps_in_words(jumps) for words, jumps in said.items() if jumps.height) or None


def jumps_metadata(jumps: JumpAudit) -> dict[str, Any]:
    """The jumps as counts and tables."""
    tables = {
        "quarantined": jumps.waiting, "left": jumps.left, "doubtful": jumps.doubtful,
        "large_moves": jumps.large_moves,
    }  # fmt: skip
    return {
        **({TO_LOOK_AT: jumps.doubtful.height} if jumps.doubtful.height else {}),
        "large_moves_count": jumps.large_moves.height,
        **tables_metadata(tables),
    }


def update_metadata(update: BarUpdate, corrections: Corrections) -> dict[str, Any]:
    """Sources, rejected rows, rewritten history, quarantined symbols, and what is missing."""
    fetched = [report for report in update.reports if report.outcome is Outcome.FETCHED]
    rewritten = update.rewritten.sort("rows", descending=True)
    return {
        "outcomes": dict(Counter(report.outcome.value for report in update.reports)),
        "sources": dict(Counter(str(report.source) for report in fetched)),
        "not_arrived": _why_not(update.reports),
        "rejected_rows": update.tally.rejected,
        "rejected_share": update.tally.rejected_share,
        "rejected_reasons": update.tally.reasons,
        "left_out": dict(update.left_out),
        "rewritten_rows": int(rewritten["rows"].sum()),
        "rewritten_since": str(rewritten["since"].min()) if rewritten.height else "never",
        "adjustments_applied": corrections.adjustments.height,
        "quarantined": corrections.quarantined,
        **tables_metadata(
            {
                "symbol_reports": _reports(update.reports),
                "rejected_preview": update.tally.examples,
                "rewritten_symbols": rewritten,
                "disagreements": update.disagreements,
            }
        ),
    }


def _why_not(reports: Sequence[SymbolReport]) -> dict[str, str]:
    """Reasons for the first symbols that did not arrive."""
    missing = [report for report in reports if report.outcome is not Outcome.FETCHED]
    return {
        report.symbol: ": ".join(filter(None, [report.outcome.value, report.detail]))
        for report in missing[:ROWS_SHOWN]
    }


def _reports(reports: Sequence[SymbolReport]) -> pl.DataFrame:
    """A row per symbol, those that did not arrive first."""
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
        **tables_metadata({"not_arrived": _reports(missing)}),
    }


def first_reasons(reports: Sequence[SymbolReport], shown: int = 3) -> str:
    """Why the first few symbols did not arrive, as a sentence; empty if all did."""
    missing = _why_not(reports)
    reasons = [f"{symbol}: {why}" for symbol, why in list(missing.items())[:shown]]
    return f"Among others {'; '.join(reasons)}" if len(missing) > shown else "; ".join(reasons)


def audit_metadata(audit: SessionAudit, newest: date | None) -> dict[str, Any]:
    """Counts of one exchange, and the first faulty rows."""
    if audit.exchanges.is_empty():
        return {"symbols": 0}
    row = audit.exchanges.row(0, named=True)
    return {
        **{name: value for name, value in row.items() if name not in {"calendar", "newest"}},
        "newest_session": str(row["newest"]),
        "newest_complete_session": str(newest) if newest else "not compared: the source itself sets it",
        **tables_metadata(
            {
                "missing_sessions": audit.missing.sort("session", descending=True),
                "extra_rows": audit.extra.sort("session", descending=True),
                "stale_rows": audit.stale.sort("rows", descending=True),
            }
        ),
    }


def audit_sentence(audit: SessionAudit, newest: date | None) -> str:
    """Faults in the bars of one exchange, each kind with its newest example.

    `audit` has at least one symbol. `newest` is the newest session if the bars are behind it, else None.
    """
    row = audit.exchanges.row(0, named=True)
    said = [] if newest is None else [f"The newest bar is of {row['newest']}, the newest session {newest}"]
    kinds = ((audit.extra, "bars on dates without a session"), (audit.missing, "sessions without a bar"))
    for frame, what in kinds:
        if frame.height:
            last = frame.sort("session", "symbol").row(-1, named=True)
            said.append(f"{frame.height:,} {what} (such as {last['symbol']} {last['session']})")
    if audit.stale.height:
        last = audit.stale.sort("last", "symbol").row(-1, named=True)
        span = f"{last['symbol']} {last['first']} to {last['last']}"
        said.append(f"{audit.stale.height:,} stretches of ten or more bars without trading (such as {span})")
    return "; ".join(said)


def tables_metadata(frames: Mapping[str, pl.DataFrame]) -> dict[str, dg.MarkdownMetadataValue]:
    """The first rows of each frame that is not empty."""
    return {
        name: dg.MetadataValue.md(
            markdown_table(frame.head(ROWS_SHOWN))
            + (f"\n\nand {frame.height - ROWS_SHOWN:,} more" if frame.height > ROWS_SHOWN else "")
        )
        for name, frame in frames.items()
        if frame.height
    }
