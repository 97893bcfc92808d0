"""Faults of a table that make all of its rows unreliable, whatever the form of its cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from boursomatic_assets.core.market.bars import PRICE_COLUMNS
from boursomatic_assets.providers.reading.columns import ALIASES, is_another_column, plain
from boursomatic_assets.providers.reading.dates import MOST_MISTAKES
from boursomatic_assets.providers.reading.table import SURPLUS

if TYPE_CHECKING:
    from polars._typing import EngineType

    from boursomatic_assets.providers.reading.dates import ReadDates

NUMBERS = (*PRICE_COLUMNS, "volume", "adj_close", "adj_volume")


def is_text(dtype: pl.DataType) -> bool:
    """Whether values of a type are texts."""
    return dtype in (pl.String, pl.Categorical, pl.Enum)


def wrong_types(schema: pl.Schema) -> list[str]:
    """Problems of columns of a Parquet file with values that are no prices, dates or names."""
    dates = (pl.Date, pl.Datetime)
    return [
        f"expected {what} for {name}; found a column of {schema[name]}"
        for names, what, types in (
            (("session",), "dates", dates),
            (NUMBERS, "numbers", ()),
            (("symbol", "exchange", "period"), "texts", (pl.Binary,)),
        )
        for name in names
        if name in schema
        and not (schema[name].is_numeric() or is_text(schema[name]) or schema[name] in (pl.Null, *types))
    ]


def other_header(rows: pl.LazyFrame, dates: ReadDates, engine: EngineType) -> list[str]:
    """Problem of a second header with other columns: rows below it would be read by the first one's."""
    named = [text for text in dates.known["text"] if plain(text) in ALIASES["session"]]
    if not named or rows.collect_schema()["session"] != pl.String:
        return []
    header = rows.filter(pl.col("session").is_in(named)).head(1).collect(engine=engine).row(0, named=True)
    cells = {name: header[name] for name in NUMBERS if name in header}
    wrong = {name: cell for name, cell in cells.items() if isinstance(cell, str) and is_another_column(name, cell)}
    return [
        f"expected one header; another one below it has {cell!r} where the first has {name}. "
        "Put the two tables into two files"
        for name, cell in list(wrong.items())[:1]
    ]


def has_surplus() -> pl.Expr:
    """Whether a row has more cells than the header."""
    return pl.any_horizontal((pl.col(name).str.strip_chars() != "").fill_null(value=False) for name in SURPLUS)


def surplus_cells(rows: pl.LazyFrame, engine: EngineType) -> str | None:
    """Problem of rows with more cells than the header, unless few have them; None if there is none."""
    if rows.select(pl.col(SURPLUS[0]).count()).collect(engine=engine).item() == 0:
        return None
    numbered = rows.select(surplus=has_surplus(), session="session")
    counts = numbered.select(rows=pl.len(), longer=pl.col("surplus").sum()).collect(engine=engine)
    if counts["longer"].item() <= MOST_MISTAKES * counts["rows"].item():
        return None
    first = numbered.filter("surplus").select("session").head(1).collect()["session"].item()
    return (
        f"expected as many cells in a row as the header has; found more on the row of {first}. Write decimals "
        "with a point, or put a text that holds the separator in double quotes"
    )
