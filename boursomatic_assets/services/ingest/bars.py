"""Update of the table `price_bars` from a source."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import polars as pl

from boursomatic_assets.core.market.bars import PANEL_KEY, BarTally, CheckedBars, check_bars, require_usable
from boursomatic_assets.core.market.corporate_actions import (
    ADJUSTMENT_SCHEMA,
    apply_adjustments,
    split_like_jumps,
)
from boursomatic_assets.core.market.isolated_prices import LONGEST, set_aside_isolated
from boursomatic_assets.core.market.price_steps import WINDOW
from boursomatic_assets.core.market.vendor_actions import applied_ratios
from boursomatic_assets.storage.postgres.adjustments_table import read_actions, replace_actions, replace_jumps
from boursomatic_assets.storage.postgres.database import UpsertCounts
from boursomatic_assets.storage.postgres.market_tables import (
    WrittenBars,
    read_bars,
    read_beside,
    symbol_batches,
    upsert_bars,
)
from boursomatic_assets.storage.postgres.panels import Selection

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

    from boursomatic_assets.core.market.fetch_report import SymbolReport
    from boursomatic_assets.providers.source import BarBatch, Provider
    from boursomatic_assets.settings import Settings
    from boursomatic_assets.storage.postgres.database import Cursor, Database

_REWRITTEN_SCHEMA = {"symbol": pl.String, "rows": pl.UInt32, "since": pl.Date}
DISAGREEMENT_SCHEMA = {
    "symbol": pl.String, "session": pl.Date, "source": pl.String, "stored_close": pl.Float64,
    "delivered_close": pl.Float64,
}  # fmt: skip


@dataclass(frozen=True)
class StoredBeside:
    """Stored bars around a batch, and what vendors state of their symbols, of `ACTION_SCHEMA`."""

    bars: pl.DataFrame
    actions: pl.DataFrame


@dataclass
class BarUpdate:
    """Running result of an update.

    `rewritten` has `symbol`, `rows` and `since` of stored bars that the source changed. `disagreements` has closes
    on which two sources differ by more than 1 %. `left_out` counts rows without trading, by reason.
    """

    reports: list[SymbolReport] = field(default_factory=list)
    tally: BarTally = field(default_factory=BarTally)
    counts: UpsertCounts = field(default_factory=lambda: UpsertCounts(0, 0, 0))
    rewritten: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=_REWRITTEN_SCHEMA))
    disagreements: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=DISAGREEMENT_SCHEMA))
    left_out: Counter[str] = field(default_factory=Counter)

    def add(self, written: WrittenBars, unchanged: int = 0) -> None:
        """Count one more write, and rows that were found unchanged before it."""
        self.counts = self.counts + written.counts + UpsertCounts(0, 0, unchanged)
        if written.rewritten.height:
            self.rewritten = pl.concat([self.rewritten, written.rewritten])


def tally_source(provider: Provider, settings: Settings, today: date) -> BarTally:
    """Check everything that a local source holds; raises BarContractError as `require_usable` does."""
    tally = BarTally()
    for batch in provider.batches():
        tally = tally.plus(checked_batch(batch, today))
    require_usable(tally, settings.max_rejected_share, provider.description)
    return tally


def checked_batch(batch: BarBatch, today: date, stored: StoredBeside | None = None) -> CheckedBars:
    """Check the bars of a batch, each alone and against the sessions around it, such as stored ones."""
    checked = check_bars(batch.bars, today)
    if stored is None:
        stored = StoredBeside(checked.accepted.clear(), batch.actions.clear())
    actions = pl.concat([stored.actions.join(batch.actions, on=PANEL_KEY, how="anti"), batch.actions])
    if actions.is_empty():
        return set_aside_isolated(checked, stored.bars)
    # Judged as they will be read; set aside as they came.
    ratios = applied_ratios(pl.DataFrame(schema=ADJUSTMENT_SCHEMA), actions)
    read = CheckedBars(apply_adjustments(checked.accepted, ratios), checked.rejected.clear())
    gone = set_aside_isolated(read, apply_adjustments(stored.bars, ratios)).rejected.select(*PANEL_KEY, "reason")
    came = pl.concat([checked.accepted, stored.bars.select(checked.accepted.columns)])
    rejected = pl.concat([checked.rejected, came.join(gone, on=PANEL_KEY)])
    return CheckedBars(
        checked.accepted.join(gone, on=PANEL_KEY, how="anti", maintain_order="left"),
        rejected.sort([*PANEL_KEY, "reason"], maintain_order=True),
    )


def stored_beside(cursor: Cursor, batch: BarBatch) -> StoredBeside:
    """Stored bars around a batch: they show each symbol's usual moves, and whether its ends jump."""
    dated = batch.bars.select(pl.col("symbol").cast(pl.String), pl.col("session").cast(pl.Date)).drop_nulls()
    bars = read_beside(cursor, dated, before=WINDOW + 2, after=LONGEST + 1)
    return StoredBeside(bars, read_actions(cursor, bars["symbol"].unique().to_list()))


