"""The table `instruments` brought up to date."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from boursomatic_assets.services.ingest.update import require_believable
from boursomatic_assets.storage.postgres.instruments_table import (
    read_instruments,
    write_instruments,
    write_universe,
)

if TYPE_CHECKING:
    from datetime import datetime

    from boursomatic_assets.providers.source import Provider
    from boursomatic_assets.settings import Settings
    from boursomatic_assets.storage.postgres.database import Database, UpsertCounts


@dataclass(frozen=True)
class InstrumentUpdate:
    """What an update of the instruments did.

    Attributes
    ----------
    listed : DataFrame
        The table as it is now.
    counts : UpsertCounts
    became_inactive : list of str
        Symbols that left the universe.
    source : str
        Where the instruments come from.
    """

    listed: pl.DataFrame
    counts: UpsertCounts
    became_inactive: list[str]
    source: str


def update_instruments(
    database: Database, provider: Provider, settings: Settings, now: datetime
) -> InstrumentUpdate:
    """Write the instruments of a source; from a source at hand only blanks are filled.

    Raises
    ------
    BarContractError
        If the bars of a source at hand cannot be believed: it brings no instruments either.
    """
    left: list[str] = []
    if provider.asks_for_wishes:
        counts, left = write_universe(database, provider.instruments())
    else:
        sound = require_believable(provider, settings, now)
        found = provider.instruments()
        # Instruments of which every row is set aside are left out too.
        kept = found if sound is None else found.filter(pl.col("symbol").is_in(list(sound)))
        counts = write_instruments(database, kept)
    return InstrumentUpdate(read_instruments(database), counts, left, provider.description)
