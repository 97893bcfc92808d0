"""Vendors of raw prices: stored as they were traded, read as the vendor adjusts them, whatever fails meanwhile."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from boursomatic_assets.core.market.bars import BAR_SCHEMA, PRICE_COLUMNS
from boursomatic_assets.providers.files import FilesProvider
from boursomatic_assets.services.ingest.adjusting import enter_adjustment
from boursomatic_assets.services.ingest.jump_audit import audit_jumps
from boursomatic_assets.services.ingest.update import update_bars
from boursomatic_assets.settings import Settings
from boursomatic_assets.storage.postgres.adjustments_table import read_corrections
from boursomatic_assets.storage.postgres.candidates import read_bar_provenance
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets.storage.postgres.market_tables import read_bars, read_usable_bars
from boursomatic_assets_tests.conftest import fresh_database, upgraded
from boursomatic_assets_tests.support.catalog import rows, versions_of
from boursomatic_assets_tests.support.fake_sources import FakeSources
from boursomatic_assets_tests.support.fake_vendors import vendor_adjusted
from boursomatic_assets_tests.support.processes import IMPORTS, UPDATE, Forks
from boursomatic_assets_tests.support.updates import update, update_until_arrived

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import sqlalchemy as sa

NOW = datetime.now(UTC)
VENDORS = ("eodhd", "tiingo")
KEY = "open-sesame"
SYMBOLS = tuple(f"{first}{second}" for first in "ABCDE" for second in "KLMNOP")
# So many kills in each run of the tests, and in the slow one.
FEW, MANY = 3, 20


def market(symbols: tuple[str, ...] = SYMBOLS, sessions: int = 120) -> pl.DataFrame:
    """Raw bars of each symbol up to three weeks ago, with two dividends; every third is split 4 for 1."""
    last = NOW.date() - timedelta(days=21)
    days = [day for back in range(sessions * 2) if (day := last - timedelta(days=back)).isoweekday() < 6]
    return pl.concat(_series(number, symbol, days[:sessions][::-1]) for number, symbol in enumerate(symbols))


def _series(number: int, symbol: str, days: list[date]) -> pl.DataFrame:
    draw, count = np.random.default_rng(number), len(days)
    closes = 80 * np.exp(np.cumsum(draw.normal(0, 0.015, count)))
    shares = np.where(np.arange(count) < (70 if number % 3 == 0 else 0), 1.0, 4.0)
    frame = pl.DataFrame(
        {
            "symbol": [symbol] * count,
            "session": days,
            "open": closes,
            "high": closes * 1.01,
            "low": closes * 0.99,
            "close": closes,
            "volume": draw.integers(100_000, 1_000_000, count).astype(float),
        }
    )
    place = pl.int_range(pl.len())
    return frame.with_columns(
        *((pl.col(name) / pl.Series(shares)).round(4) for name in PRICE_COLUMNS),
        split=pl.when((place == 70) & (number % 3 == 0)).then(4.0),
        dividend=pl.when(place.is_in([30, 100])).then(0.5),
    )


BARS = market()


@contextmanager
def settings_for(
    postgres: sa.Engine, sources: FakeSources, folder: Path, vendor: str, symbols: tuple[str, ...] = SYMBOLS
) -> Iterator[Settings]:
    """A fresh database, and an environment that reaches the vendor through the gateway."""
    universe = folder / "universe.csv"
    pl.DataFrame({"symbol": symbols}).with_columns(
        name="symbol", exchange=pl.lit("XNYS"), currency=pl.lit("USD")
    ).write_csv(universe)
    with fresh_database(postgres):
        os.environ.update(
            {
                "BOURSOMATIC_REQUESTS_PER_SECOND": "500",
                "BOURSOMATIC_GATEWAY": sources.address,
                "BOURSOMATIC_UNIVERSE": str(universe),
                "BOURSOMATIC_HOME": str(folder),
                "BOURSOMATIC_EODHD_KEY": KEY,
                "BOURSOMATIC_TIINGO_KEY": KEY,
                "BOURSOMATIC_PROVIDER": vendor,
            }
        )
        settings = Settings.from_environment()
        upgraded(settings)
        yield settings


def whole(database: Database, bars: pl.DataFrame, symbols: tuple[str, ...] = SYMBOLS) -> None:
    """Stored as it was traded, each bar once; read as the vendor adjusts it, by the product and in the view."""
    wanted = bars.filter(pl.col("symbol").is_in(symbols)).sort("symbol", "session")
    agree(read_bars(database), wanted.select(list(BAR_SCHEMA)))
    adjusted = pl.concat(
        vendor_adjusted(own).with_columns(symbol=pl.lit(symbol))
        for (symbol,), own in wanted.group_by("symbol", maintain_order=True)
    ).select(list(BAR_SCHEMA))
    agree(read_usable_bars(database), adjusted)
    view = database.read("SELECT symbol, session, open, high, low, close, volume FROM adjusted_bars ORDER BY 1, 2")
    agree(view, adjusted)
    assert rows(database, "SELECT count(*) FROM unexplained_jumps") == [(0,)]


def agree(found: pl.DataFrame, wanted: pl.DataFrame) -> None:
    assert found.select("symbol", "session").equals(wanted.select("symbol", "session"))
    for name in (*PRICE_COLUMNS, "volume"):
        assert np.allclose(found[name].to_numpy(), wanted[name].to_numpy(), rtol=1e-9, atol=0.0), name


def require_whole_symbols(database: Database) -> None:
    """A symbol is there whole, with its actions, or not at all."""
    expected = BARS.group_by("symbol").agg(
        bars=pl.len().cast(pl.Int64), actions=(pl.col("split").count() + pl.col("dividend").count()).cast(pl.Int64)
    )
    stored = database.read(
        "SELECT i.symbol, count(*) AS bars, "
        "(SELECT count(*) FROM vendor_actions v WHERE v.symbol = i.symbol) AS actions "
        "FROM instruments i JOIN price_bars b ON b.instrument_id = i.id GROUP BY 1"
    )
    assert stored.join(expected, on=["symbol", "bars", "actions"], how="anti").is_empty()


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("kills", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
def test_killed_while_a_tenth_of_the_answers_fails_it_ends_with_the_same_table(
    postgres: sa.Engine, tmp_path: Path, vendor: str, kills: int
) -> None:
    moments = random.Random(5)  # noqa: S311 (moments, no secrets)
    with (
        FakeSources(BARS, share=0.1, seed=12, retry_after="0", delay=0.1) as sources,
        settings_for(postgres, sources, tmp_path, vendor) as settings,
    ):
        database, survived = Database.open(settings), 0
        with Forks(UPDATE, f"import curl_cffi\n{IMPORTS}") as updates:
            for _ in range(kills):
                child = updates.begin()
                time.sleep(moments.uniform(0.05, 1.5))
                os.kill(child, signal.SIGKILL)
                survived += updates.exit_code(child) == 0
                require_whole_symbols(database)
        assert survived < kills, "no kill came in time"
        database = update_until_arrived(set(SYMBOLS))
        whole(database, BARS)
        failed = [request for request in sources.requests if request["fault"]]
        assert len(failed) > 0.04 * len(sources.requests), "the fake did not fail as it was told to"
        said = database.read("SELECT detail FROM fetch_results")["detail"].to_list()
        assert not any(KEY in detail for detail in said)
        # Again, with nothing new: no row is written.
        before = versions_of(database, "price_bars"), rows(database, "SELECT * FROM vendor_actions ORDER BY 1, 2")
        update()
        assert (
            versions_of(database, "price_bars"),
            rows(database, "SELECT * FROM vendor_actions ORDER BY 1, 2"),
        ) == before


ONE = ("AK",)


def later(bars: pl.DataFrame, split: float) -> pl.DataFrame:
    """The bars and one more, on which the stock is split."""
    newest = bars.row(-1, named=True)
    prices = {name: round(newest[name] / split, 4) for name in PRICE_COLUMNS}
    day = newest["session"] + timedelta(days=3 if newest["session"].isoweekday() == 5 else 1)
    more = newest | prices | {"session": day, "volume": newest["volume"] * split, "split": split, "dividend": None}
    return pl.concat([bars, pl.DataFrame([more], schema=bars.schema)])


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_later_split_adds_an_action_and_leaves_the_bars_as_they_were_traded(
    postgres: sa.Engine, tmp_path: Path, vendor: str
) -> None:
    bars = BARS.filter(symbol="AK")
    with FakeSources(bars) as sources, settings_for(postgres, sources, tmp_path, vendor, ONE):
        database = update()
        stored, noted = versions_of(database, "price_bars"), read_bar_provenance(database)["AK"]["adjustments"]
        sources.bars = later(bars, 10.0)
        update()
        whole(database, sources.bars, ONE)
        assert {key: versions_of(database, "price_bars")[key] for key in stored} == stored
        assert rows(database, "SELECT count(*) FROM bar_changes") == [(0,)]
        # What a recommendation notes of its bars has the split too: prices and volumes by a tenth.
        session = sources.bars["session"][-1].isoformat()
        assert read_bar_provenance(database)["AK"]["adjustments"] == [*noted, [session, 0.1]]


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_split_that_the_vendor_does_not_state_is_a_jump_until_somebody_explains_it(
    postgres: sa.Engine, tmp_path: Path, vendor: str
) -> None:
    bars = BARS.filter(symbol="AK")
    unsaid = later(bars, 10.0).with_columns(split=pl.when(pl.col("session") < bars["session"][-1]).then("split"))
    with FakeSources(unsaid) as sources, settings_for(postgres, sources, tmp_path, vendor, ONE):
        database = update()
        (jump,) = audit_jumps(database).waiting.rows()
        assert jump[:2] == ("AK", unsaid["session"][-1])
        enter_adjustment(database, "AK", unsaid["session"][-1], 0.1, None)
        said = unsaid.with_columns(split=pl.when(pl.col("session") == jump[1]).then(10.0).otherwise("split"))
        # Whether the vendor states it in the end or not, it counts once.
        for answers in (unsaid, said):
            sources.bars = answers
            update()
            found = read_usable_bars(database)
            agree(found, vendor_adjusted(said).with_columns(symbol=pl.lit("AK")).select(found.columns))


def test_bars_of_an_adjusted_source_take_the_place_of_raw_ones_with_their_actions(
    postgres: sa.Engine, tmp_path: Path
) -> None:
    bars = BARS.filter(symbol="AK")
    with FakeSources(bars) as sources, settings_for(postgres, sources, tmp_path, "tiingo", ONE):
        database = update()
        assert read_corrections_of(database) == 3
        # Yahoo's adjusted closes of the same prices, after one more dividend of 2 %.
        factor = pl.when(pl.int_range(pl.len()) < bars.height - 2).then(0.98).otherwise(1.0)
        paid = bars.with_columns(adj_close=pl.col("close") * factor)
        sources.bars = paid
        os.environ["BOURSOMATIC_PROVIDER"] = "yahoo"
        update()
        assert read_corrections_of(database) == 0
        scaled = paid.with_columns(pl.col(name) * pl.col("adj_close") / pl.col("close") for name in PRICE_COLUMNS)
        agree(read_bars(database), scaled)
        # And back: raw again, with what the vendor states.
        os.environ["BOURSOMATIC_PROVIDER"] = "tiingo"
        sources.bars = bars
        update()
        whole(database, bars, ONE)


def test_a_file_says_what_actions_there_are_between_its_own_bars_and_no_more(
    postgres: sa.Engine, tmp_path: Path
) -> None:
    bars = BARS.filter(symbol="AK")
    with FakeSources(bars) as sources, settings_for(postgres, sources, tmp_path, "tiingo", ONE):
        database = update()
        # Of 120 bars the last 30: the dividend of the 101st is among them, that of the 31st and the split are not.
        path = tmp_path / "adjusted.csv"
        vendor_adjusted(bars).tail(30).with_columns(symbol=pl.lit("AK")).write_csv(path)
        os.environ.update({"BOURSOMATIC_PROVIDER": "files", "BOURSOMATIC_PROVIDER_PATH": str(path)})
        update_bars(database, FilesProvider(path), Settings.from_environment(), NOW, lambda _: None)
        left = rows(database, "SELECT session, split, dividend FROM vendor_actions ORDER BY 1")
        assert left == [(bars["session"][30], 1.0, 0.5), (bars["session"][70], 4.0, 0.0)]


def read_corrections_of(database: Database) -> int:
    with database.bulk() as cursor:
        return read_corrections(cursor).actions.height
