"""Prices that another program keeps in the table `price_bars`: nothing is fetched, nothing is written to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import polars as pl

from boursomatic_assets.core.market.bars import INSTRUMENT_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from boursomatic_assets.providers.source import Delivery, Wish
    from boursomatic_assets.settings import Settings


class DatabaseProvider:
    """The tables as they are. It has instruments and bars already where they belong, and delivers none."""

    description = "bars that another program keeps in the table price_bars"
    asks_for_wishes = False

    @classmethod
    def from_settings(cls, _settings: Settings) -> Self:
        """Build it; the database is the one in use."""
        return cls()

    def instruments(self) -> pl.DataFrame:
        """No rows: they are in the table `instruments`."""
        return pl.DataFrame(schema=INSTRUMENT_SCHEMA)

    def deliveries(self, _wishes: Sequence[Wish] = ()) -> Iterator[Delivery]:
        """Nothing: it is there."""
        return iter(())
