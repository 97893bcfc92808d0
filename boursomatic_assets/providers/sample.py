"""The bundled sample: five US stocks from 2000 to 2013, from the package `bokeh_sampledata`.

Quandl declared these prices (WIKI) public domain and allowed copies: see `THIRD_PARTY.md`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self

import polars as pl

from boursomatic_assets.core.market.adjusted_close import scale_to_adjusted
from boursomatic_assets.core.market.bars import BAR_SCHEMA, INSTRUMENT_SCHEMA
from boursomatic_assets.providers.source import BarBatch, reports_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from boursomatic_assets.providers.source import BarRequest
    from boursomatic_assets.settings import Settings

_FILE = Path(__file__).with_name("sample.parquet")
# Symbol, exchange at the time (ISO 10383), name, GICS sector.
_COMPANIES = (
    ("AAPL", "XNAS", "Apple Inc.", "Information Technology"),
    ("FB", "XNAS", "Facebook, Inc.", "Communication Services"),
    ("GOOG", "XNAS", "Google Inc.", "Communication Services"),
    ("IBM", "XNYS", "International Business Machines Corp.", "Information Technology"),
    ("MSFT", "XNAS", "Microsoft Corp.", "Information Technology"),
)


class SampleProvider:
    """Real prices that need no network: 12,154 daily bars."""

    fetches_by_symbol = False
    description = "bundled sample (bokeh_sampledata: AAPL, FB, GOOG, IBM, MSFT, 2000-2013)"

    @classmethod
    def from_settings(cls, _settings: Settings) -> Self:
        """Create it; it reads no setting."""
        return cls()

    def instruments(self) -> pl.DataFrame:
        """The five companies."""
        rows = [(*company, "large", None, "USD") for company in _COMPANIES]
        return pl.DataFrame(rows, schema=INSTRUMENT_SCHEMA, orient="row")

    def bars(self) -> pl.DataFrame:
        """Bars scaled by `adj_close / close`: the file holds unadjusted prices."""
        typed = pl.read_parquet(_FILE).with_columns(pl.col("volume").cast(pl.Float64))
        return scale_to_adjusted(typed.select(*BAR_SCHEMA, "adj_close"))

    def batches(self, _requests: Sequence[BarRequest] = ()) -> Iterator[BarBatch]:
        """All bars in one batch."""
        bars = self.bars()
        yield BarBatch(bars, reports_of(bars, "sample"), adjusted=True)
