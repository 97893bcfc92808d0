from __future__ import annotations

import subprocess
import sys
from datetime import date, timedelta
from typing import TYPE_CHECKING

import polars as pl
import pytest

from boursomatic_assets.core.market.adjusted_close import BAD_FACTOR
from boursomatic_assets.core.market.bars import check_bars
from boursomatic_assets.errors import (
    ConfigurationError,
    DelistedError,
    NoBarsError,
    SourceFailedError,
    SymbolNotFoundError,
)
from boursomatic_assets.providers.fetching import BarsRefusedError
from boursomatic_assets.providers.retry_policy import Pace, PassingFailureError
from boursomatic_assets.providers.source import BarRequest
from boursomatic_assets.providers.yahoo import YahooSource, yahoo_source
from boursomatic_assets.providers.yahoo_session import YahooSession
from boursomatic_assets.settings import Settings
from boursomatic_assets_tests.support.fake_sources import FakeSources, Fault, weekday_bars

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MONDAY = date(2024, 1, 1)
SYMBOLS = ("AAPL", "BRK.B", "MC.PA")
# 300 weekdays: up to Friday 2025-02-21, across four changes of clocks on each side of the Atlantic.
BARS = weekday_bars(SYMBOLS, MONDAY, 300)
FIRST, LAST = date(2024, 1, 10), date(2025, 1, 31)


@pytest.fixture
def sources() -> Iterator[FakeSources]:
    with FakeSources(BARS) as sources:
        yield sources


@pytest.fixture
def yahoo(sources: FakeSources, tmp_path: Path) -> YahooSource:
    return YahooSource(YahooSession(Pace(1000), sources.address), tmp_path / "caches")


def request(
    symbol: str = "AAPL", first: date | None = FIRST, last: date = LAST, currency: str | None = None
) -> BarRequest:
    return BarRequest(symbol, {"MC.PA": "XPAR"}.get(symbol, "XNYS"), first, last, currency)


def changed(name: str, values: dict[date, float | None]) -> pl.DataFrame:
    """The bars with other values of a column on some sessions."""
    old = pl.col(name)
    new = pl.col("session").replace_strict(values, default=None, return_dtype=pl.Float64)
    return BARS.with_columns(pl.when(pl.col("session").is_in(list(values))).then(new).otherwise(old).alias(name))


def close_on(bars: pl.DataFrame, session: date) -> float:
    return float(bars.filter(session=session)["close"].item())


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_exactly_the_bars_requested_arrive(yahoo: YahooSource, symbol: str) -> None:
    expected = BARS.filter(pl.col("session").is_between(FIRST, LAST), symbol=symbol)
    assert yahoo.fetch(request(symbol)).equals(expected)


def test_without_a_first_session_all_there_is_arrives(yahoo: YahooSource, sources: FakeSources) -> None:
    bars = yahoo.fetch(request(first=None))
    assert (bars["session"].min(), bars["session"].max()) == (MONDAY, LAST)
    # 1960-01-01 00:00 in New York is 5 h later in UTC, 3653 days before 1970
    assert sources.asked("yahoo")[0]["query"]["period1"] == str(-3653 * 86400 + 5 * 3600)


def test_a_whole_bar_is_scaled_to_the_adjusted_close(sources: FakeSources, yahoo: YahooSource) -> None:
    sources.bars = BARS.with_columns(adj_close=pl.col("close") / 2)
    bar = yahoo.fetch(request(first=FIRST, last=FIRST)).row(0, named=True)
    # the eighth weekday closes at 107, opens at 106, spans 105 to 109; half of each, the volume untouched
    assert [bar[name] for name in ("open", "high", "low", "close", "volume")] == [53.0, 54.5, 52.5, 53.5, 1000.0]


@pytest.mark.parametrize("absurd", [-1.0, 0.0, 1e9])
def test_an_absurd_adjusted_close_is_rejected_and_not_turned_into_a_price(
    sources: FakeSources, yahoo: YahooSource, absurd: float
) -> None:
    adjusted = pl.when(pl.col("session") == FIRST).then(absurd).otherwise("close")
    sources.bars = BARS.with_columns(adj_close=adjusted)
    checked = check_bars(yahoo.fetch(request()), LAST)
    assert checked.rejected["session"].to_list() == [FIRST]
    assert checked.reasons() == {BAD_FACTOR: 1}


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_timestamps_off_by_an_hour_of_summer_time_move_no_session(
    sources: FakeSources, yahoo: YahooSource, symbol: str
) -> None:
    expected = yahoo.fetch(request(symbol))
    sources.faults = {"yahoo/*": Fault.SHIFTED}
    assert yahoo.fetch(request(symbol)).equals(expected)


