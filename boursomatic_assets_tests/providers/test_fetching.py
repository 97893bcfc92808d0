from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING

import httpx
import polars as pl
import pytest

from boursomatic_assets.core.market.bars import BAR_SCHEMA, INSTRUMENT_SCHEMA
from boursomatic_assets.errors import SourceFailedError, SymbolNotFoundError
from boursomatic_assets.providers.fetching import FetchedProvider, through
from boursomatic_assets.providers.retry_policy import LONGEST_WAIT, Pace, PassingFailureError, RetryPolicy
from boursomatic_assets.providers.source import BarRequest, Outcome, SymbolReport
from boursomatic_assets.providers.stooq import StooqSource, stooq_provider
from boursomatic_assets.providers.web import Web
from boursomatic_assets.providers.yahoo import YahooSource, yahoo_provider
from boursomatic_assets.providers.yahoo_session import YahooSession
from boursomatic_assets.settings import Settings
from boursomatic_assets_tests.support.fake_sources import PASSING, FakeSources, Fault, weekday_bars

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from boursomatic_assets.providers.source import BarBatch

SYMBOLS = tuple(f"{'ABCDEFGHIJ'[n % 10]}{'KLMNOP'[n // 10]}{('', '.PA', '.B')[n % 3]}" for n in range(60))
MONDAY = date(2024, 1, 1)
# Yahoo's prices are halved by its adjusted close, Stooq's are not: the price tells who delivered.
BARS = weekday_bars(SYMBOLS, MONDAY, 30).with_columns(adj_close=pl.col("close") / 2)
FIRST, LAST = date(2024, 1, 8), date(2024, 2, 2)
NO_INSTRUMENTS = pl.DataFrame(schema=INSTRUMENT_SCHEMA)


@pytest.fixture
def sources() -> Iterator[FakeSources]:
    with FakeSources(BARS, retry_after="0") as sources:
        yield sources


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def provider(
    sources: FakeSources, tmp_path: Path, pauses: list[float], request: pytest.FixtureRequest
) -> Iterator[FetchedProvider]:
    """Both real clients; nobody sleeps, the pauses are noted. An answer is waited for briefly where none comes."""
    pace = Pace(1000, pauses.append)
    given = getattr(request.node, "callspec", None)
    seconds = 1 if given and Fault.HANG in given.params.get("faults", ()) else 600
    yahoo = YahooSource(YahooSession(pace, sources.address, seconds_to_answer=seconds), tmp_path)
    with httpx.Client(timeout=seconds) as client:
        stooq = StooqSource(Web(client, pace, sources.address))
        yield FetchedProvider((yahoo, stooq), lambda: NO_INSTRUMENTS, RetryPolicy(pause=pauses.append))


def requests(symbols: Sequence[str] = SYMBOLS, *, stored: bool = False) -> list[BarRequest]:
    return [BarRequest(s, "XPAR" if s.endswith(".PA") else "XNYS", FIRST, LAST, stored=stored) for s in symbols]


def reports_of(batches: Sequence[BarBatch]) -> dict[str, SymbolReport]:
    """By symbol; no symbol is reported twice."""
    reports = [report for batch in batches for report in batch.reports]
    assert len({report.symbol for report in reports}) == len(reports)
    return {report.symbol: report for report in reports}


def report_on(provider: FetchedProvider, request: BarRequest) -> SymbolReport:
    (batch,) = provider.batches([request])
    (report,) = batch.reports
    return report


def expected_bars(source: str, symbols: Sequence[str]) -> pl.DataFrame:
    bars = BARS.filter(pl.col("session").is_between(FIRST, LAST), pl.col("symbol").is_in(list(symbols)))
    share = 0.5 if source == "yahoo" else 1.0
    prices = bars.with_columns(pl.col(name) * share for name in ("open", "high", "low", "close"))
    return prices.select(list(BAR_SCHEMA)).sort("symbol", "session")


def all_bars(batches: Sequence[BarBatch]) -> pl.DataFrame:
    return pl.concat([batch.bars for batch in batches]).sort("symbol", "session")


