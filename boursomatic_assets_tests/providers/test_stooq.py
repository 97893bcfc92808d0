from __future__ import annotations

import sys
from datetime import date
from typing import TYPE_CHECKING

import httpx
import polars as pl
import pytest

from boursomatic_assets.core.market.bars import check_bars
from boursomatic_assets.errors import ConfigurationError, NoBarsError, SourceFailedError, SymbolNotFoundError
from boursomatic_assets.providers.retry_policy import Pace, PassingFailureError
from boursomatic_assets.providers.source import BarRequest
from boursomatic_assets.providers.stooq import StooqSource, stooq_source
from boursomatic_assets.providers.web import Web
from boursomatic_assets.settings import Settings
from boursomatic_assets_tests.support.fake_sources import FakeSources, Fault, weekday_bars
from boursomatic_assets_tests.support.mock_web import mock_client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SYMBOLS = ("AAPL", "BRK.B", "MC.PA", "ASML.AS", "UCB.BR")
BARS = weekday_bars(SYMBOLS, date(2024, 1, 1), 60)
FIRST, LAST = date(2024, 1, 10), date(2024, 2, 29)


@pytest.fixture
def sources() -> Iterator[FakeSources]:
    with FakeSources(BARS) as sources:
        yield sources


@pytest.fixture
def stooq(sources: FakeSources) -> Iterator[StooqSource]:
    with httpx.Client(timeout=600) as client:
        yield StooqSource(Web(client, Pace(1000), sources.address))


def request(symbol: str = "AAPL", first: date | None = FIRST, *, stored: bool = False) -> BarRequest:
    return BarRequest(symbol, "XNYS", first, LAST, stored=stored)


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_exactly_the_bars_requested_arrive(stooq: StooqSource, symbol: str) -> None:
    expected = BARS.filter(pl.col("session").is_between(FIRST, LAST), symbol=symbol)
    assert stooq.fetch(request(symbol)).equals(expected)


def test_the_dates_are_asked_for(stooq: StooqSource, sources: FakeSources) -> None:
    stooq.fetch(request("BRK.B"))
    stooq.fetch(request("MC.PA", first=None))
    dated, undated = (request["query"] for request in sources.requests)
    assert dated == {"s": "brk-b.us", "d1": "20240110", "d2": "20240229", "i": "d"}
    assert undated == {"s": "mc.fr", "d2": "20240229", "i": "d"}


def test_nothing_outside_the_dates_arrives_whatever_is_sent(stooq: StooqSource, sources: FakeSources) -> None:
    expected = stooq.fetch(request())
    sources.faults = {"stooq/*": Fault.ROW_BEYOND}
    assert stooq.fetch(request()).equals(expected)


def test_what_cannot_be_read_arrives_as_a_blank_for_the_contract_to_see(
    stooq: StooqSource, sources: FakeSources
) -> None:
    sources.bars = BARS.with_columns(close=pl.when(pl.col("session") > FIRST).then("close"))
    checked = check_bars(stooq.fetch(request()), LAST)
    assert checked.rejected["session"].to_list() == [FIRST]
    # 37 weekdays from Wednesday 10 January to Thursday 29 February
    assert checked.accepted.height == 37 - 1


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        (Fault.STATUS_404, SymbolNotFoundError, "404"),
        (Fault.EMPTY, NoBarsError, "'No data' from 2024-01-10 to 2024-02-29"),
        (Fault.LIMIT_REACHED, SourceFailedError, "no more downloads today"),
        (Fault.MISSING_KEYS, SourceFailedError, r"\['Volume'\] missing, found 'Date,Open,High,Low,Close,Wolumen'"),
        (Fault.STALE_CRUMB, SourceFailedError, "answered 401"),
        (Fault.KEY_WANTED, SourceFailedError, "asks for an API key: set BOURSOMATIC_STOOQ_KEY. It says 'Get your"),
        (Fault.PAGE, PassingFailureError, "expected a CSV; found a page: '<!DOCTYPE html>"),
        (Fault.SERVER_ERROR, PassingFailureError, "answered 500"),
        (Fault.TOO_MANY, PassingFailureError, "answered 429 and asks to wait 1 s"),
        (Fault.HALF_BODY, PassingFailureError, "RemoteProtocolError"),
        (Fault.DROPPED, PassingFailureError, "RemoteProtocolError"),
    ],
)
def test_each_cause_has_an_error_of_its_own(
    stooq: StooqSource, sources: FakeSources, fault: Fault, error: type[Exception], message: str
) -> None:
    sources.faults = {"stooq/AAPL": fault}
    with pytest.raises(error, match=message) as caught:
        stooq.fetch(request())
    assert caught.type is error
    assert stooq.fetch(request("MC.PA")).height


