"""Update of the table `instruments`."""

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
    """The table after an update, its counts, the symbols that left the universe, and the source."""

    listed: pl.DataFrame
    counts: UpsertCounts
    became_inactive: list[str]
    source: str


def update_instruments(
    database: Database, provider: Provider, settings: Settings, now: datetime
) -> InstrumentUpdate:
    """Write the instruments of a source; a local one only fills blanks, or raises BarContractError."""
    left: list[str] = []
    if provider.fetches_by_symbol:
        counts, left = write_universe(database, provider.instruments())
    else:
        sound = require_believable(provider, settings, now)
        found = provider.instruments()
        # Instruments without a lawful bar are left out.
        kept = found if sound is None else found.filter(pl.col("symbol").is_in(list(sound)))
        counts = write_instruments(database, kept)
    return InstrumentUpdate(read_instruments(database), counts, left, provider.description)