def test_every_symbol_is_fetched_once_and_none_twice(provider: FetchedProvider, sources: FakeSources) -> None:
    batches = list(provider.batches(requests()))
    assert all_bars(batches).equals(expected_bars("yahoo", SYMBOLS))
    # 60 symbols in threes of 20; 20 weekdays from 8 January to 2 February
    assert [len(batch.reports) for batch in batches] == [20, 20, 20]
    assert set(reports_of(batches).values()) == {
        SymbolReport(symbol, Outcome.FETCHED, "yahoo", 20, FIRST, LAST) for symbol in SYMBOLS
    }
    assert all(batch.adjusted for batch in batches)
    assert len(sources.asked("yahoo")) == len(SYMBOLS)
    assert sources.asked("stooq") == []


def test_a_tenth_of_all_requests_failing_loses_nothing(provider: FetchedProvider, sources: FakeSources) -> None:
    sources.share, sources.seed = 0.1, 31
    batches = list(provider.batches(requests()))
    failed = [request for request in sources.requests if request["fault"]]
    # the seed makes every kind of fault occur, and two of them in a row for some symbol
    assert {request["fault"] for request in failed} == set(PASSING)
    assert len(failed) > len({request["symbol"] for request in failed})
    assert all_bars(batches).equals(expected_bars("yahoo", SYMBOLS))
    assert {report.outcome for report in reports_of(batches).values()} == {Outcome.FETCHED}
    assert len(sources.asked("yahoo")) == len(SYMBOLS) + len(failed)


def test_a_symbol_that_always_fails_stops_no_other(provider: FetchedProvider, sources: FakeSources) -> None:
    bad, good = SYMBOLS[0], SYMBOLS[1:]
    sources.faults = {f"yahoo/{bad}": Fault.HALF_BODY, f"stooq/{bad}": Fault.SERVER_ERROR}
    batches = list(provider.batches(requests()))
    assert all_bars(batches).equals(expected_bars("yahoo", good))
    report = reports_of(batches)[bad]
    assert (report.outcome, report.source, report.rows) == (Outcome.SOURCE_FAILED, None, 0)
    assert "yahoo: Failed to perform" in report.detail
    assert "; stooq: answered 500" in report.detail
    assert len(sources.asked("yahoo", bad)) == len(sources.asked("stooq", bad)) == 4


def test_what_the_first_choice_lacks_comes_whole_from_the_second(
    provider: FetchedProvider, sources: FakeSources
) -> None:
    lacking = SYMBOLS[:3]
    sources.faults = {f"yahoo/{symbol}": Fault.NOT_FOUND for symbol in lacking}
    batches = list(provider.batches(requests(SYMBOLS[:6])))
    expected = pl.concat([expected_bars("stooq", lacking), expected_bars("yahoo", SYMBOLS[3:6])])
    assert all_bars(batches).equals(expected.sort("symbol", "session"))
    reports = reports_of(batches)
    assert [reports[symbol].source for symbol in SYMBOLS[:6]] == ["stooq"] * 3 + ["yahoo"] * 3
    assert reports[lacking[0]].detail == "yahoo: says 'No data found, symbol may be delisted'"
    assert reports[SYMBOLS[3]].detail == ""


@pytest.mark.parametrize(
    ("faults", "stored", "outcome"),
    [
        ((Fault.NOT_FOUND, Fault.NOT_FOUND), "new", Outcome.NOT_FOUND),
        ((Fault.NOT_FOUND, Fault.NOT_FOUND), "stored", Outcome.DELISTED),
        ((Fault.STATUS_404, Fault.STATUS_404), "new", Outcome.NOT_FOUND),
        ((Fault.EMPTY, Fault.EMPTY), "new", Outcome.EMPTY),
        ((Fault.EMPTY, Fault.STATUS_404), "stored", Outcome.EMPTY),
        ((Fault.NOT_FOUND, Fault.LIMIT_REACHED), "stored", Outcome.SOURCE_FAILED),
        ((Fault.SERVER_ERROR, Fault.NOT_FOUND), "new", Outcome.SOURCE_FAILED),
        ((Fault.HANG, Fault.EMPTY), "new", Outcome.SOURCE_FAILED),
        ((Fault.MISSING_KEYS, Fault.MISSING_KEYS), "new", Outcome.SOURCE_FAILED),
    ],
)
def test_each_cause_has_a_word_of_its_own(
    provider: FetchedProvider, sources: FakeSources, faults: tuple[Fault, Fault], stored: str, outcome: Outcome
) -> None:
    sources.faults = dict(zip(("yahoo/*", "stooq/*"), faults, strict=True))
    (request,) = requests(SYMBOLS[:1], stored=stored == "stored")
    report = report_on(replace(provider, retry_policy=RetryPolicy(attempts=1)), request)
    assert report.outcome is outcome
    assert report.detail.startswith("yahoo: ")
    assert "; stooq: " in report.detail
    assert ("delisted or renamed" in report.detail) == (outcome is Outcome.DELISTED)


