"""One way to look at a source and to bring the bars up to date, whatever kind of source it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from boursomatic_assets.core.market.fingerprints import fingerprint
from boursomatic_assets.providers.database import DatabaseProvider
from boursomatic_assets.services.ingest.bars import BarUpdate, look_through, survey, take_all
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
    """What the table `price_bars` holds.

    Attributes
    ----------
    content : DataFrame
        As `read_content` gives it.
    corrections : Corrections
        Adjustments, quarantined symbols and jumps that wait to be explained.
    newest : DataFrame
        The newest bar of a few symbols.
    """

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
        """Version of the usable bars: equal bars, adjustments, actions and quarantine, equal version."""
        entered, actions = self.corrections.adjustments, self.corrections.actions
        stated = [fingerprint(actions)] if actions.height else []
        return version_of(self.content, str(entered.rows()), str(self.corrections.quarantined), *stated)


def require_believable(provider: Provider, settings: Settings, now: datetime) -> frozenset[str] | None:
    """Stop where a source at hand cannot be believed; one that is fetched, or stored already, shows as it goes.

    Returns
    -------
    frozenset of str or None
        Symbols of the bars that keep the contract; None where they are not known yet.

    Raises
    ------
    BarContractError
        As `require_usable`.
    """
    if not provider.asks_for_wishes and not isinstance(provider, DatabaseProvider):
        return survey(provider, settings, now.date()).symbols
    return None


def update_bars(
    database: Database, provider: Provider, settings: Settings, now: datetime, note: Callable[[str], None]
) -> BarUpdate:
    """Bring the table `price_bars` up to date.

    Parameters
    ----------
    database : Database
    provider : Provider
    settings : Settings
    now : datetime
        With a time zone.
    note : callable
        Is told how far it is.
    """
    if provider.asks_for_wishes:
        return fetch_missing(database, provider, settings, now, note)
    if isinstance(provider, DatabaseProvider):
        return look_through(database, note)
    return take_all(database, provider, settings, now.date(), note)
