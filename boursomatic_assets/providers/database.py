"""Prices that another program writes to the table `price_bars`; this provider fetches and writes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import polars as pl

from boursomatic_assets.core.market.bars import INSTRUMENT_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from boursomatic_assets.providers.source import BarBatch, BarRequest
    from boursomatic_assets.settings import Settings


class DatabaseProvider:
    """Provider for tables that another program fills: it delivers nothing."""

    description = "bars that another program keeps in the table price_bars"
    fetches_by_symbol = False

    @classmethod
    def from_settings(cls, _settings: Settings) -> Self:
        """Create it; it reads no setting."""
        return cls()

    def instruments(self) -> pl.DataFrame:
        """No rows: the table `instruments` has them."""
        return pl.DataFrame(schema=INSTRUMENT_SCHEMA)

    def batches(self, _requests: Sequence[BarRequest] = ()) -> Iterator[BarBatch]:
        """No batches: the bars are stored already."""
        return iter(())