def test_a_symbol_that_stopped_trading_is_delisted(provider: FetchedProvider) -> None:
    (request,) = requests(SYMBOLS[:1])
    report = report_on(provider, replace(request, first=date(2024, 6, 3), last=date(2024, 6, 28)))
    assert report.outcome is Outcome.DELISTED
    assert "last traded on 2024-02-09" in report.detail


def test_bars_in_another_currency_are_refused_and_not_looked_for_elsewhere(
    provider: FetchedProvider, sources: FakeSources
) -> None:
    (request,) = requests(SYMBOLS[:1])
    report = report_on(provider, replace(request, currency="EUR"))
    assert report.outcome is Outcome.REFUSED
    assert report.detail == "yahoo: expected EUR, the source trades in USD"
    assert sources.asked("stooq") == []


@pytest.mark.parametrize("fault", [Fault.NOT_FOUND, Fault.STATUS_404, Fault.EMPTY, Fault.MISSING_KEYS])
def test_what_another_attempt_cannot_mend_is_asked_once(
    provider: FetchedProvider, sources: FakeSources, pauses: list[float], fault: Fault
) -> None:
    sources.faults = {"yahoo/*": fault, "stooq/*": fault}
    report_on(provider, requests(SYMBOLS[:1])[0])
    assert len(sources.asked("yahoo")) == len(sources.asked("stooq")) == 1
    # no backoff, only turns of a millisecond
    assert max(pauses, default=0.0) < 0.1


def test_a_429_is_waited_for_as_long_as_it_asks(
    provider: FetchedProvider, sources: FakeSources, pauses: list[float]
) -> None:
    sources.retry_after = "17"
    sources.faults = {"yahoo/*": [Fault.TOO_MANY]}
    assert report_on(provider, requests(SYMBOLS[:1])[0]).source == "yahoo"
    assert 17.0 in pauses


def test_no_bars_at_all_still_come_with_reports(provider: FetchedProvider) -> None:
    (batch,) = provider.batches(requests(["NONE"]))
    assert batch.bars.schema == pl.Schema(BAR_SCHEMA)
    assert batch.bars.is_empty()
    assert [report.symbol for report in batch.reports] == ["NONE"]


def test_no_requests_bring_nothing(provider: FetchedProvider) -> None:
    assert list(provider.batches()) == []


def test_an_objection_to_one_symbol_reaches_the_batch(provider: FetchedProvider, sources: FakeSources) -> None:
    one = pl.col("symbol") == SYMBOLS[0]
    sources.bars = BARS.with_columns(adj_close=pl.when(one).then(-1.0).otherwise("adj_close"))
    (batch,) = provider.batches(requests(SYMBOLS[:2]))
    objections = batch.bars.group_by("symbol").agg(pl.col("objection").count()).sort("symbol")
    assert dict(objections.iter_rows()) == {SYMBOLS[0]: 20, SYMBOLS[1]: 0}


def test_the_sources_work_ahead_only_by_a_batch(provider: FetchedProvider, sources: FakeSources) -> None:
    batches = replace(provider, symbols_per_batch=5).batches(requests())
    next(batches)
    # four taken and replaced, the fifth delivered: never more than 4 workers + 5 for the next batch under way
    while len(sources.asked("yahoo")) < 4 + 9:
        time.sleep(0.01)
    time.sleep(0.5)
    assert len(sources.asked("yahoo")) == 4 + 9
    assert len(list(batches)) == 11


def test_whoever_stops_halfway_leaves_no_request_behind(provider: FetchedProvider, sources: FakeSources) -> None:
    sources.delay = 2.0
    batches = replace(provider, workers=1, symbols_per_batch=3).batches(requests())
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    asked = len(sources.asked("yahoo"))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prices")]
    # three delivered and one or two begun since; of the six that were lined up the rest is not asked for
    assert asked < 6


