"""Instruments and bars as the storage functions take them."""

from __future__ import annotations

import polars as pl

from boursomatic_assets.core.market.bars import INSTRUMENT_SCHEMA, CheckedBars


def listed(*symbols: str, exchange: str = "XNYS", **known: str) -> pl.DataFrame:
    """Instruments of these symbols, of which nothing more is known than `known`."""
    blank = dict.fromkeys(INSTRUMENT_SCHEMA)
    found = [{**blank, "symbol": symbol, "exchange": exchange, **known} for symbol in symbols]
    return pl.DataFrame(found, schema=INSTRUMENT_SCHEMA)


def accepted(bars: pl.DataFrame) -> CheckedBars:
    """Bars of which none was rejected."""
    return CheckedBars(bars, bars.clear().with_columns(reason=pl.lit("", pl.String)))
