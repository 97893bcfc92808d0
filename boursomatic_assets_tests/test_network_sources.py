"""A universe fetched from sources as they really are: slow, failing now and then, killed half-way, rewritten."""

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

from boursomatic_assets.core.dataset.features import FEATURE_NAMES, compute_features
from boursomatic_assets.core.market.bars import PRICE_COLUMNS
from boursomatic_assets.core.market.calendars import calendar_of, last_complete_session, sessions_between
from boursomatic_assets.core.market.fetch_report import Outcome
from boursomatic_assets.providers.universe import read_universe
from boursomatic_assets.settings import Settings
from boursomatic_assets.storage.postgres.content import read_content
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets.storage.postgres.features_table import read_features
from boursomatic_assets.storage.postgres.fetch_log import newest_round, read_results
from boursomatic_assets.storage.postgres.market_tables import read_bars
from boursomatic_assets_tests.conftest import fresh_database, upgraded
from boursomatic_assets_tests.support.catalog import rows, versions_of
from boursomatic_assets_tests.support.fake_sources import FakeSources, Fault
from boursomatic_assets_tests.support.installation import Installation, new_installation
from boursomatic_assets_tests.support.processes import IMPORTS, UPDATE, Forks, spawn
from boursomatic_assets_tests.support.updates import update, update_until_arrived

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import sqlalchemy as sa

NOW = datetime.now(UTC)
SYMBOLS = 60
KILLS = 20
QUICK = {"BOURSOMATIC_REQUESTS_PER_SECOND": "500", "BOURSOMATIC_PROVIDER": "yahoo"}


def market(symbols: pl.DataFrame, first: date) -> pl.DataFrame:
    """Lawful bars of each symbol on its own exchange's sessions, with dividends in the adjusted close."""
    return pl.concat(
        _series(number, symbol, exchange, first)
        for number, (symbol, exchange) in enumerate(symbols.select("symbol", "exchange").iter_rows())
    )


def _series(number: int, symbol: str, exchange: str, first: date) -> pl.DataFrame:
    calendar = calendar_of(exchange)
    assert calendar is not None
    sessions = sessions_between(calendar, first, last_complete_session(calendar, NOW))
    draw, count = np.random.default_rng(number), sessions.len()
    closes = 50 * np.exp(np.cumsum(draw.normal(0, 0.015, count)))
    opens = closes * np.exp(draw.normal(0, 0.003, count))
    return pl.DataFrame(
        {
            "symbol": [symbol] * count,
            "session": sessions,
            "open": opens,
            "high": np.maximum(opens, closes) * 1.004,
            "low": np.minimum(opens, closes) * 0.996,
            "close": closes,
            "volume": draw.integers(100_000, 1_000_000, count).astype(float),
            "adj_close": closes * np.linspace(0.97, 1.0, count),
        }
    )


@pytest.fixture(scope="module")
def universe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty instruments of the shipped list: the first of each exchange in turn."""
    listed = read_universe(Settings.from_environment({}))
    chosen = listed.group_by("exchange", maintain_order=True).head(SYMBOLS // 5)
    assert chosen.height == SYMBOLS
    path = tmp_path_factory.mktemp("universe") / "universe.csv"
    chosen.write_csv(path)
    return path


@pytest.fixture(scope="module")
def bars(universe: Path) -> pl.DataFrame:
    # Half a year: enough sessions for every feature, and for the days that tests leave out at the end.
    return market(pl.read_csv(universe), NOW.date() - timedelta(days=180))


@contextmanager
def settings_for(postgres: sa.Engine, sources: FakeSources, universe: Path, home: Path) -> Iterator[Settings]:
    """A fresh database, and an environment that reaches the sources through the gateway."""
    with fresh_database(postgres):
        os.environ.update(
            {
                **QUICK,
                "BOURSOMATIC_GATEWAY": sources.address,
                "BOURSOMATIC_UNIVERSE": str(universe),
                "BOURSOMATIC_HOME": str(home),
            }
        )
        settings = Settings.from_environment()
        upgraded(settings)
        yield settings


def expected(bars: pl.DataFrame) -> pl.DataFrame:
    """The bars as they belong in the table: each price times adjusted close over close."""
    factor = pl.col("adj_close") / pl.col("close")
    scaled = bars.with_columns((pl.col(name) * factor).alias(name) for name in PRICE_COLUMNS)
    return scaled.drop("adj_close").sort("symbol", "session")


def agree(found: pl.DataFrame, wanted: pl.DataFrame) -> None:
    """The same keys, once each, and prices equal up to the digits that a source's answer has."""
    assert found.select("symbol", "session").equals(wanted.select("symbol", "session"))
    for name in (*PRICE_COLUMNS, "volume"):
        assert np.allclose(found[name].to_numpy(), wanted[name].to_numpy(), rtol=1e-9, atol=0.0), name


