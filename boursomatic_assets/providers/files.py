"""Prices from a Parquet or CSV file, or from a folder with one file per symbol."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import polars as pl

from boursomatic_assets.core.market_data import BAR_SCHEMA, INSTRUMENT_SCHEMA, PRICE_COLUMNS, scale_to_adjusted
from boursomatic_assets.errors import ConfigurationError, SourceFileError

if TYPE_CHECKING:
    from boursomatic_assets.settings import Settings

SUFFIXES = (".parquet", ".csv", ".csv.gz")

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
# Yahoo's suffix of a symbol to the exchange's ISO 10383 code.
_EXCHANGE_OF_SUFFIX = {"PA": "XPAR", "AS": "XAMS", "BR": "XBRU"}
UNKNOWN_US_EXCHANGE = "US"


@dataclass(frozen=True)
class FilesProvider:
    """Bars a person has on disk.

    Attributes
    ----------
    path : Path
        A file with a symbol column, or a folder of files named after their symbols (AAPL.csv, MC.PA.parquet).
    """

    path: Path

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
        symbols = self.bars().select(pl.col("symbol").drop_nulls().unique().sort())
        suffix = pl.col("symbol").str.extract(r"\.([A-Z]+)$")
        exchange = suffix.replace_strict(_EXCHANGE_OF_SUFFIX, default=UNKNOWN_US_EXCHANGE, return_dtype=pl.String)
        blanks = {name: pl.lit(None, pl.String) for name in INSTRUMENT_SCHEMA if name not in {"symbol", "exchange"}}
        return symbols.with_columns(exchange=exchange, **blanks).select(list(INSTRUMENT_SCHEMA))

    def bars(self) -> pl.DataFrame:
        """Bars as the files hold them, scaled where there is an adjusted close.

        Raises
        ------
        SourceFileError
            If there is nothing to read, a file is damaged, or a column is missing.
        """
        return pl.concat([_read_bars(path, one_of_many=self.path.is_dir()) for path in self._files()])

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


def _read_bars(path: Path, *, one_of_many: bool) -> pl.DataFrame:
    raw = _read(path)
    names = _match(raw.columns)
    if one_of_many and "symbol" not in names:
        raw = raw.with_columns(symbol=pl.lit(_symbol_of(path)))
        names["symbol"] = "symbol"
    missing = [name for name in BAR_SCHEMA if name not in names]
    if missing:
        message = (
            f"{path}: expected columns for {', '.join(BAR_SCHEMA)} (and adj_close where there is one); none found "
            f"for {', '.join(missing)} among {raw.columns}.\nRename them, for example to "
            "Date, Symbol, Open, High, Low, Close, Volume"
        )
        raise SourceFileError(message)
    chosen = raw.select(pl.col(found).alias(name) for name, found in names.items())
    typed = _typed(chosen, path)
    bars = scale_to_adjusted(typed) if "adj_close" in names else typed
    return bars.select(list(BAR_SCHEMA))


def _read(path: Path) -> pl.DataFrame:
    try:
        if path.suffix.lower() == ".parquet":
            return pl.read_parquet(path)
        # As text: inferred types would stop at the first value that does not fit.
        return pl.read_csv(path, infer_schema=False)
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
        pl.col("symbol").cast(pl.String).str.strip_chars().replace("", None),
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
