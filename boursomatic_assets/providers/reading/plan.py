"""Interpretation of a table: all values of a column decide its format, which then applies to each row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from boursomatic_assets.core.market.bars import BAR_SCHEMA
from boursomatic_assets.providers.reading.dates import ReadDates, read_dates
from boursomatic_assets.providers.reading.faults import (
    NUMBERS,
    has_surplus,
    is_text,
    other_header,
    surplus_cells,
    wrong_types,
)
from boursomatic_assets.providers.reading.numbers import NumberStyle, as_number, not_a_number, number_styles
from boursomatic_assets.providers.reading.table import SURPLUS
from boursomatic_assets.providers.symbols import Listed, listed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from polars._typing import EngineType

LISTING_SCHEMA = {
    "symbol": pl.String, "exchange": pl.String, "listed": pl.String, "place": pl.String, "zone": pl.String,
    "problem": pl.String,
}  # fmt: skip
TEXT_KEPT = 60
# Column with the number of each row's table, for tables that are read together.
TABLE = "number of the table"
_DAILY = ("d", "1d", "day", "daily", "1day", "1440")
_ZONELESS = "a moment, where the exchange's clock is not known: "


@dataclass(frozen=True)
class Plan:
    """Interpretation of a table's columns.

    `styles` are the number formats of text columns. `listings`, of `LISTING_SCHEMA`, recognises each pair of symbol
    and exchange. `problems` is empty if the table can be read. `repeated` is the header, by our names, if the file
    repeats it between its rows; otherwise it is empty.
    """

    dates: ReadDates
    styles: dict[str, NumberStyle]
    listings: pl.DataFrame
    problems: list[str]
    repeated: dict[str, str]

    @property
    def is_clean(self) -> bool:
        """Whether nothing is ambiguous: dates as 2024-01-31, plain numbers with a decimal point."""
        return not self.problems and self.dates.is_iso and all(style.is_plain for style in self.styles.values())


def make_plan(
    table: pl.LazyFrame, separator: str, header: Mapping[str, str] | None = None, *, stooq: bool, engine: EngineType
) -> Plan:
    """Decide the format of each column of a table, whose cells have our column names.

    `header` maps our names to the file's, to detect rows that repeat it. `stooq` says that Stooq wrote the file.
    `engine` is that of polars: `streaming` for a table larger than memory.
    """
    schema = table.collect_schema()
    if wrong := wrong_types(schema):
        return Plan(ReadDates(), {}, listings_of([], stooq=stooq), wrong, {})
    rows, dates = table, ReadDates(is_iso=True)
    repeated = {name: text for name, text in (header or {}).items() if text and schema.get(name) == pl.String}
    # For most files, one column shows that no row repeats the header.
    one = {name: text for name, text in repeated.items() if name == "close"} or repeated
    if repeated and not table.select(_is_header_row(one).any()).collect(engine=engine).item():
        repeated = {}
    if repeated:
        rows = table.filter(~_is_header_row(repeated))
    if not schema["session"].is_temporal():
        dates = read_dates(
            rows.select(_as_text("session", schema).unique(maintain_order=True)).collect(engine=engine)["session"]
        )
    texts = [name for name in NUMBERS if name in schema and is_text(schema[name])]
    as_texts = rows.with_columns(pl.col(name).cast(pl.String) for name in texts if schema[name] != pl.String)
    styles, problems = number_styles(as_texts, texts, separator, engine) if texts else ({}, [])
    problems += other_header(rows, dates, engine)
    if dates.problem:
        problems.append(dates.problem)
    if SURPLUS[0] in schema and (surplus := surplus_cells(rows, engine)):
        problems.append(surplus)
    return Plan(dates, styles, recognised(rows, schema, stooq=stooq, engine=engine), problems, repeated)


def _as_text(name: str, schema: pl.Schema) -> pl.Expr:
    """Column as text; a whole number that is stored as a float is written without its fraction."""
    column = pl.col(name)
    return (column.cast(pl.Int64, strict=False) if schema[name].is_float() else column).cast(pl.String)


def _is_header_row(header: Mapping[str, str]) -> pl.Expr:
    """Whether a row repeats the header, as in concatenated files."""
    same = [(pl.col(name).str.strip_chars() == text).fill_null(value=False) for name, text in header.items()]
    return pl.all_horizontal(same)


def recognised(rows: pl.LazyFrame, schema: pl.Schema, *, stooq: bool, engine: EngineType) -> pl.DataFrame:
    """Recognise each pair of symbol and exchange; a frame of `LISTING_SCHEMA`."""
    exchange = pl.col("exchange").cast(pl.String) if "exchange" in schema else pl.lit(None, pl.String)
    # A note below the table makes no instrument.
    dated = rows.filter(pl.col("session").str.strip_chars() != "") if schema.get("session") == pl.String else rows
    pairs = dated.select(pl.col("symbol").cast(pl.String), exchange.alias("exchange")).unique()
    return listings_of(list(pairs.collect(engine=engine).sort("symbol", "exchange").iter_rows()), stooq=stooq)


def listings_of(pairs: Sequence[tuple[str | None, str | None]], *, stooq: bool) -> pl.DataFrame:
    """Recognise pairs of symbol and exchange; a frame of `LISTING_SCHEMA`."""
    rows = [(symbol, place, *_described(listed(symbol, place, stooq=stooq))) for symbol, place in pairs]
    return pl.DataFrame(rows, LISTING_SCHEMA, orient="row")


def _described(market: Listed) -> tuple[str | None, str, str | None, str | None]:
    return market.symbol, market.exchange, market.zone, market.problem


def apply_plan(cells: pl.DataFrame, plan: Plan) -> pl.DataFrame:
    """Read cells of the table by its plan, which must have no problems.

    The result has the columns of `BAR_SCHEMA`, unscaled, and `adj_close` if the table has it. An unreadable cell is
    null, and the column `unread` states its text; the column exists only if there is such a cell.
    """
    rows = cells.filter(~_is_header_row(plan.repeated)) if plan.repeated else cells
    numbers = [name for name in NUMBERS if name in cells.columns]
    style = {name: plan.styles.get(name) for name in numbers}
    doubtful = [name for name, of in style.items() if of is not None and not of.is_plain]
    texts = rows.with_columns(
        *(pl.col(name).cast(pl.String) for name in numbers if style[name] and rows.schema[name] != pl.String)
    )
    values = texts.with_columns(
        (as_number(name, of) if (of := style[name]) else pl.col(name).cast(pl.Float64, strict=False)).alias(
            _read(name)
        )
        for name in numbers
    )
    dated = _placed(_dated(values, plan), plan)
    read = dated.with_columns(_session(dated), unread=_unread(dated, plan, doubtful)).with_columns(
        pl.col(_read(name)).alias(name) for name in numbers
    )
    if "adj_volume" in read.columns:
        read = read.with_columns(volume=pl.col("adj_volume"))
    kept = read.filter(~_is_a_note(cells.columns))
    return kept.select(pl.col("listed").alias("symbol"), *list(BAR_SCHEMA)[1:], *_also(kept))


def _read(name: str) -> str:
    """Name of the column with the values read from another column."""
    return f"{name} read"


def _also(read: pl.DataFrame) -> list[str]:
    return [
        *(name for name in ("adj_close", TABLE) if name in read.columns),
        *(["unread"] if read["unread"].null_count() < read.height else []),
    ]


def _is_a_note(columns: Sequence[str]) -> pl.Expr:
    """Whether a row has no number and no date: a blank line, or a note below the table."""
    numbers = [pl.col(name).is_null() for name in NUMBERS if name in columns]
    said = pl.col("unread").str.starts_with("not a number").fill_null(value=False)
    return pl.all_horizontal(numbers) & pl.col("session").is_null() & ~said


def _dated(rows: pl.DataFrame, plan: Plan) -> pl.DataFrame:
    """Rows with the text of their `session`, and its `date` or `moment`."""
    dtype = rows.schema["session"]
    nothing = pl.lit(None, pl.Datetime("us")).alias("moment")
    if dtype == pl.Date:
        return rows.with_columns(nothing, date=pl.col("session"), session=pl.lit(None, pl.String))
    if isinstance(dtype, pl.Datetime):
        is_label = pl.col("session").dt.time() == pl.time(0)
        if dtype.time_zone is None:
            is_label = pl.lit(value=True)
        wall = pl.col("session")
        moment = (
            wall.dt.convert_time_zone("UTC").dt.replace_time_zone(None).cast(pl.Datetime("us"))
            if dtype.time_zone
            else nothing
        )
        return rows.with_columns(
            date=pl.when(is_label).then(wall.dt.date()),
            moment=pl.when(~is_label).then(moment),
            session=wall.dt.to_string("%Y-%m-%d %H:%M:%S"),
        )
    texts = rows.with_columns(_as_text("session", rows.schema))
    if plan.dates.is_iso:
        return texts.with_columns(nothing, date=pl.col("session").str.to_date("%Y-%m-%d", strict=False))
    return texts.join(plan.dates.known, left_on="session", right_on="text", how="left", maintain_order="left")


def _placed(rows: pl.DataFrame, plan: Plan) -> pl.DataFrame:
    """Rows with `listed`, the symbol in the universe's spelling, its time zone and its problem."""
    same = plan.listings.filter(pl.col("symbol").ne_missing(pl.col("listed")) | pl.col("problem").is_not_null())
    has_moments = rows["moment"].null_count() < rows.height
    symbol = pl.col("symbol").cast(pl.String)
    if same.is_empty() and not has_moments:
        return rows.with_columns(listed=symbol, zone=pl.lit(None, pl.String), problem=pl.lit(None, pl.String))
    exchange = pl.col("exchange").cast(pl.String) if "exchange" in rows.columns else pl.lit(None, pl.String)
    found = plan.listings.select("symbol", "exchange", "listed", "zone", "problem")
    return rows.with_columns(symbol, exchange.alias("exchange")).join(
        found, on=["symbol", "exchange"], how="left", nulls_equal=True, maintain_order="left"
    )


