"""Bars of many tables: tables with one layout are read together, all others one by one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import polars as pl

from boursomatic_assets.core.market.bars import BAR_SCHEMA, LONGEST_SYMBOL
from boursomatic_assets.errors import SourceFileError
from boursomatic_assets.providers.reading.plan import (
    TABLE,
    Plan,
    apply_plan,
    listings_of,
    make_plan,
    recognised,
)
from boursomatic_assets.providers.reading.table import PriceTable, guarded

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from polars._typing import EngineType

# Estimate of the rows in a file named after its symbol.
BYTES_A_ROW = 50
PROBLEMS_LISTED = 20
_MOST_TABLES = 10_000_000
_ROWS_SCHEMA = {"raw": pl.String, "rows": pl.Int64, "symbol": pl.String}


class PlannedTable(PriceTable):
    """A table with its plan, which all of its rows decide."""

    @cached_property
    def plan(self) -> Plan:
        """Plan of the table, made from disk without loading the table into memory."""
        return guarded(self, lambda: self.planned(self.scan(lazily=True), "streaming"))

    def planned(self, cells: pl.LazyFrame, engine: EngineType = "in-memory") -> Plan:
        """Make the plan for cells of this table."""
        return make_plan(cells, self.separator, self.header, stooq=self.is_stooq, engine=engine)

    @cached_property
    def _pairs(self) -> pl.DataFrame:
        """Each pair of symbol and exchange as written, with its recognition."""
        if "symbol" in self.constants and "exchange" not in self.places:
            named = (self.constants["symbol"], self.constants.get("exchange"))
            return listings_of([named], stooq=self.is_stooq)
        keys = ("symbol", "exchange", "session")
        cells = self.scan(lazily=True).select(name for name in keys if name in self.names)
        if name := self.header.get("symbol"):
            # If a file repeats its header, the symbol column holds its own name.
            cells = cells.filter(pl.col("symbol").ne_missing(pl.lit(name)))
        schema = cells.collect_schema()
        return guarded(self, lambda: recognised(cells, schema, stooq=self.is_stooq, engine="streaming"))

    @cached_property
    def exchanges(self) -> dict[str, str]:
        """Exchange of each valid symbol."""
        return exchanges_of(self._pairs)

    @cached_property
    def rows(self) -> pl.DataFrame:
        """Each `symbol`, its text `raw` and number of `rows`, estimated for a file named after its symbol."""
        if "symbol" in self.constants:
            rows = self.content.path.stat().st_size // BYTES_A_ROW
            named = self._pairs.row(0, named=True)
            return pl.DataFrame({"raw": [None], "rows": [rows], "symbol": [named["listed"]]}, _ROWS_SCHEMA)
        keys = [name for name in ("symbol", "exchange") if name in self.names]
        counts = self.scan(lazily=True).group_by(pl.col(key).cast(pl.String) for key in keys).agg(rows=pl.len())
        found = guarded(self, lambda: counts.collect(engine="streaming"))
        listed = self._pairs if "exchange" in keys else self._pairs.drop("exchange")
        named_rows = found.join(listed, on=keys, how="left", nulls_equal=True)
        return named_rows.select(raw="symbol", rows="rows", symbol="listed").cast(_ROWS_SCHEMA)  # type: ignore[arg-type]

    def cells_of(self, symbols: Sequence[str | None]) -> pl.DataFrame:
        """Cells of some symbols; in a sorted file, the blocks of other symbols are skipped."""
        wanted = self.scan(lazily=True)
        if "symbol" in self.constants:
            return guarded(self, wanted.collect)
        raw = self.rows.filter(pl.col("symbol").is_in(list(symbols), nulls_equal=True))["raw"]
        column = pl.col("symbol")
        chosen = [column.cast(pl.String).is_in(raw.to_list(), nulls_equal=True)]
        if not raw.null_count() and wanted.collect_schema()["symbol"] == pl.String:
            chosen.insert(0, column.is_between(pl.lit(raw.min()), pl.lit(raw.max())))
        return guarded(self, lambda: wanted.filter(*chosen).collect())

    def problems(self) -> list[str]:
        """All problems that prevent reading, also if columns are missing."""
        missing = self.missing()
        if missing is None:
            return []
        plan = guarded(self, lambda: self.planned(_with_absent(self.scan())))
        return [missing, *self.located(plan.problems)]

    def located(self, problems: Sequence[str]) -> list[str]:
        """Problems, each with the file's name and the first line with the value."""
        return [f"{self}: {problem}{self._line_of(problem)}" for problem in problems]

    def _line_of(self, problem: str) -> str:
        value = problem.partition("; found ")[2]
        value = (
            value.partition("'")[2].partition("'")[0]
            if value.startswith("'")
            else value.partition(",")[0].partition(":")[0]
        )
        if self.content.is_parquet or not value:
            return ""
        lines = self.content.text().split(b"\n")
        return next((f" (line {number})" for number, line in enumerate(lines, 1) if value.encode() in line), "")


