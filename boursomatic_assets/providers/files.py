"""Prices from a file, an archive, or a folder of files, in the layouts of people and vendors."""

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
from boursomatic_assets.providers.source import BarBatch, Outcome, SymbolReport, reports_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from boursomatic_assets.providers.reading.prices import PricePiece
    from boursomatic_assets.providers.source import BarRequest
    from boursomatic_assets.settings import Settings

# Larger input is read in batches of symbols, each of about ROWS_AT_ONCE rows.
BYTES_AT_ONCE = 200_000_000
ROWS_AT_ONCE = 1_000_000


@dataclass(frozen=True)
class FilesProvider:
    """Bars from files on disk.

    `path` is a file with a symbol column, or a folder of files named after their symbols (AAPL.csv, MC.PA.parquet).
    Links to files outside `link_folders` are not followed; None allows any.
    """

    path: Path
    link_folders: tuple[Path, ...] | None = None
    fetches_by_symbol: ClassVar[bool] = False

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Create it from `BOURSOMATIC_PROVIDER_PATH`; raises ConfigurationError if no path is set."""
        if settings.provider_path is None:
            message = (
                "the provider 'files' needs a path to a Parquet or CSV file, or to a folder of them.\n"
                "Example: boursomatic materialize --provider files --path prices.csv"
            )
            raise ConfigurationError(message)
        return cls(Path(settings.provider_path).expanduser(), settings.link_folders)

    @property
    def description(self) -> str:
        """The path."""
        return f"files at {self.path}"

    def instruments(self) -> pl.DataFrame:
        """One row per symbol; the exchange comes from its column, or from the symbol's suffix."""
        exchanges = dict(sorted(self._exchanges.items()))
        placed = pl.DataFrame(
            {"symbol": list(exchanges), "exchange": list(exchanges.values())},
            dict.fromkeys(("symbol", "exchange"), pl.String),
        )
        blanks = {name: pl.lit(None, pl.String) for name in INSTRUMENT_SCHEMA if name not in {"symbol", "exchange"}}
        return placed.with_columns(**blanks).select(list(INSTRUMENT_SCHEMA))

    def bars(self) -> pl.DataFrame:
        """Bars of all files, scaled if there is an adjusted close.

        Raises SourceFileError if there is nothing to read, a file is damaged, or its columns are not recognised;
        one message lists all problems.
        """
        nothing = pl.DataFrame(schema=BAR_SCHEMA)
        return pl.concat([nothing, *(batch.bars for batch in self.batches())], how="diagonal")

    def batches(self, _requests: Sequence[BarRequest] = ()) -> Iterator[BarBatch]:
        """All bars, in batches of about a million rows if the files are large; raises as `bars`."""
        named = self._reports_of_skipped()
        for symbols in self._symbol_groups():
            pieces = read_tables(self._tables, symbols, self.path)
            exchanges = {symbol: exchange for piece in pieces for symbol, exchange in piece.exchanges.items()}
            scaled = [(piece.adjusted, _scaled(piece)) for piece in pieces]
            for adjusted, bars, copies in by_adjustment(scaled):
                traded, left_out = leave_out_no_trading(bars, exchanges, self.description)
                counts = Counter(left_out) + Counter({COPIES_OF_FILES: copies})
                yield BarBatch(
                    traded, (*named, *reports_of(traded, "files")), adjusted=adjusted, left_out=dict(counts)
                )
                named = ()
        if named:
            # No table has rows: only the skipped files are reported.
            yield BarBatch(pl.DataFrame(schema=BAR_SCHEMA), named, adjusted=False)

    @cached_property
    def _found(self) -> tuple[list[PlannedTable], dict[str, str]]:
        """Tables, and the reason for each skipped file, by file name."""
        contents, skipped = contents_of(self.path, self.link_folders)
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

    def _symbol_groups(self) -> Iterator[list[str | None] | None]:
        """Batches of symbols to read; a single None stands for all symbols, if they fit in memory."""
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
    """Bars scaled to their adjusted close, if there is one; volumes that are already adjusted stay."""
    if not piece.adjusted:
        return piece.bars
    scaled = scale_to_adjusted(piece.bars)
    return scaled.with_columns(piece.bars["volume"]) if piece.has_adjusted_volumes else scaled