def test_no_answer_is_waited_for_no_longer_than_said(sources: FakeSources) -> None:
    sources.faults = {"stooq/AAPL": Fault.HANG}
    with httpx.Client(timeout=0.3) as client, pytest.raises(PassingFailureError, match="ReadTimeout"):
        StooqSource(Web(client, Pace(1000), sources.address)).fetch(request())


@pytest.mark.parametrize(
    "body",
    [
        "Date,Open,High,Low,Close,Volume\r\n2024-01-10,106,109,105,107,1000\r\n2024-01-11,107,110",
        "Date,Open,High,Low,Close,Volume\r\n2024-01-10,106,109,105,107,1000\r\n2024-01-11,107,110,106,108,10",
    ],
)
def test_a_csv_that_breaks_off_is_a_failure_even_if_its_length_agrees(body: str) -> None:
    with (
        mock_client(lambda _: httpx.Response(200, text=body)) as client,
        pytest.raises(PassingFailureError, match="breaks off at '2024"),
    ):
        StooqSource(Web(client, Pace(1000))).fetch(request())


def test_without_a_gateway_stooq_itself_is_asked() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert str(request.url) == "https://stooq.com/q/d/l/?s=aapl.us&d1=20240110&d2=20240229&i=d"
        return httpx.Response(200, text="No data")

    with mock_client(answer) as client, pytest.raises(NoBarsError):
        StooqSource(Web(client, Pace(1000))).fetch(request())


@pytest.mark.parametrize("rows", ["", "2024-01-09,105,108,104,106,1000\r\n"])
def test_a_csv_without_the_dates_asked_for_holds_no_bars(rows: str) -> None:
    body = f"Date,Open,High,Low,Close,Volume\r\n{rows}"
    with (
        mock_client(lambda _: httpx.Response(200, text=body)) as client,
        pytest.raises(NoBarsError, match="2024-01-10 to 2024-02-29"),
    ):
        StooqSource(Web(client, Pace(1000))).fetch(request())


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        (request("NONE", first=None), SymbolNotFoundError),
        (request("NONE", first=None, stored=True), NoBarsError),
        (request("NONE"), NoBarsError),
    ],
)
def test_no_data_for_any_date_means_that_the_symbol_is_unknown(
    stooq: StooqSource, asked: BarRequest, error: type[Exception]
) -> None:
    with pytest.raises(error, match="No data"):
        stooq.fetch(asked)


def test_a_symbol_of_another_market_is_not_asked_for(stooq: StooqSource, sources: FakeSources) -> None:
    with pytest.raises(SymbolNotFoundError, match=r"VOD\.L"):
        stooq.fetch(request("VOD.L"))
    assert sources.requests == []


def test_the_settings_name_the_gateway(sources: FakeSources, tmp_path: Path) -> None:
    variables = {"BOURSOMATIC_HOME": str(tmp_path), "BOURSOMATIC_GATEWAY": sources.address}
    assert stooq_source(Settings.from_environment(variables)).fetch(request()).height


def test_without_the_extra_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    settings = Settings.from_environment({"BOURSOMATIC_HOME": str(tmp_path)})
    with pytest.raises(ConfigurationError, match=r'pip install "boursomatic-assets\[yahoo\]"'):
        stooq_source(settings)


def test_a_key_goes_along_where_there_is_one(sources: FakeSources) -> None:
    named = Settings.from_environment({"BOURSOMATIC_GATEWAY": sources.address, "BOURSOMATIC_STOOQ_KEY": "sesame"})
    stooq_source(named).fetch(request())
    assert sources.requests[-1]["query"]["apikey"] == "sesame"
    assert "sesame" not in repr(named)