def _with_absent(cells: pl.LazyFrame) -> pl.LazyFrame:
    known = cells.collect_schema().names()
    return cells.with_columns(pl.lit(None, pl.String).alias(name) for name in BAR_SCHEMA if name not in known)


def exchanges_of(listings: pl.DataFrame) -> dict[str, str]:
    """Exchange of each valid symbol of the listings: no header text, no text that is too long."""
    sound = listings.filter(
        pl.col("listed").is_not_null()
        & pl.col("problem").is_null()
        & (pl.col("listed").str.len_chars() <= LONGEST_SYMBOL)
        & ~pl.col("listed").str.contains(r"[\x00-\x1f\x7f]")
    )
    return dict(sound.select("listed", "place").iter_rows())


@dataclass(frozen=True)
class PricePiece:
    """Bars of one table, or of several tables with one layout.

    `bars` are unscaled, with the columns of `BAR_SCHEMA`, `adj_close` if there is one, and `unread` if a cell is
    unreadable. `has_adjusted_volumes` says that the volumes come from a column of adjusted volumes.
    """

    bars: pl.DataFrame
    exchanges: dict[str, str]
    has_adjusted_volumes: bool = False

    @property
    def adjusted(self) -> bool:
        """Whether there is an adjusted close."""
        return "adj_close" in self.bars.columns


def read_tables(
    tables: Sequence[PlannedTable], symbols: Sequence[str | None] | None, path: Path
) -> list[PricePiece]:
    """Read the bars of some symbols, or of all (None), which must then fit in memory.

    Raises SourceFileError with the problems of all tables; the message names `path`.
    """
    pieces, problems = [], []
    groups = _by_make(tables) if symbols is None else [[table] for table in tables]
    for group in groups:
        try:
            pieces += _read_group(group, symbols)
        except _ProblemsError as error:
            problems += error.problems
        except SourceFileError as error:
            problems.append(str(error))
    if problems:
        raise SourceFileError(listed_problems(problems, path))
    return pieces


class _ProblemsError(Exception):
    def __init__(self, problems: list[str]) -> None:
        super().__init__()
        self.problems = problems


def _by_make(tables: Sequence[PlannedTable]) -> list[list[PlannedTable]]:
    """Tables grouped by layout; each Parquet file alone, because its values are typed."""
    groups: dict[object, list[PlannedTable]] = {}
    for number, table in enumerate(tables):
        key = number if table.content.is_parquet else (table.layout.columns, table.separator, table.names)
        groups.setdefault(key, []).append(table)
    return list(groups.values())


