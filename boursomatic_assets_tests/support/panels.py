"""Instruments and bars as the storage functions take them."""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl

from boursomatic_assets.core.dataset.labels import LABEL_TYPE
from boursomatic_assets.core.market.bars import INSTRUMENT_SCHEMA, CheckedBars


def listed(*symbols: str, exchange: str = "XNYS", **known: str) -> pl.DataFrame:
    """Instruments of these symbols, of which nothing more is known than `known`."""
    blank = dict.fromkeys(INSTRUMENT_SCHEMA)
    found = [{**blank, "symbol": symbol, "exchange": exchange, **known} for symbol in symbols]
    return pl.DataFrame(found, schema=INSTRUMENT_SCHEMA)


def accepted(bars: pl.DataFrame) -> CheckedBars:
    """Bars of which none was rejected."""
    return CheckedBars(bars, bars.clear().with_columns(reason=pl.lit("", pl.String)))


def on_two_exchanges(symbol: str, *others: str) -> pl.DataFrame:
    """An instrument of XPAR and one of XNYS with the same symbol; the others are of XPAR."""
    return pl.concat([listed(symbol, *others, exchange="XPAR"), listed(symbol)])


def labelled(rows: int = 6, close: float = 10.0) -> pl.DataFrame:
    """A small label panel, its newest row without a label."""
    sessions = [date(2020, 1, 1) + timedelta(days=number) for number in range(rows)]
    known = rows - 1
    return pl.DataFrame(
        {
            "symbol": ["AAA"] * rows,
            "session": sessions,
            "close": [close + number / 3 for number in range(rows)],
            "ret_1d": [None, *(number / 7 for number in range(rows - 1))],
            "forward_return": [0.01 * number for number in range(known)] + [None],
            "label_end": [*sessions[1:], None],
            "label": pl.Series(["BUY", "HOLD", "SELL"][:known] + ["BUY"] * (known - 3) + [None], dtype=LABEL_TYPE),
        }
    )