def test_the_first_session_requested_is_not_lost_to_an_early_midnight(
    sources: FakeSources, yahoo: YahooSource
) -> None:
    sources.faults = {"yahoo/*": Fault.SHIFTED}
    assert yahoo.fetch(request(first=FIRST, last=FIRST))["session"].to_list() == [FIRST]


def test_a_last_row_sent_twice_is_one_bar(sources: FakeSources, yahoo: YahooSource) -> None:
    expected = yahoo.fetch(request())
    sources.faults = {"yahoo/*": Fault.LAST_TWICE}
    assert yahoo.fetch(request()).equals(expected)


def test_of_a_completed_session_the_later_row_is_kept(sources: FakeSources, yahoo: YahooSource) -> None:
    sources.faults = {"yahoo/*": Fault.LIVE_ROW}
    bars = yahoo.fetch(request())
    assert bars["session"].is_unique().all()
    assert bars["volume"].to_list()[-2:] == [1000.0, 1001.0]


def test_nothing_after_the_last_completed_session_arrives(sources: FakeSources, yahoo: YahooSource) -> None:
    expected = yahoo.fetch(request())
    # all later sessions, and tomorrow's price behind them
    sources.faults = {"yahoo/*": Fault.ROW_BEYOND}
    assert yahoo.fetch(request()).equals(expected)


def test_a_row_with_blanks_arrives_with_them(sources: FakeSources, yahoo: YahooSource) -> None:
    sources.bars = changed("close", {FIRST: None})
    bars = yahoo.fetch(request())
    assert bars.filter(pl.col("close").is_null())["session"].to_list() == [FIRST]
    assert bars.height == BARS.filter(pl.col("session").is_between(FIRST, LAST), symbol="AAPL").height


def test_a_row_of_nothing_but_blanks_arrives_too(sources: FakeSources, yahoo: YahooSource) -> None:
    blank = pl.when(pl.col("session") != FIRST).then(pl.exclude("symbol", "session"))
    sources.bars = BARS.with_columns(blank)
    checked = check_bars(yahoo.fetch(request()), LAST)
    assert checked.rejected["session"].to_list() == [FIRST]


def test_a_blank_volume_is_not_taken_for_a_session_without_trades(sources: FakeSources, yahoo: YahooSource) -> None:
    summer, winter = date(2024, 7, 3), date(2024, 12, 4)
    sources.bars = changed("volume", {FIRST: None, summer: 0.0, winter: None})
    volumes = yahoo.fetch(request()).select("session", "volume")
    assert volumes.filter(pl.col("volume").is_null())["session"].to_list() == [FIRST, winter]
    assert volumes.filter(volume=0.0)["session"].to_list() == [summer]


def test_rows_without_any_price_are_no_bars(sources: FakeSources, yahoo: YahooSource) -> None:
    sources.bars = BARS.with_columns(pl.lit(None, pl.Float64).alias(name) for name in ("open", "close"))
    with pytest.raises(NoBarsError, match="no prices from 2024-01-10 to 2025-01-31"):
        yahoo.fetch(request())


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        (Fault.NOT_FOUND, SymbolNotFoundError, "No data found, symbol may be delisted"),
        (Fault.STATUS_404, SymbolNotFoundError, "404"),
        (Fault.EMPTY, NoBarsError, "no prices from 2024-01-10"),
        (Fault.MISSING_KEYS, SourceFailedError, r"\['volume'\] missing"),
        (Fault.NO_ADJUSTED, SourceFailedError, r"\['adjclose'\] missing"),
        (Fault.STALE_CRUMB, SourceFailedError, "sent no chart: "),
        (Fault.PAGE, PassingFailureError, "expected JSON; found '<!DOCTYPE html>"),
        (Fault.SERVER_ERROR, PassingFailureError, "answered 500"),
        (Fault.HALF_BODY, PassingFailureError, "bytes missing"),
        (Fault.DROPPED, PassingFailureError, "Empty reply"),
    ],
)
def test_each_cause_has_an_error_of_its_own(
    sources: FakeSources, yahoo: YahooSource, fault: Fault, error: type[Exception], message: str
) -> None:
    sources.faults = {"yahoo/AAPL": fault}
    with pytest.raises(error, match=message) as caught:
        yahoo.fetch(request())
    # a failure that may pass is also a SourceFailedError; the test is of the very class
    assert caught.type is error
    assert yahoo.fetch(request("MC.PA")).height


def test_a_chart_that_makes_no_sense_is_the_sources_failure(sources: FakeSources, yahoo: YahooSource) -> None:
    sources.bars = BARS.with_columns(currency=pl.lit("USD"), close=pl.lit("soon"))
    with pytest.raises(SourceFailedError, match="cannot be read") as caught:
        yahoo.fetch(request())
    assert caught.type is SourceFailedError