class Script:
    """A source that does as told, one deed per attempt."""

    name = "script"

    def __init__(self, *deeds: Exception | pl.DataFrame) -> None:
        self.deeds = list(deeds)

    def attempt(self) -> pl.DataFrame:
        deed = self.deeds.pop(0)
        if isinstance(deed, Exception):
            raise deed
        return deed


def test_the_waits_double_with_some_chance_on_top(pauses: list[float]) -> None:
    script = Script(*[PassingFailureError("down") for _ in range(4)])
    with pytest.raises(PassingFailureError, match="down"):
        RetryPolicy(first_wait=1.0, pause=pauses.append).call(script.attempt)
    assert script.deeds == []
    # four attempts, three waits: 1, 2 and 4 s and up to a second more each
    assert [int(pause - at_least) for pause, at_least in zip(pauses, (1, 2, 4), strict=True)] == [0, 0, 0]
    assert [pause % 1 for pause in pauses] != [0.0, 0.0, 0.0]


def test_a_failure_that_passes_is_forgotten(pauses: list[float]) -> None:
    script = Script(PassingFailureError("down"), NO_INSTRUMENTS)
    assert RetryPolicy(pause=pauses.append).call(script.attempt) is NO_INSTRUMENTS
    assert len(pauses) == 1


@pytest.mark.parametrize("error", [SourceFailedError("gone"), SymbolNotFoundError("unknown")])
def test_a_failure_that_stays_is_not_waited_for(pauses: list[float], error: Exception) -> None:
    with pytest.raises(type(error)):
        RetryPolicy(pause=pauses.append).call(Script(error).attempt)
    assert pauses == []


def test_a_source_that_asks_for_an_hour_is_not_asked_again(pauses: list[float]) -> None:
    with pytest.raises(PassingFailureError):
        RetryPolicy(pause=pauses.append).call(Script(PassingFailureError("later", LONGEST_WAIT + 1)).attempt)
    assert pauses == []


def test_a_source_that_asks_for_an_hour_holds_nobody_back_that_long(pauses: list[float]) -> None:
    pace = Pace(1000, pauses.append)
    with pytest.raises(PassingFailureError, match="3600 s"):
        pace.heed(429, "3600")
    pace.take_turn()
    assert LONGEST_WAIT - 1 < pauses[0] <= LONGEST_WAIT


def asked_to_wait(header: str | None, status: int = 429) -> float:
    with pytest.raises(PassingFailureError) as caught:
        Pace(1000, lambda _: None).heed(status, header)
    return caught.value.retry_after


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), (" 120 ", 120.0), (None, 0.0), ("soon", 0.0)])
def test_retry_after_is_read(header: str | None, seconds: float) -> None:
    assert asked_to_wait(header) == seconds
    assert asked_to_wait(header, 503) == seconds


