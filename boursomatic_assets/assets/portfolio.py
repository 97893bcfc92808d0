"""Books that follow the calls of the test set, beside books that need no model."""

from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg
import polars as pl

from boursomatic_assets.assets import OWNERS, code_version
from boursomatic_assets.core.models.threshold import judged_rows
from boursomatic_assets.core.portfolio.benchmark import benchmark_coverage
from boursomatic_assets.core.portfolio.book import TrancheBook, closes_of_books, positions, trades
from boursomatic_assets.core.portfolio.books import detail_table, judged_books, portfolio_faults, portfolio_table
from boursomatic_assets.display.ui.metadata import data_version
from boursomatic_assets.display.ui.portfolio import book_metadata
from boursomatic_assets.services.reference_prices import read_benchmark
from boursomatic_assets.storage.dagster.resources import ExperimentResource, PlatformResource

_DESCRIPTIONS = {
    "portfolio": "Daily return, equity and drawdown on the test set: of the model's books, of equal weight, of "
    "books chosen by volatility or momentum alone, and of the benchmark.",
    "positions": "Positions of the BUY book and the long-short book after each session's close.",
    "trades": "Purchases and sales of the BUY book and the long-short book, with the close that they are made at.",
}
_TABLES: dict[str, Callable[[dict[str, TrancheBook]], pl.DataFrame]] = {
    "portfolio": portfolio_table,
    "positions": lambda books: detail_table(books, positions),
    "trades": lambda books: detail_table(books, trades),
}


@dg.multi_asset(
    outs={
        name: dg.AssetOut(
            description=text,
            group_name="portfolio",
            kinds={"polars", "parquet"},
            owners=OWNERS,
            code_version=code_version(__name__, "portfolios"),
            io_manager_key="panels",
            is_required=False,
        )
        for name, text in _DESCRIPTIONS.items()
    },
    ins={
        "labels": dg.AssetIn(metadata={"columns": ["symbol", "session"]}),
        "price_bars": dg.AssetIn(metadata={"recent": True, "columns": ["close", "exchange"]}),
    },
    can_subset=True,
)
def portfolios(  # noqa: PLR0913, PLR0917 (each input is an edge of the lineage)
    context: dg.AssetExecutionContext,
    predictions: pl.DataFrame,
    threshold: dict[str, Any],
    baselines: pl.DataFrame,
    labels: pl.DataFrame,
    price_bars: pl.DataFrame,
    experiment: ExperimentResource,
    platform: PlatformResource,
) -> Iterator[dg.MaterializeResult[pl.DataFrame]]:
    """Follow the calls of the test set, session by session."""
    settings = experiment.value()
    judged = judged_rows(predictions, baselines, threshold["tau"])
    benchmark = read_benchmark(platform.database(), platform.settings(), settings.benchmark)
    closes = closes_of_books(price_bars, labels, judged["session"].min())  # type: ignore[arg-type]
    books = judged_books(judged, closes, settings.horizon, settings.cost_bps, benchmark)
    covered = benchmark_coverage(settings.benchmark, benchmark, books["buy"].sessions)
    for name, table_of in _TABLES.items():
        if dg.AssetKey(name) in context.selected_asset_keys:
            table = table_of(books)
            metadata = book_metadata(name, table, books, covered["sentence"])
            yield dg.MaterializeResult(
                asset_key=name, value=table, metadata=metadata, data_version=data_version(table)
            )


@dg.asset_check(asset="portfolio", blocking=True, additional_ins={"trades": dg.AssetIn("trades")})
def books_add_up(portfolio: pl.DataFrame, trades: pl.DataFrame) -> dg.AssetCheckResult:
    """Equity is always a number, drawdown lies in [-1, 0], and a session's trades sum to its turnover."""
    faults = portfolio_faults(portfolio, trades)
    return dg.AssetCheckResult(passed=not faults, metadata={"faults": faults})