def test_no_answer_is_waited_for_no_longer_than_said(sources: FakeSources, tmp_path: Path) -> None:
    sources.faults = {"yahoo/AAPL": Fault.HANG}
    yahoo = YahooSource(YahooSession(Pace(1000), sources.address, seconds_to_answer=0.3), tmp_path)
    with pytest.raises(PassingFailureError, match="timed out"):
        yahoo.fetch(request())


def test_a_429_tells_how_long_to_wait(sources: FakeSources, tmp_path: Path) -> None:
    sources.faults, sources.retry_after = {"yahoo/AAPL": Fault.TOO_MANY}, "7"
    pauses: list[float] = []
    yahoo = YahooSource(YahooSession(Pace(1000, pauses.append), sources.address), tmp_path)
    with pytest.raises(PassingFailureError, match="429 and asks to wait 7 s") as caught:
        yahoo.fetch(request())
    assert caught.value.retry_after == 7.0
    assert len(sources.asked("yahoo", "AAPL")) == 1
    # whoever comes next, for whatever symbol, is held back too
    yahoo.fetch(request("MC.PA"))
    assert 6.5 < max(pauses) <= 7.1


def test_a_stale_crumb_is_renewed_by_the_client(sources: FakeSources, yahoo: YahooSource) -> None:
    sources.faults = {"yahoo/AAPL": [Fault.STALE_CRUMB]}
    assert yahoo.fetch(request()).height
    assert len(sources.asked("yahoo", "AAPL")) == 2


@pytest.mark.parametrize(("silence", "error"), [(30, NoBarsError), (31, DelistedError)])
def test_a_symbol_without_a_trade_for_over_30_days_is_delisted(
    yahoo: YahooSource, silence: int, error: type[Exception]
) -> None:
    newest = BARS["session"].max()
    assert isinstance(newest, date)
    with pytest.raises(error):
        yahoo.fetch(request(first=newest + timedelta(days=1), last=newest + timedelta(days=silence)))


@pytest.mark.parametrize(("expected", "found"), [("EUR", "USD"), ("GBP", "GBp")])
def test_bars_in_another_currency_are_refused(
    sources: FakeSources, yahoo: YahooSource, expected: str, found: str
) -> None:
    sources.bars = BARS.with_columns(currency=pl.lit(found))
    with pytest.raises(BarsRefusedError, match=f"expected {expected}, the source trades in {found}"):
        yahoo.fetch(request(currency=expected))


@pytest.mark.parametrize(("symbol", "currency"), [("AAPL", "USD"), ("MC.PA", "EUR"), ("MC.PA", None)])
def test_bars_in_the_expected_currency_are_taken(yahoo: YahooSource, symbol: str, currency: str | None) -> None:
    assert yahoo.fetch(request(symbol, currency=currency)).height


def test_a_question_asked_again_is_answered_anew(sources: FakeSources, yahoo: YahooSource) -> None:
    assert close_on(yahoo.fetch(request()), FIRST) == 107.0
    sources.bars = changed("close", {FIRST: 107.5})
    assert close_on(yahoo.fetch(request()), FIRST) == 107.5


def test_one_request_fetches_one_symbol(sources: FakeSources, yahoo: YahooSource) -> None:
    for symbol, exchange in (("AAPL", "XNAS"), ("MC.PA", "XPAR"), ("BRK.B", "XLON")):
        yahoo.fetch(BarRequest(symbol, exchange, FIRST, LAST))
        assert len(sources.asked("yahoo", symbol)) == 1


def test_what_the_client_remembers_stays_under_the_home(sources: FakeSources, tmp_path: Path) -> None:
    for name in ("one", "two"):
        variables = {"BOURSOMATIC_HOME": str(tmp_path / name), "BOURSOMATIC_GATEWAY": sources.address}
        yahoo_source(Settings.from_environment(variables)).fetch(request())
        assert (tmp_path / name / "yfinance" / "cookies.db").stat().st_size


def test_without_the_extra_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "yfinance", None)
    settings = Settings.from_environment({"BOURSOMATIC_HOME": str(tmp_path)})
    with pytest.raises(ConfigurationError, match=r'needs yfinance.*\n.*pip install "boursomatic-assets\[yahoo\]"'):
        yahoo_source(settings)


def test_knowing_the_source_costs_none_of_its_libraries() -> None:
    modules = "boursomatic_assets.providers.yahoo, boursomatic_assets.providers.stooq"
    question = "{'yfinance', 'httpx', 'curl_cffi', 'tenacity', 'pandas'} & set(sys.modules)"
    script = f"import sys, {modules}; print({question})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