def without_stored(checked: CheckedBars, beside: pl.DataFrame) -> CheckedBars:
    """Drop rejections of stored bars, so that a source is judged by its own rows."""
    own = checked.rejected.join(beside.select(PANEL_KEY), on=PANEL_KEY, how="anti", maintain_order="left")
    return CheckedBars(checked.accepted, own)


def store_all(
    database: Database, provider: Provider, settings: Settings, today: date, note: Callable[[str], None]
) -> BarUpdate:
    """Store all that a local source holds in one transaction; raises BarContractError as `require_usable`."""
    update, source = BarUpdate(), ":".join(filter(None, [settings.provider, settings.provider_path]))
    with database.bulk() as cursor:
        for batch in provider.batches():
            stored = stored_beside(cursor, batch)
            checked = checked_batch(batch, today, stored)
            update.tally = update.tally.plus(without_stored(checked, stored.bars))
            update.reports.extend(batch.reports)
            update.left_out.update(batch.left_out)
            update.add(upsert_bars(cursor, checked, source))
            replace_actions(cursor, _spans(checked.accepted), batch.actions)
            record_jumps(cursor, checked, stored.bars)
            note(f"{len(update.reports):,} symbols, {update.tally.accepted:,} bars")
        require_usable(update.tally, settings.max_rejected_share, provider.description)
    return update


def _spans(bars: pl.DataFrame) -> pl.DataFrame:
    """Spans for which a batch states the actions: after the first bar of a symbol, up to its last one."""
    return bars.group_by("symbol").agg(after=pl.col("session").min(), until=pl.col("session").max())


def scan_stored(database: Database, note: Callable[[str], None]) -> BarUpdate:
    """Record the jumps of a table that another program fills; nothing is fetched or written to it."""
    rows = 0
    for symbols in symbol_batches(database):
        bars = read_bars(database, selection=Selection(symbols=symbols))
        rows += bars.height
        with database.bulk() as cursor:
            record_jumps(cursor, CheckedBars(bars, bars.clear()), bars.clear())
        note(f"{rows:,} bars searched")
    return BarUpdate(tally=BarTally(accepted=rows), counts=UpsertCounts(0, 0, rows))


def record_jumps(cursor: Cursor, bars: CheckedBars, beside: pl.DataFrame) -> None:
    """Record unexplained jumps of new bars; one without an adjustment quarantines its symbol.

    `beside` holds stored bars before and behind them: a split may lie between two batches.
    """
    new = bars.accepted
    if new.is_empty():
        return
    stored = beside.join(bars.rejected.select(PANEL_KEY), on=PANEL_KEY, how="anti")
    near = stored.filter(pl.col("symbol").is_in(new["symbol"].unique().implode())).select(new.columns)
    panel = pl.concat([new, near]).sort(PANEL_KEY) if near.height else new
    spans = new.group_by("symbol").agg(first=pl.col("session").min(), last=pl.col("session").max())
    around = near.join(spans, on="symbol").group_by("symbol")
    behind = pl.col("session") > pl.col("last")
    reached = around.agg(
        before=pl.col("session").filter(~behind).max(), after=pl.col("session").filter(behind).min()
    )
    # A jump into the first searched bar cannot be seen.
    searched = spans.join(reached, on="symbol", how="left").select(
        "symbol", after=pl.coalesce("before", "first"), until=pl.coalesce("after", "last")
    )
    # Explained jumps are recorded too: they count again when their adjustment is removed. What a vendor states is
    # applied: only what it leaves is a jump.
    stated = read_actions(cursor, new["symbol"].unique().to_list())
    read = apply_adjustments(panel, applied_ratios(pl.DataFrame(schema=ADJUSTMENT_SCHEMA), stated))
    jumps = split_like_jumps(read).join(searched, on="symbol")
    inside = jumps.filter((pl.col("session") > pl.col("after")) & (pl.col("session") <= pl.col("until")))
    replace_jumps(cursor, searched, inside)
