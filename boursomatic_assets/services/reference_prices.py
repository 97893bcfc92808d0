"""Reference prices: the benchmark's, and the closes of judged rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from boursomatic_assets.core.market.bars import PANEL_KEY
from boursomatic_assets.core.portfolio.benchmark import FEWEST_BARS, unknown_benchmark
from boursomatic_assets.errors import UnknownBenchmarkError
from boursomatic_assets.providers.registry import provider_for
from boursomatic_assets.storage.postgres.adjustments_table import read_corrections
from boursomatic_assets.storage.postgres.market_tables import read_spans, read_usable_bars, symbols_with_bars
from boursomatic_assets.storage.postgres.panels import Selection

if TYPE_CHECKING:
    from datetime import date

    from boursomatic_assets.settings import Settings
    from boursomatic_assets.storage.postgres.database import Database

_LEAVE_OUT = "or leave out the benchmark"
# How to add the bars of a symbol, by source.
_REMEDIES = {
    "sample": "the bundled sample has no other; add --provider files --path FILE with its bars",
    "files": "add its bars to the files",
    "database": "let the program that keeps price_bars bring its bars",
}
_FETCHED = "add it to the list of instruments (boursomatic universe init)"


def require_known_benchmark(database: Database, settings: Settings, symbol: str, *, ingests: bool) -> None:
    """Check before a run that the database has the benchmark, or the source if the run `ingests`.

    Nothing is fetched. Raises UnknownBenchmarkError if neither has it, ProviderError if the source cannot be read.
    """
    stored = symbols_with_bars(database)
    if symbol in stored:
        return
    delivered = provider_for(settings).instruments()["symbol"].drop_nulls().to_list() if ingests else []
    if symbol not in delivered:
        raise _unknown(symbol, {*stored, *delivered}, settings)


def read_benchmark(database: Database, settings: Settings, symbol: str | None) -> pl.DataFrame | None:
    """Usable bars of the benchmark: `symbol`, `session`, `close`; None without a benchmark.

    Raises UnknownBenchmarkError if it has fewer than the two bars that a return needs.
    """
    if symbol is None:
        return None
    bars = read_usable_bars(database, ["close"], Selection(symbols=(symbol,)))
    if bars.height >= FEWEST_BARS:
        return bars
    stored = read_spans(database).filter(pl.col("symbol") == symbol)
    if stored.is_empty():
        raise _unknown(symbol, symbols_with_bars(database), settings)
    with database.bulk() as cursor:
        quarantined = symbol in read_corrections(cursor).quarantined
    count, first, last = stored.select("rows", "first", "last").row(0)
    why = (
        "it is quarantined for a jump near a split ratio: explain it (boursomatic adjustments list)"
        if quarantined
        else f"bring more of its bars, {_LEAVE_OUT}"
    )
    message = (
        f"the benchmark {symbol!r} needs {FEWEST_BARS} usable bars; it has {bars.height}, of {count} stored "
        f"({first} to {last}): {why}"
    )
    raise UnknownBenchmarkError(message)


def _unknown(symbol: str, known: set[str] | list[str], settings: Settings) -> UnknownBenchmarkError:
    remedy = _REMEDIES.get(settings.provider, _FETCHED)
    return UnknownBenchmarkError(unknown_benchmark(symbol, known, f"{remedy}, {_LEAVE_OUT}"))


def judged_closes(database: Database, panel: pl.DataFrame) -> pl.DataFrame:
    """Usable closes of a panel's symbols from its first session on.

    Columns: `symbol`, `session`, `close` and `explained`, whether an adjustment with ratio 1 calls the move real.
    """
    first: date = panel["session"].min()  # type: ignore[assignment]
    symbols = panel["symbol"].unique().sort().to_list()
    closes = read_usable_bars(database, ["close"], Selection(symbols=symbols, since=first))
    with database.bulk() as cursor:
        entered = read_corrections(cursor).adjustments
    real = entered.filter(pl.col("ratio") == 1.0).select(*PANEL_KEY, explained=pl.lit(value=True))
    return closes.join(real, on=PANEL_KEY, how="left", maintain_order="left").with_columns(
        pl.col("explained").fill_null(value=False)
    )
