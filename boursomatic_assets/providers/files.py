"""Prices from a Parquet or CSV file, or from a folder with one file per symbol."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self, TypeVar

import polars as pl

from boursomatic_assets.core.market_data import (
    BAR_SCHEMA,
    INSTRUMENT_SCHEMA,
    PRICE_COLUMNS,
    scale_to_adjusted,
    symbol_groups,
)
from boursomatic_assets.errors import ConfigurationError, SourceFileError
from boursomatic_assets.providers.source import Delivery, reports_of
from boursomatic_assets.providers.symbols import exchange_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from boursomatic_assets.providers.source import Wish
    from boursomatic_assets.settings import Settings

_Read = TypeVar("_Read")

SUFFIXES = (".parquet", ".csv", ".csv.gz")
# Files of more than this are read symbol by symbol, about so many rows at a time.
BYTES_AT_ONCE = 200_000_000
ROWS_AT_ONCE = 1_000_000
BYTES_A_ROW = 50
_ROWS_SCHEMA = {"raw": pl.String, "rows": pl.Int64, "symbol": pl.String}

# Usual names, compared without case, spaces, underscores and dots.
_ALIASES = {
    "symbol": ("symbol", "ticker", "name", "code"),
    "session": ("session", "date", "day", "datetime", "timestamp", "ts", "time"),
    "open": ("open", "o", "openprice"),
    "high": ("high", "h", "highprice"),
    "low": ("low", "l", "lowprice"),
    "close": ("close", "c", "closeprice", "last"),
    "adj_close": ("adjclose", "adjustedclose", "closeadjusted", "adj"),
    "volume": ("volume", "v", "vol"),
}
# Of a suffix that is not known, such as London's .L: without a calendar, and without a word on its sessions.
UNKNOWN_EXCHANGE = "unknown"


@dataclass(frozen=True)
class FilesProvider:
    """Bars a person has on disk.

    Attributes
    ----------
    path : Path
        A file with a symbol column, or a folder of files named after their symbols (AAPL.csv, MC.PA.parquet).
    """

    path: Path
    asks_for_wishes: ClassVar[bool] = False

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Build it from `BOURSOMATIC_PROVIDER_PATH`.

        Raises
        ------
        ConfigurationError
            If no path is set.
        """
        if settings.provider_path is None:
            message = (
                "the provider 'files' needs a path to a Parquet or CSV file, or to a folder of them.\n"
                "Example: boursomatic materialize --provider files --path prices.csv"
            )
            raise ConfigurationError(message)
        return cls(Path(settings.provider_path).expanduser())

    @property
    def description(self) -> str:
        """The path."""
        return f"files at {self.path}"

    def instruments(self) -> pl.DataFrame:
        """A row per symbol; the exchange follows from the symbol's suffix (`.PA`, `.AS`, `.BR`)."""
        symbols = pl.concat(file.rows for file in self._price_files())["symbol"].drop_nulls().unique().sort()
        listed = pl.DataFrame({"symbol": symbols})
        exchange = [exchange_of(symbol) or UNKNOWN_EXCHANGE for symbol in symbols.to_list()]
        blanks = {name: pl.lit(None, pl.String) for name in INSTRUMENT_SCHEMA if name not in {"symbol", "exchange"}}
        placed = listed.with_columns(exchange=pl.Series(exchange, dtype=pl.String), **blanks)
        return placed.select(list(INSTRUMENT_SCHEMA))

    def bars(self) -> pl.DataFrame:
        """Bars as the files hold them, scaled where there is an adjusted close.

        Raises
        ------
        SourceFileError
            If there is nothing to read, a file is damaged, or a column is missing.
        """
        return pl.concat([file.read() for file in self._price_files()], how="diagonal")

    def deliveries(self, _wishes: Sequence[Wish] = ()) -> Iterator[Delivery]:
        """All bars, in pieces of about a million rows where the files are large; raises as `bars`."""
        files = self._price_files()
        for symbols in _batches(files, self._bytes()):
            held = [file for file in files if symbols is None or file.holds(symbols)]
            # One symbol may be spread over files: a piece is only as adjusted as the least of them.
            for adjusted, bars in _by_adjustment([(file.is_adjusted, file.read(symbols)) for file in held]):
                yield Delivery(bars, reports_of(bars, "files"), adjusted=adjusted)

    def _price_files(self) -> list[_PriceFile]:
        return [_PriceFile(path, one_of_many=self.path.is_dir()) for path in self._files()]

    def _bytes(self) -> int:
        return sum(path.stat().st_size for path in self._files())

    def _files(self) -> list[Path]:
        if not self.path.exists():
            message = f"there is nothing at {self.path}. Correct --path (or BOURSOMATIC_PROVIDER_PATH)"
            raise SourceFileError(message)
        if not self.path.is_dir():
            return [self.path]
        found = sorted(path for path in self.path.iterdir() if path.name.lower().endswith(SUFFIXES))
        if not found:
            message = f"the folder {self.path} holds no file that ends in {', '.join(SUFFIXES)}"
            raise SourceFileError(message)
        return found


