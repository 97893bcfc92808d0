"""Check a source and update the bars, for every kind of source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from boursomatic_assets.core.market.fingerprints import fingerprint
from boursomatic_assets.providers.database import DatabaseProvider
from boursomatic_assets.services.ingest.bars import BarUpdate, scan_stored, store_all, tally_source
from boursomatic_assets.services.ingest.fetching import fetch_missing
from boursomatic_assets.storage.postgres.adjustments_table import Corrections, read_corrections
from boursomatic_assets.storage.postgres.content import read_content, version_of
from boursomatic_assets.storage.postgres.market_tables import newest_bars

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    import polars as pl

    from boursomatic_assets.providers.source import Provider
    from boursomatic_assets.settings import Settings
    from boursomatic_assets.storage.postgres.database import Database


@dataclass(frozen=True)
class StoredBars:
    """The table `price_bars`: its content per symbol, corrections, and the newest bar of a few symbols."""

    content: pl.DataFrame
    corrections: Corrections
    newest: pl.DataFrame

    @classmethod
    def read(cls, database: Database) -> StoredBars:
        """Read them."""
        content = read_content(database, "price_bars")
        with database.bulk() as cursor:
            corrections = read_corrections(cursor)
        return cls(content, corrections, newest_bars(database))

    @property
    def version(self) -> str:
        """Version of the usable bars: it depends on bars, adjustments, vendors' actions and quarantine."""
        entered, actions = self.corrections.adjustments, self.corrections.actions
        stated = [fingerprint(actions)] if actions.height else []
        return version_of(self.content, str(entered.rows()), str(self.corrections.quarantined), *stated)


def require_believable(provider: Provider, settings: Settings, now: datetime) -> frozenset[str] | None:
    """Check a local source; returns the symbols with lawful bars, or None for other sources.

    A network source and the stored table are checked as they are read. Raises BarContractError as `require_usable`.
    """
    if not provider.fetches_by_symbol and not isinstance(provider, DatabaseProvider):
        return tally_source(provider, settings, now.date()).symbols
    return None


def update_bars(
    database: Database, provider: Provider, settings: Settings, now: datetime, note: Callable[[str], None]
) -> BarUpdate:
    """Update the table `price_bars`; `now` has a time zone, `note` receives progress messages."""
    if provider.fetches_by_symbol:
        return fetch_missing(database, provider, settings, now, note)
    if isinstance(provider, DatabaseProvider):
        return scan_stored(database, note)
    return store_all(database, provider, settings, now.date(), note)
