"""Prices from a file, an archive, or a folder of files, in the shapes in which people and vendors write them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import polars as pl

from boursomatic_assets.core.market.adjusted_close import scale_to_adjusted
from boursomatic_assets.core.market.bars import BAR_SCHEMA, INSTRUMENT_SCHEMA, symbol_groups
from boursomatic_assets.errors import ConfigurationError, SourceFileError
from boursomatic_assets.providers.exchanges import UNKNOWN_EXCHANGE
from boursomatic_assets.providers.reading.opening import SUFFIXES, UnreadableError, contents_of
from boursomatic_assets.providers.reading.prices import PlannedTable, by_adjustment, listed_problems, read_tables
from boursomatic_assets.providers.reading.rows import COPIES_OF_FILES, leave_out_no_trading
from boursomatic_assets.providers.source import Delivery, Outcome, SymbolReport, reports_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from boursomatic_assets.providers.reading.prices import PricePiece
    from boursomatic_assets.providers.source import Wish
    from boursomatic_assets.settings import Settings

# Files of more than this are read symbol by symbol, about so many rows at a time.
BYTES_AT_ONCE = 200_000_000
ROWS_AT_ONCE = 1_000_000


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
        """A row per symbol; the exchange is that of its column, or follows from the symbol's suffix."""
        exchanges = dict(sorted(self._exchanges.items()))
        placed = pl.DataFrame(
            {"symbol": list(exchanges), "exchange": list(exchanges.values())},
            dict.fromkeys(("symbol", "exchange"), pl.String),
        )
        blanks = {name: pl.lit(None, pl.String) for name in INSTRUMENT_SCHEMA if name not in {"symbol", "exchange"}}
        return placed.with_columns(**blanks).select(list(INSTRUMENT_SCHEMA))

    def bars(self) -> pl.DataFrame:
        """Bars as the files hold them, scaled where there is an adjusted close.

        Raises
        ------
        SourceFileError
            If there is nothing to read, a file is damaged, or its columns cannot be understood: one message with
            everything that is in the way.
        """
        nothing = pl.DataFrame(schema=BAR_SCHEMA)
        return pl.concat([nothing, *(delivery.bars for delivery in self.deliveries())], how="diagonal")

    def deliveries(self, _wishes: Sequence[Wish] = ()) -> Iterator[Delivery]:
        """All bars, in pieces of about a million rows where the files are large; raises as `bars`."""
        named = self._reports_of_skipped()
        for symbols in self._batches():
            pieces = read_tables(self._tables, symbols, self.path)
            exchanges = {symbol: exchange for piece in pieces for symbol, exchange in piece.exchanges.items()}
            scaled = [(piece.adjusted, _scaled(piece)) for piece in pieces]
            for adjusted, bars, copies in by_adjustment(scaled):
                traded, left_out = leave_out_no_trading(bars, exchanges, self.description)
                counts = Counter(left_out) + Counter({COPIES_OF_FILES: copies})
                yield Delivery(
                    traded, (*named, *reports_of(traded, "files")), adjusted=adjusted, left_out=dict(counts)
                )
                named = ()
        if named:
            # A table without rows beside files that are none.
            yield Delivery(pl.DataFrame(schema=BAR_SCHEMA), named, adjusted=False)

    @cached_property
    def _found(self) -> tuple[list[PlannedTable], dict[str, str]]:
        """Tables, and by name of the file why another one in the folder is none."""
        contents, skipped = contents_of(self.path)
        many = self.path.is_dir() or len(contents) > 1
        tables: list[PlannedTable] = []
        problems: list[str] = []
        for table in (PlannedTable(content, one_of_many=many) for content in contents):
            try:
                found = table.problems()
            except UnreadableError as error:
                if not many:
                    raise
                skipped[str(table)] = str(error)
                continue
            except SourceFileError as error:
                found = [str(error)]
            problems += found
            tables.append(table)
        if not tables:
            endings = ", ".join(SUFFIXES)
            problems = [
                *skipped.values(),
                f"{self.path} holds no table of prices; read are files that end in {endings}",
            ]
        if problems:
            raise SourceFileError(listed_problems(problems, self.path))
        return tables, skipped

    @property
    def _tables(self) -> list[PlannedTable]:
        return self._found[0]

    def _reports_of_skipped(self) -> tuple[SymbolReport, ...]:
        return tuple(
            SymbolReport(Path(name).name, Outcome.REFUSED, "files", detail=why.replace("\n", " "))
            for name, why in self._found[1].items()
        )

    @cached_property
    def _exchanges(self) -> dict[str, str]:
        """Exchange of each symbol."""
        found: dict[str, str] = {}
        for table in self._tables:
            for symbol, exchange in table.exchanges.items():
                if found.get(symbol, UNKNOWN_EXCHANGE) in {UNKNOWN_EXCHANGE, "US"}:
                    found[symbol] = exchange
        return found

    def _batches(self) -> Iterator[list[str | None] | None]:
        """Groups of symbols to read at a time; None, once, for all of them where that fits in memory."""
        size = sum(path.stat().st_size for path in {table.content.path for table in self._tables})
        if size <= BYTES_AT_ONCE:
            yield None
            return
        rows = (
            pl.concat(table.rows for table in self._tables)
            .group_by("symbol")
            .agg(pl.col("rows").sum())
            .sort("symbol")
        )
        for symbols in symbol_groups(rows, ROWS_AT_ONCE):
            yield [*symbols]


def _scaled(piece: PricePiece) -> pl.DataFrame:
    """Bars scaled to their adjusted close, where there is one; volumes too, unless the file says them adjusted."""
    if not piece.adjusted:
        return piece.bars
    scaled = scale_to_adjusted(piece.bars)
    return scaled.with_columns(piece.bars["volume"]) if piece.has_adjusted_volumes else scaled