@dataclass(frozen=True)
class _PriceFile:
    """One file: how its columns are called, which symbols it holds, and its bars, whole or of some symbols."""

    path: Path
    one_of_many: bool

    @cached_property
    def names(self) -> dict[str, str]:
        """Our column names to the file's.

        Raises
        ------
        SourceFileError
            If a column is missing.
        """
        found = _guarded(self.path, lambda: _scan(self.path).collect_schema().names())
        names = _match(found)
        missing = [name for name in BAR_SCHEMA if name not in names and not (name == "symbol" and self.one_of_many)]
        if missing:
            message = (
                f"{self.path}: expected columns for {', '.join(BAR_SCHEMA)} (and adj_close where there is one); "
                f"none found for {', '.join(missing)} among {found}.\nRename them, for example to "
                "Date, Symbol, Open, High, Low, Close, Volume"
            )
            raise SourceFileError(message)
        return {name: names[name] for name in (*BAR_SCHEMA, "adj_close") if name in names}

    @property
    def is_adjusted(self) -> bool:
        return "adj_close" in self.names

    @cached_property
    def rows(self) -> pl.DataFrame:
        """`symbol`, the `raw` text of it and number of `rows`; of a file named after its symbol, an estimate."""
        if "symbol" not in self.names:
            rows = self.path.stat().st_size // BYTES_A_ROW
            return pl.DataFrame({"raw": [None], "rows": [rows], "symbol": [_symbol_of(self.path)]}, _ROWS_SCHEMA)
        raw = pl.col(self.names["symbol"]).cast(pl.String).alias("raw")
        counts = _scan(self.path).group_by(raw).agg(rows=pl.len())
        found = _guarded(self.path, lambda: counts.collect(engine="streaming"))
        return found.with_columns(_symbol("raw")).cast(_ROWS_SCHEMA)  # type: ignore[arg-type]

    def holds(self, symbols: Sequence[str | None]) -> bool:
        return not set(symbols).isdisjoint(self.rows["symbol"].to_list())

    def read(self, symbols: Sequence[str | None] | None = None) -> pl.DataFrame:
        """Read the bars, of all symbols or of some."""
        wanted = _scan(self.path)
        if symbols is not None and "symbol" in self.names:
            wanted = wanted.filter(*self._holding(symbols))
        raw = _guarded(self.path, lambda: wanted.select(pl.col(*self.names.values())).collect())
        chosen = raw.select(pl.col(found).alias(name) for name, found in self.names.items())
        if "symbol" not in self.names:
            chosen = chosen.select(pl.lit(_symbol_of(self.path)).alias("symbol"), pl.all())
        typed = _typed(chosen, self.path)
        return scale_to_adjusted(typed) if self.is_adjusted else typed

    def _holding(self, symbols: Sequence[str | None]) -> list[pl.Expr]:
        """Conditions on the raw column: with its extremes named, whole stretches of a sorted file are skipped."""
        raw = self.rows.filter(pl.col("symbol").is_in(list(symbols), nulls_equal=True))["raw"]
        column = pl.col(self.names["symbol"])
        chosen = column.cast(pl.String).is_in(raw.to_list(), nulls_equal=True)
        if raw.null_count() or _scan(self.path).collect_schema()[self.names["symbol"]] != pl.String:
            return [chosen]
        return [column.is_between(pl.lit(raw.min()), pl.lit(raw.max())), chosen]