def test_a_tenth_of_the_answers_fails_and_the_universe_is_complete_once(
    postgres: sa.Engine, universe: Path, bars: pl.DataFrame, tmp_path: Path
) -> None:
    with (
        FakeSources(bars, share=0.1, seed=7, retry_after="0") as sources,
        settings_for(postgres, sources, universe, tmp_path),
    ):
        database = update_until_arrived(set(bars["symbol"]))
        agree(read_bars(database), expected(bars))
        failed = [request for request in sources.requests if request["fault"]]
        assert len(failed) > SYMBOLS * 0.04, "the fake did not fail as it was told to"
        # Again, with nothing new: every symbol's last sessions are asked for, and no row is written.
        before, asked = versions_of(database, "price_bars"), len(sources.requests)
        update()
        assert versions_of(database, "price_bars") == before
        assert len(sources.requests) >= asked + SYMBOLS


@pytest.mark.slow
def test_killed_at_twenty_moments_it_ends_with_the_same_table(
    postgres: sa.Engine, universe: Path, bars: pl.DataFrame, tmp_path: Path
) -> None:
    moments = random.Random(3)  # noqa: S311 (moments, no secrets)
    # Slow enough that an update of the whole universe takes a few seconds.
    with (
        FakeSources(bars, share=0.1, seed=11, retry_after="0", delay=0.12) as sources,
        settings_for(postgres, sources, universe, tmp_path) as settings,
        Forks(UPDATE, f"import yfinance\n{IMPORTS}") as updates,
    ):
        database = Database.open(settings)
        stored, survived = [0], 0
        for _ in range(KILLS):
            child = updates.begin()
            time.sleep(moments.uniform(0.05, 1.5))
            os.kill(child, signal.SIGKILL)
            survived += updates.exit_code(child) == 0
            # A symbol is there whole or not at all.
            content = read_content(database, "price_bars")
            whole = bars.group_by("symbol").agg(expected=pl.len().cast(pl.Int64))
            assert content.join(whole, on="symbol").filter(pl.col("rows") != pl.col("expected")).is_empty()
            stored.append(content.height)
        assert survived < KILLS, "no kill came in time"
        assert stored == sorted(stored)
        update_until_arrived(set(bars["symbol"]))
        agree(read_bars(database), expected(bars))


def test_what_one_run_fetched_before_it_was_killed_the_next_does_not_fetch_again(
    postgres: sa.Engine, universe: Path, bars: pl.DataFrame, tmp_path: Path
) -> None:
    with (
        FakeSources(bars, delay=0.1) as sources,
        settings_for(postgres, sources, universe, tmp_path) as settings,
    ):
        database = Database.open(settings)
        process = spawn(IMPORTS + UPDATE)
        while not (kept := set(read_content(database, "price_bars")["symbol"])):
            assert process.poll() is None
            time.sleep(0.02)
        process.kill()
        process.communicate()
        kept = set(read_content(database, "price_bars")["symbol"])
        assert 0 < len(kept) < SYMBOLS
        before = len(sources.requests)
        update()
        asked = {request["symbol"] for request in sources.requests[before:]}
        assert asked.isdisjoint(kept)
        agree(read_bars(database), expected(bars))


def test_eight_updates_at_once_take_turns(
    postgres: sa.Engine, universe: Path, bars: pl.DataFrame, tmp_path: Path
) -> None:
    # Two of each exchange: more would only take longer.
    few, path = pl.read_csv(universe).group_by("exchange", maintain_order=True).head(2), tmp_path / "few.csv"
    few.write_csv(path)
    theirs = bars.filter(pl.col("symbol").is_in(few["symbol"].implode()))
    with (
        FakeSources(theirs) as sources,
        settings_for(postgres, sources, path, tmp_path) as settings,
        Forks(UPDATE, f"import yfinance\n{IMPORTS}") as updates,
    ):
        children = [updates.begin() for _ in range(8)]
        assert [updates.exit_code(child) for child in children] == [0] * 8
        database = Database.open(settings)
        agree(read_bars(database), expected(theirs))
        assert rows(database, "SELECT count(*) FROM fetch_rounds WHERE finished_at IS NULL") == [(0,)]


