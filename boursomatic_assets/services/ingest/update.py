"""One way to look at a source and to bring the bars up to date, whatever kind of source it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boursomatic_assets.providers.database import DatabaseProvider
from boursomatic_assets.services.ingest.bars import BarUpdate, look_through, survey, take_all
from boursomatic_assets.services.ingest.fetching import fetch_missing

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from boursomatic_assets.providers.source import Provider
    from boursomatic_assets.settings import Settings
    from boursomatic_assets.storage.postgres.database import Database


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