def _batches(files: Sequence[_PriceFile], size: int) -> Iterator[list[str | None] | None]:
    """Groups of symbols to read at a time; None, once, for all of them where that fits in memory."""
    if size <= BYTES_AT_ONCE:
        yield None
        return
    rows = pl.concat(file.rows for file in files).group_by("symbol").agg(pl.col("rows").sum()).sort("symbol")
    for symbols in symbol_groups(rows, ROWS_AT_ONCE):
        yield [*symbols]


def _by_adjustment(pieces: Sequence[tuple[bool, pl.DataFrame]]) -> Iterator[tuple[bool, pl.DataFrame]]:
    raw = [bars for adjusted, bars in pieces if not adjusted]
    symbols = pl.concat(bars["symbol"] for bars in raw).unique() if raw else pl.Series(dtype=pl.String)
    everything = pl.concat([bars for _, bars in pieces], how="diagonal")
    is_raw = pl.col("symbol").is_in(symbols.implode()).fill_null(value=bool(raw))
    for adjusted, bars in ((False, everything.filter(is_raw)), (True, everything.filter(~is_raw))):
        if bars.height:
            yield adjusted, bars


def _scan(path: Path) -> pl.LazyFrame:
    if path.suffix.lower() == ".parquet":
        return pl.scan_parquet(path)
    # As text: inferred types would stop at the first value that does not fit.
    return pl.scan_csv(path, infer_schema=False)


def _guarded(path: Path, read: Callable[[], _Read]) -> _Read:
    try:
        return read()
    except (pl.exceptions.PolarsError, OSError) as error:
        message = f"{path} cannot be read; it may be truncated or of another format: {error}"
        raise SourceFileError(message) from error


def _match(columns: list[str]) -> dict[str, str]:
    """Map our names to the file's; the first alias in the list's order that occurs wins."""
    plain = {column.lower().translate(str.maketrans("", "", " _.-")): column for column in reversed(columns)}
    return {
        name: next(plain[alias] for alias in aliases if alias in plain)
        for name, aliases in _ALIASES.items()
        if any(alias in plain for alias in aliases)
    }


def _symbol_of(path: Path) -> str:
    name = path.name
    ending = next(suffix for suffix in SUFFIXES if name.lower().endswith(suffix))
    return name[: -len(ending)]


def _typed(bars: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Cast to the bar schema's types. A value that cannot be read becomes null, which the bar contract sets aside.

    A column in which nothing can be read is another matter: its format is not understood.
    """
    numbers = [name for name in (*PRICE_COLUMNS, "adj_close", "volume") if name in bars.columns]
    typed = bars.with_columns(
        _symbol("symbol"),
        _session(bars.schema["session"]),
        *(_number(name, bars.schema[name]) for name in numbers),
    )
    for name in [*numbers, "session"]:
        given = bars[name].drop_nulls()
        if given.len() and typed[name].null_count() == typed.height:
            expected = "dates such as 2024-01-31" if name == "session" else "plain numbers such as 12.5"
            message = f"{path}: expected {expected} for {name}; found {given[0]!r}, and no value that can be read"
            raise SourceFileError(message)
    return typed


def _symbol(column: str) -> pl.Expr:
    return pl.col(column).cast(pl.String).str.strip_chars().replace("", None).alias("symbol")


def _number(name: str, dtype: pl.DataType) -> pl.Expr:
    values = pl.col(name).str.strip_chars() if dtype == pl.String else pl.col(name)
    return values.cast(pl.Float64, strict=False)


def _session(dtype: pl.DataType) -> pl.Expr:
    """The date as the exchange's clock shows it: a time with a zone is read in that zone, not in UTC."""
    if dtype == pl.Date:
        return pl.col("session")
    if isinstance(dtype, pl.Datetime):
        return pl.col("session").dt.date()
    text = pl.col("session").cast(pl.String).str.strip_chars().str.head(10)
    return pl.coalesce(text.str.to_date(form, strict=False) for form in ("%Y-%m-%d", "%Y/%m/%d", "%Y%m%d"))
