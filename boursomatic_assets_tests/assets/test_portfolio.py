"""The books of the test set as assets, over small inputs that stand in for the graph's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np
import polars as pl
import pytest

from boursomatic_assets.assets.portfolio import books_add_up, portfolios
from boursomatic_assets.core.dataset.experiment import Experiment
from boursomatic_assets.core.dataset.labels import LABEL_TYPE
from boursomatic_assets.core.market.bars import PRICE_COLUMNS
from boursomatic_assets.core.portfolio.book import positions, trades
from boursomatic_assets.core.portfolio.books import detail_table, judged_books, portfolio_table
from boursomatic_assets.errors import UnknownBenchmarkError
from boursomatic_assets.storage.dagster.resources import ExperimentResource, PlatformResource
from boursomatic_assets.storage.postgres.instruments_table import write_instruments
from boursomatic_assets.storage.postgres.market_tables import write_bars
from boursomatic_assets_tests.support.panels import accepted, listed
from boursomatic_assets_tests.support.strategies import random_walk_bars, weekdays

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boursomatic_assets.storage.postgres.database import Database

D = weekdays(120)
TAU = 0.5
CLOSES = random_walk_bars(symbols=6, sessions=120, seed=4).select("symbol", "session", "close")


def predicted() -> pl.DataFrame:
    """Validation rows until session 40 and test rows until 90, with probabilities that know nothing."""
    rows = CLOSES.filter(pl.col("session") < D[90]).select("symbol", "session")
    drawn = np.random.default_rng(4).dirichlet([1, 1, 1], rows.height)
    return rows.with_columns(
        set=pl.when(pl.col("session") < D[40]).then(pl.lit("validation")).otherwise(pl.lit("test")),
        probability_buy=pl.Series(drawn[:, 0]),
        probability_hold=pl.Series(drawn[:, 1]),
        probability_sell=pl.Series(drawn[:, 2]),
        predicted_label=pl.Series(np.array(["BUY", "HOLD", "SELL"])[drawn.argmax(axis=1)], dtype=LABEL_TYPE),
    ).with_columns(pl.col("set").cast(pl.Enum(["validation", "test"])))


PREDICTIONS = predicted()
BASELINES = PREDICTIONS.select(
    "symbol", "session", "set", volatility_probability_buy="probability_hold", momentum_12_1="probability_sell"
)


@dg.asset(name="predictions")
def given_predictions() -> pl.DataFrame:
    return PREDICTIONS


@dg.asset(name="threshold")
def given_threshold() -> dict[str, Any]:
    return {"tau": TAU, "reason": "given"}


@dg.asset(name="baselines")
def given_baselines() -> pl.DataFrame:
    return BASELINES


@dg.asset(name="labels")
def given_labels() -> pl.DataFrame:
    return CLOSES


@dg.asset(name="price_bars")
def given_price_bars() -> pl.DataFrame:
    return CLOSES.with_columns(exchange=pl.lit("unknown"))


def materialize(selection: Sequence[str] | None = None, benchmark: str | None = None) -> dg.ExecuteInProcessResult:
    upstream = [given_predictions, given_threshold, given_baselines, given_labels, given_price_bars]
    given = ["predictions", "threshold", "baselines", "labels", "price_bars"]
    return dg.materialize_to_memory(
        [*upstream, portfolios, books_add_up],
        resources={"experiment": ExperimentResource(benchmark=benchmark), "platform": PlatformResource()},
        selection=None if selection is None else [*given, *selection],
    )


@pytest.fixture(scope="module")
def whole() -> dg.ExecuteInProcessResult:
    return materialize()


def metadata_of(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    (event,) = result.filter_events(
        lambda event: event.is_step_materialization and event.asset_key == dg.AssetKey(asset)
    )
    return {name: value.value for name, value in event.materialization.metadata.items()}


def test_the_tables_are_those_of_the_books_of_the_test_rows(whole: dg.ExecuteInProcessResult) -> None:
    # BUY from tau on, else the more probable of the other two
    test = PREDICTIONS.filter(pl.col("session") >= D[40]).join(BASELINES.drop("set"), on=["symbol", "session"])
    call = (
        pl.when(pl.col("probability_buy") >= TAU)
        .then(pl.lit("BUY"))
        .when(pl.col("probability_hold") >= pl.col("probability_sell"))
        .then(pl.lit("HOLD"))
        .otherwise(pl.lit("SELL"))
    )
    settings = Experiment()
    books = judged_books(test.with_columns(call=call.cast(LABEL_TYPE)), CLOSES, settings.horizon, settings.cost_bps)
    assert whole.asset_value("portfolio").equals(portfolio_table(books))
    assert whole.asset_value("positions").equals(detail_table(books, positions))
    assert whole.asset_value("trades").equals(detail_table(books, trades))
    assert whole.asset_value("portfolio")["session"].min() == D[41]


def test_the_metadata_say_what_the_books_made_and_which_book_is_not_there(whole: dg.ExecuteInProcessResult) -> None:
    found = metadata_of(whole, "portfolio")
    last = whole.asset_value("portfolio").filter(pl.col("book") == "buy")["equity"][-1]
    assert found["buy_total_return"] == pytest.approx(last - 1, abs=1e-5)
    assert found["benchmark"] == "the experiment names no benchmark"
    assert found["early_exits"] == found["ruined_tranches"] == 0
    assert "data:image/png" in found["equity_and_drawdown"]
    assert metadata_of(whole, "trades")["dagster/row_count"] == whole.asset_value("trades").height


def test_the_books_add_up(whole: dg.ExecuteInProcessResult) -> None:
    (check,) = whole.get_asset_check_evaluations()
    assert check.passed
    assert check.blocking


def test_one_table_can_be_made_alone() -> None:
    result = materialize(["trades"])
    assert {event.asset_key.path[-1] for event in result.get_asset_materialization_events()} >= {"trades"}
    assert "portfolio" not in {event.asset_key.path[-1] for event in result.get_asset_materialization_events()}


def test_trades_that_do_not_belong_to_the_books_are_found(whole: dg.ExecuteInProcessResult) -> None:
    check = books_add_up(whole.asset_value("portfolio"), whole.asset_value("trades").tail(-1))
    assert isinstance(check, dg.AssetCheckResult)
    assert not check.passed


def test_the_benchmark_stands_beside_the_books(database: Database) -> None:
    index = CLOSES.filter(pl.col("symbol") == "W000").with_columns(pl.col("close") * 3)
    bars = index.select(
        pl.lit("INDEX").alias("symbol"), "session", *[pl.col("close").alias(name) for name in PRICE_COLUMNS],
        volume=pl.lit(100.0),
    )  # fmt: skip
    write_instruments(database, listed("INDEX"))
    write_bars(database, accepted(bars), "files:/index.csv")
    result = materialize(benchmark="INDEX")
    table = result.asset_value("portfolio").filter(pl.col("book") == "benchmark")
    # bought at the close of the books' first session, 41, and held to the last: called at 89, in at 90, out at 110
    bought, held = (index.filter(pl.col("session") == session)["close"][0] for session in (D[41], D[110]))
    assert table["session"].to_list() == D[41:111]
    assert table["equity"][-1] == pytest.approx(held / bought, rel=1e-9)
    assert metadata_of(result, "portfolio")["benchmark"] == "INDEX covers 70 of 70 sessions"


@pytest.mark.usefixtures("database")
def test_a_benchmark_without_bars_stops_the_books() -> None:
    with pytest.raises(UnknownBenchmarkError, match="the benchmark 'INDEX' has no bars, among 0 symbols that have"):
        materialize(benchmark="INDEX")
