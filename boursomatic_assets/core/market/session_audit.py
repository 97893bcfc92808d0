"""Audit of stored bars against exchange calendars: missing bars, extra bars, stale runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import polars as pl

from boursomatic_assets.core.market.bars import PANEL_KEY, require_panel
from boursomatic_assets.core.market.calendars import before_first_trade, known_sessions, with_calendar

if TYPE_CHECKING:
    from collections.abc import Sequence

STALE_ROWS = 10
FRIDAY = 5


@dataclass(frozen=True)
class SessionAudit:
    """Stored bars compared with the sessions of their exchanges."""

    # Per calendar: `symbols`, `newest` session stored, and the number of bars `expected` (sessions between the
    # first and last bar of each), `stored`, `missing`, `extra` and `before_trading`, and of `stale_runs`.
    exchanges: pl.DataFrame
    missing: pl.DataFrame  # `calendar`, `symbol`, `session` of sessions without a bar
    extra: pl.DataFrame  # `calendar`, `symbol`, `session`, `volume` of bars on dates without a session
    stale: pl.DataFrame  # `calendar`, `symbol`, `first`, `last`, `rows` of 10 or more equal closes without volume

    @classmethod
    def sum(cls, audits: Sequence[SessionAudit]) -> Self:
        """Add up audits of different symbols, at least one."""
        rows = pl.concat(audit.exchanges for audit in audits)
        counts = pl.exclude("calendar", "newest").sum()
        return cls(
            exchanges=rows.group_by("calendar")
            .agg(counts, pl.col("newest").max())
            .select(rows.columns)
            .sort("calendar"),
            missing=pl.concat(audit.missing for audit in audits),
            extra=pl.concat(audit.extra for audit in audits),
            stale=pl.concat(audit.stale for audit in audits),
        )


def audit_sessions(bars: pl.DataFrame) -> SessionAudit:
    """Compare a bar panel, with `exchange`, with the sessions of its exchanges; unknown exchanges are left out."""
    require_panel(bars, ["close", "volume", "exchange"])
    dated = with_calendar(bars)
    known, key = known_sessions(dated), ["calendar", "session"]
    extra = dated.join(known, on=key, how="anti", maintain_order="left").select("calendar", *PANEL_KEY, "volume")
    missing = _missing(dated, known)
    stale, early = _stale_runs(dated), before_first_trade(dated)
    rows = dated.group_by("calendar").agg(
        pl.col("symbol").n_unique().alias("symbols"), newest=pl.col("session").max(), stored=pl.len()
    )
    for name, table in {"missing": missing, "extra": extra, "before_trading": early, "stale_runs": stale}.items():
        rows = rows.join(table.group_by("calendar").agg(pl.len().alias(name)), on="calendar", how="left")
    counts = ("stored", "missing", "extra", "before_trading", "stale_runs")
    exchanges = rows.with_columns(pl.col(name).fill_null(0).cast(pl.Int64) for name in counts).with_columns(
        expected=pl.col("stored") - pl.col("extra") + pl.col("missing")
    )
    order = ["calendar", "symbols", "newest", "expected", *counts]
    return SessionAudit(exchanges.select(order).sort("calendar"), missing, extra, stale)


def traded_on_weekends(extra: pl.DataFrame) -> pl.DataFrame:
    """Rows of `SessionAudit.extra` on a weekend with a volume: an intraday price that a source stored as a bar."""
    return extra.filter((pl.col("session").dt.weekday() > FRIDAY) & (pl.col("volume") > 0))


def _missing(dated: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    inside = dated.join(known, on=["calendar", "session"], how="semi")
    spans = inside.group_by("calendar", "symbol").agg(
        first=pl.col("session").min(), last=pl.col("session").max(), rows=pl.len()
    )
    numbered = known.sort("calendar", "session").with_columns(number=pl.int_range(pl.len()).over("calendar"))
    for end in ("first", "last"):
        number = numbered.select("calendar", pl.col("session").alias(end), pl.col("number").alias(f"{end}_number"))
        spans = spans.join(number, on=["calendar", end])
    # Only the few symbols with a gap are compared date by date.
    gaps = spans.filter(pl.col("last_number") - pl.col("first_number") + 1 > pl.col("rows"))
    expected = gaps.join(known, on="calendar").filter(pl.col("session").is_between("first", "last"))
    return (
        expected.join(dated, on=PANEL_KEY, how="anti").select("calendar", *PANEL_KEY).sort("calendar", *PANEL_KEY)
    )


def _stale_runs(dated: pl.DataFrame) -> pl.DataFrame:
    idle, repeated = pl.col("volume") == 0, pl.col("close") == pl.col("close").shift(1)
    begins = ~(idle & idle.shift(1) & repeated).fill_null(value=False)
    runs = dated.with_columns(run=begins.cum_sum().over("symbol")).filter(idle)
    return (
        runs.group_by("calendar", "symbol", "run")
        .agg(first=pl.col("session").min(), last=pl.col("session").max(), rows=pl.len())
        .filter(pl.col("rows") >= STALE_ROWS)
        .drop("run")
        .sort("calendar", "symbol", "first")
    )