def test_a_dividend_rewrites_history_whole_and_says_since_when(
    postgres: sa.Engine, universe: Path, bars: pl.DataFrame, tmp_path: Path
) -> None:
    paid = bars["symbol"][0]
    with FakeSources(bars) as sources, settings_for(postgres, sources, universe, tmp_path) as settings:
        update()
        database = Database.open(settings)
        before = versions_of(database, "price_bars")
        # All adjusted closes before the newest session are lower by 2 %: a dividend was paid.
        newest = bars.filter(pl.col("symbol") == paid)["session"].max()
        lower = pl.when((pl.col("symbol") == paid) & (pl.col("session") < newest)).then(0.98).otherwise(1.0)
        sources.bars = bars.with_columns(adj_close=pl.col("adj_close") * lower)
        update()
        agree(read_bars(database), expected(sources.bars))
        changed = {key for key, row in versions_of(database, "price_bars").items() if row != before[key]}
        rewritten = bars.filter((pl.col("symbol") == paid) & (pl.col("session") < newest)).height
        assert len(changed) == rewritten


def test_only_new_sessions_and_the_overlap_are_asked_for(
    postgres: sa.Engine, universe: Path, bars: pl.DataFrame, tmp_path: Path
) -> None:
    cut = NOW.date() - timedelta(days=30)
    older = bars.filter(pl.col("session") <= cut)
    with FakeSources(older) as sources, settings_for(postgres, sources, universe, tmp_path) as settings:
        update()
        sources.bars, before = bars, len(sources.requests)
        update()
        agree(read_bars(Database.open(settings)), expected(bars))
        starts = [
            datetime.fromtimestamp(int(request["query"]["period1"]), tz=UTC).date()
            for request in sources.requests[before:]
            if "period1" in request["query"]
        ]
        # Five stored sessions lie within ten days of the newest one, holidays of late autumn included.
        assert len(starts) >= SYMBOLS
        assert min(starts) > cut - timedelta(days=12)


def test_each_symbol_that_did_not_arrive_says_why_and_too_few_stop_the_run(
    universe: Path, bars: pl.DataFrame
) -> None:
    first, second, third = bars["symbol"].unique(maintain_order=True).to_list()[:3]
    faults = {
        f"yahoo/{first}": Fault.NOT_FOUND,
        f"stooq/{first}": Fault.EMPTY,
        f"yahoo/{second}": Fault.SERVER_ERROR,
        f"stooq/{second}": Fault.LIMIT_REACHED,
        f"yahoo/{third}": Fault.NOT_FOUND,
    }
    with FakeSources(bars, faults=faults) as sources, new_installation() as installed:
        variables = {
            **QUICK,
            "BOURSOMATIC_GATEWAY": sources.address,
            "BOURSOMATIC_UNIVERSE": str(universe),
        }
        ended = installed.run("materialize", "--select", "instruments,price_bars,features", **variables)
        assert ended.code == 1, ended.said
        assert "the_universe_has_arrived" in ended.said
        outcomes = dict(installed.ask("SELECT symbol, outcome || ' ' || coalesce(source, '-') FROM fetch_results"))
        assert outcomes[first] == "not found -"
        assert outcomes[second] == "source failed -"
        assert outcomes[third] == "fetched stooq"
        # The other symbols landed, and nothing was computed from an incomplete universe.
        assert installed.ask("SELECT count(DISTINCT instrument_id) FROM price_bars") == [(SYMBOLS - 2,)]
        assert installed.ask("SELECT count(*) FROM features") == [(0,)]
        # 58 of 60 are 96.7 %: whoever allows that goes on.
        again = installed.run(
            "materialize",
            "--select",
            "instruments,price_bars,features",
            **variables,
            BOURSOMATIC_MIN_ARRIVED_SHARE="0.95",
        )
        assert again.code == 0, again.said
        _features_are_those_of_a_full_computation(installed)


def _features_are_those_of_a_full_computation(installed: Installation) -> None:
    stored, computed = read_features(installed.database()), compute_features(read_bars(installed.database()))
    assert stored.height == computed.height > 0
    for name in FEATURE_NAMES:
        assert np.allclose(
            stored[name].to_numpy(), computed[name].to_numpy(), rtol=1e-9, atol=1e-12, equal_nan=True
        )


