from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

import pytest

from boursomatic_assets.core.market.fetch_report import Outcome, SymbolReport
from boursomatic_assets.errors import PanelContractError
from boursomatic_assets.storage.postgres.fetch_log import (
    begin_round,
    finish_round,
    newest_round,
    read_results,
    record_results,
    sources_in_use,
)
from boursomatic_assets.storage.postgres.market_tables import upsert_bars
from boursomatic_assets_tests.support.catalog import rows, run
from boursomatic_assets_tests.support.panels import accepted
from boursomatic_assets_tests.support.strategies import flat_bars

if TYPE_CHECKING:
    from boursomatic_assets.storage.postgres.database import Database

DAY = date(2024, 1, 2)


def fetched(symbol: str, source: str = "yahoo") -> SymbolReport:
    return SymbolReport(symbol, Outcome.FETCHED, source, 250, DAY, DAY)


def failed(symbol: str) -> SymbolReport:
    return SymbolReport(symbol, Outcome.SOURCE_FAILED, detail="it answered 503 three times")


def record(database: Database, number: int, *reports: SymbolReport) -> None:
    with database.bulk() as cursor:
        record_results(cursor, number, reports)


def in_use(database: Database) -> dict[str, str]:
    with database.bulk() as cursor:
        return sources_in_use(cursor)


def test_begin_round_resumes_an_interrupted_round(database: Database) -> None:
    number, done = begin_round(database, "yahoo", "XPAR")
    assert done == set()
    record(database, number, fetched("AAA"), failed("BBB"))
    record(database, number, fetched("CCC"))
    assert begin_round(database, "yahoo", "XPAR") == (number, {"AAA", "BBB", "CCC"})
    assert begin_round(database, "yahoo", "XPAR") == (number, {"AAA", "BBB", "CCC"})


def test_begin_round_after_a_finished_round(database: Database) -> None:
    number, _ = begin_round(database, "yahoo", "all")
    record(database, number, fetched("AAA"))
    finish_round(database, number)
    again, done = begin_round(database, "yahoo", "all")
    assert again > number
    assert done == set()
    # An unfinished round before a finished one is not resumed.
    run(database, f"UPDATE fetch_rounds SET finished_at = NULL WHERE id = {number}")  # noqa: S608
    finish_round(database, again)
    assert begin_round(database, "yahoo", "all")[0] > again


def test_begin_round_separates_providers_and_scopes(database: Database) -> None:
    number, _ = begin_round(database, "yahoo", "XPAR")
    record(database, number, fetched("AAA"))
    others = [begin_round(database, provider, scope) for provider, scope in (("stooq", "XPAR"), ("yahoo", "all"))]
    assert len({number, *(other for other, _ in others)}) == 3
    assert [done for _, done in others] == [set(), set()]
    # Neither has ended the first one.
    assert begin_round(database, "yahoo", "XPAR") == (number, {"AAA"})


def test_begin_round_resumes_for_twelve_hours(database: Database) -> None:
    number, _ = begin_round(database, "yahoo", "all")
    run(database, "UPDATE fetch_rounds SET started_at = timezone('utc', now()) - interval '11 hours 59 minutes'")
    assert begin_round(database, "yahoo", "all")[0] == number
    run(database, "UPDATE fetch_rounds SET started_at = timezone('utc', now()) - interval '12 hours 1 minute'")
    assert begin_round(database, "yahoo", "all")[0] > number


def test_begin_round_never_resumes_a_round_from_the_future(database: Database) -> None:
    # Begun under a clock that was ahead: it would be resumed until that day comes.
    number, _ = begin_round(database, "yahoo", "all")
    run(database, "UPDATE fetch_rounds SET started_at = timezone('utc', now()) + interval '300 days'")
    assert begin_round(database, "yahoo", "all")[0] > number


def test_begin_round_is_independent_of_the_server_time_zone(database: Database) -> None:
    name = rows(database, "SELECT current_database()")[0][0]
    run(database, f"ALTER DATABASE {name} SET timezone = 'Pacific/Auckland'")
    number, _ = begin_round(database, "yahoo", "all")
    assert begin_round(database, "yahoo", "all")[0] == number
    assert rows(
        database, "SELECT abs(extract(epoch FROM timezone('utc', now()) - started_at)) < 60 FROM fetch_rounds"
    ) == [(True,)]


def test_read_results_returns_recorded_results_by_symbol(database: Database) -> None:
    number, _ = begin_round(database, "yahoo", "all")
    reports = [
        SymbolReport(f"S{place}", outcome, None, detail="why: it's 100% so")
        for place, outcome in enumerate(Outcome)
        if outcome is not Outcome.FETCHED
    ]
    record(database, number, *reversed(reports), fetched("AAA"))
    record(database, number)
    assert read_results(database, number) == [fetched("AAA"), *reports]
    assert read_results(database, number + 1) == []


def test_record_results_keeps_the_first_result_of_a_symbol(database: Database) -> None:
    number, _ = begin_round(database, "yahoo", "all")
    record(database, number, fetched("AAA"))
    record(database, number, failed("AAA"), failed("BBB"))
    assert read_results(database, number) == [fetched("AAA"), failed("BBB")]


def test_record_results_rolls_back_with_its_transaction(database: Database) -> None:
    number, _ = begin_round(database, "yahoo", "all")
    # The bars of the transaction name an unknown symbol.
    with pytest.raises(PanelContractError), database.bulk() as cursor:
        _record_and_store(cursor, number)
    assert begin_round(database, "yahoo", "all") == (number, set())


def _record_and_store(cursor: Any, number: int) -> None:  # noqa: ANN401 (an ADBC cursor)
    record_results(cursor, number, [fetched("AAA")])
    upsert_bars(cursor, accepted(flat_bars({"AAA": [1.0]})), "yahoo")


def test_newest_round_of_a_provider(database: Database) -> None:
    assert newest_round(database, "yahoo") is None
    first, _ = begin_round(database, "yahoo", "XPAR")
    second, _ = begin_round(database, "yahoo", "XNYS")
    stooq, _ = begin_round(database, "stooq", "all")
    assert newest_round(database, "yahoo") == second > first
    assert newest_round(database, "stooq") == stooq
    assert newest_round(database, "files") is None


def test_sources_in_use_is_the_last_that_delivered(database: Database) -> None:
    assert in_use(database) == {}
    first, _ = begin_round(database, "yahoo", "all")
    record(database, first, fetched("AAA", "yahoo"), fetched("BBB", "stooq"), failed("CCC"))
    finish_round(database, first)
    assert in_use(database) == {"AAA": "yahoo", "BBB": "stooq"}
    second, _ = begin_round(database, "yahoo", "all")
    # AAA came from the fallback now, BBB from no source; a refused source is not in use.
    refused = SymbolReport("BBB", Outcome.REFUSED, "yahoo", 5, DAY, DAY, "its close differs")
    record(database, second, fetched("AAA", "stooq"), refused, fetched("CCC", "yahoo"))
    assert in_use(database) == {"AAA": "stooq", "BBB": "stooq", "CCC": "yahoo"}
