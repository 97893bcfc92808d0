"""The table `price_bars` brought up to date from a source, and what that did."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import polars as pl

from boursomatic_assets.core.corporate_actions import set_aside_isolated, split_like_jumps
from boursomatic_assets.core.market_data import BarTally, CheckedBars, check_bars, require_usable
from boursomatic_assets.storage.adjustments_table import replace_jumps
from boursomatic_assets.storage.database import UpsertCounts
from boursomatic_assets.storage.market_tables import Written, read_bars, symbol_batches, upsert_bars
from boursomatic_assets.storage.panels import Part

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

    from boursomatic_assets.core.fetch_report import SymbolReport
    from boursomatic_assets.providers.source import Delivery, Provider
    from boursomatic_assets.settings import Settings
    from boursomatic_assets.storage.database import Database

_REWRITTEN_SCHEMA = {"symbol": pl.String, "rows": pl.UInt32, "since": pl.Date}
_DISAGREEMENT_SCHEMA = {
    "symbol": pl.String, "session": pl.Date, "source": pl.String, "stored_close": pl.Float64,
    "delivered_close": pl.Float64,
}  # fmt: skip


@dataclass
class BarUpdate:
    """What an update did, added up as it goes.

    Attributes
    ----------
    reports : list of SymbolReport
        What became of each symbol.
    tally : BarTally
        Bars that kept the contract, and those that did not.
    counts : UpsertCounts
        Rows written and left alone.
    rewritten : DataFrame
        `symbol`, `rows` and `since` of stored bars that the source has changed.
    disagreements : DataFrame
        Closes on which two sources differ by more than 1 %: `symbol`, `session`, the second `source`, and both.
    left_out : Counter
        Rows of the source that are no trading, by reason.
    """

    reports: list[SymbolReport] = field(default_factory=list)
    tally: BarTally = field(default_factory=BarTally)
    counts: UpsertCounts = field(default_factory=lambda: UpsertCounts(0, 0, 0))
    rewritten: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=_REWRITTEN_SCHEMA))
    disagreements: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=_DISAGREEMENT_SCHEMA))
    left_out: Counter[str] = field(default_factory=Counter)

    def add(self, written: Written, unchanged: int = 0) -> None:
        """Count one more write, and rows that were found unchanged before it."""
        self.counts = self.counts + written.counts + UpsertCounts(0, 0, unchanged)
        if written.rewritten.height:
            self.rewritten = pl.concat([self.rewritten, written.rewritten])


def survey(provider: Provider, settings: Settings, today: date) -> BarTally:
    """Look through all that a source at hand has, and stop where it cannot be believed.

    Raises
    ------
    BarContractError
        As `require_usable`.
    """
    tally = BarTally()
    for delivery in provider.deliveries():
        tally = tally.plus(judged(delivery, today))
    require_usable(tally, settings.max_rejected_share, provider.description)
    return tally


def judged(delivery: Delivery, today: date) -> CheckedBars:
    """Check the bars of a delivery; where splits may still be in the prices, for isolated ones too."""
    checked = check_bars(delivery.bars, today)
    return checked if delivery.adjusted else set_aside_isolated(checked)


def take_all(
    database: Database, provider: Provider, settings: Settings, today: date, note: Callable[[str], None]
) -> BarUpdate:
    """Store all that a source at hand has, in one transaction: of a source that is refused, nothing lands.

    Raises
    ------
    BarContractError
        As `require_usable`.
    """
    update, source = BarUpdate(), ":".join(filter(None, [settings.provider, settings.provider_path]))
    with database.bulk() as cursor:
        for delivery in provider.deliveries():
            checked = judged(delivery, today)
            update.tally = update.tally.plus(checked)
            update.reports.extend(delivery.reports)
            update.left_out.update(delivery.left_out)
            update.add(upsert_bars(cursor, checked, source))
            note_jumps(cursor, checked.accepted, adjusted=delivery.adjusted)
            note(f"{len(update.reports):,} symbols, {update.tally.accepted:,} bars")
        require_usable(update.tally, settings.max_rejected_share, provider.description)
    return update


def look_through(database: Database, note: Callable[[str], None]) -> BarUpdate:
    """Take the table as it is, filled by another program: nothing is fetched, nothing is written to it."""
    rows = 0
    for symbols in symbol_batches(database):
        bars = read_bars(database, ["open", "close"], Part(symbols=symbols))
        rows += bars.height
        with database.bulk() as cursor:
            note_jumps(cursor, bars, adjusted=False)
        note(f"{rows:,} bars looked through")
    return BarUpdate(tally=BarTally(accepted=rows), counts=UpsertCounts(0, 0, rows))


def note_jumps(cursor: Any, bars: pl.DataFrame, *, adjusted: bool) -> None:  # noqa: ANN401 (an ADBC cursor)
    """Record jumps that look like a split; those without an adjustment quarantine their symbol."""
    if bars.is_empty():
        return
    # A source that has taken splits out of its prices explains all of its jumps by doing so.
    # Those that an entry explains are recorded too: when it is taken back, they count again.
    jumps = split_like_jumps(bars.clear() if adjusted else bars)
    spans = bars.group_by("symbol").agg(first=pl.col("session").min(), last=pl.col("session").max())
    replace_jumps(cursor, spans, jumps)