def test_a_fallback_that_disagrees_on_a_close_is_reported_and_changes_nothing(
    universe: Path, bars: pl.DataFrame
) -> None:
    silent, split = bars["symbol"].unique(maintain_order=True).to_list()[:2]
    cut = NOW.date() - timedelta(days=20)
    # Yahoo's adjusted closes of one symbol are 10 % below the closes that Stooq sells as its own.
    factor = pl.when(pl.col("symbol") == split).then(0.9).otherwise(1.0)
    known = bars.with_columns(adj_close=pl.col("close") * factor)
    older = known.filter(pl.col("session") <= cut)
    with FakeSources(older) as sources, new_installation() as installed:
        variables = {**QUICK, "BOURSOMATIC_GATEWAY": sources.address, "BOURSOMATIC_UNIVERSE": str(universe)}
        bars_only = ("materialize", "--select", "instruments,price_bars")
        first = installed.run(*bars_only, **variables)
        assert first.code == 0, first.said
        before = _closes(installed, split)
        sources.bars = known
        sources.faults = {f"yahoo/{name}": Fault.NOT_FOUND for name in (silent, split)}
        second = installed.run(*bars_only, **variables, BOURSOMATIC_MIN_ARRIVED_SHARE="0.9")
        assert second.code == 0, second.said
        # 1 / 0.9 - 1 = 11.1 %
        assert f"{split} refused: yahoo:" in second.said
        assert "differs from the stored one by 11.1%" in second.said
        assert _closes(installed, split) == before
        # Where they agree, the fallback brings the new sessions.
        newest = known.filter(pl.col("symbol") == silent)["session"].max()
        assert list(_closes(installed, silent))[-1] == newest
        outcomes = dict(installed.ask("SELECT symbol, outcome FROM fetch_results WHERE round_id = 2"))
        assert (outcomes[split], outcomes[silent]) == ("refused", "fetched")


def _closes(installed: Installation, symbol: str) -> dict[object, object]:
    found = installed.ask(
        "SELECT ts::date, c FROM price_bars b JOIN instruments i ON i.id = b.instrument_id "  # noqa: S608
        f"WHERE symbol = '{symbol}' ORDER BY ts"
    )
    return dict(found)


def test_a_source_in_another_currency_is_refused(universe: Path, bars: pl.DataFrame) -> None:
    wrong = bars["symbol"][0]
    priced = bars.with_columns(currency=pl.when(pl.col("symbol") == wrong).then(pl.lit("CHF")))
    with FakeSources(priced) as sources, new_installation() as installed:
        ended = installed.run(
            "materialize",
            "--select",
            "instruments,price_bars",
            **QUICK,
            BOURSOMATIC_GATEWAY=sources.address,
            BOURSOMATIC_UNIVERSE=str(universe),
        )
        assert ended.code == 0, ended.said
        assert f"{wrong} refused" in ended.said
        assert "CHF" in ended.said
        assert len(_closes(installed, wrong)) == 0


def test_a_symbol_that_only_the_fallback_knows_follows_what_that_one_rewrites(
    postgres: sa.Engine, universe: Path, bars: pl.DataFrame, tmp_path: Path
) -> None:
    ours = bars["symbol"][0]
    # Stooq's closes are taken as they are.
    known = bars.filter(pl.col("symbol") == ours).with_columns(adj_close=pl.col("close"))
    faults = {f"yahoo/{ours}": Fault.NOT_FOUND}
    with (
        FakeSources(known, faults=faults) as sources,
        settings_for(postgres, sources, universe, tmp_path) as settings,
    ):
        update()
        split = known.with_columns(pl.col(name) / 2 for name in (*PRICE_COLUMNS, "adj_close"))
        sources.bars = split
        update()
        agree(read_bars(Database.open(settings)), expected(split))


def test_history_is_not_replaced_by_a_source_that_it_did_not_come_from(
    postgres: sa.Engine, universe: Path, bars: pl.DataFrame, tmp_path: Path
) -> None:
    ours = bars["symbol"][0]
    known = bars.filter(pl.col("symbol") == ours).with_columns(adj_close=pl.col("close"))
    with FakeSources(known) as sources, settings_for(postgres, sources, universe, tmp_path) as settings:
        update()
        database = Database.open(settings)
        # Yahoo has rewritten history by 0.5 %, shows it once, and then fails when it is asked for all of it.
        sources.bars = known.with_columns(pl.col(name) * 0.995 for name in (*PRICE_COLUMNS, "adj_close"))
        asked = len(sources.asked("yahoo", ours))
        sources.faults = {f"yahoo/{ours}": [*[""] * (asked + 1), *[Fault.NOT_FOUND] * 9]}
        update()
        agree(read_bars(database), expected(known))
        number = newest_round(database, "yahoo")
        assert number is not None
        (report,) = [report for report in read_results(database, number) if report.symbol == ours]
        assert report.outcome is Outcome.REFUSED
        assert "is not where it came from" in report.detail