def _session(rows: pl.DataFrame) -> pl.Expr:
    """Date of each row: as written, or of its moment in the exchange's time zone."""
    date = pl.col("date")
    if rows["moment"].null_count() == rows.height:
        return date.alias("session")
    moment = pl.col("moment").dt.replace_time_zone("UTC")
    for zone in rows["zone"].drop_nulls().unique().sort():
        date = (
            pl.when(pl.col("zone") == zone)
            .then(pl.coalesce(date, moment.dt.convert_time_zone(zone).dt.date()))
            .otherwise(date)
        )
    return date.alias("session")


def _unread(rows: pl.DataFrame, plan: Plan, doubtful: Sequence[str]) -> pl.Expr:
    """Unreadable content of a row, with its text; null if there is none."""
    found: list[pl.Expr] = []
    if SURPLUS[0] in rows.columns and rows.select(pl.col(SURPLUS[0]).is_not_null().any()).item():
        found.append(pl.when(has_surplus()).then(pl.lit("more cells than columns")))
    if "period" in rows.columns:
        period = pl.col("period").cast(pl.String).str.strip_chars()
        found.append(
            pl.when(~period.str.to_lowercase().is_in(_DAILY)).then(
                pl.lit("no daily bar: period ") + _quoted(period)
            )
        )
    if rows["problem"].null_count() < rows.height:
        found.append(pl.col("problem"))
    has_moments = rows["moment"].null_count() < rows.height
    session = pl.col("session")
    if has_moments:
        found.append(
            pl.when(pl.col("moment").is_not_null() & pl.col("zone").is_null()).then(pl.lit(_ZONELESS) + session)
        )
    if not plan.dates.is_iso:
        undated = pl.col("date").is_null() & pl.col("moment").is_null() & (session.str.strip_chars() != "")
        found.append(pl.when(undated).then(pl.lit("not a date: ") + _quoted(session)))
    found.extend(pl.lit("not a number: ") + _quoted(not_a_number(name, _read(name))) for name in doubtful)
    return pl.coalesce(found) if found else pl.lit(None, pl.String)


def _quoted(text: pl.Expr) -> pl.Expr:
    """Text for a reason: short, without control characters."""
    return text.str.strip_chars().str.replace_all(r"[\x00-\x1f\x7f]", "\ufffd").str.slice(0, TEXT_KEPT)