def _read_group(group: Sequence[PlannedTable], symbols: Sequence[str | None] | None) -> list[PricePiece]:
    if symbols is not None:
        table = group[0]
        if set(symbols).isdisjoint(table.rows["symbol"].to_list()):
            return []
        return [_read(table, table.cells_of(symbols), table.plan)]
    cells = [guarded(table, table.scan().collect) for table in group]
    if len(group) > 1:
        together = pl.concat(own.with_columns(pl.lit(n).alias(TABLE)) for n, own in enumerate(cells))
        plan = group[0].planned(together.lazy())
        if plan.is_clean:
            return [_read(group[0], together, plan)]
    # Each table by its own evidence: two files of one tool may write dates in different orders.
    pieces, problems = [], []
    for table, own in zip(group, cells, strict=True):
        plan = table.planned(own.lazy())
        problems += table.located(plan.problems)
        if not problems:
            pieces.append(_read(table, own, plan))
    if problems:
        raise _ProblemsError(problems)
    return pieces


def _read(table: PlannedTable, cells: pl.DataFrame, plan: Plan) -> PricePiece:
    if plan.problems:
        raise _ProblemsError(table.located(plan.problems))
    has_adjusted_volumes = "adj_volume" in table.names
    return PricePiece(apply_plan(cells, plan), exchanges_of(plan.listings), has_adjusted_volumes)


def listed_problems(problems: Sequence[str], path: Path) -> str:
    """All problems as one message."""
    if len(problems) == 1:
        return problems[0]
    shown = "".join(f"\n  {problem}" for problem in problems[:PROBLEMS_LISTED])
    more = f"\n  and {len(problems) - PROBLEMS_LISTED} more" if len(problems) > PROBLEMS_LISTED else ""
    return f"{path} cannot be read:{shown}{more}"


def without_copies(pieces: Sequence[pl.DataFrame]) -> tuple[pl.DataFrame, int]:
    """Concatenate tables without rows that an earlier table also holds; returns the number of copies too."""
    if len(pieces) == 1 and TABLE not in pieces[0].columns:
        return pieces[0], 0
    numbered_pieces = [
        piece.with_columns(_table=number * _MOST_TABLES + (pl.col(TABLE) if TABLE in piece.columns else 0))
        for number, piece in enumerate(pieces)
    ]
    together = pl.concat(numbered_pieces, how="diagonal").drop(TABLE, strict=False)
    tables = together.group_by("symbol").agg(pl.col("_table").n_unique())
    shared = tables.filter((pl.col("_table") > 1) & pl.col("symbol").is_not_null())["symbol"]
    if shared.is_empty():
        return together.drop("_table"), 0
    columns = [name for name in together.columns if name != "_table"]
    is_shared = pl.col("symbol").is_in(shared.implode())
    first = together.filter(is_shared).select(pl.col("_table").min().over(columns), own="_table")
    is_copy = first.select((pl.col("_table") < pl.col("own")).alias("_copy"))
    numbered = together.with_row_index("_row")
    copies = numbered.filter(is_shared).select("_row").with_columns(is_copy).filter("_copy")
    kept = numbered.join(copies.select("_row"), on="_row", how="anti", maintain_order="left")
    return kept.drop("_row", "_table"), copies.height


def by_adjustment(pieces: Sequence[tuple[bool, pl.DataFrame]]) -> Iterator[tuple[bool, pl.DataFrame, int]]:
    """Split bars by whether they are adjusted; a symbol counts as adjusted only if all of its tables are.

    Yields the flag, the bars of complete symbols, and the number of copies left out.
    """
    if not pieces:
        return
    raw = [bars for adjusted, bars in pieces if not adjusted]
    symbols = pl.concat(bars["symbol"] for bars in raw).unique() if raw else pl.Series(dtype=pl.String)
    everything, copies = without_copies([bars for _, bars in pieces])
    is_raw = pl.col("symbol").is_in(symbols.implode()).fill_null(value=bool(raw))
    for adjusted, bars in ((False, everything.filter(is_raw)), (True, everything.filter(~is_raw))):
        if bars.height:
            yield adjusted, bars, copies
            copies = 0