def test_retry_after_may_be_a_date() -> None:
    # A date has whole seconds.
    before = datetime.now(UTC).replace(microsecond=0)
    seconds = asked_to_wait(format_datetime(before + timedelta(seconds=60), usegmt=True))
    assert 60 - (datetime.now(UTC) - before).total_seconds() <= seconds <= 60
    assert asked_to_wait("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0


def test_an_answer_that_is_no_failure_passes() -> None:
    for status in (200, 304, 401, 404):
        Pace(1000).heed(status, "7")


def test_all_threads_share_one_pace() -> None:
    pauses: list[float] = []
    pace = Pace(10, pauses.append, clock=lambda: 100.0)
    threads = [threading.Thread(target=pace.take_turn) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # The clock stands, so the eight turns lie 0.1 s apart, the first at once.
    assert [round(pause, 1) for pause in sorted(pauses)] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]


def test_requests_keep_the_pace_for_real(sources: FakeSources, tmp_path: Path) -> None:
    variables = {
        "BOURSOMATIC_HOME": str(tmp_path),
        "BOURSOMATIC_GATEWAY": sources.address,
        "BOURSOMATIC_REQUESTS_PER_SECOND": "20",
    }
    provider = stooq_provider(Settings.from_environment(variables))
    list(provider.batches(requests(SYMBOLS[:8])))
    moments = [request["at"] for request in sources.asked("stooq")]
    # eight requests at 20 a second leave within 7 x 0.05 s; the answers take their own time
    assert max(moments) - min(moments) > 0.3


@pytest.mark.parametrize(
    ("build", "source", "description"),
    [
        (yahoo_provider, "yahoo", "daily prices from yahoo, else from stooq"),
        (stooq_provider, "stooq", "daily prices from stooq"),
    ],
)
def test_the_settings_build_a_provider(
    sources: FakeSources,
    tmp_path: Path,
    build: Callable[[Settings], FetchedProvider],
    source: str,
    description: str,
) -> None:
    variables = {"BOURSOMATIC_HOME": str(tmp_path), "BOURSOMATIC_GATEWAY": f"{sources.address}/"}
    provider = build(Settings.from_environment(variables))
    assert provider.description == description
    assert provider.fetches_by_symbol
    assert "MC.PA" in provider.instruments()["symbol"].to_list()
    assert all_bars(list(provider.batches(requests(SYMBOLS[:1])))).equals(expected_bars(source, SYMBOLS[:1]))


def test_a_gateway_stands_before_the_host() -> None:
    url = "https://stooq.com/q/d/l/?s=a.us"
    assert through("http://mirror:8080/prices/", url) == "http://mirror:8080/prices/stooq.com/q/d/l/?s=a.us"
    assert through(None, url) == url


def test_the_fake_sources_run_as_a_program(tmp_path: Path) -> None:
    path, faults = tmp_path / "bars.parquet", tmp_path / "faults.json"
    BARS.write_parquet(path)
    faults.write_text(json.dumps({f"stooq/{SYMBOLS[1]}": "daily limit reached"}))
    module = "boursomatic_assets_tests.support.fake_sources"
    command = [sys.executable, "-m", module, "--bars", str(path), "--faults", str(faults)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout
        gateway = f"http://127.0.0.1:{int(program.stdout.readline())}"
        variables = {"BOURSOMATIC_HOME": str(tmp_path), "BOURSOMATIC_GATEWAY": gateway}
        provider = stooq_provider(Settings.from_environment(variables))
        before = all_bars(list(provider.batches(requests(SYMBOLS[:2]))))
        BARS.with_columns(close=pl.col("close") + 1).write_parquet(tmp_path / "new")
        os.replace(tmp_path / "new", path)  # noqa: PTH105 (atomic)
        after = all_bars(list(provider.batches(requests(SYMBOLS[:1]))))
        with urllib.request.urlopen(f"{gateway}/_requests") as answer:  # noqa: S310 (this machine)
            asked = [(request["symbol"], request["fault"]) for request in json.load(answer)]
        program.terminate()
    assert before.equals(expected_bars("stooq", SYMBOLS[:1]))
    assert after.equals(before.with_columns(close=pl.col("close") + 1))
    assert sorted(asked, key=str) == [(SYMBOLS[0], None)] * 2 + [(SYMBOLS[1], "daily limit reached")]


def test_a_source_that_is_down_is_soon_not_asked_any_more(provider: FetchedProvider, sources: FakeSources) -> None:
    sources.faults = {"yahoo/*": Fault.SERVER_ERROR}
    reports = reports_of(list(replace(provider, workers=1, failures_in_a_row=3).batches(requests())))
    asked = {request["symbol"] for request in sources.requests if request["source"] == "yahoo"}
    # Three symbols in a row failed, each after all its attempts; Stooq delivered them and all others.
    assert len(asked) == 3
    assert {report.outcome for report in reports.values()} == {Outcome.FETCHED}
    assert {report.source for report in reports.values()} == {"stooq"}
    assert sum("not asked any more" in report.detail for report in reports.values()) == len(SYMBOLS) - 3


def test_one_answer_in_between_keeps_a_source_in_use(provider: FetchedProvider, sources: FakeSources) -> None:
    sources.faults = {f"yahoo/{symbol}": Fault.SERVER_ERROR for n, symbol in enumerate(SYMBOLS) if n % 3}
    reports = reports_of(list(replace(provider, workers=1, failures_in_a_row=3).batches(requests())))
    # Of three symbols two fail: never three in a row.
    assert sum(report.source == "yahoo" for report in reports.values()) == len(SYMBOLS) / 3
    assert not any("not asked any more" in report.detail for report in reports.values())
